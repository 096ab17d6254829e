"""The one database: opening it by its URL, the thread that uses it, transactions.

Only the service process opens it, and there only one thread. What has been
committed is on the disk: an answer that depends on it may be given.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from urllib.parse import urlsplit

import peewee
from playhouse import db_url
from playhouse.migrate import SchemaMigrator, migrate

from ckanpackager.errors import SettingsError, UnavailableError

# 1: the tables of 1.0 before its release.
# 2: packages have a report and an index of what is still there; request_keys; jobs by cache_key and state.
# 3: jobs have a visitor and a host.
SCHEMA_VERSION = 3
_DROPPED_INDEXES = ("jobrow_cache_key",)

# What a database raises that cannot be used now, and perhaps later.
UNUSABLE = (peewee.OperationalError, peewee.InterfaceError)
# And where it can be used, but cannot hold what it is given: no half of a character, no number past its own.
UNFIT = (peewee.DatabaseError, ValueError, ArithmeticError)

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound="HasDatabase")

_SQLITE_PRAGMAS = {
    "journal_mode": "wal",
    # NORMAL would be faster, and could forget a committed request when the power fails.
    "synchronous": "full",
    "foreign_keys": 1,
    "busy_timeout": 10_000,
}


class DatabaseThread:
    """The one thread in which the database is used; awaited, so that the loop goes on meanwhile."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "database")
        self._database: peewee.Database | None = None

    async def open(self, url: str, models: Sequence[type[peewee.Model]]) -> peewee.Database:
        """See :func:`open_database`."""
        self._database = await self(open_database, url, models)
        return self._database

    async def __call__(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns, or raises, when run in the thread."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, call)

    async def close(self) -> None:
        """Wait for what is under way, and end the connection and the thread."""
        await self(self._disconnect)
        self._executor.shutdown()

    def _run(self, call: Callable[[], R]) -> R:
        try:
            return call()
        except UNUSABLE:
            # The next call makes a new connection: this one may be to a server that was restarted.
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()


class HasDatabase(Protocol):
    """Whose methods can be transactions."""

    database: peewee.Database


def transaction(method: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """Run the method in a transaction of its own, or within the one under way.

    SQLite waits while another program holds the database (busy_timeout), but not within a transaction that
    has read before it writes: so it is told at the beginning that this one will write.
    """

    @functools.wraps(method)
    def run(self: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
        is_sqlite = isinstance(self.database, peewee.SqliteDatabase)
        with self.database.atomic("IMMEDIATE") if is_sqlite else self.database.atomic():
            return method(self, *args, **kwargs)

    return run


def question(method: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """Run the method, which writes nothing, in a transaction that waits for nobody."""

    @functools.wraps(method)
    def run(self: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.database.atomic():
            return method(self, *args, **kwargs)

    return run


class Schema(peewee.Model):
    """The version of the tables, in one row."""

    version = peewee.IntegerField()

    class Meta:
        table_name = "ckanpackager_schema"


def open_database(url: str, models: Sequence[type[peewee.Model]]) -> peewee.Database:
    """Open the database at ``url``, with the tables of ``models`` made or completed, and bind them to it.

    Tables that an older installation made, or the retired service, keep their rows and gain the columns
    and indexes they lack, in one transaction. Raises SettingsError where the database cannot be opened, or
    was written by a newer version, and UnavailableError where that may pass: its server is down, or its disk
    is full.
    """
    is_sqlite = urlsplit(url).scheme.startswith("sqlite")
    arguments: dict[str, Any] = {"pragmas": _SQLITE_PRAGMAS} if is_sqlite else {}
    try:
        database: peewee.Database = db_url.connect(url, **arguments)
        database.bind([Schema, *models])
        with contextlib.ExitStack() as undo:
            database.connect()
            undo.callback(database.close)
            with database.atomic():
                database.create_tables([Schema])
                _refuse_newer()
                for model in models:
                    _complete(database, model)
                database.create_tables(models)
                for index in _DROPPED_INDEXES:
                    database.execute_sql(f"DROP INDEX IF EXISTS {index}")
                _mark()
            undo.pop_all()
    except UNUSABLE as error:
        raise UnavailableError(f"STATS_DB: the database cannot be opened now: {said(error)}") from error
    except (peewee.PeeweeException, RuntimeError, ImportError, KeyError) as error:
        raise SettingsError(f"STATS_DB: the database cannot be opened: {said(error)}") from error
    return database


def said(error: BaseException) -> str:
    """What a database's driver had to say, which may be of several lines, as one sentence."""
    return " ".join(str(error).split()).rstrip(".?") + "."


def _refuse_newer() -> None:
    """What a newer version has written, this one might not understand, and would not keep up."""
    found = Schema.select().first()
    if found is not None and found.version > SCHEMA_VERSION:
        raise SettingsError(
            f"STATS_DB was written by a newer ckanpackager (schema {found.version}, "
            f"this one knows {SCHEMA_VERSION}): install that version or a newer one."
        )


def _mark() -> None:
    """Write down that the tables are now those of this version."""
    if not Schema.update(version=SCHEMA_VERSION).execute():
        Schema.create(version=SCHEMA_VERSION)


def _complete(database: peewee.Database, model: type[peewee.Model]) -> None:
    """Add the columns that an older installation's table lacks. They are all ones that may be NULL."""
    table = model._meta.table_name
    if not database.table_exists(table):
        return
    there = {column.name for column in database.get_columns(table)}
    migrator = SchemaMigrator.from_database(database)
    for field in model._meta.sorted_fields:
        if field.column_name not in there:
            migrate(migrator.add_column(table, field.column_name, field))
