"""Which ids an archive has already, so that none is in it twice.

A row that comes again as it was is left out; one that comes again as another stops the package, since nobody
can know which of the two is meant. As long as ids are integers that rise, as CKAN's own do, there can be no
second one, and nothing is kept in memory.
"""

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import lt
from pathlib import Path
from typing import Any

from ckanpackager.errors import PackageError

_BLOCK = 1 << 16


class Ids:
    """The ids so far, and the ``marks`` of their rows: hashes of what goes into the archive of them.

    Hashes have 64 bits, so that among ten million ids there is a chance of one in 370,000 that two are taken
    for the same.
    """

    def __init__(self, field: str, scratch: Path) -> None:
        self._field = field
        self._last: int | None = None
        self._table: Table | None = None
        # For the case that they do not rise to the end.
        self._log = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by close

    def repeated(self, values: Sequence[Any], ids: Sequence[str], marks: Sequence[int]) -> list[int]:
        """The places in ``ids`` of those that have come before, with the same mark.

        ``values`` are the ids as they came, one for each of ``ids``. Raises PackageError for an id that has
        come before with another mark.
        """
        if self._table is None:
            if self._rise(values):
                self._write_down(ids, marks)
                return []
            self._table = Table()
            for key, mark in self._written():
                self._table.setdefault(key, mark)
        places = []
        for place, (key, mark) in enumerate(zip(map(hash, ids), marks, strict=True)):
            known = self._table.setdefault(key, mark)
            if known is None:
                continue
            if known != mark:
                raise PackageError(
                    f"Two different rows have {ids[place]!r} in the column {self._field}, which identifies "
                    "the rows of the archive: make it unique, or choose another column (DWC_ID_FIELD)."
                )
            places.append(place)
        return places

    def close(self) -> None:
        self._log.close()

    def _rise(self, values: Sequence[Any]) -> bool:
        if set(map(type, values)) != {int}:
            return False
        if self._last is not None and not self._last < values[0]:
            return False
        self._last = values[-1]
        return all(map(lt, values, islice(values, 1, None)))

    def _write_down(self, ids: Sequence[str], marks: Sequence[int]) -> None:
        pairs = array("q", bytes(16 * len(ids)))
        pairs[::2] = array("q", map(hash, ids))
        pairs[1::2] = array("q", marks)
        self._log.write(pairs)

    def _written(self) -> Iterator[tuple[int, int]]:
        self._log.seek(0)
        while block := self._log.read(_BLOCK):
            pairs = array("q", block)
            yield from zip(pairs[::2], pairs[1::2], strict=True)


class Table:
    """A dict from 64-bit integers to 64-bit integers, in a fifth of a dict's memory."""

    def __init__(self) -> None:
        self._used = 0
        self._make(1 << 12)

    def __len__(self) -> int:
        return self._used

    def setdefault(self, key: int, value: int) -> int | None:
        """The value of ``key``; None where it had none, and ``value`` is now it."""
        key = key or 1  # 0 is the key of a free slot
        keys, slot = self._keys, key & self._last_slot
        while (found := keys[slot]) != key:
            if not found:
                keys[slot] = key
                self._values[slot] = value
                self._used += 1
                if 3 * self._used > 2 * len(keys):
                    self._grow()
                return None
            slot = (slot + 1) & self._last_slot
        return self._values[slot]

    def _make(self, slots: int) -> None:
        self._last_slot = slots - 1
        self._keys = array("q", bytes(8 * slots))
        self._values = array("q", bytes(8 * slots))

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._used = 0
        self._make(2 * len(keys))
        for key, value in zip(keys, values, strict=True):
            if key:
                self.setdefault(key, value)


class Repetitions:
    """Counts how many of many texts have come before. They are remembered on the disk."""

    # So many hashes fit into memory at once.
    _MOST = 200_000

    def __init__(self, scratch: Path) -> None:
        self._count = 0
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by close

    def add(self, texts: Sequence[str]) -> None:
        """Add those of ``texts`` that are not empty."""
        hashes = array("q", map(hash, filter(None, texts)))
        self._count += len(hashes)
        self._file.write(hashes)

    def count(self) -> int:
        """How many of them are equal to an earlier one."""
        parts = self._count // self._MOST + 1
        return self._count - sum(len(self._distinct(part, parts)) for part in range(parts))

    def close(self) -> None:
        self._file.close()

    def _distinct(self, part: int, parts: int) -> set[int]:
        found: set[int] = set()
        self._file.seek(0)
        while block := self._file.read(_BLOCK):
            hashes = array("q", block)
            found.update(hashes if parts == 1 else [number for number in hashes if number % parts == part])
        return found
