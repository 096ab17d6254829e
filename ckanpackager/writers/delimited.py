"""CSV and TSV: UTF-8, a line ends with ``\\n``, and only what must be is quoted (RFC 4180).

CKAN writes its rows so by itself, and they go into the archive byte for byte. Only what comes as lists is
written here, in the same manner; but for an empty string, which CKAN tells from NULL by quotes and we cannot.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import unicodecsv

from ckanpackager.archive import Archive
from ckanpackager.sources.base import Field, Page
from ckanpackager.writers import values
from ckanpackager.writers.base import Writer


class DelimitedWriter(Writer):
    """One member, ``resource.`` and the format's name, that begins with a line of the fields' names."""

    keeps_nothing = True
    delimiter: ClassVar[str]

    def __init__(self, archive: Archive, fields: Sequence[Field]) -> None:
        super().__init__(archive, fields)
        self._member = archive.member(f"resource.{self.records_format}")
        # The csv module quotes only those line ends that it writes itself, so it must write "\r\n" for a lone
        # "\r" to be quoted. Half a surrogate pair, which UTF-8 cannot hold, becomes JSON's name for it.
        self._lines = unicodecsv.writer(
            _LineEnds(self._member),
            delimiter=self.delimiter,
            lineterminator="\r\n",
            errors="backslashreplace",
        )
        if not self._member.is_begun:
            self._lines.writerow([field.id for field in fields])

    def write(self, page: Page) -> None:
        if isinstance(page.records, bytes):
            self._member.write(page.records)
            return
        kinds = [field.type for field in self._fields]
        self._lines.writerows(
            [values.text(value, kind) for value, kind in zip(record, kinds, strict=True)]
            for record in page.records
        )

    def close(self) -> None:
        self._member.close()


class CsvWriter(DelimitedWriter):
    """``resource.csv``."""

    records_format = "csv"
    delimiter = ","


class TsvWriter(DelimitedWriter):
    """``resource.tsv``, quoted as CSV is."""

    records_format = "tsv"
    delimiter = "\t"


class _Sink(Protocol):
    def write(self, data: bytes) -> int: ...


class _LineEnds:
    """Turns the ``\\r\\n`` at the end of each line into ``\\n``. It is given one line at a time."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink

    def write(self, line: bytes) -> int:
        return self._sink.write(line[:-2] + b"\n")
