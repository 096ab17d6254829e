"""What to package, and who to tell: a frozen value that is JSON at every border.

Whatever a portal posts is parsed and checked here, once. A :class:`Job` that
exists can be carried out, as far as that can be known without asking CKAN.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ckanpackager.form import Form

TASKS = ("package_datastore", "package_dwc_archive", "package_url")
FORMATS = ("csv", "tsv", "xlsx")


@dataclasses.dataclass(frozen=True)
class Job:
    """A checked request for a package.

    ``task`` is one of :data:`TASKS`. ``filters``, ``q``, ``plain``, ``language``, ``distinct``, ``fields``,
    ``sort``, ``offset``, ``limit`` and ``key`` mean what they mean to CKAN's datastore_search; a ``limit``
    of None asks for all rows, and of 0 for none. ``eml`` is the metadata of a Darwin Core Archive, and
    ``for_gbif`` has it carry the time of its making as GBIF wants to know it.
    """

    task: str
    resource_id: str
    email: str
    api_url: str | None = None
    resource_url: str | None = None
    filters: dict[str, Any] | None = None
    q: str | dict[str, Any] | None = None
    plain: bool | None = None
    language: str | None = None
    distinct: bool = False
    fields: tuple[str, ...] | None = None
    sort: str | None = None
    offset: int = 0
    limit: int | None = None
    format: str = "csv"
    key: str | None = dataclasses.field(default=None, repr=False)
    doi: str | None = None
    eml: str | None = None
    for_gbif: bool = False

    @classmethod
    def from_form(cls, task: str, form: Form) -> "Job":
        """Check what was posted. Unknown parameters are ignored.

        Raises BadRequestError, whose message names the parameter, for the first thing that is wrong.
        """
        common: dict[str, Any] = {
            "task": task,
            "resource_id": form.resource_id(),
            "email": form.email(),
            "key": form.text("key", longest=1024, printable=True),
        }
        if task == "package_url":
            return cls(resource_url=form.url("resource_url"), **common)
        if task == "package_dwc_archive":
            common |= {"eml": form.eml(), "for_gbif": form.boolean("for_gbif") or False}
        return cls(
            api_url=form.url("api_url"),
            filters=form.filters(),
            q=form.q(),
            plain=form.boolean("plain"),
            language=form.text("language", longest=64),
            distinct=form.boolean("distinct") or False,
            fields=form.names("fields"),
            sort=form.text("sort", longest=4096),
            offset=form.integer("offset") or 0,
            limit=form.integer("limit"),
            format=form.choice("format", FORMATS) or "csv",
            doi=form.text("doi", longest=256),
            **common,
        )

    def to_dict(self) -> dict[str, Any]:
        """This job as JSON's own types, without what was not given."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Job":
        """The job that :meth:`to_dict` wrote down."""
        fields = values.get("fields")
        return cls(**{**values, "fields": None if fields is None else tuple(fields)})

    @property
    def cache_key(self) -> str:
        """Equal for two requests that ask for the same package, whoever it is for.

        The key is part of it: what a private key opens is never handed to a request without that key.
        """
        request = self.to_dict()
        del request["email"]
        text = json.dumps(request, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def source_url(self) -> str:
        """Where the data are read: the datastore's API, or the file."""
        url = self.api_url or self.resource_url
        assert url is not None
        return url

    @property
    def ckan_host(self) -> str:
        """Host (and port, where it is not the scheme's own) of the CKAN site, or of the file."""
        return urlsplit(self.source_url).netloc

    @property
    def ckan_hostname(self) -> str:
        """The host alone, in lower case."""
        return urlsplit(self.source_url).hostname or ""

    @property
    def domain(self) -> str:
        """What follows the @ in the address."""
        return self.email.rpartition("@")[2]
