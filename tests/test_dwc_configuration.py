"""The settings about Darwin Core Archives: what they mean, and what stops the start."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.formatters import FORMATTERS
from ckanpackager.dwc.terms import FOLDER, load
from ckanpackager.errors import SettingsError
from ckanpackager.settings import Settings
from tests.archives import MEDIA
from tests.services import SECRET, TIMEOUT


def of(**settings: Any) -> Configuration:
    return Configuration.from_settings(Settings.from_mapping({"SECRET": SECRET, **settings}))


def problems(**settings: Any) -> list[str]:
    with pytest.raises(SettingsError) as refusal:
        of(**settings)
    return str(refusal.value).splitlines()


def media(**parts: Any) -> dict[str, Any]:
    return {"associatedMedia": {"extension": "multimedia", "fields": {}, **parts}}


def keys(**parts: Any) -> dict[str, tuple[str, object, str | None]]:
    """The short names of a list's terms, in their order, with key, default and formatter."""
    [field] = of(DWC_EXTENSION_FIELDS=media(**parts)).extension_fields
    return {key.term.name: (key.key, key.default, key.formatter) for key in field.keys}


# What settings mean.


def test_defaults_are_an_occurrence_core_with_dynamic_properties_and_nothing_else() -> None:
    configuration = of()
    assert configuration.core == load("occurrence")
    assert configuration.dynamic_term == load("occurrence").find("dynamicProperties")
    assert configuration == Configuration("_id", configuration.core, (), configuration.dynamic_term, ())


def test_case_1_the_example_of_the_manual_works_without_mappings_and_formatters() -> None:
    [field] = of(DWC_EXTENSION_FIELDS=MEDIA).extension_fields
    assert (field.column, field.definition) == ("associatedMedia", load("multimedia"))
    assert {key.key: key.default for key in field.keys} == MEDIA["associatedMedia"]["fields"]
    assert [key.term.name for key in field.keys] == list(MEDIA["associatedMedia"]["fields"])
    assert {key.formatter for key in field.keys} == {None}


def test_a_path_is_as_good_as_a_name(tmp_path: Path) -> None:
    path = tmp_path / "dwc_occurrence.xml"
    path.write_bytes((FOLDER / "occurrence.xml").read_bytes())
    assert of(DWC_CORE_EXTENSION=str(path)) == of()


def test_mappings_lead_from_a_term_to_the_key_in_the_objects() -> None:
    found = keys(fields={"format": "image/jpeg", "title": ""}, mappings={"format": "mime"})
    assert found == {"format": ("mime", "image/jpeg", None), "title": ("title", "", None)}


def test_a_mapped_term_without_a_default_is_blank_where_it_is_missing() -> None:
    found = keys(fields={"title": "-"}, mappings={"creator": "author"})
    assert found == {"title": ("title", "-", None), "creator": ("author", "", None)}


def test_formatters_are_named() -> None:
    assert keys(fields={"format": ""}, formatters={"format": "image_type"}) == {
        "format": ("format", "", "image_type")
    }


def test_case_20_terms_that_share_a_short_name_can_all_be_filled() -> None:
    fields = {"dcterms:type": "", "type": "StillImage", "http://purl.org/dc/terms/format": ""}
    [field] = of(
        DWC_EXTENSION_FIELDS={"media": {"extension": "audiovisual", "fields": fields}}
    ).extension_fields
    assert [(key.term.prefixed, key.key) for key in field.keys] == [
        ("dcterms:type", "dcterms:type"),
        ("dc:type", "type"),
        ("dcterms:format", "http://purl.org/dc/terms/format"),
    ]


def test_a_dynamic_term_may_go_by_its_prefix_and_may_be_none() -> None:
    assert of(DWC_DYNAMIC_TERM="dwc:dynamicProperties") == of()
    assert of(DWC_DYNAMIC_TERM=None).dynamic_term is None
    taxon = of(DWC_CORE_EXTENSION="taxon", DWC_DYNAMIC_TERM="taxonRemarks").dynamic_term
    assert taxon is not None and taxon.name == "taxonRemarks"


