"""What every source yields: fields, and pages of records.

A page says how many rows it holds, so that whoever adds them up can prove that
none is missing.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Field:
    """A column as CKAN's datastore_search describes it: ``id`` is its name, ``type`` PostgreSQL's."""

    id: str
    type: str = "text"


@dataclasses.dataclass(frozen=True)
class Page:
    """Some records in their order.

    ``records`` is bytes where they came as CSV or TSV (PostgreSQL's COPY: UTF-8, RFC 4180 quoting, each
    record ended by ``\\n``, no header), and a list of lists, a value a field, where they came as ``lists``.
    """

    rows: int
    records: bytes | list[list[Any]]
