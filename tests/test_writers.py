"""Whatever the rows hold, an independent reader finds it in the package as it was."""

import csv
import datetime
import io
import json
import math
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl.cell import Cell

from ckanpackager.archive import CommandArchive, ZipArchive
from ckanpackager.errors import PackageError
from ckanpackager.sources.base import Field, Page
from ckanpackager.writers import WRITERS, values, xlsx

NOW = datetime.datetime(2024, 5, 6, 7, 8, 10, tzinfo=datetime.UTC)


def pack(path: Path, name: str, fields: Sequence[Field], pages: Iterable[Page]) -> bytes:
    """What ``resource.<name>`` in the package holds."""
    with ZipArchive(path, now=NOW) as archive, WRITERS[name](archive, fields) as writer:
        for page in pages:
            writer.write(page)
    with zipfile.ZipFile(path) as package:
        assert package.namelist() == [f"resource.{name}"]
        return package.read(f"resource.{name}")


def pack_lists(name: str, fields: Sequence[Field], records: list[list[Any]]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return pack(Path(folder, "package.zip"), name, fields, [Page(len(records), records)])


def delimited(content: bytes, delimiter: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline=""), delimiter=delimiter, strict=True))


def unescaped(text: str) -> str:
    """ST_Xstring of ECMA-376 as Excel reads it; openpyxl leaves it to its users."""
    return re.sub("_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), text)


def sheets(content: bytes) -> dict[str, list[list[Cell]]]:
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    return {sheet.title: [list(row) for row in sheet.iter_rows()] for sheet in workbook}


def sheet_xml(content: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(content)) as workbook:
        return workbook.read("xl/worksheets/sheet1.xml").decode()


def cells(content: bytes) -> list[list[Any]]:
    """The values of the sheet ``Data`` below its header."""
    (rows,) = [rows for title, rows in sheets(content).items() if title == "Data"]
    return [
        [unescaped(cell.value) if isinstance(cell.value, str) else cell.value for cell in row]
        for row in rows[1:]
    ]


def texts(content: bytes) -> list[list[str]]:
    rows = sheets(content)["Data"]
    return [["" if cell.value is None else str(cell.value) for cell in row] for row in rows]


# A reader for every format, so that no format is without one.
READERS: dict[str, Callable[[bytes], list[list[str]]]] = {
    "csv": lambda content: delimited(content, ","),
    "tsv": lambda content: delimited(content, "\t"),
    "xlsx": texts,
}

FIELDS = [Field("_id", "int"), Field('Größe, "mm"\n'), Field("note")]
ROWS = [
    [1, "0012", 'a "word", or two'],
    [2, None, "two\nlines\tand a tab"],
    [3, "=1+1", None],
    [4, "ü", "日本"],
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "package.zip"


@pytest.mark.parametrize("name", WRITERS)
class TestEveryWriter:
    def test_leaves_what_reads_back(self, path: Path, name: str) -> None:
        pages = [Page(1, ROWS[:1]), Page(0, []), Page(3, ROWS[1:])]
        header = [field.id for field in FIELDS]
        expected = [["" if value is None else str(value) for value in row] for row in ROWS]
        assert READERS[name](pack(path, name, FIELDS, pages)) == [header, *expected]

    def test_leaves_the_header_alone_where_there_are_no_rows(self, path: Path, name: str) -> None:
        assert READERS[name](pack(path, name, FIELDS, [])) == [[field.id for field in FIELDS]]

    def test_says_how_it_would_have_its_pages(self, name: str) -> None:
        assert WRITERS[name].records_format in ("csv", "tsv", "lists")

    def test_makes_the_same_file_of_the_same_rows(self, tmp_path: Path, name: str) -> None:
        for package in ("one.zip", "other.zip"):
            pack(tmp_path / package, name, FIELDS, [Page(4, ROWS)])
        assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()

    def test_left_by_an_exception_leaves_no_package_and_no_files(self, path: Path, name: str) -> None:
        with (
            pytest.raises(RuntimeError),
            ZipArchive(path) as archive,
            WRITERS[name](archive, FIELDS) as writer,
        ):
            writer.write(Page(4, ROWS))
            raise RuntimeError("the source died")
        assert [file.name for file in path.parent.iterdir()] == [path.name]
        assert not zipfile.is_zipfile(path)

    def test_half_of_its_rows_are_never_delivered(self, path: Path, name: str) -> None:
        archive = ZipArchive(path)
        with pytest.raises(RuntimeError), WRITERS[name](archive, FIELDS):
            raise RuntimeError("the source died, and somebody goes on as if nothing had happened")
        with pytest.raises(ValueError, match="not written to its end"):
            archive.close()

    def test_refuses_a_row_that_is_not_as_long_as_the_header(self, path: Path, name: str) -> None:
        with pytest.raises(ValueError, match="argument"):
            pack(path, name, FIELDS, [Page(1, [[1, "two"]])])

    def test_writes_into_the_admins_archive_too(self, tmp_path: Path, name: str) -> None:
        command = "cp {input} {output}"
        with (
            CommandArchive(tmp_path / "package.zip", command, tmp_path) as archive,
            WRITERS[name](archive, FIELDS) as writer,
        ):
            writer.write(Page(4, ROWS))
        assert len(READERS[name]((tmp_path / "package.zip").read_bytes())) == 5
        assert [file.name for file in tmp_path.iterdir()] == ["package.zip"]


# CSV and TSV.


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_what_ckan_wrote_is_not_touched(records: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        content = pack(Path(folder, "package.zip"), "csv", FIELDS[:1], [Page(1, records), Page(1, records)])
    assert content == b"_id\n" + records + records


def test_the_header_is_quoted_only_where_it_must_be(path: Path) -> None:
    fields = [Field(name) for name in ("plain", "with space", "a,b", 'a"b', "a\nb", "a\rb", "tab\t", "Größe")]
    content = pack(path, "csv", fields, []).decode()
    assert content == 'plain,with space,"a,b","a""b","a\nb","a\rb",tab\t,Größe\n'
    content = pack(path, "tsv", fields, []).decode()
    assert content == 'plain\twith space\ta,b\t"a""b"\t"a\nb"\t"a\rb"\t"tab\t"\tGröße\n'


anything = st.text(st.characters(codec="utf-8"), max_size=20) | st.text("\"',;\t\r\n\\ =\0ü", max_size=8)


@pytest.mark.parametrize(("name", "delimiter"), [("csv", ","), ("tsv", "\t")])
@given(rows=st.lists(st.tuples(anything, anything), max_size=5))
@settings(deadline=None)
def test_any_text_reads_back(name: str, delimiter: str, rows: list[tuple[str, str]]) -> None:
    records = [list(row) for row in rows]
    content = pack_lists(name, [Field("a"), Field("b")], records)
    assert delimited(content, delimiter)[1:] == records


# As CKAN 2.9 to 2.12 wrote them; but that NULL JSON is empty here, as every other NULL.
AS_CKAN = [
    ("text", None, ""),
    ("text", "", ""),
    ("text", " padded ", " padded "),
    ("bool", True, "t"),
    ("bool", False, "f"),
    ("numeric", Decimal("51.4960000"), "51.4960000"),
    ("numeric", Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
    ("numeric", Decimal("1E-7"), "0.0000001"),
    ("numeric", Decimal("1E+20"), "100000000000000000000"),
    ("numeric", "NaN", "NaN"),
    ("int8", 9223372036854775807, "9223372036854775807"),
    ("float8", 0.1, "0.1"),
    ("float8", 1e300, "1e+300"),
    ("float8", math.nan, "NaN"),
    ("float8", -math.inf, "-Infinity"),
    ("timestamp", "2020-01-02T03:04:05.000", "2020-01-02T03:04:05.000"),
    ("json", {"a": 1}, '{"a": 1}'),
    ("json", {"ü": [None, True, {"b": Decimal("1.10")}]}, '{"ü": [null, true, {"b": 1.10}]}'),
    ("json", "a string", '"a string"'),
    ("json", False, "false"),
    ("json", Decimal("1.50"), "1.50"),
    ("json", None, ""),
    ("_text", ["a", "b,c"], '["a","b,c"]'),
    ("_int4", [[1, 2], [3, None]], "[[1,2],[3,null]]"),
]


@pytest.mark.parametrize(("kind", "value", "text"), AS_CKAN)
def test_a_value_is_written_as_ckan_writes_it(path: Path, kind: str, value: Any, text: str) -> None:
    fields = [Field("_id", "int"), Field("value", kind)]
    assert delimited(pack(path, "csv", fields, [Page(1, [[1, value]])]), ",")[1] == ["1", text]


def test_null_is_not_quoted(path: Path) -> None:
    assert pack(path, "csv", FIELDS, [Page(1, [[1, None, None]])]).endswith(b"\n1,,\n")


def test_an_exponent_does_not_fill_the_memory() -> None:
    assert values.text(Decimal("1E+999999999"), "numeric") == "1E+999999999"


def test_half_a_surrogate_pair_does_not_lose_the_package(path: Path) -> None:
    fields = [Field("value", "json"), Field("other")]
    content = pack(path, "csv", fields, [Page(1, [[["\ud800"], "\udfff"]])])
    (cell, other) = delimited(content, ",")[1]
    assert json.loads(cell) == ["\ud800"]
    assert other == "\\udfff"


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def like(document: Any) -> Any:
    """The same with all numbers Decimal, as they read back."""
    if isinstance(document, dict):
        return {key: like(value) for key, value in document.items()}
    if isinstance(document, list):
        return [like(value) for value in document]
    if isinstance(document, float):
        return Decimal(repr(document))
    return document


@pytest.mark.parametrize("name", ["csv", "xlsx"])
@given(document=documents.filter(lambda document: document is not None))
@settings(deadline=None)
def test_any_json_reads_back_with_all_its_digits(name: str, document: Any) -> None:
    fields = [Field("_id", "int"), Field("value", "json")]
    content = pack_lists(name, fields, [[1, document]])
    text = delimited(content, ",")[1][1] if name == "csv" else cells(content)[0][1]
    assert json.loads(text, parse_float=Decimal) == like(document)


# XLSX.


# What looks like Excel's escapes, or would together with the escape of its neighbour.
escapes = st.lists(
    st.sampled_from(
        ["_x0041_", "_x0041", "_x005F_", "_xd800_", "x0041_", "_", "\x01", "\r", "\ufffe", "\ud800", "é"]
    ),
    max_size=5,
).map("".join)


@given(rows=st.lists(st.tuples(anything, st.text(max_size=9), escapes), max_size=4))
@settings(deadline=None)
def test_any_text_is_in_the_sheet(rows: list[tuple[str, ...]]) -> None:
    fields = [Field("_id"), Field("a"), Field("b"), Field("c")]
    content = pack_lists("xlsx", fields, [["row", *row] for row in rows])
    assert cells(content) == [["row", *(text or None for text in row)] for row in rows]
    assert not re.search("[\x00-\x08\x0b-\x1f\ufffe\uffff]", sheet_xml(content)), (
        "XML forbids it, or changes it"
    )


def test_white_space_at_the_ends_of_a_text_is_declared_to_matter(path: Path) -> None:
    content = pack(path, "xlsx", FIELDS, [Page(1, [[1, " padded ", "\n"]])])
    assert all(text.startswith(' xml:space="preserve">') for text in sheet_xml(content).split("<t")[1:])


@given(
    st.lists(
        st.integers()
        | st.integers(2**53 - 2, 2**53 + 2)
        | st.floats()
        | st.decimals(allow_nan=False, allow_infinity=False)
        | st.decimals(places=3, allow_nan=False, allow_infinity=False)
        | st.booleans(),
        min_size=1,
    )
)
@example([math.nan, math.inf, Decimal("1E+400"), 2**53 - 1, 2**53, -(2**53), 0.1, Decimal("0.1")])
@settings(deadline=None)
def test_a_number_is_a_number_only_if_that_is_exact(numbers: list[Any]) -> None:
    content = pack_lists("xlsx", [Field("n", "numeric")], [[number] for number in numbers])
    pattern = r'<c r="A[0-9]+"( t="\w+")?>(?:<v>|<is><t[^>]*>)([^<]*)<'
    found = re.findall(pattern, sheet_xml(content))[1:]
    for number, (kind, text) in zip(numbers, found, strict=True):
        if isinstance(number, bool):
            assert (kind, text) == (' t="b"', str(int(number)))
        elif isinstance(number, float):
            assert kind == ("" if math.isfinite(number) else ' t="inlineStr"')
            assert float(text) == number or math.isnan(number)
        else:
            assert Decimal(text) == number
            assert kind in ("", ' t="inlineStr"')
            if kind == "":
                assert Decimal(repr(float(text))) == number
                assert isinstance(number, Decimal) or abs(number) < 2**53


def test_plain_values_have_their_own_kind_of_cell(path: Path) -> None:
    row = [1, -2.5, Decimal("51.4960000"), True, False, 2**53, "0012", "2020-01-02T03:04:05", {"a": 1}]
    kinds = ["int", "float8", "numeric", "bool", "bool", "int8", "text", "timestamp", "json"]
    fields = [Field(f"f{number}", kind) for number, kind in enumerate(kinds)]
    content = pack(path, "xlsx", fields, [Page(1, [row])])
    expected = [1, -2.5, 51.496, True, False, "9007199254740992", "0012", "2020-01-02T03:04:05", '{"a": 1}']
    assert cells(content)[0] == expected
    assert [cell.data_type for cell in sheets(content)["Data"][1]] == [*"nnnbb", *"ssss"]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "http://a.b/c", "mailto:a@b.c", "1e5", "TRUE"],
)
def test_text_is_never_a_formula_a_link_or_a_number(path: Path, text: str) -> None:
    content = pack(path, "xlsx", [Field(text)], [Page(1, [[text]])])
    for (cell,) in sheets(content)["Data"]:
        assert (cell.value, cell.data_type, cell.hyperlink) == (text, "s", None)
    assert "<f" not in sheet_xml(content)


@pytest.mark.parametrize("value", [None, ""])
def test_what_is_empty_has_no_cell(path: Path, value: str | None) -> None:
    content = pack(path, "xlsx", FIELDS, [Page(1, [[1, value, "after"]])])
    assert cells(content) == [[1, None, "after"]]
    assert 'r="B2"' not in sheet_xml(content)


def test_a_table_too_long_for_a_sheet_goes_on_in_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlsx, "_MOST_ROWS", 4)
    rows = [[number] for number in range(7)]
    content = pack(path, "xlsx", [Field("n", "int")], [Page(5, rows[:5]), Page(2, rows[5:])])
    found = {title: [cell.value for (cell,) in rows] for title, rows in sheets(content).items()}
    assert found == {"Data": ["n", 0, 1, 2], "Data 2": ["n", 3, 4, 5], "Data 3": ["n", 6]}


def test_a_full_sheet_is_not_followed_by_an_empty_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "_MOST_ROWS", 4)
    content = pack(path, "xlsx", [Field("n", "int")], [Page(3, [[0], [1], [2]])])
    assert list(sheets(content)) == ["Data"]


