"""Reading CKAN and files: complete, or not at all."""

import csv
import dataclasses
import datetime
import gzip
import io
import itertools
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager.demo.ckan import PENGUINS, penguins
from ckanpackager.demo.files import Redirect
from ckanpackager.demo.listener import Request, Response
from ckanpackager.demo.table import Resource
from ckanpackager.errors import IncompleteError, SourceError, SourceUnavailableError
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.sources import records
from ckanpackager.sources.datastore import Datastore
from ckanpackager.sources.http import Client, accepted_encoding, seconds_to_wait
from ckanpackager.sources.paging import PageSize
from ckanpackager.sources.remote_file import RemoteFile, file_name
from tests.fake_ckan import FakeCkan, Predicate, a_page, a_search, parameters

VERSIONS = ["2.9.11", "2.11.6", "2.12.0"]


@pytest.fixture
def client() -> Iterator[Client]:
    with closing(Client(5, 5, pauses=(0, 0))) as client:
        yield client


@pytest.fixture(params=VERSIONS)
def ckan(request: pytest.FixtureRequest) -> Iterator[FakeCkan]:
    with FakeCkan(version=request.param) as fake:
        yield fake


def job(ckan: FakeCkan, **parameters: Any) -> Job:
    form = {"resource_id": PENGUINS, "email": "a@localhost.example", "api_url": ckan.api_url, **parameters}
    return Job.from_form("package_datastore", Form(form))


def nth_page(number: int) -> Predicate:
    """Whether the request is the n-th of those for more than one row."""
    seen = []

    def look(request: Request) -> bool:
        if a_page(request) and parameters(request).get("limit") != 1:
            seen.append(request)
        return len(seen) >= number

    return look


def read(source: Datastore) -> list[list[str]]:
    text = b"".join(bytes(page.records) for page in source.pages("csv")).decode()
    source.prove_complete()
    return list(csv.reader(io.StringIO(text, newline="")))


def ids(source: Datastore) -> list[int]:
    rows = read(source)
    return [int(row[0]) for row in rows]


@pytest.mark.parametrize("page_size", [1, 7, 100, 343, 344, 345, 32000])
def test_every_row_comes_once_whatever_the_page_size(ckan: FakeCkan, client: Client, page_size: int) -> None:
    source = Datastore(job(ckan), client, page_size)
    assert ids(source) == list(range(1, 345))


@pytest.mark.parametrize(
    "parameters",
    [
        {"sort": "Island"},
        {"sort": "Island desc, Species"},
        {"sort": "Island", "offset": 100, "limit": 200},
        {"q": "Adelie"},
        {"q": "Adelie", "sort": "Island"},
        {"q": "Adelie", "fields": "_id,Island"},
        {"filters": {"Island": ["Biscoe", "Dream"]}},
        {"filters": {"Island": "Biscoe"}, "q": "Gentoo", "sort": "Sex"},
        {"offset": 340},
        {"limit": 17, "offset": 9},
        {"sort": "_id desc"},
        {"fields": ["_id", "Species"], "sort": '"Date Egg" desc'},
    ],
)
def test_every_row_that_matches_comes_once_in_any_order(
    ckan: FakeCkan, client: Client, parameters: dict[str, Any]
) -> None:
    """The fake shuffles what ties, as PostgreSQL may: without a unique order this fails."""
    found = ids(Datastore(job(ckan, **parameters), client, 30))
    unlimited = {name: value for name, value in parameters.items() if name not in ("limit", "offset")}
    everything = ids(Datastore(job(ckan, **unlimited), client, 32000))
    start = parameters.get("offset", 0)
    assert found == everything[start:][: parameters.get("limit")]
    assert len(set(found)) == len(found)


def test_ties_are_in_the_order_of_their_ids(ckan: FakeCkan, client: Client) -> None:
    rows = read(Datastore(job(ckan, sort="Island", fields="_id,Island"), client, 30))
    assert rows == sorted(rows, key=lambda row: (row[1], int(row[0])))


def test_rank_is_no_column_of_the_data(ckan: FakeCkan, client: Client) -> None:
    source = Datastore(job(ckan, q="Adelie"), client, 30)
    assert [field.id for field in source.fields][-1] == "Comments"
    assert {len(row) for row in read(source)} == {len(source.fields)}


def test_distinct_rows_come_once(ckan: FakeCkan, client: Client) -> None:
    everything = read(Datastore(job(ckan, fields="Island,Species"), client, 1000))
    expected = [list(row) for row in sorted({tuple(row) for row in everything})]
    for page_size in (2, 50, 1000):
        assert (
            read(Datastore(job(ckan, distinct=True, fields="Island,Species"), client, page_size)) == expected
        )
    some = job(ckan, distinct=True, fields="Island,Species", offset=1, limit=3)
    assert read(Datastore(some, client, 2)) == expected[1:4]
    backwards = job(ckan, distinct=True, fields="Island,Species", sort="Island desc")
    assert {row[0] for row in read(Datastore(backwards, client, 7))[:2]} == {"Torgersen", "Dream"}
    with pytest.raises(SourceError, match="Sex is none"):
        read(Datastore(job(ckan, distinct=True, fields="Island", sort="Sex"), client, 7))
    found = job(ckan, distinct=True, fields="Island,Species", q="Adelie")
    assert read(Datastore(found, client, 7)) == [row for row in expected if row[1].startswith("Adelie")]
    assert ids(Datastore(job(ckan, distinct=True, q="Gentoo"), client, 50)) == list(range(153, 277))


