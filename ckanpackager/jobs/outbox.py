"""The mails that are owed.

A mail is written down together with what it announces, and crossed out only
when the mail server has taken it. One that was being sent when the service
was killed is sent again, as the same message.
"""

import dataclasses
import logging
from collections.abc import Collection

import peewee

from ckanpackager.database import transaction
from ckanpackager.jobs.models import JobRow, MailRow, MailState
from ckanpackager.jobs.table import JobTable
from ckanpackager.jobs.views import download_url, job_of, status_url
from ckanpackager.notify import Notice
from ckanpackager.settings import Settings

log = logging.getLogger(__name__)

_SHORTEST_WAIT, _LONGEST_WAIT = 10.0, 3600.0


@dataclasses.dataclass(frozen=True)
class Delivery:
    """A mail that is being sent: ``mail`` is its number in the table."""

    mail: int
    notice: Notice


class Outbox:
    """Mails by the jobs of ``table``. ``now`` is UNIX seconds."""

    def __init__(self, table: JobTable, settings: Settings) -> None:
        self.database: peewee.Database = table.database
        self._table = table
        self._settings = settings

    @transaction
    def claim(self, now: float) -> Delivery | None:
        """The mail that has been waiting longest of those that may be tried now, marked as being sent."""
        row = (
            MailRow.select()
            .where(MailRow.state == MailState.WAITING, MailRow.not_before <= now)
            .order_by(MailRow.not_before, MailRow.id)
            .first()
        )
        if row is None:
            return None
        row.state = MailState.SENDING
        if row.first_tried is None:
            row.first_tried = now
        row.save()
        return Delivery(row.id, self._notice(row))

    @transaction
    def hand_back_all_but(self, mails: Collection[int]) -> None:
        """Mails with other numbers than these are not being sent: they were claimed, and nobody heard."""
        for row in list(MailRow.select().where(MailRow.state == MailState.SENDING)):
            if row.id in mails:
                continue
            if row.is_due:
                row.state = MailState.WAITING
                row.save()
            else:
                row.delete_instance()

    @transaction
    def sent(self, delivery: Delivery, now: float) -> None:
        """The mail server has taken it."""
        row = MailRow.get_by_id(delivery.mail)
        row.state = MailState.SENT
        row.sent = now
        row.error = None
        row.save()
        if row.kind == "ready":
            self._table.mail_sent(row.job, now)

    @transaction
    def delayed(self, delivery: Delivery, error: str, now: float) -> None:
        """The mail server could not be reached, or asked for patience: wait, longer each time."""
        row = MailRow.get_by_id(delivery.mail)
        if not row.is_due:
            row.delete_instance()
            return
        waited = now - row.first_tried
        if waited >= self._settings.MAIL_RETRY_TIME:
            self.refused(delivery, error, now)
            return
        row.state = MailState.WAITING
        row.not_before = now + min(max(waited, _SHORTEST_WAIT), _LONGEST_WAIT)
        row.error = error
        row.save()
        log.warning("%s job %s: the mail about it waits: %s", row.job.resource_id, row.job.id, error)

    @transaction
    def refused(self, delivery: Delivery, error: str, now: float) -> None:
        """The mail will never be delivered."""
        row = MailRow.get_by_id(delivery.mail)
        row.state = MailState.REFUSED
        row.error = error
        row.save()
        log.warning("%s job %s: the mail about it is given up: %s", row.job.resource_id, row.job.id, error)
        if row.kind == "ready":
            self._table.mail_refused(row.job, error, now)

    def _notice(self, mail: MailRow) -> Notice:
        row: JobRow = mail.job
        job, package = job_of(row), row.package
        name = package.zip_file_name if package else ""
        return Notice(
            kind=mail.kind,
            job_id=row.id,
            email=job.email,
            resource_id=job.resource_id,
            zip_file_name=name,
            ckan_host=job.ckan_host,
            doi=job.doi or "",
            download_url=download_url(self._settings, name) if package else "",
            status_url=status_url(self._settings, row.id),
            rows=package.rows if package else None,
            size=package.size if package else None,
            sha256=package.sha256 if package else "",
            expires=package.expires if package else None,
            report=(package.report or "") if package else "",
            error=row.error or "",
        )
