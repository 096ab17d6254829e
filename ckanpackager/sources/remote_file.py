"""A file by its URL, streamed: a gigabyte costs no more memory than a kilobyte.

The key goes to the CKAN that it belongs to, and nowhere else: neither to
another host that the URL names, nor to one that CKAN redirects to.
"""

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urljoin, urlsplit

import requests

from ckanpackager.errors import IncompleteError, SourceError
from ckanpackager.job import Job
from ckanpackager.sources.http import Client, shown, unreachable

CHUNK = 1 << 20  # bytes
_MOST_REDIRECTS = 5
_LONGEST_NAME = 150
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


class RemoteFile:
    """The file at ``job.resource_url``.

    Making one asks for the file, and raises SourceError with the host's answer where it is not to be had.
    ``ckan_hosts`` are the hosts (or host:port) that the job's key may be sent to. ``size`` is in bytes, None
    where the host does not say it.
    """

    def __init__(self, job: Job, client: Client, ckan_hosts: Sequence[str]) -> None:
        assert job.resource_url is not None
        self._job = job
        self._client = client
        self._ckan_hosts = ckan_hosts
        self.name = file_name(job.resource_url, job.resource_id)
        self._slot = contextlib.ExitStack()
        self._response = self._open(job.resource_url)
        length = self._response.headers.get("Content-Length", "")
        encoded = self._response.headers.get("Content-Encoding", "identity") != "identity"
        self.size = int(length) if length.isascii() and length.isdigit() and not encoded else None
        self.bytes_read = 0

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes in their order, in pieces of at most :data:`CHUNK`."""
        try:
            for chunk in self._response.iter_content(CHUNK):
                self.bytes_read += len(chunk)
                yield chunk
        except requests.RequestException as error:
            raise unreachable(self._response.url, error) from error
        finally:
            self._response.close()
            self._slot.close()

    def prove_complete(self) -> None:
        """Raise IncompleteError unless as many bytes came as the host announced."""
        if self.size is not None and self.bytes_read != self.size:
            raise IncompleteError(
                f"{self.bytes_read} of {self.size} bytes came from {shown(self._job.source_url)}."
            )

    def _open(self, url: str) -> requests.Response:
        for _ in range(_MOST_REDIRECTS + 1):
            with contextlib.ExitStack() as slot:
                slot.enter_context(self._client.slot(url))
                response = self._client.open(url, key=self._key_for(url))
                if not response.is_redirect:
                    self._slot = slot.pop_all()
                    break
                response.close()
            try:
                url = urljoin(url, response.headers["Location"])
                is_web = urlsplit(url).scheme in ("http", "https")
            except ValueError as error:
                raise SourceError(f"{shown(url)} redirects to no address at all: {error}.") from error
            if not is_web:
                raise SourceError(
                    f"{shown(self._job.source_url)} redirects to {shown(url)}, which is no web address."
                )
        else:
            raise SourceError(f"{shown(self._job.source_url)} redirects more than {_MOST_REDIRECTS} times.")
        if response.status_code != 200:
            response.close()
            self._slot.close()
            raise SourceError(
                f"{shown(url)} answered {response.status_code} {response.reason}.{self._advice(url)}"
            )
        return response

    def _key_for(self, url: str) -> str | None:
        parts = urlsplit(url)
        known = parts.netloc.lower() in self._ckan_hosts or parts.hostname in self._ckan_hosts
        as_safe = parts.scheme == "https" or urlsplit(self._job.source_url).scheme == "http"
        return self._job.key if known and as_safe else None

    def _advice(self, url: str) -> str:
        if self._job.key is None or self._key_for(url) is not None:
            return ""
        return f" The key was not sent, since {urlsplit(url).netloc} is not one of the CKAN_HOSTS."


def file_name(url: str, otherwise: str) -> str:
    """A name that is safe in a ZIP on every system, from the last part of the URL's path.

    Control characters, separators and what Windows forbids become ``_``; the extension is kept. Where
    nothing is left, ``otherwise`` is the name.
    """
    name = unicodedata.normalize("NFC", unquote(urlsplit(url).path.rpartition("/")[2], errors="replace"))
    name = "".join("_" if _is_unsafe(character) else character for character in name).strip(" .")
    if _DEVICES.match(name):
        name = "_" + name
    if len(name) > _LONGEST_NAME:
        stem, dot, extension = name.rpartition(".")
        kept = f"{dot}{extension}" if stem and len(extension) <= 16 else ""
        name = name[: _LONGEST_NAME - len(kept)] + kept
    return name or otherwise


def _is_unsafe(character: str) -> bool:
    return character in '/\\:*?"<>|' or unicodedata.category(character)[0] == "C"
