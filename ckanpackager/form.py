"""Reading what was posted, one parameter at a time.

Every value comes out with its type, or not at all: a BadRequestError names
the parameter and says what it must be. Values may come from a form, where all
are texts, or from JSON.
"""

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import email_validator

from ckanpackager import eml
from ckanpackager.errors import BadRequestError

# CKAN's resource ids are UUIDs, and aliases of datastore tables are names; neither needs more than this.
_RESOURCE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TRUE = {"true", "t", "yes", "y", "on", "1"}
_FALSE = {"false", "f", "no", "n", "off", "0"}
_LONGEST_URL = 4096
_LONGEST_EML = 1_000_000
_BIGGEST_INTEGER = 2**63 - 1
_DEEPEST = 32


class Form:
    """The parameters of one request. An empty value counts as not given."""

    def __init__(self, form: Mapping[str, Any]) -> None:
        self._form = form

    def text(self, name: str, *, longest: int, printable: bool = False) -> str | None:
        """Any text, or None."""
        value = self._form.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadRequestError(f"{name} must be a text, not {_kind(value)}.")
        text = str(value)
        if len(text) > longest:
            raise BadRequestError(f"{name} is longer than {longest} characters.")
        _refuse_unencodable(name, text)
        if printable and not (text.isascii() and text.isprintable()):
            raise BadRequestError(f"{name} holds characters that cannot stand in an HTTP header.")
        return text

    def required(self, name: str, *, longest: int) -> str:
        """A text that must be there, without blanks around it."""
        text = self.text(name, longest=longest)
        if text is None or not text.strip():
            raise BadRequestError(f"Parameter {name} is required.")
        return text.strip()

    def resource_id(self) -> str:
        """The id or alias of a CKAN resource: safe in file names and log lines."""
        text = self.required("resource_id", longest=1024)
        if not _RESOURCE_ID.fullmatch(text):
            raise BadRequestError(
                "resource_id must be the id (or alias) of a CKAN resource: letters, digits, - _ and . only."
            )
        return text

    def email(self) -> str:
        """Exactly one e-mail address, normalized. Whether it exists is not asked."""
        text = self.required("email", longest=1024)
        try:
            return email_validator.validate_email(text, check_deliverability=False).normalized
        except email_validator.EmailNotValidError as error:
            raise BadRequestError(f"email must be exactly one e-mail address. {error}") from error

    def url(self, name: str) -> str:
        """A full HTTP or HTTPS address without a log-in."""
        text = self.required(name, longest=_LONGEST_URL)
        advice = f"{name} must be a full URL that starts with http:// or https://"
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise BadRequestError(f"{advice} ({error}).") from error
        if parts.scheme not in ("http", "https") or not host:
            raise BadRequestError(f"{advice}.")
        if parts.username is not None or parts.password is not None:
            raise BadRequestError(f"{name} must not hold a user name or password; send the API key as key.")
        if any(unicodedata.category(character) in ("Cc", "Zs") for character in text):
            raise BadRequestError(f"{name} holds spaces or control characters; percent-encode them.")
        return text

    def filters(self) -> dict[str, Any] | None:
        """The object that datastore_search takes as filters, also where it came as JSON text."""
        value = self._form.get("filters")
        if value is None or value == "":
            return None
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise BadRequestError(f"filters is not JSON: {error}.") from error
            refuse_deep("filters", value)
        if not isinstance(value, dict):
            raise BadRequestError(
                f'filters must be a JSON object such as {{"field": "value"}}, not {_kind(value)}.'
            )
        _refuse_unencodable("filters", json.dumps(value, ensure_ascii=False))
        return value or None

    def q(self) -> str | dict[str, Any] | None:
        """What datastore_search takes as q: a text, or an object from column to text."""
        value = self._form.get("q")
        if isinstance(value, dict):
            _refuse_unencodable("q", json.dumps(value, ensure_ascii=False))
            return value or None
        return self.text("q", longest=10_000)

    def eml(self) -> str | None:
        """Well-formed metadata in the Ecological Metadata Language, as text, or None."""
        return eml.check(self.text("eml", longest=_LONGEST_EML))

    def boolean(self, name: str) -> bool | None:
        """True, False or None."""
        value = self._form.get(name)
        if value is None or value == "":
            return None
        text = str(value).strip().lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise BadRequestError(f"{name} must be true or false.")

    def integer(self, name: str, of: str = "rows") -> int | None:
        """A number of rows, or of what is said, or None."""
        value = self._form.get(name)
        if value is None or value == "":
            return None
        text = str(value).strip()
        if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > _BIGGEST_INTEGER:
            raise BadRequestError(f"{name} must be a whole number of {of}, 0 or more.")
        return int(text)

    def names(self, name: str) -> tuple[str, ...] | None:
        """Column names, each once, or None."""
        value = self._form.get(name)
        if value in (None, "", []):
            return None
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
            raise BadRequestError(
                f"{name} must be a list of column names, or a text with commas between them."
            )
        if len(set(value)) < len(value):
            raise BadRequestError(f"{name} names a column twice.")
        for part in value:
            _refuse_unencodable(name, part)
        return tuple(value)

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """One of ``choices``, in any case, or None."""
        text = self.text(name, longest=100)
        if text is None:
            return None
        text = text.strip().lower()
        if text not in choices:
            raise BadRequestError(f"{name} must be one of {', '.join(choices)}.")
        return text


def refuse_deep(what: str, value: Any) -> None:
    """Raise BadRequestError for JSON that is nested deeper than what goes through it later can follow."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _members(outer)]
    if level:
        raise BadRequestError(f"{what} is nested too deeply.")


def _members(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_unencodable(name: str, text: str) -> None:
    if "\0" in text:
        raise BadRequestError(f"{name} holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRequestError(f"{name} is not valid Unicode.") from error


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
