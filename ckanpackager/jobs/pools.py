"""The pools: fast and slow for packages, and one for mails.

A pool is so many places. What runs in a place is one process, started for one
task from a forkserver, with one pipe; when it is killed, that task is tried
again and nothing else notices. One owner, one step: :meth:`Supervisor.tick`
collects what the children said, settles the fate of those that ended, and
hands out work.
"""

import asyncio
import contextlib
import dataclasses
import importlib
import logging
import math
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from typing import Any

from ckanpackager import faults
from ckanpackager.database import UNFIT, UNUSABLE, DatabaseThread
from ckanpackager.errors import PackagerError
from ckanpackager.jobs import messages
from ckanpackager.jobs.outbox import Delivery, Outbox
from ckanpackager.jobs.room import Room
from ckanpackager.jobs.table import FAST, SLOW, Claim, JobTable
from ckanpackager.settings import Settings
from ckanpackager.store import Store

log = logging.getLogger(__name__)

MAIL = "mail"
_MAIL_WORKERS = 2
# Of the mail server, each within SMTP_TIMEOUT: more than any mail takes.
_ANSWERS_TO_A_MAIL = 20
_SECONDS_BETWEEN_TICKS = 1.0
_SECONDS_OF_REST = 0.02
_SECONDS_TO_TIDY_UP = 5.0
_MOST_FAILED_STARTS = 5

forkserver = multiprocessing.get_context("forkserver")

# By name, since what carries out a task (requests, smtplib, the writers) has no place in this process.
_WORKER = "ckanpackager.jobs.worker"
_PRELOADED = [_WORKER, "ckanpackager.notify.mail"]


def start_forkserver(main_module: str) -> None:
    """Have the process from which workers are forked, with their code loaded, before the first is needed.

    multiprocessing has every child import the main program anew. With ``main_module``, what that imports,
    loaded beforehand, a child is up in 10 ms instead of 80.
    """
    forkserver.set_forkserver_preload([*_PRELOADED, main_module])
    ensure_running()


def _live(pipe: "Connection[Any, Any]", settings: Settings, task: messages.Task) -> None:
    """The first thing that a child does."""
    importlib.import_module(_WORKER).main(pipe, settings, task)


class WorkersCannotStartError(PackagerError):
    """Processes die before they can take up their task: that is no task's fault, and no retry mends it."""


