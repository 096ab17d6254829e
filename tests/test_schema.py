"""Databases as older versions made them: they are used in place, and nothing in them is lost."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import psycopg2
import pytest

from ckanpackager import stats
from ckanpackager.database import SCHEMA_VERSION, Schema, open_database
from ckanpackager.errors import SettingsError
from ckanpackager.jobs import models
from ckanpackager.stats import Statistics
from tests.services import TIMEOUT, Service
from tests.test_table import Bench

MODELS = (*stats.MODELS, *models.MODELS)
SCHEMAS = Path(__file__).parent / "schemas"
OLD = ["1.sqlite", "1.postgresql", "1.sqlite, unmarked", "retired.sqlite"]

Make = Callable[[str], str]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Makes a database from one of the files, and returns its URL; a new one for ""."""

    def make(name: str) -> str:
        kind, _, unmarked = name.partition(", ")
        script = (SCHEMAS / f"{kind}.sql").read_text() if kind else ""
        script += "DELETE FROM ckanpackager_schema;" if unmarked else ""
        if "postgresql" in kind:
            url = str(request.getfixturevalue("postgresql"))
            with closing(psycopg2.connect(url)) as connection:
                connection.cursor().execute(script)
                connection.commit()
            return url
        path = tmp_path / f"{kind or 'new'}.db"
        with closing(sqlite3.connect(path)) as old:
            old.executescript(script)
        return f"sqlite:///{path}"

    return make


@pytest.fixture
def opened(make: Make) -> Iterator[Callable[[str], peewee.Database]]:
    """Opens such a database as the service does."""
    databases: list[peewee.Database] = []

    def open_(name: str) -> peewee.Database:
        databases.append(open_database(make(name), MODELS))
        return databases[-1]

    yield open_
    for database in databases:
        database.close()


def shape(database: peewee.Database) -> dict[str, Any]:
    """The columns of our tables, and what is indexed, however the columns are ordered."""
    return {
        model._meta.table_name: (
            {(column.name, column.null) for column in database.get_columns(model._meta.table_name)},
            {(tuple(i.columns), i.unique) for i in database.get_indexes(model._meta.table_name)}
            - {(("id",), True), (("seq",), True)},  # a primary key, which SQLite does not count
        )
        for model in models.MODELS
    }


def rows(database: peewee.Database, table: str) -> list[tuple[Any, ...]]:
    return list(database.execute_sql(f"SELECT * FROM {table} ORDER BY id").fetchall())


@pytest.mark.parametrize("name", OLD)
def test_an_older_database_becomes_one_of_this_version(
    opened: Callable[[str], peewee.Database], name: str
) -> None:
    new = shape(opened(""))
    old = opened(name)
    assert shape(old) == new
    assert [row.version for row in Schema.select()] == [SCHEMA_VERSION]


@pytest.mark.parametrize("name", OLD)
def test_no_row_of_an_older_database_is_lost_or_changed(make: Make, name: str) -> None:
    url = make(name)
    with closing(psycopg2.connect(url) if "postgresql" in name else sqlite3.connect(url[10:])) as connection:
        cursor = connection.cursor()
        tables = ["requests", "errors", *([] if "retired" in name else ["job_events", "mails", "packages"])]
        before = {}
        for table in tables:
            cursor.execute(f"SELECT * FROM {table} ORDER BY id")
            before[table] = [tuple(row) for row in cursor.fetchall()]
    for _ in range(2):
        database = open_database(url, MODELS)
        for table in tables:
            assert [row[: len(before[table][0])] for row in rows(database, table)] == before[table]
        database.close()


@pytest.mark.parametrize("name", ["1.sqlite", "1.postgresql"])
def test_jobs_of_an_older_version_go_on(tmp_path: Path, make: Make, name: str) -> None:
    bench = Bench(tmp_path, STATS_DB=make(name))
    for package in models.PackageRow.select():
        bench.store.path(package.zip_file_name).write_bytes(b"12345")
    bench.table.recover(1_700_000_100)
    jobs, total = bench.table.page(None, 0, 10)
    assert total == 5
    assert {job["resource_id"]: job["state"] for job in jobs} == {
        "done": "done",
        "built": "built",
        "failed": "failed",
        "running": "queued",
        "queued": "queued",
    }
    assert {job["report"] for job in jobs} == {None}
    assert bench.claim(now=1_700_000_100).job.key == "a-key"
    notices = [bench.outbox.claim(1_700_000_100) for _ in range(2)]
    assert {delivery.notice.resource_id for delivery in notices if delivery} == {"built", "failed"}
    bench.build(bench.claim(now=1_700_000_100), 1_700_000_100)
    assert bench.statistics.processed() == 3
    bench.database.close()


def test_the_statistics_of_the_retired_service_go_on(opened: Callable[[str], peewee.Database]) -> None:
    database = opened("retired.sqlite")
    assert Statistics(False, "secret").totals() == {
        "*": {"emails": 2, "requests": 2, "errors": 1},
        "r": {"emails": 2, "requests": 2, "errors": 1},
    }
    assert rows(database, "totals") == [(1, "*", 2, 1, 2)]


def test_an_upgrade_that_fails_changes_nothing(make: Make) -> None:
    url = make("1.sqlite")
    with closing(sqlite3.connect(url[10:])) as old:
        old.execute(
            "CREATE TRIGGER no_room BEFORE UPDATE ON ckanpackager_schema BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
        before = old.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
        with pytest.raises(SettingsError, match=r"^STATS_DB: .*no room"):
            open_database(url, MODELS)
        assert models.JobRow._meta.database.is_closed()
        assert old.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before
        assert old.execute("SELECT version FROM ckanpackager_schema").fetchall() == [(1,)]


def test_a_newer_database_stops_the_start_and_is_left_alone(tmp_path: Path) -> None:
    service = Service(tmp_path, SMTP_HOST="127.0.0.1", SMTP_PORT=9)
    service.start()
    service.stop()
    with closing(sqlite3.connect(tmp_path / "stats.db")) as database:
        database.execute("UPDATE ckanpackager_schema SET version = version + 1")
        database.commit()
    before = (tmp_path / "stats.db").read_bytes()
    ended = subprocess.run(
        [Path(sys.executable).with_name("ckanpackager-service")],
        env={**os.environ, "CKANPACKAGER_CONFIG": str(tmp_path / "settings.py")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ended.returncode == os.EX_CONFIG
    assert "STATS_DB was written by a newer ckanpackager" in ended.stderr
    assert "install that version or a newer one" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "stats.db").read_bytes() == before
