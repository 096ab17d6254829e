"""The plan of an archive: where each column of a resource goes, and how that is shown."""

import dataclasses
import itertools
import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from ckanpackager.demo.table import Resource
from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.explain import Explanation, explain
from ckanpackager.dwc.plan import Column, Dynamic, File, Plan, camel_case, plan
from ckanpackager.dwc.terms import Definition, Term, load
from ckanpackager.errors import PackageError
from ckanpackager.settings import Settings
from ckanpackager.sources.base import Field
from tests.commands import Outcome, call, isolate, write_defaults
from tests.fake_ckan import FakeCkan
from tests.services import SECRET

MEDIA = {"extension": "multimedia", "fields": {"type": "StillImage", "format": "image/jpeg", "title": ""}}
AC = {"extension": "audiovisual", "fields": {"identifier": "", "dcterms:type": "", "type": ""}}


def of(**settings: Any) -> Configuration:
    return Configuration.from_settings(Settings.from_mapping({"SECRET": SECRET, **settings}))


def planned(*columns: str, **settings: Any) -> Plan:
    return plan([Field(column) for column in columns], of(**settings))


def refusal(*columns: str, **settings: Any) -> str:
    with pytest.raises(PackageError) as refused:
        planned(*columns, **settings)
    return str(refused.value)


def filled(file: File) -> dict[str, tuple[str, ...]]:
    """The sources of each column, by its header."""
    return {column.header: column.sources for column in file.columns}


def match(column: str) -> str | None:
    """The term of an occurrence that a column of this name fills."""
    [*found] = [each for each in planned("_id", "sex", column).core.columns if column in each.sources]
    return found[0].term.name if found else None


# Names.


@pytest.mark.parametrize(
    ("column", "term"),
    [
        ("scientificName", "scientificName"),
        ("Taxon resource ID", None),
        ("Catalog Number", "catalogNumber"),
        ("decimal latitude", "decimalLatitude"),
        ("Decimal Latitude", "decimalLatitude"),
        ("Event date", "eventDate"),
        ("taxon ID", "taxonID"),
        ("Event ID", "eventID"),
        ("Footprint WKT", "footprintWKT"),
        ("Class", "class"),
        ("Country code", "countryCode"),
        ("Life  stage", "lifeStage"),
        ("Verbatim Locality ", "verbatimLocality"),
        (" decimalLatitude ", "decimalLatitude"),
        ("dwc:decimalLatitude", "decimalLatitude"),
        ("http://rs.tdwg.org/dwc/terms/decimalLatitude", "decimalLatitude"),
        ("eventId", None),
        ("CLASS", None),
        ("COUNTRY", None),
        ("verbatim_locality", None),
        ("ISO Country Code", None),
        ("Dwc:class", None),
        ("DNA sequence", None),
    ],
)
def test_a_column_fills_the_term_of_its_name_as_it_is_or_in_camel_case(column: str, term: str | None) -> None:
    assert match(column) == term


@pytest.mark.parametrize(
    ("name", "camel"),
    [
        ("x", "x"),
        ("x Position", "xPosition"),
        ("X position", "XPosition"),
        ("Taxon resource ID", "taxonResourceID"),
        ("DNA sequence", "DNASequence"),
        ("unknownField", "unknownfield"),
        ("CLASS", "CLASS"),
        ("bone  DENSITY\tvalue", "boneDENSITYValue"),
        ("État du spécimen", "étatDuSpécimen"),
        ("", ""),
        ("  ", ""),
    ],
)
def test_camel_case_keeps_words_in_capitals(name: str, camel: str) -> None:
    assert camel_case(name) == camel


def test_near_misses_are_listed_and_not_matched() -> None:
    columns = ("eventId", "CLASS", "verbatim_locality", "Scientific-Name", "colour", "Sex")
    found = planned("_id", *columns, "measurement_type", DWC_ADDITIONAL_EXTENSIONS=["measurement_or_fact"])
    assert found.near_misses == (
        ("eventId", "eventID"),
        ("CLASS", "class"),
        ("verbatim_locality", "verbatimLocality"),
        ("Scientific-Name", "scientificName"),
        ("measurement_type", "measurementType"),
    )
    assert filled(found.core) == {"sex": ("Sex",), "dynamicProperties": ()}


def test_a_near_miss_of_the_core_and_of_an_extension_is_told_as_the_cores() -> None:
    other = Definition("Other", "urn:other", (Term("EVENTID", "urn:event"),))
    configuration = Configuration("_id", load("occurrence"), (other,), None, ())
    found = plan([Field("_id"), Field("sex"), Field("event_id")], configuration)
    assert found.near_misses == (("event_id", "eventID"),)


