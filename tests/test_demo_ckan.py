"""The CKAN of the demo and of the tests: held to what real ones answered, and to what the tests rely on."""

import contextlib
import csv
import datetime
import email.message
import http.client
import io
import json
import math
import signal
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from ckanpackager.demo import datastore, postgres
from ckanpackager.demo.ckan import PENGUIN_TYPES, Ckan, penguins
from ckanpackager.demo.files import Redirect, generated_bytes
from ckanpackager.demo.query import Release, read_query
from ckanpackager.demo.sink import MailSink
from ckanpackager.demo.specimens import FIELDS as SPECIMEN_FIELDS
from ckanpackager.demo.specimens import specimens
from ckanpackager.demo.table import Column, Generated, Resource
from tests.fake_ckan import FakeCkan, a_download, page_from, with_parameters
from tests.record_ckan_answers import ANSWERS, FIELDS, QUESTIONS, ROWS, comparable

RECORDED = json.loads(ANSWERS.read_text())
LETTERS = [("letter", "text"), ("n", "int4")]


@pytest.fixture(autouse=True)
def no_threads_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def letters(count: int = 10, **how: Any) -> Resource:
    """Rows a, b, c, ... of which every three have the same n."""
    return Resource("letters", LETTERS, [[chr(97 + n % 26), n // 3] for n in range(count)], **how)


def post(
    ckan: Ckan, *, token: str = "", action: str = "datastore_search", **parameters: Any
) -> requests.Response:
    headers = {"Authorization": token} if token else {}
    return requests.post(f"{ckan.url}/api/3/action/{action}", json=parameters, headers=headers, timeout=10)


def search(ckan: Ckan, resource: str = "letters", **parameters: Any) -> Any:
    answer = post(ckan, resource_id=resource, **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


def read(resource: Resource, *, version: str = "2.12.0", **parameters: Any) -> dict[str, Any]:
    """What a search answers, without a server."""
    release = Release(version)
    query = read_query({"resource_id": resource.id, **parameters}, release)
    plan = datastore.make_plan(query, resource.table, release)
    text = datastore.to_json(datastore.render(plan, datastore.find(plan)))
    answer: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return answer


def walk(ckan: Ckan, resource: str, step: int, **parameters: Any) -> list[int]:
    """The ids that a client gets that asks for page after page by offset."""
    ids: list[int] = []
    for offset in range(0, 10**6, step):
        page = search(ckan, resource, limit=step, offset=offset, **parameters)
        ids += [record["_id"] for record in page["records"]]
        if not page["records"]:
            return ids
    raise AssertionError("there is no end")


# As real CKANs answer


@pytest.mark.parametrize("version", sorted(RECORDED))
def test_every_recorded_answer_of_a_real_ckan_is_given_again(version: str, session: requests.Session) -> None:
    with Ckan([Resource("odd", FIELDS.items(), ROWS)], version=version) as ckan:
        for question, expected in zip(QUESTIONS, RECORDED[version], strict=True):
            answer = session.post(ckan.api_url, json={"resource_id": "odd", **question}, timeout=10)
            given = comparable(answer.status_code, answer.text)
            assert given == expected, question
            # dict comparison forgets the order of columns
            assert json.dumps(given.get("result", {}).get("records")) == json.dumps(
                expected.get("result", {}).get("records")
            ), question


def test_a_ckan_2_9_knows_no_ranges_and_no_milliseconds() -> None:
    things = Resource("things", [("at", "timestamp")], [["2020-01-02T03:04:05.678"]])
    with Ckan([things], version="2.9.11") as ckan:
        assert search(ckan, "things")["records"] == [{"_id": 1, "at": "2020-01-02T03:04:05"}]
        assert post(ckan, resource_id="things", filters={"_id": {"gt": 0}}).status_code == 409
        assert post(ckan, resource_id="things", filters={"$or": [{"_id": 1}]}).status_code == 409
        assert post(ckan, resource_id="things", include_next_page=True).json()["error"]["__extras"]
        assert search(ckan, "things")["_links"]["next"].endswith("/datastore_search?offset=100")


def test_before_2_12_a_column_named_j_is_all_that_comes_as_objects() -> None:
    letters = Resource("letters", [("i", "text"), ("j", "text")], [["a", "b"]])
    assert read(letters, version="2.11.6")["records"] == ["b"]
    assert read(letters, version="2.11.6", records_format="lists")["records"] == [[1, "a", "b"]]
    assert read(letters)["records"] == [{"_id": 1, "i": "a", "j": "b"}]


def test_ckan_2_11_refuses_a_hash_in_a_name_or_in_q() -> None:
    catalogue = Resource("catalogue", [("Cat #", "text")], [["x"]])
    with Ckan([catalogue, letters()], version="2.11.6") as ckan:
        refusals = [
            post(ckan, resource_id="catalogue"),
            post(ckan, resource_id="catalogue", records_format="csv"),
            post(ckan, resource_id="letters", q="#5"),
        ]
        for answer in refusals:
            assert answer.status_code == 409
            assert answer.json()["error"]["query"] == ["Query is not a single statement."]
        assert search(ckan, filters={"letter": "#"})["total"] == 0
        ckan.version = "2.12.0"
        assert search(ckan, "catalogue")["records"] == [{"_id": 1, "Cat #": "x"}]


@pytest.mark.parametrize(
    ("asked", "status", "error"),
    [
        ({"resource_id": "nope"}, 404, ("__type", "Not Found Error")),
        ({"resource_id": "nope"}, 404, ("message", 'Not found: Resource "nope" was not found.')),
        ({"resource_id": "private"}, 403, ("__type", "Authorization Error")),
        ({"resource_id": "private", "token": "wrong"}, 403, ("__type", "Authorization Error")),
        ({}, 409, ("resource_id", ["Missing value"])),
        ({"resource_id": "letters", "filters": {"x": 1}}, 409, ("filters", ["Unknown field: x"])),
        ({"resource_id": "letters", "sort": "x desc"}, 409, ("sort", ['invalid value "x desc"'])),
        ({"resource_id": "letters", "filters": "{"}, 409, ("filters", ["Cannot parse JSON"])),
        ({"resource_id": "letters", "filters": {"n": "x"}}, 409, ("query", ["Invalid query"])),
    ],
)
def test_what_ckan_refuses_is_refused_in_its_words(asked: Any, status: int, error: tuple[str, Any]) -> None:
    private = Resource("private", LETTERS, [["a", 1]], private=True)
    with Ckan([letters(), private], token="sesame") as ckan:
        answer = post(ckan, **asked)
    assert answer.status_code == status
    body = answer.json()
    assert body["success"] is False
    assert body["help"].endswith("/api/3/action/help_show?name=datastore_search")
    assert body["error"][error[0]] == error[1]
    assert "result" not in body


def test_who_asks_for_csv_is_not_told_what_is_wrong_with_the_query() -> None:
    with Ckan([letters()]) as ckan:
        answer = post(ckan, resource_id="letters", filters={"n": "x"}, records_format="csv")
    assert answer.status_code == 500
    assert answer.json()["error"] == {"__type": "Internal Server Error", "message": "Internal Server Error"}


def test_a_token_opens_what_is_private_and_a_wrong_one_closes_nothing_public() -> None:
    with Ckan([letters(), Resource("private", LETTERS, [["a", 1]], private=True)], token="sesame") as ckan:
        assert post(ckan, resource_id="private", token="sesame").json()["result"]["total"] == 1
        assert post(ckan, resource_id="private", token="Bearer sesame").status_code == 403
        assert post(ckan, resource_id="letters", token="wrong").status_code == 200
    with Ckan([Resource("private", LETTERS, private=True)]) as ckan:
        nobody = {"Authorization": ""}
        asked = {"resource_id": "private"}
        assert requests.post(ckan.api_url, json=asked, headers=nobody, timeout=10).status_code == 403


@pytest.mark.parametrize(("version", "separator"), [("2.12.0", ":"), ("2.11.6", " -")])
def test_what_is_no_request_at_all_gets_a_400_that_is_a_bare_string(version: str, separator: str) -> None:
    with Ckan([letters()], version=version) as ckan:
        unknown = post(ckan, action="datastore_search_sql")
        garbage = requests.post(
            ckan.api_url, data=b"{bad", headers={"Content-Type": "application/json"}, timeout=10
        )
        listed = requests.post(ckan.api_url, json=[1], timeout=10)
    assert [answer.status_code for answer in (unknown, garbage, listed)] == [400, 400, 400]
    assert unknown.json() == f"Bad request{separator} Action name not known: datastore_search_sql"
    assert garbage.json().startswith(f"Bad request{separator} JSON Error: Error decoding JSON data.")
    assert "needs to be a dictionary" in listed.json()


def test_a_query_string_and_a_form_ask_the_same_as_json() -> None:
    asked = {
        "resource_id": "letters",
        "filters": '{"n": [1, 2]}',
        "limit": "2",
        "fields": "letter,n",
        "offset": "1",
    }
    with Ckan([letters()]) as ckan:
        by_form = requests.post(ckan.api_url, data=asked, timeout=10).json()["result"]
        by_url = requests.get(ckan.api_url, params={**asked, "fields": ["letter", "n"]}, timeout=10).json()[
            "result"
        ]
        empty = requests.post(ckan.api_url, data={**asked, "filters": ""}, timeout=10)
        by_json = search(ckan, filters={"n": [1, 2]}, limit=2, offset=1, fields=["letter", "n"])
    assert by_form == by_url == by_json
    assert empty.json()["error"]["filters"] == ["Cannot parse JSON"]
    assert by_json["records"] == [{"letter": "e", "n": 1}, {"letter": "f", "n": 1}]


def test_a_limit_above_the_servers_own_is_cut_and_nothing_but_limit_says_so() -> None:
    many = Resource("many", LETTERS, Generated(33_000, lambda n: ["x", n]))
    with Ckan([many]) as ckan:
        result = search(ckan, "many", limit=1_000_000, records_format="csv", fields="n")
        assert (result["limit"], result["total"], result["records"].count("\n")) == (32_000, 33_000, 32_000)
        ckan.rows_max = 10
        assert (search(ckan, "many", limit=11)["limit"], len(search(ckan, "many")["records"])) == (10, 10)


def test_status_show_tells_the_version_unless_it_is_hidden() -> None:
    with Ckan(version="2.11.6") as ckan, Ckan(hide_version=True) as secretive:
        assert post(ckan, action="status_show").json()["result"]["ckan_version"] == "2.11.6"
        shown = requests.get(f"{ckan.url}/api/action/status_show", timeout=10).json()["result"]
        assert shown["site_url"] == ckan.url
        assert "ckan_version" not in post(secretive, action="status_show").json()["result"]


def test_datastore_info_tells_the_columns_and_the_count() -> None:
    with Ckan([letters()]) as ckan:
        info = post(ckan, action="datastore_info", id="letters").json()["result"]
        assert [(field["id"], field["type"], field["schema"]["native_type"]) for field in info["fields"]] == [
            ("letter", "text", "text"),
            ("n", "int4", "integer"),
        ]
        assert info["meta"]["count"] == 10
        assert post(ckan, action="datastore_info", id="nope").status_code == 404
        ckan.version = "2.9.11"
        old = post(ckan, action="datastore_info", id="letters").json()["result"]
        assert old == {"schema": {"letter": "text", "n": "number"}, "meta": {"count": 10}}


def test_the_data_dictionary_comes_with_the_fields() -> None:
    noted = Resource("noted", [Column("a", "text", {"label": "The letter", "notes": ""})], [["x"]])
    assert read(noted)["fields"][1] == {
        "id": "a",
        "type": "text",
        "info": {"label": "The letter", "notes": ""},
    }


# Values

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
VALUES = {
    "text": TEXT,
    "int4": st.integers(-(2**31), 2**31 - 1),
    "numeric": st.decimals(allow_infinity=False, places=3) | st.just(Decimal("NaN")),
    "float8": st.floats(allow_infinity=False).map(lambda value: value or 0.0),  # JSON's -0 is no float
    "bool": st.booleans(),
    "date": st.dates(),
    "timestamp": st.datetimes(min_value=datetime.datetime(1, 1, 1)),
    "json": st.none() | st.dictionaries(TEXT, st.integers() | TEXT, max_size=3),
    "_text": st.lists(TEXT, max_size=3),
}
TABLES = st.lists(st.tuples(*(st.none() | strategy for strategy in VALUES.values())), max_size=5)


@pytest.mark.parametrize(("records_format", "delimiter"), [("csv", ","), ("tsv", "\t")])
@settings(deadline=None)  # other tests have the machine, too
@given(rows=TABLES)
def test_csv_read_by_another_reader_holds_what_the_objects_hold(
    records_format: str, delimiter: str, rows: list[tuple[Any, ...]]
) -> None:
    things = Resource("things", zip(VALUES, VALUES, strict=True), rows)
    objects = read(things)["records"]
    text = read(things, records_format=records_format)["records"]
    records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    assert len(records) == len(objects) == len(rows)
    for record, expected in zip(records, objects, strict=True):
        assert record == [cell_of(name, value) for name, value in expected.items()]


def cell_of(column: str, value: Any) -> str:
    """What the cell of a JSON value must be, said without the code that wrote it."""
    if column == "json":
        return json.dumps(value)
    if column == "_text":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if value is None:
        return ""
    if column == "bool":
        return "t" if value else "f"
    if column == "float8" and value != "NaN":
        return postgres.float_text(float(value))
    return str(value)


@settings(deadline=None)  # other tests have the machine, too
@given(rows=TABLES)
def test_lists_hold_what_the_objects_hold(rows: list[tuple[Any, ...]]) -> None:
    things = Resource("things", zip(VALUES, VALUES, strict=True), rows)
    objects = [list(record.values()) for record in read(things)["records"]]
    assert read(things, records_format="lists")["records"] == objects


@given(st.text(st.sampled_from('a,\t"\n\r\\. é')))
def test_a_cell_is_quoted_only_where_it_must_be(text: str) -> None:
    cell = postgres.to_cell("text", text, ",", alone=True)
    quoted = not text or text == "\\." or any(c in text for c in ',"\n\r')
    assert cell == ('"' + text.replace('"', '""') + '"' if quoted else text)


@given(st.floats())
def test_a_float_reads_back_from_its_text(value: float) -> None:
    text = postgres.float_text(value)
    assert float(text) == value or math.isnan(value)
    if math.isfinite(value):
        assert significant_digits(text) <= significant_digits(repr(value))


def significant_digits(text: str) -> int:
    return len(Decimal(text).normalize().as_tuple().digits)


@pytest.mark.parametrize(
    ("value", "text"),
    [  # as PostgreSQL 15 wrote them
        (0.0, "0"),
        (-0.0, "-0"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (1e14, "100000000000000"),
        (1e15, "1e+15"),
        (1.5e15, "1.5e+15"),
        (1e300, "1e+300"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_floats_are_written_as_postgresql_writes_them(value: float, text: str) -> None:
    assert postgres.float_text(value) == text


# Order


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"sort": "_id desc"},
        {"sort": "Island,_id"},
        {"sort": "Body Mass (g) desc nulls last, _id"},
        {"q": "Biscoe", "sort": "_id"},
        {"filters": {"Island": ["Dream", "Torgersen"]}},
        {"filters": {"_id": {"gt": 20, "lte": 300}}},
    ],
    ids=str,
)
def test_paging_over_a_unique_order_brings_every_row_once(asked: dict[str, Any]) -> None:
    resource = penguins("penguins")
    with Ckan([resource]) as ckan:
        total = search(ckan, "penguins", limit=0, **asked)["total"]
        ids = walk(ckan, "penguins", 50, **asked)
    assert 0 < total == len(ids) == len(set(ids))


@pytest.mark.parametrize("asked", [{"sort": "Island"}, {"q": "Biscoe"}, {"sort": "Sex,Island"}], ids=str)
def test_paging_over_equal_rows_without_a_tie_break_loses_some(asked: dict[str, Any]) -> None:
    with Ckan([penguins("penguins")]) as ckan:
        total = search(ckan, "penguins", limit=0, **asked)["total"]
        ids = walk(ckan, "penguins", 50, **asked)
        again = [search(ckan, "penguins", limit=50, offset=50, **asked)["records"] for _ in range(2)]
    assert len(ids) == total
    assert len(set(ids)) < total
    assert again[0] == again[1]


def test_next_page_leads_through_a_table_with_gaps() -> None:
    resource = letters(40)
    resource.delete(*range(5, 25))
    for sort, key in (("_id", "gt"), ("_id desc", "lt")):
        ids: list[int] = []
        filters: dict[str, Any] = {}
        while True:
            page = read(resource, limit=6, include_next_page=True, sort=sort, filters=filters)
            ids += [record["_id"] for record in page["records"]]
            if not page["records"]:
                break
            filters = page["next_page"]
            assert list(filters["_id"]) == [key]
        assert sorted(ids) == [*range(1, 5), *range(25, 41)]


def test_rows_change_while_they_are_read() -> None:
    resource = letters(3)
    before = resource.table
    assert resource.insert(["x", 9], ["y", None]) == [4, 5]
    resource.delete(1, 5)
    resource.update(2, {"n": 77})
    assert read(resource, records_format="lists")["records"] == [[2, "b", 77], [3, "c", 0], [4, "x", 9]]
    assert resource.insert(["z", 1]) == [6]
    assert [before.value(position, "n") for position in range(len(before))] == [0, 0, 0]


def test_distinct_before_2_12_is_of_the_page_alone() -> None:
    resource = Resource("letters", LETTERS, [["a", n % 2] for n in range(8)])
    asked: dict[str, Any] = {"distinct": True, "fields": "n", "limit": 4, "records_format": "csv"}
    assert read(resource, **asked)["records"] == "0\n1\n"
    assert read(resource, **asked, offset=4)["records"] == ""
    assert read(resource, **asked, version="2.11.6", offset=4)["records"] == "0\n1\n"
    assert read(resource, **asked, version="2.11.6")["total"] == 2


# Rows that are made


def test_generated_rows_are_made_when_they_are_asked_for() -> None:
    asked: list[int] = []

    def make(n: int) -> list[Any]:
        asked.append(n)
        return [f"row {n}", n]

    huge = Resource("huge", LETTERS, Generated(10**9, make))
    page = read(huge, offset=500_000_000, limit=2, records_format="lists")
    assert page["records"] == [
        [500_000_001, "row 500000000", 500_000_000],
        [500_000_002, "row 500000001", 500_000_001],
    ]
    assert page["total"] == 10**9
    assert read(huge, filters={"_id": {"gt": 10**9 - 1}}, records_format="csv")["records"].startswith(
        "1000000000,"
    )
    assert set(asked) == {500_000_000, 500_000_001, 10**9 - 1}
    with pytest.raises(TypeError, match="huge"):
        huge.delete(1)


@pytest.mark.parametrize("records_format", ["objects", "lists", "csv", "tsv"])
def test_a_period_changes_nothing_but_the_cost(records_format: str) -> None:
    made = Generated(50, lambda n: [chr(97 + n % 7), n % 7], period=7)
    held = [[chr(97 + n % 7), n % 7] for n in range(50)]
    for asked in (
        {},
        {"fields": ["n", "_id"]},
        {"sort": "n desc, _id"},
        {"filters": {"n": 3}},
        {"q": "b", "sort": "_id"},
    ):
        answers = [
            read(Resource("r", LETTERS, rows), records_format=records_format, offset=2, **asked)
            for rows in (made, held)
        ]
        assert answers[0] == answers[1]
        assert answers[0]["records"]


def test_specimens_are_a_table_of_34_columns_with_every_kind_of_value() -> None:
    table = specimens(4_001)
    page = read(table, offset=4_000, records_format="lists")
    assert len(page["fields"]) == 34
    assert len(page["records"]) == 1
    assert page["records"][0][1:] == read(table, limit=1, records_format="lists")["records"][0][1:]
    assert {"text", "int4", "numeric", "float8", "bool", "date", "timestamp", "json"} <= set(
        SPECIMEN_FIELDS.values()
    )
    size = len(read(table, limit=2_000, records_format="csv")["records"].encode()) / 2_000
    assert 450 < size < 650


def test_the_penguins_are_those_of_the_file() -> None:
    with (Path(datastore.__file__).parent / "penguins-raw.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    answer = read(penguins(), limit=1000)
    assert answer["total"] == len(lines) == 344
    assert [field["id"] for field in answer["fields"]] == ["_id", *header]
    for record, line in zip(answer["records"], lines, strict=True):
        for name, cell in zip(header, line, strict=True):
            if name not in PENGUIN_TYPES:
                assert record[name] == cell
            elif cell == "NA":
                assert record[name] is None
            else:
                assert str(record[name]) == cell or float(record[name]) == float(cell)


# The server


def test_several_requests_are_answered_at_once() -> None:
    with FakeCkan([letters()]) as ckan, ThreadPoolExecutor(3) as pool:
        gate = ckan.hold(times=2)
        held = [pool.submit(search, ckan) for _ in range(2)]
        ckan.wait_for(2)
        assert search(ckan)["total"] == 10
        assert not any(answer.done() for answer in held)
        gate.open()
        assert [answer.result()["total"] for answer in held] == [10, 10]
        assert ckan.most_at_once == 3


def test_closing_cuts_what_is_open_and_frees_the_port(session: requests.Session) -> None:
    ckan = FakeCkan([letters()])
    session.get(ckan.url, timeout=10)
    ckan.hold()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(requests.get, ckan.url, timeout=10)
        ckan.wait_for(2)
        ckan.close()
        held.exception(10)
    with pytest.raises(requests.ConnectionError):
        session.get(ckan.url, timeout=10)


def test_a_client_that_goes_away_disturbs_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with Ckan([letters()]) as ckan:
        url = ckan.upload("large.bin", 50_000_000)
        with requests.get(url, stream=True, timeout=10) as answer:
            next(answer.iter_content(1000))
        assert search(ckan)["total"] == 10
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_module_is_a_server_that_says_where_it_is(stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "ckanpackager.demo.ckan", "--port", "0", "--specimens", "300000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url, *resources = (process.stdout.readline().strip() for _ in range(3))
        totals = []
        for resource in resources:
            asked = {"resource_id": resource, "limit": 0}
            totals.append(requests.post(f"{url}/api/action/datastore_search", json=asked, timeout=10).json())
        process.send_signal(stop)
        assert process.wait(10) == 0
    assert [answer["result"]["total"] for answer in totals] == [344, 300_000]


# Files


def test_an_upload_is_served_as_ckan_serves_it() -> None:
    with Ckan() as ckan:
        url = ckan.upload("numbers é.csv", b"1,2\n3,4\n", media_type="text/csv")
        answer = requests.get(url, timeout=10)
        head = requests.head(url, timeout=10)
        assert "/dataset/" in url
        assert "/resource/" in url
        assert url.endswith("/download/numbers%20%C3%A9.csv")
        assert requests.get(url + "x", timeout=10).status_code == 404
    assert answer.content == b"1,2\n3,4\n"
    assert head.content == b""
    for headers in (answer.headers, head.headers):
        assert headers["Content-Length"] == "8"
        assert headers["Content-Type"] == "text/csv"
        assert headers["Content-Disposition"] == "inline; filename*=UTF-8''numbers%20%C3%A9.csv"
        assert headers["ETag"].startswith('"')
        assert headers["Last-Modified"]


def test_what_follows_a_head_on_the_same_connection_is_its_own_answer() -> None:
    with Ckan() as ckan, contextlib.closing(http.client.HTTPConnection(ckan.host, ckan.port)) as connection:
        path = ckan.upload("letters.txt", b"abc").removeprefix(ckan.url)
        for method, body in (("HEAD", b""), ("GET", b"abc")):
            connection.request(method, path)
            assert connection.getresponse().read() == body


def test_a_private_upload_needs_the_token() -> None:
    with Ckan(token="sesame") as ckan:
        url = ckan.upload("secret.csv", b"x", private=True)
        refused = requests.get(url, timeout=10)
        given = requests.get(url, headers={"Authorization": "sesame"}, timeout=10)
    assert (refused.status_code, refused.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert given.content == b"x"


def test_a_generated_file_has_the_same_bytes_wherever_one_begins() -> None:
    size = 200_000
    whole = b"".join(generated_bytes(size))
    with Ckan() as ckan:
        url = ckan.upload("large.bin", size)
        assert requests.get(url, timeout=10).content == whole
        etag = requests.head(url, timeout=10).headers["ETag"]
        part = requests.get(url, headers={"Range": "bytes=70000-", "If-Range": etag}, timeout=10)
        few = requests.get(url, headers={"Range": "bytes=5-9"}, timeout=10)
        changed = requests.get(url, headers={"Range": "bytes=70000-", "If-Range": '"other"'}, timeout=10)
        beyond = requests.get(url, headers={"Range": "bytes=200000-"}, timeout=10)
    assert (part.status_code, part.content) == (206, whole[70000:])
    assert part.headers["Content-Range"] == "bytes 70000-199999/200000"
    assert (few.status_code, few.content) == (206, whole[5:10])
    assert (changed.status_code, changed.content) == (200, whole)
    assert beyond.status_code == 416


def test_a_file_may_come_without_its_length_or_its_name_and_by_a_redirect() -> None:
    with Ckan() as ckan:
        url = ckan.upload("unsized.bin", 100_000, sized=False, headers={"Content-Disposition": ""})
        ckan.files["/moved"] = Redirect(url, 301)
        answer = requests.get(f"{ckan.url}/moved", timeout=10)
    assert answer.history[0].status_code == 301
    assert "Content-Length" not in answer.headers
    assert "Content-Disposition" not in answer.headers
    assert answer.content == b"".join(generated_bytes(100_000))


# Misbehaviour


@pytest.fixture
def fake() -> Iterator[FakeCkan]:
    with FakeCkan([letters()]) as ckan:
        yield ckan


def test_the_log_holds_what_was_asked(fake: FakeCkan) -> None:
    search(fake, limit=0)
    search(fake, offset=3, filters={"n": 1})
    requests.get(f"{fake.url}/x%20y?a=b", headers={"Authorization": "me"}, timeout=10)
    assert [(request.method, request.path) for request in fake.requests] == [
        ("POST", "/api/3/action/datastore_search"),
        ("POST", "/api/3/action/datastore_search"),
        ("GET", "/x y"),
    ]
    assert fake.requests[2].arguments == "a=b"
    assert fake.requests[2].headers["authorization"] == "me"
    assert fake.searches[0] == {"resource_id": "letters", "limit": 0}
    assert fake.pages == [{"resource_id": "letters", "offset": 3, "filters": {"n": 1}}]


def test_a_fault_befalls_as_many_requests_as_it_is_told_to(fake: FakeCkan) -> None:
    fake.status(503, retry_after=7, times=2)
    answers = [post(fake, resource_id="letters") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].headers["Content-Type"] == "text/html"
    fake.status(502, times=None)
    assert [post(fake, resource_id="letters").status_code for _ in range(3)] == [502] * 3
    fake.behave()
    assert post(fake, resource_id="letters").status_code == 200


def test_a_fault_befalls_only_the_requests_it_is_meant_for(fake: FakeCkan) -> None:
    url = fake.upload("a.csv", b"x")
    fake.status(500, when=page_from(4))
    fake.status(429, when=a_download)
    fake.status(418, when=with_parameters(sort="n"))
    assert [post(fake, resource_id="letters", offset=n).status_code for n in (0, 4, 4)] == [200, 500, 200]
    assert post(fake, resource_id="letters", sort="n").status_code == 418
    assert [requests.get(url, timeout=10).status_code for _ in range(2)] == [429, 200]


def test_what_is_not_json_is_sent_as_if_it_were(fake: FakeCkan) -> None:
    fake.nonsense()
    fake.nonsense(b"[]")
    with pytest.raises(requests.JSONDecodeError):
        post(fake, resource_id="letters").json()
    assert post(fake, resource_id="letters").json() == []


def test_a_connection_is_closed_before_or_within_the_answer(fake: FakeCkan) -> None:
    fake.hang_up()
    with pytest.raises(requests.ConnectionError):
        post(fake, resource_id="letters")
    fake.hang_up(after=20)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="20 bytes read"):
        post(fake, resource_id="letters")
    url = fake.upload("large.bin", 100_000)
    fake.hang_up(after=70_000, when=a_download)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="70000 bytes read"):
        requests.get(url, timeout=10)
    assert search(fake)["total"] == 10


@pytest.mark.parametrize("after", [None, 20])
def test_an_answer_waits_until_its_gate_is_opened(fake: FakeCkan, after: int | None) -> None:
    gate = fake.hold(after=after)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(search, fake)
        gate.reached()
        assert not answer.done()
        gate.open()
        assert answer.result()["total"] == 10


def test_pages_are_short_lose_rows_or_repeat_them(fake: FakeCkan) -> None:
    fake.short_pages(3, times=1)
    fake.lose_rows()
    fake.repeat_rows(2)
    short, lossy, doubled = (search(fake, limit=6) for _ in range(3))
    assert [record["_id"] for record in short["records"]] == [1, 2, 3]
    assert [record["_id"] for record in lossy["records"]] == [1, 2, 3, 5, 6]
    assert [record["_id"] for record in doubled["records"]] == [1, 2, 3, 4, 5, 6, 5, 6]
    assert {page["total"] for page in (short, lossy, doubled)} == {10}
    fake.repeat_rows(1)
    assert search(fake, limit=1, records_format="csv")["records"] == "1,a,0\n1,a,0\n"


def test_a_total_may_be_a_lie(fake: FakeCkan) -> None:
    fake.lie(12)
    assert search(fake, limit=0)["total"] == 12
    assert len(search(fake)["records"]) == 10


def test_rows_come_and_go_between_two_pages(fake: FakeCkan) -> None:
    resource = fake.resources["letters"]
    fake.meanwhile(lambda: resource.delete(1))
    first, second = search(fake, limit=3), search(fake, limit=3)
    assert [record["_id"] for record in first["records"]] == [1, 2, 3]
    assert [record["_id"] for record in second["records"]] == [2, 3, 4]
    assert (first["total"], second["total"]) == (10, 9)


# Mail


def test_the_sink_hands_over_what_it_was_sent() -> None:
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "Grüße"
    message.set_content("Ein Ei.\n.\nNoch eins.\n")
    with MailSink() as sink:
        with smtplib.SMTP(sink.host, sink.port) as client:
            client.send_message(message, to_addrs=["c@example.org"])
            client.send_message(message)
        received = sink.wait(10)
        assert received["Subject"] == "Grüße"
        assert received.get_content() == "Ein Ei.\r\n.\r\nNoch eins.\r\n"
        assert sink.recipients == [["c@example.org"], ["b@example.org"]]
        sink.wait(10)
        with pytest.raises(TimeoutError, match="no e-mail came"):
            sink.wait(0.01)


def test_the_sink_closes_under_a_client_that_lingers() -> None:
    sink = MailSink()
    with smtplib.SMTP(sink.host, sink.port) as client:
        sink.close()
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(sink.host, sink.port)
