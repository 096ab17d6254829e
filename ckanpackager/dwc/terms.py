"""Definitions: what a core or an extension is called, and which terms it has.

A definition comes with the service, or is a file in the format of GBIF's
(https://rs.gbif.org/schema/extension.xsd). A term is its IRI; its short name
may stand twice in a definition, and is then told apart by a prefix.
"""

import dataclasses
import functools
import os
import re
from pathlib import Path
from typing import Any

from lxml import etree

from ckanpackager.checks import nearest
from ckanpackager.errors import SettingsError

FOLDER = Path(__file__).parent / "definitions"

PREFIXES = {
    "dwc": "http://rs.tdwg.org/dwc/terms/",
    "dcterms": "http://purl.org/dc/terms/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "ac": "http://rs.tdwg.org/ac/terms/",
    "gbif": "http://rs.gbif.org/terms/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "mo": "http://purl.org/ontology/mo/",
}

OCCURRENCE = PREFIXES["dwc"] + "Occurrence"
"""The row type of an occurrence."""

MEDIA = frozenset({PREFIXES["gbif"] + "Multimedia", PREFIXES["ac"] + "Multimedia"})
"""The row types of media."""

LICENCES = frozenset({"license", "rights", "UsageTerms", "WebStatement"})
"""The short names of terms that state a licence."""

_OF_2014 = "-2014"

# Names of GBIF's files, without the date at their end, whose like comes with the service.
_KNOWN_FILES = {
    "dwc_occurrence": "occurrence",
    "dwc_taxon": "taxon",
    "dwc_event": "event",
    "multimedia": "multimedia",
    "audiovisual": "audiovisual",
    "measurements_or_facts": "measurement_or_fact",
    "identification_history": "identification",
    "resource_relationship": "resource_relationship",
    "vernacularname": "vernacular_name",
}
_BIGGEST_FILE = 16 * 2**20


@dataclasses.dataclass(frozen=True)
class Term:
    """A term: ``name`` is short ("scientificName"), ``iri`` the whole of it, ``group`` what it is about."""

    name: str
    iri: str
    group: str = ""
    required: bool = False

    @property
    def prefixed(self) -> str:
        """``dcterms:type``; the IRI where its beginning has no usual prefix."""
        for prefix, beginning in PREFIXES.items():
            if self.iri == beginning + self.name:
                return f"{prefix}:{self.name}"
        return self.iri


@dataclasses.dataclass(frozen=True)
class Definition:
    """A core or an extension. Readers know it by the IRI ``row_type``. No two ``terms`` share an IRI."""

    name: str
    row_type: str
    terms: tuple[Term, ...]

    def find(self, name: str) -> Term | None:
        """The term of this short name (the first of those that share it), prefixed name or IRI."""
        for term in self.terms:
            if term.name == name:
                return term
        if ":" not in name:
            return None
        return next((term for term in self.terms if name in (term.iri, term.prefixed)), None)


def shipped() -> list[str]:
    """The names of the definitions that come with the service."""
    return sorted(path.stem for path in FOLDER.glob("*.xml"))


@functools.cache
def outdated(row_type: str) -> frozenset[str]:
    """The IRIs of the terms that GBIF's definition of this row type had in 2014, and has no more."""
    for name in shipped():
        if name.endswith(_OF_2014) and (old := load(name)).row_type == row_type:
            current = load(name.removesuffix(_OF_2014))
            return frozenset(term.iri for term in old.terms) - {term.iri for term in current.terms}
    return frozenset()


def load(name_or_path: str) -> Definition:
    """The definition that comes with the service under this name, or that is in the file of this path.

    Of a file no more is asked than it takes to use it: GBIF's older ones break today's schema. Raises
    SettingsError where there is no such definition, or the file holds none.
    """
    if name_or_path in shipped():
        return _parse(FOLDER / f"{name_or_path}.xml")
    path = Path(name_or_path)
    if not path.is_file():
        raise SettingsError(_missing(name_or_path))
    return _parse(path)


def _missing(name_or_path: str) -> str:
    if os.sep not in name_or_path and not name_or_path.endswith(".xml"):
        near = nearest(name_or_path, shipped())
        hint = f" Did you mean {near!r}?" if near else ""
        return f"there is no definition {name_or_path!r}.{hint} There are {', '.join(shipped())}."
    advice = "put the path of a file in the format of GBIF's in its place, or one of " + ", ".join(shipped())
    stem = re.sub(r"[_-]\d{4}-\d\d-\d\d\Z", "", Path(name_or_path).stem.lower())
    if known := _KNOWN_FILES.get(stem):
        advice = f"put {known!r} in its place, which comes with the service"
        if f"{known}{_OF_2014}" in shipped():
            advice += f" ('{known}{_OF_2014}' is the list that came with the retired one)"
    return f"there is no file {name_or_path}: {advice}."


def _parse(path: Path) -> Definition:
    root = _root(path)
    beginning = etree.QName(root).localname
    if beginning != "extension":
        raise SettingsError(
            f"{path} is no definition of a core or an extension: it begins with <{beginning}>, "
            "and GBIF's with <extension>."
        )
    row_type = (root.get("rowType") or "").strip()
    if not row_type:
        raise SettingsError(f"{path} is no definition of a core or an extension: it has no rowType.")
    name = (root.get("name") or "").strip() or last_part(row_type)
    terms: dict[str, Term] = {}
    for element in root.iter("{*}property"):
        term = _term(element, path)
        terms.setdefault(term.iri, term)
    if not terms:
        raise SettingsError(f"{path} is no definition of a core or an extension: it has no <property>.")
    return Definition(name, row_type, tuple(terms.values()))


def _term(element: Any, path: Path) -> Term:
    name, iri = (element.get(key, "").strip() for key in ("name", "qualName"))
    if not iri:
        iri = element.get("namespace", "").strip() + name if name else ""
    if ":" not in iri or iri.split() != [iri]:
        raise SettingsError(
            f"{path}, line {element.sourceline}: the property {name!r} has no IRI: give it a qualName."
        )
    required = element.get("required", "").strip() in ("true", "1")
    return Term(name or last_part(iri), iri, element.get("group", "").strip(), required)


def _root(path: Path) -> Any:
    # What a file of an admin's refers to is not ours to fetch, nor to unfold.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        with path.open("rb") as file:
            root = etree.fromstring(file.read(_BIGGEST_FILE), parser)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except etree.XMLSyntaxError as error:
        raise SettingsError(f"{path} is not XML: {error.msg}.") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise SettingsError(f"{path} has a DOCTYPE, which a definition does not need: remove it.")
    return root


def last_part(iri: str) -> str:
    """What is behind the last slash, hash or colon of an IRI or a prefixed name."""
    return re.split(r"[/#:]", iri.rstrip("/#"))[-1]