# Files.


def test_case_10_the_core_comes_first_whatever_the_first_column_is() -> None:
    found = planned("associatedMedia", "sex", "_id", DWC_EXTENSION_FIELDS={"associatedMedia": MEDIA})
    assert found.core.stem == "occurrence"
    assert filled(found.core) == {"sex": ("sex",)}
    assert [extension.stem for extension in found.extensions] == ["multimedia"]


def test_columns_of_the_core_stand_in_the_resources_order_and_the_dynamic_term_last() -> None:
    found = planned("dynamicProperties", "sex", "colour", "_id", "Event Date", "family")
    assert list(filled(found.core)) == ["sex", "eventDate", "family", "dynamicProperties"]


@pytest.mark.parametrize(
    ("columns", "settings"),
    [
        (["_id"], {}),
        (["_id", "associatedMedia"], {"DWC_EXTENSION_FIELDS": {"associatedMedia": MEDIA}}),
        (["_id", "colour"], {"DWC_DYNAMIC_TERM": None}),
        (["_id", "measurementType"], {"DWC_ADDITIONAL_EXTENSIONS": ["measurement_or_fact"]}),
    ],
)
def test_case_12_an_archive_without_a_core_is_refused_with_the_columns(
    columns: list[str], settings: Any
) -> None:
    message = refusal(*columns, **settings)
    assert message.startswith(f"None of the columns ({', '.join(columns)}) is a term of Occurrence")


def test_the_dynamic_term_alone_is_a_core() -> None:
    assert filled(planned("_id", "colour").core) == {"dynamicProperties": ()}


def test_case_14_a_resource_without_the_id_column_is_refused_with_its_name() -> None:
    assert refusal("sex", "catalogNumber") == (
        "There is no column _id, whose values are the ids in a Darwin Core Archive (DWC_ID_FIELD). "
        "The columns are: sex, catalogNumber."
    )
    assert "(DWC_ID_FIELD). Is it Occurrence ID? " in refusal("Occurrence ID", DWC_ID_FIELD="occurrence ID")


def test_a_column_that_is_there_twice_is_refused() -> None:
    assert refusal("_id", "sex", "sex") == "The column sex is there twice: ask for it once."


# The id.


def test_an_id_that_is_a_term_is_that_term_too() -> None:
    for name in ("occurrenceID", "Occurrence ID"):
        found = planned(name, "sex", DWC_ID_FIELD=name)
        assert found.id_term == load("occurrence").find("occurrenceID")
        assert filled(found.core) == {"sex": ("sex",)}
        assert found.dynamic is None
    assert planned("_id", "occurrenceID").id_term is None


def test_an_id_that_is_a_term_is_enough_of_a_core() -> None:
    found = planned("occurrenceID", DWC_ID_FIELD="occurrenceID")
    assert (found.core.columns, found.dynamic) == ((), None)


def test_the_id_is_never_a_dynamic_property() -> None:
    found = planned("_id", "sex", "colour")
    assert found.dynamic is not None and found.dynamic.keys == (("colour", "colour"),)
    other = planned("_id", "sex", "colour", DWC_ID_FIELD="colour")
    assert other.dynamic is not None and other.dynamic.keys == (("_id", "_id"),)


def test_an_id_yields_its_term_to_the_column_that_has_exactly_its_name() -> None:
    found = planned("Occurrence ID", "occurrenceID", DWC_ID_FIELD="Occurrence ID")
    assert found.id_term is None
    assert filled(found.core) == {"occurrenceID": ("occurrenceID",)}
    kept = planned("occurrenceID", "Occurrence ID", DWC_ID_FIELD="occurrenceID")
    assert kept.id_term is not None
    assert kept.dynamic is not None and kept.dynamic.keys == (("Occurrence ID", "occurrenceID"),)


def test_an_id_does_not_yield_its_term_to_a_list() -> None:
    found = planned(
        "Associated Media", "sex", "associatedMedia",
        DWC_ID_FIELD="Associated Media",
        DWC_EXTENSION_FIELDS={"associatedMedia": MEDIA},
    )  # fmt: skip
    assert found.id_term == load("occurrence").find("associatedMedia")


def test_an_id_is_not_the_dynamic_term() -> None:
    found = planned("dynamicProperties", "colour", DWC_ID_FIELD="dynamicProperties")
    assert found.id_term is None
    assert [column.term.name for column in found.core.columns] == ["dynamicProperties"]
    assert found.core.columns[0].header == "dwc:dynamicProperties"


