"""The terminal, or the script, that the command line talks to.

Answers go to standard output and all else to standard error, and nothing that
came from outside reaches either as a control character.
"""

import io
import json
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

from ckanpackager.errors import UnavailableError

T = TypeVar("T")


class Console:
    """Answers as text, or with ``as_json`` as JSON; with ``quiet`` nothing but complaints."""

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self.quiet = quiet
        self.as_json = as_json
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that has no such letter shows its code; it must not stop the command.
                stream.reconfigure(errors="backslashreplace")

    def answer(self, answer: dict[str, Any], view: Callable[[dict[str, Any]], str]) -> None:
        """Show the service's ``answer``: as it is, or as ``view`` puts it.

        Raises UnavailableError where ``view`` does not find in it what belongs there.
        """
        if self.quiet:
            return
        if self.as_json:
            _write(sys.stdout, json.dumps(answer, indent=2))
        else:
            self.say(understand(answer, view))

    def say(self, text: str) -> None:
        """Write a line of text to standard output, unless it is kept for JSON."""
        if not self.quiet and not self.as_json:
            _write(sys.stdout, text)

    def note(self, text: str) -> None:
        """Tell the person something that is not the answer."""
        if not self.quiet:
            _write(sys.stderr, text)

    def complain(self, text: str) -> None:
        """Say what went wrong, even when quiet."""
        _write(sys.stderr, text)


def understand(answer: dict[str, Any], view: Callable[[dict[str, Any]], T]) -> T:
    """What ``view`` finds in the service's ``answer``. Raises UnavailableError where it misses something."""
    try:
        return view(answer)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise UnavailableError(
            "The service's answer is not what this version expects; --json shows it as it is."
        ) from error


def _write(stream: TextIO, text: str) -> None:
    stream.write("".join(_harmless(character) for character in text) + "\n")
    stream.flush()


def _harmless(character: str) -> str:
    return character if character == "\n" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
