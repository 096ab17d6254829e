"""The supervisor, one step at a time, with real processes."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from ckanpackager.database import DatabaseThread
from ckanpackager.demo.ckan import PENGUINS
from ckanpackager.jobs import pools
from ckanpackager.jobs.messages import Progress
from ckanpackager.jobs.pools import FAST, MAIL, Supervisor, WorkersCannotStartError
from ckanpackager.jobs.queue import eta
from tests.fake_ckan import FakeCkan, a_page
from tests.test_table import Bench

Step = Callable[["Stage"], Awaitable[None]]


class Stage:
    """A supervisor whose time stands still unless it is told."""

    def __init__(self, folder: Path, ckan: FakeCkan, **settings: Any) -> None:
        self.bench = Bench(folder, SMTP_HOST="127.0.0.1", SMTP_PORT=9, **settings)
        self.ckan = ckan
        self.now = 1000.0
        self.database = DatabaseThread()
        self.supervisor = Supervisor(
            self.bench.settings,
            self.bench.table,
            self.bench.outbox,
            self.bench.store,
            self.database,
            lambda: self.now,
        )

    def accept(self, **parameters: Any) -> str:
        asked = {"resource_id": PENGUINS, "api_url": self.ckan.api_url, **parameters}
        return self.bench.accept(self.now, **asked)

    async def tick(self) -> None:
        await self.supervisor.tick(self.now)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Tick whenever something happens until the condition holds."""
        for _ in range(200):
            await self.tick()
            if condition():
                return
            await asyncio.wait_for(self.supervisor._woken.wait(), 20)
            self.supervisor._woken.clear()
        raise AssertionError("nothing came of it")

    def running(self, pool: str = FAST) -> list[pools.Run]:
        return self.supervisor.pools[pool].runs


@pytest.fixture
def stage(tmp_path: Path, ckan: FakeCkan) -> Iterator[Callable[..., None]]:
    """Plays a scene on a stage of its own, and leaves no process behind."""

    def play(scene: Step, **settings: Any) -> None:
        async def run() -> None:
            stage = Stage(tmp_path, ckan, **settings)
            try:
                await scene(stage)
            finally:
                stage.supervisor.abandon()
                stage.bench.database.close()
                await stage.database.close()

        asyncio.run(run())

    yield play


def test_a_pool_runs_no_more_than_it_has_places(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        gate = stage.ckan.hold(times=None)
        jobs = [stage.accept(q=f"q{number}") for number in range(4)]
        await stage.tick()
        assert [run.work.id for run in stage.running()] == jobs[:2]
        gate.open()
        stage.ckan.behave()
        await stage.until(lambda: all(stage.bench.state(job_id) == "built" for job_id in jobs))

    stage(scene, FAST_WORKERS=2)


def test_a_worker_that_ignores_being_stopped_is_killed(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.ckan.hold(when=a_page)
        job_id = stage.accept()
        await stage.until(lambda: any(run.progress.rows_total for run in stage.running()))
        (run,) = stage.running()
        os.kill(run.child.pid, signal.SIGSTOP)  # it will not hear SIGTERM
        stage.supervisor.stop(grace=10)
        await stage.tick()
        assert run.stopping is None
        stage.now += 10
        await stage.tick()
        assert run.stopping == "the service is stopping"
        await stage.tick()
        assert run.child.exit_code is None
        stage.now += 5
        await stage.until(lambda: not stage.running())
        assert stage.bench.state(job_id) == "queued"

    stage(scene)


def test_workers_that_cannot_start_stop_the_service_and_blame_no_job(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(stage: Stage) -> None:
        monkeypatch.setattr(pools, "_live", cannot_start)
        job_id = stage.accept()
        with pytest.raises(WorkersCannotStartError, match="5 worker processes in a row"):
            await stage.until(lambda: False)
        assert stage.bench.state(job_id) == "queued"
        assert stage.bench.table.view(job_id, private=True)["attempts"] == 0

    stage(scene)


def cannot_start(*arguments: Any) -> None:
    os._exit(1)


def test_a_fate_that_could_not_be_written_down_is_not_forgotten(
    stage: Callable[..., None], tmp_path: Path
) -> None:
    async def scene(stage: Stage) -> None:
        await stage.database(stage.bench.database.execute_sql, "pragma busy_timeout = 1")
        gate = stage.ckan.hold(when=a_page)
        job_id = stage.accept()
        await stage.until(lambda: any(run.progress.rows_total for run in stage.running()))
        other = peewee.SqliteDatabase(tmp_path / "stats.db", timeout=0)
        with other.atomic("EXCLUSIVE"):
            gate.open()
            (run,) = stage.running()
            await stage.until(lambda: run.child.exit_code is not None)
            await stage.tick()
            assert stage.running() == [run]
        other.close()
        await stage.tick()
        assert stage.bench.state(job_id) == "built"

    stage(scene)


def test_a_mail_process_that_dies_costs_no_mail(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        job_id = stage.accept(limit=1)
        await stage.until(lambda: bool(stage.running(MAIL)))
        (run,) = stage.running(MAIL)
        run.child.kill()
        await stage.until(lambda: not stage.running(MAIL))
        assert stage.bench.state(job_id) == "built"
        stage.now += 3600
        await stage.until(lambda: bool(stage.running(MAIL)))

    stage(scene)


@pytest.mark.parametrize(
    ("progress", "elapsed", "seconds"),
    [
        (Progress(rows=25, rows_total=100), 10, 30),
        (Progress(size=50, size_total=100), 10, 10),
        (Progress(rows=100, rows_total=100), 10, 0),
        (Progress(rows_total=100), 10, None),
        (Progress(size=50), 10, None),
        (Progress(), 10, None),
    ],
)
def test_the_time_to_go_is_told_where_it_can_be(
    progress: Progress, elapsed: float, seconds: int | None
) -> None:
    assert eta(progress, elapsed) == seconds