@pytest.mark.parametrize("records_format", ["csv", "tsv", "lists"])
def test_distinct_values_that_are_equal_however_they_are_written_come_once(
    client: Client, records_format: str
) -> None:
    columns = [("number", "numeric"), ("padded", "bpchar"), ("text", "text")]
    rows = [
        ["1.0", "a", "x"],
        ["1.00", "a  ", "x"],
        ["1", "a", "x"],
        ["2", "a", "x"],
        ["2", "a", "x "],
        ["NaN", "a", 'x\t,"\n'],
        ["NaN", "a", 'x\t,"\n'],
        [None, None, None],
        [None, None, None],
    ]
    with FakeCkan([Resource("equal", columns, rows)]) as ckan:
        asked = job(ckan, resource_id="equal", distinct=True, fields="number,padded,text")
        source = Datastore(asked, client, 2)
        # The fake counts what is written differently as different, so there is no proof here.
        assert sum(page.rows for page in source.pages(records_format)) == 5


def test_a_page_that_is_shorter_than_asked_for_loses_nothing(ckan: FakeCkan, client: Client) -> None:
    ckan.rows_max = 50
    source = Datastore(job(ckan), client, 200)
    assert ids(source) == list(range(1, 345))


def test_column_names_may_hold_anything(client: Client) -> None:
    names = ['with "quotes"', "a, comma", "back\\slash", "ümlaut", "%s", "'single'", "trailing "]
    resource = Resource("odd", [(name, "text") for name in names], [[str(n)] * len(names) for n in range(5)])
    with FakeCkan([resource]) as ckan:
        source = Datastore(job(ckan, resource_id="odd"), client, 2)
        assert [field.id for field in source.fields] == ["_id", *names]
        assert len(read(source)) == 5
        fields = [name for name in names if "," not in name]
        source = Datastore(job(ckan, resource_id="odd", distinct=True, fields=fields), client, 2)
        assert len(read(source)) == 5


def test_nothing_is_nothing_and_has_its_columns(ckan: FakeCkan, client: Client) -> None:
    for nothing in ({"limit": 0}, {"offset": 10_000}, {"filters": {"Island": "Atlantis"}}):
        source = Datastore(job(ckan, **nothing), client, 100)
        assert (source.total, read(source), len(source.fields)) == (0, [], 18)
    assert not ckan.pages


def test_a_lost_row_is_noticed(ckan: FakeCkan, client: Client) -> None:
    ckan.lose_rows(1, when=nth_page(2))
    with pytest.raises(IncompleteError):
        if len(read(Datastore(job(ckan), client, 100))) == 344:
            # By offset, the row that was missing is asked for again where the page ended.
            assert ckan.version != "2.12.0"
            raise IncompleteError
    ckan.behave()
    ckan.lie(350)
    with pytest.raises(IncompleteError, match="Only 344 of 350 rows"):
        read(Datastore(job(ckan), client, 100))


def test_too_many_rows_are_noticed(ckan: FakeCkan, client: Client) -> None:
    ckan.repeat_rows(1, when=nth_page(2))
    with pytest.raises(IncompleteError):
        read(Datastore(job(ckan), client, 100))


def test_rows_that_go_meanwhile_are_noticed_or_allowed_for(ckan: FakeCkan, client: Client) -> None:
    resource = ckan.resources[PENGUINS]
    gone = range(1, 31)
    ckan.meanwhile(lambda: resource.delete(*gone), when=nth_page(2))
    source = Datastore(job(ckan), client, 100, at_once=1)
    if ckan.version == "2.12.0":
        found = ids(source)
        assert set(range(1, 345)) - set(gone) <= set(found)
        assert found == sorted(set(found))
    else:
        with pytest.raises(IncompleteError, match=r"came or went .* \d+ of 344 rows had come from http"):
            read(source)
        assert ids(Datastore(job(ckan), client, 100)) == list(range(31, 345))


def test_rows_that_come_and_go_alike_are_noticed_where_pages_count_rows(
    ckan: FakeCkan, client: Client
) -> None:
    """As many come as go: the count is right, and still rows were passed over."""
    resource = ckan.resources[PENGUINS]
    more = [None] * len(resource.columns[1:] if resource.columns[0].id == "_id" else resource.columns)

    def change() -> None:
        resource.delete(*range(1, 31))
        resource.insert(*[more] * 30)

    ckan.meanwhile(change, when=nth_page(2))
    source = Datastore(job(ckan), client, 100, at_once=1)
    if ckan.version == "2.12.0":
        assert set(range(31, 345)) <= set(ids(source))
    else:
        with pytest.raises(IncompleteError, match="came or went"):
            read(source)


