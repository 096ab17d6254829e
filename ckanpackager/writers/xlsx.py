"""An Excel workbook, written row by row as Office Open XML (ECMA-376).

A reader gets each value as it was or, where Excel could not hold it, a refusal; nothing that comes from a row
is ever a formula or a link.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import islice, product
from math import isfinite
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ckanpackager.archive import Archive, ZipArchive
from ckanpackager.errors import PackageError
from ckanpackager.sources.base import Field, Page
from ckanpackager.writers import values
from ckanpackager.writers.base import Writer

# Excel's limits. A character outside Unicode's first plane counts as two.
_MOST_ROWS = 1_048_576
_MOST_COLUMNS = 16_384
_MOST_CHARACTERS = 32_767
# From here on, a double cannot tell an integer from its neighbours.
_INEXACT = 2**53


class XlsxWriter(Writer):
    """``resource.xlsx`` with a sheet ``Data``, and ``Data 2`` and so on for what is too long for one.

    Text is always a text cell, a number a number where a double holds it exactly and else a text, a boolean
    a boolean, NULL and the empty string no cell; dates are text as CKAN writes them, and JSON is text.

    The XML is made here because that takes a sixth of the time of XlsxWriter or openpyxl, puts nothing
    uncompressed on the disk, and lets rows come one by one.
    """

    records_format = "lists"

    def __init__(self, archive: Archive, fields: Sequence[Field]) -> None:
        super().__init__(archive, fields)
        if len(fields) > _MOST_COLUMNS:
            raise PackageError(
                f"There are {len(fields):,} columns, and an Excel sheet has room for {_MOST_COLUMNS:,}: "
                "ask for csv or tsv, or for fewer fields."
            )
        self._member = archive.member("resource.xlsx", compress=False)
        self._starts = [f'<c r="{letters}' for letters in islice(_letters(), len(fields))]
        self._rows = 0
        self._sheets = 0
        self._file = tempfile.NamedTemporaryFile(dir=archive.scratch, suffix=".xlsx")  # noqa: SIM115 - see close
        self._workbook = ZipArchive(Path(self._file.name), now=archive.now)
        self._part("_rels/.rels", _relationships([("officeDocument", "xl/workbook.xml")]))
        self._begin_sheet()

    def write(self, page: Page) -> None:
        assert not isinstance(page.records, bytes)
        for record in page.records:
            if self._line == _MOST_ROWS:
                self._end_sheet()
                self._begin_sheet()
            self._rows += 1
            self._add(record, self._fields)

    def close(self) -> None:
        try:
            self._end_sheet()
            self._finish_workbook()
            shutil.copyfileobj(self._file, self._member, 1 << 18)
            self._member.close()
        finally:
            self.discard()

    def discard(self) -> None:
        self._workbook.discard()
        self._file.close()

    def _begin_sheet(self) -> None:
        self._sheets += 1
        self._line = 0
        self._sheet = self._workbook.member(f"xl/{_sheet_file(self._sheets)}")
        self._sheet.write(_SHEET_HEAD)
        self._add([field.id for field in self._fields], [Field(field.id) for field in self._fields])

    def _add(self, record: Sequence[Any], fields: Sequence[Field]) -> None:
        self._line += 1
        line = str(self._line)
        cells = [f'<row r="{line}">']
        for start, value, field in zip(self._starts, record, fields, strict=True):
            try:
                content = _content(value, field.type)
            except _TooLongError as error:
                raise PackageError(
                    f"Row {self._rows:,} has {error.args[0]:,} characters in the column {field.id}, and an "
                    f"Excel cell has room for {_MOST_CHARACTERS:,}: ask for csv or tsv."
                ) from error
            if content:
                cells += (start, line, content)
        cells.append("</row>")
        self._sheet.write("".join(cells).encode())

    def _end_sheet(self) -> None:
        self._sheet.write(_SHEET_TAIL)
        self._sheet.close()

    def _finish_workbook(self) -> None:
        numbers = range(1, self._sheets + 1)
        targets = [("worksheet", _sheet_file(number)) for number in numbers]
        self._part("xl/_rels/workbook.xml.rels", _relationships([*targets, ("styles", "styles.xml")]))
        self._part("xl/workbook.xml", _workbook(self._sheets))
        self._part("xl/styles.xml", _STYLES)
        self._part("[Content_Types].xml", _content_types(self._sheets))
        self._workbook.close()

    def _part(self, name: str, xml: str) -> None:
        with self._workbook.member(name) as part:
            part.write(xml.encode())


class _TooLongError(ValueError):
    """A text of so many of Excel's characters."""


