"""The tables of jobs, packages and mails.

A row is a fact. All times are UNIX seconds; all sizes are bytes.
"""

import enum

import peewee


class State(enum.StrEnum):
    """Where a job is between accepted and finished."""

    QUEUED = "queued"
    RUNNING = "running"
    BUILT = "built"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


UNFINISHED = (State.QUEUED, State.RUNNING, State.BUILT)


class PackageRow(peewee.Model):
    """A finished package in the store; ``removed`` once it is no longer there.

    ``cache_key`` is None when it must not be given to further requests. ``report`` is what is worth knowing
    about how it was made.
    """

    id = peewee.AutoField()
    cache_key = peewee.CharField(null=True, index=True)
    zip_file_name = peewee.CharField(unique=True)
    file_name = peewee.TextField()
    size = peewee.BigIntegerField()
    sha256 = peewee.CharField()
    rows = peewee.BigIntegerField(null=True)
    created = peewee.DoubleField()
    expires = peewee.DoubleField(index=True)
    removed = peewee.DoubleField(null=True)
    report = peewee.TextField(null=True)

    class Meta:
        table_name = "packages"
        indexes = ((("removed", "size"), False),)


class JobRow(peewee.Model):
    """What was accepted, and what became of it.

    ``request`` is the Job as JSON. ``lease`` is the token of the attempt under way: whoever reports with
    another one reports too late. A job that was cancelled under way keeps it until a start has seen to it
    that nothing is left of the attempt. ``deaths`` counts workers that died over it. ``unavailable_since`` is
    when its source was first found to be unreachable, until it answers again. ``visitor`` stands for the
    address that it is for, and names nobody; ``host`` is that of its source.
    """

    seq = peewee.AutoField()
    id = peewee.CharField(unique=True)
    task = peewee.CharField()
    resource_id = peewee.CharField()
    request = peewee.TextField()
    cache_key = peewee.CharField()
    queue = peewee.CharField()
    state = peewee.CharField()
    created = peewee.DoubleField()
    started = peewee.DoubleField(null=True)
    finished = peewee.DoubleField(null=True)
    not_before = peewee.DoubleField(default=0)
    lease = peewee.CharField(null=True)
    deaths = peewee.IntegerField(default=0)
    unavailable_since = peewee.DoubleField(null=True)
    rows_total = peewee.BigIntegerField(null=True)
    package = peewee.ForeignKeyField(PackageRow, null=True, backref="jobs")
    error = peewee.TextField(null=True)
    visitor = peewee.CharField(null=True)
    host = peewee.CharField(null=True)

    class Meta:
        table_name = "jobs"
        indexes = ((("state", "queue", "seq"), False), (("cache_key", "state"), False))


class RequestKeyRow(peewee.Model):
    """The Idempotency-Key of a request: who sends the same again is given the same job.

    ``fingerprint`` is equal for equal requests, so that a key that is used for another one is noticed.
    """

    id = peewee.AutoField()
    key = peewee.CharField(unique=True)
    fingerprint = peewee.CharField()
    job = peewee.ForeignKeyField(JobRow, backref="keys")

    class Meta:
        table_name = "request_keys"


class EventRow(peewee.Model):
    """A change of a job's state, and its reason. Rows are only ever added."""

    id = peewee.AutoField()
    job = peewee.ForeignKeyField(JobRow, backref="events")
    timestamp = peewee.DoubleField()
    state = peewee.CharField()
    reason = peewee.TextField()

    class Meta:
        table_name = "job_events"


class MailState(enum.StrEnum):
    """Where a mail is between written down and handed to the mail server."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    REFUSED = "refused"


class MailRow(peewee.Model):
    """A mail that is owed: ``kind`` is "ready" or "failed"."""

    id = peewee.AutoField()
    job = peewee.ForeignKeyField(JobRow, backref="mails")
    kind = peewee.CharField()
    state = peewee.CharField(default=MailState.WAITING)
    not_before = peewee.DoubleField(default=0)
    first_tried = peewee.DoubleField(null=True)
    sent = peewee.DoubleField(null=True)
    error = peewee.TextField(null=True)

    @property
    def is_due(self) -> bool:
        """Is what it announces still so? A job may have been cancelled, or tried again, in mid-mail."""
        return bool(self.job.state == {"ready": State.BUILT, "failed": State.FAILED}[self.kind])

    class Meta:
        table_name = "mails"
        indexes = ((("state", "not_before"), False),)


MODELS = (PackageRow, JobRow, RequestKeyRow, EventRow, MailRow)
