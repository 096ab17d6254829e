"""Darwin Core Archives for tests: made as a job makes them, and read by readers that are not ours."""

import csv
import datetime
import io
import os
import zipfile
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
    """The archive of records of these columns; ``dwc`` are settings, ``options`` the writer's."""
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
    return Made(path, writer.summary)


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


def schema() -> Any:
    """What meta.xml has to be; None where GBIF's files are not at hand."""
    path = GBIF / "schema-local" / "tdwg_dwc_text.xsd"
    return etree.XMLSchema(etree.parse(path)) if path.exists() else None
