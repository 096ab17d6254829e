"""From records to lines: what goes into which cell of an archive, row by row."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager.dwc import ids as ids_module
from ckanpackager.dwc.ids import Ids, Repetitions, Table
from ckanpackager.errors import PackageError
from tests.archives import DWC, MEDIA, Made, make, read

IDENTIFIER = {"extension": "multimedia", "fields": {"identifier": "", "format": ""}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def dynamic(folder: Path, columns: Sequence[str], *records: Sequence[Any], **dwc: Any) -> list[str]:
    """The cells of dynamicProperties; each record is numbered, and has a genus so that there is a core."""
    rows = [(number, "Rosa", *record) for number, record in enumerate(records, 1)]
    return make(folder, ["_id", "genus", *columns], rows, **dwc).column("dynamicProperties")


def media(folder: Path, *lists: Any, **parts: Any) -> Made:
    """An archive of records with these lists."""
    settings = {"associatedMedia": {**MEDIA["associatedMedia"], **parts}}
    records = [(number, "Rosa", value) for number, value in enumerate(lists, 1)]
    return make(folder, ["_id", "genus", "associatedMedia"], records, DWC_EXTENSION_FIELDS=settings)


class TestDynamicProperties:
    def test_case_21_a_single_unmatched_column_keeps_its_name(self, folder: Path) -> None:
        assert dynamic(folder, ["Weight"], ["3 mg"]) == ['{"weight": "3 mg"}']

    def test_case_22_nulls_are_left_out_and_nothing_but_nulls_is_an_empty_cell(self, folder: Path) -> None:
        rows = [["3 mg", None], [None, None], ["", "  "], [None, float("nan")], [[], "{}"], [" [] ", [" "]]]
        assert dynamic(folder, ["Weight", "Donor"], *rows) == ['{"weight": "3 mg"}', *[""] * 5]

    @pytest.mark.parametrize(
        ("value", "member"),
        [
            ("1.10", '"1.10"'),
            ("NaN", '"NaN"'),
            ("1e999", '"1e999"'),
            ("true", '"true"'),
            ("[NaN]", '"[NaN]"'),
            ("[1e9999999999999999999]", '"[1e9999999999999999999]"'),
            ('{"b": 1.10, "a": [1e3]}', '{"a": [1000], "b": 1.10}'),
            ('["x"]', '["x"]'),
            ({"b": None, "a": float("inf")}, '{"a": null, "b": null}'),
            (Decimal("1.10"), "1.10"),
            (7, "7"),
            (False, "false"),
            (["a", 1], '["a", 1]'),
            ('é "quoted"\n\x7f', '"é \\"quoted\\"\\n\\u007f"'),
        ],
    )
    def test_case_23_only_objects_and_arrays_are_nested_and_all_is_json(
        self, folder: Path, value: Any, member: str
    ) -> None:
        (cell,) = dynamic(folder, ["note"], [value])
        assert cell == f'{{"note": {member}}}'
        json.loads(cell, parse_constant=pytest.fail)

    def test_case_24_keys_are_in_camel_case_or_verbatim_if_the_settings_say_so(self, folder: Path) -> None:
        columns, row = ["Foo bar", "unknownField"], [1, 2]
        assert dynamic(folder, columns, row) == ['{"fooBar": 1, "unknownfield": 2}']
        other = folder / "verbatim"
        other.mkdir()
        assert dynamic(other, columns, row, DWC_DYNAMIC_KEYS="verbatim") == [
            '{"Foo bar": 1, "unknownField": 2}'
        ]

    def test_case_25_no_value_is_lost_to_a_key_that_others_have(self, folder: Path) -> None:
        (cell,) = dynamic(folder, ["Foo bar", "foo bar", "Foo Bar"], [1, 2, 3])
        assert json.loads(cell) == {"fooBar": 1, "foo bar": 2, "Foo Bar": 3}

    def test_case_26_keys_are_sorted_as_json_dumps_sorts_them(self, folder: Path) -> None:
        names = ["zeta", "alpha", "Mid dle", "Über", "_x"]
        (cell,) = dynamic(folder, names, [*"abcde"])
        assert cell == json.dumps(json.loads(cell), sort_keys=True, ensure_ascii=False)

    def test_case_27_an_object_of_the_resources_own_is_merged(self, folder: Path) -> None:
        rows = [['{"z": 1.50}', "3 mg"], [{"a": 1}, None], [None, "4 mg"], [None, None], ["{}", None]]
        assert dynamic(folder, ["dynamicProperties", "Weight"], *rows) == [
            '{"weight": "3 mg", "z": 1.50}',
            '{"a": 1}',
            '{"weight": "4 mg"}',
            "",
            "",
        ]

    def test_case_27_a_null_in_the_resources_own_object_is_left_out(self, folder: Path) -> None:
        rows = [['{"a": null, "z": 1}', "3 mg"], ['{"a": null}', None], [{"z": None, "a": ""}, "4 mg"]]
        assert dynamic(folder, ["dynamicProperties", "Weight"], *rows) == [
            '{"weight": "3 mg", "z": 1}',
            "",
            '{"weight": "4 mg"}',
        ]

    def test_case_27_other_text_is_kept_under_the_terms_name(self, folder: Path) -> None:
        rows = [["tail=3", "3 mg"], ["[1]", None], [Decimal("1.0"), "x"]]
        assert dynamic(folder, ["dynamicProperties", "Weight"], *rows) == [
            '{"dynamicProperties": "tail=3", "weight": "3 mg"}',
            '{"dynamicProperties": [1]}',
            '{"dynamicProperties": 1.0, "weight": "x"}',
        ]

    def test_case_27_an_object_with_a_key_that_a_column_has_is_kept_whole(self, folder: Path) -> None:
        row = ['{"weight": 1, "z": 2}', "3 mg"]
        assert dynamic(folder, ["dynamicProperties", "Weight"], row) == [
            '{"dynamicProperties": {"weight": 1, "z": 2}, "weight": "3 mg"}'
        ]

    def test_the_resources_own_column_alone_is_left_as_it_is(self, folder: Path) -> None:
        assert dynamic(folder, ["dynamicProperties"], ["tail=3"], ['{"b":1}'], [None]) == [
            "tail=3",
            '{"b":1}',
            "",
        ]

    def test_a_setting_leaves_out_what_has_no_place(self, folder: Path) -> None:
        made = make(folder, ["_id", "genus", "Weight"], [(1, "Rosa", "3 mg")], DWC_DYNAMIC_TERM=None)
        assert made.rows() == [{"_id": "1", "genus": "Rosa"}]
        assert made.summary.dropped == ["Weight"]


class TestTwoColumnsOfOneTerm:
    COLUMNS = ("_id", "Scientific Name", "scientificName")

    def test_case_28_the_exact_name_wins_and_then_what_is_not_blank(self, folder: Path) -> None:
        rows = [
            (1, "Rosa", "Rosa canina"),
            (2, "Rosa", None),
            (3, "Rosa", " "),
            (4, "Rosa", "Rosa"),
            (5, None, None),
        ]
        made = make(folder, self.COLUMNS, rows)
        assert made.column("scientificName") == ["Rosa canina", "Rosa", "Rosa", "Rosa", ""]

    def test_case_28_what_differs_is_not_lost_and_counted(self, folder: Path) -> None:
        rows = [(1, "Rosa", "Rosa canina"), (2, "Rosa", None), (3, "Rosa", "Rosa")]
        made = make(folder, self.COLUMNS, rows)
        assert made.column("dynamicProperties") == ['{"scientificName": "Rosa"}', "", ""]
        assert made.summary.lost == {"Scientific Name": 1}

    def test_case_28_it_stands_among_the_other_keys_in_their_order(self, folder: Path) -> None:
        made = make(folder, [*self.COLUMNS, "Weight", "Colour"], [(1, "Rosa", "Rosa canina", "3 mg", "red")])
        assert made.column("dynamicProperties") == [
            '{"colour": "red", "scientificName": "Rosa", "weight": "3 mg"}'
        ]

    def test_r9_what_comes_from_the_second_column_is_quoted_too(self, folder: Path) -> None:
        made = make(folder, self.COLUMNS, [(1, 'Rosa "x"', None), (2, None, "Rosa canina")])
        assert made.column("scientificName") == ['Rosa "x"', "Rosa canina"]

    def test_case_28_without_a_dynamic_term_it_is_counted_all_the_same(self, folder: Path) -> None:
        made = make(folder, self.COLUMNS, [(1, "Rosa", "Rosa canina")], DWC_DYNAMIC_TERM=None)
        assert made.rows() == [{"_id": "1", "scientificName": "Rosa canina"}]
        assert made.summary.lost == {"Scientific Name": 1}


class TestLists:
    @pytest.mark.parametrize("value", [None, "", "[]", [], "  ", {}, "{}", "null", '""'])
    def test_cases_2_and_4_a_record_without_media_has_no_row_of_them(self, folder: Path, value: Any) -> None:
        made = media(folder, value)
        assert made.names == ["occurrence.csv", "meta.xml"]
        assert made.summary.skipped == {}

    @pytest.mark.parametrize("as_text", [True, False])
    def test_case_3_a_list_may_be_json_or_the_text_of_it(self, folder: Path, as_text: bool) -> None:
        value: Any = [{"identifier": "http://x/1"}, {"identifier": "http://x/2"}]
        made = media(folder, json.dumps(value) if as_text else value)
        assert made.column("identifier", "multimedia.csv") == ["http://x/1", "http://x/2"]
        assert made.column("_id", "multimedia.csv") == ["1", "1"]

    @pytest.mark.parametrize(
        ("value", "skipped"),
        [
            (["http://x/1", {"identifier": "http://x/2"}, None, 3], 3),
            ('["http://x/1", {"identifier": "http://x/2"}]', 1),
        ],
    )
    def test_case_3_what_is_no_object_is_skipped_and_counted(
        self, folder: Path, value: Any, skipped: int
    ) -> None:
        made = media(folder, value)
        assert made.column("identifier", "multimedia.csv") == ["http://x/2"]
        assert made.summary.skipped == {"associatedMedia": skipped}

    @pytest.mark.parametrize(
        "value",
        ["http://x/1", "[{]", "7", 7, True, 0, "0", False, '[{"title": 1e9999999999999999999}]', '[{"title": ' + "[" * 150 + "]" * 150 + "}]"],
    )  # fmt: skip
    def test_case_3_what_is_no_list_is_skipped_and_counted(self, folder: Path, value: Any) -> None:
        made = media(folder, value)
        assert "multimedia.csv" not in made.names
        assert made.summary.skipped == {"associatedMedia": 1}

    def test_a_single_object_is_a_list_of_one(self, folder: Path) -> None:
        made = media(folder, {"identifier": "a"}, '{"identifier": "b"}')
        assert made.column("identifier", "multimedia.csv") == ["a", "b"]

    @pytest.mark.parametrize(
        ("number", "cell"),
        [("1.10", "1.10"), ("123456789012345678901234567890", "123456789012345678901234567890"), ("1e-7", "0.0000001"),
         ("[1.10]", "1.10"), ('{"a": 1.10}', '{"a": 1.10}'), ("NaN", ""), ("1e999", "1" + "0" * 999)],
    )  # fmt: skip
    def test_numbers_in_the_text_of_a_list_keep_their_digits(
        self, folder: Path, number: str, cell: str
    ) -> None:
        made = media(folder, f'[{{"identifier": "a", "title": {number}}}]')
        assert made.column("title", "multimedia.csv") == [cell]

    @pytest.mark.parametrize("blank", [None, "", " ", float("nan"), []])
    def test_case_30_the_default_is_for_what_is_missing_null_or_blank(self, folder: Path, blank: Any) -> None:
        made = media(folder, [{"type": blank, "identifier": "a"}, {"identifier": "b"}])
        assert made.column("type", "multimedia.csv") == ["StillImage", "StillImage"]

    def test_case_30_zero_and_false_are_values(self, folder: Path) -> None:
        made = media(folder, [{"type": 0, "format": False}])
        (row,) = made.rows("multimedia.csv")
        assert (row["type"], row["format"]) == ("0", "false")

    def test_r13_a_default_is_written_as_any_value_is(self, folder: Path) -> None:
        fields = {"title": "", "type": None, "format": True, "creator": [1, "b"], "license": "a\nb"}
        made = media(folder, [{"title": "a"}], fields=fields)
        assert made.table("multimedia.csv")[1] == ["1", "a", "", "true", "1 | b", "a b"]
        assert [*made.summary.defaults["multimedia.csv"]] == ["format", "creator", "license"]

    def test_r9_a_default_is_quoted_where_it_must_be(self, folder: Path) -> None:
        made = media(folder, [{"title": "a"}], fields={"title": "", "rightsHolder": 'The "Museum", London'})
        assert made.column("rightsHolder", "multimedia.csv") == ['The "Museum", London']

    def test_case_31_a_formatter_completes_a_media_type_once(self, folder: Path) -> None:
        made = media(
            folder, [{"format": "tiff"}, {"format": "image/tiff"}], formatters={"format": "image_type"}
        )
        assert made.column("format", "multimedia.csv") == ["image/tiff", "image/tiff"]

    def test_case_32_a_default_is_never_formatted(self, folder: Path) -> None:
        made = media(
            folder,
            [{"identifier": "a"}],
            fields={"identifier": "", "format": "jpeg"},
            formatters={"format": "image_type"},
        )
        assert made.column("format", "multimedia.csv") == ["jpeg"]

    def test_case_33_an_empty_object_is_a_row_of_defaults(self, folder: Path) -> None:
        (row,) = media(folder, [{}]).rows("multimedia.csv")
        assert row["type"] == "StillImage"

    def test_r12_an_empty_object_without_defaults_is_no_row(self, folder: Path) -> None:
        assert "multimedia.csv" not in media(folder, [{}], fields={"identifier": ""}).names

    def test_case_34_two_fields_of_one_extension_make_one_file_with_the_rows_of_both(
        self, folder: Path
    ) -> None:
        fields = {
            "images": {"extension": "multimedia", "fields": {"identifier": "", "type": "StillImage"}},
            "sounds": {"extension": "multimedia", "fields": {"identifier": "", "title": "A song"}},
        }
        records = [
            (1, "Rosa", [{"identifier": "i1"}, {"identifier": "i2"}], [{"identifier": "s1"}]),
            (2, "Rosa", None, [{"identifier": "s2"}]),
            (3, "Rosa", [{"identifier": "i3"}], None),
        ]
        made = make(folder, ["_id", "genus", "images", "sounds"], records, DWC_EXTENSION_FIELDS=fields)
        assert made.table("multimedia.csv") == [
            ["_id", "identifier", "type", "title"],
            ["1", "i1", "StillImage", ""],
            ["1", "i2", "StillImage", ""],
            ["1", "s1", "", "A song"],
            ["2", "s2", "", "A song"],
            ["3", "i3", "StillImage", ""],
        ]

    def test_case_35_a_plain_column_is_repeated_in_each_row_of_a_list(self, folder: Path) -> None:
        # "references" is a term of the occurrence too: what only the extension has is "creator".
        records = [
            (1, "Rosa", [{"identifier": "a"}, {"identifier": "b"}], "A. Painter"),
            (2, "Rosa", None, None),
            (3, "Rosa", None, "B. Painter"),
            (4, "Rosa", [{"identifier": "c"}], None),
        ]
        made = make(
            folder,
            ["_id", "genus", "associatedMedia", "creator"],
            records,
            DWC_EXTENSION_FIELDS={"associatedMedia": IDENTIFIER},
            DWC_ADDITIONAL_EXTENSIONS=["multimedia"],
        )
        rows = [(row["_id"], row["identifier"], row["creator"]) for row in made.rows("multimedia.csv")]
        assert rows == [
            ("1", "a", "A. Painter"),
            ("1", "b", "A. Painter"),
            ("3", "", "B. Painter"),
            ("4", "c", ""),
        ]

    def test_r12_a_row_of_a_list_that_has_only_a_columns_spaces_is_no_row(self, folder: Path) -> None:
        made = make(
            folder,
            ["_id", "genus", "associatedMedia", "creator"],
            [(1, "Rosa", [{}, {"identifier": "a"}], " ")],
            DWC_EXTENSION_FIELDS={"associatedMedia": IDENTIFIER},
            DWC_ADDITIONAL_EXTENSIONS=["multimedia"],
        )
        assert made.column("identifier", "multimedia.csv") == ["a"]

    def test_case_35_a_plain_column_of_the_same_term_comes_before_the_default(self, folder: Path) -> None:
        fields = {
            "associatedMedia": {"extension": "multimedia", "fields": {"creator": "Nobody", "title": ""}}
        }
        made = make(
            folder,
            ["_id", "genus", "associatedMedia", "creator"],
            [
                (1, "Rosa", [{"title": "a"}, {"creator": "B. Painter"}], "A. Painter"),
                (2, "Rosa", [{"title": "b"}], " "),
                (3, "Rosa", None, "C. Painter"),
            ],
            DWC_EXTENSION_FIELDS=fields,
            DWC_ADDITIONAL_EXTENSIONS=["multimedia"],
        )
        assert made.column("creator", "multimedia.csv") == [
            "A. Painter",
            "B. Painter",
            "Nobody",
            "C. Painter",
        ]
        assert made.summary.defaults == {"multimedia.csv": {"creator": 1}}

    def test_case_37_the_columns_are_in_the_order_of_the_settings(self, folder: Path) -> None:
        fields = {"title": "", "license": "", "format": "", "identifier": "", "type": ""}
        made = media(folder, [{"identifier": "a"}], fields=fields)
        assert made.table("multimedia.csv")[0] == ["_id", *fields]

    def test_case_39_what_an_object_has_besides_is_ignored(self, folder: Path) -> None:
        made = media(folder, [{"identifier": "a", "width": 640, "exif": {"iso": 100}}])
        assert [*made.rows("multimedia.csv")[0]] == ["_id", *MEDIA["associatedMedia"]["fields"]]
        assert b"640" not in made.read("multimedia.csv")
        assert made.summary.skipped == {}

    def test_a_mapped_key_fills_the_term_that_the_settings_name(self, folder: Path) -> None:
        made = media(folder, [{"mime": "image/png"}], mappings={"format": "mime"})
        assert made.column("format", "multimedia.csv") == ["image/png"]


class TestAdditionalExtensions:
    def test_case_36_a_record_with_nothing_for_it_has_no_row(self, folder: Path) -> None:
        made = make(
            folder,
            ["_id", "genus", "Measurement type", "Measurement value"],
            [(1, "Rosa", None, None), (2, "Rosa", "height", 0), (3, "Rosa", "", "  ")],
            DWC_ADDITIONAL_EXTENSIONS=["measurement_or_fact-2014"],
        )
        assert made.table("measurement_or_fact.csv")[1:] == [["2", "height", "0"]]


class TestIds:
    def test_case_16_an_id_that_is_a_term_is_written_as_one(self, folder: Path) -> None:
        made = make(folder, ["occurrenceID", "genus"], [("a-1", "Rosa")], DWC_ID_FIELD="occurrenceID")
        (row,) = read(made.path)
        assert row.id == row.data[DWC + "occurrenceID"] == "a-1"

    @pytest.mark.parametrize("blank", [None, "", " \t", '",,"', float("nan"), []])
    def test_case_15_a_row_without_an_id_stops_the_package(self, folder: Path, blank: Any) -> None:
        with pytest.raises(
            PackageError, match=r"^Row 2,003 has no value in the column key, .*\(DWC_ID_FIELD\)\.$"
        ):
            make(
                folder,
                ["key", "genus"],
                [*((number, "Rosa") for number in range(2002)), (blank, "Rosa")],
                DWC_ID_FIELD="key",
            )

    @pytest.mark.parametrize(
        ("value", "identifier"),
        [
            ("a,b", "a b"),
            ('a"b', "a b"),
            (" a\n", "a"),
            ("a\tb", "a b"),
            ("Größe", "Größe"),
            (7, "7"),
            (Decimal("1E+2"), "100"),
        ],
    )
    def test_r11_an_id_has_nothing_that_readers_stumble_over(
        self, folder: Path, value: Any, identifier: str
    ) -> None:
        made = make(
            folder,
            ["key", "genus", "associatedMedia"],
            [(value, "Rosa", [{"identifier": "x"}])],
            DWC_ID_FIELD="key",
            DWC_EXTENSION_FIELDS=MEDIA,
        )
        assert made.column("key") == made.column("key", "multimedia.csv") == [identifier]

    @pytest.mark.parametrize(
        "ids", [[1, 1], [2, 1, 2], ["a", "b", "a"], ["a", " a"], [1, "1"], [True, "true"]]
    )
    @pytest.mark.parametrize("pages", [1, 1000])
    def test_d3_a_row_that_comes_again_as_it_was_is_left_out_and_counted(
        self, folder: Path, ids: list[Any], pages: int
    ) -> None:
        records = [(value, "Rosa", "x", [{"identifier": "m"}]) for value in ids]
        columns = ["key", "genus", "Weight", "associatedMedia"]
        made = make(folder, columns, records, pages=pages, DWC_ID_FIELD="key", DWC_EXTENSION_FIELDS=MEDIA)
        assert made.summary.repeated_rows == 1
        assert made.column("key") == [str(value).lower() for value in ids[:-1]]
        assert made.column("key", "multimedia.csv") == made.column("key")
        assert made.summary.files == {"occurrence.csv": len(ids) - 1, "multimedia.csv": len(ids) - 1}

    @pytest.mark.parametrize(
        ("one", "other"),
        [(("Rosa", "x", None), ("Rubus", "x", None)), (("Rosa", "x", None), ("Rosa", "y", None)), (("Rosa", "x", [{}]), ("Rosa", "x", None)),
         (("Rosa", "x", [{"title": "a"}]), ("Rosa", "x", [{"title": "b"}]))],
    )  # fmt: skip
    @pytest.mark.parametrize("pages", [1, 1000])
    def test_d3_a_row_that_comes_again_as_another_stops_the_package(
        self, folder: Path, one: Any, other: Any, pages: int
    ) -> None:
        columns = ["_id", "genus", "Weight", "associatedMedia"]
        with pytest.raises(
            PackageError, match=r"Two different rows have '7' in the column _id, .*\(DWC_ID_FIELD\)\.$"
        ):
            make(
                folder,
                columns,
                [(3, *one), (7, *one), (9, *one), (7, *other)],
                pages=pages,
                DWC_EXTENSION_FIELDS=MEDIA,
            )

    def test_d3_ids_that_rise_are_not_kept_in_memory(self, tmp_path: Path) -> None:
        ids = Ids("_id", tmp_path)
        for start in range(0, 50_000, 1000):
            numbers = range(start, start + 1000)
            assert ids.repeated(numbers, list(map(str, numbers)), list(numbers)) == []
        assert ids._table is None
        # And yet they are known when one does not rise.
        assert ids.repeated([7, 60_000], ["7", "60000"], [7, 1]) == [0]
        ids.close()

    @given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), st.integers(-9, 9))))
    def test_the_table_is_a_dict(self, pairs: list[tuple[int, int]]) -> None:
        table, known = Table(), dict[int, int]()
        for key, value in [*pairs, (0, 7), (0, 8)]:
            # 0 is how it knows a free slot, so that 0 and 1 are one key.
            assert table.setdefault(key, value) == known.get(key or 1)
            known.setdefault(key or 1, value)
        assert len(table) == len(known)

    def test_the_table_grows(self) -> None:
        table = Table()
        for number in range(1, 20_000):
            assert table.setdefault(number << 40 | number, number) is None
        assert all(table.setdefault(number << 40 | number, 0) == number for number in range(1, 20_000))

    @pytest.mark.parametrize("most", [3, 200_000])
    def test_repetitions_are_counted_however_many_fit_into_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
    ) -> None:
        monkeypatch.setattr(ids_module.Repetitions, "_MOST", most)
        repetitions = Repetitions(tmp_path)
        repetitions.add(["a", "b", "", "a", ""])
        repetitions.add(["b", "c", "d", "a"])
        assert repetitions.count() == 3
        repetitions.close()


def test_a_record_that_is_not_as_long_as_the_header_is_refused(folder: Path) -> None:
    for records in ([(1,)], [(1, "Rosa", "x")], [(1, "Rosa"), (2,)]):
        with pytest.raises(ValueError, match="A record has not 2 values, one for each field"):
            make(folder, ["_id", "genus"], records)


def test_case_17_a_value_reads_back_with_a_space_for_each_control_character(folder: Path) -> None:
    made = make(folder, ["_id", "locality", "note"], [(1, "a\nb\r\nc\td\0e", "a\n\0b")])
    (row,) = read(made.path)
    assert row.data[DWC + "locality"] == "a b  c d e"
    assert json.loads(row.data[DWC + "dynamicProperties"]) == {"note": "a\n\0b"}
    assert made.summary.cleaned == 1


def test_half_a_surrogate_pair_is_a_character_that_utf_8_has(folder: Path) -> None:
    half = "a\ud800b"
    record = (half, half, half, half, [{"title": half, half: half}])
    made = make(
        folder,
        ["key", "locality", "recordedBy", "note", "associatedMedia"],
        [record],
        DWC_ID_FIELD="key",
        DWC_EXTENSION_FIELDS=MEDIA,
    )
    (row,) = made.rows()
    assert row == {
        "key": "a\ufffdb",
        "locality": "a\ufffdb",
        "recordedBy": "a\ufffdb",
        "dynamicProperties": '{"note": "a\ufffdb"}',
    }
    assert made.column("title", "multimedia.csv") == ["a\ufffdb"]


def test_case_29_lists_and_booleans_in_a_term(folder: Path) -> None:
    made = make(folder, ["_id", "recordedBy", "habitat"], [(1, ["A", "Bé"], True), (2, [{"a": 1}], False)])
    assert made.column("recordedBy") == ["A | Bé", '[{"a": 1}]']
    assert made.column("habitat") == ["true", "false"]


def test_case_38_coordinates_are_plain_decimals_with_all_digits(folder: Path) -> None:
    rows = [(1, Decimal("1E-7"), 1e-07), (2, Decimal("51.4960000"), 51.5)]
    made = make(folder, ["_id", "decimalLatitude", "decimalLongitude"], rows)
    assert made.column("decimalLatitude") == ["0.0000001", "51.4960000"]
    assert made.column("decimalLongitude") == ["0.0000001", "51.5"]
