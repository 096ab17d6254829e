"""Darwin Core Archives for tests: made as a job makes them, and read by readers that are not ours.

What the text guide asks, and what its readers ask besides, has these numbers in the names of tests:

R1 one core, first. R2 each attribute of the format is written. R3 files, the id, fields. R4 a core has a field.
R5 one extension for each row type, with one file. R6 no term is in a file twice. R7 escapes are a backslash and
a letter. R8 meta.xml and the files agree. R9 RFC 4180: quotes where they must be, doubled; each line ended; UTF-8
without a byte order mark. R10 a space for each control character. R11 ids are there, differ, and need no quotes.
R12 a row of an extension has its row of the core, and says something. R13 what says nothing is an empty cell.
R14 metadata is XML, in UTF-8, and named.

D1 to D4 are decisions: definitions by name or path, files by the format asked for, a row that comes twice, no
metadata. Cases are what the retired packager got wrong, or right by its documentation.
"""

import csv
import datetime
import functools
import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwca.read import DwCAReader
from lxml import etree

from ckanpackager.archive import ZipArchive
from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.plan import plan
from ckanpackager.dwc.summary import Summary
from ckanpackager.settings import Settings
from ckanpackager.sources.base import Field, Page
from ckanpackager.writers.dwca import DwcArchiveWriter

GBIF = Path(os.environ.get("GBIF_DATA") or Path(__file__).parents[2] / "shared" / "data" / "gbif")
NOW = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
DWC = "http://rs.tdwg.org/dwc/terms/"
TEXT = "{http://rs.tdwg.org/dwc/text/}"

# The example of the retired service's manual, by the names that definitions have now.
MEDIA: dict[str, dict[str, Any]] = {
    "associatedMedia": {
        "extension": "multimedia",
        "fields": {
            "type": "StillImage",
            "format": "image/jpeg",
            "identifier": "",
            "title": "",
            "license": "http://creativecommons.org/licenses/by/4.0/",
            "rightsHolder": "",
        },
    }
}


@dataclass(frozen=True)
class Made:
    """An archive, and what its writer said of it."""

    path: Path
    summary: Summary

    @property
    def names(self) -> list[str]:
        with zipfile.ZipFile(self.path) as archive:
            return archive.namelist()

    def read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(name)

    def meta(self) -> Any:
        return etree.fromstring(self.read("meta.xml"))

    def table(self, name: str) -> list[list[str]]:
        """The lines of a file, its header first, as Python's csv reads them in its strict mode."""
        text = self.read(name).decode("utf-8", errors="strict")
        delimiter = "\t" if name.endswith(".tsv") else ","
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))

    def rows(self, name: str = "occurrence.csv") -> list[dict[str, str]]:
        header, *lines = self.table(name)
        return [dict(zip(header, line, strict=True)) for line in lines]

    def column(self, header: str, name: str = "occurrence.csv") -> list[str]:
        return [row[header] for row in self.rows(name)]


def settings(**values: Any) -> Settings:
    return Settings.from_mapping({"SECRET": "of a test", **values})


def make(
    folder: Path,
    columns: Sequence[str],
    records: Iterable[Sequence[Any]],
    *,
    pages: int = 1000,
    options: Mapping[str, Any] | None = None,
    **dwc: Any,
) -> Made:
    """The archive of records of these columns; ``dwc`` are settings, ``options`` the writer's.

    Whatever it is made for, it is held to the rules.
    """
    fields = [Field(name) for name in columns]
    records = [list(record) for record in records]
    path = folder / "archive.zip"
    made = plan(fields, Configuration.from_settings(settings(**dwc)))
    with (
        ZipArchive(path, now=NOW) as archive,
        DwcArchiveWriter(
            archive, fields, made, **{"package_id": "a-package", "now": NOW, **(options or {})}
        ) as writer,
    ):
        for start in range(0, len(records), pages):
            page = records[start : start + pages]
            writer.write(Page(len(page), page))
    archive_made = Made(path, writer.summary)
    hold_to_the_rules(archive_made)
    return archive_made


@dataclass(frozen=True)
class Row:
    """A row of a core as python-dwca-reader has it: terms by IRI, and the rows of extensions."""

    id: str
    data: dict[str, str]
    extensions: list[tuple[str, dict[str, str]]]