def test_no_header_is_that_of_the_id() -> None:
    found = planned("title", "sex", "media", DWC_ID_FIELD="title", DWC_EXTENSION_FIELDS={"media": MEDIA})
    assert list(filled(found.extensions[0])) == ["type", "format", "dcterms:title"]


# Extensions.


def test_a_term_of_the_core_and_of_an_extension_goes_to_the_core() -> None:
    found = planned("_id", "license", "title", DWC_ADDITIONAL_EXTENSIONS=["multimedia"])
    assert filled(found.core) == {"license": ("license",)}
    assert filled(found.extensions[0]) == {"title": ("title",)}


def test_the_first_additional_extension_that_has_the_term_takes_it() -> None:
    for names in (["multimedia", "audiovisual"], ["audiovisual", "multimedia"]):
        found = planned("_id", "sex", "title", DWC_ADDITIONAL_EXTENSIONS=names)
        assert [extension.definition for extension in found.extensions] == [load(names[0])]


def test_a_list_wins_over_the_core_term_of_its_name() -> None:
    found = planned("_id", "sex", "associatedMedia", DWC_EXTENSION_FIELDS={"associatedMedia": MEDIA})
    assert filled(found.core) == {"sex": ("sex",)}
    assert [each.column for each in found.extensions[0].lists] == ["associatedMedia"]
    assert filled(planned("_id", "associatedMedia").core) == {"associatedMedia": ("associatedMedia",)}


def test_a_list_goes_by_its_name_alone() -> None:
    settings = {"DWC_EXTENSION_FIELDS": {"associatedMedia": MEDIA}}
    found = planned("_id", "Associated Media", **settings)
    assert filled(found.core) == {"associatedMedia": ("Associated Media",)}
    assert found.extensions == ()
    assert (
        planned("_id", "sex", " associatedMedia", **settings).extensions[0].lists[0].column
        == " associatedMedia"
    )


def test_blanks_around_a_lists_name_are_nothing() -> None:
    found = planned("_id", "sex", "images ", " images", DWC_EXTENSION_FIELDS={" images ": MEDIA})
    assert [each.column for each in found.extensions[0].lists] == ["images ", " images"]


def test_terms_of_an_extension_stand_in_the_settings_order() -> None:
    one = {"extension": "multimedia", "fields": {"title": "", "type": "", "identifier": ""}}
    two = {"extension": "multimedia", "fields": {"creator": "", "type": "Sound"}}
    found = planned(
        "_id", "sound", "references", "description", "images", "sex",
        DWC_ADDITIONAL_EXTENSIONS=["multimedia"],
        DWC_EXTENSION_FIELDS={"images": one, "sound": two},
    )  # fmt: skip
    assert filled(found.core) == {"references": ("references",), "sex": ("sex",)}
    assert filled(found.extensions[0]) == {
        "title": (),
        "type": (),
        "identifier": (),
        "creator": (),
        "description": ("description",),
    }


def test_two_lists_of_one_extension_share_its_file() -> None:
    found = planned("_id", "sex", "sound", "images", DWC_EXTENSION_FIELDS={"images": MEDIA, "sound": MEDIA})
    [extension] = found.extensions
    assert [each.column for each in extension.lists] == ["images", "sound"]


def test_a_column_and_a_list_may_fill_one_term() -> None:
    found = planned(
        "_id", "sex", "images", "title",
        DWC_ADDITIONAL_EXTENSIONS=["multimedia"],
        DWC_EXTENSION_FIELDS={"images": MEDIA},
    )  # fmt: skip
    assert filled(found.extensions[0]) == {"type": (), "format": (), "title": ("title",)}


def test_extensions_of_one_name_have_files_of_their_own() -> None:
    found = planned("_id", "sex", "images", "media", DWC_EXTENSION_FIELDS={"images": MEDIA, "media": AC})
    assert [(file.stem, file.definition.row_type) for file in found.extensions] == [
        ("multimedia", "http://rs.gbif.org/terms/1.0/Multimedia"),
        ("multimedia_2", "http://rs.tdwg.org/ac/terms/Multimedia"),
    ]


def test_a_file_has_the_same_name_whichever_columns_a_resource_has() -> None:
    found = planned("_id", "sex", "media", DWC_EXTENSION_FIELDS={"images": MEDIA, "media": AC})
    assert [file.stem for file in found.extensions] == ["multimedia_2"]


