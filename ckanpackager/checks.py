"""What a setting's value may be.

A check takes what a settings file says and returns what the service works
with: plain values, which can be pickled, whatever the file made them of. For
what is unfit it raises, with the rest of a sentence that begins with the
setting's name.
"""

import difflib
import ipaddress
import os
import re
import reprlib
import shlex
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

PUBLISHED_SECRET = "8ba6d280d4ce9a416e9b604f3f0ebb"  # noqa: S105 - from the manual, and refused for that

DAY = 24 * 60 * 60
# The longest time that may be added to now: the sum must be one that a calendar knows.
CENTURY = 100 * 365 * DAY

Check = Callable[[Any], Any]

_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|[\w-]+(?:\.[\w-]+)*\.?)(?::(?P<port>[0-9]{1,5}))?")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z_][a-z0-9_]*)\}")

_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = 60
_short = _shortener.repr


class Unfit(Exception):
    """The rest of a sentence that begins with the setting's name, without its full stop."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of ``names`` that ``name`` was probably meant to be; empty if none is like it."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), "")


def yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit(f"must be True or False, not {_short(value)}")
    return value


def whole(least: int, most: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise Unfit(f"must be a whole number from {least} to {most}, not {_short(value)}")
        return int(value)

    return check


def zero_or(least: int) -> Callable[[Any], int]:
    """A number of bytes, or 0 for no limit."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or (value != 0 and value < least):
            raise Unfit(f"must be 0 or a whole number of bytes, at least {least}, not {_short(value)}")
        return int(value)

    return check


def cache_time(value: Any) -> int:
    # By the manual it "will always be at least 1s": the retired service took 0 as that.
    return max(1, whole(0, CENTURY)(value))


