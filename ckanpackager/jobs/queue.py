"""The counter at which jobs are handed in and asked after.

What has been submitted is on the disk before the caller hears of it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ckanpackager import faults
from ckanpackager.database import DatabaseThread
from ckanpackager.errors import UnavailableError
from ckanpackager.job import Job
from ckanpackager.jobs.messages import Progress
from ckanpackager.jobs.models import PackageRow, State
from ckanpackager.jobs.pools import Supervisor
from ckanpackager.jobs.table import FAST, SLOW, JobTable, Request
from ckanpackager.jobs.views import status_url
from ckanpackager.settings import Settings
from ckanpackager.store import Store

# A commit of more than that would keep everybody else waiting.
_MOST_AT_ONCE = 50
_NO_ROOM = "The service has too little room on its disk at the moment. Please try again later."
_NO_ROOM_YET = "The service has too little room on its disk at the moment. It goes on when there is more."


class JobQueue:
    """The table, the pools and the store as the web sees them; nothing here blocks."""

    def __init__(
        self,
        settings: Settings,
        table: JobTable,
        supervisor: Supervisor,
        store: Store,
        database: DatabaseThread,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._table = table
        self._supervisor = supervisor
        self._store = store
        self._database = database
        self._clock = clock
        self._handed_in: list[tuple[Request, asyncio.Future[str]]] = []
        self._accepting: asyncio.Task[None] | None = None

    async def submit(self, job: Job, idempotency_key: str | None = None) -> str:
        """Accept the job and return its id; see JobTable.accept.

        Raises UnavailableError while the service is stopping or short of room, and where the queue is full;
        ConflictError where the key was used for another request.
        """
        if self._supervisor.is_stopping:
            raise UnavailableError("The service is being stopped. Please try again in a minute.")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._handed_in.append((Request(job, idempotency_key), answer))
        if self._accepting is None:
            self._accepting = asyncio.create_task(self._accept())
        return await answer

    async def _accept(self) -> None:
        """Accept what has been handed in. What comes meanwhile waits, and shares the next commit: to have the
        disk confirm it takes most of the time.
        """
        while self._handed_in:
            taken, self._handed_in = self._handed_in[:_MOST_AT_ONCE], self._handed_in[_MOST_AT_ONCE:]
            closed = None if self._supervisor.room.shortage is None else _NO_ROOM
            requests = [request for request, _ in taken]
            answers: Sequence[str | Exception]
            try:
                answers = await self._database(self._table.accept, requests, self._clock(), closed)
                faults.reached("job.accepted")
            except Exception as error:  # raised anew by each of those who wait
                answers = [error] * len(taken)
            for (_, waiting), answer in zip(taken, answers, strict=True):
                if waiting.cancelled():
                    continue  # who handed it in has gone, and the others still wait
                if isinstance(answer, str):
                    waiting.set_result(answer)
                else:
                    waiting.set_exception(answer)
            self._supervisor.wake()
        self._accepting = None

    def status_url(self, job_id: str) -> str:
        """The address of the visitor's page of the job."""
        return status_url(self._settings, job_id)

    async def counts(self) -> dict[str, Any]:
        """See JobTable.counts; how many workers each pool has; and what there is too little room for."""
        counts = await self._database(self._table.counts)
        for name in (FAST, SLOW):
            counts["pools"][name] = {"workers": self._supervisor.pools[name].size, **counts["pools"][name]}
        counts["worker_count"] = sum(pool["workers"] for pool in counts["pools"].values())
        return {**counts, "shortage": self._supervisor.room.shortage}

    async def view(self, job_id: str, *, private: bool = False) -> dict[str, Any]:
        """The job in JSON's types, with how far it is. Raises NotFoundError."""
        return self._with_progress(await self._database(self._table.view, job_id, private=private))

    async def events(self, job_id: str) -> list[dict[str, Any]]:
        """See JobTable.events."""
        return await self._database(self._table.events, job_id)

    async def page(self, state: str | None, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Jobs for the admin, newest first, and how many there are of them."""
        jobs, total = await self._database(self._table.page, state, offset, limit)
        return [self._with_progress(job) for job in jobs], total

    async def cancel(self, job_id: str, reason: str = "cancelled") -> None:
        """End an unfinished job. Raises NotFoundError, ConflictError."""
        lease = await self._database(self._table.cancel, job_id, self._clock(), reason)
        faults.reached("cancel.committed")
        if lease is not None:
            self._supervisor.stop_job(lease)
        else:
            await asyncio.get_running_loop().run_in_executor(None, self._store.forget, job_id)

    async def retry(self, job_id: str) -> None:
        """Queue a failed job again. Raises NotFoundError, ConflictError."""
        await self._database(self._table.retry, job_id, self._clock())
        self._supervisor.wake()

    async def package(self, zip_file_name: str) -> PackageRow:
        """See JobTable.package."""
        return await self._database(self._table.package, zip_file_name)

    def lent(self, zip_file_name: str) -> AbstractContextManager[None]:
        """See Room.lent."""
        return self._supervisor.room.lent(zip_file_name)

    def package_path(self, zip_file_name: str) -> Path:
        """Where the package lies."""
        return self._store.path(zip_file_name)

    async def remove_packages(self, older_than: float | None = None) -> tuple[int, int]:
        """Remove what is past its expiry, or made more than so many seconds ago: how many files and bytes."""
        now = self._clock()
        cutoff = None if older_than is None else now - older_than
        names = await self._database(self._table.remove_packages, now, cutoff=cutoff)
        return await asyncio.get_running_loop().run_in_executor(None, self._store.remove, names)

    def _with_progress(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["state"] == State.QUEUED and self._supervisor.room.shortage is not None:
            return {**job, "waits_for": "disk", "error": _NO_ROOM_YET}
        progress = self._supervisor.progress(job["id"])
        # A worker that has had its last word may linger for a moment; the table knows better by then.
        if progress is None or job["state"] != State.RUNNING:
            return job
        return {
            **job,
            "rows_done": progress.rows,
            "rows_total": progress.rows_total,
            "bytes_done": progress.size,
            "eta_seconds": eta(progress, self._clock() - job["started"]),
        }


def eta(progress: Progress, elapsed: float) -> int | None:
    """Seconds until the package is made, if it goes on as it went; None where that cannot be said."""
    rows = progress.rows_before, progress.rows, progress.rows_total
    size = 0, progress.size, progress.size_total
    for before, done, total in (rows, size):
        if total is not None and before < done <= total:
            return round(elapsed * (total - done) / (done - before))
    return None
