"""How to come from one page to the next: one strategy for each kind of CKAN.

A strategy plans pages, some of them before the answers to earlier ones are
in, and accepts the answers in their order. It never touches the network.
KINDS is the table of kinds.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from ckanpackager.errors import IncompleteError
from ckanpackager.sources import records
from ckanpackager.sources.base import Page

ROWS_MAX = 32_000  # ckan.datastore.search.rows_max, where it is not set otherwise

Parameters = dict[str, Any]

# Where a range is empty, the next one is so many times as wide.
_SPARSER = 4


@dataclasses.dataclass(frozen=True)
class Plan:
    """A page to ask for: what to add to the query, and for how many rows it asks.

    ``bounds`` are the ids, the first one not included, that a page of IdPaging lies between.
    """

    parameters: Parameters
    limit: int
    bounds: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True)
class Accepted:
    """What came of an answer.

    ``rest`` is to be asked for at once, before all other plans, since the page was cut short; with ``void``
    the other plans that are under way no longer fit, and their answers are to be ignored.
    """

    page: Page
    rest: Plan | None = None
    void: bool = False


class Paging(Protocol):
    """A way through the rows of one query; ``page_bytes`` is how large its pages had best be."""

    page_bytes: int

    def plan(self, rows: int) -> Plan | None:
        """The next page, of about so many rows; None where there is none, or none before the next answer."""

    def accept(self, plan: Plan, page: Page, result: Mapping[str, Any]) -> Accepted:
        """Take in the answer to the oldest plan. Raises IncompleteError where rows have moved meanwhile."""


class OffsetPaging:
    """Pages by offset through a unique order: for CKAN before 2.12, and for any order but that of ``_id``.

    ``start`` is the offset of the first row. ``identity`` gives what tells a record from all others. Every
    page but the first begins with the last row of the page before. Where that is another row, rows came or
    went in between, and what has been read may lack some and have others twice.
    """

    # PostgreSQL goes through all that an offset passes over: fewer pages are much less work for it.
    page_bytes = 12_000_000

    def __init__(self, offset: int, total: int, identity: Callable[[Any], Any]) -> None:
        self.start = offset
        self._total = total
        self._identity = identity
        self._planned = 0
        self._accepted = 0
        self._last: Any = None
        self._most = ROWS_MAX

    @property
    def stop(self) -> int:
        """The offset after the last row."""
        return self.start + self._total

    def plan(self, rows: int) -> Plan | None:
        """See Paging."""
        overlap = 1 if self._planned else 0
        limit = min(max(rows, 1) + overlap, self._most, self._total - self._planned + overlap)
        if limit <= overlap:
            return None
        plan = Plan({"offset": self.start + self._planned - overlap, "limit": limit}, limit)
        self._planned += limit - overlap
        return plan

    def accept(self, plan: Plan, page: Page, result: Mapping[str, Any]) -> Accepted:
        """See Paging."""
        is_short = page.rows < plan.limit
        if self._accepted:
            page = self._without_overlap(page)
        self._accepted += page.rows
        if page.rows:
            self._last = self._identity(records.last(page.records))
        if is_short and page.rows:
            # rows_max may be less than we asked for; what comes after begins where this page ended.
            self._most = max(page.rows, 2)
            self._planned = self._accepted
        elif is_short:
            self._planned = self._total
        return Accepted(page, void=is_short)

    def _without_overlap(self, page: Page) -> Page:
        if page.rows == 0 or self._identity(records.first(page.records)) != self._last:
            raise IncompleteError("Rows came or went while they were read.")
        return Page(page.rows - 1, records.without_first(page.records))


class SeenIds:
    """Which ids have come: a bit for each between the least and the greatest, but for large gaps."""

    _BLOCK = 1 << 13  # bytes

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, ids: Iterable[int]) -> None:
        """These come. Raises IncompleteError where one of them has come before."""
        for id_ in ids:
            number, bit = divmod(id_, 8 * self._BLOCK)
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = bytearray(self._BLOCK)
            if block[bit >> 3] >> (bit & 7) & 1:
                raise IncompleteError("Rows changed places while they were read, and one came twice.")
            block[bit >> 3] |= 1 << (bit & 7)


class IdPaging:
    """Pages by ranges of ``_id``: for CKAN 2.12 and newer, in the order of ``_id``.

    ``first`` and ``last`` are the ids of the first and the last row, ``rows`` how many there are; up to the
    id ``reached`` they have been read. Whatever comes and goes meanwhile, a row that was there throughout
    comes once. A range is as wide as the rows are sparse; one that holds more rows than a page continues
    where the page ended.
    """

    # CKAN spends some milliseconds on every page, however short; ours are the megabytes, several times over.
    page_bytes = 9_000_000

    def __init__(self, filters: Any, first: int, last: int, rows: int, reached: int | None = None) -> None:
        self._own_filters = filters
        self.first = first
        self.last = last
        self.reached = first - 1 if reached is None else reached
        self._planned = self.reached
        self._ids_per_row = max((last - first + 1) / max(rows, 1), 1.0)
        self._most = ROWS_MAX

    @property
    def filters(self) -> Any:
        """What all the pages together are filtered by."""
        return self._within(self.first - 1, self.last)

    @property
    def filters_so_far(self) -> Any:
        """What the pages that were accepted are filtered by."""
        return self._within(self.first - 1, self.reached)

    def plan(self, rows: int) -> Plan | None:
        """See Paging."""
        if self._planned >= self.last:
            return None
        start = self._planned
        self._planned = min(start + max(int(rows * self._ids_per_row), 1), self.last)
        return self._range(start, self._planned, max(rows, 1))

    def accept(self, plan: Plan, page: Page, result: Mapping[str, Any]) -> Accepted:
        """See Paging."""
        start, stop = plan.bounds
        limit = min(plan.limit, int(result.get("limit", plan.limit)))
        self._most = min(self._most, limit) if limit < plan.limit else self._most
        self.reached = reached = stop if page.rows < limit else _reached(result)
        seen = (reached - start) / page.rows if page.rows else self._ids_per_row * _SPARSER
        self._ids_per_row = max(min(seen, self._ids_per_row * _SPARSER), 1.0)
        return Accepted(page, rest=self._range(reached, stop, plan.limit) if reached < stop else None)

    def _within(self, start: int, stop: int) -> Any:
        return within(self._own_filters, {"gt": start, "lte": stop})

    def _range(self, start: int, stop: int, rows: int) -> Plan:
        limit = min(rows, self._most)
        parameters = {"filters": self._within(start, stop), "limit": limit, "include_next_page": True}
        return Plan(parameters, limit, bounds=(start, stop))


def within(filters: Any, ids: Mapping[str, int]) -> Any:
    """``filters`` and, besides, a range of ``_id`` (CKAN 2.12 and newer)."""
    return {"$and": [*([filters] if filters else []), {"_id": dict(ids)}]}


class TokenPaging:
    """Pages that each name the next: ``after`` and ``cursor`` of the back ends that are not PostgreSQL."""

    page_bytes = 3_000_000

    def __init__(self, parameter: str, answer: str, start: str | None, total: int) -> None:
        self._parameter = parameter
        self._answer = answer
        self._token: Any = start
        self._total = total
        self._accepted = 0
        self._may_ask = True

    def plan(self, rows: int) -> Plan | None:
        """See Paging."""
        if not self._may_ask or self._accepted >= self._total:
            return None
        self._may_ask = False
        limit = min(rows, self._total - self._accepted)
        token = {} if self._token is None else {self._parameter: self._token}
        return Plan({**token, "limit": limit}, limit)

    def accept(self, plan: Plan, page: Page, result: Mapping[str, Any]) -> Accepted:
        """See Paging."""
        self._accepted += page.rows
        token = result.get(self._answer)
        self._may_ask = page.rows > 0 and token is not None and token != self._token
        self._token = token
        return Accepted(page)


def _reached(result: Mapping[str, Any]) -> int:
    try:
        return int(result["next_page"]["_id"]["gt"])
    except (KeyError, TypeError, ValueError) as error:
        raise IncompleteError("CKAN cut a page short and did not say where the next one begins.") from error


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a CKAN can do, as it shows in its first answer."""

    name: str
    token: tuple[str, str, str | None] | None = None
    has_ranges: bool = False
    has_formats: bool = True