def test_rows_that_come_between_the_count_and_the_first_page_push_no_others_out(
    ckan: FakeCkan, client: Client
) -> None:
    resource = ckan.resources[PENGUINS]
    more = [None] * len(resource.columns[1:] if resource.columns[0].id == "_id" else resource.columns)
    ckan.meanwhile(lambda: resource.insert(*[more] * 30), when=nth_page(1))
    asked = job(ckan, sort="Island desc")
    if ckan.version == "2.12.0":
        assert sorted(ids(Datastore(asked, client, 1000))) == list(range(1, 345))
    else:
        with pytest.raises(IncompleteError, match="344 of 374 came"):
            read(Datastore(asked, client, 1000))
    assert len(read(Datastore(asked, client, 1000))) == 374
    some = Datastore(job(ckan, sort="Island desc", limit=40), client, 1000)
    assert len(read(some)) == 40


@pytest.mark.parametrize("fields", ["_id,Sample Number", "Comments,Sample Number,_id"])
@pytest.mark.parametrize("records_format", ["csv", "tsv", "lists"])
def test_two_rows_that_change_places_are_noticed_where_there_are_ids(
    ckan: FakeCkan, client: Client, fields: str, records_format: str
) -> None:
    """One comes twice and the other not at all: the count is right, and so is every page's first row."""
    resource = ckan.resources[PENGUINS]
    asked = job(ckan, sort="Sample Number", fields=fields)
    place = fields.split(",").index("_id")
    order = [int(row[place]) for row in read(Datastore(asked, client, 1000))]
    early, late = order[40], order[320]
    numbers = {id_: resource.table.value(id_ - 1, "Sample Number") for id_ in (early, late)}
    assert numbers[early] < numbers[late]

    def change_places() -> None:
        resource.update(early, {"Sample Number": numbers[late]})
        resource.update(late, {"Sample Number": numbers[early]})

    ckan.meanwhile(change_places, when=nth_page(2))
    with pytest.raises(IncompleteError, match="one came twice"):
        list(Datastore(asked, client, 100, at_once=1).pages(records_format))
    assert len(read(Datastore(asked, client, 100))) == 344


def test_distinct_rows_are_not_pushed_out_either(ckan: FakeCkan, client: Client) -> None:
    resource = ckan.resources[PENGUINS]
    asked = job(ckan, distinct=True, fields="Individual ID,Clutch Completion", sort="Individual ID desc")
    total = Datastore(asked, client, 1000).total
    more = [None] * len(resource.columns[1:] if resource.columns[0].id == "_id" else resource.columns)
    source = Datastore(asked, client, 1000)
    ckan.meanwhile(lambda: resource.insert(more), when=nth_page(1))
    if ckan.version == "2.12.0":
        assert len(read(source)) == total
    else:
        with pytest.raises(IncompleteError):
            read(source)
    again = Datastore(asked, client, 1000)
    assert (len(read(again)), again.total) == (total + 1, total + 1)


@pytest.mark.parametrize(
    "parameters",
    [
        {"sort": "Island desc"},
        {"sort": "Species, _id desc"},
        {"filters": {"Island": "Biscoe"}, "sort": "Sex"},
        {"filters": {"_id": {"gt": 7}}, "q": "Adelie", "sort": "Comments"},
        {"distinct": True, "fields": "Individual ID"},
        {"distinct": True, "fields": "Individual ID", "q": "Adelie"},
        {"sort": "Island", "offset": 20, "limit": 400},
    ],
    ids=str,
)
def test_a_table_that_never_stops_growing_can_be_read_in_any_order(
    client: Client, parameters: dict[str, Any]
) -> None:
    """From the newest CKANs: what comes after the beginning is left out."""
    with FakeCkan() as ckan:
        asked = job(ckan, **parameters)
        expected = read(Datastore(asked, client, 1000))
        resource = ckan.resources[PENGUINS]
        names = [column.id for column in resource.columns]
        rows = [[resource.table.value(position, name) for name in names] for position in (0, 200)]
        for row in rows:
            row[names.index("Individual ID")] = "N0"
        ckan.meanwhile(lambda: resource.insert(*rows), when=a_page, times=None)
        assert read(Datastore(asked, client, 30)) == expected
        assert len(resource.table) >= 344 + 3 * len(rows)


def test_rows_that_come_meanwhile_belong_to_the_next_package(ckan: FakeCkan, client: Client) -> None:
    resource = ckan.resources[PENGUINS]
    more = [None] * len(resource.columns)
    ckan.meanwhile(lambda: resource.insert(more, more), when=nth_page(1))
    assert ids(Datastore(job(ckan), client, 100)) == list(range(1, 345))


def test_rows_that_change_meanwhile_come_once(ckan: FakeCkan, client: Client) -> None:
    resource = ckan.resources[PENGUINS]
    ckan.meanwhile(
        lambda: [resource.update(n, {"Comments": "changed"}) for n in range(90, 110)], when=nth_page(1)
    )
    assert ids(Datastore(job(ckan), client, 100)) == list(range(1, 345))


@pytest.mark.parametrize(
    "filters",
    [{}, {"_id": list(range(5, 400, 7))}, {"Island": "Biscoe"}, {"_id": [1, 2, 300], "Island": "Torgersen"}],
)
@pytest.mark.parametrize("page_size", [1, 10, 1000])
def test_gaps_between_ids_lose_nothing(
    ckan: FakeCkan, client: Client, filters: dict[str, Any], page_size: int
) -> None:
    resource = ckan.resources[PENGUINS]
    resource.delete(*range(1, 50), *range(100, 300), 344)
    resource.insert(*[[None] * len(resource.columns)] * 3)
    found = ids(Datastore(job(ckan, filters=filters), client, page_size))
    everything = {*range(50, 100), *range(300, 344), 345, 346, 347}
    if "_id" in filters:
        everything &= set(filters["_id"])
    if "Island" in filters:
        islands = {
            int(row[0]) for row in read(Datastore(job(ckan, sort="Island", filters=filters), client, 1000))
        }
        assert set(found) == islands
        everything &= islands
    assert found == sorted(everything)


