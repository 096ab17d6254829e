"""Who asked for what, and what went wrong: one row each, in the retired service's own tables.

Totals are counted from these rows, never kept beside them. With
ANONYMIZE_EMAILS an address is stored as a keyed hash, so that the same
visitor can be counted once and not be named.
"""

import hashlib
import hmac
from typing import Any

import peewee

from ckanpackager.job import Job


class Request(peewee.Model):
    """A package that was made. ``timestamp`` is in UNIX seconds; ``count`` is the limit asked for."""

    id = peewee.AutoField()
    timestamp = peewee.IntegerField(null=True, index=True)
    resource_id = peewee.TextField(null=True, index=True)
    email = peewee.TextField(null=True)
    count = peewee.BigIntegerField(null=True)
    domain = peewee.TextField(null=True)

    class Meta:
        table_name = "requests"


class Error(peewee.Model):
    """A package that could not be made, and why."""

    id = peewee.AutoField()
    timestamp = peewee.IntegerField(null=True, index=True)
    resource_id = peewee.TextField(null=True, index=True)
    email = peewee.TextField(null=True)
    message = peewee.TextField(null=True)

    class Meta:
        table_name = "errors"


MODELS = (Request, Error)

_ADDRESS = peewee.fn.LOWER(Request.email)
_ROWS = peewee.fn.COUNT(peewee.SQL("*"))


class Statistics:
    """Writes and counts the rows. ``secret`` keys the hash where ``anonymize`` is on."""

    def __init__(self, anonymize: bool, secret: str) -> None:
        self._key = hashlib.sha256(b"ckanpackager e-mail statistics\0" + secret.encode()).digest()
        self._anonymize = anonymize
        self._counted = self._last = 0

    def address(self, email: str) -> str:
        """The address as it is stored: itself, or its keyed hash, equal for one address in any case."""
        return self.pseudonym(email) if self._anonymize else email

    def pseudonym(self, email: str) -> str:
        """A keyed hash of the address, equal for one address in any case."""
        return hmac.new(self._key, email.lower().encode(), "sha256").hexdigest()

    def log_request(self, job: Job, now: float) -> None:
        """Record that the package of ``job`` is made."""
        Request.create(
            timestamp=int(now),
            resource_id=job.resource_id,
            email=self.address(job.email),
            count=job.limit,
            domain=job.domain,
        )

    def log_error(self, job: Job, message: str, now: float) -> None:
        """Record that the package of ``job`` could not be made."""
        Error.create(
            timestamp=int(now), resource_id=job.resource_id, email=self.address(job.email), message=message
        )

    def processed(self) -> int:
        """How many packages have been made.

        Rows are only ever added, so those that have been counted once are not counted again.
        """
        new = Request.select(peewee.fn.COUNT(Request.id), peewee.fn.MAX(Request.id))
        count, last = new.where(Request.id > self._last).scalar(as_tuple=True)
        self._counted += count
        self._last = last or self._last
        return int(self._counted)

    def totals(self, resource_id: str | None = None) -> dict[str, dict[str, int]]:
        """By resource id, and by ``*`` for all: how many different addresses, requests and errors."""
        totals: dict[str, dict[str, int]] = {}
        if resource_id is None:
            totals["*"] = {
                "emails": Request.select(_ADDRESS).distinct().count(),
                "requests": Request.select().count(),
                "errors": Error.select().count(),
            }
        requests = Request.select(Request.resource_id, peewee.fn.COUNT(peewee.fn.DISTINCT(_ADDRESS)), _ROWS)
        for name, emails, count in _by_resource(Request, requests, resource_id):
            totals[name] = {"emails": emails, "requests": count, "errors": 0}
        errors = Error.select(Error.resource_id, _ROWS)
        for name, count in _by_resource(Error, errors, resource_id):
            totals.setdefault(name, {"emails": 0, "requests": 0, "errors": 0})["errors"] = count
        return totals

    def requests(
        self, offset: int, limit: int, resource_id: str | None, email: str | None
    ) -> list[dict[str, Any]]:
        """Requests, newest first."""
        columns = (Request.email, Request.resource_id, Request.timestamp, Request.count, Request.domain)
        return self._page(Request, columns, offset, limit, resource_id, email)

    def errors(
        self, offset: int, limit: int, resource_id: str | None, email: str | None
    ) -> list[dict[str, Any]]:
        """Errors, newest first."""
        columns = (Error.email, Error.resource_id, Error.timestamp, Error.message)
        return self._page(Error, columns, offset, limit, resource_id, email)

    def _page(
        self,
        model: type[Request] | type[Error],
        columns: tuple[peewee.Field, ...],
        offset: int,
        limit: int,
        resource_id: str | None,
        email: str | None,
    ) -> list[dict[str, Any]]:
        query = model.select(*columns).order_by(model.timestamp.desc(), model.id.desc())
        if resource_id is not None:
            query = query.where(model.resource_id == resource_id)
        if email is not None:
            query = query.where(peewee.fn.LOWER(model.email) == self.address(email).lower())
        return list(query.offset(offset).limit(limit).dicts())


def _by_resource(
    model: type[Request] | type[Error], query: peewee.ModelSelect, resource_id: str | None
) -> list[tuple[Any, ...]]:
    if resource_id is not None:
        query = query.where(model.resource_id == resource_id)
    return list(query.where(model.resource_id.is_null(False)).group_by(model.resource_id).tuples())
