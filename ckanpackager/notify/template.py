"""Filling the templates that the settings hold.

A template is filled in one pass over a closed set of names: what has been put in is never looked at
again, and a brace that belongs to no placeholder stays a brace.
"""

import re
import string
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """*template* with every ``{name}`` that *values* knows replaced by its value.

    The retired service passed its templates to ``str.format``, where a brace is written twice. So where
    all braces of a template could have been meant for that, a doubled one becomes single. Any other
    template (one with a style sheet, say) keeps its braces as they are.
    """
    parts = _parts(template, values)
    if parts is None:
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), template)
    return "".join(literal + (values[name] if name is not None else "") for literal, name in parts)


def _parts(template: str, known: Mapping[str, str]) -> list[tuple[str, str | None]] | None:
    """The literals of *template*, each with the name after it; None if it is not for ``str.format``."""
    parts = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(template):
            if name is not None and (name not in known or spec or conversion):
                return None
            parts.append((literal, name))
    except ValueError:
        return None
    return parts
