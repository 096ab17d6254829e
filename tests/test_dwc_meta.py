"""meta.xml: valid, the shape of the retired packager's, and true."""

from pathlib import Path

import pytest
from lxml import etree

from ckanpackager.dwc.metafile import CSV, TSV, meta_xml
from ckanpackager.dwc.plan import Column, File, Plan
from ckanpackager.dwc.terms import Definition, Term
from tests.archives import DWC, MEDIA, TEXT, make, schema

GENUS = Column(Term("genus", DWC + "genus"), "genus", ("Genus",))
LINK = Column(Term("identifier", "http://purl.org/dc/terms/identifier"), "identifier", ())
CORE = File(Definition("Occurrence", DWC + "Occurrence", ()), "occurrence", (GENUS,))
MULTIMEDIA = File(
    Definition("Multimedia", "http://rs.gbif.org/terms/1.0/Multimedia", ()), "multimedia", (LINK,)
)


def plan(id_term: Term | None = None) -> Plan:
    return Plan("_id", id_term, CORE, (MULTIMEDIA,), None, (), ())


def test_it_is_the_retired_packagers_to_the_letter() -> None:
    how = (
        'encoding="UTF-8" linesTerminatedBy="\\n" fieldsTerminatedBy="," fieldsEnclosedBy="&quot;" '
        'ignoreHeaderLines="1"'
    )
    assert meta_xml(plan(), [MULTIMEDIA], CSV, "eml.xml").decode() == (
        '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">'
        f'<core {how} rowType="http://rs.tdwg.org/dwc/terms/Occurrence">'
        "<files><location>occurrence.csv</location></files>"
        '<id index="0"/>'
        '<field index="1" term="http://rs.tdwg.org/dwc/terms/genus"/>'
        "</core>"
        f'<extension {how} rowType="http://rs.gbif.org/terms/1.0/Multimedia">'
        "<files><location>multimedia.csv</location></files>"
        '<coreid index="0"/>'
        '<field index="1" term="http://purl.org/dc/terms/identifier"/>'
        "</extension></archive>"
    )


def test_case_13_it_follows_the_format_of_the_files() -> None:
    root = etree.fromstring(meta_xml(plan(), [MULTIMEDIA], TSV, None))
    assert [file.get("fieldsTerminatedBy") for file in root] == ["\\t", "\\t"]
    assert [location.text for location in root.iter(f"{TEXT}location")] == [
        "occurrence.tsv",
        "multimedia.tsv",
    ]


def test_case_16_an_id_that_is_a_term_is_a_field_of_the_same_column() -> None:
    root = etree.fromstring(meta_xml(plan(Term("occurrenceID", DWC + "occurrenceID")), [], CSV, None))
    fields = [(field.get("index"), field.get("term")) for field in root.iter(f"{TEXT}field")]
    assert fields == [("0", DWC + "occurrenceID"), ("1", DWC + "genus")]


def test_d4_without_metadata_none_is_named() -> None:
    assert etree.fromstring(meta_xml(plan(), [], CSV, None)).get("metadata") is None


@pytest.mark.skipif(schema() is None, reason="the schema of meta.xml is not at hand (GBIF_DATA)")
@pytest.mark.parametrize("dialect", [CSV, TSV])
@pytest.mark.parametrize("metadata", ["eml.xml", None])
def test_r1_to_r3_it_is_valid(dialect: object, metadata: str | None) -> None:
    for id_term in (None, Term("occurrenceID", DWC + "occurrenceID")):
        for extensions in ([], [MULTIMEDIA]):
            schema().assertValid(etree.fromstring(meta_xml(plan(id_term), extensions, dialect, metadata)))


def test_what_the_retired_packagers_settings_gave_they_give(tmp_path: Path) -> None:
    """Its three definitions, and the example of its documentation: the same files, headers, terms and keys."""
    columns = [
        "associatedMedia",
        "_id",
        "Catalog Number",
        "Scientific Name",
        "decimal latitude",
        "unknownField",
    ]
    columns += ["Donor name", "Measurement type", "license", "DNA sequence"]
    records = [
        (None, 1, "BM 1", "Rosa canina", 51.5, "x", None, None, None, None),
        ([{"identifier": "http://x/1"}], 2, "BM 2", "Rosa", None, "y", "Smith", "height", "CC0", "ACGT"),
    ]
    media = {**MEDIA["associatedMedia"], "extension": "multimedia-2014"}
    made = make(
        tmp_path,
        columns,
        records,
        options={"eml": "<eml/>", "for_gbif": True},
        DWC_CORE_EXTENSION="occurrence-2014",
        DWC_ADDITIONAL_EXTENSIONS=["measurement_or_fact-2014"],
        DWC_EXTENSION_FIELDS={"associatedMedia": media},
    )
    assert sorted(made.names) == [
        "eml.xml",
        "gbif.json",
        "measurement_or_fact.csv",
        "meta.xml",
        "multimedia.csv",
        "occurrence.csv",
    ]
    assert made.table("occurrence.csv") == [
        ["_id", "catalogNumber", "scientificName", "decimalLatitude", "dynamicProperties"],
        ["1", "BM 1", "Rosa canina", "51.5", '{"unknownfield": "x"}'],
        [
            "2",
            "BM 2",
            "Rosa",
            "",
            '{"DNASequence": "ACGT", "donorName": "Smith", "license": "CC0", "unknownfield": "y"}',
        ],
    ]
    assert made.table("measurement_or_fact.csv") == [["_id", "measurementType"], ["2", "height"]]
    assert made.table("multimedia.csv") == [
        ["_id", "type", "format", "identifier", "title", "license", "rightsHolder"],
        [
            "2",
            "StillImage",
            "image/jpeg",
            "http://x/1",
            "",
            "http://creativecommons.org/licenses/by/4.0/",
            "",
        ],
    ]
    meta = made.read("meta.xml").decode()
    assert meta.startswith(
        '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml"><core encoding="UTF-8" '
    )
    assert [file.get("rowType").rpartition("/")[2] for file in made.meta()] == [
        "Occurrence",
        "MeasurementOrFact",
        "Multimedia",
    ]
    assert 'term="http://purl.org/dc/terms/type"' in meta
