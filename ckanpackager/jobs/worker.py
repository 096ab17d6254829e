"""A child's whole life: one task, one pipe, and then it is gone.

It never opens the database. It dies with the service, however that dies, and
what it says last through its pipe is the task's fate; a child that says
nothing was killed.
"""

import contextlib
import ctypes
import dataclasses
import errno
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import connection, parent_process
from typing import Any

from ckanpackager import faults
from ckanpackager.errors import MailDelayedError, PackagerError, SourceUnavailableError
from ckanpackager.jobs.messages import (
    Alive,
    Built,
    Delayed,
    Failed,
    MailTask,
    Message,
    PackageTask,
    Progress,
    Sent,
    Slow,
    Started,
    Task,
)
from ckanpackager.logs import start_logging, without
from ckanpackager.notify import notify
from ckanpackager.packager import SlowRequest, package
from ckanpackager.settings import Settings
from ckanpackager.store import Store

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 16 << 20  # bytes
_SECONDS_BETWEEN_REPORTS = 0.25
_MOST_OF_A_MESSAGE = 4000
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Stopped(BaseException):
    """The service asked the child to stop."""


class Reporter:
    """Speaks into the pipe, and not oftener than anyone wants to know. Several threads may use it."""

    def __init__(self, pipe: "connection.Connection[Any, Any]") -> None:
        self._pipe = pipe
        self._speaking = threading.Lock()
        self._progress = Progress()
        self._next = 0.0

    def planned(self, rows: int | None, size: int | None, before: int = 0) -> None:
        """See packager.Report."""
        self._progress = Progress(rows=before, rows_total=rows, size_total=size, rows_before=before)
        self.say(self._progress)

    def progress(self, rows: int, size: int) -> None:
        """See packager.Report."""
        progress = dataclasses.replace(self._progress, rows=rows, size=size)
        now = time.monotonic()
        # That all has come is always told: the packing of it is then waited for.
        if now >= self._next or progress.has_all:
            self._next = now + _SECONDS_BETWEEN_REPORTS
            self.say(progress)

    def alive(self) -> None:
        """See packager.Report."""
        self.say(Alive())

    def say(self, message: Message) -> None:
        """Send one message."""
        with self._speaking:
            self._pipe.send(message)


def main(pipe: "connection.Connection[Any, Any]", settings: Settings, task: Task) -> None:
    """Carry out ``task`` and say through ``pipe`` what became of it."""
    os.setsid()
    _die_with_the_service()
    give_memory_back()
    if settings.WORKER_MEMORY:
        # What it has written to, and not the addresses it has reserved: those say little.
        resource.setrlimit(resource.RLIMIT_DATA, (settings.WORKER_MEMORY, settings.WORKER_MEMORY))
    start_logging(settings.DEBUG, (settings.SECRET, settings.SMTP_PASSWORD, _key(task)))
    faults.switch_on()
    with contextlib.suppress(Stopped), _stoppable():
        reporter = Reporter(pipe)
        reporter.say(Started())
        last_word = _carry_out(task, settings, reporter)
        reporter.say(last_word)
        if isinstance(last_word, Built | Sent):
            faults.reached("built.said" if isinstance(last_word, Built) else "sent.said")
    pipe.close()
    # Threads that still wait for an answer that nobody wants must not keep a place of the pool.
    os._exit(os.EX_OK)


def _carry_out(task: Task, settings: Settings, reporter: Reporter) -> Message:
    try:
        if isinstance(task, MailTask):
            return _send(task, settings)
        return _package(task, settings, reporter)
    except PackagerError as error:
        return Failed(_words(error, task))
    except MemoryError:
        log.warning("%s: the memory that it may use (WORKER_MEMORY) is not enough", task.label)
        return Failed("The package needs more memory than the service may use for it (WORKER_MEMORY).")
    except OSError as error:
        return _trouble_of_the_host(task, error)
    except Exception as error:  # unforeseen: the log has all of it, the visitor is told whose fault it is
        log.exception("%s", task.label)
        return Failed(f"The service has a fault ({type(error).__name__}); its log says more.")


def _trouble_of_the_host(task: Task, error: OSError) -> Failed | Delayed:
    if isinstance(task, MailTask):
        log.error("%s", task.label, exc_info=error)
        return Delayed(f"The service could not send the mail: {error.strerror or error}.")
    if error.errno in _NO_ROOM:
        log.warning("%s: %s", task.label, error.strerror)
        return Failed(
            "There was not enough room on the service's disk for the package. "
            "Please ask for it again later, or for fewer rows."
        )
    log.error("%s", task.label, exc_info=error)
    return Failed(f"The service could not write the package: {error.strerror or error}.")


def _package(task: PackageTask, settings: Settings, reporter: Reporter) -> Message:
    store = Store(settings.STORE_DIRECTORY, settings.TEMP_DIRECTORY)
    try:
        return Built(package(task.job, store, task.job_id, task.token, settings, reporter, task.rows_at_most))
    except SlowRequest as slow:
        return Slow(slow.total)
    except SourceUnavailableError as error:
        return Delayed(_words(error, task), error.retry_after)


def _send(task: MailTask, settings: Settings) -> Message:
    faults.reached("mail.begun")
    try:
        notify("mail", settings, task.notice)
    except MailDelayedError as error:
        return Delayed(_words(error, task))
    return Sent()


def _words(error: PackagerError, task: Task) -> str:
    """Its message, as far as every database and mail can hold it: some of it are other servers' words."""
    text = without([_key(task)], str(error))
    return text.replace("\0", "").encode(errors="replace").decode()[:_MOST_OF_A_MESSAGE]


def _key(task: Task) -> str:
    """CKAN's key, if the task has one: it is in nobody's interest that it be repeated."""
    return task.job.key or "" if isinstance(task, PackageTask) else ""


def give_memory_back() -> None:
    """Have the memory of one page used for the next, and what is larger returned to the system.

    The C library would otherwise learn to keep ever larger pieces, in a heap for each thread, and the memory
    of a long job would creep up (mallopt(3); other C libraries than GNU's have no such habit, and need not
    have the function). To return every page would cost a third more of processor time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE)
        mallopt(_M_ARENA_MAX, 1)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the task, and what it has begun is tidied up."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    yield


def _die_with_the_service() -> None:
    """See to it that no child outlives the service.

    The kernel kills the child when its parent dies; but its parent is the forkserver, so a thread watches
    for the end of the service itself.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    service = parent_process()
    assert service is not None

    def watch() -> None:
        connection.wait([service.sentinel])
        os.killpg(os.getpid(), signal.SIGKILL)  # and with it a ZIP_COMMAND, if there is one

    threading.Thread(target=watch, name="service", daemon=True).start()
