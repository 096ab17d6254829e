"""Following a job until there is nothing more to wait for.

The service may be restarted meanwhile: the job goes on, and so does the waiting.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm

from ckanpackager.commands import output, views
from ckanpackager.commands.client import Service
from ckanpackager.commands.console import Console
from ckanpackager.errors import NotFoundError, UnavailableError

ENDED = {"done", "failed", "cancelled", "expired"}
INTERVAL = 1.0
PATIENCE = 120.0
MAIL_DELAY = 10.0

Clock = Callable[[], float]
Job = dict[str, Any]


def follow(
    ask: Callable[[], Job],
    show: Callable[[Job], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Clock = time.monotonic,
) -> Job:
    """The job as ``ask`` gives it when it has ended; ``show`` is given every state before.

    Raises UnavailableError when the service has been silent for :data:`PATIENCE` seconds.
    """
    silent_since = None
    while True:
        try:
            job = ask()
        except UnavailableError:
            silent_since = clock() if silent_since is None else silent_since
            if clock() - silent_since >= PATIENCE:
                raise
        else:
            silent_since = None
            show(job)
            if job["state"] in ENDED:
                return job
        sleep(INTERVAL)


class StatusPage:
    """The job's own page, at the first of ``urls`` that knows it.

    The public address that visitors use need not be within the reach of the host that queues the job.
    """

    def __init__(self, service: Service, urls: Sequence[str]) -> None:
        self._service = service
        self._urls = list(urls)

    def __call__(self) -> Job:
        """The job now. Raises UnavailableError when no page answers."""
        while len(self._urls) > 1:
            try:
                return self._read(self._urls[0])
            except (UnavailableError, NotFoundError):
                del self._urls[0]
        return self._read(self._urls[0])

    def _read(self, url: str) -> Job:
        job = self._service.get(url).get("job")
        if not isinstance(job, dict) or not isinstance(job.get("state"), str):
            raise UnavailableError(f"{url} does not say what has become of the job.")
        return job


class Progress:
    """Shows a job: a bar on a terminal, a line for every new state elsewhere. Used with ``with``."""

    def __init__(self, console: Console, on_terminal: bool, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._bar = None if console.quiet or not on_terminal else _bar()
        self._state: str | None = None
        self._since = 0.0
        self._told_of_delay = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, job: Job) -> None:
        """Show ``job``."""
        if job["state"] != self._state:
            self._state, self._since = job["state"], self._clock()
            if self._bar is None:
                self._tell(_in_words(job))
        if self._bar is not None:
            _draw(self._bar, job)
        self._tell_of_delay(job)

    def _tell_of_delay(self, job: Job) -> None:
        if job["state"] == "built" and not self._told_of_delay and self._clock() - self._since >= MAIL_DELAY:
            self._told_of_delay = True
            reason = f" ({job['error']})" if job.get("error") else ""
            self._tell(
                f"The package is ready at {job.get('download_url')}, but its e-mail is delayed{reason}. "
                "Waiting until it is sent."
            )

    def _tell(self, text: str) -> None:
        if self._bar is not None:
            self._bar.clear()
        self._console.note(text)


def _in_words(job: Job) -> str:
    # Why a job has failed is the answer to the command, and is said with that.
    amount = "" if job["state"] == "failed" else views.progress(job)
    return f"{job['state']}: {amount}" if amount else str(job["state"])


def _bar() -> "tqdm[Any]":
    return tqdm(unit=" rows", dynamic_ncols=True, mininterval=0)


def _draw(bar: "tqdm[Any]", job: Job) -> None:
    is_file = job.get("task") == "package_url" or (not job.get("rows_total") and job.get("bytes_done"))
    bar.unit, bar.unit_scale = ("B", True) if is_file else (" rows", False)
    bar.total = None if is_file else job.get("rows_total")
    bar.n = (job.get("bytes_done") if is_file else job.get("rows_done")) or 0
    waiting = f", {views.progress(job)}" if job["state"] == "queued" else ""
    bar.set_description_str(output.one_line(f"{job['state']}{waiting}"), refresh=True)
