"""meta.xml: what tells a reader which files an archive has and what stands in them.

It follows the Darwin Core text guide (https://dwc.tdwg.org/text/), and where readers take less than that,
what all of them take: every attribute written, the id first, one location each.
"""

import dataclasses
from collections.abc import Iterable

from lxml import etree

from ckanpackager.dwc.plan import File, Plan

_NAMESPACE = "http://rs.tdwg.org/dwc/text/"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How rows are written: ``suffix`` of files, ``delimiter`` of cells, and ``escape``, its name here."""

    suffix: str
    delimiter: str
    escape: str

    def name(self, file: File) -> str:
        """The name of ``file`` in the archive."""
        return f"{file.stem}.{self.suffix}"


CSV = Dialect("csv", ",", ",")
TSV = Dialect("tsv", "\t", "\\t")


def meta_xml(plan: Plan, extensions: Iterable[File], dialect: Dialect, metadata: str | None) -> bytes:
    """The file for the core of ``plan`` and these of its extensions; ``metadata`` is the name of the EML."""
    archive = etree.Element(_tag("archive"), nsmap={None: _NAMESPACE})  # type: ignore[dict-item]  # the default's key
    if metadata is not None:
        archive.set("metadata", metadata)
    core = _file(archive, "core", plan.core, dialect)
    if plan.id_term is not None:
        etree.SubElement(core, _tag("field"), index="0", term=plan.id_term.iri)
    _fields(core, plan.core)
    for file in extensions:
        _fields(_file(archive, "extension", file, dialect), file)
    # Neither a declaration nor spaces: those who compare it with the retired packager's find the same.
    return etree.tostring(archive, encoding="utf-8", xml_declaration=False)


def _file(archive: etree._Element, kind: str, file: File, dialect: Dialect) -> etree._Element:
    element = etree.SubElement(
        archive,
        _tag(kind),
        {
            "encoding": "UTF-8",
            "linesTerminatedBy": "\\n",
            "fieldsTerminatedBy": dialect.escape,
            "fieldsEnclosedBy": '"',
            "ignoreHeaderLines": "1",
            "rowType": file.definition.row_type,
        },
    )
    etree.SubElement(etree.SubElement(element, _tag("files")), _tag("location")).text = dialect.name(file)
    etree.SubElement(element, _tag("id" if kind == "core" else "coreid"), index="0")
    return element


def _fields(element: etree._Element, file: File) -> None:
    for index, column in enumerate(file.columns, 1):
        etree.SubElement(element, _tag("field"), index=str(index), term=column.term.iri)


def _tag(name: str) -> str:
    return f"{{{_NAMESPACE}}}{name}"
