"""The rows of a resource in CKAN's datastore, page by page.

Every row that matches comes once, in the order asked for, or the reading ends
with an error: a unique order is always asked for, the way from page to page
is one on which no row can be lost unnoticed, and what came is counted against
what CKAN counted.
"""

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ckanpackager.errors import CheckpointError, IncompleteError, SourceError
from ckanpackager.job import Job
from ckanpackager.sources import records
from ckanpackager.sources.answers import Result, fields_of, page_of, result_of, total_of
from ckanpackager.sources.base import Field, Page, Position
from ckanpackager.sources.http import Answer, Client, shown
from ckanpackager.sources.paging import (
    IdPaging,
    OffsetPaging,
    PageSize,
    Paging,
    Plan,
    SeenIds,
    TokenPaging,
    kind_of,
    within,
)

_BY_ID = (["_id"], ['"_id"'], ["_id asc"])
# Python's values take many times the room of their text.
_LISTS_BYTES = 3_000_000
_SORT_CLAUSE = re.compile(r"(.+?)( +(asc|desc))?( nulls +(first|last) *)?", re.IGNORECASE)


class Datastore:
    """What ``job`` asks of datastore_search (CKAN 2.9 and newer, and the back ends that `paging` names).

    Making one asks CKAN for the columns and the count, without a row; it raises SourceError with CKAN's own
    words where CKAN refuses, and SourceUnavailableError where it cannot be reached. ``page_size`` is how many
    rows to ask for at first, ``at_once`` how many pages may be under way. ``total`` is the number of rows to
    come, ``rows_read`` and ``bytes_read`` what has come.
    """

    def __init__(self, job: Job, client: Client, page_size: int, at_once: int = 2) -> None:
        assert job.api_url is not None
        self._job = job
        self._client = client
        self._page_size = page_size
        self._at_once = at_once
        self._query = _query(job)
        self._clauses = _clauses(job.sort)
        self._refuse_strange_order()
        self._has_answered = False
        self.rows_read = 0
        self.bytes_read = 0
        # As objects, since CKAN gives no reasons for refusing text (2.9 to 2.12).
        result = self._ask({"limit": 0, **self._first_order()})
        self._has_answered = True
        self._kind = kind_of(result)
        self.fields: tuple[Field, ...] = self._own_fields(result)
        self._name_columns()
        self._matching = self._count(result)
        rest = max(self._matching - job.offset, 0)
        self.total: int = rest if job.limit is None else min(rest, job.limit)
        self._paging: Paging | None = None

    def go_on(self, after: Position, records_format: str) -> None:
        """Have :meth:`pages` yield only what comes after that position of a reading of the same request.

        Up to there CKAN must have as many rows as came, and the same last one: another table in the place of
        the first, with the same columns, is seen by that. Raises CheckpointError where it has not.
        """
        if after.fields != self.fields:
            raise CheckpointError("CKAN has other columns now.")
        if not self._goes_by_id:
            raise CheckpointError("CKAN can no longer be read by ranges of ids.")
        paging = IdPaging(self._job.filters, after.first, after.last, after.total, after.reached)
        last = {"filters": paging.filters_so_far, "sort": ["_id desc"], "limit": 1}
        result = self._ask({**last, "records_format": records_format})
        row = page_of(result, self.fields).records
        same = isinstance(row, bytes) and _sha256(row) == after.last_row
        if not same or total_of(result) != after.rows:
            raise CheckpointError("CKAN no longer has the rows that had come.")
        self._query["sort"] = self._order
        self._paging, self.total, self.rows_read = paging, after.total, after.rows

    def pages(self, records_format: str) -> Iterator[Page]:
        """The rows in their order, in ``records_format`` ("csv", "tsv" or "lists").

        Raises IncompleteError where rows moved while they were read, so that it cannot be known what is
        missing: reading anew may help.
        """
        if self.total == 0:
            return
        is_distinct = "distinct" in self._query
        pages = self._distinct(records_format) if is_distinct else self._all(records_format)
        try:
            for page in pages:
                self.rows_read += page.rows
                yield page
        except IncompleteError as error:
            raise IncompleteError(
                f"{error} {self.rows_read} of {self.total} rows had come from {self._job.api_url} by then."
            ) from error

    def position(self, page: Page) -> Position | None:
        """Where the reading is, ``page`` being the last that came; None where it cannot be gone on with."""
        paging = self._paging
        if not isinstance(paging, IdPaging) or not isinstance(page.records, bytes):
            return None
        counted = (paging.first, paging.last, self.total, paging.reached, self.rows_read)
        return Position(self.fields, *counted, _sha256(records.last(page.records)))

    def prove_complete(self) -> None:
        """Raise IncompleteError unless all the rows that CKAN counted have been read.

        Where pages are ranges of ids, rows that others deleted or changed meanwhile are allowed for: then
        what came must lie between what CKAN counted before and after. In any other order a row that came or
        went before the first page was read would have moved others past the end: there the count must still
        be the same.
        """
        if self.rows_read == self.total:
            self._prove_end()
            return
        if isinstance(self._paging, IdPaging):
            now = total_of(self._ask({"limit": 0, "filters": self._paging.filters}))
            if now != self.total and min(now, self.total) <= self.rows_read <= max(now, self.total):
                return
        api_url = self._job.api_url
        raise IncompleteError(
            f"Only {self.rows_read} of {self.total} rows came from {api_url}."
            if self.rows_read < self.total
            else f"{self.rows_read} rows came from {api_url}, which had counted {self.total}."
        )

    def _prove_end(self) -> None:
        paging = self._paging
        if not isinstance(paging, OffsetPaging) or self._query["sort"] in _BY_ID:
            return
        if paging.stop < self._matching:  # as the visitor limited it
            return
        now = total_of(self._ask({"limit": 0}))
        if now != paging.stop:
            came, there = paging.stop - paging.start, max(now - paging.start, 0)
            raise IncompleteError(
                f"Rows came or went meanwhile: {came} of {there} came from {self._job.api_url}."
            )

    # ------------------------------------------------------------- ways through the rows

    def _all(self, records_format: str) -> Iterator[Page]:
        """Every row that matches."""
        if self._paging is None:
            self._paging = self._way()
        pages = self._read(self._paging, records_format)
        yield from self._once(pages, records_format) if self._may_change_places else pages

    def _once(self, pages: Iterator[Page], records_format: str) -> Iterator[Page]:
        """The pages, as long as no row comes twice: then another did not come, and the count is right."""
        place = [field.id for field in self.fields].index("_id")
        seen = SeenIds()
        for page in pages:
            seen.add(records.integers(page.records, place, records_format))
            yield page

    def _way(self) -> Paging:
        """The way that this kind of CKAN allows."""
        if self._kind.token is not None and self._job.offset == 0:
            return TokenPaging(*self._kind.token, self.total)
        self._query["sort"] = self._order
        if self._goes_by_id:
            return self._by_id()
        identity = records.leading_id if self._begins_with_id else records.whole
        return OffsetPaging(self._job.offset, self.total, identity)

    def _by_id(self) -> Paging:
        """Between the ids of the first and of the last row that are asked for."""
        first = self._id_at(self._job.offset, "_id")
        until_the_end = self._job.offset + self.total >= self._matching
        last = (
            self._id_at(0, "_id desc")
            if until_the_end
            else self._id_at(self._job.offset + self.total - 1, "_id")
        )
        return IdPaging(self._job.filters, first, last, self.total)

    def _id_at(self, offset: int, sort: str) -> int:
        one = {"fields": ["_id"], "sort": [sort], "offset": offset, "limit": 1, "include_total": False}
        try:
            return int(self._ask(one)["records"][0]["_id"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise IncompleteError("Rows came or went while they were read.") from error

    def _distinct(self, records_format: str) -> Iterator[Page]:
        """Rows that differ from the one before, in an order in which equal rows stand together.

        CKAN before 2.12 would compare only the rows of one page, and 2.12 sorts distinct rows neither as
        lists nor by a time.
        """
        del self._query["distinct"]
        sorted_by = set(_columns(self._clauses))
        others = [_quoted(field.id) for field in self.fields if field.id not in sorted_by]
        self._query["sort"] = [*self._clauses, *others]
        everything = total_of(self._ask({"limit": 0}))
        identity = records.compared([field.type for field in self.fields], records_format)
        last, to_skip, to_come = None, self._job.offset, self.total
        self._paging = OffsetPaging(0, everything, identity)
        for page in self._read(self._paging, records_format):
            different = []
            for record in records.split(page.records):
                this = identity(record)
                if this != last:
                    different.append(record)
                last = this
            kept = different[to_skip:][:to_come]
            to_skip = max(to_skip - len(different), 0)
            to_come -= len(kept)
            if kept:
                yield Page(len(kept), b"".join(kept) if isinstance(page.records, bytes) else kept)

    # ------------------------------------------------------------- asking

    def _read(self, paging: Paging, records_format: str) -> Iterator[Page]:
        """The pages of ``paging``, several of them under way at once."""
        extra: Result = {}
        if self._kind.has_formats:
            extra = {"include_total": False, "records_format": records_format}
        is_text = records_format != "lists"
        size = PageSize(self._page_size, paging.page_bytes if is_text else _LISTS_BYTES)
        waiting: deque[tuple[Plan, Future[Answer]]] = deque()
        threads = ThreadPoolExecutor(self._at_once, "page")

        def send(plan: Plan) -> tuple[Plan, Future[Answer]]:
            return plan, threads.submit(self._send, {**extra, **plan.parameters})

        def send_ahead() -> None:
            while len(waiting) < self._at_once and (plan := paging.plan(size.rows)) is not None:
                waiting.append(send(plan))

        try:
            while True:
                send_ahead()
                if not waiting:
                    return
                plan, future = waiting.popleft()
                answer = future.result()
                send_ahead()  # CKAN works on what comes next while this page is taken apart and packed
                result = self._result(answer, exact=records_format == "lists")
                accepted = paging.accept(plan, page_of(result, self.fields), result)
                if 2 * accepted.page.rows >= plan.limit:  # the short rest of a range says little
                    size.learn(accepted.page.rows, len(answer.body), answer.seconds)
                if accepted.void:
                    waiting.clear()
                if accepted.rest is not None:
                    waiting.appendleft(send(accepted.rest))
                send_ahead()
                page = accepted.page
                # While the page is being packed, nothing else of it stays in memory.
                del future, answer, result, accepted
                if page.rows:
                    yield page
                del page
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, parameters: Result) -> Result:
        return self._result(self._send(parameters))

    def _send(self, parameters: Result) -> Answer:
        query = {**self._query, **parameters}
        return self._client.ask(self._job.source_url, query, key=self._job.key, patient=self._has_answered)

    def _result(self, answer: Answer, exact: bool = False) -> Result:
        if answer.location is not None:
            raise SourceError(f"api_url redirects to {shown(answer.location)}: post that address instead.")
        self.bytes_read += len(answer.body)
        return result_of(self._job.source_url, answer.status, answer.body, exact=exact)

    def _own_fields(self, result: Result) -> tuple[Field, ...]:
        """The columns without the ranks that CKAN adds, under names that a column may have too."""
        job = self._job
        if job.q is None:
            return fields_of(result)
        ranks = {f"rank {column}" for column in job.q} if isinstance(job.q, dict) else {"rank"}
        if job.fields is not None:
            fields = tuple(field for field in fields_of(result) if field.id in job.fields)
        else:
            with_ranks, self._query = self._query, {"resource_id": job.resource_id}
            fields = fields_of(self._ask({"limit": 0}))
            self._query = with_ranks
        if taken := sorted(ranks & {field.id for field in fields}):
            raise SourceError(
                f"With q, CKAN puts its own rank into the column {taken[0]}: "
                "ask for the rows without q, or for fields without that column."
            )
        return fields

    def _count(self, result: Result) -> int:
        """How many rows match, of those that are there by now, if CKAN can be told to leave newer ones out.

        By ranges of ids they are left out in any case. To an offset, each row that comes meanwhile would push
        others out; and it relies on the count, which CKAN 2.12 may remember from earlier for a whole table,
        but makes anew for a part.
        """
        if not self._kind.has_ranges or self._goes_by_id:
            return total_of(result)
        newest = self._ask({"fields": ["_id"], "sort": ["_id desc"], "limit": 1})["records"]
        if not newest:
            return 0
        self._query["filters"] = within(self._job.filters, {"lte": newest[0]["_id"]})
        return total_of(self._ask({"limit": 0, **self._first_order()}))

    def _refuse_strange_order(self) -> None:
        job = self._job
        if not job.distinct or job.fields is None or "_id" in job.fields:
            return
        if others := sorted(set(_columns(self._clauses)) - set(job.fields)):
            raise SourceError(f"Distinct rows can be sorted by their own columns only; {others[0]} is none.")

    def _name_columns(self) -> None:
        """Have every page bring these columns and no others."""
        if self._job.q is not None and self._job.fields is None:
            # CKAN would add its rank to them.
            self._query["fields"] = [field.id for field in self.fields]
        if self._has_id:
            # With its id every row is another; and CKAN before 2.12 would not keep their order.
            self._query.pop("distinct", None)

    @property
    def _order(self) -> list[str]:
        return [*self._clauses, *self._ties()]

    @property
    def _goes_by_id(self) -> bool:
        return self._kind.has_ranges and self._order in _BY_ID and "distinct" not in self._query

    @property
    def _has_id(self) -> bool:
        return any(field.id == "_id" for field in self.fields)

    @property
    def _may_change_places(self) -> bool:
        """Could a row that changes meanwhile come twice, and be seen to? Not in the order of ids."""
        return (
            isinstance(self._paging, OffsetPaging)
            and self._kind.token is None
            and self._has_id
            and self._query["sort"] not in _BY_ID
        )

    @property
    def _begins_with_id(self) -> bool:
        return bool(self.fields) and self.fields[0].id == "_id"

    def _ties(self) -> list[str]:
        """What to sort by after what was asked for, so that no two rows may change places between pages."""
        return [] if "_id" in _columns(self._clauses) else ["_id"]

    def _first_order(self) -> Result:
        """An order for the first question, where CKAN's own is refused: a rank is none of its fields."""
        job = self._job
        if self._clauses:
            return {"sort": self._clauses}
        if job.distinct and job.q is not None:
            return {"sort": [_quoted(job.fields[0]) if job.fields else "_id"]}
        return {}


def _query(job: Job) -> Result:
    """What every request to CKAN has in common."""
    query: Result = {"resource_id": job.resource_id}
    for name in ("filters", "q", "plain", "language"):
        value = getattr(job, name)
        if value is not None:
            query[name] = value
    if job.distinct:
        query["distinct"] = True
    if job.fields is not None:
        query["fields"] = list(job.fields)
    return query


def _clauses(sort: str | None) -> list[str]:
    """The clauses of a sort, divided as CKAN divides them."""
    return [clause.strip() for clause in (sort or "").split(",") if clause.strip()]


def _columns(clauses: list[str]) -> list[str]:
    """The columns that clauses sort by, as CKAN reads them (datastore/backend/postgres.py, 2.9 to 2.12)."""
    matches = [(clause, _SORT_CLAUSE.fullmatch(clause)) for clause in clauses]
    names = [match[1] if match else clause for clause, match in matches]
    return [name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name for name in names]


def _sha256(record: bytes) -> str:
    return hashlib.sha256(record).hexdigest()


def _quoted(name: str) -> str:
    return f'"{name}"'
