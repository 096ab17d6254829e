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


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a reading by ranges of ``_id`` has come: all up to the id ``reached`` has been read.

    It goes from the id ``first`` to the id ``last``, ``total`` rows as CKAN counted them when it began;
    ``rows`` have come. ``last_row`` is the SHA-256 of the last of them.
    """

    fields: tuple[Field, ...]
    first: int
    last: int
    total: int
    reached: int
    rows: int
    last_row: str

    def to_dict(self) -> dict[str, Any]:
        """This position in JSON's types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Position":
        """The position that :meth:`to_dict` wrote down."""
        return cls(**{**values, "fields": tuple(Field(**field) for field in values["fields"])})