class Child:
    """A process of ours and what it says."""

    def __init__(self, settings: Settings, task: messages.Task) -> None:
        self._pipe, theirs = forkserver.Pipe(duplex=False)
        with theirs:
            self._process = forkserver.Process(target=_live, args=(theirs, settings, task), daemon=True)
            self._process.start()
        self.said: deque[messages.Message] = deque()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it lives; minus the signal's number where a signal ended it."""
        return self._process.exitcode

    @property
    def waitables(self) -> list[int]:
        """The file descriptors that become readable when it says something or ends."""
        pipe = [] if self._pipe.closed else [self._pipe.fileno()]
        return [*pipe, self._process.sentinel]

    def listen(self) -> None:
        """Take all that it has said into :attr:`said`."""
        with contextlib.suppress(EOFError, OSError):
            while not self._pipe.closed and self._pipe.poll():
                self.said.append(self._pipe.recv())
            return
        self._pipe.close()

    def stop(self) -> None:
        """Ask it to tidy up and end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it, and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def bury(self) -> None:
        """Let go of what the kernel holds for it."""
        self._process.join()
        self._process.close()
        self._pipe.close()


@dataclasses.dataclass(eq=False)
class Run:
    """A task in a place of its pool.

    ``began`` is when, ``alive`` when it was last known not to stand still. ``stopping`` says why it was asked
    to stop, if it was; ``late``, if that was for its taking too long, how.
    """

    work: Claim | Delivery
    child: Child
    began: float
    alive: float
    progress: messages.Progress = dataclasses.field(default_factory=messages.Progress)
    is_up: bool = False
    is_settled: bool = False
    stopping: str | None = None
    late: str | None = None
    kill_at: float | None = None


@dataclasses.dataclass
class Pool:
    """At most ``size`` tasks at once. ``timeout`` is in seconds, ``stall`` in seconds without progress."""

    name: str
    size: int
    timeout: float
    stall: float
    runs: list[Run] = dataclasses.field(default_factory=list)

    @property
    def has_room(self) -> bool:
        """Is a place free?"""
        return len(self.runs) < self.size

    def late(self, run: Run, now: float) -> str | None:
        """In which way the task takes too long, if it does."""
        name = "SMTP" if self.name == MAIL else self.name.upper()
        if now - run.began >= self.timeout:
            return f"stopped, not done after {self.timeout:g} seconds ({name}_TIMEOUT)"
        if now - run.alive >= self.stall and not run.progress.has_all:
            return f"stopped after {self.stall:g} seconds without progress ({name}_STALL_TIMEOUT)"
        return None


class Supervisor:
    """Carries out the jobs of the table and sends the mails of the outbox.

    It lives in the service's loop and is used from nowhere else, so it needs no locks. ``clock`` gives UNIX
    seconds.
    """

    def __init__(
        self,
        settings: Settings,
        table: JobTable,
        outbox: Outbox,
        store: Store,
        database: DatabaseThread,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._table = table
        self._outbox = outbox
        self._store = store
        self._database = database
        self._clock = clock
        self.room = Room(settings, table, store, database)
        self._woken = asyncio.Event()
        self.wake()
        self._failed_starts = 0
        self._unstarted: deque[Claim | Delivery] = deque()
        # What a database that fails has written down is not known: perhaps all that it was told.
        self._is_in_doubt = False
        self._stopping = False
        for_a_mail = _ANSWERS_TO_A_MAIL * settings.SMTP_TIMEOUT
        self.pools = {
            FAST: Pool(FAST, settings.FAST_WORKERS, settings.FAST_TIMEOUT, settings.FAST_STALL_TIMEOUT),
            SLOW: Pool(SLOW, settings.SLOW_WORKERS, settings.SLOW_TIMEOUT, settings.SLOW_STALL_TIMEOUT),
            MAIL: Pool(MAIL, _MAIL_WORKERS, for_a_mail, math.inf),
        }

    # ------------------------------------------------------------- for the service

    async def run(self) -> None:
        """Tick until :meth:`stop`, at once, whenever something happens and at least once a second."""
        self.wake()
        while not (self._stopping and not self._runs()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _SECONDS_BETWEEN_TICKS)
            self._woken.clear()
            await self.tick(self._clock())
            # Where much happens at once, one look at it is enough, and requests are accepted the quicker.
            await asyncio.sleep(_SECONDS_OF_REST)

    def stop(self, grace: float) -> None:
        """Hand out nothing more; what still runs after ``grace`` seconds is handed back to the table."""
        self._stopping = True
        for run in self._runs():
            run.kill_at = self._clock() + grace
        self.wake()

    @property
    def is_stopping(self) -> bool:
        """Has :meth:`stop` been called?"""
        return self._stopping

    def wake(self) -> None:
        """Something has happened: tick soon."""
        self._woken.set()

    def stop_job(self, lease: str) -> None:
        """Stop the worker of a job that was cancelled."""
        for run in self._runs():
            if isinstance(run.work, Claim) and run.work.lease == lease:
                self._stop(run, "cancelled")

    def progress(self, job_id: str) -> messages.Progress | None:
        """How far the package of the job is, while it is being made."""
        for run in self._runs():
            if isinstance(run.work, Claim) and run.work.id == job_id:
                return run.progress
        return None

    def abandon(self) -> None:
        """End whatever still runs, and leave its jobs to the recovery at the next start."""
        self._unwatch()
        for pool in self.pools.values():
            while pool.runs:
                child = pool.runs.pop().child
                child.kill()
                child.bury()

    # ------------------------------------------------------------- the step

    async def tick(self, now: float) -> None:
        """Collect what the children said, bury the dead, hand out work.

        Raises WorkersCannotStartError when one process after the other dies before it can do anything. A
        database that cannot be written now leaves everything as it is for the next tick.
        """
        self._unwatch()
        try:
            for pool in self.pools.values():
                for run in list(pool.runs):
                    await self._follow(pool, run, now)
            await self._hand_back_unstarted(now)
            await self._hand_back_unheard(now)
            if not self._stopping:
                await self.room.look(now)
                for pool in self.pools.values():
                    while self._may_start(pool) and await self._start_next(pool, now):
                        pass
        except UNUSABLE:
            log.exception("the database cannot be used now")
            self._is_in_doubt = True
            return  # what the children say is for the next tick, in a second: it would call for one at once
        self._watch()

    def _may_start(self, pool: Pool) -> bool:
        # A mail needs no room, and what has been announced may be removed to make some.
        return pool.has_room and (pool.name == MAIL or self.room.shortage is None)

    async def _start_next(self, pool: Pool, now: float) -> bool:
        work: Claim | Delivery | None
        if pool.name == MAIL:
            work = await self._database(self._outbox.claim, now)
        else:
            work = await self._database(self._table.claim, pool.name, now)
        if work is None:
            return False
        faults.reached("mail.claimed" if pool.name == MAIL else "job.claimed")
        try:
            child = Child(self._settings, self._task(work))
        except (OSError, EOFError):
            # The host has no process to give, or the forkserver has just died: the next one is another.
            log.exception("no process could be started")
            self._unstarted.append(work)
            await self._hand_back_unstarted(now)
            return False
        pool.runs.append(Run(work, child, began=now, alive=now))
        return True

    def _task(self, work: Claim | Delivery) -> messages.Task:
        if isinstance(work, Delivery):
            return messages.MailTask(work.notice)
        is_unsized = work.queue == FAST and work.job.limit is None
        rows_at_most = self._settings.SLOW_REQUEST if is_unsized else None
        return messages.PackageTask(work.id, work.job, work.lease, rows_at_most)

    async def _follow(self, pool: Pool, run: Run, now: float) -> None:
        exit_code = run.child.exit_code  # before listening: what it said before its end must not be missed
        run.child.listen()
        while run.child.said:
            await self._hear(run, run.child.said[0], now)
            run.child.said.popleft()
        if exit_code is not None:
            run.child.kill()  # what it may have started itself
            if not run.is_settled:
                await self._lost(run, exit_code, now)
            run.child.bury()
            pool.runs.remove(run)
        elif run.kill_at is not None and now >= run.kill_at:
            if run.stopping is None:
                self._stop(run, "the service is stopping")
            else:
                run.child.kill()
        elif run.stopping is None and (late := pool.late(run, now)) is not None:
            run.late = late
            self._stop(run, late)

    async def _hear(self, run: Run, message: messages.Message, now: float) -> None:
        run.is_up, self._failed_starts = True, 0
        if message != run.progress:
            run.alive = now
        if isinstance(message, messages.Progress):
            run.progress = message
        elif isinstance(message, messages.FINAL):
            if isinstance(run.work, Claim):
                await self._settle_job(run.work, message, now)
            else:
                await self._settle_mail(run.work, message, now)
            run.is_settled = True

    async def _settle_job(self, claim: Claim, message: messages.Message, now: float) -> None:
        try:
            await self._settle_as_told(claim, message, now)
        except UNUSABLE:
            raise
        except UNFIT as error:  # that job fails, and not the service, nor with it all that runs
            log.exception("%s", claim.job.resource_id)
            words = f"The service has a fault ({type(error).__name__}); its log says more."
            await self._settle_as_told(claim, messages.Failed(words), now)

    async def _settle_as_told(self, claim: Claim, message: messages.Message, now: float) -> None:
        match message:
            case messages.Built(package):
                faults.reached("built.heard")
                if not await self._database(self._table.built, claim, package, now):
                    await self._discard(claim)
                faults.reached("built.committed")
                await self._forget(claim)
                self.wake()  # a mail is owed
            case messages.Slow(rows):
                await self._queue_again(claim, self._table.move_to_slow, rows, now)
            case messages.Delayed(error, retry_after):
                await self._queue_again(claim, self._table.source_unavailable, error, now, retry_after)
            case messages.Failed(error):
                await self._discard(claim)
                await self._forget(claim)
                await self._database(self._table.failed, claim, error, now)

    async def _settle_mail(self, delivery: Delivery, message: messages.Message, now: float) -> None:
        match message:
            case messages.Sent():
                faults.reached("sent.heard")
                await self._database(self._outbox.sent, delivery, now)
                faults.reached("sent.committed")
            case messages.Delayed(error):
                await self._database(self._outbox.delayed, delivery, error, now)
            case messages.Failed(error):
                await self._database(self._outbox.refused, delivery, error, now)

    async def _lost(self, run: Run, exit_code: int, now: float) -> None:
        """The child ended without a last word: settle for it."""
        how = run.late or _how(exit_code)
        if not run.is_up and exit_code == 1:
            await self._not_started(run.work, now)
        elif isinstance(run.work, Delivery):
            await self._database(self._outbox.delayed, run.work, f"the process that sent it was {how}", now)
        else:
            await self._discard(run.work)
            if run.stopping is not None and run.late is None:
                await self._queue_again(run.work, self._table.hand_back, run.stopping, now)
            else:
                await self._queue_again(run.work, self._table.worker_lost, how, now)
        run.is_settled = True

    async def _hand_back_unstarted(self, now: float) -> None:
        while self._unstarted:
            work = self._unstarted.popleft()
            try:
                await self._not_started(work, now)
            except UNUSABLE:
                self._unstarted.appendleft(work)
                raise

    async def _hand_back_unheard(self, now: float) -> None:
        """What was claimed as the database went away runs nowhere, though the table may say so."""
        if not self._is_in_doubt:
            return
        works = [run.work for run in self._runs()]
        leases = {work.lease for work in works if isinstance(work, Claim)}
        await self._database(self._table.hand_back_all_but, leases, now)
        mails = {work.mail for work in works if isinstance(work, Delivery)}
        await self._database(self._outbox.hand_back_all_but, mails)
        self._is_in_doubt = False

    async def _not_started(self, work: Claim | Delivery, now: float) -> None:
        """That is no fault of the task, which waits for another process; but it must not go on for ever."""
        reason = "its process could not start"
        if isinstance(work, Delivery):
            await self._database(self._outbox.delayed, work, reason, now)
        else:
            await self._queue_again(work, self._table.hand_back, reason, now)
        self._failed_starts += 1
        if self._failed_starts >= _MOST_FAILED_STARTS:
            raise WorkersCannotStartError(
                f"{_MOST_FAILED_STARTS} worker processes in a row ended before they could do anything: "
                "see the traceback above."
            )

    async def _queue_again(self, claim: Claim, transition: Callable[..., bool], *details: Any) -> None:
        """The attempt has ended: what it left to go on with is kept if there is to be another."""
        if not await self._database(transition, claim, *details):
            await self._forget(claim)

    async def _discard(self, claim: Claim) -> None:
        await asyncio.get_running_loop().run_in_executor(
            None, self._store.discard, claim.lease, claim.zip_file_name
        )

    async def _forget(self, claim: Claim) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._store.forget, claim.id)

    def _stop(self, run: Run, reason: str) -> None:
        run.stopping = reason
        run.kill_at = self._clock() + _SECONDS_TO_TIDY_UP
        run.child.stop()

    def _runs(self) -> list[Run]:
        return [run for pool in self.pools.values() for run in pool.runs]

    def _unwatch(self) -> None:
        loop = asyncio.get_running_loop()
        for run in self._runs():
            for descriptor in run.child.waitables:
                loop.remove_reader(descriptor)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        for run in self._runs():
            for descriptor in run.child.waitables:
                loop.add_reader(descriptor, self._noticed, descriptor)

    def _noticed(self, descriptor: int) -> None:
        # It stays readable until the tick has come round: once is enough.
        asyncio.get_running_loop().remove_reader(descriptor)
        self.wake()


def _how(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "killed (SIGKILL), perhaps for want of memory"
    if exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended with status {exit_code}"
