"""The service, started again whenever it dies, as systemd does it."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.diary import Diary
from tests.services import SECRET, children, is_alive

ROOT = Path(__file__).parent.parent.parent
MARK = "CHAOS_MARK"
_PAUSE = 0.05  # seconds before it is started again
_LONGEST_START = 30.0


class Unit:
    """A service of our own in ``folder``. Sockets lie in ``temp``, whose path must be short."""

    def __init__(self, folder: Path, temp: Path, diary: Diary, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.temp = temp
        self.database = folder / "stats.db"
        self.faults = folder / "faults"
        self.mark = f"{os.getpid()}-{time.time_ns()}"
        self.given_up = False
        self.exits: list[tuple[float, int]] = []  # when, and with which status
        self._diary = diary
        self._lines: list[str] = []
        self._url: str | None = None
        self._generation = 0
        self._limit: int | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="unit")
        self.faults.mkdir(parents=True)
        self.settings = {
            "SECRET": SECRET,
            "HOST": "127.0.0.1",
            "PORT": 0,
            "PUBLIC_URL": "http://packages.example.org",
            "STATS_DB": f"sqlite:///{self.database}",
            "STORE_DIRECTORY": str(self.store),
            "TEMP_DIRECTORY": str(self.temp),
            "EMAIL_FROM": "packager@localhost.example",
            **settings,
        }
        lines = (f"{name} = {value!r}\n" for name, value in self.settings.items())
        (folder / "settings.py").write_text("".join(lines))

    def start(self) -> None:
        """Start it, and return when it listens."""
        self._thread.start()
        self.wait_until_up()

    def wait_until_up(self, after: int = 0, timeout: float = _LONGEST_START) -> tuple[str, int]:
        """Its address and how often it has come up, once that is more than ``after``."""
        with self._changed:
            up = self._changed.wait_for(
                lambda: self.given_up or (self._url is not None and self._generation > after), timeout
            )
            assert up and self._url is not None, f"the service does not come up:\n{self.tail()}"
            return self._url, self._generation

    def wait_for_another(self, than: int, timeout: float) -> None:
        """Return when it has come up anew; or after so many seconds, if it has never been down."""
        with self._changed:
            self._changed.wait_for(lambda: self.given_up or self._generation > than, timeout)
        self.wait_until_up()

    @property
    def pid(self) -> int | None:
        """The service's process, if there is one now."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def forkserver(self) -> int | None:
        """The process from which workers are forked, if there is one now."""
        for pid in children(self.pid) if self.pid else []:
            if b"forkserver" in _read(pid, "cmdline"):
                return pid
        return None

    def workers(self) -> list[int]:
        """The processes that carry out tasks."""
        forkserver = self.forkserver()
        return [pid for pid in children(forkserver) if is_alive(pid)] if forkserver else []

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal. False where it is not there."""
        pid = self.pid
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def limit_files(self, size: int | None) -> None:
        """Let no file grow beyond ``size`` bytes, now and after a restart: as if the disk were full."""
        self._limit = size
        forkserver = self.forkserver()
        for pid in (self.pid, forkserver, *self.workers()):
            if pid is not None:
                _limit(pid, size)

    def stop(self) -> int:
        """Stop it as systemd does. Returns its exit status."""
        self._stopping = True
        self._diary.note("stop: for good")
        self.signal(signal.SIGTERM)
        self._thread.join(60)
        assert not self._thread.is_alive(), f"the service does not stop:\n{self.tail()}"
        return self.exits[-1][1]

    def destroy(self) -> None:
        """End whatever is still there."""
        self._stopping = True
        for pid in self.marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._thread.join(60)

    def marked(self) -> list[int]:
        """All processes that come from this service, whoever their parent is now."""
        mark = f"{MARK}={self.mark}".encode()
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        return [pid for pid in pids if mark in _read(pid, "environ").split(b"\0") and is_alive(pid)]

    @property
    def log(self) -> str:
        """All that it has logged."""
        return "\n".join(self._lines)

    def tail(self) -> str:
        """The end of the log."""
        return "\n".join(self._lines[-60:])

    def _keep_running(self) -> None:
        while not self._stopping:
            self._run_once()
            if self.exits[-1][1] == os.EX_CONFIG:
                # RestartPreventExitStatus: systemd would leave it at that.
                with self._changed:
                    self.given_up = True
                    self._changed.notify_all()
                return
            time.sleep(_PAUSE)

    def _run_once(self) -> None:
        environment = {
            **os.environ,
            "CKANPACKAGER_CONFIG": str(self.folder / "settings.py"),
            "CKANPACKAGER_FAULTS": str(self.faults),
            MARK: self.mark,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.hurried"], env=environment, stderr=subprocess.PIPE, text=True
        )
        if self._limit is not None:
            _limit(process.pid, self._limit)
        threading.Thread(target=self._read_log, args=(process,), daemon=True).start()
        status = process.wait()
        with self._changed:
            self._url = None
            self.exits.append((time.time(), status))
        self._diary.note("the service came down")

    def _read_log(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self._lines.append(f"{time.time() - self._diary.began:8.2f} {line.rstrip()}")
                if match := re.search(r"listens on (\S+)", line):
                    with self._changed:
                        self._url = match[1] if process is self._process and process.poll() is None else None
                        self._generation += 1
                        self._changed.notify_all()


def _limit(pid: int, size: int | None) -> None:
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
    except ProcessLookupError:
        return


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
