"""What was accepted, and what became of it.

Every method is one transaction, to be called in the one thread that owns the
database. A job is in exactly one state; every change of it is written down
with its time and reason; and only the holder of the job's lease may report
on it.
"""

import dataclasses
import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import peewee

from ckanpackager.database import question, transaction
from ckanpackager.errors import ConflictError, GoneError, NotFoundError, PackagerError, UnavailableError
from ckanpackager.job import Job
from ckanpackager.jobs import views
from ckanpackager.jobs.models import (
    UNFINISHED,
    EventRow,
    JobRow,
    MailRow,
    MailState,
    PackageRow,
    RequestKeyRow,
    State,
)
from ckanpackager.jobs.views import job_of
from ckanpackager.settings import Settings
from ckanpackager.stats import Statistics
from ckanpackager.store import Package, Store, new_token, zip_file_name

log = logging.getLogger(__name__)

FAST, SLOW = "fast", "slow"
_PAUSES_AFTER_DEATH = (0.0, 5.0, 30.0)
_SHORTEST_WAIT, _LONGEST_WAIT = 10.0, 600.0
_QUEUE_IS_FULL = "The service has more requests than it can take. Please try again later."


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be accepted; with the same ``idempotency_key`` it is the same request."""

    job: Job
    idempotency_key: str | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """The right to carry out a job: whoever reports on it shows the ``lease``."""

    id: str
    job: Job
    queue: str
    lease: str

    @property
    def zip_file_name(self) -> str:
        """The name that the package will have in the store, if it is made under this lease."""
        return zip_file_name(self.job, self.lease)


class JobTable:
    """The jobs of one service. ``now`` is always UNIX seconds."""

    def __init__(
        self, database: peewee.Database, settings: Settings, store: Store, statistics: Statistics
    ) -> None:
        self.database = database
        self._settings = settings
        self._store = store
        self._statistics = statistics

    # ------------------------------------------------------------- a job's way

    @transaction
    def accept(
        self, requests: Sequence[Request], now: float, closed: str | None = None
    ) -> list[str | PackagerError]:
        """Write the jobs down, all by one commit, and return their ids.

        A package made lately for the same request is used again. What is known already (by its key; or
        unfinished, the same and for the same address) is not written down again. In the place of an id there
        is a ConflictError where the key was used for another request; and an UnavailableError for a new one
        while the service is ``closed``, for the reason given, or the queue is full.
        """
        has_room = self._room_in_queue() >= len(requests)
        answers: list[str | PackagerError] = []
        for request in requests:
            full = None if has_room or self._room_in_queue() > 0 else _QUEUE_IS_FULL
            try:
                answers.append(self._accept(request, now, closed or full))
            except PackagerError as error:
                answers.append(error)
        return answers

    def _accept(self, request: Request, now: float, closed: str | None) -> str:
        job, key = request.job, request.idempotency_key
        known = self._by_key(job, key) or self._twin(job, now)
        if known is not None:
            log.info("%s job %s: asked for again", known.resource_id, known.id)
        elif closed is not None:
            raise UnavailableError(closed)
        else:
            known = self._write_down(job, now)
        if key is not None:
            self._remember(key, job, known)
        return str(known.id)

    def _write_down(self, job: Job, now: float) -> JobRow:
        row: JobRow = JobRow.create(
            id=new_token(),
            task=job.task,
            resource_id=job.resource_id,
            request=json.dumps(job.to_dict()),
            cache_key=job.cache_key,
            queue=self._queue(job),
            state=State.QUEUED,
            created=now,
            visitor=self._statistics.pseudonym(job.email),
            host=job.ckan_host.lower(),
        )
        self._record(row, "accepted", now)
        package = self._cached(row.cache_key, now)
        if package is not None:
            self._adopt(row, package, now)
        return row

    @transaction
    def claim(self, queue: str, now: float) -> Claim | None:
        """The next job of the queue, now running, or None. A job like one that is running waits for it; and
        so do those whose address or host has enough of them."""
        while (row := self._next(queue, now)) is not None:
            package = self._cached(row.cache_key, now)
            if package is None:
                row.lease = new_token()
                row.started = now
                self._change(row, State.RUNNING, f"given to a {queue} worker", now)
                return Claim(row.id, job_of(row), queue, row.lease)
            self._adopt(row, package, now)
        return None

    @transaction
    def move_to_slow(self, claim: Claim, rows: int, now: float) -> bool:
        """The fast pool found that the job is slow: it waits for the other pool. False where it does not."""
        row = self._held(claim)
        if row is None:
            return False
        row.queue = SLOW
        row.rows_total = rows
        row.error = row.unavailable_since = None  # the source has answered
        return self._queue_again(row, f"has {rows} rows: moved to the slow queue", now)

    @transaction
    def built(self, claim: Claim, package: Package, now: float) -> bool:
        """The package is in the store. False where the lease has been lost: nobody will want the package.

        To be told again where it is not known whether it was written down.
        """
        if PackageRow.select().where(PackageRow.zip_file_name == claim.zip_file_name).exists():
            return True
        row = self._held(claim)
        if row is None:
            return False
        made = PackageRow.create(
            cache_key=row.cache_key,
            created=now,
            expires=now + self._settings.KEEP_TIME,
            **package.to_dict(),
        )
        self._adopt(row, made, now, "the package is made")
        return True

    @transaction
    def failed(self, claim: Claim, error: str, now: float) -> None:
        """The job cannot be carried out; its visitor is told why."""
        if (row := self._held(claim)) is not None:
            self._fail(row, error, now)

    @transaction
    def source_unavailable(self, claim: Claim, error: str, now: float, retry_after: float = 0.0) -> bool:
        """The source did not answer: the job waits, longer each time, and fails at last. Does it wait?

        ``retry_after`` are the seconds that the source asked for. Where that is longer than it is going to be
        waited for, there is one more try at the end.
        """
        row = self._held(claim)
        if row is None:
            return False
        if row.unavailable_since is None:
            row.unavailable_since = now
        waited = now - row.unavailable_since
        if waited >= self._settings.SOURCE_RETRY_TIME:
            self._fail(row, error, now)
            return False
        asked_for = min(retry_after, self._settings.SOURCE_RETRY_TIME - waited)
        row.not_before = now + max(min(max(waited, _SHORTEST_WAIT), _LONGEST_WAIT), asked_for)
        row.error = error
        return self._queue_again(row, f"waits for its source: {error}", now)

    @transaction
    def worker_lost(self, claim: Claim, how: str, now: float) -> bool:
        """The worker died without a word: the job is tried again, unless that happens too often. Is it?"""
        row = self._held(claim)
        if row is None:
            return False
        row.deaths += 1
        if row.deaths >= self._settings.MAX_ATTEMPTS:
            self._fail(row, f"The process that made the package died {row.deaths} times, last {how}.", now)
            return False
        row.not_before = now + _PAUSES_AFTER_DEATH[min(row.deaths, len(_PAUSES_AFTER_DEATH)) - 1]
        return self._queue_again(row, f"its worker died ({how})", now)

    @transaction
    def hand_back(self, claim: Claim, reason: str, now: float) -> bool:
        """The worker was stopped through no fault of the job, which waits for the next one. Does it?"""
        row = self._held(claim)
        return row is not None and self._queue_again(row, reason, now)

    @transaction
    def hand_back_all_but(self, leases: Collection[str], now: float) -> None:
        """What runs under another lease has no worker, and waits anew: it was claimed, and nobody heard."""
        for row in list(JobRow.select().where(JobRow.state == State.RUNNING)):
            if row.lease not in leases:
                self._queue_again(row, "the database was away when it was given to a worker", now)

    @transaction
    def cancel(self, job_id: str, now: float, reason: str = "cancelled") -> str | None:
        """End an unfinished job. Returns the lease of the worker that must be stopped, if there is one.

        Its package, if there is one, may still answer others. Raises NotFoundError, and ConflictError where
        the job is finished.
        """
        row = self._row(job_id)
        if row.state not in UNFINISHED:
            raise ConflictError(f"Job {job_id} is {row.state}: only an unfinished job can be cancelled.")
        lease: str | None = row.lease
        row.package = row.error = None
        row.finished = now
        MailRow.delete().where(MailRow.job == row, MailRow.state == MailState.WAITING).execute()
        self._change(row, State.CANCELLED, reason, now)
        self._forget(row)
        return lease

    @transaction
    def retry(self, job_id: str, now: float) -> None:
        """Queue a failed job again.

        Raises NotFoundError, and ConflictError where it has not failed or too much of it is forgotten.
        """
        row = self._row(job_id)
        if row.state != State.FAILED:
            raise ConflictError(f"Job {job_id} is {row.state}: only a failed job can be tried again.")
        if "@" not in job_of(row).email:
            raise ConflictError(f"Job {job_id} has ended, and its address is no longer known: post it anew.")
        row.error = row.finished = row.unavailable_since = None
        row.deaths = row.not_before = 0
        MailRow.delete().where(MailRow.job == row, MailRow.state != MailState.SENDING).execute()
        package = row.package
        there = package is not None and package.removed is None
        if there and self._store.holds(package.zip_file_name, package.size):
            self._adopt(row, package, now, "to be mailed again")
        else:
            self._queue_again(row, "to be tried again", now)

    @transaction
    def recover(self, now: float) -> None:
        """After a start: what was under way waits again, and what the store has lost is not announced.

        What waits for CKAN or for the mail server is tried at once: perhaps that is what was mended.
        """
        unmade = JobRow.select(JobRow.id).where(JobRow.state.in_((State.QUEUED, State.RUNNING)))
        self._store.forget_all_but({job_id for (job_id,) in unmade.tuples()})
        for row in list(JobRow.select().where(JobRow.lease.is_null(False))):
            self._store.discard(row.lease, zip_file_name(job_of(row), row.lease))
            if row.state == State.RUNNING:
                self._queue_again(row, "the service was restarted", now)
            else:
                row.lease = None
                row.save()
        JobRow.update(not_before=0).where(JobRow.state == State.QUEUED).execute()
        for mail in list(MailRow.select().where(MailRow.state == MailState.SENDING)):
            if not mail.is_due:
                mail.delete_instance()
        owed = MailRow.state.in_((MailState.SENDING, MailState.WAITING))
        MailRow.update(state=MailState.WAITING, not_before=0).where(owed).execute()
        for package in PackageRow.select().where(PackageRow.removed.is_null()):
            if not self._store.holds(package.zip_file_name, package.size):
                self._remove(package, now)

    @transaction
    def mail_sent(self, row: JobRow, now: float) -> None:
        """The announcement was handed to the mail server: the job is done."""
        if row.state == State.BUILT:
            row.finished = now
            self._keep(row.package, now)
            self._change(row, State.DONE, "the e-mail was handed to the mail server", now)
            self._forget(row)

    @transaction
    def mail_refused(self, row: JobRow, error: str, now: float) -> None:
        """The announcement cannot be delivered. The package stays, for whoever has the job's page."""
        if row.state == State.BUILT:
            row.error = f"The package is ready, but the e-mail could not be sent: {error}"
            row.finished = now
            self._change(row, State.FAILED, row.error, now)
            self._statistics.log_error(job_of(row), row.error, now)

    # ------------------------------------------------------------- the store

    @transaction
    def remove_packages(self, now: float, *, cutoff: float | None = None) -> list[str]:
        """Mark packages as removed, and return the names of the files that can go.

        With ``cutoff`` those made before that time go, without it those past their expiry. Kept are
        packages that are yet to be announced, and those that a symbolic link in the store points to.
        """
        linked = self._store.linked()
        old = PackageRow.expires <= now if cutoff is None else PackageRow.created < cutoff
        names = []
        for package in PackageRow.select().where(PackageRow.removed.is_null(), old):
            if package.zip_file_name in linked:
                continue
            if package.jobs.where(JobRow.state == State.BUILT).exists():
                package.cache_key = None
                package.save()
                continue
            self._remove(package, now)
            names.append(package.zip_file_name)
        self._forget_failed(now - self._settings.KEEP_TIME)
        before = now - self._settings.KEEP_TIME if cutoff is None else cutoff
        return names + self._strangers(before, linked.union(names))

    @question
    def stored(self) -> int:
        """How many bytes the packages in the store have together."""
        there = PackageRow.select(peewee.fn.SUM(PackageRow.size)).where(PackageRow.removed.is_null())
        return int(there.scalar() or 0)

    @transaction
    def make_room(self, size: int, now: float, spared: Collection[str]) -> list[str]:
        """Mark packages of ``size`` bytes as removed, if there are so many, and return their files' names.

        What was announced longest ago goes first. Kept are packages that are yet to be announced, those that
        a symbolic link in the store points to, and those that are ``spared``.
        """
        spared = self._store.linked().union(spared)
        announced = peewee.fn.COALESCE(peewee.fn.MAX(JobRow.finished), PackageRow.created)
        owed = JobRow.select(JobRow.package).where(JobRow.state == State.BUILT, JobRow.package.is_null(False))
        there = (
            PackageRow.select()
            .join(JobRow, peewee.JOIN.LEFT_OUTER, on=JobRow.package == PackageRow.id)
            .where(PackageRow.removed.is_null(), PackageRow.id.not_in(owed))
            .group_by(PackageRow)
            .order_by(announced, PackageRow.id)
        )
        names: list[str] = []
        for package in there:
            if size <= 0:
                break
            if package.zip_file_name not in spared:
                self._remove(package, now, "the package was removed to make room")
                names.append(package.zip_file_name)
                size -= package.size
        return names

    @question
    def package(self, name: str) -> PackageRow:
        """The package of that name in the store. Raises NotFoundError, or GoneError where it was removed."""
        row: PackageRow | None = PackageRow.get_or_none(PackageRow.zip_file_name == name)
        if row is None:
            raise NotFoundError("There is no such package.")
        if row.removed is not None or not self._store.holds(row.zip_file_name, row.size):
            raise GoneError("This package has been removed. Please ask for it again on the data portal.")
        return row

    # ------------------------------------------------------------- questions

    @question
    def counts(self) -> dict[str, Any]:
        """How many jobs wait and run in each pool, are unfinished at all, and have been processed."""
        by_state = (
            JobRow.select(JobRow.state, JobRow.queue, peewee.fn.COUNT(JobRow.seq))
            .where(JobRow.state.in_(UNFINISHED))
            .group_by(JobRow.state, JobRow.queue)
            .tuples()
        )
        found = {(state, queue): count for state, queue, count in by_state}
        return {
            "queue_length": sum(found.values()),
            "processed_requests": self._statistics.processed(),
            "pools": {
                queue: {
                    "running": found.get((State.RUNNING, queue), 0),
                    "waiting": found.get((State.QUEUED, queue), 0),
                }
                for queue in (FAST, SLOW)
            },
        }

    @question
    def view(self, job_id: str, *, private: bool = False) -> dict[str, Any]:
        """The job in JSON's types; ``private`` adds what only the admin may see. Raises NotFoundError."""
        row = self._row(job_id)
        return views.private(row, self._settings) if private else views.public(row, self._settings)

    @question
    def events(self, job_id: str) -> list[dict[str, Any]]:
        """Every change of the job, oldest first. Raises NotFoundError."""
        columns = (EventRow.timestamp, EventRow.state, EventRow.reason)
        return list(self._row(job_id).events.select(*columns).order_by(EventRow.id).dicts())

    @question
    def page(self, state: str | None, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Jobs for the admin, newest first, and how many there are of them."""
        query = JobRow.select() if state is None else JobRow.select().where(JobRow.state == state)
        rows = query.order_by(JobRow.seq.desc()).offset(offset).limit(limit)
        return [views.private(row, self._settings) for row in rows], query.count()

    # ------------------------------------------------------------- within

    def _queue(self, job: Job) -> str:
        if job.limit is not None and job.limit > self._settings.SLOW_REQUEST:
            return SLOW
        # Without a limit the fast pool asks how many rows there are, and passes on what is slow.
        return FAST

    def _by_key(self, job: Job, key: str | None) -> JobRow | None:
        """The job that was made for the request with this Idempotency-Key."""
        found = None if key is None else RequestKeyRow.get_or_none(RequestKeyRow.key == key)
        if found is None:
            return None
        if found.fingerprint != self._fingerprint(job):
            raise ConflictError(
                "This Idempotency-Key was used for another request: use a new one for each request."
            )
        row: JobRow = found.job
        return row

    def _twin(self, job: Job, now: float) -> JobRow | None:
        """The unfinished job for the same request from the same address."""
        like_it = JobRow.cache_key == job.cache_key, JobRow.state.in_(UNFINISHED)
        # Nearly always there is none, and to ask for numbers alone is much quicker.
        numbers = [number for (number,) in JobRow.select(JobRow.seq).where(*like_it).tuples()]
        for row in map(JobRow.get_by_id, sorted(numbers)):
            same = job_of(row).email.lower() == job.email.lower()
            # A package that would not be handed out anew is not what is asked for.
            if same and (row.state != State.BUILT or row.package == self._cached(job.cache_key, now)):
                twin: JobRow = row
                return twin
        return None

    def _remember(self, key: str, job: Job, row: JobRow) -> None:
        RequestKeyRow.insert(
            key=key, fingerprint=self._fingerprint(job), job=row
        ).on_conflict_ignore().execute()

    def _fingerprint(self, job: Job) -> str:
        text = f"{job.cache_key} {self._statistics.address(job.email)}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _room_in_queue(self) -> float:
        most = self._settings.QUEUE_LENGTH
        return most - JobRow.select().where(JobRow.state.in_(UNFINISHED)).count() if most else math.inf

    def _next(self, queue: str, now: float) -> JobRow | None:
        columns = JobRow.cache_key, JobRow.visitor, JobRow.host
        running = list(JobRow.select(*columns).where(JobRow.state == State.RUNNING).tuples())
        cache_keys, visitors, hosts = zip(*running, strict=True) if running else ((), (), ())
        row: JobRow | None = (
            JobRow.select()
            .where(
                JobRow.state == State.QUEUED,
                JobRow.queue == queue,
                JobRow.not_before <= now,
                JobRow.cache_key.not_in(cache_keys),
                _none_of(JobRow.visitor, visitors, self._settings.JOBS_PER_ADDRESS),
                _none_of(JobRow.host, hosts, self._settings.JOBS_PER_HOST),
            )
            .order_by(JobRow.seq)
            .first()
        )
        return row

    def _row(self, job_id: str) -> JobRow:
        row: JobRow | None = JobRow.get_or_none(JobRow.id == job_id)
        if row is None:
            raise NotFoundError(f"There is no job {job_id}.")
        return row

    def _held(self, claim: Claim) -> JobRow | None:
        row: JobRow | None = JobRow.get_or_none(
            JobRow.id == claim.id, JobRow.lease == claim.lease, JobRow.state == State.RUNNING
        )
        if row is None:
            log.warning("%s job %s: a report came too late and is ignored", claim.job.resource_id, claim.id)
        return row

    def _cached(self, cache_key: str, now: float) -> PackageRow | None:
        newest = (
            PackageRow.select(PackageRow.id)  # nearly always there is none
            .where(
                PackageRow.cache_key == cache_key,
                PackageRow.created > now - self._settings.CACHE_TIME,
                PackageRow.expires > now,
                PackageRow.removed.is_null(),
            )
            .order_by(PackageRow.created.desc())
            .scalar()
        )
        if newest is None:
            return None
        package: PackageRow = PackageRow.get_by_id(newest)
        return package if self._store.holds(package.zip_file_name, package.size) else None

    def _adopt(
        self, row: JobRow, package: PackageRow, now: float, reason: str = "the same package was made lately"
    ) -> None:
        self._keep(package, now)
        row.package = package
        row.rows_total = package.rows
        row.lease = row.error = row.unavailable_since = None
        # Made anew, or mailed again, it is still one request.
        if not row.events.where(EventRow.state == State.BUILT).exists():
            self._statistics.log_request(job_of(row), now)
        self._change(row, State.BUILT, reason, now)
        MailRow.create(job=row, kind="ready")

    def _keep(self, package: PackageRow, now: float) -> None:
        """The package is announced, if not for the first time: who hears of it has all of KEEP_TIME."""
        package.expires = max(package.expires, now + self._settings.KEEP_TIME)
        package.save()

    def _fail(self, row: JobRow, error: str, now: float) -> None:
        row.lease = None
        row.error = error
        row.finished = now
        self._change(row, State.FAILED, error, now)
        self._statistics.log_error(job_of(row), error, now)
        MailRow.create(job=row, kind="failed")

    def _queue_again(self, row: JobRow, reason: str, now: float) -> bool:
        row.lease = row.package = None
        self._change(row, State.QUEUED, reason, now)
        return True

    def _change(self, row: JobRow, state: State, reason: str, now: float) -> None:
        row.state = state
        row.save()
        self._record(row, reason, now)

    def _record(self, row: JobRow, reason: str, now: float) -> None:
        EventRow.create(job=row, timestamp=now, state=row.state, reason=reason)
        log.info("%s job %s %s: %s", row.resource_id, row.id, row.state, reason)

    def _forget(self, row: JobRow) -> None:
        """Drop what a finished job no longer needs: CKAN's key, and the address where it is anonymized."""
        job = job_of(row)
        # What has no @ is the hash already.
        email = self._statistics.address(job.email) if "@" in job.email else job.email
        row.request = json.dumps(dataclasses.replace(job, key=None, email=email).to_dict())
        row.save()

    def _forget_failed(self, cutoff: float) -> None:
        """Failed jobs keep what a retry needs, for as long as a package is kept."""
        old = JobRow.select().where(JobRow.state == State.FAILED, JobRow.finished < cutoff)
        for row in old.where(JobRow.request.contains("@") | JobRow.request.contains('"key": ')):
            self._forget(row)

    def _remove(self, package: PackageRow, now: float, reason: str = "the package was removed") -> None:
        """Whose mail was refused had the package's page alone: that job has expired like the others."""
        package.removed = now
        package.save()
        for row in list(package.jobs.where(JobRow.state.in_((State.DONE, State.FAILED, State.BUILT)))):
            if row.state != State.BUILT:
                self._change(row, State.EXPIRED, reason, now)
                self._forget(row)
            else:
                MailRow.delete().where(MailRow.job == row).execute()
                self._queue_again(row, "the package is no longer in the store", now)

    def _strangers(self, cutoff: float, known: set[str]) -> list[str]:
        """ZIPs in the store that belong to no package, and were made before cutoff.

        The retired service left such, and so does a kill between marking a package as removed and doing it.
        """
        there = PackageRow.select(PackageRow.zip_file_name).where(PackageRow.removed.is_null())
        known = known | {name for (name,) in there.tuples()}
        for row in JobRow.select().where(JobRow.state == State.RUNNING):
            known.add(zip_file_name(job_of(row), row.lease))
        return [name for name in self._store.changed_before(cutoff) if name not in known]


def _none_of(column: peewee.Field, running: Sequence[str | None], most: int) -> peewee.Expression:
    """What is not found ``most`` times among ``running`` already. An older version left it open."""
    full = [value for value, count in Counter(running).items() if 0 < most <= count and value is not None]
    return column.is_null() | column.not_in(full)
