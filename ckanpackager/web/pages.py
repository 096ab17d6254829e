"""What people look at: the front page and a job's own page.

Both can be seen without the secret, so neither shows anything private; the
job's page is found only by its unguessable address.
"""

from typing import Any

from ckanpackager import __version__, figures
from ckanpackager.errors import NotFoundError, PackagerError
from ckanpackager.web.api import Status
from ckanpackager.web.handler import Handler, PostHandler

_SECONDS_BETWEEN_LOOKS = 5
_WAITING = ("queued", "running", "built")
_READY = "Your package is ready"
_HEADLINES = {
    "queued": "Your package is waiting for its turn",
    "running": "Your package is being made",
    "built": _READY,
    "done": _READY,
    "failed": "Your package could not be made",
    "cancelled": "Your package was cancelled",
    "expired": "Your package has been removed",
}


class Page(Handler):
    """Answers with a page, or with JSON to who asks for that."""

    @property
    def wants_json(self) -> bool:
        """Does the client say so?"""
        accept = self.request.headers.get("Accept", "")
        return "application/json" in accept and "text/html" not in accept

    @property
    def is_browser(self) -> bool:
        """Does the client ask for a page by name, as no program does?"""
        return "text/html" in self.request.headers.get("Accept", "")

    def show(self, template: str, **values: Any) -> None:
        """Finish with a page that loads nothing from anywhere."""
        self.set_header(
            "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
        )
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.render(template, version=__version__, **values)

    def show_error(self, error: PackagerError) -> None:
        """Say it in a page, unless the client wants JSON."""
        if self.wants_json or self.request.method == "POST":
            super().show_error(error)
        else:
            self.show("error.html", message=str(error), refresh=None)


class Home(Page, Status):
    """``/``: a page for browsers, and the status for those who post the secret."""

    def get(self) -> None:
        """Say what this is."""
        self.show("home.html", refresh=None)


class Nowhere(Page):
    """Every path that is not in the table: a page for browsers, such as for a link that was cut short."""

    def prepare(self) -> None:
        """Refuse, whatever the method."""
        raise NotFoundError(f"There is nothing at {self.request.path}.")

    def show_error(self, error: PackagerError) -> None:
        """In a page for a browser alone."""
        if self.is_browser:
            super().show_error(error)
        else:
            Handler.show_error(self, error)


class JobPage(Page, PostHandler):
    """``/jobs/<id>``: the visitor's page, and more about it for those who post the secret."""

    async def get(self, job_id: str) -> None:
        """How far the job is, and its link when it is ready."""
        job = await self.queue.view(job_id)
        if self.wants_json:
            self.answer({"job": job})
            return
        refresh = _SECONDS_BETWEEN_LOOKS if job["state"] in _WAITING else None
        headline = _READY if job["download_url"] else _HEADLINES[job["state"]]
        self.show("job.html", job=job, headline=headline, refresh=refresh, figures=figures)

    async def post(self, job_id: str) -> None:
        """All about the job, for the admin."""
        self.form()
        job = await self.queue.view(job_id, private=True)
        self.answer({"job": job, "events": await self.queue.events(job_id)})


class Cancel(Page, PostHandler):
    """``/jobs/<id>/cancel``: for the admin with the secret, and for the visitor from the job's page.

    Whoever knows the page's address may cancel, but only by a post that says so: programs that follow all
    links, such as those that look through e-mails, post nothing.
    """

    async def post(self, job_id: str) -> None:
        """Do it, and show the job as it then is."""
        by_visitor = "secret" not in (parameters := self.parameters()) and parameters.get("confirm") == "yes"
        if by_visitor:
            await self.queue.cancel(job_id, "cancelled on its page")
        else:
            self.form()
            await self.queue.cancel(job_id)
        if by_visitor and self.is_browser:
            self.redirect(f"../{job_id}", status=303)
        else:
            self.answer({"job": await self.queue.view(job_id, private=not by_visitor)})

    def show_error(self, error: PackagerError) -> None:
        """In a page for a browser alone."""
        if self.is_browser:
            self.show("error.html", message=str(error), refresh=None)
        else:
            Handler.show_error(self, error)
