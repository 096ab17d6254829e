"""A ZIP being made, one member after another.

What is written to a member is packed at once and forgotten, so that memory stays the same for a file of any
size. A file that was not closed in good order never looks like a finished ZIP.
"""

import abc
import contextlib
import dataclasses
import datetime
import errno
import os
import re
import shlex
import struct
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Self

from isal import isal_zlib

from ckanpackager.errors import CheckpointError, PackageError

Data = bytes | bytearray | memoryview

# Level 3 would make 2 to 6% less of row text in twice the time, and take longer than all else that a worker
# does. Blocks of 64 KiB to 1 MiB do equally well; smaller ones cost time, larger ones memory.
_LEVEL = 2
_TINY = 1 << 16
_BLOCK = 1 << 18

# Numbers in comments are sections of PKWARE's APPNOTE.TXT, 6.3.10. A field that holds its greatest value says
# that the true one stands in a ZIP64 record (4.4.1.4), so that value itself no longer fits.
_MOST_16 = 0xFFFF
_MOST_32 = 0xFFFFFFFF

_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_END_64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR_64 = struct.Struct("<4s LQL")  # 4.3.15
_END = struct.Struct("<4s4H2LH")  # 4.3.16

_STORED, _DEFLATED = 0, 8
_PLAIN, _ZIP64 = 20, 45  # versions needed to extract, 4.4.3.2
_UNIX = 3 << 8
_NAME_IS_UTF8 = 1 << 11
_MODE = 0o100644 << 16
_EXTRA_64 = 0x0001
# As long as a ZIP64 field with two sizes, whose place it keeps: padding by its own definition ("Open
# Packaging Growth Hint"), and familiar to whatever has unpacked a file of Microsoft Office.
_GROWTH_HINT = struct.pack("<4H12x", 0xA220, 16, 0xA028, 12)