def test_the_visitors_own_range_of_ids_is_kept(client: Client) -> None:
    with FakeCkan(version="2.12.0") as ckan:
        filters = {"_id": {"gt": 10, "lte": 300}, "Island": ["Biscoe", "Dream"]}
        found = ids(Datastore(job(ckan, filters=filters), client, 7))
        expected = ids(Datastore(job(ckan, filters=filters, sort="Island"), client, 1000))
        assert found == sorted(expected)
        assert set(found) <= set(range(11, 301))
        assert len(found) > 100


def test_pages_are_ranges_of_ids_where_ckan_can_and_begin_with_a_known_row_where_not(
    ckan: FakeCkan, client: Client
) -> None:
    read(Datastore(job(ckan), client, 50))
    pages = [page for page in ckan.pages if page["limit"] != 1]
    if ckan.version == "2.12.0":
        assert all("$and" in page["filters"] and not page.get("offset") for page in pages)
    else:
        # The first row of a page is the last one of the page before.
        ends = sorted((page["offset"], page["offset"] + page["limit"]) for page in pages)
        assert all(start == stop - 1 for (start, _), (_, stop) in zip(ends[1:], ends, strict=False))
    assert not any(page.get("include_total", True) for page in pages)


def test_several_pages_are_under_way_and_no_more(ckan: FakeCkan, client: Client) -> None:
    gate = ckan.hold(times=None, when=nth_page(1))
    source = Datastore(job(ckan), client, 5, at_once=3)
    reader = threading.Thread(target=read, args=(source,))
    reader.start()
    gate.reached()
    before = 2 if ckan.version == "2.12.0" else 0  # the first and the last id
    ckan.wait_for(1 + before + 3)
    gate.open()
    ckan.behave()
    reader.join(20)
    assert source.rows_read == 344
    assert ckan.most_at_once == 3


def test_a_page_grows_until_it_takes_long_or_much() -> None:
    size = PageSize(5000, page_bytes=5_000_000)
    size.learn(5000, 500_000, 0.1)
    assert size.rows == 10_000
    size.learn(10_000, 10_000_000, 0.1)
    assert size.rows == 5000
    size.learn(5000, 100_000, 10)
    assert size.rows == 1000
    size.learn(1000, 10**12, 0.1)
    assert size.rows == 1
    for _ in range(30):
        size.learn(size.rows, 10, 0.0)
    assert size.rows == 32_000
    size.learn(0, 0, 100)
    assert size.rows == 32_000


@pytest.mark.parametrize(
    ("backend", "parameter", "answer"),
    [("versioned-datastore", "after", "after"), ("solr", "cursor", "next_cursor")],
)
def test_back_ends_with_a_token_are_read_by_it(
    client: Client, backend: str, parameter: str, answer: str
) -> None:
    """They know neither records_format nor include_total, and refuse what they do not know."""
    with TokenCkan(backend, parameter, answer) as ckan:
        source = Datastore(job(ckan, filters={"Island": "Biscoe"}), client, 50)
        found = [row for page in source.pages("csv") for row in page.records]
        source.prove_complete()
    assert len(found) == source.total == 168
    assert len({row[0] for row in found}) == 168
    pages = [page for page in ckan.asked if page["limit"]]
    asked = [page.get(parameter) for page in pages]
    assert asked[0] == ("*" if backend == "solr" else None)
    assert asked[1:] == [str(n) for n in itertools.accumulate(page["limit"] for page in pages[:-1])]
    assert not any({"records_format", "include_total", "sort", "offset"} & set(page) for page in ckan.asked)


class TokenCkan(FakeCkan):
    """A CKAN whose datastore is not PostgreSQL: a page names the next one by a token."""

    def __init__(self, backend: str, parameter: str, answer: str) -> None:
        super().__init__(version="2.9.11")
        self.backend, self.parameter, self.token_name = backend, parameter, answer
        self.asked: list[dict[str, Any]] = []

    def answer(self, request: Request) -> Response:
        self.asked.append(parameters(request))
        asked = dict(self.asked[-1])
        start = int((asked.pop(self.parameter, None) or "0").replace("*", "0"))
        body = json.dumps({**asked, "offset": start}).encode()
        response = super().answer(dataclasses.replace(request, body=body))
        said = json.loads(bytes(response.body))
        said["result"]["_backend"] = self.backend
        said["result"][self.token_name] = str(start + len(said["result"]["records"]))
        return dataclasses.replace(response, body=json.dumps(said).encode())


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 500])
def test_trouble_that_passes_is_waited_for(ckan: FakeCkan, client: Client, status: int) -> None:
    ckan.status(status, times=2, when=nth_page(2))
    assert len(read(Datastore(job(ckan), client, 100))) == 344


