"""Fixtures that start the real things: a service in its own folder, a CKAN, a mail server."""

import contextlib
import glob
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import psycopg2
import pytest

from tests.fake_ckan import FakeCkan
from tests.services import Service, running_service
from tests.sinks import Sink

# How long an example takes says more about the machine than about us.
hypothesis.settings.register_profile("ckanpackager", deadline=None)
hypothesis.settings.load_profile("ckanpackager")

StartService = Callable[..., Service]


@pytest.fixture
def ckan() -> Iterator[FakeCkan]:
    """A CKAN with the penguins that listens, and misbehaves when told to."""
    with FakeCkan() as fake:
        yield fake


@pytest.fixture
def smtp() -> Iterator[Sink]:
    """A mail server that keeps what it gets."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def start_service(tmp_path: Path, smtp: Sink) -> Iterator[StartService]:
    """Starts a service with the settings given, which mails to ``smtp``."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Service:
            return stack.enter_context(running_service(tmp_path / "service", **smtp.settings, **settings))

        yield start


@pytest.fixture
def service(start_service: StartService) -> Service:
    """A service with the defaults."""
    return start_service()


@pytest.fixture
def postgresql(postgresql_server: Path) -> Iterator[str]:
    """The address of a new database on a PostgreSQL of our own."""
    name = f"test_{secrets.token_hex(4)}"
    with contextlib.closing(
        psycopg2.connect(host=str(postgresql_server), user="tester", dbname="postgres")
    ) as admin:
        admin.autocommit = True
        with admin.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
            yield f"postgresql://tester@/{name}?host={postgresql_server}"
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Path]:
    """The folder in which a PostgreSQL of our own has its socket."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_ctl"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    if os.getuid() == 0 and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    # Not in pytest's folder, which nobody but its owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="ckanpackager-postgresql-"))
    become = []
    if os.getuid() == 0:
        become = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    programs_folder, data = Path(programs[-1]).parent, folder / "data"

    def run(program: str, *arguments: str) -> None:
        command = [*become, programs_folder / program, "-D", data, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    run("initdb", "-A", "trust", "-U", "tester", "-E", "UTF8")
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    run("pg_ctl", "-w", "-o", options, "-l", f"{folder}/log", "start")
    try:
        yield folder
    finally:
        run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)
