"""Trouble for the service, by a seed: kills, a source and a mail server that fail, no room, a locked database."""

import contextlib
import os
import random
import signal
import sqlite3
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests

from ckanpackager.faults import POINTS, plant
from tests.chaos.diary import Diary
from tests.chaos.portal import Portal, connect, query
from tests.chaos.unit import Unit
from tests.fake_ckan import FakeCkan, a_download, a_page, any_request, interrupted
from tests.services import SECRET, TIMEOUT, is_alive
from tests.sinks import DROP, HANG, Mail, Sink

OF_THE_SERVICE = tuple(
    point for point in POINTS if point.endswith((".accepted", ".claimed", ".heard", ".committed"))
)
OF_A_WORKER = tuple(point for point in POINTS if point not in OF_THE_SERVICE)
OF_THE_DISK = tuple(
    point for point in POINTS if point.startswith(("checkpoint.", "draft.", "package.", "folder."))
)

# What each act is called in the diary begins with one of these.
KILL, FULL, REFUSAL, CUT, LOCK, STOP = (
    "kill",
    "disk full",
    "smtp: 550",
    "smtp: cut",
    "database: locked",
    "stop",
)

# How often each is done, in proportion.
KILLS = {
    "kill_a_worker": 30,
    "kill_a_new_worker": 15,
    "kill_a_worker_at_a_point": 30,
    "kill_the_service": 8,
    "kill_the_service_at_a_point": 8,
    "kill_a_starting_service": 2,
    "kill_the_forkserver": 7,
}
TROUBLES = {
    "trouble_the_source": 12,
    "trouble_the_mail": 8,
    "fill_the_disk": 4,
    "fill_the_disk_at_a_point": 3,
    "lock_the_database": 4,
    "cancel": 3,
    "cancel_late": 3,
    "stop_and_start": 2,
}


class ChaosSink(Sink):
    """A mail server that notes when each mail came, and may cut all connections before it has said so."""

    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self.came: list[tuple[float, Mail]] = []
        self.cuts = 0
        self._diary = diary

    def keep(self, mail: Mail) -> None:
        super().keep(mail)
        self.came.append((time.time(), mail))
        if self.cuts:
            self.cuts -= 1
            self._diary.note(CUT + " when it had the mail")
            for connection in list(self.connections):
                connection.cut()