def test_a_fault_of_ckan_that_is_told_as_json_is_waited_for_too(ckan: FakeCkan, client: Client) -> None:
    """So CKAN answers when PostgreSQL crashes under a query."""
    said = b'{"success": false, "error": {"__type": "Internal Server Error", "message": "Internal Server Error"}}'
    headers = {"Content-Type": "application/json"}
    ckan.fault(lambda request: Response(500, said, headers), times=2, when=nth_page(2))
    assert len(read(Datastore(job(ckan), client, 100))) == 344


@pytest.mark.parametrize(
    "words",
    [
        "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally",
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
        "(psycopg2.OperationalError) the database system is starting up",
    ],
)
def test_a_database_that_was_cut_off_is_waited_for_although_ckan_calls_it_an_invalid_query(
    ckan: FakeCkan, client: Client, words: str
) -> None:
    info = {"statement": ["SELECT"], "params": [{}], "orig": [words]}
    error = {"query": ["Invalid query"], "info": info, "__type": "Validation Error"}
    said = json.dumps({"success": False, "error": error}).encode()
    headers = {"Content-Type": "application/json"}
    ckan.fault(lambda request: Response(409, said, headers), times=2, when=nth_page(2))
    assert len(read(Datastore(job(ckan), client, 100))) == 344


def test_a_connection_lost_in_mid_page_loses_no_row(ckan: FakeCkan, client: Client) -> None:
    ckan.hang_up(when=nth_page(2))
    ckan.hang_up(after=500, when=nth_page(3))
    assert ids(Datastore(job(ckan), client, 100)) == list(range(1, 345))


@pytest.mark.parametrize("status", [503, 500])
def test_trouble_that_stays_says_that_it_may_pass(ckan: FakeCkan, client: Client, status: int) -> None:
    ckan.status(status, times=None, when=nth_page(2))
    with pytest.raises(SourceUnavailableError, match=f"answered {status}"):
        read(Datastore(job(ckan), client, 100, at_once=1))
    later = [page for page in ckan.pages if page["limit"] != 1][1:]
    assert len([page for page in later if page == later[0]]) == 3


def test_a_worker_does_not_wait_before_it_has_read_anything(ckan: FakeCkan, client: Client) -> None:
    ckan.status(503)
    with pytest.raises(SourceUnavailableError):
        Datastore(job(ckan), client, 100)
    assert len(ckan.requests) == 1


@pytest.mark.parametrize(("asked_for", "shortest", "longest"), [(7, 7, 7), (60, 60, 60), ("soon", 0.5, 0.5)])
def test_a_server_is_given_the_time_that_it_asks_for(
    ckan: FakeCkan, asked_for: int | str, shortest: float, longest: float
) -> None:
    waits: list[float] = []
    ckan.status(429, retry_after=asked_for, when=nth_page(2))
    with closing(Client(5, 5, pauses=(0.5,), sleep=waits.append)) as client:
        assert len(read(Datastore(job(ckan), client, 100))) == 344
    assert shortest <= waits[0] <= longest


def test_who_is_told_to_stay_away_for_long_waits_elsewhere(ckan: FakeCkan) -> None:
    waits: list[float] = []
    ckan.status(503, retry_after=61, when=nth_page(2))
    with (
        closing(Client(5, 5, pauses=(0.5,), sleep=waits.append)) as client,
        pytest.raises(SourceUnavailableError) as refused,
    ):
        read(Datastore(job(ckan), client, 100))
    assert refused.value.retry_after == 61
    assert waits == []


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("", 0),
        ("0", 0),
        (" 120 ", 120),
        ("Tue, 24 Nov 2026 17:00:30 GMT", 30),
        ("Tuesday, 24-Nov-26 17:00:30 GMT", 30),
        ("Tue Nov 24 17:00:30 2026", 30),
        ("Tue, 24 Nov 2026 16:00:00 GMT", 0),
        ("-5", 0),
        ("1.5", 0),
        ("\u0661", 0),
        ("Tue, 99 Nov 2026 17:00:30 GMT", 0),
        ("Tue, 24 Nov 99999999999999999999 17:00:30 GMT", 0),
    ],
)
def test_a_time_to_wait_is_seconds_or_a_date(retry_after: str, seconds: float) -> None:
    now = datetime.datetime(2026, 11, 24, 17, 0, 0, tzinfo=datetime.UTC).timestamp()
    assert seconds_to_wait(retry_after, now) == seconds


@given(st.text(), st.floats(0, 4e9))
def test_no_retry_after_is_too_strange(retry_after: str, now: float) -> None:
    assert seconds_to_wait(retry_after, now) >= 0


def test_a_neighbour_is_not_made_to_compress(ckan: FakeCkan, client: Client) -> None:
    read(Datastore(job(ckan), client, 100))
    url = ckan.upload("numbers.csv", b"1,2")
    fetch(remote(ckan, client, url))
    assert {request.headers["Accept-Encoding"] for request in ckan.requests} == {"identity"}


@pytest.mark.parametrize(
    ("addresses", "encoding"),
    [
        (["93.184.215.14"], "gzip"),
        (["2606:2800:21f:cb07:6820:80da:af6b:8b2c"], "gzip"),
        (["93.184.215.14", "10.0.0.7"], "identity"),
        (["192.168.1.2"], "identity"),
        (["fe80::1%lo"], "identity"),
        (["::1"], "identity"),
        ([], "identity"),
    ],
)
def test_only_what_comes_a_long_way_is_asked_for_compressed(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], encoding: str
) -> None:
    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

    # No address of the wide world can be reached from a test.
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    accepted_encoding.cache_clear()
    assert accepted_encoding("ckan.example") == encoding
    accepted_encoding.cache_clear()


