"""CKAN's ``datastore_search``: which rows of a table answer a query, and the answer's text.

Written after CKAN 2.12.0, 2.11.6 and 2.9.11, with one difference on purpose: where PostgreSQL may return
equal rows in any order, this returns them in an order that changes from page to page, so that a client that
relies on luck is found out.
"""

import dataclasses
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ckanpackager.demo import filters, postgres
from ckanpackager.demo.query import Query, Release, ValidationError
from ckanpackager.demo.table import DELIMITERS, ID, WORD, Column, Ranks, Style, Table

SORT_CLAUSE = re.compile(r"^(.+?)( +(asc|desc))?( nulls +(first|last) *)?$", re.IGNORECASE)
LANGUAGES = (
    "arabic armenian basque catalan danish dutch english finnish french german greek hindi hungarian "
    "indonesian irish italian lithuanian nepali norwegian portuguese romanian russian serbian simple spanish "
    "swedish tamil turkish yiddish"
)
TS_TERM = re.compile(r"(!?)(\w+)(:\*)?")
ONE_WORD = 0.1 / 1.64493406685  # what ts_rank gives for one word of the lowest class

Rank = Callable[[list[str]], float]


class Clause(NamedTuple):
    """One clause of a sort: the column, its direction, and where NULLs go."""

    field: str
    descending: bool
    nulls_first: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """A query made out for one table: ``searches`` are the columns to look in (None: all of them) and how."""

    query: Query
    release: Release
    table: Table
    columns: tuple[Column, ...]
    filterop: filters.FilterOp | None
    matches: filters.Predicate | None
    clauses: tuple[Clause, ...]
    searches: tuple[tuple[str | None, Rank], ...]

    @property
    def style(self) -> Style:
        return Style(self.query.records_format, self.release.has_milliseconds, alone=len(self.columns) == 1)

    @property
    def by_id_alone(self) -> bool:
        return self.clauses[0].field == ID.id if self.clauses else not self.searches


@dataclasses.dataclass(frozen=True)
class Found:
    """A page's rows as positions, how many rows match in all, and the ranks of those found by words."""

    positions: Sequence[int]
    total: int
    ranks: Ranks = dataclasses.field(default_factory=dict)


class Raw(str):
    """JSON already."""

    __slots__ = ()


# Whether it can be asked of this table


def make_plan(query: Query, table: Table, release: Release) -> Plan:
    """Raises ValidationError for what CKAN refuses, QueryError for what PostgreSQL does, or ServerError."""
    given = query.filters
    read = filters.read_filters(given, table) if release.has_ranges else filters.read_values(given)
    ranks = [Column(rank_name(name), "float") for name in query.searched]
    known = table.columns | {column.id: column for column in ranks}
    check_names(query, table, known, read)
    check_single_statement(query, table, release)
    if query.offset is None:
        raise postgres.QueryError('column "none" does not exist')
    if not release.has_ranges:
        read = as_before_ranges(read, table)
    plan = Plan(
        query=query,
        release=release,
        table=table,
        columns=tuple(known[name] for name in query.fields or known),
        filterop=read,
        matches=filters.predicate(read, table) if read else None,
        clauses=tuple(read_clause(clause, table) for clause in query.sort),
        searches=tuple((name, read_words(query, name)) for name in query.searched),
    )
    check_distinct(plan)
    return plan


def rank_name(searched: str | None) -> str:
    return "rank" if searched is None else f"rank {searched}"


def check_names(
    query: Query, table: Table, known: Mapping[str, Column], filterop: filters.FilterOp | None
) -> None:
    """Whatever is named is a column: CKAN's validation, in its order and its words."""
    words = query.q if isinstance(query.q, dict) else {}
    unknown: dict[str, list[Any]] = {
        "__extras": list(query.unknown),
        "fields": [name for name in query.fields or [] if name not in known],
        "filters": [name for name in filterop.fields() if name not in table.columns] if filterop else [],
        "offset": [query.offset] if query.offset is not None and query.offset < 0 else [],
        "q": [name for name in words if name not in table.columns or not isinstance(words[name], str)],
        "sort": [clause for clause in query.sort if sort_field(clause) not in table.columns],
    }
    for name, values in unknown.items():
        if values:
            raise ValidationError({name: [f'invalid value "{values[0]}"']})


def check_single_statement(query: Query, table: Table, release: Release) -> None:
    statement = [*(query.fields or table.columns), *query.sort, json.dumps(query.q)]
    if release.refuses_hash and any("#" in part for part in statement):
        raise ValidationError({"query": ["Query is not a single statement."]})


def as_before_ranges(filterop: filters.FilterOp | None, table: Table) -> filters.FilterOp | None:
    """A list is one value for a column of arrays, and an empty one is no SQL for any other."""
    if filterop is None:
        return None
    parts = filterop.value if filterop.op == "$and" else [filterop]
    return filters.combine("$and", [value_or_list(part, table) for part in parts])


