"""What a value becomes as text: what CKAN itself writes when asked for CSV, as far as the value still tells.

A number keeps all its digits, and no value is ever shown in Python's own notation.
"""

import json
from decimal import Decimal
from typing import Any

from ckanpackager import digits

# The types of which a string is ``"quoted"`` and true is ``true``.
JSON = frozenset({"json", "jsonb"})


def text(value: Any, kind: str = "text") -> str:
    """``value`` of a field of PostgreSQL's type ``kind``; NULL is empty."""
    if value is None:
        return ""
    if kind in JSON:
        return _json(value)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, int | float | Decimal):
        return number(value)
    return _json(value, *_ARRAY) if kind.startswith("_") else _json(value)


def number(value: float | Decimal) -> str:
    """A number with all its digits, without an exponent where PostgreSQL has none."""
    if isinstance(value, Decimal):
        return digits.plain(value)
    return json.dumps(value)


# PostgreSQL writes an array without spaces, and CKAN a JSON object with them.
_ARRAY = (",", ":")


def _json(value: Any, comma: str = ", ", colon: str = ": ") -> str:
    if isinstance(value, dict):
        members = (f"{_json(str(key))}{colon}{_json(member, comma, colon)}" for key, member in value.items())
        return "{" + comma.join(members) + "}"
    if isinstance(value, list):
        return "[" + comma.join(_json(item, comma, colon) for item in value) + "]"
    if isinstance(value, Decimal):
        return number(value)
    return json.dumps(value, ensure_ascii=False)