def test_terms_that_share_a_short_name_have_headers_of_their_own() -> None:
    found = planned("_id", "sex", "media", DWC_EXTENSION_FIELDS={"media": AC})
    assert [(column.header, column.term.prefixed) for column in found.extensions[0].columns] == [
        ("identifier", "dcterms:identifier"),
        ("type", "dcterms:type"),
        ("dc:type", "dc:type"),
    ]


def test_a_column_may_name_the_second_of_two_terms_of_one_short_name() -> None:
    found = planned("_id", "sex", "rights", "dcterms:rights", DWC_ADDITIONAL_EXTENSIONS=["audiovisual"])
    assert filled(found.extensions[0]) == {"rights": ("rights",), "dcterms:rights": ("dcterms:rights",)}
    assert [column.term.prefixed for column in found.extensions[0].columns] == ["dc:rights", "dcterms:rights"]


def test_extensions_without_columns_are_not_there() -> None:
    assert planned("_id", "sex", DWC_ADDITIONAL_EXTENSIONS=["identification", "multimedia"]).extensions == ()


def test_lists_of_2014_give_the_retired_services_file_names() -> None:
    found = planned(
        "_id", "sex", "measurementType", "images",
        DWC_CORE_EXTENSION="occurrence-2014",
        DWC_ADDITIONAL_EXTENSIONS=["measurement_or_fact-2014"],
        DWC_EXTENSION_FIELDS={"images": MEDIA | {"extension": "multimedia-2014"}},
    )  # fmt: skip
    assert [file.stem for file in (found.core, *found.extensions)] == [
        "occurrence",
        "measurement_or_fact",
        "multimedia",
    ]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("MeasurementOrFacts", "measurement_or_facts"),
        ("DNADerivedData", "dna_derived_data"),
        ("../Über Ding", "ber_ding"),
        ("象", "extension"),
    ],
)
def test_a_files_name_is_made_of_small_letters_whatever_the_definition_is_called(
    name: str, stem: str
) -> None:
    other = Definition(name, "urn:other", (Term("colour", "urn:colour"),))
    configuration = Configuration("_id", load("occurrence"), (other,), None, ())
    found = plan([Field("_id"), Field("sex"), Field("colour")], configuration)
    assert found.extensions[0].stem == stem


# Two columns for one term.


@pytest.mark.parametrize(
    "columns", list(itertools.permutations(("scientificName", "Scientific Name", "scientificName ")))
)
def test_of_columns_for_one_term_the_exact_name_comes_first(columns: tuple[str, ...]) -> None:
    found = planned("_id", *columns)
    sources = filled(found.core)["scientificName"]
    assert sources == ("scientificName", "scientificName ", "Scientific Name")
    assert found.dynamic is not None and found.dynamic.keys == ()
    assert [column for column, _ in found.dynamic.losers] == list(sources[1:])


def test_of_columns_that_are_equally_far_the_resources_first_comes_first() -> None:
    found = planned("_id", "SCIENTIFIC name", "scientific Name", "Scientific Name")
    assert filled(found.core)["scientificName"] == ("scientific Name", "Scientific Name")
    assert found.dynamic is not None
    assert found.dynamic.losers == (("Scientific Name", "scientificName"),)
    assert found.dynamic.keys == (("SCIENTIFIC name", "SCIENTIFICName"),)


# The dynamic term.


def test_what_has_no_place_goes_to_the_dynamic_term_in_camel_case() -> None:
    found = planned("_id", "sex", "Bone density", "unknownField", "DNA sequence")
    assert found.dynamic is not None
    assert found.dynamic.keys == (
        ("Bone density", "boneDensity"),
        ("unknownField", "unknownfield"),
        ("DNA sequence", "DNASequence"),
    )
    assert found.core.columns[-1] == Column(found.dynamic.term, "dynamicProperties", ())


def test_keys_may_be_the_columns_own_names() -> None:
    found = planned("_id", "sex", "Bone density", "unknownField", "Sex ", DWC_DYNAMIC_KEYS="verbatim")
    assert found.dynamic is not None
    assert found.dynamic.keys == (("Bone density", "Bone density"), ("unknownField", "unknownField"))
    assert found.dynamic.losers == (("Sex ", "Sex "),)


def test_of_keys_that_are_the_same_the_first_is_kept_and_the_others_are_the_columns_names() -> None:
    found = planned("_id", "sex", "Foo bar", "foo bar", "Foo Bar")
    assert found.dynamic is not None
    assert found.dynamic.keys == (("Foo bar", "fooBar"), ("foo bar", "foo bar"), ("Foo Bar", "Foo Bar"))


