"""ckanpackager-service: packages CKAN resources and e-mails their links.

It runs in the foreground, logs to standard error, and stops cleanly on
SIGTERM or SIGINT: what is being made is finished within STOP_GRACE seconds
or goes on at the next start.

Usage: ckanpackager-service [-h | --help] [--version]

Options:
    -h --help   Show this screen.
    --version   Show version.

The settings are read from the Python file that the environment variable
CKANPACKAGER_CONFIG names.
"""

import asyncio
import contextlib
import dataclasses
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import docopt
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from ckanpackager import __version__, faults, stats, systemd
from ckanpackager.database import DatabaseThread
from ckanpackager.errors import PackagerError, SettingsError
from ckanpackager.jobs import models
from ckanpackager.jobs.outbox import Outbox
from ckanpackager.jobs.pools import Supervisor, WorkersCannotStartError, forkserver, start_forkserver
from ckanpackager.jobs.queue import JobQueue
from ckanpackager.jobs.table import JobTable
from ckanpackager.logs import start_logging
from ckanpackager.settings import Settings
from ckanpackager.stats import Statistics
from ckanpackager.store import Store
from ckanpackager.web.app import make_app

log = logging.getLogger(__name__)

_MOST_READERS = 5

# A socket's path has at most 107 bytes (unix(7)).
_LONGEST_FOLDER_OF_SOCKETS = 107 - len("/pymp-12345678/listener-12345678")
_NO_LIMIT = 2**62  # the handlers bound what they keep of a body, and read the rest away


def main() -> int:
    """Run the service until it is told to stop. Returns the exit status: 78 (EX_CONFIG) where the
    settings have to be changed, so that systemd does not try again and again."""
    try:
        docopt.docopt(__doc__, version=__version__)
    except docopt.DocoptExit:
        print("ckanpackager-service takes no arguments; --help says more.", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 1
    try:
        settings = Settings.from_environment()
        start_logging(settings.DEBUG, (settings.SECRET, settings.SMTP_PASSWORD))
        faults.switch_on()
        asyncio.run(serve(settings))
    except PackagerError as error:
        print(f"ckanpackager-service: {error}", file=sys.stderr)  # noqa: T201 - there may be no log yet
        return os.EX_CONFIG if isinstance(error, SettingsError) else 1
    return 0


async def serve(settings: Settings) -> None:
    """Run the service in this loop until SIGTERM or SIGINT.

    Raises SettingsError when it cannot start, and WorkersCannotStartError when it cannot work.
    """
    settings.prepare()
    store = Store(settings.STORE_DIRECTORY, settings.TEMP_DIRECTORY)
    store.prepare()
    database = DatabaseThread()
    with store.lock(), _bound(settings) as sockets:
        store.sweep()
        _keep_temporary_files_in(store.scratch)
        start_forkserver("ckanpackager.service")
        _check_darwin_core(settings)
        settings = dataclasses.replace(settings, PORT=sockets[0].getsockname()[1])
        for note in settings.notes():
            log.warning("%s", note)
        statistics = Statistics(settings.ANONYMIZE_EMAILS, settings.SECRET)
        try:
            tables = await database.open(settings.STATS_DB, (*stats.MODELS, *models.MODELS))
            table = JobTable(tables, settings, store, statistics)
            await database(table.recover, time.time())
            supervisor = Supervisor(settings, table, Outbox(table, settings), store, database)
            queue = JobQueue(settings, table, supervisor, store, database)
            server = HTTPServer(
                make_app(settings, queue, statistics, database), max_body_size=_NO_LIMIT, xheaders=True
            )
            server.add_sockets(sockets)
            await _work(supervisor, database, settings)
            server.stop()
            await server.close_all_connections()
        finally:
            await database.close()
    log.info("stopped")


def _check_darwin_core(settings: Settings) -> None:
    """Raise SettingsError unless archives can be made by these settings.

    A process of its own reads the definitions: this one needs no XML. It waits for nothing, and so does not
    outlive a start that is killed; and where it is killed itself, another takes its place.
    """
    for _ in range(_MOST_READERS):
        with contextlib.suppress(EOFError, ConnectionError):  # it was killed, or the forkserver was
            problem = _problem_with_darwin_core(settings)
            if problem is not None:
                raise SettingsError(problem)
            return
    raise WorkersCannotStartError(
        f"{_MOST_READERS} processes in a row ended before they had read the Darwin Core definitions: "
        "see the lines above."
    )


def _problem_with_darwin_core(settings: Settings) -> str | None:
    """What a new process says of the settings. Raises EOFError where it ends without a word."""
    ours, theirs = forkserver.Pipe(duplex=False)
    with ours:
        with theirs:
            process = forkserver.Process(target=_read_darwin_core, args=(theirs, settings), daemon=True)
            process.start()
        try:
            problem: str | None = ours.recv()
        finally:
            process.join()
    return problem


def _read_darwin_core(pipe: "Connection[Any, Any]", settings: Settings) -> None:
    problem = None
    try:
        importlib.import_module("ckanpackager.dwc.configuration").Configuration.from_settings(settings)
    except SettingsError as error:
        problem = str(error)
    with contextlib.suppress(BrokenPipeError):  # then nobody wants to know any more
        pipe.send(problem)


def _keep_temporary_files_in(folder: Path) -> None:
    """Have them where the next start finds them, if this service is killed: multiprocessing makes a folder
    with a socket, and whatever a ZIP_COMMAND makes goes there too."""
    if len(os.fsencode(folder)) <= _LONGEST_FOLDER_OF_SOCKETS:
        os.environ["TMPDIR"] = str(folder)


@contextlib.contextmanager
def _bound(settings: Settings) -> Iterator[list[socket.socket]]:
    try:
        sockets = bind_sockets(settings.PORT, settings.HOST)
    except OSError as error:
        raise SettingsError(
            f"HOST and PORT: cannot listen on {settings.HOST}:{settings.PORT}: {error.strerror or error}."
        ) from error
    with contextlib.ExitStack() as stack:
        for bound in sockets:
            stack.enter_context(bound)
        yield sockets


async def _work(supervisor: Supervisor, database: DatabaseThread, settings: Settings) -> None:
    loop = asyncio.get_running_loop()

    def stop(signal_number: int) -> None:
        log.info("%s: stopping", signal.Signals(signal_number).name)
        supervisor.stop(settings.STOP_GRACE)
        systemd.notify("STOPPING=1")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    log.info("ckanpackager %s listens on http://%s:%d", __version__, settings.HOST, settings.PORT)
    systemd.notify("READY=1")
    watchdog = asyncio.create_task(_feed_watchdog(database))
    try:
        await supervisor.run()
    finally:
        watchdog.cancel()
        supervisor.abandon()


async def _feed_watchdog(database: DatabaseThread) -> None:
    """Tell systemd that the loop and the database's thread are alive, as long as they are."""
    pause = systemd.watchdog_seconds()
    while pause is not None:
        await database(_nothing)
        systemd.notify("WATCHDOG=1")
        await asyncio.sleep(pause)


def _nothing() -> None:
    """Be done at once."""