class Trouble:
    """Acts while ``portal`` posts. ``rng`` decides what, when and how."""

    def __init__(
        self, unit: Unit, ckan: FakeCkan, sink: ChaosSink, portal: Portal, diary: Diary, rng: random.Random
    ) -> None:
        self.cancelled: set[str] = set()
        self.seen_broken: list[str] = []
        self._unit = unit
        self._ckan = ckan
        self._sink = sink
        self._portal = portal
        self._diary = diary
        self._rng = rng
        self._planted: dict[Path, str] = {}
        self._undoing: set[threading.Timer] = set()
        self._over = threading.Event()
        self._spotter = threading.Thread(target=self._spot, name="spotter")

    def make(self, jobs: int, kills: int) -> None:
        """So many kills, and other troubles, spread evenly over so many jobs."""
        self._spotter.start()
        acts = [*self._choose(KILLS, kills), *self._choose(TROUBLES, kills * 2 // 3)]
        self._rng.shuffle(acts)
        for number, act in enumerate(acts):
            if not self._portal.wait_for(number * jobs // len(acts), 120):
                break
            self._over.wait(self._rng.uniform(0, 0.1))
            getattr(self, act)()
        while self._portal.is_posting() and self._portal.wait_for(self._portal.posted + 1, 120):
            # Planted kills that nobody came by, or workers that were not there: make them up.
            if self._diary.count(KILL) < kills:
                getattr(self, self._choose(KILLS, 1)[0])()

    def end(self) -> None:
        """Let everything work again."""
        for undo in list(self._undoing):
            undo.join()
        self._over.set()
        self._spotter.join()
        for path in self._planted:
            path.unlink(missing_ok=True)
        self._ckan.behave()
        self._sink.answers.clear()
        self._sink.cuts = 0
        self._unit.limit_files(None)

    def _choose(self, table: dict[str, int], count: int) -> list[str]:
        return self._rng.choices(list(table), list(table.values()), k=count)

    # ------------------------------------------------------------- kills

    def kill_a_worker(self) -> None:
        if pids := self._soon(self._unit.workers):
            self._kill(self._rng.choice(pids), "a worker")

    def kill_a_new_worker(self) -> None:
        old = set(self._unit.workers())
        if pids := self._soon(lambda: [pid for pid in self._unit.workers() if pid not in old], often=0.001):
            self._kill(pids[0], "a worker that has just started")

    def kill_a_worker_at_a_point(self) -> None:
        self._plant(self._rng.choice(OF_A_WORKER), "kill")

    def kill_the_service(self) -> None:
        self._unit.wait_until_up()
        self._over.wait(self._rng.uniform(0, 0.2))
        if (pid := self._unit.pid) is not None:
            self._kill(pid, "the service")

    def kill_the_service_at_a_point(self) -> None:
        self._plant(self._rng.choice(OF_THE_SERVICE), "kill")

    def kill_a_starting_service(self) -> None:
        self.kill_the_service()
        for _ in range(2):
            self._over.wait(self._rng.uniform(0.1, 0.8))
            if (pid := self._unit.pid) is not None:
                self._kill(pid, "the service while it starts")

    def kill_the_forkserver(self) -> None:
        self._unit.wait_until_up()
        if (pid := self._unit.forkserver()) is not None:
            self._kill(pid, "the forkserver")

    def _kill(self, pid: int, what: str) -> None:
        if is_alive(pid):
            self._diary.note(f"{KILL}: {what}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _plant(self, point: str, what: str) -> None:
        path = self._unit.faults / point
        if path not in self._planted:
            self._planted[path] = what
            plant(self._unit.faults, point, what)

    # ------------------------------------------------------------- what they depend on

    def trouble_the_source(self) -> None:
        kind = self._rng.choice(["hangs up", "hangs up in mid-page", "is slow in mid-page", "is overloaded"])
        when = self._rng.choice([any_request, a_page, a_download])
        self._diary.note(f"source: {kind}")
        after = self._rng.randrange(2000)
        if kind == "hangs up":
            self._ckan.hang_up(when=when)
        elif kind == "hangs up in mid-page":
            self._ckan.hang_up(after, when=when)
        elif kind == "is overloaded":
            self._ckan.status(503, times=self._rng.randint(1, 3), when=when)
        else:
            seconds = self._rng.uniform(0.1, 3)
            wait = threading.Event().wait
            answer = super(FakeCkan, self._ckan).answer
            self._ckan.fault(
                lambda request: interrupted(answer(request), after, lambda: wait(seconds)), when=when
            )

    def trouble_the_mail(self) -> None:
        kind, where, how = self._rng.choice(
            [
                ("hangs up", "CONNECT", DROP),
                ("is not ready", "CONNECT", "421 4.3.2 not now"),
                ("is silent", "EHLO", HANG),
                ("is silent after a mail", "MESSAGE", HANG),
                ("greylists", "RCPT", "451 4.7.1 later"),
                ("loses the line", "MESSAGE", DROP),
                ("550", "RCPT", "550 5.1.1 no such user"),
                ("cut", "", ""),
            ]
        )
        if kind == "cut":
            self._sink.cuts += 1
            return
        seconds = self._rng.uniform(0.1, 0.5 if kind == "550" else 1.5)
        self._diary.note(f"smtp: {kind}", seconds)
        self._sink.answers[where] = how
        self._later(seconds, lambda: self._sink.answers.pop(where, None))

    def fill_the_disk(self) -> None:
        size = self._rng.choice([0, 0, 4096, 50_000])
        seconds = self._rng.uniform(0.2, 1.5)
        self._diary.note(FULL, seconds)
        self._unit.limit_files(size)
        self._later(seconds, lambda: self._unit.limit_files(None))

    def fill_the_disk_at_a_point(self) -> None:
        self._plant(self._rng.choice(OF_THE_DISK), "ENOSPC")

    def lock_the_database(self) -> None:
        self._lock(self._rng.choice([0.2, 0.5, 2.0]))

    def stop_and_start(self) -> None:
        self._diary.note(f"{STOP}: SIGTERM")
        self._unit.signal(signal.SIGTERM)

    def cancel(self) -> None:
        if running := self._soon(self._running):
            self._cancel(self._rng.choice(running))

    def cancel_late(self) -> None:
        """Cancel a job while the database is locked: its worker may have finished when that comes through."""
        if running := self._soon(self._running):
            self._lock(0.7)
            self._later(0, lambda: self._cancel(running[-1]))

    def _running(self) -> list[str]:
        sql = "SELECT id FROM jobs WHERE state = 'running' ORDER BY started"
        return [job_id for (job_id,) in query(self._unit, sql)]

    def _cancel(self, job_id: str) -> None:
        self._diary.note("cancel")
        self.cancelled.add(job_id)
        with contextlib.suppress(requests.RequestException):
            url, _ = self._unit.wait_until_up()
            requests.post(f"{url}/jobs/{job_id}/cancel", {"secret": SECRET}, timeout=TIMEOUT)

    def _lock(self, seconds: float) -> None:
        database = connect(self._unit)
        try:
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            database.close()
            return
        self._diary.note(LOCK, seconds)

        def unlock() -> None:
            database.execute("ROLLBACK")
            database.close()

        self._later(seconds, unlock)

    # ------------------------------------------------------------- by the way

    def _later(self, seconds: float, act: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                act()
            finally:
                self._undoing.discard(timer)

        timer = threading.Timer(seconds, run)
        self._undoing.add(timer)
        timer.start()

    def _soon(self, look: Callable[[], list[Any]], often: float = 0.01) -> list[Any]:
        """What is found, if it is found within a second."""
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if found := look():
                return found
            self._over.wait(often)
        return []

    def _spot(self) -> None:
        """Note what has struck, and that whatever has a name in the store is whole from the first moment."""
        known: set[Path] = set()
        while not self._over.wait(0.02):
            for path, what in list(self._planted.items()):
                if not path.is_symlink():
                    self._diary.note(f"{KILL if what == 'kill' else FULL}: at {path.name}")
                    del self._planted[path]
            for path in set(_packages(self._unit.store)) - known:
                known.add(path)
                try:
                    with zipfile.ZipFile(path):
                        pass
                except FileNotFoundError:
                    continue  # nobody was told of it
                except zipfile.BadZipFile as error:
                    self.seen_broken.append(f"{path.name} has its name and is not whole: {error}")


def _packages(folder: Path) -> Iterator[Path]:
    return folder.glob("[!.]*.zip")
