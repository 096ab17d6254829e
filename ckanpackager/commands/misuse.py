"""What to say to one whose words the usage text does not allow."""

import difflib
import re
from collections.abc import Collection, Sequence

_OPTION = re.compile(r"^ +(-\S+)", re.MULTILINE)
_LEFT_OVER = re.compile(r"\((?:None, )*'([^']*)'")


def explain(usage: str, words: Sequence[str], reason: str, commands: Collection[str]) -> str:
    """What is wrong with ``words``, and the lines of ``usage`` for the command among them.

    ``reason`` is docopt's own: which option lacks its value, or which words were left over.
    """
    if "requires argument" in reason:
        option = reason.partition(" ")[0]
        return f"ckanpackager: {option} needs a value; ckanpackager --help says which."
    lines = _usage_lines(usage)
    command = next((word for word in words if word in commands), None)
    about = [line for line in lines if command is None or command in _literals(line)]
    problem = _problem(words, reason.splitlines()[0], command, commands, [*about, *_everywhere(usage)])
    return "\n".join([*problem, "Usage:", *about, "", "ckanpackager --help says more."])


def _problem(
    words: Sequence[str], reason: str, command: str | None, commands: Collection[str], about: Sequence[str]
) -> list[str]:
    if not words:
        return []
    allowed = {literal for line in about for literal in _literals(line)}
    strange = [word for word in _LEFT_OVER.findall(reason) if word not in allowed]
    if command is not None:
        does = f"{', '.join(strange)} does not go with it" if strange else "something is missing or too much"
        return [f"ckanpackager {command}: {does}."]
    if strange and not strange[0].startswith("-"):
        near = difflib.get_close_matches(strange[0], commands, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return [f"ckanpackager: there is no command {strange[0]}.{hint}"]
    return ["ckanpackager: which command?"]


def _everywhere(usage: str) -> list[str]:
    """The options that go with every command: those that the usage lines do not give to some of them."""
    options = _OPTION.findall(usage.partition("Options:\n")[2])
    return sorted(set(options) - {literal for line in _usage_lines(usage) for literal in _literals(line)})


def _usage_lines(usage: str) -> list[str]:
    return usage.partition("Usage:\n")[2].partition("\n\n")[0].splitlines()


def _literals(line: str) -> list[str]:
    return re.split(r"[\s()\[\]|]+", line)
