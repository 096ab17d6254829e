"""From a page of records to the lines of a core and of its extensions, in one pass.

What depends on the plan alone is looked up once, before there are rows.
"""

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from ckanpackager.dwc import values
from ckanpackager.dwc.columns import Cells, Texts
from ckanpackager.dwc.counters import Counters
from ckanpackager.dwc.formatters import FORMATTERS
from ckanpackager.dwc.ids import Ids
from ckanpackager.dwc.metafile import Dialect
from ckanpackager.dwc.plan import Column, Dynamic, File, ListField, ListKey, Plan
from ckanpackager.dwc.summary import Summary
from ckanpackager.errors import PackageError
from ckanpackager.sources.base import Field

# So many rows are taken at once: more are not quicker, and take more memory.
_ROWS = 2000

Places = dict[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Lines:
    """Lines as they go into the files: of the core, and of each extension of the plan."""

    core: bytes
    extensions: list[bytes]


class Rows:
    """Turns records, lists of values in the order of ``fields``, into lines.

    ``summary`` is told what there is to tell. What has to be remembered of many rows is kept in ``scratch``.
    """

    def __init__(
        self, fields: Sequence[Field], plan: Plan, dialect: Dialect, summary: Summary, scratch: Path
    ) -> None:
        places = {field.id: place for place, field in enumerate(fields)}
        columns = plan.core.columns if plan.dynamic is None else plan.core.columns[:-1]
        self._plan = plan
        self._summary = summary
        self._names = [dialect.name(file) for file in (plan.core, *plan.extensions)]
        summary.files = dict.fromkeys(self._names, 0)
        self._width = len(fields)
        self._texts = Texts(dialect.delimiter, summary)
        self._columns = [_Sources(column, places, summary) for column in columns]
        self._object = None if plan.dynamic is None else _Object(plan.dynamic, places)
        self._extensions = [_Extension(file, dialect.name(file), places, summary) for file in plan.extensions]
        self._id = places[plan.id_field]
        self._ids = Ids(plan.id_field, scratch)
        self._counters = Counters(plan, summary, scratch)
        self._seen = 0

    def header(self, file: File) -> bytes:
        """The first line of ``file``."""
        # What begins a file would be taken for a byte order mark of its own.
        names = [self._plan.id_field.lstrip("\ufeff"), *(column.header for column in file.columns)]
        return _joined([self._texts.line(list(map(values.clean, names)))])

    def take(self, records: Sequence[Sequence[Any]]) -> Iterator[Lines]:
        """The lines of ``records``, some rows at a time.

        Raises PackageError for a row without an id, or with the id of a different row.
        """
        for start in range(0, len(records), _ROWS):
            yield self._take(records[start : start + _ROWS])

    def finish(self) -> None:
        """There are no more records: now the summary is complete."""
        self._counters.finish()
        for name in self._names[1:]:
            if not self._summary.files[name]:
                del self._summary.files[name]
        self.close()

    def close(self) -> None:
        """Let go of what was remembered."""
        self._ids.close()
        self._counters.close()

    def _take(self, records: Sequence[Sequence[Any]]) -> Lines:
        before = copy.deepcopy(self._summary)
        page, ids, tables, lines = self._made(records)
        self._seen += page.rows
        repeated = self._ids.repeated(page.values(self._id), ids, _marks(lines, tables))
        if repeated:
            # What was done to their values is not in the archive.
            vars(self._summary).update(vars(before))
            self._summary.repeated_rows += len(repeated)
            places = set(repeated)
            records = [record for place, record in enumerate(records) if place not in places]
            if not records:
                return Lines(b"", [b"" for _ in self._extensions])
            _, ids, tables, lines = self._made(records)
        self._count(ids, tables)
        return Lines(_joined(lines[0]), list(map(_joined, lines[1:])))

    def _made(
        self, records: Sequence[Sequence[Any]]
    ) -> tuple["_Page", list[str], list["_Table"], list[list[str]]]:
        """The records as a page, their ids, and for each file its table and the lines of that."""
        page = _Page(records, self._width, self._texts)
        ids = self._identifiers(page.values(self._id))
        core = _Table(range(page.rows), [source.take(page) for source in self._columns])
        tables = [core, *(extension.take(page) for extension in self._extensions)]
        if self._object is not None:
            core.columns.append(self._object.take(page))
        return page, ids, tables, [self._lines(ids, table) for table in tables]

    def _identifiers(self, column: Sequence[Any]) -> list[str]:
        if set(map(type, column)) == {int}:
            return list(map(str, column))
        ids = []
        for number, value in enumerate(column, self._seen + 1):
            text = values.text(value)
            # Some readers sort files by their first column as it stands there, without a thought of quotes.
            identifier = values.clean(text).replace(",", " ").replace('"', " ").strip()
            if not identifier:
                raise PackageError(
                    f"Row {number:,} has no value in the column {self._plan.id_field}, which identifies the "
                    "rows of the archive: fill it in, or choose another column (DWC_ID_FIELD)."
                )
            self._summary.changed_ids += identifier != text
            ids.append(identifier)
        return ids

    def _lines(self, ids: list[str], table: "_Table") -> list[str]:
        rows = table.rows
        own = ids if len(rows) == len(ids) and isinstance(rows, range) else [ids[row] for row in rows]
        return self._texts.lines(own, table.columns)

    def _count(self, ids: Sequence[str], tables: Sequence["_Table"]) -> None:
        for name, table in zip(self._names, tables, strict=True):
            self._summary.files[name] += len(table.rows)
        self._counters.core(ids, [column.cells for column in tables[0].columns])
        for file, table in zip(self._plan.extensions, tables[1:], strict=True):
            self._counters.extension(file, len(table.rows), [column.cells for column in table.columns])


@dataclasses.dataclass(slots=True)
class _Table:
    """Rows of a file: ``rows`` are the places in the page of the records that they belong to."""

    rows: Sequence[int]
    columns: list[Cells]

    def at(self, places: Sequence[int]) -> "_Table":
        return _Table([self.rows[place] for place in places], [column.at(places) for column in self.columns])


class _Page:
    """Some records, column by column. ``lost`` are values that gave way to another, by column and row."""

    def __init__(self, records: Sequence[Sequence[Any]], width: int, texts: Texts) -> None:
        if set(map(len, records)) != {width}:
            raise ValueError(f"A record has not {width} values, one for each field.")
        self._columns = list(zip(*records, strict=True))
        self._cells: dict[int, Cells] = {}
        self.rows = len(records)
        self.texts = texts
        self.lost: dict[int, dict[int, Any]] = {}

    def values(self, place: int) -> Sequence[Any]:
        return self._columns[place]

    def cells(self, place: int) -> Cells:
        if place not in self._cells:
            self._cells[place] = self.texts.cells(self._columns[place])
        return self._cells[place]


class _Sources:
    """The columns of the resource that fill a column of a file, best first."""

    def __init__(self, column: Column, places: Places, summary: Summary) -> None:
        self._names = column.sources
        self._places = [places[name] for name in column.sources]
        self._summary = summary

    def take(self, page: _Page) -> Cells:
        best = page.cells(self._places[0])
        for name, place in zip(self._names[1:], self._places[1:], strict=True):
            best = self._merged(page, best, place, name)
        return best

    def _merged(self, page: _Page, best: Cells, place: int, name: str) -> Cells:
        other = page.cells(place)
        if not any(other.cells):
            return best
        merged = list(best.cells)
        lost = {}
        for row, (cell, value) in enumerate(zip(merged, other.cells, strict=True)):
            if values.is_blank(value) or cell == value:
                continue
            if values.is_blank(cell):
                merged[row] = value
            else:
                lost[row] = page.values(place)[row]
        if lost:
            page.lost[place] = lost
            self._summary.lost[name] = self._summary.lost.get(name, 0) + len(lost)
        return Cells(merged, best.plain and other.plain)


class _Object:
    """The dynamic term: what has no other place, as a JSON object."""

    def __init__(self, dynamic: Dynamic, places: Places) -> None:
        members = [(key, places[column], False) for column, key in dynamic.keys]
        members += [(key, places[column], True) for column, key in dynamic.losers]
        self._members = sorted(members)
        self._own = None if dynamic.own is None else places[dynamic.own]
        self._own_key = dynamic.term.name

    def take(self, page: _Page) -> Cells:
        members = [
            _members(key, page.lost[place] if is_loser else page.values(place), page.rows)
            for key, place, is_loser in self._members
            if not is_loser or place in page.lost
        ]
        rows = list(map(", ".join, map(_filled, zip(*members, strict=True)))) if members else [""] * page.rows
        if self._own is not None:
            keys = [key for key, place, is_loser in self._members if not is_loser or place in page.lost]
            for row, value in enumerate(page.values(self._own)):
                if not values.is_blank(value):
                    found = {
                        key: column[row] for key, column in zip(keys, members, strict=True) if column[row]
                    }
                    rows[row] = self._with_own(found, value)
        return page.texts.ready(["{" + row + "}" if row else "" for row in rows])

    def _with_own(self, members: dict[str, str], value: Any) -> str:
        """The members, and those of an object that was there already; anything else under its own name."""
        value = values.nested(value) if isinstance(value, str) else value
        if not isinstance(value, dict) or not members.keys().isdisjoint(value):
            value = {self._own_key: value}
        members |= {key: _member(key, member) for key, member in value.items()}
        return ", ".join(filter(None, (members[key] for key in sorted(members))))


def _filled(members: Sequence[str]) -> Iterator[str]:
    return filter(None, members)


def _members(key: str, column: Any, rows: int) -> list[str]:
    """A member of a JSON object for each row; empty where there is nothing to say."""
    if isinstance(column, dict):
        return [_member(key, column.get(row)) for row in range(rows)]
    if set(map(type, column)) <= _TEXTS:
        # Most columns say the same again and again.
        different = {value: _member(key, value) for value in set(column)}
        return list(map(different.__getitem__, column))
    return [_member(key, value) for value in column]


def _member(key: str, value: Any) -> str:
    if isinstance(value, str):
        value = values.nested(value)
    if values.is_blank(value):
        return ""
    return f"{values.json_string(key)}: {values.json_text(value)}"


_TEXTS = {str, type(None)}


class _Extension:
    """A file of rows that belong to a row of the core: from lists, and from columns of their own."""

    def __init__(self, file: File, name: str, places: Places, summary: Summary) -> None:
        self._width = len(file.columns)
        self._plain = {
            position: _Sources(column, places, summary)
            for position, column in enumerate(file.columns)
            if column.sources
        }
        self._lists = [_List(field, file, name, places, summary) for field in file.lists]

    def take(self, page: _Page) -> _Table:
        plain = {position: sources.take(page) for position, sources in self._plain.items()}
        tables = [field.take(page, plain, self._width) for field in self._lists]
        if plain:
            tables.append(self._alone(page, plain, {row for table in tables for row in table.rows}))
        table = tables[0] if len(tables) == 1 else _together(tables)
        # What the lists left blank is empty, but what stands in a column may be spaces.
        says = _says if plain else any
        said = list(map(says, zip(*(column.cells for column in table.columns), strict=True)))
        return table if all(said) else table.at([place for place, is_said in enumerate(said) if is_said])

    def _alone(self, page: _Page, plain: dict[int, Cells], others: set[int]) -> _Table:
        """What plain columns say of records that have no other row."""
        said = zip(*(column.cells for column in plain.values()), strict=True)
        rows = [row for row, cells in enumerate(said) if row not in others and _says(cells)]
        nothing = Cells([""] * len(rows), True)
        return _Table(
            rows,
            [plain[position].at(rows) if position in plain else nothing for position in range(self._width)],
        )


class _List:
    """A column of the resource that holds lists of objects, each of which is a row."""

    def __init__(self, field: ListField, file: File, name: str, places: Places, summary: Summary) -> None:
        self._place = places[field.column]
        self._name = field.column
        self._summary = summary
        positions = {column.term.iri: position for position, column in enumerate(file.columns)}
        self._keys = {
            positions[key.term.iri]: _Key(key, name, file.columns[positions[key.term.iri]].header, summary)
            for key in field.keys
        }

    def take(self, page: _Page, plain: dict[int, Cells], width: int) -> _Table:
        rows, objects = self._objects(page.values(self._place))
        repeated = {position: column.at(rows) for position, column in plain.items()}
        nothing = Cells([""] * len(rows), True)
        columns = []
        for position in range(width):
            other = repeated.get(position, nothing)
            key = self._keys.get(position)
            columns.append(other if key is None else key.take(objects, page.texts, other))
        return _Table(rows, columns)

    def _objects(self, column: Sequence[Any]) -> tuple[list[int], list[dict[str, Any]]]:
        rows: list[int] = []
        objects: list[dict[str, Any]] = []
        skipped = 0
        for row, value in enumerate(column):
            if value is None or value == "":
                continue
            elements = _parsed(value) if isinstance(value, str) else value
            if isinstance(elements, dict) and elements:
                elements = [elements]
            elif not isinstance(elements, list):
                skipped += not values.is_blank(elements)
                continue
            for element in elements:
                if isinstance(element, dict):
                    rows.append(row)
                    objects.append(element)
                else:
                    skipped += 1
        if skipped:
            self._summary.skipped[self._name] = self._summary.skipped.get(self._name, 0) + skipped
        return rows, objects


class _Key:
    """A key of a list's objects, which fills the column ``header`` of the file ``name``."""

    def __init__(self, key: ListKey, name: str, header: str, summary: Summary) -> None:
        self._key = key.key
        self._formatter = None if key.formatter is None else FORMATTERS[key.formatter]
        self._default = values.cell(key.default)
        self._name = name
        self._header = header
        self._summary = summary

    def take(self, objects: Sequence[dict[str, Any]], texts: Texts, other: Cells) -> Cells:
        """The cells of these objects; where they are blank, those of ``other``, and else the default."""
        key = self._key
        found = [element.get(key) for element in objects]
        if self._formatter is not None:
            found = list(map(self._formatter, found))
        column = texts.cells(found)
        blank = [place for place, cell in enumerate(column.cells) if not cell or cell.isspace()]
        if not blank:
            return column
        cells = list(column.cells)
        defaults = 0
        for place in blank:
            cells[place] = other.cells[place]
            if values.is_blank(cells[place]):
                cells[place] = self._default
                defaults += 1
        if self._default and defaults:
            counts = self._summary.defaults.setdefault(self._name, {})
            counts[self._header] = counts.get(self._header, 0) + defaults
        return texts.ready(cells)


_MAY_BE_INEXACT = {float, dict, list}


def _parsed(text: str) -> Any:
    """What ``text`` is the JSON of; itself where it is none."""
    try:
        # orjson is quick, and takes floats for what they are to a computer.
        elements = orjson.loads(text)
        if all(_MAY_BE_INEXACT.isdisjoint(map(type, element.values())) for element in elements):
            return elements
    except (ValueError, AttributeError, TypeError):
        pass
    try:
        return values.parse(text)
    except ValueError:
        return text


def _together(tables: Sequence[_Table]) -> _Table:
    """The rows of all of them, in the order of the records that they belong to."""
    rows = [row for table in tables for row in table.rows]
    columns = [
        Cells([cell for column in columns for cell in column.cells], all(column.plain for column in columns))
        for columns in zip(*(table.columns for table in tables), strict=True)
    ]
    return _Table(rows, columns).at(sorted(range(len(rows)), key=rows.__getitem__))


def _marks(lines: Sequence[Sequence[str]], tables: Sequence[_Table]) -> list[int]:
    """A hash for each record: of its line in the core, and of all that belong to it."""
    marks = list(map(hash, lines[0]))
    for number, (table, others) in enumerate(zip(tables[1:], lines[1:], strict=True)):
        for row, line in zip(table.rows, others, strict=True):
            marks[row] = hash((marks[row], number, line))
    return marks


def _says(cells: Iterable[str]) -> bool:
    return any(map(str.strip, cells))


def _joined(lines: Sequence[str]) -> bytes:
    return "".join([*(f"{line}\n" for line in lines)]).encode()
