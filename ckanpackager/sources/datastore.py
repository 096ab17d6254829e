"""The rows of a resource in CKAN's datastore, page by page.

Every row that matches comes once, in the order asked for, or the reading ends
with an error: a unique order is always asked for, the next page begins where
the rows that came ended, and what came is counted against what CKAN counted.
"""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ckanpackager.errors import IncompleteError, SourceError
from ckanpackager.job import Job
from ckanpackager.sources.base import Field, Page
from ckanpackager.sources.http import Client

_MOST_OF_A_MESSAGE = 1000
_SORT_CLAUSE = re.compile(r"(.+?)( +(asc|desc))?( nulls +(first|last) *)?", re.IGNORECASE)


class Datastore:
    """What ``job`` asks of datastore_search (CKAN 2.9 and newer).

    Making one asks CKAN for the columns and the count, without a row; it raises SourceError with CKAN's own
    words where CKAN refuses, and SourceUnavailableError where it cannot be reached. ``total`` is the number
    of rows to come, ``rows_read`` and ``bytes_read`` what has come.
    """

    def __init__(self, job: Job, client: Client, page_size: int) -> None:
        assert job.api_url is not None
        self._job = job
        self._client = client
        self._page_size = page_size
        self._query = _query(job)
        self.rows_read = 0
        self.bytes_read = 0
        result = self._ask(limit=0, include_total=True)
        self.fields: tuple[Field, ...] = _fields(result, job)
        self.total: int = self._expected(result)

    def pages(self, records_format: str) -> Iterator[Page]:
        """The rows, in pages of at most ``page_size``, in ``records_format`` ("csv", "tsv" or "lists")."""
        if self._job.q is not None and self._job.fields is None:
            # Named, or CKAN would add its rank to the columns.
            self._query["fields"] = [field.id for field in self.fields]
        self._query["sort"] = _unique_order(self._job, self.fields)
        pages = self._distinct(records_format) if self._is_distinct() else self._all(records_format)
        for page in pages:
            self.rows_read += page.rows
            yield page

    def _all(self, records_format: str) -> Iterator[Page]:
        while self.rows_read < self.total:
            rest = self.total - self.rows_read
            page = self._read(self._job.offset + self.rows_read, min(self._page_size, rest), records_format)
            if page.rows == 0:
                return
            yield page

    def _distinct(self, records_format: str) -> Iterator[Page]:
        """Rows that differ from the one before: before 2.12, CKAN compares only the rows of one page.

        In the order that is asked for, equal rows stand together.
        """
        del self._query["distinct"]
        row, last = 0, None
        to_skip = self._job.offset
        while self.rows_read < self.total:
            page = self._read(row, self._page_size, records_format)
            if page.rows == 0:
                return
            row += page.rows
            different = []
            for record in split_records(page.records):
                if record != last:
                    different.append(record)
                last = record
            kept = different[to_skip:][: self.total - self.rows_read]
            to_skip = max(to_skip - len(different), 0)
            if kept:
                yield Page(len(kept), b"".join(kept) if isinstance(page.records, bytes) else kept)

    def _is_distinct(self) -> bool:
        """With its id, every row is different anyway."""
        return self._job.distinct and "_id" not in {field.id for field in self.fields}

    def _read(self, offset: int, limit: int, records_format: str) -> Page:
        result = self._ask(offset=offset, limit=limit, include_total=False, records_format=records_format)
        return _page(result, self.fields)

    def prove_complete(self) -> None:
        """Raise IncompleteError unless as many rows were read as CKAN counted."""
        if self.rows_read != self.total:
            raise IncompleteError(
                f"Only {self.rows_read} of {self.total} rows came from {self._job.api_url}."
                if self.rows_read < self.total
                else f"{self.rows_read} rows came from {self._job.api_url}, which had counted {self.total}."
            )

    def _expected(self, result: Mapping[str, Any]) -> int:
        total = result.get("total")
        if not isinstance(total, int) or total < 0:
            raise SourceError(f"{self._job.api_url} did not say how many rows there are.")
        rest = max(total - self._job.offset, 0)
        return rest if self._job.limit is None else min(rest, self._job.limit)

    def _ask(self, **page: Any) -> dict[str, Any]:
        url, query = self._job.source_url, {**self._query, **page}
        response = self._client.request(
            "POST", url, key=self._job.key, patient=self.rows_read > 0, json=query
        )
        if response.is_redirect:
            raise SourceError(
                f"api_url redirects to {response.headers['Location']}: post that address instead."
            )
        self.bytes_read += len(response.content)
        try:
            answer = orjson.loads(response.content)
        except ValueError as error:
            raise SourceError(
                f"{url} answered {response.status_code} with something that is not JSON: is it CKAN's API?"
            ) from error
        result = answer.get("result") if isinstance(answer, dict) else None
        if response.status_code != 200 or not isinstance(result, dict):
            raise SourceError(f"CKAN refused: {_message(answer)} ({url} answered {response.status_code})")
        return result