def test_pages_that_come_compressed_are_the_same_rows(ckan: FakeCkan, client: Client) -> None:
    class Compressing(FakeCkan):
        def answer(self, request: Request) -> Response:
            plain = super().answer(request)
            assert isinstance(plain.body, bytes)
            headers = {**plain.headers, "Content-Encoding": "gzip"}
            return dataclasses.replace(plain, body=gzip.compress(plain.body), headers=headers)

    with Compressing(version=ckan.version) as compressing:
        source = Datastore(job(compressing), client, 100)
        assert read(source) == read(Datastore(job(ckan), client, 100))
        assert source.bytes_read > 344 * 100


def test_a_server_that_is_gone_says_so(client: Client) -> None:
    with FakeCkan() as ckan:
        asked = job(ckan)
    with pytest.raises(SourceUnavailableError, match="lost or refused: .*Connection refused"):
        Datastore(asked, client, 100)


def test_a_server_that_says_nothing_is_given_up(ckan: FakeCkan) -> None:
    ckan.hold(times=None)
    with (
        closing(Client(5, 0.05, pauses=())) as client,
        pytest.raises(SourceUnavailableError, match="did not answer in time"),
    ):
        Datastore(job(ckan), client, 100)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"resource_id": "nope"}, 'Resource "nope" was not found'),
        ({"filters": {"nofield": "x"}}, "nofield"),
        ({"sort": "nofield"}, "nofield"),
        ({"fields": "nofield"}, "nofield"),
    ],
)
def test_the_words_of_ckan_are_passed_on(
    ckan: FakeCkan, client: Client, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(SourceError, match=words) as refused:
        read(Datastore(job(ckan, **parameters), client, 100))
    assert not isinstance(refused.value, SourceUnavailableError)
    assert len(ckan.requests) <= 2  # an answer is not asked for twice


def test_the_statements_of_ckan_are_not_shown(ckan: FakeCkan, client: Client) -> None:
    with pytest.raises(SourceError) as refused:
        read(Datastore(job(ckan, filters={"Body Mass (g)": "heavy"}), client, 100))
    assert "Invalid query" in str(refused.value)
    assert "SELECT" not in str(refused.value)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"success": true, "result": {}}', b'"Bad request"', b"\xff\xfe"]
)
def test_an_answer_that_is_not_ckans_is_refused(ckan: FakeCkan, client: Client, body: bytes) -> None:
    ckan.nonsense(body)
    with pytest.raises(SourceError):
        Datastore(job(ckan), client, 100)
    source = Datastore(job(ckan), client, 100)
    ckan.nonsense(body, when=a_page)
    with pytest.raises(SourceError):
        read(source)


def test_a_private_resource_needs_its_key(client: Client) -> None:
    resource = penguins("private")
    resource.private = True
    with FakeCkan([resource], token="the-token") as ckan:
        with pytest.raises(SourceError, match="403"):
            Datastore(job(ckan, resource_id="private"), client, 100)
        assert len(read(Datastore(job(ckan, resource_id="private", key="the-token"), client, 100))) == 344


def test_typed_rows_are_the_rows_of_the_csv(ckan: FakeCkan, client: Client) -> None:
    source = Datastore(job(ckan), client, 100)
    lists = [row for page in source.pages("lists") for row in page.records]
    source.prove_complete()
    text = read(Datastore(job(ckan), client, 100))
    assert [row[0] for row in lists] == [int(row[0]) for row in text]
    assert [row[1] for row in lists] == [row[1] for row in text]


