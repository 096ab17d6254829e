"""Values as PostgreSQL writes, reads and orders them, for the datastore of the demo.

What is promised is the text: a cell of ``COPY ... csv`` and of ``to_json`` are those that PostgreSQL 15
writes for the same value, byte for byte (but for the last digit of some floats beyond 2**53).
"""

import datetime
import decimal
import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any

INTEGERS = frozenset({"int", "int2", "int4", "int8"})
FLOATS = frozenset({"float", "float4", "float8"})
NUMBERS = INTEGERS | FLOATS | {"numeric"}
NAMES = {
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float": "real",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "json": "nested",
}
TRUE = frozenset({"t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"})
FALSE = frozenset({"f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"})
TO_BE_QUOTED = {",": re.compile('[,"\n\r]'), "\t": re.compile('[\t"\n\r]')}


class QueryError(Exception):
    """PostgreSQL refuses the statement; the message is PostgreSQL's."""


def name_of(type_: str) -> str:
    """The name that PostgreSQL's own messages use for a type."""
    return NAMES.get(type_, type_)


def coarse_type(type_: str) -> str:
    """What the ``datastore_info`` of CKAN 2.9 says of a type."""
    return "number" if type_ in NUMBERS else type_


def is_array(type_: str) -> bool:
    return type_.startswith("_")


def is_json(type_: str) -> bool:
    """Whether CKAN selects this column as JSON text, which has no equality and no order."""
    return type_ == "json" or is_array(type_)


# Reading


def parse(type_: str, value: Any) -> Any:
    """A Python value of the column's type: text is read as PostgreSQL reads a literal, None stays None.

    >>> parse("numeric", "51.4960000")
    Decimal('51.4960000')
    """
    if value is None or type_ == "json":
        return value
    if is_array(type_):
        return [parse(type_[1:], item) for item in value]
    read = READERS.get(type_)
    if read is None:
        return str(value)
    try:
        return read(value)
    except (ValueError, decimal.InvalidOperation) as error:
        raise QueryError(f'invalid input syntax for type {name_of(type_)}: "{value}"') from error


def parse_number(value: Any) -> decimal.Decimal:
    number = value if isinstance(value, decimal.Decimal) else decimal.Decimal(str(value).strip())
    return number if number else number.copy_abs()  # a numeric has no negative zero


def parse_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in TRUE | FALSE:
        raise ValueError(value)
    return word in TRUE


def parse_date(value: Any) -> datetime.date:
    if isinstance(value, datetime.date):
        return value
    year, month, day = str(value).strip().split("-")
    return datetime.date(int(year), int(month), int(day))


def parse_time(value: Any) -> datetime.time:
    return value if isinstance(value, datetime.time) else datetime.time.fromisoformat(value.strip())


def parse_timestamp(value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    day, _, time = str(value).strip().replace("T", " ").partition(" ")
    return datetime.datetime.combine(parse_date(day), parse_time(time or "00:00"))


READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(INTEGERS, int),
    **dict.fromkeys(FLOATS, float),
    "numeric": parse_number,
    "bool": parse_bool,
    "date": parse_date,
    "time": parse_time,
    "timestamp": parse_timestamp,
}


def literal(type_: str, value: Any) -> Any:
    """The value to compare a column with, from JSON. Raises QueryError where SQL has no such comparison."""
    if isinstance(value, dict):
        raise QueryError("can't adapt type 'dict'")
    if value is None:
        return None
    if type_ == "json":
        raise QueryError("operator does not exist: nested = unknown")
    if isinstance(value, list) != is_array(type_):
        raise QueryError(f'malformed array literal: "{value}"')
    if isinstance(value, bool) and type_ != "bool":
        raise QueryError(f"operator does not exist: {name_of(type_)} = boolean")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if type_ not in NUMBERS:
            raise QueryError(f"operator does not exist: {name_of(type_)} = integer")
        return parse_number(value)
    return parse(type_, value)


# Writing


def to_text(type_: str, value: Any, *, milliseconds: bool = True) -> str:
    """The value's text outside JSON. Timestamps are cut after the second or the millisecond, as CKAN asks."""
    if type_ == "bool":
        return "t" if value else "f"
    if type_ == "numeric":
        return format(value, "f")
    if type_ in FLOATS:
        return float_text(value, single=type_ != "float8")
    if type_ == "timestamp":
        return str(value.isoformat(timespec="milliseconds" if milliseconds else "seconds"))
    if type_ == "time":
        return str(value.isoformat()).rstrip("0") if value.microsecond else str(value.isoformat())
    return str(value)


def to_json(type_: str, value: Any, *, milliseconds: bool = True) -> str:
    """The value in JSON: numbers as exact as stored, text in UTF-8, a json column as CKAN inserts it."""
    if value is None:
        return "null"
    if type_ == "json":
        return json.dumps(value)
    if is_array(type_):
        return "[" + ",".join(to_json(type_[1:], item, milliseconds=milliseconds) for item in value) + "]"
    if type_ == "bool":
        return "true" if value else "false"
    text = to_text(type_, value, milliseconds=milliseconds)
    if type_ in NUMBERS and text[-1].isdigit():
        return text
    return json.dumps(text, ensure_ascii=False)


def to_search(type_: str, value: Any) -> str:
    """The text in which full-text search looks for words."""
    return to_json(type_, value) if is_json(type_) else to_text(type_, value)


def to_cell(type_: str, value: Any, delimiter: str, *, milliseconds: bool = True, alone: bool = False) -> str:
    r"""The value as ``COPY ... csv`` writes it. A ``\.`` is quoted where it stands alone in its record."""
    if is_json(type_):
        text = to_json(type_, value, milliseconds=milliseconds)
    elif value is None:
        return ""
    else:
        text = to_text(type_, value, milliseconds=milliseconds)
    if not text or TO_BE_QUOTED[delimiter].search(text) or (alone and text == "\\."):
        return '"' + text.replace('"', '""') + '"'
    return text


def float_text(value: float, *, single: bool = False) -> str:
    """The shortest digits that read back as the same number; with an exponent from 1e15 (a single: 1e6) on.

    >>> float_text(1e15), float_text(123456789012345.0), float_text(1e-07)
    ('1e+15', '123456789012345', '1e-07')
    """
    if not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    digits = decimal.Decimal(shortest_single(value) if single else repr(value)).normalize()
    exponent = digits.adjusted()
    if digits and not -5 < exponent < (6 if single else 15):
        mantissa = format(digits.scaleb(-exponent), "f")
        return f"{mantissa}e{exponent:+03d}"
    return format(digits, "f")


def shortest_single(value: float) -> str:
    single = struct.pack("f", value)
    return next(
        (text for n in range(6, 9) if struct.pack("f", float(text := f"{value:.{n}g}")) == single),
        f"{value:.9g}",
    )


# Ordering


def sort_key(type_: str, value: Any) -> Any:
    """What to compare instead of the value: PostgreSQL holds NaN equal to itself and above every number."""
    if is_array(type_):
        return [(item is None, item is not None and sort_key(type_[1:], item)) for item in value]
    if type_ in NUMBERS:
        return (1, 0) if math.isnan(value) else (0, value)
    return value
