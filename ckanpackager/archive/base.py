"""What every archive is: begun, given one member after another, closed."""

import abc
import contextlib
import datetime
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from ckanpackager.archive.records import Mark

Data = bytes | bytearray | memoryview


class Member(abc.ABC):
    """A file being written into an archive.

    It must be closed before the next is opened. One that is left by an exception stays open, and an archive
    with an open member refuses to be finished: half a file is never delivered as a whole one. ``is_begun`` is
    whether it has content from before a mark.
    """

    is_begun = False

    @abc.abstractmethod
    def write(self, data: Data) -> int:
        """Add ``data``, as much or as little as is at hand; all of it is taken."""

    @abc.abstractmethod
    def close(self) -> None:
        """The file is whole."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()


class Archive(abc.ABC):
    """The file ``path``, complete once ``close`` has returned; left by an exception, it stays unfinished.

    ``scratch`` is the folder for files that are needed only meanwhile (by default, the archive's own), and
    ``now`` the time that every member bears.
    """

    def __init__(self, path: Path, scratch: Path | None, now: datetime.datetime | None) -> None:
        self.path = path
        self.scratch = scratch or path.parent
        self.now = now or datetime.datetime.now(datetime.UTC)
        self._names: dict[str, bytes] = {}
        self._member: Member | None = None
        self._closed = False

    def member(self, name: str, *, compress: bool = True) -> Member:
        """Begin the file ``name``, with ``/`` between folders.

        ``compress=False`` is for what has been compressed already. Raises ValueError for a name that is used
        twice or could lead an unpacker astray, and while another member is open.
        """
        if self._closed:
            raise ValueError(f"{self.path} is closed.")
        if self._member is not None:
            raise ValueError(f"{self._last_name()} is still being written.")
        if name in self._names:
            raise ValueError(f"There is a member {name!r} already.")
        self._names[name] = _checked(name)
        self._member = self._begin(name, compress)
        return self._member

    def mark(self) -> Mark | None:
        """Force what has been written to the disk, and say how to go on after it; None where none can.

        A member must be open.
        """
        return None

    def close(self) -> None:
        """Finish the archive and hand it to the operating system whole. (It is not forced to the disk.)"""
        if self._closed:
            return
        self._closed = True
        try:
            if self._member is not None:
                raise ValueError(f"{self._last_name()} was not written to its end.")
            self._finish()
        finally:
            self._release()

    def discard(self) -> None:
        """Let go of the unfinished archive. What there is of the file is left to its owner."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _last_name(self) -> str:
        return next(reversed(self._names))

    @abc.abstractmethod
    def _begin(self, name: str, compress: bool) -> Member: ...

    @abc.abstractmethod
    def _finish(self) -> None: ...

    @abc.abstractmethod
    def _release(self) -> None: ...


def _checked(name: str) -> bytes:
    """``name`` as it stands in an archive, if no unpacker could be led out of its folder by it."""
    folder_or_file = name.split("/")
    encoded = name.encode()
    if (
        {"", ".", ".."}.intersection(folder_or_file)
        or re.search(r"[\\\0]|^[A-Za-z]:/", name)
        or len(encoded) > 0xFFFF
    ):
        raise ValueError(f"{name[:200]!r} is no name for a member of an archive.")
    return encoded