def seconds(least: float) -> Check:
    def check(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= DAY:
            raise Unfit(f"must be a number of seconds from {least} to {DAY}, not {_short(value)}")
        return value

    return check


def text(value: Any) -> str:
    # The value itself is not shown: it may be a password that lacks its quotes.
    if not isinstance(value, str):
        raise Unfit(f"must be text in quotes, not of the type {type(value).__name__}")
    return str(value)


def full_text(value: Any) -> str:
    if not text(value).strip():
        raise Unfit("must not be empty")
    return str(value)


def text_or_none(value: Any) -> str:
    """Text, which older files may give as None where there is none."""
    return "" if value is None else text(value)


def none_or(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        if value not in choices:
            raise Unfit(f"must be one of {', '.join(map(repr, choices))}, not {_short(value)}")
        return str(value)

    return check


def list_of(check: Check) -> Check:
    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise Unfit(f"must be a list, not {_short(value)}")
        return tuple(dict.fromkeys(map(check, value)))

    return check_all


def secret(value: Any) -> str:
    how = "set it to a text of your own, such as `openssl rand -hex 24` prints, and tell it to CKAN"
    if value is None:
        raise Unfit(f"is missing: {how}")
    if text(value) == PUBLISHED_SECRET:
        raise Unfit(f"is still the published example, which everybody knows: {how}")
    if len(value) < 8:
        raise Unfit(f"has fewer than 8 characters: {how}")
    return str(value)


def folder(value: Any) -> str:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not text(value).startswith("/") or "\0" in value:
        raise Unfit(f"must be the full path of a folder, beginning with /, not {_short(value)}")
    return str(value)


def host(value: Any) -> str:
    if not re.fullmatch(r"[\w.%:-]+", text(value)) or (":" in value and not _is_ipv6(value)):
        raise Unfit(f"must be the name or address of a host, without scheme or port, not {_short(value)}")
    return str(value)


def host_and_port(value: Any) -> str:
    lower = text(value).lower()
    found = _HOST.fullmatch(lower)
    if (
        found is None
        or (found["ipv6"] is not None and not _is_ipv6(found["ipv6"]))
        or (found["port"] is not None and not 0 < int(found["port"]) < 65536)
    ):
        raise Unfit(f"must list hosts as 'data.example.org' or 'data.example.org:8080', not {_short(value)}")
    return lower


def public_url(value: Any) -> str:
    """An address without the slash at its end, or nothing."""
    if text(value) == "":
        return ""
    try:
        parts = urlsplit(value)
        is_fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fit = False
    if not is_fit or not re.fullmatch(r"[!-~]+", value) or re.search(r"[?#@\"<>]", value):
        raise Unfit(f"must be an address such as 'https://packages.example.org', not {_short(value)}")
    return str(value).rstrip("/")


def database(value: Any) -> str:
    """A database's URL, with the one name for PostgreSQL where the retired service knew several."""
    url = re.sub(r"\Apostgres(ql)?(\+psycopg2?)?://", "postgresql://", text(value))
    if url.startswith("postgresql://"):
        return url
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite":
        raise Unfit("must begin with sqlite:/// (and go on with the path of a file) or with postgresql://")
    if path.partition("?")[0] in ("", ":memory:") or "mode=memory" in path or "\0" in path:
        raise Unfit("must name a file: what is in memory is lost when the service stops")
    return url


def zip_command(value: Any) -> str:
    try:
        words = shlex.split(full_text(value))
    except ValueError as error:
        raise Unfit(f"cannot be split into words: {error}") from error
    if not {"{input}", "{output}"} <= set(words[1:]):
        raise Unfit("must be a command with {input} and {output} as words of their own")
    return str(value)


def template(*known: str) -> Check:
    """Text whose ``{name}``s are all known. Other braces, such as a style sheet's, are letters."""

    def check(value: Any) -> str:
        for found in _PLACEHOLDER.finditer(text(value)):
            # Braces in pairs are no placeholder: older files write a single brace that way.
            if found[1] is not None and found[1] not in known:
                near = nearest(found[1], known)
                advice = f"; the nearest is {{{near}}}" if near else ""
                raise Unfit(f"has the placeholder {found[0]}, which is not known here{advice}")
        return str(value)

    return check


def template_line(*known: str) -> Check:
    def check(value: Any) -> str:
        if len(full_text(value).splitlines()) > 1:
            raise Unfit("must be a single line")
        return str(template(*known)(value))

    return check


def extension_fields(value: Any) -> dict[str, dict[str, Any]]:
    """Names of fields, each with its extension and fields, and at will its mappings and formatters."""
    if not isinstance(value, dict):
        raise Unfit(f"must be a dictionary, not {_short(value)}")
    for name, parts in value.items():
        if not isinstance(name, str) or not isinstance(parts, dict):
            raise Unfit(f"must lead from names of fields to dictionaries, which {_short(name)} does not")
        if not isinstance(parts.get("extension"), str):
            raise Unfit(f"[{name!r}] must have 'extension', the name or the path of a definition")
        for part in ("fields", "mappings", "formatters"):
            if not isinstance(parts.get(part, None if part == "fields" else {}), dict):
                raise Unfit(f"[{name!r}] must have a dictionary as {part!r}")
        if any(callable(formatter) for formatter in parts.get("formatters", {}).values()):
            # The retired service took functions, which no other process can be given.
            raise Unfit(f"[{name!r}] must have names as 'formatters', such as 'image_type', not functions")
        for part in parts.keys() - {"extension", "fields", "mappings", "formatters"}:
            raise Unfit(
                f"[{name!r}] has {_short(part)}: only extension, fields, mappings, formatters are known"
            )
    return {name: {part: _plain(parts[part]) for part in parts} for name, parts in value.items()}


def _plain(value: Any) -> Any:
    """A copy of what JSON could hold; so that nobody changes it, and a worker process can be given it."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {str(key): _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise Unfit(f"must hold text, numbers, lists and dictionaries alone, not {_short(value)}")


def _is_ipv6(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 6
    except ValueError:
        return False
