"""The statistics, on databases new and old."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from ckanpackager import stats
from ckanpackager.database import SCHEMA_VERSION, UNUSABLE, DatabaseThread, open_database, said
from ckanpackager.errors import SettingsError, UnavailableError
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.jobs import models
from ckanpackager.stats import Statistics

MODELS = (*stats.MODELS, *models.MODELS)


def job(resource_id: str = "r", email: str = "a@localhost.example", **more: object) -> Job:
    form = {"resource_id": resource_id, "email": email, "api_url": "http://ckan.example/api", **more}
    return Job.from_form("package_datastore", Form(form))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[peewee.Database]:
    url = (
        f"sqlite:///{tmp_path}/stats.db"
        if request.param == "sqlite"
        else request.getfixturevalue("postgresql")
    )
    database = open_database(url, MODELS)
    yield database
    database.drop_tables(MODELS)
    database.close()


def test_totals_are_the_sums_of_the_rows(database: peewee.Database) -> None:
    statistics = Statistics(False, "secret")
    for resource_id, email in (
        ("r", "a@localhost.example"),
        ("r", "b@localhost.example"),
        ("s", "A@localhost.example"),
    ):
        statistics.log_request(job(resource_id, email, limit=5), 1.9)
    statistics.log_error(job("r"), "bad", 2)
    statistics.log_error(job("t"), "bad", 3)
    assert statistics.totals() == {
        "*": {"emails": 2, "requests": 3, "errors": 2},
        "r": {"emails": 2, "requests": 2, "errors": 1},
        "s": {"emails": 1, "requests": 1, "errors": 0},
        "t": {"emails": 0, "requests": 0, "errors": 1},
    }
    assert statistics.totals("r") == {"r": {"emails": 2, "requests": 2, "errors": 1}}
    assert statistics.totals("none") == {}
    assert statistics.processed() == 3


def test_rows_come_newest_first_and_in_pages(database: peewee.Database) -> None:
    statistics = Statistics(False, "secret")
    for second in range(5):
        statistics.log_request(job(f"r{second % 2}", f"{second}@localhost.example", limit=second), second)
        statistics.log_error(job(f"r{second % 2}"), f"error {second}", second)
    newest = statistics.requests(0, 2, None, None)
    assert newest == [
        {
            "email": f"{n}@localhost.example",
            "resource_id": f"r{n % 2}",
            "timestamp": n,
            "count": n,
            "domain": "localhost.example",
        }
        for n in (4, 3)
    ]
    assert [row["timestamp"] for row in statistics.requests(2, 2, None, None)] == [2, 1]
    assert [row["timestamp"] for row in statistics.requests(0, 9, "r1", None)] == [3, 1]
    assert [row["timestamp"] for row in statistics.requests(0, 9, None, "3@LOCALHOST.example")] == [3]
    assert [row["message"] for row in statistics.errors(1, 1, "r0", "a@localhost.example")] == ["error 2"]


def test_anonymized_visitors_are_counted_and_not_named(database: peewee.Database) -> None:
    statistics = Statistics(True, "secret")
    for email in ("Ann@localhost.example", "ann@localhost.example", "bob@localhost.example"):
        statistics.log_request(job(email=email), 1)
    assert statistics.totals()["*"]["emails"] == 2
    found = statistics.requests(0, 9, None, "ANN@localhost.example")
    assert len(found) == 2
    assert found[0]["domain"] == "localhost.example"
    assert "ann" not in found[0]["email"].lower() or "@" not in found[0]["email"]
    assert Statistics(True, "other").address("ann@localhost.example") != found[0]["email"]


def test_the_tables_of_an_old_installation_are_used_in_place(tmp_path: Path) -> None:
    """As the library dataset made them, in one version without `count` and `domain`."""
    path = tmp_path / "stats.db"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(
            """
            CREATE TABLE requests (id INTEGER NOT NULL PRIMARY KEY, timestamp INTEGER, resource_id TEXT, email TEXT);
            CREATE TABLE errors (id INTEGER NOT NULL PRIMARY KEY, timestamp INTEGER, resource_id TEXT, email TEXT, message TEXT);
            CREATE TABLE totals (id INTEGER NOT NULL PRIMARY KEY, resource_id TEXT, emails INTEGER, requests INTEGER, errors INTEGER);
            INSERT INTO requests VALUES (1, 100, 'r', 'old@b.example'), (2, 200, 's', '$2a$12$bcrypt');
            INSERT INTO errors VALUES (1, 150, 'r', 'old@b.example', 'Traceback ...');
            INSERT INTO totals VALUES (1, '*', 2, 99, 1);
            """
        )
    old.close()
    for _ in range(2):
        database = open_database(f"sqlite:///{path}", MODELS)
        statistics = Statistics(False, "secret")
        before = statistics.totals()["*"]["requests"]
        statistics.log_request(job("r", limit=7), 300)
        assert statistics.totals()["*"]["requests"] == before + 1
        database.close()
    database = open_database(f"sqlite:///{path}", MODELS)
    rows = statistics.requests(0, 9, None, None)
    assert [(row["timestamp"], row["count"]) for row in rows] == [
        (300, 7),
        (300, 7),
        (200, None),
        (100, None),
    ]
    assert statistics.errors(0, 9, None, None)[0]["message"] == "Traceback ..."
    assert database.execute_sql("select requests from totals").fetchone() == (99,)
    database.close()


def test_rows_of_one_second_come_newest_first_too(database: peewee.Database) -> None:
    statistics = Statistics(False, "secret")
    for limit in range(4):
        statistics.log_request(job(limit=limit), 1)
    assert [row["count"] for row in statistics.requests(0, 9, None, None)] == [3, 2, 1, 0]


def test_old_rows_without_a_resource_count_for_all_alone(database: peewee.Database) -> None:
    stats.Request.create(email="a@localhost.example")
    stats.Error.create(message="bad")
    assert Statistics(False, "secret").totals() == {"*": {"emails": 1, "requests": 1, "errors": 1}}


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stats.db"
    database = open_database(url, MODELS)
    database.execute_sql("update ckanpackager_schema set version = ?", (SCHEMA_VERSION + 1,))
    database.close()
    with pytest.raises(SettingsError, match="newer ckanpackager"):
        open_database(url, MODELS)


def test_what_a_driver_says_in_lines_is_told_as_one_sentence() -> None:
    lines = "connection refused\n\tIs the server running on that host?\n"
    assert said(RuntimeError(lines)) == "connection refused Is the server running on that host."
    assert said(RuntimeError("no such file.")) == "no such file."


def test_a_database_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(SettingsError, match="^STATS_DB"):
        open_database("oracle://x/y", MODELS)


@pytest.mark.parametrize("url", ["sqlite:////nowhere/stats.db", "postgresql://nobody@127.0.0.1:9/none"])
def test_a_database_that_may_come_back_is_not_taken_for_a_wrong_setting(url: str) -> None:
    with pytest.raises(UnavailableError, match="^STATS_DB"):
        open_database(url, MODELS)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "stats.db").write_bytes(b"x" * 5000)
    with pytest.raises(SettingsError, match=r"^STATS_DB.*not a database"):
        open_database(f"sqlite:///{tmp_path}/stats.db", MODELS)


def test_a_connection_that_was_lost_is_made_again(postgresql: str) -> None:
    async def use() -> None:
        thread = DatabaseThread()
        await thread.open(postgresql, MODELS)
        statistics = Statistics(False, "secret")
        other = open_database(postgresql, [])
        other.execute_sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()"
        )
        other.close()
        with pytest.raises(UNUSABLE):
            await thread(statistics.totals)
        assert await thread(statistics.totals) == {"*": {"emails": 0, "requests": 0, "errors": 0}}
        await thread.close()

    asyncio.run(use())