def test_keys_differ_even_where_a_name_is_the_key_of_another() -> None:
    found = planned("_id", "sex", "A Bc", "Abc", "ABc", " ")
    assert found.dynamic is not None
    assert found.dynamic.keys == (("A Bc", "ABc"), ("Abc", "abc"), ("ABc", "ABc 2"), (" ", " "))


def test_a_column_named_as_the_dynamic_term_is_not_nested_in_it() -> None:
    found = planned("_id", "sex", "Dynamic properties", "dynamicProperties", "colour")
    assert found.dynamic == Dynamic(
        term=found.core.columns[-1].term,
        keys=(("Dynamic properties", "Dynamic properties"), ("colour", "colour")),
        own="dynamicProperties",
    )
    assert filled(found.core) == {"sex": ("sex",), "dynamicProperties": ("dynamicProperties",)}


def test_a_column_named_as_the_dynamic_term_is_a_plain_one_where_nothing_is_to_be_added() -> None:
    found = planned("_id", "Dynamic properties", "sex")
    assert found.dynamic is None
    assert filled(found.core) == {"sex": ("sex",), "dynamicProperties": ("Dynamic properties",)}


def test_what_a_column_says_besides_another_is_added_to_the_one_named_as_the_dynamic_term() -> None:
    found = planned("_id", "dynamicProperties", "sex", "Sex")
    assert found.dynamic is not None
    assert (found.dynamic.own, found.dynamic.losers) == ("dynamicProperties", (("Sex", "sex"),))
    assert list(filled(found.core)) == ["sex", "dynamicProperties"]


def test_without_anything_for_it_there_is_no_dynamic_term() -> None:
    assert planned("_id", "sex", "Catalog Number").dynamic is None


def test_without_a_dynamic_term_the_rest_is_left_out() -> None:
    found = planned("_id", "sex", "colour", "Sex", "event_id", "dynamicProperties", DWC_DYNAMIC_TERM=None)
    assert (found.dynamic, found.dropped) == (None, ("colour", "event_id"))
    assert found.near_misses == (("event_id", "eventID"),)
    assert filled(found.core) == {"sex": ("sex", "Sex"), "dynamicProperties": ("dynamicProperties",)}


# Whatever the columns and the settings are.

EXTENSION_FIELDS = {
    "associatedMedia": MEDIA,
    "images": {"extension": "multimedia", "fields": {"title": "", "identifier": ""}},
    "media": AC,
    "names": {"extension": "vernacular_name", "fields": {"vernacularName": ""}},
}
NAMES = [
    "_id", "occurrenceID", "scientificName", "eventDate", "type", "dcterms:type", "title", "class", "license",
    "measurementType", "dynamicProperties", "taxonRemarks", "colour", "fooBar", "dc:rights", "rights",
    *EXTENSION_FIELDS,
]  # fmt: skip


def spaced(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).replace(
        "i d", "ID"
    )


SPELLINGS: list[Callable[[str], str]] = [
    str, str.upper, str.lower, spaced, lambda name: spaced(name).title(), lambda name: f" {name}",
    lambda name: spaced(name).replace(" ", "_"), lambda name: f"{spaced(name)} ",
]  # fmt: skip
spelt = st.builds(lambda name, spell: spell(name), st.sampled_from(NAMES), st.sampled_from(SPELLINGS))
column_names = spelt | st.text(alphabet=st.sampled_from("aAbB _:é"), min_size=1, max_size=4)
columns_of_a_resource = st.lists(column_names, min_size=2, max_size=16, unique=True)


@st.composite
def configurations(draw: st.DrawFn, columns: list[str]) -> Configuration:
    core = draw(st.sampled_from(["occurrence", "taxon", "event", "occurrence-2014"]))
    dynamic_terms = [None, "taxonRemarks"] if core == "taxon" else [None, "dynamicProperties", "eventRemarks"]
    id_field = draw(st.sampled_from(columns))
    chosen = draw(st.lists(st.sampled_from(sorted(EXTENSION_FIELDS)), unique=True))
    additional = st.sampled_from(["multimedia", "audiovisual", "measurement_or_fact", "identification"])
    return of(
        DWC_ID_FIELD=id_field if id_field.strip() else "_id",
        DWC_CORE_EXTENSION=core,
        DWC_DYNAMIC_TERM=draw(st.sampled_from(dynamic_terms)),
        DWC_DYNAMIC_KEYS=draw(st.sampled_from(["camel", "verbatim"])),
        DWC_ADDITIONAL_EXTENSIONS=draw(st.lists(additional, unique=True)),
        DWC_EXTENSION_FIELDS={
            name: EXTENSION_FIELDS[name] for name in chosen if name.strip() != id_field.strip()
        },
    )


