"""The same question, put to the service and to PostgreSQL."""

import dataclasses
import io
from typing import Any

from tests.ckan.bed import RealCkan
from tests.ckan.data import fields_of
from tests.ckan.installation import version_numbers

Parameters = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Query:
    """What to post, and the SQL that says what must come: a condition and an order, ``_id`` in case of ties."""

    name: str
    parameters: Parameters = dataclasses.field(default_factory=dict)
    where: str = "true"
    order: str = "_id"
    needs: tuple[int, ...] = (2, 9)

    def __or__(self, other: "Query") -> "Query":
        """Both at once: at most one of them asks for an order."""
        return Query(
            f"{self.name}, {other.name}",
            {**self.parameters, **other.parameters},
            f"({self.where}) AND ({other.where})",
            other.order if self.order == "_id" else self.order,
            max(self.needs, other.needs),
        )

    def columns(self, ckan: RealCkan, table: str) -> list[str]:
        return self.parameters.get("fields") or list(fields_of(ckan, table))

    def is_answered_by(self, ckan: RealCkan) -> bool:
        return version_numbers(ckan.version) >= self.needs

    def expected(self, ckan: RealCkan, table: str) -> bytes:
        """The rows, as PostgreSQL writes them."""
        types = fields_of(ckan, table)
        columns = [_as_ckan_writes(ckan, name, types[name]) for name in self.columns(ckan, table)]
        distinct = "DISTINCT" if self.parameters.get("distinct") else ""
        window = f"OFFSET {self.parameters.get('offset', 0)} LIMIT {self.parameters.get('limit', 'ALL')}"
        query = f'SELECT {distinct} {", ".join(columns)} FROM "{table}" WHERE {self.where}'
        if not distinct or self.order != "_id":
            query += f" ORDER BY {self.order}"
        return copied(ckan, f"{query} {window}")


def _as_ckan_writes(ckan: RealCkan, name: str, type_: str) -> str:
    """The one type that CKAN does not leave to PostgreSQL."""
    if type_ != "timestamp":
        return f'"{name}"'
    fraction = ".MS" if version_numbers(ckan.version) >= (2, 12) else ""
    return f"""to_char("{name}", 'YYYY-MM-DD"T"HH24:MI:SS{fraction}')"""


def copied(ckan: RealCkan, query: str) -> bytes:
    """What PostgreSQL answers, as CSV."""
    with ckan.connection() as connection, connection.cursor() as cursor:
        lines = io.BytesIO()
        cursor.copy_expert(f"COPY ({query}) TO STDOUT CSV", lines)
        return lines.getvalue()
