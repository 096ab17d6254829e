"""Rows of a datastore resource, in memory or made when asked for.

A `Table` never changes: whoever changes a `Resource` gives it another table, so that an
answer under way goes on reading what it began with, as PostgreSQL's readers do.
"""

import bisect
import dataclasses
import functools
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ckanpackager.demo import postgres

DELIMITERS = {"csv": ",", "tsv": "\t"}
WORD = re.compile(r"\d+(?:\.\d+)+|\w+")

Ranks = Mapping[int, Mapping[str, float]]  # by position and the rank's column


@dataclasses.dataclass(frozen=True)
class Column:
    """A field of a resource: its name, PostgreSQL's type, and what the data dictionary says of it."""

    id: str
    type: str = "text"
    info: Mapping[str, Any] | None = None


ID = Column("_id", "int")


@dataclasses.dataclass(frozen=True)
class Generated:
    """*count* rows that are not held: ``make(n)`` gives the values of row n, counted from 0.

    Where *period* is given, row n and row n + period differ in their ``_id`` alone; ``make`` is asked for the
    first *period* rows only and their texts are kept, so that a page costs little more than its length.
    """

    count: int
    make: Callable[[int], Sequence[Any]]
    period: int | None = None


@dataclasses.dataclass(frozen=True)
class Style:
    """How a record is written: one of CKAN's records_formats, with or without milliseconds in timestamps."""

    records_format: str
    milliseconds: bool
    alone: bool = False

    def cell(self, column: Column, value: Any) -> str:
        if delimiter := DELIMITERS.get(self.records_format):
            return postgres.to_cell(
                column.type, value, delimiter, milliseconds=self.milliseconds, alone=self.alone
            )
        text = postgres.to_json(column.type, value, milliseconds=self.milliseconds)
        if self.records_format == "objects":
            return f"{json.dumps(column.id, ensure_ascii=False)}:{text}"
        return text

    def join(self, fragments: Iterable[str]) -> str:
        return DELIMITERS.get(self.records_format, ",").join(fragments)

    def page(self, records: Iterable[str]) -> str:
        """The text of several records: lines for csv and tsv, otherwise a JSON list."""
        if self.records_format in DELIMITERS:
            return "".join(f"{record}\n" for record in records)
        opening, closing = "{}" if self.records_format == "objects" else "[]"
        return "[" + ",".join(f"{opening}{record}{closing}" for record in records) + "]"