def places(found: Plan) -> Iterator[str]:
    """Each column of the resource, once for each place that it has."""
    yield found.id_field
    yield from found.dropped
    for file in (found.core, *found.extensions):
        for column in file.columns:
            yield from column.sources
        for each in file.lists:
            yield each.column
    if found.dynamic is not None:
        yield from (column for column, _ in found.dynamic.keys)


def has_a_term(column: str, definition: Definition) -> bool:
    """The manual's rule, once more."""
    short, full = {term.name for term in definition.terms}, {term.iri for term in definition.terms}
    full |= {term.prefixed for term in definition.terms}
    return column.strip() in short | full or camel_case(column) in short


@hypothesis.settings(max_examples=400)
@given(st.data(), columns_of_a_resource)
def test_every_plan_has_one_place_for_every_column_and_nothing_twice(
    data: st.DataObject, columns: list[str]
) -> None:
    configuration = data.draw(configurations(columns))
    fields = [Field(column) for column in columns]
    lists = {field.column.strip() for field in configuration.extension_fields}
    others = [
        column for column in columns if column != configuration.id_field and column.strip() not in lists
    ]
    try:
        found = plan(fields, configuration)
    except PackageError:
        event("refused")
        if configuration.id_field in columns:
            # The id cannot be the dynamic term, which holds what others say.
            terms = tuple(term for term in configuration.core.terms if term != configuration.dynamic_term)
            assert not has_a_term(
                configuration.id_field, dataclasses.replace(configuration.core, terms=terms)
            )
            assert not any(has_a_term(column, configuration.core) for column in others)
            definitions = configuration.additional
            assert configuration.dynamic_term is None or all(
                any(has_a_term(column, definition) for definition in definitions) for column in others
            )
        return
    event("planned")
    assert found == plan(fields, configuration) == pickle.loads(pickle.dumps(found))
    assert Counter(places(found)) == Counter(columns)
    assert found.id_term is not None or found.core.columns
    files = [found.core, *found.extensions]
    for file in files:
        iris = [column.term.iri for column in file.columns]
        if file is found.core and found.id_term is not None:
            iris.append(found.id_term.iri)
        assert len(set(iris)) == len(iris)
        headers = [found.id_field, *(column.header for column in file.columns)]
        assert len(set(headers)) == len(headers)
        assert all(column.term in file.definition.terms for column in file.columns)
        filled_by_lists = {key.term for each in file.lists for key in each.keys}
        assert filled_by_lists <= {column.term for column in file.columns}
        assert all(column.sources or column.term in filled_by_lists for column in file.columns[:-1])
        assert file is found.core or file.columns
    assert found.core.lists == ()
    assert (
        len({file.stem for file in files}) == len({file.definition.row_type for file in files}) == len(files)
    )
    check_dynamic(found, configuration)
    in_the_core = {name for column in found.core.columns for name in column.sources}
    for column in others:
        if has_a_term(column, configuration.core) and found.id_term is None:
            own = found.dynamic is not None and found.dynamic.own is not None
            assert column in in_the_core or (own and camel_case(column) != column)
    check_explanation(columns, found, configuration)


def check_dynamic(found: Plan, configuration: Configuration) -> None:
    losers = [
        name
        for file in (found.core, *found.extensions)
        for column in file.columns
        for name in column.sources[1:]
    ]
    dynamic = found.dynamic
    if dynamic is None:
        assert configuration.dynamic_term is None or not losers
        return
    assert dynamic.term == configuration.dynamic_term == found.core.columns[-1].term
    assert found.core.columns[-1].sources == (() if dynamic.own is None else (dynamic.own,))
    assert [column for column, _ in dynamic.losers] == losers
    keys = [key for _, key in (*dynamic.keys, *dynamic.losers)]
    if dynamic.own is not None:
        keys.append(dynamic.term.name)
    assert len(set(keys)) == len(keys)
    assert all(keys)
    assert found.dropped == ()


def check_explanation(columns: list[str], found: Plan, configuration: Configuration) -> None:
    explanation = explain(columns, found, configuration)
    assert [placement.column for placement in explanation.columns] == columns
    assert json.loads(json.dumps(explanation.to_dict())) == explanation.to_dict()
    assert all(note.endswith(".") for note in explanation.notes)


