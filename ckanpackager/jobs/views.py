"""A job as JSON and e-mails show it, and the addresses under which it is found."""

import json
from typing import Any

from ckanpackager.job import Job
from ckanpackager.jobs.models import JobRow, MailRow, State
from ckanpackager.settings import Settings


def public(row: JobRow, settings: Settings) -> dict[str, Any]:
    """What whoever knows the job's page may see."""
    package = row.package
    there = package is not None and package.removed is None
    ahead = JobRow.seq < row.seq, JobRow.state == State.QUEUED, JobRow.queue == row.queue
    return {
        "id": row.id,
        "task": row.task,
        "resource_id": row.resource_id,
        "state": row.state,
        "queue": row.queue,
        "position": JobRow.select().where(*ahead).count() + 1 if row.state == State.QUEUED else None,
        "waits_for": "source" if row.state == State.QUEUED and row.error is not None else None,
        "rows_done": None if package is None else package.rows,
        "rows_total": row.rows_total,
        "bytes_done": None,
        "eta_seconds": None,
        "download_url": download_url(settings, package.zip_file_name) if there else None,
        "file_name": package.file_name if there else None,
        "size": package.size if there else None,
        "sha256": package.sha256 if there else None,
        "report": package.report if package is not None else None,
        "error": row.error,
        "created": row.created,
        "started": row.started,
        "finished": row.finished,
        "expires": package.expires if there else None,
    }


def private(row: JobRow, settings: Settings) -> dict[str, Any]:
    """That, and what only the admin may see."""
    job = job_of(row)
    return {
        **public(row, settings),
        "email": job.email,
        "source_url": job.source_url,
        "attempts": row.deaths,
        "not_before": row.not_before or None,
        "mails": [
            {"kind": mail.kind, "state": mail.state, "error": mail.error}
            for mail in row.mails.order_by(MailRow.id)
        ],
    }


def download_url(settings: Settings, zip_file_name: str) -> str:
    """The address of a package."""
    return f"{settings.public_url}/download/{zip_file_name}"


def status_url(settings: Settings, job_id: str) -> str:
    """The address of the visitor's page of a job."""
    return f"{settings.public_url}/jobs/{job_id}"


def job_of(row: JobRow) -> Job:
    """The request that the row was made for."""
    return Job.from_dict(json.loads(row.request))