def test_one_definition_may_serve_columns_and_lists() -> None:
    configuration = of(
        DWC_ADDITIONAL_EXTENSIONS=["multimedia"], DWC_EXTENSION_FIELDS=media(fields={"type": ""})
    )
    assert configuration.additional == (configuration.extension_fields[0].definition,)


def test_one_definition_by_two_names_is_one() -> None:
    names = ["multimedia", str(FOLDER / "multimedia.xml")]
    assert of(DWC_ADDITIONAL_EXTENSIONS=names).additional == (load("multimedia"),)


def test_a_configuration_can_be_given_to_another_process() -> None:
    configuration = of(DWC_EXTENSION_FIELDS=MEDIA, DWC_DYNAMIC_KEYS="verbatim")
    assert configuration.dynamic_keys == "verbatim"
    assert pickle.loads(pickle.dumps(configuration)) == configuration


# What stops the start.


def test_case_7_a_core_without_the_dynamic_term_is_refused() -> None:
    [problem] = problems(DWC_CORE_EXTENSION="taxon")
    assert problem == (
        "settings: DWC_DYNAMIC_TERM: 'dynamicProperties' is no term of Taxon: name one that it has, or None, "
        "so that what has no place is left out."
    )
    assert of(DWC_CORE_EXTENSION="taxon", DWC_DYNAMIC_TERM=None).core == load("taxon")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"DWC_CORE_EXTENSION": "occurence"}, "DWC_CORE_EXTENSION: there is no definition 'occurence'. Did you"),
        (
            {"DWC_CORE_EXTENSION": "/etc/ckanpackager/gbif_dwca_extensions/core/dwc_occurrence.xml"},
            "DWC_CORE_EXTENSION: there is no file /etc/ckanpackager/gbif_dwca_extensions/core/dwc_occurrence.xml: "
            "put 'occurrence' in its place, which comes with the service",
        ),
        (
            {"DWC_EXTENSION_FIELDS": media(extension="/etc/ckanpackager/extensions/multimedia.xml")},
            "DWC_EXTENSION_FIELDS['associatedMedia']: there is no file /etc/ckanpackager/extensions/multimedia.xml: "
            "put 'multimedia' in its place",
        ),
        ({"DWC_ADDITIONAL_EXTENSIONS": ["images"]}, "DWC_ADDITIONAL_EXTENSIONS: there is no definition 'images'."),
        ({"DWC_DYNAMIC_TERM": "dynamicProperty"}, "DWC_DYNAMIC_TERM: 'dynamicProperty' is no term of Occurrence "
         "(is it 'dynamicProperties'?)"),
        ({"DWC_ADDITIONAL_EXTENSIONS": ["occurrence-2014"]}, "'occurrence-2014' has the rowType of the core"),
        ({"DWC_ADDITIONAL_EXTENSIONS": ["occurrence"]}, "'occurrence' has the rowType of the core"),
        ({"DWC_EXTENSION_FIELDS": media(extension="occurrence", fields={"sex": ""})}, "has the rowType of the core"),
        (
            {"DWC_ADDITIONAL_EXTENSIONS": ["multimedia-2014"], "DWC_EXTENSION_FIELDS": media(fields={"type": ""})},
            "DWC_EXTENSION_FIELDS['associatedMedia']: 'multimedia' has the rowType of 'multimedia-2014': "
            "name the same definition in both places.",
        ),
        (
            {"DWC_EXTENSION_FIELDS": media(fields={"type": ""}, mappings={"mime": "format"})},
            "'mappings' has 'mime', which is no term of Multimedia.",
        ),
        (
            {"DWC_EXTENSION_FIELDS": media(fields={"type": ""}, mappings={"type": ["kind"]})},
            "'mappings' must lead from 'type' to a name, not to ['kind'].",
        ),
        (
            {"DWC_EXTENSION_FIELDS": media(fields={"type": ""}, mappings={"type": ""})},
            "'mappings' must lead from 'type' to a name, not to ''.",
        ),
        (
            {"DWC_EXTENSION_FIELDS": media(fields={"type": ""}, formatters={"type": "upper"})},
            "there is no formatter 'upper'; there are audio_type, image_type, video_type.",
        ),
        (
            {"DWC_EXTENSION_FIELDS": media(fields={"type": ""}, formatters={"format": "image_type"})},
            "'formatters' has 'format', which 'fields' lacks: add it there.",
        ),
        (
            {"DWC_EXTENSION_FIELDS": media(fields={"type": "", "dcterms:type": ""})},
            "'fields' has 'type' and 'dcterms:type', which are one term: keep one.",
        ),
        ({"DWC_EXTENSION_FIELDS": media()}, "'fields' is empty: name the terms that the objects fill."),
        ({"DWC_EXTENSION_FIELDS": {"_id": MEDIA["associatedMedia"]}}, "DWC_EXTENSION_FIELDS: '_id' is DWC_ID_FIELD, and no list."),
    ],
)  # fmt: skip
def test_what_no_archive_can_be_made_by_is_refused_with_a_sentence(settings: Any, problem: str) -> None:
    [found] = problems(**settings)
    assert problem in found
    assert found.startswith("settings: DWC_")
    assert found.endswith(".")


