"""What portals and admins post. Each handler reads, asks, answers."""

import re
from typing import Any

from ckanpackager import __version__
from ckanpackager.errors import BadRequestError
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.jobs.models import State
from ckanpackager.stats import Statistics
from ckanpackager.web.handler import PostHandler

_PAGE = 100
_LARGEST_PAGE = 10_000


class Status(PostHandler):
    """``/`` and ``/status``."""

    async def post(self) -> None:
        """How much there is to do, and who does it."""
        self.form()
        self.answer({"version": __version__, **await self.queue.counts()})


class Package(PostHandler):
    """``/package_datastore``, ``/package_dwc_archive``, ``/package_url``: queue a package."""

    def initialize(self, task: str) -> None:
        """``task`` is the path without its slash."""
        self._task = task

    async def post(self) -> None:
        """Accept the request, or say what is wrong with it."""
        job = Job.from_form(self._task, self.form())
        self._check_host(job)
        job_id = await self.queue.submit(job, self._idempotency_key())
        thanks = self.config.SUCCESS_MESSAGE
        status_url = self.queue.status_url(job_id)
        self.answer({"msg": thanks, "message": thanks, "job_id": job_id, "status_url": status_url})

    def _idempotency_key(self) -> str | None:
        key = self.request.headers.get("Idempotency-Key")
        if key is not None and not re.fullmatch(r"[!-~]([ -~]{0,253}[!-~])?", key):
            raise BadRequestError("The header Idempotency-Key must have 1 to 255 printable ASCII characters.")
        return key

    def _check_host(self, job: Job) -> None:
        known = self.config.CKAN_HOSTS
        if job.api_url and known and not {job.ckan_host.lower(), job.ckan_hostname} & set(known):
            raise BadRequestError(f"api_url must be on one of the CKAN_HOSTS, and {job.ckan_host} is not.")


class ClearCaches(PostHandler):
    """``/clear_caches``."""

    async def post(self) -> None:
        """Remove all packages that are not needed; ``expired`` or ``older_than`` (seconds) limits them."""
        form = self.form()
        older_than = None if form.boolean("expired") else form.integer("older_than", "seconds") or 0
        removed, freed = await self.queue.remove_packages(older_than)
        self.answer({"removed": removed, "freed": freed})


class StatisticsHandler(PostHandler):
    """What the three views of the statistics share."""

    @property
    def statistics(self) -> Statistics:
        """The statistics; to be asked in the database's thread."""
        statistics: Statistics = self.application.settings["statistics"]
        return statistics

    async def ask(self, question: Any, *arguments: Any) -> Any:
        """The answer to a question to the statistics."""
        return await self.application.settings["database"](question, *arguments)


class Totals(StatisticsHandler):
    """``/statistics``."""

    async def post(self) -> None:
        """Counts by resource."""
        form = self.form()
        self.answer({"totals": await self.ask(self.statistics.totals, _resource_id(form))})


class Requests(StatisticsHandler):
    """``/statistics/requests``."""

    async def post(self) -> None:
        """Requests, newest first."""
        self.answer({"requests": await self.ask(self.statistics.requests, *_selection(self.form()))})


class Errors(StatisticsHandler):
    """``/statistics/errors``."""

    async def post(self) -> None:
        """Errors, newest first."""
        self.answer({"errors": await self.ask(self.statistics.errors, *_selection(self.form()))})


class Jobs(PostHandler):
    """``/jobs``."""

    async def post(self) -> None:
        """Jobs, newest first."""
        form = self.form()
        state = form.choice("state", tuple(State))
        jobs, total = await self.queue.page(state, *_page(form))
        self.answer({"jobs": jobs, "total": total})


class Retry(PostHandler):
    """``/jobs/<id>/retry``."""

    async def post(self, job_id: str) -> None:
        """Do it, and answer with the job as it then is."""
        self.form()
        await self.queue.retry(job_id)
        self.answer({"job": await self.queue.view(job_id, private=True)})


def _page(form: Form) -> tuple[int, int]:
    limit = form.integer("limit")
    limit = _PAGE if limit is None else limit
    if limit > _LARGEST_PAGE:
        raise BadRequestError(f"limit must be at most {_LARGEST_PAGE}; use offset for what comes after.")
    return form.integer("offset") or 0, limit


def _selection(form: Form) -> tuple[int, int, str | None, str | None]:
    return *_page(form), _resource_id(form), form.text("email", longest=1024)


def _resource_id(form: Form) -> str | None:
    return form.text("resource_id", longest=1024)
