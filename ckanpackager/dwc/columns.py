"""Columns of values as columns of cells.

A page of rows is taken column by column: nearly always, all of a column is text in which nothing needs a
change, and to see that takes a fraction of the time that its cells would take one by one.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from decimal import Decimal
from operator import ne
from types import NoneType
from typing import Any, Self

from ckanpackager.dwc import values
from ckanpackager.dwc.summary import Summary

_TEXT = {str, NoneType}
_NUMBERS = {int, float, Decimal, NoneType}
# In str() of a number, these are exponents and what is no number.
_NOT_DIGITS = "EeNnIi"


@dataclasses.dataclass(frozen=True, slots=True)
class Cells:
    """Clean cells, not quoted yet; where ``plain``, none of them needs quotes."""

    cells: Sequence[str]
    plain: bool

    def at(self, places: Iterable[int]) -> Self:
        """The cells at these places."""
        cells = self.cells
        return dataclasses.replace(self, cells=[cells[place] for place in places])


class Texts:
    """Makes cells of values, for files with this ``delimiter``; tells ``summary`` what had to be changed."""

    def __init__(self, delimiter: str, summary: Summary) -> None:
        self._delimiter = delimiter
        self._summary = summary

    def cells(self, column: Sequence[Any]) -> Cells:
        """The cells of these values."""
        try:
            together = "".join(column)
        except TypeError:
            column = _words(column)
            together = "".join(column)
        try:
            data = together.encode()
        except UnicodeEncodeError:
            return self._repaired(column)
        if len(data.translate(None, values.CONTROLS)) != len(data):
            return self._repaired(column)
        return Cells(column, b'"' not in data and self._delimiter.encode() not in data)

    def ready(self, cells: Sequence[str]) -> Cells:
        """Cells that are clean already."""
        together = "".join(cells)
        return Cells(cells, '"' not in together and self._delimiter not in together)

    def quoted(self, column: Cells) -> Sequence[str]:
        """The cells as they stand in a file: quoted where they must be, quotes doubled (RFC 4180)."""
        if column.plain:
            return column.cells
        delimiter = self._delimiter
        return [
            '"' + cell.replace('"', '""') + '"' if '"' in cell or delimiter in cell else cell
            for cell in column.cells
        ]

    def lines(self, ids: Sequence[str], columns: Iterable[Cells]) -> list[str]:
        """A line for each of ``ids``, which need no quotes, without its end."""
        return list(map(self._delimiter.join, zip(ids, *map(self.quoted, columns), strict=True)))

    def line(self, cells: Sequence[str]) -> str:
        """A single line of these clean cells."""
        return self._delimiter.join(self.quoted(Cells(cells, False)))

    def _repaired(self, column: Sequence[str]) -> Cells:
        cells = list(map(values.clean, column))
        self._summary.cleaned += sum(map(ne, cells, column))
        return self.ready(cells)


def _words(column: Sequence[Any]) -> list[str]:
    """The values in words, as `values.text` has them; of text and numbers, all at once."""
    kinds = set(map(type, column))
    if kinds <= _TEXT:
        return ["" if value is None else value for value in column]
    if kinds <= _NUMBERS:
        try:
            words = ["" if value is None else str(value) for value in column]
        except ValueError:  # Python does not write integers of thousands of digits so
            return list(map(values.text, column))
        together = "".join(words)
        if not any(letter in together for letter in _NOT_DIGITS):
            return words
    return list(map(values.text, column))
