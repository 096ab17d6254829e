"""A value of CKAN's as a cell of a Darwin Core file.

Whatever the value is, its cell is text that every reader takes as it was meant: without control characters,
without the name of a null, without Python's own notation, and valid in UTF-8.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any

from ckanpackager import digits
from ckanpackager.errors import PackageError

# What readers delete, stumble over or take for the end of a row. All but DEL are below the space.
CONTROLS = bytes([*range(32), 127])
_SPACES = dict.fromkeys(CONTROLS, " ")
_DELETE = "\x7f"
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
# JSON in a text that is nested deeper is not unpacked: Python could not write it again.
_DEEPEST = 100

BETWEEN = " | "
"""What stands between the members of a list, as the terms' own definitions recommend."""


def cell(value: Any) -> str:
    """``value`` as it stands in a file, before it is quoted."""
    return clean(text(value))


def clean(text: str) -> str:
    """``text`` with a space for each control character, and U+FFFD for each lone half of a surrogate pair."""
    return whole(text).translate(_SPACES)


def whole(text: str) -> str:
    """``text`` such that UTF-8 can hold it."""
    if text.isascii() or not _HALF_A_PAIR.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_blank(value: Any) -> bool:
    """Does ``value`` say nothing? (Zero and false do.)"""
    if isinstance(value, int):
        return False  # as its digits, which take longer, would say
    said = text(value)
    return not said or said.isspace()


def text(value: Any) -> str:
    """``value`` in words: empty for null, what is not a number, and empty JSON; a list's members beside
    each other where they are plain; other JSON as JSON.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return number(value)
    if isinstance(value, list) and not any(isinstance(member, list | dict) for member in value):
        return BETWEEN.join(member for member in map(text, value) if member)
    return json_text(value) if value else ""


def number(value: float | Decimal) -> str:
    """A number with all its digits and without an exponent; empty for what is none, such as infinity."""
    exact = value if isinstance(value, Decimal) else Decimal(value if isinstance(value, int) else repr(value))
    if not exact.is_finite():
        return ""
    return digits.plain(exact)


def json_text(value: Any) -> str:
    """``value`` as JSON (RFC 8259) on one line, with sorted keys; null for a number that JSON has not."""
    try:
        return _json(value)
    except RecursionError as error:
        raise PackageError("A value holds JSON that is nested too deeply to be written.") from error


def json_string(text: str) -> str:
    """``text`` as JSON, without a control character."""
    quoted = encode_basestring(whole(text))
    return quoted.replace(_DELETE, "\\u007f") if _DELETE in quoted else quoted


def nested(text: str) -> Any:
    """The object or array that ``text`` is the JSON of; any other text as it is."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return _decoded(text, _STRICT)
    except ValueError:
        return text


def parse(text: str) -> Any:
    """What ``text`` is the JSON of, with all digits; NaN and Infinity, which some write, are None.

    Raises ValueError where it is none.
    """
    return _decoded(text, _LENIENT)


def _decoded(text: str, decoder: json.JSONDecoder) -> Any:
    try:
        value = decoder.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if _is_deep(value):
        raise ValueError("nested too deeply")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            member
            for outer in level
            if isinstance(outer, list | dict)
            for member in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def _exact(number: str) -> Decimal:
    try:
        return Decimal(number)
    except InvalidOperation as error:  # its exponent has more than eighteen digits
        raise ValueError(f"{number} is too large or too small") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _forget(constant: str) -> None:
    return None


_STRICT = json.JSONDecoder(parse_float=_exact, parse_constant=_refuse)
_LENIENT = json.JSONDecoder(parse_float=_exact, parse_constant=_forget)


def _json(value: Any) -> str:
    if isinstance(value, str):
        return json_string(value)
    if isinstance(value, Mapping):
        members = (f"{json_string(key)}: {_json(value[key])}" for key in sorted(value))
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json, value)) + "]"
    return text(value) or "null"
