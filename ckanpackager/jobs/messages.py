"""What the service and a child say to each other.

A task is all that a child is told; messages are all that is heard of it. Both
are plain values, and bring with them nothing of what carries a task out.
"""

import dataclasses

from ckanpackager.job import Job
from ckanpackager.notify import Notice
from ckanpackager.store import Package


@dataclasses.dataclass(frozen=True)
class PackageTask:
    """Make the package of ``job`` under ``token``; with ``rows_at_most``, only if it is no larger."""

    job_id: str
    job: Job
    token: str
    rows_at_most: int | None

    @property
    def label(self) -> str:
        """What the log calls it."""
        return f"{self.job.resource_id} package {self.token}"


@dataclasses.dataclass(frozen=True)
class MailTask:
    """Send one mail."""

    notice: Notice

    @property
    def label(self) -> str:
        """What the log calls it."""
        return f"{self.notice.resource_id} mail about job {self.notice.job_id}"


Task = PackageTask | MailTask


@dataclasses.dataclass(frozen=True)
class Started:
    """The child is up: what happens from here on is the task's doing."""


@dataclasses.dataclass(frozen=True)
class Alive:
    """Nothing has come, and that is as it should be: the source is being asked once more."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far the package is; a total is None where it is not known.

    ``rows_before`` of the rows had come before this attempt began.
    """

    rows: int = 0
    size: int = 0
    rows_total: int | None = None
    size_total: int | None = None
    rows_before: int = 0

    @property
    def has_all(self) -> bool:
        """Has all come? What is left is to pack it."""
        return any(
            total is not None and done >= total
            for done, total in ((self.rows, self.rows_total), (self.size, self.size_total))
        )


@dataclasses.dataclass(frozen=True)
class Built:
    """The package is in the store."""

    package: Package


@dataclasses.dataclass(frozen=True)
class Slow:
    """The request has so many rows that it belongs into the slow pool."""

    rows: int


@dataclasses.dataclass(frozen=True)
class Sent:
    """The mail server has taken the mail."""


@dataclasses.dataclass(frozen=True)
class Delayed:
    """What was asked is not to be had now, and may be in ``retry_after`` seconds at the earliest."""

    error: str
    retry_after: float = 0.0


@dataclasses.dataclass(frozen=True)
class Failed:
    """What was asked is not to be had."""

    error: str


Message = Started | Alive | Progress | Built | Slow | Sent | Delayed | Failed
# Any of these is a child's last word.
FINAL = (Built, Slow, Sent, Delayed, Failed)
