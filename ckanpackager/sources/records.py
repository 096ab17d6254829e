"""Records as text, without taking them apart: counting them, and finding where one ends.

The text is what PostgreSQL's COPY writes as CSV (CKAN's ``records_format`` csv and
tsv): every record ends with a newline, and a newline is data where the number
of quotes before it is odd. A doubled quote does not change that.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

Records = bytes | list[list[Any]]

csv.field_size_limit((1 << 31) - 1)  # a cell may be of any length

_PIECE = 1 << 16  # fits into the processor's cache
_QUOTED = re.compile(rb'"[^"]*"')
_LEADING_ID = re.compile(rb"-?[0-9]+")
_ALL_BUT_QUOTES_AND_NEWLINES = bytes(byte for byte in range(256) if byte not in b'"\n')


def count(text: bytes) -> int:
    """How many records there are in the text."""
    if b'"' not in text:
        return text.count(b"\n")
    rows = is_quoted = 0
    for start in range(0, len(text), _PIECE):
        # What is left of a record is mostly pairs of quotes, and without a pair the others stay odd or even.
        marks = text[start : start + _PIECE].translate(None, _ALL_BUT_QUOTES_AND_NEWLINES).replace(b'""', b"")
        parts = marks.split(b'"')
        rows += sum(part.count(b"\n") for part in parts[is_quoted::2])
        is_quoted = (is_quoted + len(parts) - 1) % 2
    return rows


def split(records: Records) -> Iterator[Any]:
    """The records one by one; of text, each with the newline at its end."""
    if isinstance(records, list):
        yield from records
        return
    # Every byte is looked at once: a cell may hold a hundred thousand lines.
    lines: list[bytes] = []
    quotes = 0
    for line in io.BytesIO(records):
        lines.append(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            yield b"".join(lines)
            lines.clear()


def first(records: Records) -> Any:
    """The first of them, which must be there."""
    if isinstance(records, list):
        return records[0]
    end = quotes = 0
    while True:
        start, end = end, records.index(b"\n", end) + 1
        quotes += records.count(b'"', start, end)
        if quotes % 2 == 0:
            return records[:end]


def last(records: Records) -> Any:
    """The last of them, which must be there."""
    if isinstance(records, list):
        return records[-1]
    # Before the newline that ends the last but one, and so after it too, the number of quotes is even.
    start, quotes = len(records), 0
    while True:
        end, start = start, records.rfind(b"\n", 0, start - 1) + 1
        quotes += records.count(b'"', start, end)
        if start == 0 or quotes % 2 == 0:
            return records[start:]


def without_first(records: Records) -> Records:
    """All but the first of them."""
    if isinstance(records, list):
        return records[1:]
    return records[len(first(records)) :]


def integers(records: Records, place: int, records_format: str) -> Iterator[int]:
    """What stands at that place, from 0 on, in each of them."""
    if isinstance(records, list):
        return (int(record[place]) for record in records)
    delimiter = b"\t" if records_format == "tsv" else b","
    # Without what is quoted, every newline ends a record and every delimiter a cell.
    lines = _QUOTED.sub(b"", records).split(b"\n")[:-1]
    return (int(line.split(delimiter, place + 1)[place]) for line in lines)


def leading_id(record: Any) -> Any:
    """The ``_id`` of a record that begins with it."""
    match = _LEADING_ID.match(record) if isinstance(record, bytes) else None
    return int(match[0]) if match else record[0]


def whole(record: Any) -> Any:
    """All of the record."""
    return record


def compared(types: Sequence[str], records_format: str) -> Callable[[Any], Any]:
    """A function from a record to what PostgreSQL compares it by, for columns of these types.

    To PostgreSQL 1.0 is 1.00, -0 is 0, and blanks at the end of a ``bpchar`` are none; everything else is
    equal if it is written alike.
    """
    known = {n: _COMPARED[type_] for n, type_ in enumerate(types) if type_ in _COMPARED}
    if not known:
        return whole
    delimiter = "\t" if records_format == "tsv" else ","

    def values(record: Any) -> list[Any]:
        row = record
        if isinstance(record, bytes):
            row = next(csv.reader(io.StringIO(record.decode(), newline=""), delimiter=delimiter))
        return [known[n](value) if n in known else value for n, value in enumerate(row)]

    return values


def _number(value: Any) -> Any:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return value
    return str(number) if number.is_nan() else number


def _without_padding(value: Any) -> Any:
    return value.rstrip(" ") if isinstance(value, str) else value


_COMPARED: dict[str, Callable[[Any], Any]] = {
    "numeric": _number,
    "float4": _number,
    "float8": _number,
    "bpchar": _without_padding,
}
