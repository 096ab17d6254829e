"""What a ZIP consists of besides its members' data (PKWARE's APPNOTE.TXT, 6.3.10)."""

import dataclasses
import datetime
import struct
from typing import Any

# Numbers in comments are its sections. A field that holds its greatest value says
# that the true one stands in a ZIP64 record (4.4.1.4), so that value itself no longer fits.
_MOST_16 = 0xFFFF
_MOST_32 = 0xFFFFFFFF

_LOCAL = struct.Struct("<4s5H3L2H")  # 4.3.7
_CENTRAL = struct.Struct("<4s6H3L5H2L")  # 4.3.12
_END_64 = struct.Struct("<4sQ2H2L4Q")  # 4.3.14
_LOCATOR_64 = struct.Struct("<4s LQL")  # 4.3.15
_END = struct.Struct("<4s4H2LH")  # 4.3.16

STORED, DEFLATED = 0, 8
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


@dataclasses.dataclass
class Header:
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
    def from_dict(cls, values: dict[str, Any]) -> "Header":
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


@dataclasses.dataclass(frozen=True)
class Mark:
    """A place in an archive's file that another process can go on from, if this one dies.

    What lies before ``offset`` is on the disk; what comes after it is of no account. ``headers`` are those of
    the archive's members so far; the last of them is open.
    """

    offset: int
    headers: tuple[Header, ...]

    def to_dict(self) -> dict[str, Any]:
        """This mark in JSON's types."""
        return {"offset": self.offset, "headers": [header.to_dict() for header in self.headers]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Mark":
        """The mark that :meth:`to_dict` wrote down."""
        return cls(int(values["offset"]), tuple(map(Header.from_dict, values["headers"])))


def end_of_archive(count: int, start: int, length: int) -> bytes:
    """The records that close an archive whose directory has ``count`` entries, at ``start``."""
    short_count = count if count < _MOST_16 else 0xFFFF
    end = _END.pack(b"PK\5\6", 0, 0, short_count, short_count, _short(length), _short(start), 0)
    if count < _MOST_16 and max(start, length) < _MOST_32:
        return end
    versions = (_UNIX | _ZIP64, _ZIP64)
    end_64 = _END_64.pack(b"PK\6\6", _END_64.size - 12, *versions, 0, 0, count, count, length, start)
    return end_64 + _LOCATOR_64.pack(b"PK\6\7", 0, start + length, 1) + end


def dos_stamp(moment: datetime.datetime) -> tuple[int, int]:
    """Time and date as MS-DOS has them (4.4.6): two seconds fine, and without a zone, so always UTC's."""
    utc = min(max(moment.astimezone(datetime.UTC), _EARLIEST), _LATEST)
    return (
        utc.hour << 11 | utc.minute << 5 | utc.second // 2,
        (utc.year - 1980) << 9 | utc.month << 5 | utc.day,
    )


def _short(value: int) -> int:
    return value if value < _MOST_32 else 0xFFFFFFFF
