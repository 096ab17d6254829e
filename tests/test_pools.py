"""The supervisor, one step at a time, with real processes."""

import asyncio
import dataclasses
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import peewee
import pytest

from ckanpackager.database import DatabaseThread
from ckanpackager.demo.ckan import PENGUINS
from ckanpackager.demo.listener import Request as HttpRequest
from ckanpackager.demo.listener import Response
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.jobs import pools
from ckanpackager.jobs.messages import Progress
from ckanpackager.jobs.pools import FAST, MAIL, SLOW, Supervisor, WorkersCannotStartError
from ckanpackager.jobs.queue import JobQueue, eta
from ckanpackager.jobs.table import Claim, Request
from ckanpackager.jobs.worker import Reporter
from ckanpackager.store import Package
from tests.fake_ckan import FakeCkan, a_page, page_from, parameters, with_parameters
from tests.services import TIMEOUT, is_alive
from tests.sinks import HANG, Sink
from tests.test_table import Bench

Step = Callable[["Stage"], Awaitable[None]]


class Stage:
    """A supervisor whose time stands still unless it is told."""

    def __init__(self, folder: Path, ckan: FakeCkan, **settings: Any) -> None:
        self.bench = Bench(folder, **{"SMTP_HOST": "127.0.0.1", "SMTP_PORT": 9, **settings})
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

    def queue(self) -> JobQueue:
        return JobQueue(
            self.bench.settings,
            self.bench.table,
            self.supervisor,
            self.bench.store,
            self.database,
            lambda: self.now,
        )

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

    async def is_woken(self) -> bool:
        """Does the loop, when it is left alone, find that there is something to do?"""
        self.supervisor._woken.clear()
        for _ in range(100):
            await asyncio.sleep(0)
        return self.supervisor._woken.is_set()

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
                # Each thread has a connection of its own.
                stage.bench.database.close()
                await stage.database(stage.bench.database.close)
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


def stops(stage: Stage, job_id: str) -> list[str]:
    """Why the job waits again, each time that it does."""
    return [e["reason"] for e in stage.bench.table.events(job_id) if e["state"] == "queued"][1:]


def deaths(stage: Stage, job_id: str) -> int:
    return int(stage.bench.table.view(job_id, private=True)["attempts"])


@pytest.mark.parametrize("pool", [FAST, SLOW])
def test_a_job_that_takes_too_long_is_stopped_and_given_up_at_last(
    stage: Callable[..., None], pool: str
) -> None:
    async def scene(stage: Stage) -> None:
        stage.ckan.hold(times=None, when=a_page)
        job_id = stage.accept(**({"limit": 5000} if pool == SLOW else {}))
        for attempt in (1, 2):
            await stage.until(lambda: any(run.progress.rows_total for run in stage.running(pool)))
            stage.now += 99
            await stage.tick()
            assert stage.running(pool)[0].stopping is None
            stage.now += 1
            await stage.until(lambda attempt=attempt: deaths(stage, job_id) == attempt)  # type: ignore[misc]
        how = f"stopped, not done after 100 seconds ({pool.upper()}_TIMEOUT)"
        assert stops(stage, job_id) == [f"its worker died ({how})"]
        job = stage.bench.table.view(job_id)
        assert (job["state"], job["error"]) == (
            "failed",
            f"The process that made the package died 2 times, last {how}.",
        )
        drafts = list((stage.bench.store.folder / ".drafts").iterdir())
        assert drafts + list(stage.bench.store.scratch.iterdir()) == []

    other = {FAST: "SLOW", SLOW: "FAST"}[pool]
    stage(scene, MAX_ATTEMPTS=2, **{f"{pool.upper()}_TIMEOUT": 100, f"{other}_TIMEOUT": 99})


# The first two of ten rows each: offset and limit.
PAGES = ((0, 10), (9, 11))


