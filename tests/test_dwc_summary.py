"""The summary of an archive: what there is to tell is told, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager.dwc import counters
from ckanpackager.dwc.summary import PROBLEMS, Summary
from ckanpackager.dwc.terms import load
from tests.archives import DWC, MEDIA, Made, make

FINE = {
    "_id": 1,
    "occurrenceID": "a-1",
    "basisOfRecord": "PreservedSpecimen",
    "eventDate": "2001-02-03",
    "decimalLatitude": 51.5,
    "decimalLongitude": -0.2,
}


def archive(folder: Path, *changes: dict[str, Any], **dwc: Any) -> Made:
    """An archive of rows with nothing to find fault with, but for these changes."""
    columns = list(dict.fromkeys([*FINE, *(name for change in changes for name in change)]))
    rows = [
        {**FINE, "_id": number, "occurrenceID": f"a-{number}", **change}
        for number, change in enumerate(changes)
    ]
    return make(
        folder, columns, [[row.get(name) for name in columns] for row in rows], **dwc, options={"eml": "<a/>"}
    )


def test_where_all_is_well_it_only_says_what_there_is(tmp_path: Path) -> None:
    assert archive(tmp_path, {}).summary.text() == "1 row in occurrence.csv."
    summary = archive(tmp_path, *[{}] * 1234).summary
    assert summary.text() == "1,234 rows in occurrence.csv."
    assert summary.problems == {}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"occurrenceID": None}, "occurrenceID_blank"),
        ({"occurrenceID": "  "}, "occurrenceID_blank"),
        ({"occurrenceID": "a-1"}, "occurrenceID_duplicate"),
        ({"occurrenceID": " A-1"}, "occurrenceID_duplicate"),
        ({"basisOfRecord": ""}, "basisOfRecord_blank"),
        ({"basisOfRecord": "Specimen"}, "basisOfRecord_unknown"),
        ({"eventDate": "03/02/2001"}, "date_invalid"),
        ({"decimalLatitude": 0, "decimalLongitude": 0.0}, "coordinate_zero"),
        ({"decimalLatitude": "0.000", "decimalLongitude": "-0"}, "coordinate_zero"),
        ({"decimalLatitude": "#VALUE!"}, "coordinate_invalid"),
        ({"decimalLatitude": "51° N"}, "coordinate_invalid"),
        ({"decimalLatitude": "nan"}, "coordinate_invalid"),
        ({"decimalLatitude": "5_1"}, "coordinate_invalid"),
        ({"decimalLatitude": "inf"}, "coordinate_invalid"),
        ({"decimalLatitude": "٣"}, "coordinate_invalid"),
        ({"decimalLatitude": None}, "coordinate_invalid"),
        ({"decimalLatitude": 120, "decimalLongitude": 40}, "coordinate_swapped"),
        ({"decimalLatitude": -95, "decimalLongitude": 10}, "coordinate_swapped"),
        ({"decimalLatitude": 91, "decimalLongitude": 91}, "coordinate_out_of_range"),
        ({"decimalLatitude": 5, "decimalLongitude": 181}, "coordinate_out_of_range"),
        ({"decimalLatitude": 515, "decimalLongitude": 1}, "coordinate_out_of_range"),
        ({"locality": "MusÃ©um"}, "mojibake"),
        ({"locality": "it isnâ€™t"}, "mojibake"),
        ({"locality": "Mus\ufffdum"}, "replacement"),
        ({"Weight": "Mus\ufffdum"}, "replacement"),
    ],
)
def test_each_problem_is_counted_once_and_named_in_gbifs_words(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    summary = archive(tmp_path, {}, {}, change, {}).summary
    assert summary.problems == {problem: 1}
    one, _, code = PROBLEMS[problem]
    assert f"1 {one}" in summary.text()
    assert code in summary.text()
    assert len(re.findall(r"[A-Z]+_[A-Z_]+", summary.text())) == (1 if code else 0)


def test_a_blank_is_no_duplicate_of_another(tmp_path: Path) -> None:
    summary = archive(tmp_path, {}, *[{"occurrenceID": blank} for blank in (None, "", " ", " ")]).summary
    assert summary.problems == {"occurrenceID_blank": 4}


def test_ids_that_differ_in_capitals_alone_are_counted_where_they_are_occurrence_ids(tmp_path: Path) -> None:
    changes = [{"occurrenceID": name} for name in ("a", "B", "A", "b", "c")]
    made = archive(tmp_path, *changes, DWC_ID_FIELD="occurrenceID")
    assert made.column("occurrenceID") == ["a", "B", "A", "b", "c"]
    assert made.summary.problems == {"occurrenceID_duplicate": 2}


def test_a_damaged_value_is_counted_once_wherever_it_goes(tmp_path: Path) -> None:
    media = [{"identifier": "x", "title": "MusÃ©um"}, {"identifier": "y"}]
    change = {"associatedMedia": media, "Scientific Name": "RosÃ©", "scientificName": "Rosa", "Weight": "3"}
    made = archive(tmp_path, change, DWC_EXTENSION_FIELDS=MEDIA)
    assert made.summary.problems == {"mojibake": 2}


def test_what_does_not_go_into_the_archive_is_not_counted(tmp_path: Path) -> None:
    same = {
        "_id": "a,1",
        "occurrenceID": "a",
        "locality": "MusÃ©\num",
        "Scientific Name": "Rosa",
        "scientificName": "Rosa canina",
        "associatedMedia": ["x", {"identifier": "y"}],
    }
    (tmp_path / "once").mkdir()
    once = archive(tmp_path / "once", same, DWC_EXTENSION_FIELDS=MEDIA).summary
    assert (
        once.problems and once.cleaned and once.changed_ids and once.lost and once.skipped and once.defaults
    )
    for times in (2, 3):
        summary = archive(tmp_path, *[same] * times, DWC_EXTENSION_FIELDS=MEDIA).summary
        assert summary.to_dict() == {**once.to_dict(), "repeated_rows": times - 1}


@pytest.mark.parametrize("fine", ["NÃO", "São João, Ângela", "château", "Größe", "日本", "Â", "â€"])
def test_what_is_only_foreign_is_not_taken_for_damaged(tmp_path: Path, fine: str) -> None:
    assert archive(tmp_path, {"locality": fine}).summary.problems == {}


def test_no_coordinates_are_no_problem(tmp_path: Path) -> None:
    nothing = {"decimalLatitude": None, "decimalLongitude": None}
    assert archive(tmp_path, {}, nothing, {"decimalLatitude": 0}).summary.problems == {}


@pytest.mark.parametrize("basis", ["preservedspecimen", "HUMANOBSERVATION", "MaterialCitation"])
def test_a_basis_of_record_may_have_any_case(tmp_path: Path, basis: str) -> None:
    assert archive(tmp_path, {"basisOfRecord": basis}).summary.problems == {}


def test_the_most_frequent_unknown_bases_are_named(tmp_path: Path) -> None:
    changes = [{"basisOfRecord": f"b{number}"} for number in range(8) for _ in range(number)]
    text = archive(tmp_path, *changes).summary.text()
    assert (
        "28 rows have a basisOfRecord that is not in GBIF's vocabulary, such as 'b7', 'b6', 'b5', 'b4', 'b3' (BASIS_OF_RECORD_INVALID)."
        in text
    )


def test_of_unknown_bases_no_more_is_kept_than_is_told(tmp_path: Path) -> None:
    changes = [{"basisOfRecord": f"{number} {'long' * 99}"} for number in range(1200)]
    summary = archive(tmp_path, *changes, {"basisOfRecord": " often "}, {"basisOfRecord": "often"}).summary
    assert summary.problems == {"basisOfRecord_unknown": 1202}
    assert list(summary.unknown_basis) == [f"{number} {'long' * 15}"[:60] for number in (0, 1, 10, 100, 101)]
    few = archive(tmp_path, *changes[:9], {"basisOfRecord": " often "}, {"basisOfRecord": "often"}).summary
    assert next(iter(few.unknown_basis.items())) == ("often", 2)


def test_each_line_is_one_whatever_a_column_is_called(tmp_path: Path) -> None:
    text = archive(tmp_path, {"a\nb\x00c": "x"}).summary.text()
    assert "In dynamicProperties, since no term has their name: a b c." in text.split("\n")


@pytest.mark.parametrize("date", ["", "2001", "2001-02", "2001-02-28", "2000-02-29", "2001-02-03T04:05", "2001-02-03T04:05:06.7Z", "2001-02-03T04:05+01:00", "2001/2002", "2001-02-03/05", "2001-02/03", "2001-02-03/2001-03-01", "2001-02-03T10/12", "1999-12-31 "])  # fmt: skip
def test_dates_of_iso_8601_are_dates(date: str) -> None:
    assert counters.is_date(date)


@pytest.mark.parametrize("date", ["3/2/2001", "2001-2-3", "20010203", "2001-13", "2001-02-30", "2001-04-31", "2001-02-29", "1900-02-29", "2001-00-10", "2001-01-00", "2001-02-03 04:05:06", "Spring 2001", "2001-02-03/", "01", "2001-02-03T25", "٢٠٠١"])  # fmt: skip
def test_other_dates_are_none(date: str) -> None:
    assert not counters.is_date(date)


@given(
    st.lists(
        st.tuples(
            *[
                st.sampled_from(
                    ["", " ", "0", "-0.0", "45", "91", "-181", "1e1", "x", "1_0", "nan", "inf", "٣", " 5 "]
                )
            ]
            * 2
        )
    )
)
def test_coordinates_at_once_are_the_same_as_one_by_one(pairs: list[tuple[str, str]]) -> None:
    found: dict[str, int] = {}
    for north, east in pairs:
        for problem, count in counters.bad_coordinates([north, "x"], [east, "x"]).items():
            found[problem] = found.get(problem, 0) + count
    found["coordinate_invalid"] = found.get("coordinate_invalid", 0) - len(pairs)
    together = counters.bad_coordinates([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    assert dict(together) == {problem: count for problem, count in found.items() if count}


def test_an_occurrence_without_the_terms_that_gbif_asks_for(tmp_path: Path) -> None:
    text = make(tmp_path, ["_id", "genus"], [(1, "Rosa")]).summary.text()
    assert "No column is occurrenceID, which GBIF asks for (RECORD_NOT_UNIQUELY_IDENTIFIED)." in text
    assert "No column is basisOfRecord, which GBIF asks for (REQUIRED_TERM_MISSING)." in text
    taxon = make(
        tmp_path / "..", ["_id", "genus"], [(1, "Rosa")], DWC_CORE_EXTENSION="taxon", DWC_DYNAMIC_TERM=None
    )
    assert taxon.summary.missing_terms == []
    as_id = make(tmp_path, ["occurrenceID", "genus"], [(1, "Rosa")], DWC_ID_FIELD="occurrenceID")
    assert as_id.summary.missing_terms == ["basisOfRecord"]


def test_case_42_media_that_cannot_be_shown_and_defaults_that_nobody_stated(tmp_path: Path) -> None:
    media = [{"identifier": "http://x/1", "license": "CC0"}, {"title": "none"}]
    summary = archive(
        tmp_path, {"associatedMedia": media}, {"associatedMedia": [{}]}, DWC_EXTENSION_FIELDS=MEDIA
    ).summary
    assert summary.problems == {"media_identifier_blank": 2}
    assert summary.defaults == {"multimedia.csv": {"type": 3, "format": 3, "license": 2}}
    text = summary.text()
    assert "2 media rows have no identifier" in text
    assert (
        "The default for license was put into 2 rows of multimedia.csv: nobody stated that licence for them."
        in text
    )
    assert "The default for type was put into 3 rows of multimedia.csv." in text


def test_a_licence_is_known_by_its_whole_name_too(tmp_path: Path) -> None:
    fields = {"identifier": "", "dcterms:rights": "CC0", "dc:rights": "free"}
    settings = {"associatedMedia": {"extension": "audiovisual", "fields": fields}}
    media = [{"identifier": "http://x/1"}]
    text = archive(tmp_path, {"associatedMedia": media}, DWC_EXTENSION_FIELDS=settings).summary.text()
    for header in ("rights", "dc:rights"):
        assert (
            f"default for {header} was put into 1 row of multimedia.csv: nobody stated that licence" in text
        )


def test_terms_that_gbif_has_given_up_are_named(tmp_path: Path) -> None:
    change = {"individualID": "i", "type": "PhysicalObject"}
    old = archive(tmp_path, change, DWC_CORE_EXTENSION="occurrence-2014").summary
    assert old.outdated_terms == ["dwc:individualID", "dcterms:type"]
    assert (
        "GBIF has given up these terms since 2014 (UNKNOWN_TERM): dwc:individualID, dcterms:type."
        in old.text()
    )
    assert archive(tmp_path, change).summary.outdated_terms == []


def test_only_media_are_asked_for_what_media_need(tmp_path: Path) -> None:
    change = {"measurementType": "height"}
    made = archive(tmp_path, change, DWC_ADDITIONAL_EXTENSIONS=["measurement_or_fact"])
    assert made.summary.files == {"occurrence.csv": 1, "measurement_or_facts.csv": 1}
    assert made.summary.problems == {}


def test_only_occurrences_are_asked_for_what_occurrences_need(tmp_path: Path) -> None:
    definition = tmp_path / "sample.xml"
    properties = "".join(
        f'<property qualName="{DWC}{name}"/>' for name in ("genus", "occurrenceID", "basisOfRecord")
    )
    definition.write_text(f'<extension rowType="urn:sample">{properties}</extension>')
    made = make(
        tmp_path,
        ["_id", "genus", "occurrenceID", "basisOfRecord"],
        [(1, "Rosa", "same", "none"), (2, "Rosa", "same", None)],
        DWC_CORE_EXTENSION=str(definition),
        DWC_DYNAMIC_TERM=None,
    )
    assert made.summary.problems == {}


def test_media_without_a_format(tmp_path: Path) -> None:
    fields = {"associatedMedia": {"extension": "multimedia", "fields": {"identifier": ""}}}
    made = archive(tmp_path, {"associatedMedia": [{"identifier": "http://x/1"}]}, DWC_EXTENSION_FIELDS=fields)
    assert made.summary.problems == {"media_format_blank": 1}


@pytest.mark.parametrize("given", ["dcterms:format", "dc:format"])
def test_media_have_a_format_if_one_of_two_terms_of_that_name_says_it(tmp_path: Path, given: str) -> None:
    fields = {"identifier": "", "dcterms:format": "", "dc:format": ""}
    settings = {"associatedMedia": {"extension": "audiovisual", "fields": fields}}
    media = [{"identifier": "http://x/1", given: "image/png"}]
    made = archive(tmp_path, {"associatedMedia": media}, DWC_EXTENSION_FIELDS=settings)
    assert made.summary.problems == {}


def test_what_became_of_the_columns(tmp_path: Path) -> None:
    change = {"Weight": "3", "eventId": "e", "Scientific Name": "Rosa", "scientificName": "Rosa canina"}
    text = archive(tmp_path, change).summary.text()
    assert "In dynamicProperties, since no term has their name: Weight, eventId." in text
    assert "The column eventId is nearly called eventID" in text
    assert (
        "1 value of the column Scientific Name gave way to another column of the same term, and is in dynamicProperties."
        in text
    )
    dropped = archive(tmp_path, change, DWC_DYNAMIC_TERM=None).summary.text()
    assert "Left out, since no term has their name: Weight, eventId." in dropped
    assert "was left out" in dropped


def test_what_was_done_to_the_values(tmp_path: Path) -> None:
    made = archive(
        tmp_path,
        {"_id": "a,b", "locality": "a\nb", "associatedMedia": ["x", {"title": "a\tb"}]},
        {"_id": "c"},
        {"_id": "c", "occurrenceID": "a-1"},
        DWC_EXTENSION_FIELDS=MEDIA,
    )
    text = made.summary.text()
    assert text.startswith(
        "2 rows in occurrence.csv, 1 row in multimedia.csv.\n1 row came twice and is in it once."
    )
    assert "2 values had line breaks, tabs or other control characters; now there are spaces." in text
    assert "1 id had commas" in text
    assert "1 element in the column associatedMedia could not be used" in text


def test_it_goes_through_json_unchanged(tmp_path: Path) -> None:
    summary = make(
        tmp_path,
        ["_id", "eventId", "basisOfRecord", "locality", "associatedMedia"],
        [(1, "e", "x", "a\nÃ©", ["x", {}])],
        DWC_EXTENSION_FIELDS=MEDIA,
    ).summary
    again = Summary.from_dict(json.loads(json.dumps(summary.to_dict())))
    assert again == summary
    assert again.text() == summary.text()


def test_what_another_version_has_to_say_does_no_harm() -> None:
    assert Summary.from_dict({"cleaned": 2, "tea": 1}).cleaned == 2
    assert Summary.from_dict({}).text() == ""


def test_a_long_list_of_columns_is_cut(tmp_path: Path) -> None:
    text = archive(tmp_path, {f"Column {number}": 1 for number in range(100)}).summary.text()
    assert "Column 19 and 80 more." in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    ("columns", "said"),
    [(20, ""), (21, "1 more column is nearly called as a term is."), (25, "5 more columns are nearly")],
)
def test_a_long_list_of_near_misses_is_cut_and_counted(tmp_path: Path, columns: int, said: str) -> None:
    names = [term.name.upper() for term in load("occurrence").terms if term.name not in FINE][:columns]
    text = archive(tmp_path, dict.fromkeys(names, "x")).summary.text()
    assert len(re.findall("is nearly called [a-z]+[A-Z]?[A-Za-z]*: rename", text)) == 20
    assert said in text
    assert ("more column" in text) == bool(said)