KINDS = {
    "versioned-datastore": Kind("versioned-datastore", token=("after", "after", None), has_formats=False),
    "solr": Kind("solr", token=("cursor", "next_cursor", "*"), has_formats=False),
    "2.12": Kind("2.12", has_ranges=True),
    "2.9": Kind("2.9"),
}


def kind_of(result: Mapping[str, Any]) -> Kind:
    """The kind of CKAN that gave this answer.

    Only the back ends that are not PostgreSQL name themselves; CKAN 2.12 repeats all that it can be asked,
    and ``include_next_page`` is new in it.
    """
    backend = result.get("_backend")
    if isinstance(backend, str) and backend in KINDS:
        return KINDS[backend]
    return KINDS["2.12" if "include_next_page" in result else "2.9"]


class PageSize:
    """How many rows to ask for: as many as take CKAN about two seconds, and ``page_bytes`` at most.

    It begins with PAGE_SIZE. A page that took long, or was large, makes the next ones smaller.
    """

    SECONDS = 2.0

    def __init__(self, rows: int, page_bytes: int) -> None:
        self.rows = rows
        self._page_bytes = page_bytes

    def learn(self, rows: int, size: int, seconds: float) -> None:
        """A page of so many rows and bytes took so long."""
        if rows == 0:
            return
        factor = min(self.SECONDS / max(seconds, 0.001), self._page_bytes / max(size, 1), 2.0)
        self.rows = max(min(int(rows * factor), self.rows * 2, ROWS_MAX), 1)
