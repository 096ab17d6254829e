"""What visitors ask for, and what they must get."""

import csv
import dataclasses
import hashlib
import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl

from ckanpackager.demo.files import generated_bytes
from ckanpackager.demo.table import Generated, Resource
from tests.fake_ckan import FakeCkan

ROWS = 40_000
_PERIOD = 1000
_COLUMNS = {"name": "text", "number": "int4", "remark": "text"}
_FILES = {f"file {number}.bin": 3 ** (number + 3) for number in range(10)}  # 27 bytes to half a megabyte
SLOW_REQUEST = 3000


def table() -> Resource:
    """The table that all of them ask for."""
    return Resource("specimens", _COLUMNS.items(), Generated(ROWS, _values, _PERIOD))


def _values(n: int) -> list[Any]:
    n %= _PERIOD
    return [f"specimen {n}", n * 7, 'a "rare", old one' if n % 3 else None]


@dataclasses.dataclass(frozen=True)
class Order:
    """One visitor's request. ``rows`` are those that must come, ``size`` is a file's."""

    number: int
    kind: str
    parameters: dict[str, Any]
    member: str
    rows: range = range(0)
    size: int = 0

    @property
    def email(self) -> str:
        """The visitor's address, which nobody else has."""
        return f"visitor-{self.number}@localhost.example"

    @property
    def task(self) -> str:
        """Where it is posted to."""
        return "package_url" if self.kind == "file" else "package_datastore"

    @property
    def what(self) -> str:
        """The same for orders of the same thing."""
        return f"{self.member} {self.rows} {self.size}"

    def faults_of(self, path: Path) -> list[str]:
        """What is wrong with the package at ``path``."""
        with zipfile.ZipFile(path) as archive:
            if (bad := archive.testzip()) is not None:
                return [f"{path.name}: the CRC of {bad} is wrong"]
            if archive.namelist() != [self.member]:
                return [f"{path.name} holds {archive.namelist()}, not {self.member}"]
            if not self._is_right(archive.read(self.member)):
                return [f"{path.name}: {self.member} does not hold what was asked for ({self.what})"]
        return []

    def _is_right(self, content: bytes) -> bool:
        if self.kind == "file":
            digest = hashlib.sha256()
            for chunk in generated_bytes(self.size):
                digest.update(chunk)
            return hashlib.sha256(content).digest() == digest.digest()
        return _table(content, self.member) == [["_id", *_COLUMNS], *map(_row, self.rows)]


def orders(ckan: FakeCkan, count: int, rng: random.Random) -> Iterator[Order]:
    """So many orders of mixed kinds and sizes; about every sixth asks for what another has asked for."""
    urls = {name: ckan.upload(name, size) for name, size in _FILES.items()}
    made: list[Order] = []
    for number in range(count):
        if made and rng.random() < 0.16:
            order = dataclasses.replace(rng.choice(made[-20:]), number=number)
        else:
            order = _order(number, ckan, urls, rng)
        made.append(order)
        yield order


def _order(number: int, ckan: FakeCkan, urls: dict[str, str], rng: random.Random) -> Order:
    kind = rng.choice(["csv", "csv", "tsv", "xlsx", "slow", "unsized", "file"])
    if kind == "file":
        name = rng.choice(list(_FILES))
        # No two are the same request, but for the duplicates.
        parameters = {"resource_id": f"file-{number}", "resource_url": urls[name]}
        return Order(number, kind, parameters, name, size=_FILES[name])
    most = {"xlsx": 200, "slow": 12_000, "unsized": 6000}.get(kind, 1500)
    least = {"slow": SLOW_REQUEST + 1}.get(kind, 1)
    count = rng.randint(least, most)
    offset = ROWS - count if kind == "unsized" else rng.randrange(ROWS - count)
    format_ = kind if kind in ("tsv", "xlsx") else "csv"
    parameters = {"resource_id": "specimens", "api_url": ckan.api_url, "offset": offset, "format": format_}
    if kind != "unsized":
        parameters["limit"] = count
    return Order(number, kind, parameters, f"resource.{format_}", range(offset, offset + count))


def _row(n: int) -> list[str]:
    name, number, remark = _values(n)
    return [str(n + 1), name, str(number), remark or ""]


def _table(content: bytes, member: str) -> list[list[str]]:
    if member.endswith("xlsx"):
        sheet = openpyxl.load_workbook(io.BytesIO(content), read_only=True).active
        rows = [["" if cell is None else str(cell) for cell in row] for row in sheet.values]
        return [[*row, *[""] * (1 + len(_COLUMNS) - len(row))] for row in rows]
    delimiter = "\t" if member.endswith("tsv") else ","
    return list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter))
