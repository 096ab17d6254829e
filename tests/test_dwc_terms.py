"""Definitions: those that come with the service, and files like GBIF's."""

import os
import pickle
from pathlib import Path

import pytest
from lxml import etree

from ckanpackager.dwc import make_definitions
from ckanpackager.dwc.terms import FOLDER, PREFIXES, Definition, Term, last_part, load, outdated, shipped
from ckanpackager.errors import SettingsError
from tests.archives import GBIF

needs_gbif = pytest.mark.skipif(not GBIF.is_dir(), reason=f"GBIF's own files are not in {GBIF} (GBIF_DATA)")

# What comes with the service, and GBIF's own file of it.
OWN_FILES = {
    "occurrence": "dwc_occurrence_2025-07-10.xml",
    "taxon": "dwc_taxon_2025-07-10.xml",
    "event": "dwc_event_2025-07-10.xml",
    "multimedia": "multimedia.xml",
    "audiovisual": "audiovisual_2026-02-24.xml",
    "measurement_or_fact": "measurements_or_facts_2025-07-10.xml",
    "identification": "identification_history_2025-07-10.xml",
    "resource_relationship": "resource_relationship_2025-07-10.xml",
    "vernacular_name": "vernacularname.xml",
    "occurrence-2014": "upstream2014/dwc_occurrence.xml",
    "multimedia-2014": "upstream2014/multimedia.xml",
    "measurement_or_fact-2014": "upstream2014/measurements_or_facts.xml",
}
COUNTS = {
    "occurrence": 198,
    "taxon": 52,
    "event": 97,
    "multimedia": 15,
    "audiovisual": 157,
    "measurement_or_fact": 11,
    "identification": 50,
    "resource_relationship": 8,
    "vernacular_name": 14,
    "occurrence-2014": 162,
    "multimedia-2014": 14,
    "measurement_or_fact-2014": 9,
}

ROOT = '<extension xmlns="http://rs.gbif.org/extension/" name="Thing" rowType="http://example.org/Thing">'
COLOUR = '<property name="colour" qualName="http://example.org/colour"/>'


def written(folder: Path, text: str) -> str:
    path = folder / "thing.xml"
    path.write_text(text, "utf-8")
    return str(path)


# What comes with the service.


def test_every_definition_that_is_promised_comes_with_the_service() -> None:
    assert {name: len(load(name).terms) for name in shipped()} == COUNTS


def test_shipped_files_are_what_the_script_makes_of_the_tables() -> None:
    assert dict(make_definitions.definitions()) == {
        path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.xml")
    }


