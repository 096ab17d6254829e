"""The programs that a CKAN needs beside it, each ours alone: started, stopped and killed by their process ids.

None is reached through a port that another could take: PostgreSQL and Redis listen on sockets in a folder.
A child gets a signal from the kernel should we die first, so that nothing is left running. (It is sent when
the thread that started the child ends: start them from the main thread.)
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2

from tests.ckan.installation import InstallationError, postgresql_programs, postgresql_user, redis_program

PATIENCE = 60  # seconds to start or to stop in, on a busy machine


class HeldPort:
    """A free port of the loopback interface, bound but not listened on: nobody else is given it.

    A server that sets SO_REUSEADDR, as most do, can listen on it.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def __enter__(self) -> "HeldPort":
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()


class Server:
    """A program that is started, logs to a file, and ends on a signal."""

    stop_signal = signal.SIGTERM

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, "it is not running"
        return self.process.pid

    def run(self, command: Sequence[Path | str], user: str | None = None, **arguments: Any) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*child_of_ours(self.stop_signal, user), *command], stdout=log, stderr=log, **arguments
            )

    def is_ready(self) -> bool:
        raise NotImplementedError

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                raise InstallationError(f"{self.log.stem} does not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it with its own signal, or another. It may have ended by itself."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how or self.stop_signal)
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def child_of_ours(on_our_death: signal.Signals, user: str | None = None) -> list[str]:
    """What to begin a command with so that it does not outlive us, and runs as *user*."""
    become = ["--reuid", user, "--regid", user, "--init-groups"] if user and os.getuid() == 0 else []
    return ["setpriv", *become, "--pdeathsig", on_our_death.name.removeprefix("SIG"), "--"]


class Redis(Server):
    """``url`` is what CKAN knows as ``ckan.redis.url``."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "redis.log")
        self._folder = folder
        self._socket = folder / "redis.socket"
        self.url = f"unix://{self._socket}?db=0"

    def start(self) -> None:
        options: list[Path | str] = [
            "--port",
            "0",
            "--unixsocket",
            self._socket,
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.run([redis_program(), *options, "--dir", self._folder])
        self.wait_until_ready()

    def is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self._socket))
            except OSError:
                return False
            client.sendall(b"PING\r\n")
            return client.recv(5) == b"+PONG"


class PostgreSQL(Server):
    """A cluster in ``folder``, which must belong to who runs it. It trusts whoever gets to its socket."""

    stop_signal = signal.SIGINT  # ends the sessions, and leaves nothing to be recovered

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "postgresql.log")
        self._folder = folder
        self._data = folder / "data"
        self._user = postgresql_user()

    def create(self) -> None:
        """A new cluster."""
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8"]
        program = postgresql_programs() / "initdb"
        command: list[Path | str] = [
            *child_of_ours(signal.SIGKILL, self._user),
            program,
            "-D",
            self._data,
            *options,
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder)

    def pack(self, path: Path) -> None:
        """Keep the cluster, which must not be running, in a tar file."""
        subprocess.run(["tar", "-c", "-C", self._folder, "-f", path, self._data.name], check=True)

    def unpack(self, path: Path) -> None:
        """A cluster as it was kept."""
        command: list[Path | str] = ["tar", "-x", "--no-same-owner", "-p", "-C", self._folder, "-f", "-"]
        # Read by us, since whoever runs PostgreSQL may not be let in where the file is.
        with path.open("rb") as file:
            subprocess.run([*child_of_ours(signal.SIGKILL, self._user), *command], stdin=file, check=True)

    def start(self) -> None:
        options: list[Path | str] = ["-c", "listen_addresses=", "-k", self._folder, "-c", "fsync=off"]
        # Loading a million rows must not wait for a checkpoint that proves nothing here.
        options += ["-c", "full_page_writes=off", "-c", "max_wal_size=8GB", "-c", "shared_buffers=256MB"]
        self.run([postgresql_programs() / "postgres", "-D", self._data, *options], user=self._user)
        self.wait_until_ready()

    def is_ready(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def connect(self, database: str) -> Any:
        """A connection as the superuser, of psycopg2's."""
        return psycopg2.connect(host=str(self._folder), user="postgres", dbname=database)

    def __exit__(self, *exception: object) -> None:
        self.stop(signal.SIGQUIT)  # the folder is thrown away

    def url(self, user: str, database: str) -> str:
        """The database as CKAN's settings name it."""
        return f"postgresql://{user}:x@/{database}?host={self._folder}"

    def script(self, sql: str, database: str) -> None:
        """Run what is written for psql."""
        command: list[Path | str] = [
            postgresql_programs() / "psql",
            "-h",
            self._folder,
            "-U",
            "postgres",
            "-d",
            database,
        ]
        options = ["--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1"]
        subprocess.run([*command, *options], input=sql, text=True, check=True, stdout=subprocess.DEVNULL)