def _query(job: Job) -> dict[str, Any]:
    """What every request to CKAN has in common."""
    query: dict[str, Any] = {"resource_id": job.resource_id}
    for name in ("filters", "q", "plain", "language"):
        value = getattr(job, name)
        if value is not None:
            query[name] = value
    if job.distinct:
        query["distinct"] = True
    if job.fields is not None:
        query["fields"] = list(job.fields)
    return query


def _fields(result: Mapping[str, Any], job: Job) -> tuple[Field, ...]:
    try:
        fields = tuple(Field(str(field["id"]), str(field.get("type", "text"))) for field in result["fields"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{job.api_url} did not say which columns there are.") from error
    if job.q is not None and job.fields is None and fields and fields[-1].id == "rank":
        return fields[:-1]
    return fields


def _unique_order(job: Job, fields: tuple[Field, ...]) -> list[str]:
    """The order asked for, and then by what tells any two rows apart.

    CKAN pages by offset through whatever order it is asked for; where rows tie, they may change places
    between two pages, and are lost or come twice.
    """
    clauses = [clause.strip() for clause in (job.sort or "").split(",") if clause.strip()]
    sorted_by = {_sorted_column(clause) for clause in clauses}
    # SELECT DISTINCT can only be ordered by what it selects; and all of that together is unique.
    names = [field.id for field in fields]
    unique = names if job.distinct and "_id" not in names else ["_id"]
    if job.distinct and (others := sorted_by - set(names) - {"_id"}):
        raise SourceError(
            f"Distinct rows can be sorted by their own columns only, and {min(others)} is none."
        )
    return clauses + [f'"{name}"' for name in unique if name not in sorted_by]


def _sorted_column(clause: str) -> str:
    """The column that a clause sorts by, as CKAN reads it (datastore/backend/postgres.py, 2.9 to 2.12)."""
    match = _SORT_CLAUSE.fullmatch(clause)
    name = match[1] if match else clause
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name


def _page(result: Mapping[str, Any], fields: tuple[Field, ...]) -> Page:
    records = result.get("records")
    if isinstance(records, str):
        return Page(count_records(data := records.encode()), data)
    if not isinstance(records, list):
        raise SourceError("CKAN answered a page without records.")
    if records and isinstance(records[0], dict):
        # Back ends that do not know records_format answer with objects.
        records = [[record.get(field.id) for field in fields] for record in records]
    return Page(len(records), records)


def count_records(text: bytes) -> int:
    """How many records there are in CSV or TSV whose every record ends with a newline.

    A newline ends a record where the number of quotes before it is even: inside quotes it is data, and a
    doubled quote does not change that.
    """
    if b'"' not in text:
        return text.count(b"\n")
    return sum(part.count(b"\n") for part in text.split(b'"')[::2])


def split_records(records: bytes | list[Any]) -> list[Any]:
    """The records one by one; of CSV or TSV, each with the newline at its end."""
    if isinstance(records, list):
        return records
    found, pending = [], b""
    for line in io.BytesIO(records):
        pending += line
        if pending.count(b'"') % 2 == 0:
            found.append(pending)
            pending = b""
    return found


def _message(answer: Any) -> str:
    """CKAN's words, without its type names and the statements it shows."""
    error = answer.get("error") if isinstance(answer, dict) else answer
    if isinstance(error, dict):
        if isinstance(error.get("message"), str):
            return str(error["message"])[:_MOST_OF_A_MESSAGE]
        parts = [
            f"{name}: {', '.join(map(str, words)) if isinstance(words, list) else words}"
            for name, words in error.items()
            if name not in ("__type", "info")
        ]
        return "; ".join(parts)[:_MOST_OF_A_MESSAGE]
    return str(error)[:_MOST_OF_A_MESSAGE]