def read(path: Path) -> list[Row]:
    with DwCAReader(str(path)) as reader:
        return [
            Row(row.id, dict(row.data), [(other.rowtype, dict(other.data)) for other in row.extensions])
            for row in reader
        ]


@functools.cache
def schema() -> Any:
    """What meta.xml has to be; None where GBIF's files are not at hand."""
    path = GBIF / "schema-local" / "tdwg_dwc_text.xsd"
    return etree.XMLSchema(etree.parse(path)) if path.exists() else None


def hold_to_the_rules(made: Made) -> None:
    """What the text guide and its readers ask of every archive, by meta.xml, the files and a reader."""
    meta = made.meta()
    if schema() is not None:
        schema().assertValid(meta)
    assert [etree.QName(file).localname for file in meta] == ["core", *["extension"] * (len(meta) - 1)]
    assert len({file.get("rowType") for file in meta}) == len(meta)
    metadata = meta.get("metadata")
    if metadata is not None:
        assert etree.fromstring(made.read(metadata)).getroottree().docinfo.encoding == "UTF-8"
    locations = [location(file) for file in meta]
    assert sorted({*made.names} - {"gbif.json"}) == sorted(
        [*locations, "meta.xml", *([] if metadata is None else [metadata])]
    )
    core, *extensions = [lines_of(made, file) for file in meta]
    assert list(made.summary.files.values()) == [len(core), *map(len, extensions)]
    ids = [line[0] for line in core]
    assert len(set(ids)) == len(ids)
    assert not any(identifier != identifier.strip() or re.search('^$|[,"]', identifier) for identifier in ids)
    for lines in extensions:
        assert lines and {line[0] for line in lines} <= {*ids}
        assert all("".join(line[1:]).strip() for line in lines)
    check_reader(made, meta, core, extensions)


def location(file: Any) -> str:
    (place,) = file.iter(f"{TEXT}location")
    return str(place.text)


def lines_of(made: Made, file: Any) -> list[list[str]]:
    """The rows of a file, which is what its element of meta.xml says."""
    name = location(file)
    delimiter = "\t" if name.endswith(".tsv") else ","
    assert dict(file.attrib) == {
        "encoding": "UTF-8",
        "linesTerminatedBy": "\\n",
        "fieldsTerminatedBy": "\\t" if delimiter == "\t" else delimiter,
        "fieldsEnclosedBy": '"',
        "ignoreHeaderLines": "1",
        "rowType": file.get("rowType"),
    }
    files, identifier, *fields = file
    assert [etree.QName(child).localname for child in (files, identifier, *fields)] == [
        "files", "id" if etree.QName(file).localname == "core" else "coreid", *["field"] * len(fields)
    ]  # fmt: skip
    assert (identifier.get("index"), bool(fields)) == ("0", True)
    assert len({field.get("term") for field in fields}) == len(fields)
    header, *lines = made.table(name)
    indexes = [int(field.get("index")) for field in fields]
    assert indexes in (list(range(1, len(header))), list(range(len(header))))
    assert len(set(header)) == len(header)
    assert {len(line) for line in lines} <= {len(header)}
    text = made.read(name).decode("utf-8", errors="strict")
    assert not text.startswith("\ufeff")
    assert not any(re.search("[\x00-\x1f\x7f]", cell) for line in (header, *lines) for cell in line)
    # Quoted as little as can be, every line ended, the last too: as Python's csv writes it.
    again = io.StringIO(newline="")
    csv.writer(again, delimiter=delimiter, lineterminator="\n").writerows([header, *lines])
    assert again.getvalue() == text
    return lines


def check_reader(made: Made, meta: Any, core: list[list[str]], extensions: Sequence[list[list[str]]]) -> None:
    """python-dwca-reader finds each cell under its term, and each row of an extension with its core's."""

    def found(file: Any, line: list[str]) -> dict[str, str]:
        return {field.get("term"): line[int(field.get("index"))] for field in file.iter(f"{TEXT}field")}

    rows = read(made.path)
    assert [(row.id, row.data) for row in rows] == [(line[0], found(meta[0], line)) for line in core]
    joined = Counter((row.id, kind, *sorted(data.items())) for row in rows for kind, data in row.extensions)
    assert joined == Counter(
        (line[0], file.get("rowType"), *sorted(found(file, line).items()))
        for file, lines in zip(meta[1:], extensions, strict=True)
        for line in lines
    )
