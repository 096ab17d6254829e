"""The story, told once: plan, read, write, prove, publish."""

import dataclasses
import datetime
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from ckanpackager.archive import Archive, open_archive
from ckanpackager.checkpoint import Checkpoint, Checkpoints
from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.plan import plan
from ckanpackager.errors import CheckpointError, IncompleteError
from ckanpackager.job import Job
from ckanpackager.settings import Settings
from ckanpackager.sources.base import Field
from ckanpackager.sources.datastore import Datastore
from ckanpackager.sources.http import Client
from ckanpackager.sources.remote_file import RemoteFile
from ckanpackager.sources.slots import Slots
from ckanpackager.store import Draft, Package, Store, new_token, zip_file_name
from ckanpackager.writers import WRITERS, DwcArchiveWriter, Writer

log = logging.getLogger(__name__)

_TRIES = 3


class SlowRequest(Exception):
    """The request turned out to have ``total`` rows: too many for the fast pool."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.total = total


class Report(Protocol):
    """Who wants to know how far a package is."""

    def planned(self, rows: int | None, size: int | None, before: int = 0) -> None:
        """So many rows, or bytes, are to come; None where that is not known.

        ``before`` of the rows came in an earlier attempt, which is gone on with.
        """

    def progress(self, rows: int, size: int) -> None:
        """So many rows and bytes have come since the start."""

    def alive(self) -> None:
        """Nothing has come, but the source is being asked once more. May be called from any thread."""


def package(
    job: Job,
    store: Store,
    job_id: str,
    token: str,
    settings: Settings,
    report: Report,
    rows_at_most: int | None = None,
) -> Package:
    """Make the package of ``job`` under the name that ``token`` gives it in ``store``.

    What an earlier attempt at the same ``job_id`` left is gone on with, where that can be trusted.

    Raises SlowRequest, before a row is read, when there are more than ``rows_at_most``; SourceError when the
    data cannot be had whole; PackageError when they cannot be packed.
    """
    slots = Slots(store.slots, settings.CKAN_REQUESTS)
    with store.draft(job_id, token) as draft:
        contents = _make(job, draft, settings, report, slots, rows_at_most)
        return draft.publish(zip_file_name(job, token), *contents)


def package_here(
    job: Job, settings: Settings, target: Path, progress: Callable[[int, int | None], None]
) -> Package:
    """Make the package of ``job`` as the file ``target``, without a service.

    ``progress`` is called with the rows (for a file, the bytes) that have come, and how many are to come.
    """
    folder = target.absolute().parent
    token = new_token()
    scratch = folder / f".{target.name}-{token}"
    draft = Draft(folder, scratch / "draft.zip", scratch, scratch / "checkpoint")
    draft.scratch.mkdir(mode=0o700)
    try:
        contents = _make(job, draft, settings, _Progress(progress))
        return draft.publish(target.name, *contents)
    finally:
        for path in scratch.iterdir():
            path.unlink()
        scratch.rmdir()


def columns(job: Job, settings: Settings) -> tuple[Field, ...]:
    """The columns that ``job`` asks for, as CKAN describes them. No row is read."""
    with closing(Client(settings.CONNECT_TIMEOUT, settings.READ_TIMEOUT)) as client:
        return Datastore(job, client, settings.PAGE_SIZE).fields


def _make(
    job: Job,
    draft: Draft,
    settings: Settings,
    report: Report,
    slots: Slots | None = None,
    rows_at_most: int | None = None,
) -> tuple[str, int | None, str | None]:
    """Write the archive. Returns what a visitor should save it as, how many rows it has, and what is worth
    knowing about it.

    Where what came was not whole, or what an earlier attempt left cannot be trusted, it is begun again: the
    rows may have been changing just then.
    """
    timeouts = settings.CONNECT_TIMEOUT, settings.READ_TIMEOUT
    checkpoints = Checkpoints(draft.checkpoint, job.cache_key)
    with closing(Client(*timeouts, slots=slots, alive=report.alive)) as client:
        for left in reversed(range(_TRIES)):
            try:
                begun = checkpoints.read()
                mark = None if begun is None else begun.mark
                with open_archive(draft.path, draft.scratch, settings.ZIP_COMMAND, mark) as archive:
                    if job.task == "package_url":
                        return _pack_file(job, client, archive, settings, report)
                    return _pack_rows(
                        job, client, archive, settings, report, rows_at_most, checkpoints, begun
                    )
            except (IncompleteError, CheckpointError) as error:
                if not left:
                    raise
                checkpoints.drop()
                draft.path.unlink(missing_ok=True)
                log.warning("%s %s It is read again.", job.resource_id, error)
    raise AssertionError("the last try either returns or raises")


def _pack_rows(
    job: Job,
    client: Client,
    archive: Archive,
    settings: Settings,
    report: Report,
    rows_at_most: int | None,
    checkpoints: Checkpoints,
    begun: Checkpoint | None,
) -> tuple[str, int, str | None]:
    job = _with_ids(job, client, settings)
    source = Datastore(job, client, settings.PAGE_SIZE, settings.PAGES_AT_ONCE)
    if begun is not None:
        source.go_on(begun.position, WRITERS[job.format].records_format)
        log.info("%s goes on after %d of %d rows", job.resource_id, source.rows_read, source.total)
    report.planned(source.total, None, source.rows_read)
    if rows_at_most is not None and source.total > rows_at_most:
        raise SlowRequest(source.total)
    with _writer(job, archive, source.fields, settings) as writer:
        for page in source.pages(writer.records_format):
            writer.write(page)
            report.progress(source.rows_read, source.bytes_read)
            if writer.keeps_nothing and checkpoints.is_due and (position := source.position(page)):
                checkpoints.write(position, archive)
    source.prove_complete()
    return f"{job.resource_id}.zip", source.rows_read, writer.report


def _with_ids(job: Job, client: Client, settings: Settings) -> Job:
    """``job``, asking for the ids too where it is to be a Darwin Core Archive: without them there is none.

    Raises PackageError where the resource has no such column. CKAN would say only that a field is unknown,
    which nobody asked for.
    """
    if job.task != "package_dwc_archive" or job.fields is None or settings.DWC_ID_FIELD in job.fields:
        return job
    everything = Job(job.task, job.resource_id, job.email, job.api_url, key=job.key)
    plan(Datastore(everything, client, settings.PAGE_SIZE).fields, Configuration.from_settings(settings))
    return dataclasses.replace(job, fields=(settings.DWC_ID_FIELD, *job.fields))


def _writer(job: Job, archive: Archive, fields: Sequence[Field], settings: Settings) -> Writer:
    if job.task != "package_dwc_archive":
        return WRITERS[job.format](archive, fields)
    return DwcArchiveWriter(
        archive,
        fields,
        plan(fields, Configuration.from_settings(settings)),
        format=job.format,
        eml=job.eml,
        package_id=str(uuid.uuid4()),
        now=datetime.datetime.now(datetime.UTC),
        for_gbif=job.for_gbif,
    )


def _pack_file(
    job: Job, client: Client, archive: Archive, settings: Settings, report: Report
) -> tuple[str, None, None]:
    source = RemoteFile(job, client, settings.CKAN_HOSTS)
    report.planned(None, source.size)
    with archive.member(source.name) as member:
        for chunk in source.chunks():
            member.write(chunk)
            report.progress(0, source.bytes_read)
        # Not every host says beforehand how much there is.
        report.planned(None, source.bytes_read)
        report.progress(0, source.bytes_read)
    source.prove_complete()
    return f"{source.name}.zip", None, None


@dataclasses.dataclass
class _Progress:
    """Tells one callable what a Report is told."""

    callback: Callable[[int, int | None], None]
    total: int | None = None

    def planned(self, rows: int | None, size: int | None, before: int = 0) -> None:
        self.total = size if rows is None else rows
        self.callback(0, self.total)

    def progress(self, rows: int, size: int) -> None:
        self.callback(rows or size, self.total)

    def alive(self) -> None:
        pass
