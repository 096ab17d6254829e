"""A Darwin Core Archive (https://dwc.tdwg.org/text/): files of rows, and what tells a reader what is in them.

It holds exactly what its meta.xml lists, besides gbif.json for those who ask for that.
"""

import datetime
import json
import shutil
import tempfile
from collections.abc import Sequence
from typing import IO

from ckanpackager import eml as metadata
from ckanpackager.archive import Archive
from ckanpackager.dwc.metafile import CSV, TSV, meta_xml
from ckanpackager.dwc.plan import File, Plan
from ckanpackager.dwc.rows import Rows
from ckanpackager.dwc.summary import Summary
from ckanpackager.sources.base import Field, Page
from ckanpackager.writers.base import Writer

# A spreadsheet is no part of an archive: whoever asks for one gets what it can open.
DIALECTS = {"csv": CSV, "tsv": TSV, "xlsx": CSV}
_BLOCK = 1 << 18


class DwcArchiveWriter(Writer):
    """The files of ``plan`` for rows of ``fields``, in the ``format`` csv, tsv or xlsx (which makes csv).

    ``eml`` is metadata that `ckanpackager.eml.check` has let pass; its placeholders become ``package_id``
    and ``now``. ``for_gbif`` adds gbif.json. ``summary`` is complete when the writer is closed.
    """

    records_format = "lists"

    def __init__(
        self,
        archive: Archive,
        fields: Sequence[Field],
        plan: Plan,
        *,
        format: str = "csv",
        eml: str | None = None,
        package_id: str,
        now: datetime.datetime,
        for_gbif: bool = False,
    ) -> None:
        super().__init__(archive, fields)
        self._archive = archive
        self._plan = plan
        self._dialect = DIALECTS[format]
        self._eml = eml
        self._package_id = package_id
        self._now = now.astimezone(datetime.UTC)
        self._for_gbif = for_gbif
        self.summary = Summary.of(plan, has_eml=eml is not None)
        self._rows = Rows(fields, plan, self._dialect, self.summary, archive.scratch)
        # An archive is given one member at a time, and the core's comes first.
        self._waiting: list[IO[bytes]] = [
            tempfile.TemporaryFile(dir=archive.scratch)  # noqa: SIM115 - closed by discard
            for _ in plan.extensions
        ]
        self._core = archive.member(self._dialect.name(plan.core))
        self._core.write(self._rows.header(plan.core))

    @property
    def report(self) -> str:
        """What the summary says."""
        return self.summary.text()

    def write(self, page: Page) -> None:
        assert not isinstance(page.records, bytes)
        for lines in self._rows.take(page.records):
            self._core.write(lines.core)
            for waiting, extension in zip(self._waiting, lines.extensions, strict=True):
                waiting.write(extension)

    def close(self) -> None:
        try:
            self._rows.finish()
            self._core.close()
            extensions = [
                self._finish_extension(*pair)
                for pair in zip(self._plan.extensions, self._waiting, strict=True)
            ]
            self._finish_metadata([file for file in extensions if file is not None])
        finally:
            self.discard()

    def discard(self) -> None:
        self._rows.close()
        for waiting in self._waiting:
            waiting.close()

    def _finish_extension(self, file: File, waiting: IO[bytes]) -> File | None:
        """Put the rows of ``file`` into the archive, if there are any."""
        if not waiting.tell():
            return None
        waiting.seek(0)
        with self._archive.member(self._dialect.name(file)) as member:
            member.write(self._rows.header(file))
            shutil.copyfileobj(waiting, member, _BLOCK)
        return file

    def _finish_metadata(self, extensions: Sequence[File]) -> None:
        name = None if self._eml is None else "eml.xml"
        self._put("meta.xml", meta_xml(self._plan, extensions, self._dialect, name))
        if self._eml is not None:
            date, stamp = f"{self._now:%Y-%m-%d}", f"{self._now:%Y-%m-%dT%H:%M:%SZ}"
            self._put("eml.xml", metadata.fill(self._eml, self._package_id, date, stamp))
        if self._for_gbif:
            self._put("gbif.json", json.dumps({"time": int(self._now.timestamp())}).encode())

    def _put(self, name: str, content: bytes) -> None:
        with self._archive.member(name) as member:
            member.write(content)