def test_case_39_a_name_in_fields_that_is_no_term_stops_the_start() -> None:
    assert problems(DWC_EXTENSION_FIELDS=media(fields={"type": "", "licence": ""})) == [
        "settings: DWC_EXTENSION_FIELDS['associatedMedia']: 'fields' has 'licence', which is no term of "
        "Multimedia (is it 'license'?)."
    ]


def test_all_problems_are_said_at_once() -> None:
    found = problems(
        DWC_CORE_EXTENSION="/nowhere/core.xml",
        DWC_ADDITIONAL_EXTENSIONS=["nothing", "multimedia"],
        DWC_EXTENSION_FIELDS=media(fields={"typ": "", "formats": ""}),
    )
    assert len(found) == 4


def test_functions_as_formatters_are_refused_with_what_takes_their_place() -> None:
    [problem] = problems(DWC_EXTENSION_FIELDS=media(fields={"format": ""}, formatters={"format": str.upper}))
    assert problem == (
        "settings: DWC_EXTENSION_FIELDS ['associatedMedia'] must have names as 'formatters', such as "
        "'image_type', not functions."
    )


def test_a_wrong_configuration_stops_the_service_with_the_sentence(tmp_path: Path) -> None:
    config = tmp_path / "settings.py"
    config.write_text(
        f"SECRET = {SECRET!r}\nPORT = 0\nDWC_CORE_EXTENSION = '/nowhere/dwc_taxon.xml'\n"
        f"STATS_DB = 'sqlite:///{tmp_path}/stats.db'\nSTORE_DIRECTORY = TEMP_DIRECTORY = '{tmp_path}/files'\n"
    )
    service = subprocess.run(
        [Path(sys.executable).with_name("ckanpackager-service")],
        env={**os.environ, "CKANPACKAGER_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert service.returncode == os.EX_CONFIG
    assert service.stderr.splitlines()[-1] == (
        f"ckanpackager-service: {config}: DWC_CORE_EXTENSION: there is no file /nowhere/dwc_taxon.xml: "
        "put 'taxon' in its place, which comes with the service."
    )
    assert "Traceback" not in service.stderr


# Formatters.


@pytest.mark.parametrize(
    ("value", "formatted"),
    [
        ("jpeg", "image/jpeg"),
        (" png ", "image/png"),
        ("image/tiff", "image/tiff"),
        ("video/mp4", "video/mp4"),
        ("", ""),
        (" ", " "),
        (None, None),
        (0, 0),
        (["jpeg"], ["jpeg"]),
    ],
)
def test_a_format_becomes_a_media_type_unless_it_is_one(value: Any, formatted: Any) -> None:
    assert FORMATTERS["image_type"](value) == formatted


def test_there_are_formatters_for_sound_and_video() -> None:
    assert FORMATTERS["audio_type"]("wav") == "audio/wav"
    assert FORMATTERS["video_type"]("mp4") == "video/mp4"
