"""Plain text for a person: tables, sizes and times."""

import datetime
from collections.abc import Iterable, Mapping, Sequence

from ckanpackager import figures

_GAP = "  "


def one_line(value: object) -> str:
    """``value`` with a single space wherever it had a line's end or other white space."""
    return " ".join(str(value).split())


def number(value: int | None) -> str:
    """1,234,567"""
    return "" if value is None else f"{value:,}"


def count(value: int, noun: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number(value)} {noun}" if value == 1 else f"{number(value)} {noun}s"


def size(value: int) -> str:
    """A number of bytes, as e-mails say it too."""
    return figures.size(value)


def moment(seconds: float | None) -> str:
    """A UNIX time by the clock on this machine's wall."""
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def duration(seconds: float) -> str:
    """How long, in the two largest units: ``2 min 5 s``."""
    parts = []
    rest = max(0, round(seconds))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        whole, rest = divmod(rest, length)
        if whole:
            parts.append(f"{whole} {unit}")
    return " ".join(parts[:2]) or "0 s"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned columns under their names. Whole numbers stand to the right, with their thousands marked."""
    body = [list(row) for row in rows]
    right = [bool(body) and all(isinstance(row[place], int) for row in body) for place in range(len(columns))]
    cells = [list(columns), *([_cell(value) for value in row] for row in body)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    return "\n".join(
        _GAP.join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    )


def listing(values: Mapping[str, object]) -> str:
    """One name and value on each line; what is not known is left out."""
    known = {name: _cell(value) for name, value in values.items() if value not in (None, "")}
    width = max(map(len, known), default=0)
    return "\n".join(f"{name.ljust(width)}{_GAP}{value}" for name, value in known.items())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return number(value)
    return one_line(value)
