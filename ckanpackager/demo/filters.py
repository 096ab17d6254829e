"""The ``filters`` of ``datastore_search``: as CKAN 2.12 reads them, and as those before it did.

A filter becomes one `FilterOp`, whatever form it came in, and that is all that is asked of a row.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ckanpackager.demo import postgres
from ckanpackager.demo.query import ServerError, ValidationError
from ckanpackager.demo.table import ID, Table

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
COMBINATIONS: dict[str, Callable[[Iterable[bool]], bool]] = {"$and": all, "$or": any}

Predicate = Callable[[int], bool]


class FilterOp(NamedTuple):
    """A comparison of a field with a value, or a combination (``$and``, ``$or``) of a list of others."""

    op: str
    field: str | None
    value: Any

    def to_json(self) -> dict[str, Any]:
        value = [part.to_json() for part in self.value] if self.op in COMBINATIONS else self.value
        return {"op": self.op, "field": self.field, "value": value}

    def fields(self) -> Iterator[str]:
        if self.op in COMBINATIONS:
            for part in self.value:
                yield from part.fields()
        elif self.field is not None:
            yield self.field


# Reading


def read_values(filters: Any) -> FilterOp | None:
    """Before 2.12: a value, or a list of values, for each field. A range is a value like any other."""
    if not isinstance(filters, dict):
        raise ServerError("filters that are JSON and not an object")
    parts = [
        FilterOp("in" if isinstance(value, list) else "eq", name, value) for name, value in filters.items()
    ]
    return combine("$and", parts)


def read_filters(filters: Any, table: Table) -> FilterOp | None:
    """From 2.12: values, lists of values, ranges, ``$and`` and ``$or``. Raises ValidationError."""
    if not filters:
        return None
    if isinstance(filters, dict):
        return combine("$and", read_members(filters, table))
    if not are_objects(filters):
        raise ValidationError({"filters": ["Filters must be defined as a dict or a list of dicts"]})
    return combine("$or", merged("$or", read_each(filters, table)))


def read_members(filters: Mapping[str, Any], table: Table) -> list[FilterOp]:
    parts: list[FilterOp] = []
    for name, value in filters.items():
        if name.startswith("$") and not name.startswith("$$"):
            combined = read_combination(name, value, table)
            parts += merged("$and", combined) if name == "$and" else combined
        else:
            parts.append(read_field(name.removeprefix("$") if name.startswith("$$") else name, value, table))
    return parts


def read_each(filters: Iterable[Mapping[str, Any]], table: Table) -> list[FilterOp]:
    """What is asked by each object of a list; empty ones ask nothing."""
    each = (combine("$and", merged("$and", read_members(part, table))) for part in filters)
    return [part for part in each if part is not None]


def read_combination(name: str, value: Any, table: Table) -> list[FilterOp]:
    if name not in COMBINATIONS:
        raise ValidationError({"filters": [f"Unknown operators (must be one of $or, $and): {name}"]})
    if not are_objects(value):
        complaint = f"Filter operations must be defined as a list of dicts: {value}"
        raise ValidationError({"filters": [complaint]})
    if not any(value):
        raise ValidationError({"filters": [f'invalid value "{name}"']})
    return [FilterOp(name, None, merged(name, read_each(value, table)))]


def read_field(name: str, value: Any, table: Table) -> FilterOp:
    if isinstance(value, list):
        ranges = [read_field(name, part, table) for part in value if isinstance(part, dict)]
        values = [part for part in value if not isinstance(part, dict)]
        listed = [FilterOp("in", name, values)] if values or not ranges else []
        return together("$or", ranges + listed)
    if name not in table.columns:
        raise ValidationError({"filters": [f"Unknown field: {name}"]})
    if not isinstance(value, dict):
        return FilterOp("eq", name, value)
    if not value:
        raise ServerError("a filter that is an empty object")
    return together("$and", [FilterOp(op, name, compared) for op, compared in value.items()])


def combine(op: str, parts: list[FilterOp]) -> FilterOp | None:
    return together(op, parts) if parts else None


def together(op: str, parts: list[FilterOp]) -> FilterOp:
    """One of several; one alone stays as it is."""
    return FilterOp(op, None, parts) if len(parts) > 1 else parts[0]


def merged(op: str, parts: Iterable[FilterOp]) -> list[FilterOp]:
    """The same parts, with those of combinations of the same kind in their place."""
    return [each for part in parts for each in (part.value if part.op == op else [part])]


def are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) for part in value)


# Asking


def candidates(op: FilterOp | None, table: Table) -> range:
    """The positions outside which no row can match, by what is asked of ``_id``."""
    if op is not None and op.op == "$and":
        ranges = [candidates(part, table) for part in op.value]
        return range(max(each.start for each in ranges), min(each.stop for each in ranges))
    if op is None or op.field != ID.id or not isinstance(op.value, int):
        return table.positions()
    low = {"eq": op.value, "gt": op.value + 1, "gte": op.value}.get(op.op)
    high = {"eq": op.value, "lt": op.value - 1, "lte": op.value}.get(op.op)
    return table.positions(low, high)


def predicate(op: FilterOp, table: Table) -> Predicate:
    """Whether the row at a position matches. Raises ValidationError or QueryError if it cannot be asked."""
    if op.op in COMBINATIONS:
        parts = [predicate(part, table) for part in op.value]
        decide = COMBINATIONS[op.op]
        return lambda position: decide(part(position) for part in parts)
    assert op.field is not None, "only combinations are without a field"
    if op.op in COMPARISONS:
        return comparison(op.op, op.field, op.value, table)
    if op.op == "in":
        return membership(op.field, op.value, table)
    described = f"FilterOp(field={op.field!r}, op={op.op!r}, value={op.value!r})"
    raise ValidationError({"filters": [f"Unknown filter operation: {described}"]})


def comparison(op: str, field: str, value: Any, table: Table) -> Predicate:
    type_ = table.columns[field].type
    wanted = literal(type_, value)
    if wanted is None:
        return lambda position: False
    compare, key = COMPARISONS[op], postgres.sort_key(type_, wanted)

    def matches(position: int) -> bool:
        found = table.value(position, field)
        return found is not None and compare(postgres.sort_key(type_, found), key)

    return matches


def membership(field: str, values: list[Any], table: Table) -> Predicate:
    each = [comparison("eq", field, value, table) for value in values]
    return lambda position: any(matches(position) for matches in each)


def literal(type_: str, value: Any) -> Any:
    """CKAN turns whatever a text column is compared with into text, even None and ranges it does not know."""
    return str(value) if type_ == "text" else postgres.literal(type_, value)