def value_or_list(filterop: filters.FilterOp, table: Table) -> filters.FilterOp:
    if filterop.op == "in" and postgres.is_array(table.columns[str(filterop.field)].type):
        return filterop._replace(op="eq")
    if filterop.op == "in" and not filterop.value:
        raise postgres.QueryError('syntax error at or near ")"')
    return filterop


def check_distinct(plan: Plan) -> None:
    """SELECT DISTINCT compares what it selects and, from 2.12, sorts by nothing else."""
    if not plan.query.distinct:
        return
    as_lists = plan.query.records_format == "lists"
    as_json = as_lists and plan.query.include_total
    if as_json or any(postgres.is_json(column.type) for column in plan.columns):
        raise postgres.QueryError("could not identify an equality operator for type json")
    as_text = plan.query.records_format in DELIMITERS
    selected = {
        column.id for column in plan.columns if not as_lists and not (as_text and column.type == "timestamp")
    }
    sorted_by = [clause.field for clause in plan.clauses] or [rank_name(name) for name, _ in plan.searches]
    if plan.release.has_ranges and not selected.issuperset(sorted_by):
        raise postgres.QueryError("for SELECT DISTINCT, ORDER BY expressions must appear in select list")


def sort_field(clause: str) -> str | None:
    match = SORT_CLAUSE.match(clause)
    if not match:
        return None
    name = match[1]
    return name[1:-1] if name[0] == name[-1] == '"' else name


def read_clause(clause: str, table: Table) -> Clause:
    match, field = SORT_CLAUSE.match(clause), sort_field(clause)
    assert match and field, "the names were checked before"
    if table.columns[field].type == "json":
        raise postgres.QueryError("could not identify an ordering operator for type nested")
    descending = (match[3] or "").lower() == "desc"
    return Clause(field, descending, descending if match[5] is None else match[5].lower() == "first")


def read_words(query: Query, name: str | None) -> Rank:
    """How well some words match: 0 is not at all. Words are compared whole, without PostgreSQL's stemming.

    Where ``plain`` is false, words may be joined by ``&`` and ``|``, negated by ``!`` and cut short by
    ``:*``; parentheses are not understood.
    """
    text = query.q if isinstance(query.q, str) else query.q[str(name)]
    if query.language not in LANGUAGES.split():
        raise postgres.QueryError(f'text search configuration "{query.language}" does not exist')
    if query.plain:
        return all_of([word_rank(word) for word in WORD.findall(text.lower())])
    alternatives = [all_of([read_term(term) for term in part.split("&")]) for part in text.lower().split("|")]
    return lambda words: max(rank(words) for rank in alternatives)


def read_term(text: str) -> Rank:
    match = TS_TERM.fullmatch(text.strip())
    if not match:
        raise postgres.QueryError(f'syntax error in tsquery: "{text}"')
    return word_rank(match[2], prefix=bool(match[3]), negated=bool(match[1]))


def word_rank(wanted: str, *, prefix: bool = False, negated: bool = False) -> Rank:
    def rank(words: list[str]) -> float:
        count = sum(word.startswith(wanted) for word in words) if prefix else words.count(wanted)
        if negated:
            return 0.0 if count else 1e-20
        return sum(ONE_WORD / n**2 for n in range(1, count + 1))

    return rank


def all_of(ranks: list[Rank]) -> Rank:
    def rank(words: list[str]) -> float:
        each = [one(words) for one in ranks]
        return sum(each) / len(each) if each and all(each) else 0.0

    return rank


# Which rows


def find(plan: Plan) -> Found:
    """The page's rows. Equal rows come in an order that depends on the offset."""
    query, start = plan.query, plan.query.offset or 0
    positions: Sequence[int] = filters.candidates(plan.filterop, plan.table)
    if plan.matches and not is_covered(plan.filterop):
        positions = [position for position in positions if plan.matches(position)]
    positions, ranks = search(plan, positions)
    total = len(distinct(plan, positions, ranks)) if query.distinct else len(positions)
    ordered = order(plan, positions, ranks)
    if query.distinct and plan.release.has_ranges:
        ordered = distinct(plan, ordered, ranks)
    page = ordered[start : start + query.limit]
    if query.distinct and not plan.release.has_ranges:
        page = distinct(plan, page, ranks)
        page.sort(key=lambda position: record_key(plan, position, ranks))
    return Found(page, total, {position: ranks[position] for position in page} if ranks else {})


def is_covered(op: filters.FilterOp | None) -> bool:
    """Whether `filters.candidates` is all there is to ask: comparisons of ``_id`` with whole numbers."""
    if op is None or op.op == "$and":
        return all(is_covered(part) for part in op.value) if op else True
    return op.field == ID.id and op.op in filters.COMPARISONS and isinstance(op.value, int)