# The plan in words.


def explained(*columns: str, **settings: Any) -> Explanation:
    configuration = of(**settings)
    return explain(columns, plan([Field(column) for column in columns], configuration), configuration)


def test_near_misses_lost_names_and_missing_lists_are_told() -> None:
    found = explained("_id", "eventId", "Photos", DWC_EXTENSION_FIELDS={"photos": MEDIA, "images": MEDIA})
    assert (
        "eventId is almost eventID, which is another name: rename the column if it means that." in found.notes
    )
    assert "DWC_EXTENSION_FIELDS has photos, which is no column here; Photos is not that name." in found.notes
    assert "DWC_EXTENSION_FIELDS has images, which is no column here." in found.notes


def test_a_list_whose_name_differs_in_blanks_alone_is_not_told_as_missing() -> None:
    found = explained("_id", "sex", "photos ", DWC_EXTENSION_FIELDS={" photos": MEDIA})
    assert found.columns[2].place == "list"
    assert not any("DWC_EXTENSION_FIELDS" in note for note in found.notes)


def test_what_gbif_needs_and_does_not_get_is_told() -> None:
    media = {"extension": "multimedia", "fields": {"title": ""}}
    found = explained("_id", "scientificName", "photos", DWC_EXTENSION_FIELDS={"photos": media})
    assert found.notes == (
        "occurrence lacks basisOfRecord, which Occurrence requires.",
        "occurrence lacks occurrenceID and eventDate, without which GBIF may not take or show its rows.",
        "multimedia lacks identifier and format, without which GBIF may not take or show its rows.",
    )
    complete = explained(
        "occurrenceID", "scientificName", "basisOfRecord", "eventDate", DWC_ID_FIELD="occurrenceID"
    )
    assert complete.notes == ()


def test_a_licence_that_is_given_by_default_is_told() -> None:
    def notes(licence: str | None) -> tuple[str, ...]:
        media = {"extension": "multimedia", "fields": {"identifier": "", "format": "", "license": licence}}
        columns = ("_id", "occurrenceID", "scientificName", "basisOfRecord", "eventDate", "photos")
        return explained(*columns, DWC_EXTENSION_FIELDS={"photos": media}).notes

    assert notes("") == notes(None) == ()
    assert notes("http://creativecommons.org/licenses/by/4.0/") == (
        "Where an object in photos states no license, multimedia says "
        "http://creativecommons.org/licenses/by/4.0/: make sure that its owner agrees, or make the default ''.",
    )


def test_terms_that_gbif_has_given_up_are_told() -> None:
    note = "occurrence has dcterms:type and dwc:individualID, given up by GBIF since 2014: name a newer definition."
    columns = ("_id", "type", "individualID", "sex")
    assert note in explained(*columns, DWC_CORE_EXTENSION="occurrence-2014").notes
    assert not any("given up" in each for each in explained(*columns).notes)


def test_two_terms_of_one_short_name_in_a_file_are_told() -> None:
    found = explained("_id", "sex", "media", DWC_EXTENSION_FIELDS={"media": AC})
    assert (
        "multimedia has both dcterms:type and dc:type: some readers take neither then, so fill only one."
        in found.notes
    )


# The command.


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Runs ``dwc-plan`` in this process."""
    isolate(monkeypatch, tmp_path)
    return lambda *words: call(capsys, "dwc-plan", *words)


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: Any) -> Path:
    path = folder / "settings.py"
    path.write_text(
        "".join(f"{name} = {value!r}\n" for name, value in {"SECRET": SECRET, **settings}.items())
    )
    monkeypatch.setenv("CKANPACKAGER_CONFIG", str(path))
    return path


def test_the_plan_for_named_columns_is_shown_as_plain_columns(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = MEDIA | {"mappings": {"format": "mime"}, "formatters": {"format": "image_type"}}
    use(monkeypatch, tmp_path, DWC_EXTENSION_FIELDS={"photos": media})
    outcome = run("Catalog Number", "photos", "event_id", "Sex", "sex", "Bone density")
    assert (outcome.status, outcome.err) == (0, "")
    assert (
        outcome.out
        == """\
COLUMN          FILE        AS                                REMARK
_id             every file  the id
Catalog Number  occurrence  catalogNumber
photos          multimedia  a row for each object
event_id        occurrence  event_id in dynamicProperties     almost eventID
Sex             occurrence  sex                               where sex is blank, else sex in the dynamic term
sex             occurrence  sex
Bone density    occurrence  boneDensity in dynamicProperties

