"""Handing out finished packages, so that a lost connection costs only what was lost.

A package never changes under its name, so its SHA-256 is a strong ETag, and a
part of it can be asked for (RFC 9110, sections 13 and 14).
"""

import asyncio
import base64
import re
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from tornado.iostream import StreamClosedError

from ckanpackager.errors import GoneError, RangeError
from ckanpackager.web.pages import Page

_CHUNK = 256 * 1024  # bytes
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Download(Page):
    """``/download/<name>``, by GET and HEAD."""

    async def head(self, name: str) -> None:
        """The headers alone."""
        await self.get(name)

    async def get(self, name: str) -> None:
        """The package, or the part of it that is asked for."""
        package = await self.queue.package(name)
        etag = f'"{package.sha256}"'
        self._describe(package.file_name, package.sha256, etag)
        if self.request.headers.get("If-None-Match") in (etag, "*"):
            self.set_status(304)
            return
        start, stop = self._part(package.size, etag)
        self.set_header("Content-Length", stop - start)
        if self.request.method == "GET":
            with self.queue.lent(name):
                await self._send(self.queue.package_path(name), start, stop)

    def _describe(self, file_name: str, sha256: str, etag: str) -> None:
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        self.set_header("Content-Type", "application/zip")
        self.set_header("Content-Disposition", content_disposition(file_name))
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Etag", etag)
        self.set_header("Repr-Digest", f"sha-256=:{digest}:")
        self.set_header("Cache-Control", "private, no-store")

    def _part(self, size: int, etag: str) -> tuple[int, int]:
        """First byte, and the one after the last, of what is to be sent."""
        wanted = self.request.headers.get("Range", "")
        if self.request.headers.get("If-Range", etag) != etag:
            wanted = ""
        part = parse_range(wanted, size)
        if part is None:
            return 0, size
        if part[0] >= part[1]:
            raise RangeError(f"The package has {size} bytes; {wanted} lies outside of it.", size)
        self.set_status(206)
        self.set_header("Content-Range", f"bytes {part[0]}-{part[1] - 1}/{size}")
        return part

    async def _send(self, path: Path, start: int, stop: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            file: BinaryIO = await loop.run_in_executor(None, open, path, "rb")
        except FileNotFoundError as error:
            raise GoneError("This package has been removed.") from error
        with file:
            file.seek(start)
            while start < stop:
                chunk = await loop.run_in_executor(None, file.read, min(_CHUNK, stop - start))
                if not chunk:
                    raise GoneError("This package has been cut short.")
                start += len(chunk)
                self.write(chunk)
                try:
                    await self.flush()
                except StreamClosedError:
                    return  # the visitor has gone, and may come back for the rest


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last, that a Range header asks for of ``size`` bytes.

    None where it asks for no range, for several, or in a way we do not know: then all is sent (RFC 9110,
    14.2). Empty where the range lies outside.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None:
        return None
    first, last = match.groups()
    if first:
        stop = min(int(last) + 1, size) if last else size
        return None if last and int(last) < int(first) else (int(first), stop)
    return (max(size - int(last), 0), size) if last else None


def content_disposition(file_name: str) -> str:
    """The header that makes a browser save under ``file_name`` (RFC 6266)."""
    plain = "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\%' else "_"
        for character in file_name
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file_name, safe='')}"
