"""What a CKAN serves beside its API: uploaded files, with tokens and ranges, and redirects."""

import dataclasses
import functools
import hashlib
import random
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol
from urllib.parse import quote

from ckanpackager.demo.listener import Request, Response

LAST_MODIFIED = "Tue, 01 Jun 2021 12:00:00 GMT"
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Page(Protocol):
    """Something at a path of its own."""

    def answer(self, request: Request, *, authorized: bool) -> Response: ...


@dataclasses.dataclass(frozen=True)
class Upload:
    """An uploaded file: its bytes or, to have bytes made up while they are sent, their number.

    Where it is not *sized*, its length is not told beforehand. *headers* replace those that CKAN would send,
    and one that is empty is not sent at all.
    """

    name: str
    content: bytes | int
    media_type: str = "application/octet-stream"
    private: bool = False
    sized: bool = True
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def path(self) -> str:
        dataset, resource = (uuid.uuid5(uuid.NAMESPACE_URL, kind + self.name) for kind in ("d:", "r:"))
        return f"/dataset/{dataset}/resource/{resource}/download/{self.name}"

    @property
    def url_path(self) -> str:
        return quote(self.path)

    @property
    def size(self) -> int:
        return self.content if isinstance(self.content, int) else len(self.content)

    @property
    def etag(self) -> str:
        described = str(self.content).encode() if isinstance(self.content, int) else self.content
        return f'"{hashlib.sha256(described).hexdigest()[:16]}"'

    def read(self, start: int, stop: int) -> Iterable[bytes]:
        if isinstance(self.content, int):
            return generated_bytes(stop, start)
        return [self.content[start:stop]]

    def answer(self, request: Request, *, authorized: bool) -> Response:
        if self.private and not authorized:
            return html(403, "Not authorized to download resource")
        start, stop = self._range(request)
        if start >= self.size > 0:
            return Response(416, b"", {"Content-Range": f"bytes */{self.size}"})
        partial = (start, stop) != (0, self.size)
        headers = self._headers() | (
            {"Content-Range": f"bytes {start}-{stop - 1}/{self.size}"} if partial else {}
        )
        sent = {name: value for name, value in headers.items() if value}
        return Response(
            206 if partial else 200, self.read(start, stop), sent, stop - start if self.sized else None
        )

    def _range(self, request: Request) -> tuple[int, int]:
        asked = RANGE.fullmatch(request.headers.get("Range", ""))
        if not asked or request.headers.get("If-Range", self.etag) not in (self.etag, LAST_MODIFIED):
            return 0, self.size
        return int(asked[1]), min(int(asked[2]) + 1, self.size) if asked[2] else self.size

    def _headers(self) -> dict[str, str]:
        name = quote(self.name)
        shown = f"filename={name}" if name == self.name else f"filename*=UTF-8''{name}"
        return {
            "Content-Type": self.media_type,
            "Content-Disposition": f"inline; {shown}",
            "Last-Modified": LAST_MODIFIED,
            "ETag": self.etag,
            "Accept-Ranges": "bytes",
            **self.headers,
        }


@dataclasses.dataclass(frozen=True)
class Redirect:
    """A page that is elsewhere."""

    location: str
    status: int = 302

    def answer(self, request: Request, *, authorized: bool) -> Response:
        return Response(self.status, b"", {"Location": self.location})


def generated_bytes(stop: int, start: int = 0) -> Iterator[bytes]:
    """The bytes of a file that is not held: always the same for the same place, in blocks of 64 KiB."""
    block = random_block()
    while start < stop:
        offset = start % len(block)
        part = block[offset : offset + stop - start]
        start += len(part)
        yield part


@functools.cache
def random_block() -> bytes:
    return random.Random(0).randbytes(65536)  # noqa: S311 - reproducible on purpose


def html(status: int, message: str) -> Response:
    """A page as CKAN shows a browser when something is wrong."""
    text = (
        f"<!DOCTYPE html>\n<html><head><title>{message} - CKAN</title></head><body>{message}</body></html>\n"
    )
    return Response(status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})