LIST    FILE        TERM    FROM THE KEY  DEFAULT     FORMATTER
photos  multimedia  type    type          StillImage
photos  multimedia  format  mime          image/jpeg  image_type
photos  multimedia  title   title

event_id is almost eventID, which is another name: rename the column if it means that.
occurrence lacks basisOfRecord, which Occurrence requires.
occurrence lacks occurrenceID, scientificName and eventDate, without which GBIF may not take or show its rows.
multimedia lacks identifier, without which GBIF may not take or show its rows.
"""
    )


def test_what_is_left_out_and_an_id_with_a_term_are_shown(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, tmp_path, DWC_ID_FIELD="occurrenceID", DWC_DYNAMIC_TERM=None)
    lines = run("occurrenceID", "colour", "sex", "Sex").out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == ["occurrenceID", "colour", "sex", "Sex"]
    assert lines[1].endswith("the id, and http://rs.tdwg.org/dwc/terms/occurrenceID")
    assert lines[2].endswith("left out")
    assert lines[4].endswith("where sex is blank, else left out")


def test_the_plan_for_a_resource_is_made_without_reading_a_row(run: Callable[..., Outcome]) -> None:
    rows: list[list[Any]] = [["Rosa canina", "red"]]
    resource = Resource("roses", [("Scientific Name", "text"), ("colour", "text")], rows)
    with FakeCkan([resource]) as ckan:
        outcome = run("-r", "roses", "--api-url", ckan.api_url, "--json")
        assert [search["limit"] for search in ckan.searches] == [0]
    answer = json.loads(outcome.out)
    assert (outcome.status, answer["success"], answer["status"]) == (0, True, "success")
    assert [(row["column"], row["place"], row["header"]) for row in answer["columns"]] == [
        ("_id", "id", "_id"),
        ("Scientific Name", "term", "scientificName"),
        ("colour", "dynamic", "dynamicProperties"),
    ]
    assert answer["columns"][1]["term"] == "http://rs.tdwg.org/dwc/terms/scientificName"
    assert answer["columns"][2]["key"] == "colour"


def test_address_and_key_of_a_resource_may_be_in_the_defaults_file(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    with FakeCkan() as ckan:
        values = {"api_url": ckan.api_url, "key": "opens it", "limit": 3, "fields": "nothing"}
        path = write_defaults(tmp_path / "defaults.json", **values)
        outcome = run("-r", next(iter(ckan.resources)), "-d", path)
        assert outcome.status == 0
        assert [request.headers.get("Authorization") for request in ckan.requests] == ["opens it"]


def test_a_wrong_configuration_is_said_before_ckan_is_asked(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = use(monkeypatch, tmp_path, DWC_CORE_EXTENSION="taxon")
    with FakeCkan() as ckan:
        outcome = run("-r", "roses", "--api-url", ckan.api_url)
        assert ckan.requests == []
    assert outcome.one_complaint().startswith(f"ckanpackager: {path}: DWC_DYNAMIC_TERM: 'dynamicProperties'")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["sex", "sex"], "The column sex is there twice: ask for it once."),
        (["-r", "roses"], "Where is the CKAN? Name its datastore_search with --api-url"),
        (["-r", "ro/ses", "--api-url", "http://127.0.0.1/"], "resource_id must be the id"),
        (["-r", "roses", "--api-url", "roses"], "api_url must be a full URL"),
        (["_id"], "None of the columns (_id) is a term of Occurrence"),
    ],
)
def test_what_cannot_be_planned_is_one_complaint(
    run: Callable[..., Outcome], words: list[str], complaint: str
) -> None:
    assert complaint in run(*words).one_complaint()


def test_a_resource_that_is_not_there_is_said_in_ckans_words(run: Callable[..., Outcome]) -> None:
    with FakeCkan() as ckan:
        complaint = run("-r", "roses", "--api-url", ckan.api_url).one_complaint()
    assert "CKAN refused: " in complaint


@pytest.mark.parametrize("words", [[], ["sex", "-r", "roses"], ["--api-url", "http://127.0.0.1/"]])
def test_columns_or_a_resource_must_be_named(run: Callable[..., Outcome], words: list[str]) -> None:
    outcome = run(*words)
    assert (outcome.status, outcome.out) == (1, "")
    assert "dwc-plan (COLUMN ... | -r RESOURCE_ID [--api-url URL])" in outcome.err