def test_a_job_that_stands_still_is_stopped_and_one_that_goes_on_is_not(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        gates = [stage.ckan.hold(when=with_parameters(offset=offset, limit=limit)) for offset, limit in PAGES]
        job_id = stage.accept(sort="Island")
        await stage.until(lambda: any(run.progress.rows_total for run in stage.running()))
        stage.now += 599
        gates[0].open()
        await stage.until(lambda: any(run.progress.rows for run in stage.running()))
        await asyncio.to_thread(stage.ckan.wait_for, 1, page_from(9))
        await stage.tick()
        stage.now += 599
        await stage.tick()
        (run,) = stage.running()
        assert run.stopping is None
        stage.now += 1
        await stage.tick()
        assert run.stopping is not None
        await stage.until(lambda: deaths(stage, job_id) == 1)
        assert stops(stage, job_id) == [
            "its worker died (stopped after 600 seconds without progress (FAST_STALL_TIMEOUT))"
        ]

    stage(scene, PAGES_AT_ONCE=1, PAGE_SIZE=10)


def test_patience_with_a_source_is_no_standstill(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.ckan.status(503, when=a_page)
        stage.ckan.hold(when=a_page)
        stage.accept()
        await stage.until(lambda: any(run.progress.rows_total for run in stage.running()))
        (run,) = stage.running()
        await asyncio.to_thread(stage.ckan.wait_for, 1, a_page)
        stage.now += 599
        before = run.alive
        await asyncio.to_thread(stage.ckan.wait_for, 2, a_page)
        await stage.until(lambda: run.alive > before)
        stage.now += 599
        await stage.tick()
        assert run.stopping is None

    stage(scene, PAGES_AT_ONCE=1)


@pytest.mark.parametrize("what", ["rows", "a file"])
def test_packing_what_has_come_is_no_standstill(
    stage: Callable[..., None], tmp_path: Path, what: str
) -> None:
    async def scene(stage: Stage) -> None:
        if what == "rows":
            job_id = stage.accept()
        else:
            stage.ckan.fault(lambda request: Response(200, iter([b"of unknown length"])))
            url = f"{stage.ckan.url}/file"
            form = {"resource_id": "r", "email": "a@localhost.example", "resource_url": url}
            job_id = stage.bench.ask(Job.from_form("package_url", Form(form)), stage.now)
        await stage.tick()
        command = int(await asyncio.to_thread(fifo.read_text))
        await stage.until(lambda: stage.running()[0].progress.has_all)
        stage.now += 6000
        await stage.tick()
        assert stage.running()[0].stopping is None
        stage.now += 1200
        await stage.until(lambda: deaths(stage, job_id) == 1)
        assert not is_alive(command)
        assert "FAST_TIMEOUT" in stops(stage, job_id)[0]

    os.mkfifo(fifo := tmp_path / "fifo")
    stage(scene, ZIP_COMMAND=f"/bin/sh -c 'echo $$ > {fifo}; exec sleep 60' sh {{output}} {{input}}")


def test_a_mail_server_that_dawdles_for_ever_does_not_keep_a_place(
    stage: Callable[..., None], smtp: Sink
) -> None:
    async def scene(stage: Stage) -> None:
        smtp.answers["RCPT"] = HANG
        job_id = stage.accept(limit=1)
        await stage.until(lambda: bool(stage.running(MAIL)))
        await stage.until(lambda: stage.running(MAIL)[0].is_up)
        stage.now += 20 * 30
        await stage.tick()
        stage.now += 6  # should it be stopped in a moment in which Python hears of no exception
        await stage.until(lambda: not stage.running(MAIL))
        (mail,) = stage.bench.table.view(job_id, private=True)["mails"]
        assert mail == {
            "kind": "ready",
            "state": "waiting",
            "error": "the process that sent it was stopped, not done after 600 seconds (SMTP_TIMEOUT)",
        }

    stage(scene, SMTP_PORT=smtp.port)


def test_a_job_that_needs_more_memory_than_it_may_fails_alone(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.ckan.nonsense(b" " * 200_000_000)
        job_id = stage.accept()
        await stage.until(lambda: stage.bench.state(job_id) == "failed")
        error = "The package needs more memory than the service may use for it (WORKER_MEMORY)."
        assert stage.bench.table.view(job_id)["error"] == error
        other = stage.accept(format="xlsx")
        await stage.until(lambda: stage.bench.state(other) == "built")

    stage(scene, WORKER_MEMORY=100_000_000)


def test_pages_that_are_still_awaited_do_not_hold_up_a_stop(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        def several(request: HttpRequest) -> bool:  # rows, and not the newest id alone
            return a_page(request) and parameters(request)["limit"] > 1

        stage.ckan.hold(times=None, when=several)
        job_id = stage.accept(sort="Island")
        await stage.tick()
        await asyncio.to_thread(stage.ckan.wait_for, 3, several)
        assert stage.running()
        stage.supervisor.stop(grace=0)
        # Time stands still, so nobody comes to kill it.
        await stage.until(lambda: not stage.running())
        assert stage.bench.state(job_id) == "queued"

    stage(scene, PAGES_AT_ONCE=3, PAGE_SIZE=10)


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


@pytest.mark.parametrize("error", [OSError("no process to be had"), EOFError()])
def test_a_process_that_the_host_does_not_give_costs_no_job_and_no_mail(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def scene(stage: Stage) -> None:
        def fail(*arguments: Any) -> None:
            raise error

        built = stage.accept(limit=1)
        await stage.until(lambda: stage.bench.state(built) == "built" and not stage.running(FAST))
        await stage.until(lambda: not stage.running(MAIL))
        stage.now += 3600
        job_id = stage.accept(q="x")
        with monkeypatch.context() as patch:
            patch.setattr(pools, "Child", fail)
            await stage.tick()
            assert not stage.running(FAST) + stage.running(MAIL)
            assert stage.bench.state(job_id) == "queued"
            assert stage.bench.table.view(job_id, private=True)["attempts"] == 0
            with pytest.raises(WorkersCannotStartError):
                for _ in range(5):
                    await stage.tick()
        stage.now += 3600
        await stage.tick()
        assert (len(stage.running(FAST)), len(stage.running(MAIL))) == (1, 1)

    stage(scene)


def test_a_start_that_fails_now_and_then_stops_nothing(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(stage: Stage) -> None:
        def fail(*arguments: Any) -> None:
            raise OSError

        for word in ("a", "b"):
            job_id = stage.accept(q=word)
            with monkeypatch.context() as patch:
                patch.setattr(pools, "Child", fail)
                for _ in range(4):
                    await stage.supervisor._start_next(stage.supervisor.pools[FAST], stage.now)
            await stage.until(lambda job_id=job_id: stage.bench.state(job_id) == "built")  # type: ignore[misc]

    stage(scene)


def test_a_package_that_nobody_wants_any_more_is_not_kept(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        gate = stage.ckan.hold(when=a_page)
        job_id = stage.accept()
        await stage.until(lambda: any(run.progress.rows_total for run in stage.running()))
        await stage.database(stage.bench.table.cancel, job_id, stage.now)
        gate.open()
        await stage.until(lambda: not stage.running())
        assert list(stage.bench.store.folder.glob("*.zip")) == []
        assert stage.bench.state(job_id) == "cancelled"

    stage(scene)


def test_a_folder_that_cannot_be_written_to_is_said(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        (stage.bench.store.folder / ".drafts").rmdir()
        job_id = stage.accept()
        await stage.until(lambda: stage.bench.state(job_id) == "failed")
        error = stage.bench.table.view(job_id)["error"]
        assert error == "The service could not write the package: No such file or directory."

    stage(scene)


def test_a_fault_of_ours_fails_the_job_and_shows_no_more_than_its_name(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.supervisor._settings = dataclasses.replace(stage.bench.settings, PAGE_SIZE="many")
        job_id = stage.accept()
        await stage.until(lambda: stage.bench.state(job_id) == "failed")
        error = stage.bench.table.view(job_id)["error"]
        assert error == "The service has a fault (TypeError); its log says more."

    stage(scene)


def test_the_service_is_told_no_oftener_than_it_wants_to_know() -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with ours, theirs:
        reporter = Reporter(theirs)
        reporter.planned(100, None)
        for rows in range(100):
            reporter.progress(rows, rows * 10)
        said = []
        while ours.poll():
            said.append(ours.recv())
    assert said[:2] == [Progress(rows_total=100), Progress(rows_total=100)]
    assert len(said) < 20


def test_nothing_is_done_while_nothing_happens(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(stage: Stage) -> None:
        ticks = []

        async def tick(now: float) -> None:
            ticks.append(now)

        monkeypatch.setattr(stage.supervisor, "tick", tick)
        running = asyncio.create_task(stage.supervisor.run())
        stage.supervisor.wake()
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(ticks) == 1
        stage.supervisor.stop(grace=0)
        await running

    stage(scene)


def test_what_is_accepted_is_begun_at_once(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        queue = stage.queue()
        woken = stage.supervisor._woken
        job_id = await queue.submit(stage.bench.job())
        assert woken.is_set()
        woken.clear()
        claim = await stage.database(stage.bench.claim)
        await stage.database(stage.bench.table.failed, claim, "no", stage.now)
        await queue.retry(job_id)
        assert woken.is_set()

    stage(scene)


def test_the_table_has_the_last_word_on_how_far_a_job_is(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.ckan.hold(when=a_page)
        job_id = stage.accept()
        bench, queue = stage.bench, stage.queue()
        await stage.until(lambda: any(run.progress.rows_total for run in stage.running()))
        job = await queue.view(job_id)
        assert (job["rows_done"], job["rows_total"], job["bytes_done"]) == (0, 344, 0)
        await stage.database(bench.table.cancel, job_id, stage.now)
        assert stage.running()
        assert (await queue.view(job_id))["bytes_done"] is None

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
            await asyncio.to_thread(select.select, run.child.waitables[-1:], [], [], TIMEOUT)
            await stage.tick()
            assert stage.running() == [run]
            assert not await stage.is_woken()
        other.close()
        await stage.tick()
        assert stage.bench.state(job_id) == "built"

    stage(scene)


def test_a_job_that_could_not_be_started_or_handed_back_is_not_forgotten(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(stage: Stage) -> None:
        def fail(*arguments: Any) -> None:
            raise OSError("no process to be had")

        def cannot(*arguments: Any) -> None:
            raise peewee.OperationalError("disk I/O error")

        job_id = stage.accept()
        with monkeypatch.context() as patch:
            patch.setattr(pools, "Child", fail)
            patch.setattr(stage.bench.table, "hand_back", cannot)
            await stage.tick()
            assert stage.bench.state(job_id) == "running"
        await stage.until(lambda: stage.bench.state(job_id) == "built")

    stage(scene)


@pytest.mark.parametrize("unfit", [{"rows": 2**63}, {"report": "half a \ud800 character"}])
def test_a_package_that_the_database_cannot_hold_fails_alone(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch, unfit: dict[str, Any]
) -> None:
    async def scene(stage: Stage) -> None:
        built = stage.bench.table.built

        def change(claim: Claim, package: Package, now: float) -> bool:
            monkeypatch.undo()
            return built(claim, dataclasses.replace(package, **unfit), now)

        monkeypatch.setattr(stage.bench.table, "built", change)
        job_id, other = stage.accept(limit=1), stage.accept(limit=2)
        await stage.until(
            lambda: stage.bench.state(job_id) == "failed" and stage.bench.state(other) == "built"
        )
        assert "The service has a fault" in stage.bench.table.view(job_id)["error"]
        assert len(list(stage.bench.store.folder.glob("*.zip"))) == 1

    stage(scene, FAST_WORKERS=1)


@pytest.fixture
def lose_word(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], None]:
    """Has the database go away once between writing down what the method does and saying so."""

    def lose(owner: Any, name: str) -> None:
        method = getattr(owner, name)

        def lost(*arguments: Any) -> None:
            monkeypatch.undo()
            method(*arguments)
            raise peewee.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(owner, name, lost)

    return lose


def test_a_package_that_was_written_down_unheard_is_kept(
    stage: Callable[..., None], lose_word: Callable[[Any, str], None]
) -> None:
    async def scene(stage: Stage) -> None:
        job_id = stage.accept(limit=1)
        lose_word(stage.bench.table, "built")
        await stage.until(lambda: stage.bench.state(job_id) == "built")
        await stage.tick()
        assert stage.running(MAIL)
        (package,) = stage.bench.store.folder.glob("*.zip")
        assert stage.bench.table.view(job_id)["download_url"].endswith(package.name)
        await stage.until(lambda: not stage.running())

    stage(scene)


def test_a_job_that_was_claimed_unheard_is_claimed_anew(
    stage: Callable[..., None], lose_word: Callable[[Any, str], None]
) -> None:
    async def scene(stage: Stage) -> None:
        stage.ckan.hold(times=None)
        jobs = [stage.accept(q="heard")]
        await stage.tick()
        jobs.append(stage.accept(q="unheard"))
        lose_word(stage.bench.table, "claim")
        await stage.tick()
        assert [stage.bench.state(job_id) for job_id in jobs] == ["running"] * 2
        assert len(stage.running()) == 1
        await stage.tick()
        assert [run.work.id for run in stage.running()] == jobs
        attempts = [len(stage.bench.table.events(job_id)) for job_id in jobs]
        assert attempts == [2, 4]

    stage(scene)


def test_a_mail_that_was_claimed_unheard_is_sent_all_the_same(
    stage: Callable[..., None], smtp: Sink, lose_word: Callable[[Any, str], None]
) -> None:
    smtp.answers["RCPT"] = HANG

    async def scene(stage: Stage) -> None:
        stage.accept(q="heard")
        stage.bench.build(stage.bench.claim(now=stage.now), stage.now)
        await stage.tick()
        (heard,) = stage.running(MAIL)
        stage.accept(q="unheard")
        stage.bench.build(stage.bench.claim(now=stage.now), stage.now)
        lose_word(stage.bench.outbox, "claim")
        await stage.tick()
        assert stage.running(MAIL) == [heard]
        await stage.tick()
        assert [run.work.mail for run in stage.running(MAIL)] == [1, 2]

    stage(scene, SMTP_PORT=smtp.port)


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
        (Progress(rows=50, rows_total=100, rows_before=25), 10, 20),
        (Progress(rows=50, rows_total=100, rows_before=50), 10, None),
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


# ------------------------------------------------------------- handing in


def test_requests_that_come_while_one_is_written_down_share_the_next_commit(
    stage: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(stage: Stage) -> None:
        queue, shared = stage.queue(), []
        accept, written = stage.bench.table.accept, threading.Event()

        def slow_accept(requests: Sequence[Request], *arguments: Any) -> Any:
            shared.append(len(requests))
            assert written.wait(TIMEOUT)
            return accept(requests, *arguments)

        monkeypatch.setattr(stage.bench.table, "accept", slow_accept)
        first = asyncio.create_task(queue.submit(stage.bench.job(q="0")))
        while not shared:
            await asyncio.sleep(0)
        others = [asyncio.create_task(queue.submit(stage.bench.job(q=f"{n}"))) for n in range(1, 60)]
        await asyncio.sleep(0)
        written.set()
        ids = await asyncio.gather(first, *others)
        assert shared == [1, 50, 9]
        assert [stage.bench.table.view(id, private=True)["id"] for id in ids] == ids
        assert len(set(ids)) == 60
        assert stage.supervisor._woken.is_set()

    stage(scene)


def test_who_goes_away_while_handing_in_keeps_nobody_else_waiting(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        queue = stage.queue()
        gone = asyncio.create_task(queue.submit(stage.bench.job(q="0")))
        stays = asyncio.create_task(queue.submit(stage.bench.job(q="1")))
        await asyncio.sleep(0)
        gone.cancel()
        for waiting in (stays, queue.submit(stage.bench.job(q="2"))):
            assert stage.bench.state(await asyncio.wait_for(waiting, TIMEOUT)) == "queued"

    stage(scene)


def test_where_a_commit_fails_each_of_its_requests_is_refused_and_the_next_is_not(
    stage: Callable[..., None],
) -> None:
    async def scene(stage: Stage) -> None:
        queue, execute = stage.queue(), stage.bench.database.execute_sql

        def fail(sql: str, *arguments: Any) -> Any:
            if sql.startswith("INSERT"):
                raise peewee.OperationalError("database or disk is full")
            return execute(sql, *arguments)

        stage.bench.database.execute_sql = fail
        answers = await asyncio.gather(
            *(queue.submit(stage.bench.job(q=f"{n}")) for n in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [peewee.OperationalError] * 3
        stage.bench.database.execute_sql = execute
        assert stage.bench.state(await queue.submit(stage.bench.job())) == "queued"
        assert stage.bench.table.counts()["queue_length"] == 1

    stage(scene)