def test_a_log_in_of_the_packagers_user_is_never_sent(
    ckan: FakeCkan, client: Client, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {ckan.host} login root password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    Datastore(job(ckan), client, 100)
    Datastore(job(ckan, key="token"), client, 100)
    assert [request.headers.get("Authorization") for request in ckan.requests] == [None, "token"]


# Without carriage returns, which PostgreSQL quotes and Python's writer leaves bare.
CELLS = st.lists(st.lists(st.text("ab\"'\n, \té"), min_size=1, max_size=3), max_size=8)


@given(CELLS)
def test_records_are_split_as_a_csv_reader_splits_them(rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    found = list(records.split(text.getvalue().encode()))
    assert [next(csv.reader(io.StringIO(record.decode(), newline=""))) for record in found] == rows
    if found:
        page = b"".join(found)
        assert (records.first(page), records.last(page)) == (found[0], found[-1])


def test_a_cell_of_very_many_lines_takes_the_time_of_its_bytes() -> None:
    cell = b'1,"%b"\n' % (b"a line\n" * 300_000)
    begin = time.process_time()
    assert records.last(b"0,x\n" + cell) == records.first(cell + b"2,x\n") == cell
    assert list(records.split(cell + cell)) == [cell, cell]
    assert time.process_time() - begin < 10  # and minutes if every line looks at all others


@given(CELLS, st.integers(0, 2), st.sampled_from(["csv", "tsv"]))
def test_a_column_of_numbers_is_read_as_a_csv_reader_reads_it(
    rows: list[list[str]], place: int, records_format: str
) -> None:
    numbered = [
        [*row[:place], *[""] * (place - len(row)), str(n), *row[place:]] for n, row in enumerate(rows)
    ]
    text = io.StringIO(newline="")
    delimiter = "\t" if records_format == "tsv" else ","
    csv.writer(text, lineterminator="\n", delimiter=delimiter).writerows(numbered)
    found = records.integers(text.getvalue().encode(), place, records_format)
    assert list(found) == list(range(len(rows)))


@given(CELLS, st.integers(1, 5))
def test_records_are_counted_as_a_csv_reader_counts_them(rows: list[list[str]], piece: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(records, "_PIECE", piece)
        assert records.count(text.getvalue().encode()) == len(rows)


# ------------------------------------------------------------- files


def remote(
    ckan: FakeCkan, client: Client, url: str, hosts: list[str] | None = None, **more: Any
) -> RemoteFile:
    form = {"resource_id": "r", "email": "a@localhost.example", "resource_url": url, **more}
    hosts = [f"{ckan.host}:{ckan.port}"] if hosts is None else hosts
    return RemoteFile(Job.from_form("package_url", Form(form)), client, hosts)


def redirect(ckan: FakeCkan, location: str) -> str:
    ckan.files["/moved"] = Redirect(location)
    return f"{ckan.url}/moved"


def fetch(file: RemoteFile) -> bytes:
    data = b"".join(file.chunks())
    file.prove_complete()
    return data


@pytest.mark.parametrize("sized", [True, False])
def test_a_file_comes_as_it_is(ckan: FakeCkan, client: Client, sized: bool) -> None:
    content = bytes(range(256)) * 10_000
    file = remote(ckan, client, ckan.upload("numbers.csv", content, sized=sized))
    assert file.size == (len(content) if sized else None)
    assert fetch(file) == content
    assert file.name == "numbers.csv"


def test_an_empty_file_is_a_file(ckan: FakeCkan, client: Client) -> None:
    assert fetch(remote(ckan, client, ckan.upload("empty.txt", b""))) == b""


@pytest.mark.parametrize("sized", [True, False])
def test_a_file_cut_short_is_never_taken_for_whole(ckan: FakeCkan, client: Client, sized: bool) -> None:
    url = ckan.upload("numbers.csv", b"x" * 100_000, sized=sized)
    ckan.hang_up(after=50_000)
    file = remote(ckan, client, url)
    with pytest.raises((SourceUnavailableError, IncompleteError)):
        fetch(file)


def test_a_file_that_is_not_to_be_had_says_why(ckan: FakeCkan, client: Client) -> None:
    with pytest.raises(SourceError, match="answered 404"):
        remote(ckan, client, ckan.url + "/nothing")
    private = ckan.upload("private.csv", b"x", private=True)
    with pytest.raises(SourceError, match="answered 403 Forbidden.$"):
        remote(ckan, client, private)
    with pytest.raises(SourceError, match="The key was not sent, since .* is not one of the CKAN_HOSTS"):
        remote(ckan, client, private, hosts=[], key="the-token")


@pytest.mark.parametrize("status", [403, 503])
def test_what_lets_one_in_by_the_address_is_told_to_nobody(
    ckan: FakeCkan, client: Client, status: int
) -> None:
    """A CKAN may send us on to a store of files by an address that is signed."""
    signed = f"{ckan.url}/signed?signature=a-secret"
    ckan.status(status, when=lambda request: "signed" in request.path)
    with pytest.raises(SourceError, match=rf"/signed\?\.\.\. answered {status}") as refused:
        remote(ckan, client, redirect(ckan, signed))
    assert "a-secret" not in str(refused.value)
    ckan.close()
    with pytest.raises(SourceUnavailableError, match="refused") as gone:
        remote(ckan, client, signed)
    assert "a-secret" not in str(gone.value)


def test_the_key_goes_to_its_own_ckan(ckan: FakeCkan, client: Client) -> None:
    ckan.token = "the-token"
    url = ckan.upload("private.csv", b"secret data", private=True)
    assert fetch(remote(ckan, client, url, key="the-token")) == b"secret data"
    assert fetch(remote(ckan, client, url, hosts=[ckan.host], key="the-token")) == b"secret data"


def test_the_key_goes_nowhere_else(ckan: FakeCkan, client: Client) -> None:
    with FakeCkan() as other:
        there = other.upload("elsewhere.csv", b"data")
        assert fetch(remote(ckan, client, there, key="the-token")) == b"data"
        url = redirect(ckan, there)
        assert fetch(remote(ckan, client, url, key="the-token")) == b"data"
        assert [request.headers.get("Authorization") for request in other.requests] == [None, None]
    assert [request.headers.get("Authorization") for request in ckan.requests] == ["the-token"]


def test_the_key_does_not_go_from_https_to_http(
    ckan: FakeCkan, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = ckan.upload("private.csv", b"data")
    received = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(self.headers.get("Authorization"))
            self.send_response(302)
            self.send_header("Location", url)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        safe = f"https://127.0.0.1:{server.server_port}/private.csv"
        assert fetch(remote(ckan, client, safe, key="the-token", hosts=["127.0.0.1"])) == b"data"
        thread.join()
    assert received == ["the-token"]
    assert [request.headers.get("Authorization") for request in ckan.requests] == [None]


@pytest.mark.parametrize(
    "address", ["http://[bad", "http://a..b/", "http://\u00e9/", "http://:x/", "ftp://a/"]
)
def test_an_address_that_leads_nowhere_is_said(ckan: FakeCkan, client: Client, address: str) -> None:
    with pytest.raises(SourceError):
        remote(ckan, client, redirect(ckan, address))


def test_a_host_that_cannot_be_one_is_said(ckan: FakeCkan, client: Client) -> None:
    with pytest.raises(SourceError, match="could not be asked"):
        Datastore(job(ckan, api_url="http://a..b/api/3/action/datastore_search"), client, 100)


def test_redirects_end(ckan: FakeCkan, client: Client) -> None:
    url = redirect(ckan, "/moved")
    with pytest.raises(SourceError, match="redirects more than 5 times"):
        remote(ckan, client, url)
    assert len(ckan.requests) == 6
    with pytest.raises(SourceError, match="no web address"):
        remote(ckan, client, redirect(ckan, "file:///etc/passwd"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/numbers.csv?x=/y", "numbers.csv"),
        ("http://h/a/n%C3%A4me%20x.csv", "näme x.csv"),
        ("http://h/a/", "r"),
        ("http://h", "r"),
        ("http://h/..", "r"),
        ("http://h/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "_.._etc_passwd"),
        ("http://h/..%5c..%5cwindows", "_.._windows"),
        ("http://h/a%00b%0d%0a.csv", "a_b__.csv"),
        ("http://h/con.txt", "_con.txt"),
        ("http://h/" + "x" * 300 + ".csv", "x" * 146 + ".csv"),
        ("http://h/%ff.csv", "\ufffd.csv"),
    ],
)
def test_a_file_takes_a_name_that_is_safe_everywhere(url: str, name: str) -> None:
    assert file_name(url, "r") == name


@given(st.text())
def test_no_name_leads_out_of_a_folder(path: str) -> None:
    name = file_name(f"http://h/{path}", "r")
    assert name
    assert len(name) <= 151
    assert not set(name) & set('/\\:*?"<>|\0\n')
    assert name not in (".", "..")


def test_a_datastore_that_moved_is_named(ckan: FakeCkan, client: Client) -> None:
    url = redirect(ckan, ckan.api_url)
    with pytest.raises(SourceError, match=f"redirects to {ckan.api_url}: post that address"):
        Datastore(job(ckan, api_url=url), client, 100)
    assert a_search(ckan.requests[0]) is False


def test_a_count_that_is_out_of_date_costs_no_row(client: Client) -> None:
    """CKAN 2.12 remembers how many rows a whole table has, and CKAN's visitors ask for as many."""
    with FakeCkan(version="2.12.0") as ckan:
        for remembered in (300, 400):
            ckan.behave()
            ckan.lie(remembered, when=lambda request: "filters" not in parameters(request))
            assert ids(Datastore(job(ckan), client, 100)) == list(range(1, 345))
            by_island = Datastore(job(ckan, sort="Island"), client, 100)
            assert sorted(ids(by_island)) == list(range(1, 345))
        assert ids(Datastore(job(ckan, limit=400), client, 100)) == list(range(1, 345))


@pytest.mark.parametrize("q", ["Adelie", {"Species": "Adelie"}])
def test_no_rank_of_ckans_is_a_column_of_the_data(ckan: FakeCkan, client: Client, q: Any) -> None:
    source = Datastore(job(ckan, q=q), client, 50)
    rows = read(source)
    assert [field.id for field in source.fields] == ["_id", *(column.id for column in penguins().columns)]
    assert {len(row) for row in rows} == {len(source.fields)}
    assert len(rows) == 152


def test_a_column_that_ckan_would_fill_with_its_rank_is_refused_and_not_left_out(client: Client) -> None:
    resource = Resource("ranked", [("name", "text"), ("rank", "text")], [["Rosa", "species"]])
    with FakeCkan([resource]) as ckan:
        with pytest.raises(SourceError, match="its own rank into the column rank"):
            Datastore(job(ckan, resource_id="ranked", q="Rosa"), client, 50)
        named = Datastore(job(ckan, resource_id="ranked", q="Rosa", fields="_id,name"), client, 50)
        assert read(named) == [["1", "Rosa"]]
        assert read(Datastore(job(ckan, resource_id="ranked"), client, 50)) == [["1", "Rosa", "species"]]


def test_distinct_rows_with_their_ids_are_all_rows(ckan: FakeCkan, client: Client) -> None:
    assert ids(Datastore(job(ckan, distinct=True), client, 50)) == list(range(1, 345))
    assert not any("distinct" in page for page in ckan.pages)


def test_the_rest_of_a_range_does_not_make_pages_shrink(client: Client) -> None:
    """Rows lie unevenly, so that many a range holds a few more than a page."""
    chance = random.Random(1)
    kinds = [[chance.choice(("rare", "common"))] for _ in range(20_000)]
    with FakeCkan([Resource("mixed", [("kind", "text")], kinds)], version="2.12.0") as ckan:
        source = Datastore(job(ckan, resource_id="mixed", filters={"kind": "rare"}), client, 1000, at_once=1)
        assert len(ids(source)) == kinds.count(["rare"])
        assert len(ckan.pages) < 20
