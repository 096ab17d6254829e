"""What was promised, and what has become of it."""

import contextlib
import hashlib
import itertools
import re
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.chaos.diary import Diary
from tests.chaos.orders import Order
from tests.chaos.portal import UNFINISHED, Portal, query
from tests.chaos.trouble import CUT, FULL, KILL, LOCK, REFUSAL, STOP, ChaosSink, Trouble
from tests.chaos.unit import Unit
from tests.services import TIMEOUT

_PATIENCE = 60.0  # seconds
# Seconds in which a kill shows; and in which a mail that was taken is crossed out, be the database locked.
_SOON, _CROSSED_OUT = 5.0, 12.0
_NOTED = 0.5  # seconds until the diary has what has struck


class Audit:
    """``problems`` are the promises that were broken, each a sentence."""

    def __init__(self, unit: Unit, sink: ChaosSink, portal: Portal, trouble: Trouble, diary: Diary) -> None:
        self.problems = [*portal.problems, *trouble.seen_broken]
        self.duplicates = 0
        self.states: Counter[str] = Counter()
        self._unit = unit
        self._sink = sink
        self._portal = portal
        self._trouble = trouble
        self._diary = diary

    def wait_for_rest(self) -> None:
        """Return when no job is unfinished and no mail is owed; no restart may be needed for that."""
        unfinished = f"SELECT id, state FROM jobs WHERE state IN {UNFINISHED}"
        owed = "SELECT job_id, state FROM mails WHERE state IN ('waiting', 'sending')"
        last, since = [], time.monotonic()
        while left := query(self._unit, f"{unfinished} UNION ALL {owed}"):
            if left != last:
                last, since = left, time.monotonic()
            if self._unit.given_up:
                self._say("the service has come down for good: it takes a passing trouble for wrong settings")
                return
            if time.monotonic() - since > _PATIENCE:
                self._say(f"nothing becomes of {left}")
                return
            threading.Event().wait(0.1)

    def look(self) -> None:
        """See to everything that can be seen while the service runs, and then when it has stopped."""
        self._look_at_the_jobs()
        self._look_at_the_mails()
        self._look_at_the_packages()
        self._look_for_leftovers()
        if not self._unit.given_up and (status := self._unit.stop()) != 0:
            self._say(f"the service stopped with status {status}")
        self._look_for_processes()
        self._look_at_the_log()
        self._look_at_the_exits()
        self._look_for_leftovers(stopped=True)
        if (found := query(self._unit, "PRAGMA integrity_check")) != [("ok",)]:
            self._say(f"the database is damaged: {found}")

    def _say(self, problem: str) -> None:
        self.problems.append(problem)

    # ------------------------------------------------------------- jobs

    def _look_at_the_jobs(self) -> None:
        rows = query(self._unit, "SELECT id, request, state, error FROM jobs")
        self.states = Counter(state for _, _, state, _ in rows)
        by_email = defaultdict(list)
        for job_id, request, _, _ in rows:
            by_email[_email(request)].append(job_id)
        for order in self._portal.orders:
            jobs = by_email.pop(order.email, [])
            accepted = self._portal.accepted.get(order.number)
            if accepted is not None and jobs != [accepted]:
                self._say(
                    f"order {order.number} was accepted as {accepted}, and the table has {jobs or 'nothing'}"
                )
        if by_email:
            self._say(f"jobs that nobody asked for: {dict(by_email)}")
        for job_id, _, state, error in rows:
            self._look_at_an_end(job_id, state, error)
        self._look_at_deaths()

    def _look_at_an_end(self, job_id: str, state: str, error: str | None) -> None:
        if state == "cancelled":
            if job_id not in self._trouble.cancelled:
                self._say(f"job {job_id} was cancelled by nobody")
        elif state == "failed":
            if not self._is_our_doing(job_id, error or ""):
                self._say(f"job {job_id} has failed, and we have done nothing to it: {error}")
        elif state != "done":
            self._say(f"job {job_id} has ended as {state}")
        states = [state for (state,) in query(self._unit, _EVENTS, job_id)]
        if states[0] != "queued" or states[-1] != state:
            self._say(f"job {job_id} is {state}, and its events are {states}")
        if "cancelled" in states[:-1]:
            self._say(f"job {job_id} went on after it had been cancelled: {states}")

    def _is_our_doing(self, job_id: str, error: str) -> bool:
        ((finished,),) = query(self._unit, "SELECT finished FROM jobs WHERE id = ?", job_id)
        if re.search(r"not enough room on the service", error):
            return self._diary.has([FULL], finished - _SOON, finished + _NOTED)
        if "could not be sent" in error:
            return "550" in error and self._diary.has([REFUSAL], finished - _SOON, finished + _NOTED)
        # Each death is looked at by itself.
        return "died 3 times" in error

    def _look_at_deaths(self) -> None:
        sql = "SELECT jobs.id, timestamp, reason FROM job_events JOIN jobs ON job_id = seq WHERE reason LIKE '%died%'"
        for job_id, timestamp, reason in query(self._unit, sql):
            if not self._diary.has([KILL], timestamp - _SOON, timestamp + _NOTED):
                self._say(f"a worker of job {job_id} died by itself: {reason}")

    # ------------------------------------------------------------- mails

    def _look_at_the_mails(self) -> None:
        copies: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        subjects: dict[str, set[str]] = defaultdict(set)
        for came, mail in self._sink.came:
            (recipient,) = mail.recipients
            copies[recipient, mail.message["Message-ID"]].append((came, mail.text))
            subjects[recipient].add(mail.message["Message-ID"])
        for recipient, ids in subjects.items():
            if len(ids) > 1:
                self._say(f"{recipient} got {len(ids)} mails that are not one message")
        for (recipient, _), some in copies.items():
            self._look_at_copies(recipient, some)
        sql = "SELECT request, jobs.state, mails.state FROM mails JOIN jobs ON mails.job_id = seq"
        for request, job_state, mail_state in query(self._unit, sql):
            if mail_state == "sent" and _email(request) not in subjects:
                self._say(f"{_email(request)} was sent no mail, and the table says so ({job_state})")
            if mail_state == "refused" and self._diary.count(REFUSAL) == 0:
                self._say(f"the mail to {_email(request)} was given up, and nobody refused it")
        for request, state in query(self._unit, "SELECT request, state FROM jobs"):
            if state == "done" and _email(request) not in subjects:
                self._say(f"{_email(request)} got no mail about a job that is done")
        if self.duplicates > (most := self._most_duplicates()):
            self._say(f"{self.duplicates} mails came twice, and at most {most} may have")

    def _look_at_copies(self, recipient: str, copies: list[tuple[float, str]]) -> None:
        self.duplicates += len(copies) - 1
        if len({text for _, text in copies}) > 1:
            self._say(f"{recipient} got the same message with different texts")
        for (came, _), (again, _) in itertools.pairwise(copies):
            if not self._diary.has([KILL, CUT, STOP], came - 0.5, min(again, came + _CROSSED_OUT)):
                self._say(f"{recipient} got a mail twice, and nothing had happened in between")

    def _most_duplicates(self) -> int:
        """One for each line that was cut and each worker killed; for each end of all, one for each mail worker."""
        counts = self._diary.counts()
        workers = sum(count for what, count in counts.items() if what.startswith((f"{KILL}: a worker", CUT)))
        workers += sum(counts[f"{KILL}: at {point}"] for point in ("mail.begun", "mail.taken", "sent.said"))
        ends = counts["the service came down"] + counts[f"{KILL}: the forkserver"]
        return workers + 2 * ends

    # ------------------------------------------------------------- packages

    def _look_at_the_packages(self) -> None:
        wanted: dict[str, dict[str, Order]] = defaultdict(dict)
        orders = {order.email: order for order in self._portal.orders}
        sql = (
            "SELECT zip_file_name, request FROM packages JOIN jobs ON jobs.package_id = packages.id"
            " WHERE jobs.state IN ('done', 'failed')"
        )
        for name, request in query(self._unit, sql):
            order = orders[_email(request)]
            wanted[name][order.what] = order
        for name, some in wanted.items():
            for order in some.values():
                with self._failures_told(name):
                    self.problems += order.faults_of(self._unit.store / name)
        links = {
            link
            for _, mail in self._sink.came
            for link in re.findall(r"http://\S+(/download/\S+)", mail.text)
        }
        sums = dict(query(self._unit, "SELECT zip_file_name, sha256 FROM packages"))
        for link in links:
            with self._failures_told(link):
                self._look_behind(link, sums)

    def _look_behind(self, link: str, sums: dict[str, str]) -> None:
        url, _ = self._unit.wait_until_up()
        answer = requests.get(url + link, timeout=TIMEOUT)
        if answer.status_code != 200:
            self._say(f"the link {link} was mailed and is answered {answer.status_code}")
        elif hashlib.sha256(answer.content).hexdigest() != sums[link.rpartition("/")[2]]:
            self._say(f"what is behind {link} has another SHA-256 than the table says")

    @contextlib.contextmanager
    def _failures_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._say(f"{what}: {type(error).__name__}: {error}")

    # ------------------------------------------------------------- what is left

    def _look_for_leftovers(self, *, stopped: bool = False) -> None:
        known = {
            name for (name,) in query(self._unit, "SELECT zip_file_name FROM packages WHERE removed IS NULL")
        }
        there = {path.name for path in self._unit.store.glob("[!.]*")}
        if known != there:
            self._say(
                f"the store has {there - known or 'nothing'} too many, and lacks {known - there or 'nothing'}"
            )
        left = list((self._unit.store / ".drafts").iterdir())
        scratch = [path for corner in self._unit.temp.iterdir() for path in corner.iterdir()]
        sockets = [path for path in scratch if path.name.startswith("pymp-")]
        left += [path for path in scratch if stopped or path not in sockets]
        if len(sockets) > 1:
            left += sockets
        if left:
            self._say(f"{'after' if stopped else 'before'} it was stopped, this was left: {_names(left)}")

    def _look_at_the_log(self) -> None:
        seconds = time.time() - self._diary.began
        if (asked := self._unit.log.count("the database cannot be used now")) > 2 * seconds + 20:
            self._say(f"the database could not be used and was asked {asked} times in {seconds:.0f} s")
        for words in ("never retrieved", "Exception in", "AssertionError", "TypeError"):
            if words in self._unit.log:
                self._say(f"the log has {words!r}")

    def _look_at_the_exits(self) -> None:
        for when, status in self._unit.exits:
            # It cannot start without its database, and says so after the busy_timeout.
            causes = {0: [STOP], -signal.SIGKILL: [KILL]}.get(status, [FULL, LOCK, f"{KILL}: the forkserver"])
            if not self._diary.has(causes, when - _SOON, when + _NOTED):
                self._say(f"the service ended with status {status}, and we have done nothing to it")

    def _look_for_processes(self) -> None:
        end = time.monotonic() + 5
        while (left := self._unit.marked()) and time.monotonic() < end:
            threading.Event().wait(0.05)
        if left:
            self._say(f"processes that live on: {left}")


_EVENTS = "SELECT job_events.state FROM job_events JOIN jobs ON job_id = seq WHERE jobs.id = ? ORDER BY job_events.id"


def _email(request: str) -> str:
    match = re.search(r'"(visitor-\d+@localhost\.example)"', request)
    return match[1] if match else request


def _names(paths: list[Path]) -> Any:
    return [str(path.relative_to(path.parents[2])) for path in paths]
