"""The real service, as its users start it, in a folder of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parent.parent
SECRET = "the secret of the tests"
TIMEOUT = 20
LOG_ENDED = "(the log ended)"
FINISHED = ("done", "failed", "cancelled", "expired")


class Service:
    """A ckanpackager-service of our own. What it logs is what tests wait for.

    One that is ``hurried`` has its pauses cut, and makes a checkpoint after every page.
    """

    def __init__(self, folder: Path, *, hurried: bool = False, **settings: Any) -> None:
        self.program = [str(Path(sys.executable).with_name("ckanpackager-service"))]
        self.environment = dict(os.environ)
        if hurried:
            self.program = [sys.executable, "-m", "tests.chaos.hurried"]
            self.environment["PYTHONPATH"] = str(ROOT)
        self.folder = folder
        self.store = folder / "store"
        self.scratch = folder / "temp"
        self.settings = {
            "SECRET": SECRET,
            "HOST": "127.0.0.1",
            "PORT": 0,
            "STATS_DB": f"sqlite:///{folder}/stats.db",
            "STORE_DIRECTORY": str(self.store),
            "TEMP_DIRECTORY": str(self.scratch),
            "EMAIL_FROM": "packager@localhost.example",
            **settings,
        }
        self.lines: list[str] = []
        self._heard = threading.Condition()

    def start(self, environment: dict[str, str] | None = None) -> None:
        """Start it, and return when it listens."""
        begin = len(self.lines)
        self.begin_to_start(environment)
        line = self.wait_for_log(r"listens on (\S+)", after=begin)
        match = re.search(r"listens on (\S+)", line)
        assert match is not None
        self.url = match[1]

    def begin_to_start(self, environment: dict[str, str] | None = None) -> None:
        """Start it, and do not wait."""
        config = self.folder / "settings.py"
        config.write_text("".join(f"{name} = {value!r}\n" for name, value in self.settings.items()))
        self.process = subprocess.Popen(
            self.program,
            env={**self.environment, "CKANPACKAGER_CONFIG": str(config), **(environment or {})},
            stderr=subprocess.PIPE,
            text=True,
        )
        if self.lines:
            self.lines[-1] = "(it was started again)"
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._heard:
                    self.lines.append(line.rstrip())
                    self._heard.notify_all()
        with self._heard:
            self.lines.append(LOG_ENDED)
            self._heard.notify_all()

    def wait_for_log(self, pattern: str, after: int = 0, timeout: float = TIMEOUT) -> str:
        """The first line that matches, once there is one."""
        seen = after

        def look() -> str | None:
            nonlocal seen
            for number in range(seen, len(self.lines)):
                if re.search(pattern, self.lines[number]):
                    return self.lines[number]
            assert not self.lines or self.lines[-1] != LOG_ENDED, f"{pattern!r} was not logged:\n{self.log}"
            seen = len(self.lines)
            return None

        with self._heard:
            line = self._heard.wait_for(look, timeout)
        assert line, f"{pattern!r} was not logged:\n{self.log}"
        return line

    @property
    def log(self) -> str:
        """All that it has logged."""
        return "\n".join(self.lines)

    def post(self, path: str, secret: str | None = SECRET, **parameters: Any) -> requests.Response:
        """Post a form as the CKAN extension does."""
        form = parameters if secret is None else {"secret": secret, **parameters}
        return requests.post(self.url + path, data=form, timeout=TIMEOUT)

    def submit(self, task: str = "package_datastore", **parameters: Any) -> str:
        """Post what must be accepted. Returns the job's id."""
        answer = self.post("/" + task, **{"email": "visitor@localhost.example", **parameters})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """The job, as its page says it."""
        answer = requests.get(
            f"{self.url}/jobs/{job_id}", headers={"Accept": "application/json"}, timeout=TIMEOUT
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["job"])

    def wait_for(self, job_id: str, *states: str, timeout: float = TIMEOUT) -> dict[str, Any]:
        """The job, once it is in one of the states (by default: once it is finished)."""
        self.wait_for_log(rf"job {job_id} ({'|'.join(states or FINISHED)}):", timeout=timeout)
        return self.job(job_id)

    def events(self, job_id: str) -> list[str]:
        """The states that the job went through."""
        return [event["state"] for event in self.post(f"/jobs/{job_id}").json()["events"]]

    def worker_pids(self, name: str = "ckanpackager") -> list[int]:
        """The processes that carry out tasks: the children of the forkserver."""
        return [pid for helper in children(self.process.pid) for pid in children(helper) if is_alive(pid)]

    def kill(self) -> None:
        """SIGKILL: no last words, no tidying up."""
        self._end(self.process.kill)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self._end(self.process.terminate)
        return self.process.returncode

    def _end(self, how: Callable[[], None]) -> None:
        how()
        self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]
    return []


def is_alive(pid: int) -> bool:
    """Is there such a process, and not only its remains?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def running_service(folder: Path, **settings: Any) -> Iterator[Service]:
    """A service that is stopped, whatever happens, when the block is left."""
    folder.mkdir(exist_ok=True)
    service = Service(folder, **settings)
    service.start()
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)
            service._end(lambda: None)
        leftovers = [line for line in service.lines if "Traceback" in line]
        assert not leftovers, service.log