def test_script_writes_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in FOLDER.glob("*.csv"):
        (tmp_path / table.name).write_bytes(table.read_bytes())
    monkeypatch.setattr(make_definitions, "FOLDER", tmp_path)
    make_definitions.main()
    for path in FOLDER.glob("*.xml"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_no_term_is_twice_in_a_definition(name: str) -> None:
    iris = [term.iri for term in load(name).terms]
    assert len(set(iris)) == len(iris)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_every_shipped_term_has_a_prefix_and_is_found_by_all_its_names(name: str) -> None:
    definition = load(name)
    for term in definition.terms:
        assert term.prefixed.partition(":")[0] in PREFIXES
        assert definition.find(term.iri) == definition.find(term.prefixed) == term
        found = definition.find(term.name)
        assert found is not None and found.name == term.name


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_shipped_definitions_name_those_whose_terms_they_are(name: str) -> None:
    text = (FOLDER / f"{name}.xml").read_text()
    for owner in ("TDWG", "CC BY 4.0", "GBIF", "http://rs.gbif.org/"):
        assert owner in text.partition("<extension")[0]
    assert "description" not in text.partition("<property")[2].replace("terms/description", "").replace(
        'name="description"', ""
    )


@needs_gbif
@pytest.mark.parametrize("name", sorted(COUNTS))
def test_shipped_definitions_say_what_gbifs_own_files_say(name: str) -> None:
    own, gbifs = load(name), load(str(GBIF / OWN_FILES[name]))
    assert {term.iri: term for term in own.terms} == {term.iri: term for term in gbifs.terms}
    assert own == gbifs


@needs_gbif
@pytest.mark.parametrize("name", sorted(name for name in COUNTS if not name.endswith("2014")))
def test_shipped_definitions_are_valid_by_gbifs_schema(name: str) -> None:
    schema = etree.XMLSchema(etree.parse(GBIF / "schema-local" / "extension.xsd"))
    schema.assertValid(etree.parse(FOLDER / f"{name}.xml"))


@needs_gbif
def test_every_file_of_gbifs_is_understood() -> None:
    files = [path for path in GBIF.rglob("*.xml") if not {"eml", "schema"} & set(path.parent.parts)]
    files = [path for path in files if "schema" not in str(path.parent) and "eml" not in path.name]
    assert len(files) >= 20
    for path in files:
        definition = load(str(path))
        assert definition.terms and definition.name and ":" in definition.row_type


def test_current_occurrence_has_the_terms_that_2014_lacks() -> None:
    old, new = load("occurrence-2014"), load("occurrence")
    for name in ("license", "organismID", "genericName"):
        assert old.find(name) is None
        assert new.find(name) is not None
    moved = new.find("type")
    assert moved is not None and moved.prefixed == "dc:type"
    stayed = old.find("type")
    assert stayed is not None and stayed.prefixed == "dcterms:type"


def test_terms_that_gbif_has_given_up_are_known() -> None:
    gone = outdated("http://rs.tdwg.org/dwc/terms/Occurrence")
    assert sorted(last_part(iri) for iri in gone) == [
        "individualID",
        "language",
        "occurrenceDetails",
        "rights",
        "source",
        "type",
    ]
    assert all(iri.startswith("http://purl.org/dc/terms/") for iri in gone if "dwc" not in iri)
    assert outdated("http://rs.gbif.org/terms/1.0/Multimedia") == outdated("urn:other") == frozenset()


def test_what_gbif_requires_is_known() -> None:
    required = {name: [term.name for term in load(name).terms if term.required] for name in shipped()}
    assert required["occurrence"] == ["basisOfRecord"]
    assert required["audiovisual"] == ["identifier"]
    assert required["resource_relationship"] == ["resourceID", "relatedResourceID"]
    assert required["taxon"] == []


# Names.


def test_terms_that_share_a_short_name_are_told_apart_by_prefix_or_iri() -> None:
    definition = load("audiovisual")
    assert sum(term.name == "type" for term in definition.terms) == 2
    for name in ("dcterms:type", "http://purl.org/dc/terms/type"):
        assert definition.find(name) == Term(
            "type", "http://purl.org/dc/terms/type", "Management Vocabulary", False
        )
    first = definition.find("type")
    assert first is not None and first.prefixed == "dc:type"
    assert definition.find("dwc:type") is None
    assert definition.find("Type") is None


def test_a_term_without_a_usual_prefix_goes_by_its_iri() -> None:
    assert Term("colour", "http://example.org/colour").prefixed == "http://example.org/colour"


def test_definitions_can_be_given_to_another_process() -> None:
    definition = load("multimedia")
    assert pickle.loads(pickle.dumps(definition)) == definition


# Files.


def test_a_file_needs_no_more_than_a_row_type_and_properties(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '<extension rowType="http://example.org/v1#Thing"><property qualName=" http://example.org/colour "/>'
        '<property name="size" namespace="http://example.org/"/>'
        f'{COLOUR}<property name="weight" qualName="urn:weight" required="1" group=" Body ">'
        "<translation/></property><!-- and so on --></extension>",
    )
    assert load(path) == Definition(
        "Thing",
        "http://example.org/v1#Thing",
        (
            Term("colour", "http://example.org/colour"),
            Term("size", "http://example.org/size"),
            Term("weight", "urn:weight", "Body", True),
        ),
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not XML"),
        ("occurrence", "is not XML"),
        ("<archive/>", "begins with <archive>, and GBIF's with <extension>"),
        (f'<extension name="Thing">{COLOUR}</extension>', "has no rowType"),
        (f"{ROOT}</extension>", "has no <property>"),
        (f'{ROOT}<property name="colour"/></extension>', "line 1: the property 'colour' has no IRI"),
        (f"{ROOT}<property/></extension>", "line 1: the property '' has no IRI"),
        (f'{ROOT}<property qualName="http://x y"/></extension>', "has no IRI: give it a qualName"),
        (f"<!DOCTYPE extension>{ROOT}{COLOUR}</extension>", "has a DOCTYPE"),
    ],
)
def test_what_is_no_definition_is_refused_with_a_reason(tmp_path: Path, text: str, why: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refusal:
        load(path)
    assert why in str(refusal.value)
    assert str(refusal.value).startswith(path)
    assert len(str(refusal.value).splitlines()) == 1


def test_a_definition_reads_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hush")
    entity = f'<!DOCTYPE e [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    with pytest.raises(SettingsError) as refusal:
        load(written(tmp_path, f"{entity}{ROOT}{COLOUR}<thesaurus>&x;</thesaurus></extension>"))
    assert "hush" not in str(refusal.value)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = Path(written(tmp_path, f"{ROOT}{COLOUR}</extension>"))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("who runs this may read anything")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(str(path))


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/etc/ckanpackager/gbif_dwca_extensions/core/dwc_occurrence.xml", "put 'occurrence' in its place"),
        ("/no/such/dwc_occurrence.xml", "('occurrence-2014' is the list that came with the retired one)"),
        ("/no/such/extensions/multimedia.xml", "put 'multimedia' in its place"),
        ("/no/such/extensions/measurements_or_facts.xml", "put 'measurement_or_fact' in its place"),
        ("/no/such/identification_history_2025-07-10.xml", "put 'identification' in its place"),
        ("/no/such/thing.xml", "or one of audiovisual, event"),
        ("thing.xml", "or one of audiovisual, event"),
    ],
)
def test_a_path_that_leads_nowhere_is_answered_with_what_to_put_instead(path: str, advice: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        load(path)
    assert str(refusal.value).startswith(f"there is no file {path}: ")
    assert advice in str(refusal.value)


@pytest.mark.parametrize(("name", "near"), [("occurence", "'occurrence'"), ("mulitmedia", "'multimedia'")])
def test_a_name_that_is_misspelt_is_answered_with_the_right_one(name: str, near: str) -> None:
    with pytest.raises(SettingsError, match=f"there is no definition '{name}'. Did you mean {near}"):
        load(name)


def test_a_folder_is_no_definition(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no file"):
        load(str(tmp_path))