def _content(value: Any, kind: str) -> str:
    """What follows a cell's address in its XML; nothing if there is to be no cell."""
    if value is None:
        return ""
    text = value
    if not isinstance(value, str) or kind in values.JSON:
        if kind not in values.JSON and (content := _boolean_or_number(value)):
            return content
        text = values.text(value, kind)
    if not text:
        return ""
    if len(text) > _MOST_CHARACTERS // 2:
        _check_length(text)
    if _SUSPECT.search(text):
        text = _SPECIAL.sub(_escape, text)
    return f'" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def _boolean_or_number(value: Any) -> str | None:
    """The same, if ``value`` is a boolean, or a number that is the same number as a double."""
    if isinstance(value, bool):
        return f'" t="b"><v>{value:d}</v></c>'
    if isinstance(value, int):
        return f'"><v>{value}</v></c>' if -_INEXACT < value < _INEXACT else None
    if isinstance(value, float | Decimal):
        digits = repr(float(value))
        if isfinite(float(value)) and (isinstance(value, float) or Decimal(digits) == value):
            return f'"><v>{digits}</v></c>'
    return None


def _check_length(text: str) -> None:
    characters = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if characters > _MOST_CHARACTERS:
        raise _TooLongError(characters)


# What XML forbids or would change stands as _xHHHH_ (ECMA-376 part 1, 22.9.2.19, ST_Xstring), and so does an
# underscore that would look like the beginning of that, now or once what follows it has been replaced.
_FORBIDDEN = r"\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff"
_SPECIAL = re.compile(rf"[&<>{_FORBIDDEN}]|_(?=x[0-9A-Fa-f]{{4}}[_{_FORBIDDEN}])")
_SUSPECT = re.compile(rf"[&<>_{_FORBIDDEN}]")  # finds nothing in most texts, in half the time
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _escape(special: re.Match[str]) -> str:
    character = special.group()
    return _NAMED.get(character) or f"_x{ord(character):04X}_"


def _letters() -> Iterator[str]:
    """A, B ... Z, AA, AB ... as Excel names its columns."""
    for length in (1, 2, 3):
        for letters in product(ascii_uppercase, repeat=length):
            yield "".join(letters)


# The parts around the sheets: no more than the specification asks for.

_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MEDIA = "application/vnd.openxmlformats-officedocument.spreadsheetml"

_SHEET_HEAD = (
    f'{_XML}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>'
    "</sheetView></sheetViews><sheetData>"
).encode()
_SHEET_TAIL = b"</sheetData></worksheet>"

_STYLES = (
    f'{_XML}<styleSheet xmlns="{_MAIN}">'
    '<fonts count="1"><font><sz val="11"/><name val="Calibri"/><family val="2"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill></fills>'
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)


def _sheet_file(number: int) -> str:
    return f"worksheets/sheet{number}.xml"


def _relationships(targets: Sequence[tuple[str, str]]) -> str:
    """The parts that a part refers to, by kind and path, as rId1, rId2 ..."""
    entries = (
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">{"".join(entries)}</Relationships>'


def _workbook(sheets: int) -> str:
    entries = (
        f'<sheet name="{"Data" if number == 1 else f"Data {number}"}" sheetId="{number}" r:id="rId{number}"/>'
        for number in range(1, sheets + 1)
    )
    return (
        f'{_XML}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><bookViews><workbookView/></bookViews>'
        f"<sheets>{''.join(entries)}</sheets></workbook>"
    )


def _content_types(sheets: int) -> str:
    parts = [("xl/workbook.xml", "sheet.main"), ("xl/styles.xml", "styles")]
    parts += [(f"xl/{_sheet_file(number)}", "worksheet") for number in range(1, sheets + 1)]
    overrides = (f'<Override PartName="/{name}" ContentType="{_MEDIA}.{kind}+xml"/>' for name, kind in parts)
    return (
        f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
        f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{"".join(overrides)}</Types>'
    )
