"""What CKAN's API answered, taken apart.

Whatever is not an answer of datastore_search raises SourceError, with CKAN's own words where it refused.
"""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import orjson

from ckanpackager.errors import SourceError
from ckanpackager.sources import records
from ckanpackager.sources.base import Field, Page

Result = dict[str, Any]

_MOST_OF_A_MESSAGE = 1000
_MOST_ROWS = 2**63 - 1  # as far as PostgreSQL counts, and databases' integers reach

# A page of CSV is one JSON string of megabytes, most often between these two.
_BEFORE_TEXT = b'"records": "'
_AFTER_TEXT = b'", "fields": ['
_PIECE = 1 << 16


def result_of(url: str, status: int, body: bytes, *, exact: bool = False) -> Result:
    """The result in an answer of ``url``. With ``exact`` its numbers keep their digits, as Decimal.

    Text in ``records`` comes as bytes.
    """
    try:
        said = _exact(body) if exact else _quick(body)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{url} answered {status} with something that is not JSON: is it CKAN's API?"
        ) from error
    result = said.get("result") if isinstance(said, dict) else None
    if status != 200 or not isinstance(result, dict):
        raise SourceError(f"CKAN refused: {_message(said)} ({url} answered {status})")
    return result


def total_of(result: Mapping[str, Any]) -> int:
    """How many rows match."""
    total = result.get("total")
    if not isinstance(total, int) or not 0 <= total <= _MOST_ROWS:
        raise SourceError("CKAN did not say how many rows there are.")
    return total


def fields_of(result: Mapping[str, Any]) -> tuple[Field, ...]:
    """The columns."""
    try:
        return tuple(Field(str(field["id"]), str(field.get("type", "text"))) for field in result["fields"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError("CKAN did not say which columns there are.") from error


def page_of(result: Mapping[str, Any], fields: tuple[Field, ...]) -> Page:
    """The rows, as text or as lists."""
    found = result.get("records")
    if isinstance(found, str):
        found = found.encode()
    if isinstance(found, bytes):
        return Page(records.count(found), found)
    if not isinstance(found, list):
        raise SourceError("CKAN answered a page without records.")
    if found and isinstance(found[0], dict):
        # Back ends that do not know records_format answer with objects.
        found = [[record.get(field.id) for field in fields] for record in found]
    return Page(len(found), found)


def _exact(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal)


def _quick(body: bytes) -> Any:
    start = body.find(_BEFORE_TEXT)
    end = body.rfind(_AFTER_TEXT)
    if start < 0 or end < start + len(_BEFORE_TEXT):
        return orjson.loads(body)
    try:
        # What is between them is one string only if every piece of it is one.
        text = b"".join(_pieces(body, start + len(_BEFORE_TEXT), end))
        said = orjson.loads(body[: start + len(_BEFORE_TEXT)] + body[end:])
    except ValueError:
        return orjson.loads(body)
    result = said.get("result") if isinstance(said, dict) else None
    if not isinstance(result, dict) or result.get("records") != "":
        return orjson.loads(body)
    result["records"] = text
    return said


def _pieces(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """The JSON string in between, as UTF-8, in pieces that fit into the processor's cache.

    As one it would be turned into a Python text of up to four bytes a character, and that into bytes.
    """
    while start < end:
        # No escape goes on after an n, be it that of a newline or one that follows an escaped backslash.
        newline = body.find(b"\\n", start + _PIECE, end)
        stop = end if newline < 0 else newline + 2
        text: str = orjson.loads(b'"%b"' % body[start:stop])
        yield text.encode()
        start = stop


def _message(said: Any) -> str:
    """CKAN's words, without its type names and the statements it shows."""
    error = said.get("error") if isinstance(said, dict) else said
    if isinstance(error, dict):
        if isinstance(error.get("message"), str):
            return str(error["message"])[:_MOST_OF_A_MESSAGE]
        parts = [
            f"{name}: {', '.join(map(str, words)) if isinstance(words, list) else words}"
            for name, words in error.items()
            if name not in ("__type", "info")
        ]
        return "; ".join(parts)[:_MOST_OF_A_MESSAGE]
    return str(error)[:_MOST_OF_A_MESSAGE]