_EARLIEST = datetime.datetime(1980, 1, 1, tzinfo=datetime.UTC)
_LATEST = datetime.datetime(2107, 12, 31, 23, 59, 58, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A place in an archive's file that another process can go on from, if this one dies.

    What lies before ``offset`` is on the disk; what comes after it is of no account. ``headers`` are those of
    the archive's members so far; the last of them is open.
    """

    offset: int
    headers: tuple["_Header", ...]

    def to_dict(self) -> dict[str, Any]:
        """This mark in JSON's types."""
        return {"offset": self.offset, "headers": [header.to_dict() for header in self.headers]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Mark":
        """The mark that :meth:`to_dict` wrote down."""
        return cls(int(values["offset"]), tuple(map(_Header.from_dict, values["headers"])))


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


def open_archive(path: Path, scratch: Path, command: str | None = None, mark: Mark | None = None) -> Archive:
    """The archive that ``path`` is to be, packed by ``command`` (the setting ZIP_COMMAND) if there is one.

    With a ``mark`` what there is of it is gone on with; CheckpointError where that cannot be.
    """
    if command is None:
        return ZipArchive(path, scratch=scratch, mark=mark)
    if mark is not None:
        raise CheckpointError("ZIP_COMMAND packs now.")
    return CommandArchive(path, command, scratch)


class ZipArchive(Archive):
    """Packs as it is written. ZIP64 is used for just what needs it, as old unpackers do not know it.

    A member's sizes and checksum are put into its header once they are known, and not after its data: there
    are unpackers that read from front to back and want them there.

    With a ``mark`` it is what that left of ``path``; the member that was open then is the first to ask for.
    Raises CheckpointError where the file does not reach to the mark.
    """

    def __init__(
        self,
        path: Path,
        *,
        scratch: Path | None = None,
        now: datetime.datetime | None = None,
        mark: Mark | None = None,
    ) -> None:
        super().__init__(path, scratch, now)
        self._stamp = _dos_stamp(self.now)
        self._headers: list[_Header] = []
        self._begun: str | None = None
        self._offset = 0
        if mark is None:
            self._file = open(path, "wb", buffering=_BLOCK)  # noqa: SIM115 - closed by close and discard
        else:
            self._file = _cut(path, mark.offset)
            self._go_on(mark)

    def member(self, name: str, *, compress: bool = True) -> Member:
        """See Archive. The member that was open at the mark is gone on with."""
        if name == self._begun and self._member is not None:
            self._begun = None
            return self._member
        return super().member(name, compress=compress)

    def mark(self) -> Mark:
        """See Archive."""
        assert isinstance(self._member, _ZipMember)
        self._member.align()
        self._file.flush()
        os.fsync(self._file.fileno())
        return Mark(self._offset, tuple(map(dataclasses.replace, self._headers)))

    def _go_on(self, mark: Mark) -> None:
        self._offset = mark.offset
        self._headers = [dataclasses.replace(header) for header in mark.headers]
        self._names = {header.name.decode(): header.name for header in self._headers}
        self._begun = self._last_name()
        self._member = _ZipMember(self, self._headers[-1])
        self._member.is_begun = True

    def _begin(self, name: str, compress: bool) -> Member:
        header = _Header(self._names[name], _DEFLATED if compress else _STORED, self._stamp, self._offset)
        self._headers.append(header)
        self._append(header.local())
        return _ZipMember(self, header)

    def _append(self, data: Data) -> None:
        self._file.write(data)
        self._offset += len(data)

    def _complete(self, header: "_Header") -> None:
        self._file.seek(header.offset)
        self._file.write(header.local())
        self._file.seek(self._offset)
        self._member = None

    def _finish(self) -> None:
        start = self._offset
        for header in self._headers:
            self._append(header.central())
        self._append(_end(len(self._headers), start, self._offset - start))

    def _release(self) -> None:
        self._file.close()


class _ZipMember(Member):
    def __init__(self, archive: ZipArchive, header: "_Header") -> None:
        self._archive = archive
        self._header = header
        self._pending = bytearray()
        self._deflate = (
            isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
            if header.method == _DEFLATED
            else None
        )
        self._closed = False

    def write(self, data: Data) -> int:
        if self._closed:
            raise ValueError("This member is closed.")
        view = memoryview(data).cast("B")
        if len(view) < _TINY:
            self._pending += view
            if len(self._pending) >= _TINY:
                self._flush()
        else:
            self._flush()
            for start in range(0, len(view), _BLOCK):
                self._pack(view[start : start + _BLOCK])
        return len(view)

    def close(self) -> None:
        if self._closed:
            return
        self._flush()
        if self._deflate:
            self._put(self._deflate.flush())
        self._archive._complete(self._header)
        self._closed = True

    def align(self) -> None:
        """Pack all that has been written so that what follows needs to know nothing of it."""
        self._flush()
        if self._deflate:
            self._put(self._deflate.flush(isal_zlib.Z_FULL_FLUSH))

    def _flush(self) -> None:
        if self._pending:
            self._pack(self._pending)
            self._pending.clear()

    def _pack(self, data: Data) -> None:
        self._header.crc = isal_zlib.crc32(data, self._header.crc)
        self._header.size += len(data)
        self._put(self._deflate.compress(data) if self._deflate else data)

    def _put(self, packed: Data) -> None:
        self._archive._append(packed)
        self._header.packed += len(packed)


class CommandArchive(Archive):
    """Packs by a command of the admin's, run once for each member when all are written.

    ``command`` is split as a shell would, but run without one; ``{input}`` and ``{output}`` in it become the
    member's file and the archive. That must not exist before: most such programs add to one that does.
    ``timeout`` is in seconds, for each run. What cannot be packed so is a PackageError.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        scratch: Path | None = None,
        *,
        timeout: float | None = None,
        now: datetime.datetime | None = None,
    ) -> None:
        super().__init__(path, scratch, now)
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self._command = command
        self._timeout = timeout
        self._folder = tempfile.TemporaryDirectory(prefix="members-", dir=self.scratch)
        self._written: IO[bytes] | None = None

    def _begin(self, name: str, compress: bool) -> Member:
        target = self._file(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._written = open(target, "xb")  # noqa: SIM115 - closed by the member and by _release
        return _FileMember(self, self._written)

    def _complete(self, file: IO[bytes]) -> None:
        os.utime(file.name, (self.now.timestamp(), self.now.timestamp()))
        self._member = None

    def _finish(self) -> None:
        for name in self._names:
            self._run(self._file(name))
            self._file(name).unlink()
        # Info-ZIP's zip adds an ending to a name that has none.
        ended = self.path.with_name(self.path.name + ".zip")
        if ended.exists() and not self.path.exists():
            ended.rename(self.path)
        if not self.path.exists():
            raise PackageError("ZIP_COMMAND ended well but left no archive.")

    def _run(self, file: Path) -> None:
        places = {"{input}": str(file), "{output}": str(self.path)}
        # Both at once: a file may be called {output}.
        arguments = [
            re.sub(r"\{(?:input|output)\}", lambda place: places[place.group()], argument)
            for argument in shlex.split(self._command)
        ]
        # Into a file and not a pipe: a pipe held open by something the command started would keep us waiting.
        with tempfile.TemporaryFile(dir=self._folder.name) as said:
            try:
                subprocess.run(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    timeout=self._timeout,
                    check=True,
                )
            except OSError as error:
                raise PackageError(f"ZIP_COMMAND: {arguments[0]} cannot be run: {error.strerror}.") from error
            except subprocess.TimeoutExpired as error:
                raise PackageError(f"ZIP_COMMAND was not done after {self._timeout:g} seconds.") from error
            except subprocess.CalledProcessError as error:
                raise PackageError(f"ZIP_COMMAND {_fate(error)}: {_last_words(said)}") from error

    def _file(self, name: str) -> Path:
        return Path(self._folder.name, name)

    def _release(self) -> None:
        try:
            if self._written is not None:
                self._written.close()
        finally:
            self._folder.cleanup()


class _FileMember(Member):
    def __init__(self, archive: CommandArchive, file: IO[bytes]) -> None:
        self._archive = archive
        self._file = file

    def write(self, data: Data) -> int:
        return self._file.write(data)

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._archive._complete(self._file)


def _fate(error: subprocess.CalledProcessError) -> str:
    return (
        f"was killed by signal {-error.returncode}"
        if error.returncode < 0
        else f"failed ({error.returncode})"
    )


def _last_words(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - 500))
    return said.read().decode(errors="replace").strip() or "it said nothing."


@dataclasses.dataclass
class _Header:
    """What an archive says of a member twice: before its data, and in the directory at the end."""

    name: bytes
    method: int
    stamp: tuple[int, int]
    offset: int
    crc: int = 0
    size: int = 0
    packed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """This header in JSON's types."""
        return {**dataclasses.asdict(self), "name": self.name.decode(), "stamp": list(self.stamp)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "_Header":
        """The header that :meth:`to_dict` wrote down."""
        time, date = values["stamp"]
        return cls(**{**values, "name": values["name"].encode(), "stamp": (time, date)})

    def local(self) -> bytes:
        """The header before the data: of the same length whatever the sizes turn out to be."""
        large = max(self.size, self.packed) >= _MOST_32
        sizes = (0xFFFFFFFF, 0xFFFFFFFF) if large else (self.packed, self.size)
        extra = struct.pack("<2H2Q", _EXTRA_64, 16, self.size, self.packed) if large else _GROWTH_HINT
        lengths = (len(self.name), len(extra))
        return _LOCAL.pack(b"PK\3\4", *self._kind(large), self.crc, *sizes, *lengths) + self.name + extra

    def central(self) -> bytes:
        """The entry in the directory, with a ZIP64 field of only what does not fit (4.5.3, in that order)."""
        values = (self.size, self.packed, self.offset)
        large = [value for value in values if value >= _MOST_32]
        extra = struct.pack(f"<2H{len(large)}Q", _EXTRA_64, 8 * len(large), *large) if large else b""
        size, packed, offset = map(_short, values)
        kind = self._kind(bool(large))
        lengths = (len(self.name), len(extra), 0)
        entry = (_UNIX | kind[0], *kind, self.crc, packed, size, *lengths, 0, 0, _MODE, offset)
        return _CENTRAL.pack(b"PK\1\2", *entry) + self.name + extra

    def _kind(self, large: bool) -> tuple[int, int, int, int, int]:
        return (_ZIP64 if large else _PLAIN, _NAME_IS_UTF8, self.method, *self.stamp)


def _cut(path: Path, length: int) -> BinaryIO:
    """The file, cut to that length, to be written on."""
    file = open(path, "r+b", buffering=_BLOCK)  # noqa: SIM115 - closed by the archive
    if file.seek(0, os.SEEK_END) < length:
        file.close()
        raise CheckpointError("The part is shorter than the checkpoint says.")
    file.truncate(length)
    file.seek(length)
    return file


def _short(value: int) -> int:
    return value if value < _MOST_32 else 0xFFFFFFFF


def _end(count: int, start: int, length: int) -> bytes:
    """The records that close an archive whose directory has ``count`` entries, at ``start``."""
    short_count = count if count < _MOST_16 else 0xFFFF
    end = _END.pack(b"PK\5\6", 0, 0, short_count, short_count, _short(length), _short(start), 0)
    if count < _MOST_16 and max(start, length) < _MOST_32:
        return end
    versions = (_UNIX | _ZIP64, _ZIP64)
    end_64 = _END_64.pack(b"PK\6\6", _END_64.size - 12, *versions, 0, 0, count, count, length, start)
    return end_64 + _LOCATOR_64.pack(b"PK\6\7", 0, start + length, 1) + end


def _dos_stamp(moment: datetime.datetime) -> tuple[int, int]:
    """Time and date as MS-DOS has them (4.4.6): two seconds fine, and without a zone, so always UTC's."""
    utc = min(max(moment.astimezone(datetime.UTC), _EARLIEST), _LATEST)
    return (
        utc.hour << 11 | utc.minute << 5 | utc.second // 2,
        (utc.year - 1980) << 9 | utc.month << 5 | utc.day,
    )


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