def search(plan: Plan, positions: Sequence[int]) -> tuple[Sequence[int], Ranks]:
    if not plan.searches:
        return positions, {}
    ranks: dict[int, dict[str, float]] = {}
    for position in positions:
        each = {name: rank(plan.table.words(position, name)) for name, rank in plan.searches}
        if all(each.values()):
            ranks[position] = {rank_name(name): rank / (rank + 1) for name, rank in each.items()}
    return list(ranks), ranks


def order(plan: Plan, positions: Sequence[int], ranks: Ranks) -> Sequence[int]:
    if plan.by_id_alone:
        backwards = bool(plan.clauses) and plan.clauses[0].descending
        return positions[::-1] if backwards else positions
    ordered = list(positions)
    if all(clause.field != ID.id for clause in plan.clauses):
        random.Random(f"{plan.query.resource_id} {plan.query.offset}").shuffle(ordered)  # noqa: S311 - not a secret
    if not plan.clauses:
        ordered.sort(key=lambda position: list(ranks[position].values()), reverse=True)
    for clause in reversed(plan.clauses):
        ordered.sort(key=clause_key(plan.table, clause), reverse=clause.descending)
    return ordered


def clause_key(table: Table, clause: Clause) -> Callable[[int], Any]:
    type_ = table.columns[clause.field].type
    null_is_greater = clause.nulls_first == clause.descending

    def key(position: int) -> Any:
        value = table.value(position, clause.field)
        if value is None:
            return (null_is_greater,)
        return (not null_is_greater, postgres.sort_key(type_, value))

    return key


def distinct(plan: Plan, positions: Iterable[int], ranks: Ranks) -> list[int]:
    """The first of the rows that look alike as selected; unless sorted, not in the order of ``_id``."""
    first: dict[str, int] = {}
    for position in positions:
        first.setdefault(record_key(plan, position, ranks), position)
    if plan.clauses or plan.searches:
        return list(first.values())
    return [first[text] for text in sorted(first)]


def record_key(plan: Plan, position: int, ranks: Ranks) -> str:
    style = Style("csv", plan.release.has_milliseconds)
    return plan.table.records(plan.columns, style, [position], ranks)[0]


# The answer


def render(plan: Plan, found: Found) -> dict[str, Any]:
    """CKAN's ``result``; ``records`` is `Raw` where it is JSON, text where it is csv or tsv."""
    query = plan.query
    result = dict(query.echo)
    if query.fields is not None:
        result["fields"] = [describe(column) for column in plan.columns] if query.fields else []
    if plan.release.has_ranges and plan.filterop:
        result["filterops"] = plan.filterop.to_json()
    result["records"] = records(plan, found)
    if query.fields is None:
        result["fields"] = [describe(column) for column in plan.columns]
    if query.include_total:
        result["total"] = found.total
    next_page = next_filter(plan, found)
    return result | ({"next_page": next_page} if next_page else {})


def describe(column: Column) -> dict[str, Any]:
    described = {"id": column.id, "type": column.type}
    return described | ({"info": column.info} if column.info else {})


def records(plan: Plan, found: Found) -> str:
    if plan.query.records_format == "objects" and not plan.release.has_ranges and "j" in plan.table.columns:
        return json_column(plan, found)
    each = plan.table.records(plan.columns, plan.style, found.positions, found.ranks)
    page = plan.style.page(each)
    return page if plan.query.records_format in DELIMITERS else Raw(page)


def json_column(plan: Plan, found: Found) -> str:
    """Before 2.12 CKAN's SQL calls the row ``j``: a column of that name is all that comes as objects."""
    column = next((column for column in plan.columns if column.id == "j"), None)
    columns = plan.columns if column is None else (column,)
    style = dataclasses.replace(plan.style, records_format="objects" if column is None else "lists")
    each = plan.table.records(columns, style, found.positions, found.ranks)
    return Raw("[" + ",".join(each) + "]" if column else style.page(each))


def next_filter(plan: Plan, found: Found) -> dict[str, Any] | None:
    """Where the next page begins: if asked for, sorted by ``_id`` alone, and this page is not empty."""
    if not (plan.query.include_next_page and plan.by_id_alone and len(plan.clauses) <= 1 and found.positions):
        return None
    ids = [plan.table.ids[position] for position in found.positions]
    descending = bool(plan.clauses) and plan.clauses[0].descending
    return {ID.id: {"lt": min(ids)} if descending else {"gt": max(ids)}}


def to_json(value: Mapping[str, Any]) -> str:
    """A JSON object as CKAN writes it: text escaped to ASCII, but for the records that PostgreSQL wrote."""
    return "{" + ", ".join(f"{json.dumps(name)}: {member_json(each)}" for name, each in value.items()) + "}"


def member_json(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    return to_json(value) if isinstance(value, dict) else json.dumps(value)
