"""What is in a package, shown on a terminal."""

import csv
import io
import itertools
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

_ROWS_SHOWN = 5
_ELEMENTS_SHOWN = 8
_INDENT = "      "


class BrokenPackageError(Exception):
    """What should be in the package is not; the text says what."""


def show_rows(path: Path) -> int:
    """Show the ZIP of rows at ``path``, and return how many it has."""
    with zipfile.ZipFile(path) as archive:
        _show_members(archive)
        return _show_table(archive, "resource.csv")


def show_archive(path: Path) -> int:
    """Show the Darwin Core Archive at ``path``, and return how many rows its core has.

    Its core is the first file, as our archives are; every row of the others has to belong to one of it.
    """
    with zipfile.ZipFile(path) as archive:
        _show_members(archive)
        core, *others = [name for name in archive.namelist() if name.endswith(".csv")]
        for name in (core, *others):
            print(f"{_INDENT}--- {name}")
            count = _show_table(archive, name)
            if name == core:
                rows_of_core = count
            elif strangers := set(_ids(archive, name)) - set(_ids(archive, core)):
                raise BrokenPackageError(f"{name} has rows of {min(strangers)}, which is not in {core}.")
        print(f"{_INDENT}--- meta.xml")
        for element in archive.read("meta.xml").decode().replace("><", ">\n<").splitlines()[:_ELEMENTS_SHOWN]:
            print(f"{_INDENT}{element[: _width()]}")
        print(f"{_INDENT}...")
        return rows_of_core


def _show_members(archive: zipfile.ZipFile) -> None:
    broken = archive.testzip()
    for member in archive.infolist():
        size, packed = f"{member.file_size:>12,}", f"{member.compress_size:,}"
        print(f"{_INDENT}{member.filename:30} {size} bytes, {packed} packed")
    if broken is not None:
        raise BrokenPackageError(f"{broken} is damaged.")


def _show_table(archive: zipfile.ZipFile, name: str) -> int:
    """Show the first rows, and return how many there are besides the header."""
    rows = _rows(archive, name)
    first = list(itertools.islice(rows, _ROWS_SHOWN + 1))
    for row in first:
        print(f"{_INDENT}{' | '.join(' '.join(cell.split()) for cell in row)[: _width()]}")
    return len(first) - 1 + sum(1 for _ in rows)


def _ids(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    return (row[0] for row in itertools.islice(_rows(archive, name), 1, None))


def _rows(archive: zipfile.ZipFile, name: str) -> Iterator[list[str]]:
    with io.TextIOWrapper(archive.open(name), "utf-8", newline="") as text:
        yield from csv.reader(text)


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns - len(_INDENT)