def test_excels_widest_table_is_written_and_a_wider_one_refused_at_once(path: Path) -> None:
    fields = [Field(f"c{number}", "int") for number in range(16_385)]
    content = pack(path, "xlsx", fields[:-1], [])
    last = sheets(content)["Data"][0][-1]
    assert (last.coordinate, last.value) == ("XFD1", "c16383")
    with pytest.raises(PackageError, match="16,385 columns"):
        pack(path, "xlsx", fields, [])


@pytest.mark.parametrize("fitting", ["x" * 32_767, "😀" * 16_383 + "x", "&" * 32_767, "\ud800" * 32_767])
def test_excels_longest_text_is_written_and_a_longer_one_refused(path: Path, fitting: str) -> None:
    assert cells(pack(path, "xlsx", FIELDS, [Page(1, [[1, None, fitting]])])) == [[1, None, fitting]]
    with pytest.raises(PackageError, match=r"Row 2 has 32,768 characters in the column note,"):
        pack(path, "xlsx", FIELDS, [Page(2, [[1, None, fitting], [1, None, fitting + "x"]])])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_workbook_is_stored_and_not_compressed_twice(path: Path) -> None:
    content = pack(path, "xlsx", FIELDS, [Page(4, ROWS)])
    with zipfile.ZipFile(path) as package:
        assert package.getinfo("resource.xlsx").compress_size == len(content)


def test_the_unfinished_workbook_lies_in_the_scratch_folder(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with (
        ZipArchive(tmp_path / "package.zip", scratch=tmp_path / "scratch") as archive,
        WRITERS["xlsx"](archive, FIELDS),
    ):
        assert len(list((tmp_path / "scratch").iterdir())) == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_in_the_workbook_bears_the_time_given(path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(pack(path, "xlsx", FIELDS, []))) as workbook:
        assert {info.date_time for info in workbook.infolist()} == {(2024, 5, 6, 7, 8, 10)}


def test_the_header_stays_in_view(path: Path) -> None:
    workbook = openpyxl.load_workbook(io.BytesIO(pack(path, "xlsx", FIELDS, [])))
    assert workbook["Data"].freeze_panes == "A2"
