"""Ordering packages from a service as a portal does, and opening what the mail leads to."""

import csv
import dataclasses
import io
import itertools
import re
import zipfile
from typing import Any

import requests

from tests.ckan.bed import SECRET
from tests.services import TIMEOUT, Service
from tests.sinks import Mail, Sink

PATIENCE = 60


@dataclasses.dataclass(frozen=True)
class Package:
    """A ZIP that came by mail, and what the service says of it."""

    mail: Mail
    archive: zipfile.ZipFile
    name: str

    def read(self, member: str = "resource.csv") -> bytes:
        assert self.archive.namelist() == [member]
        return self.archive.read(member)

    @property
    def header(self) -> bytes:
        return self.read().partition(b"\n")[0].rstrip(b"\r")

    @property
    def body(self) -> bytes:
        """The rows, as they are written."""
        return self.read().partition(b"\n")[2]

    def rows(self, delimiter: str = ",", member: str = "resource.csv") -> list[list[str]]:
        """All lines, the header among them."""
        text = io.StringIO(self.read(member).decode(), newline="")
        csv.field_size_limit(10_000_000)
        return list(csv.reader(text, delimiter=delimiter))


class Counter:
    """Every order comes from another visitor, so that no mail is taken for another's."""

    def __init__(self, service: Service, sink: Sink, name: str = "visitor") -> None:
        self.service = service
        self._sink = sink
        self._name = name
        self._numbers = itertools.count(1)

    def new_visitor(self) -> str:
        return f"{self._name}-{next(self._numbers)}@localhost.example"

    def post(self, visitor: str, task: str = "package_datastore", **parameters: Any) -> str:
        """Order as JSON, in which lists and objects are what they are. Returns the job's id."""
        order = {"secret": SECRET, "email": visitor, **parameters}
        answer = requests.post(f"{self.service.url}/{task}", json=order, timeout=TIMEOUT)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def package(self, task: str = "package_datastore", **parameters: Any) -> Package:
        """Order, and wait for the package."""
        visitor = self.new_visitor()
        job = self.finished(self.post(visitor, task, **parameters))
        assert job["state"] == "done", job["error"]
        return self.collect(visitor)

    def failure(self, task: str = "package_datastore", **parameters: Any) -> str:
        """Order what cannot be had, and wait for the reason."""
        visitor = self.new_visitor()
        job = self.finished(self.post(visitor, task, **parameters))
        assert job["state"] == "failed"
        assert job["download_url"] is None
        return str(job["error"])

    def finished(self, job_id: str) -> dict[str, Any]:
        return self.service.wait_for(job_id, timeout=PATIENCE)

    def collect(self, visitor: str) -> Package:
        """What the mail to this visitor leads to."""
        mail = self.mail_to(visitor)
        answer = requests.get(mail.link, timeout=TIMEOUT)
        assert answer.status_code == 200
        archive = zipfile.ZipFile(io.BytesIO(answer.content))
        assert archive.testzip() is None
        [name] = re.findall('filename="([^"]+)"', answer.headers["Content-Disposition"])
        return Package(mail, archive, name)

    def mail_to(self, visitor: str) -> Mail:
        """The mail to this visitor, once it has come."""
        count = 1
        while True:
            mails = self._sink.wait_for(count, timeout=PATIENCE)
            for mail in mails:
                if mail.recipients == (visitor,):
                    return mail
            count = len(mails) + 1