class Table:
    """What a resource holds at one moment. A row is known by its position, which follows its ``_id``."""

    def __init__(
        self,
        columns: Sequence[Column],
        ids: Sequence[int],
        values: Callable[[int], Sequence[Any]],
        period: int | None,
    ) -> None:
        self.columns = {column.id: column for column in (ID, *columns)}
        self.ids = ids
        self._values = values
        self._period = period
        self._index = {column.id: index for index, column in enumerate(columns)}
        self._kept: dict[Any, list[Any]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def value(self, position: int, column: str) -> Any:
        if column == ID.id:
            return self.ids[position]
        return self._values(position)[self._index[column]]

    def positions(self, low: int | None = None, high: int | None = None) -> range:
        """The positions of the rows with low <= ``_id`` <= high."""
        start = 0 if low is None else bisect.bisect_left(self.ids, low)
        return range(start, len(self.ids) if high is None else bisect.bisect_right(self.ids, high))

    def words(self, position: int, column: str | None) -> list[str]:
        """The words of a cell or, without a column, of the row, in lower case: what q is compared with."""
        if column == ID.id:
            return [str(self.ids[position])]
        names = list(self._index) if column is None else [column]
        words: list[str] = self._keep(("words", column), position, lambda: self._words(position, names))
        return words

    def records(
        self, columns: Sequence[Column], style: Style, positions: Iterable[int], ranks: Ranks
    ) -> list[str]:
        """The text of the rows at *positions*. A column that is not the table's is one of the ranks."""
        groups = itertools.groupby(columns, lambda column: "" if column.id in self._index else column.id)
        writers = [self._writer(tuple(group), style, ranks) for _, group in groups]
        return [style.join([write(position) for write in writers]) for position in positions]

    def _writer(self, columns: tuple[Column, ...], style: Style, ranks: Ranks) -> Callable[[int], str]:
        """Writes neighbouring columns, or ``_id``, or a rank."""
        first = columns[0]
        if first.id == ID.id:
            return lambda position: style.cell(ID, self.ids[position])
        if first.id not in self._index:
            return lambda position: style.cell(first, ranks[position][first.id])
        key = (style, tuple(column.id for column in columns))
        return lambda position: str(self._keep(key, position, lambda: self._cells(position, columns, style)))

    def _cells(self, position: int, columns: Iterable[Column], style: Style) -> str:
        row = self._values(position)
        return style.join(style.cell(column, row[self._index[column.id]]) for column in columns)

    def _words(self, position: int, names: Sequence[str]) -> list[str]:
        texts = (
            postgres.to_search(self.columns[name].type, value)
            for name in names
            if (value := self.value(position, name)) is not None
        )
        return WORD.findall(" ".join(texts).lower())

    def _keep(self, key: Any, position: int, make: Callable[[], Any]) -> Any:
        """What *make* makes of a row, kept where the same will be asked for again."""
        if self._period is None:
            return make()
        if key not in self._kept:
            self._kept[key] = [None] * self._period
        kept, place = self._kept[key], position % self._period
        if kept[place] is None:
            kept[place] = make()
        return kept[place]


class Resource:
    """A resource of the datastore: fields as (name, PostgreSQL type), and rows without their ``_id``.

    Values may be text as PostgreSQL reads it or Python's own; QueryError says which cannot be read. The rows
    of a `Generated` resource cannot be changed.
    """

    def __init__(
        self,
        id: str,
        fields: Iterable[Column | tuple[str, str]],
        rows: Iterable[Iterable[Any]] | Generated = (),
        *,
        private: bool = False,
    ) -> None:
        self.id = id
        self.columns = tuple(field if isinstance(field, Column) else Column(*field) for field in fields)
        self.private = private
        self._changing = threading.Lock()
        self._next = 1
        if isinstance(rows, Generated):
            self._rows: dict[int, tuple[Any, ...]] | None = None
            self.table = self._generated(rows)
        else:
            self._rows = {self._take_id(): self._parse(row) for row in rows}
            self.table = self._held(self._rows)

    def insert(self, *rows: Iterable[Any]) -> list[int]:
        """Add rows after the others. Returns their ids, which are never given twice."""
        with self._changing:
            new = {self._take_id(): self._parse(row) for row in rows}
            self._replace({**self._held_rows(), **new})
        return list(new)

    def delete(self, *ids: int) -> None:
        with self._changing:
            self._replace({id: row for id, row in self._held_rows().items() if id not in ids})

    def update(self, id: int, values: Mapping[str, Any]) -> None:
        """Give the row of this id other values, by the names of their columns."""
        with self._changing:
            old = dict(zip((column.id for column in self.columns), self._held_rows()[id], strict=True))
            self._replace({**self._held_rows(), id: self._parse(list({**old, **values}.values()))})

    def _held_rows(self) -> dict[int, tuple[Any, ...]]:
        if self._rows is None:
            raise TypeError(f"The rows of {self.id} are generated and cannot be changed")
        return self._rows

    def _replace(self, rows: dict[int, tuple[Any, ...]]) -> None:
        self._rows = rows
        self.table = self._held(rows)

    def _take_id(self) -> int:
        self._next += 1
        return self._next - 1

    def _parse(self, row: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(
            postgres.parse(column.type, value) for column, value in zip(self.columns, row, strict=True)
        )

    def _held(self, rows: Mapping[int, tuple[Any, ...]]) -> Table:
        held = list(rows.values())
        return Table(self.columns, list(rows), held.__getitem__, len(held) or None)

    def _generated(self, rows: Generated) -> Table:
        def parse(n: int) -> tuple[Any, ...]:
            return self._parse(rows.make(n))

        period = rows.period
        if period is None:
            return Table(self.columns, range(1, rows.count + 1), parse, None)
        kept = functools.cache(parse)
        return Table(self.columns, range(1, rows.count + 1), lambda position: kept(position % period), period)
