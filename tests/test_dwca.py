"""Whole archives: whatever the rows hold, readers that are not ours find in them what the rules say."""

import datetime
import functools
import json
import math
import re
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from lxml import etree

from ckanpackager.archive import CommandArchive, ZipArchive
from ckanpackager.dwc import configuration
from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.plan import Column, Dynamic, File, ListKey, Plan, plan
from ckanpackager.errors import PackageError
from ckanpackager.sources.base import Field, Page
from ckanpackager.writers.dwca import DwcArchiveWriter
from tests.archives import DWC, GBIF, MEDIA, NOW, TEXT, Made, make, read, schema
from tests.archives import settings as settings_of

COLUMNS = ["_id", "Scientific Name", "Locality", "Weight", "associatedMedia"]
RECORDS = [
    [
        1,
        "Rosa canina",
        'a "word", or two',
        "3 mg",
        [{"identifier": "http://x/1"}, {"identifier": "http://x/2"}],
    ],
    [2, None, "two\nlines\tand a tab", None, None],
    [5, "Größe 日本", "", "4", '[{"identifier": "http://x/3", "title": "ü, \\"x\\""}]'],
]
# A command that adds one file to a ZIP.
_SCRIPT = "import os, sys, zipfile; zipfile.ZipFile(sys.argv[1], 'a').write(sys.argv[2], os.path.basename(sys.argv[2]))"
PACK = f'{sys.executable} -c "{_SCRIPT}" {{output}} {{input}}'
EML = "<?xml version='1.0' encoding='latin-1'?>\n<eml id='{package_id}'><d>{pub_date} {date_stamp} {x}</d>é</eml>"


@pytest.fixture(scope="module", autouse=True)
def _definitions_are_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configuration, "load", functools.cache(configuration.load))
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def sample(folder: Path, **options: Any) -> Made:
    return make(folder, COLUMNS, RECORDS, options=options, DWC_EXTENSION_FIELDS=MEDIA)


class TestRules:
    def test_r1_there_is_one_core_and_it_is_first(self, folder: Path) -> None:
        assert [etree.QName(child).localname for child in sample(folder).meta()] == ["core", "extension"]

    def test_r1_case_10_also_where_the_first_column_is_an_extensions(self, folder: Path) -> None:
        made = make(
            folder, ["associatedMedia", "_id", "genus"], [([{}], 1, "Rosa")], DWC_EXTENSION_FIELDS=MEDIA
        )
        assert [etree.QName(child).localname for child in made.meta()] == ["core", "extension"]
        assert made.names[0] == "occurrence.csv"

    def test_r2_every_attribute_of_the_format_is_written(self, folder: Path) -> None:
        for file in sample(folder).meta():
            assert file.keys() == [
                "encoding",
                "linesTerminatedBy",
                "fieldsTerminatedBy",
                "fieldsEnclosedBy",
                "ignoreHeaderLines",
                "rowType",
            ]

    def test_r3_files_then_the_id_then_the_fields(self, folder: Path) -> None:
        core, extension = sample(folder).meta()
        assert [etree.QName(child).localname for child in core][:3] == ["files", "id", "field"]
        assert [etree.QName(child).localname for child in extension][:3] == ["files", "coreid", "field"]
        assert core[1].get("index") == extension[1].get("index") == "0"

    def test_r4_case_12_a_resource_with_nothing_for_the_core_is_refused(self, folder: Path) -> None:
        with pytest.raises(PackageError, match="_id, associatedMedia"):
            make(folder, ["_id", "associatedMedia"], [], DWC_EXTENSION_FIELDS=MEDIA, DWC_DYNAMIC_TERM=None)

    def test_r4_an_id_that_is_a_term_is_field_enough(self, folder: Path) -> None:
        made = make(folder, ["occurrenceID"], [("a",), ("b",)], DWC_ID_FIELD="occurrenceID")
        assert [row.data for row in read(made.path)] == [{DWC + "occurrenceID": name} for name in "ab"]

    def test_r5_case_19_two_extensions_of_one_name_are_two_files(self, folder: Path) -> None:
        fields = {
            "photos": {"extension": "multimedia", "fields": {"identifier": ""}},
            "media": {
                "extension": "audiovisual",
                "fields": {"identifier": "", "dcterms:type": "", "dc:type": ""},
            },
        }
        record = (
            1,
            "Rosa",
            [{"identifier": "p"}],
            [{"identifier": "m", "dcterms:type": "a", "dc:type": "b"}],
        )
        made = make(folder, ["_id", "genus", "photos", "media"], [record], DWC_EXTENSION_FIELDS=fields)
        row_types = [file.get("rowType") for file in made.meta()]
        assert len(set(row_types)) == len(row_types) == 3
        assert made.column("identifier", "multimedia.csv") == ["p"]
        assert made.column("identifier", "multimedia_2.csv") == ["m"]
        (row,) = read(made.path)
        (_, data) = row.extensions[1]
        assert (data["http://purl.org/dc/terms/type"], data["http://purl.org/dc/elements/1.1/type"]) == (
            "a",
            "b",
        )

    def test_r6_no_term_is_in_a_file_twice(self, folder: Path) -> None:
        columns = ["_id", "Scientific Name", "scientificName", "dynamicProperties", "Dynamic Properties", "x"]
        made = make(folder, columns, [(1, "a", "b", "c", "d", "e")])
        for file in made.meta():
            terms = [field.get("term") for field in file.iter(f"{TEXT}field")]
            assert len(set(terms)) == len(terms)

    @pytest.mark.parametrize(("format", "separator"), [("csv", ","), ("tsv", "\\t"), ("xlsx", ",")])
    def test_r7_escapes_are_a_backslash_and_a_letter(self, folder: Path, format: str, separator: str) -> None:
        for file in sample(folder, format=format).meta():
            assert file.get("linesTerminatedBy") == "\\n"
            assert file.get("fieldsTerminatedBy") == separator

    @pytest.mark.parametrize("format", ["csv", "tsv", "xlsx"])
    def test_r8_case_13_meta_xml_tells_the_truth_of_every_format(self, folder: Path, format: str) -> None:
        made = sample(folder, format=format)
        suffix = "tsv" if format == "tsv" else "csv"
        assert made.names == [f"occurrence.{suffix}", f"multimedia.{suffix}", "meta.xml"]
        for file in made.meta():
            header, *lines = made.table(file.findtext(f"{TEXT}files/{TEXT}location"))
            fields = list(file.iter(f"{TEXT}field"))
            assert [int(field.get("index")) for field in fields] == list(range(1, len(header)))
            assert [field.get("term").rpartition("/")[2] for field in fields] == header[1:]
            assert all(len(line) == len(header) for line in lines)
        assert [row.data[DWC + "scientificName"] for row in read(made.path)] == [
            "Rosa canina",
            "",
            "Größe 日本",
        ]

    @pytest.mark.parametrize(("format", "delimiter"), [("csv", b","), ("tsv", b"\t")])
    def test_r9_only_what_must_be_is_quoted_and_quotes_are_doubled(
        self, folder: Path, format: str, delimiter: bytes
    ) -> None:
        cells = ['"', "a,b", "a\\b", "a\\", " a ", "'", "#", ""]
        made = make(folder, ["_id", "locality"], list(enumerate(cells)), options={"format": format})
        quoted = b'"a,b"' if format == "csv" else b"a,b"
        expected = [b'""""', quoted, b"a\\b", b"a\\", b" a ", b"'", b"#", b""]
        lines = [b"%d%s%s" % (number, delimiter, cell) for number, cell in enumerate(expected)]
        assert made.read(f"occurrence.{format}") == b"\n".join([b"_id%slocality" % delimiter, *lines, b""])
        assert [row.data[DWC + "locality"] for row in read(made.path)] == cells

    def test_r9_no_file_begins_with_a_byte_order_mark(self, folder: Path) -> None:
        made = make(folder, ["\ufeffkey", "genus"], [(1, "\ufeffRosa")], DWC_ID_FIELD="\ufeffkey")
        assert made.table("occurrence.csv") == [["key", "genus"], ["1", "\ufeffRosa"]]

    def test_r10_no_file_has_a_control_character_but_the_ends_of_lines(self, folder: Path) -> None:
        everything = "".join(map(chr, range(256)))
        made = make(
            folder,
            ["_id", "locality", everything, "associatedMedia"],
            [(1, everything, everything, [{"title": everything}])],
            DWC_EXTENSION_FIELDS=MEDIA,
        )
        for name in ("occurrence.csv", "multimedia.csv"):
            content = made.read(name)
            assert content.count(b"\n") == 2
            assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", content)
        (row,) = read(made.path)
        assert row.data[DWC + "locality"] == re.sub("[\x00-\x1f\x7f]", " ", everything)
        assert json.loads(row.data[DWC + "dynamicProperties"]).popitem()[1] == everything

    def test_r11_ids_are_the_first_column_of_each_file(self, folder: Path) -> None:
        made = sample(folder)
        assert made.column("_id") == ["1", "2", "5"]
        assert made.column("_id", "multimedia.csv") == ["1", "1", "5"]

    def test_r12_rows_of_extensions_are_joined_to_their_core(self, folder: Path) -> None:
        found = {
            row.id: [data["http://purl.org/dc/terms/identifier"] for _, data in row.extensions]
            for row in read(sample(folder).path)
        }
        assert found == {"1": ["http://x/1", "http://x/2"], "2": [], "5": ["http://x/3"]}

    def test_r13_nulls_are_empty_cells(self, folder: Path) -> None:
        nothing = [None, math.nan, math.inf, Decimal("NaN"), [], {}]
        made = make(folder, ["_id", "locality"], list(enumerate(nothing)))
        assert made.column("locality") == [""] * len(nothing)

    def test_r14_metadata_is_there_as_utf_8_and_named(self, folder: Path) -> None:
        made = sample(folder, eml=EML)
        assert made.meta().get("metadata") == "eml.xml"
        root = etree.fromstring(made.read("eml.xml"))
        assert (root.get("id"), root.findtext("d")) == ("a-package", "2024-05-06 2024-05-06T07:08:09Z {x}")
        assert b'encoding="UTF-8"' in made.read("eml.xml")

    def test_d4_without_metadata_none_is_named_and_the_summary_says_so(self, folder: Path) -> None:
        made = sample(folder)
        assert made.meta().get("metadata") is None
        assert "eml.xml" not in made.names
        assert "EML_NOT_FOUND" in made.summary.text()

    @pytest.mark.skipif(schema() is None, reason="the schema of meta.xml is not at hand (GBIF_DATA)")
    @pytest.mark.parametrize("options", [{}, {"format": "tsv"}, {"eml": EML, "for_gbif": True}])
    def test_meta_xml_is_valid(self, folder: Path, options: dict[str, Any]) -> None:
        schema().assertValid(sample(folder, **options).meta())


class TestFiles:
    @pytest.mark.parametrize("format", ["csv", "tsv", "xlsx"])
    def test_case_11_no_rows_leave_the_header_of_the_core_alone(self, folder: Path, format: str) -> None:
        made = make(folder, COLUMNS, [], options={"format": format}, DWC_EXTENSION_FIELDS=MEDIA)
        name = "occurrence.tsv" if format == "tsv" else "occurrence.csv"
        assert made.names == [name, "meta.xml"]
        assert made.table(name) == [["_id", "scientificName", "locality", "dynamicProperties"]]
        assert read(made.path) == []
        assert made.summary.files == {name: 0}

    def test_case_11_an_extension_without_rows_is_not_there(self, folder: Path) -> None:
        made = make(folder, COLUMNS, RECORDS[1:2], DWC_EXTENSION_FIELDS=MEDIA)
        assert made.names == ["occurrence.csv", "meta.xml"]
        assert len(made.meta()) == 1
        assert made.summary.files == {"occurrence.csv": 1}

    @pytest.mark.parametrize("for_gbif", [True, False])
    def test_case_40_gbif_json_is_there_when_asked_for(self, folder: Path, for_gbif: bool) -> None:
        made = sample(folder, for_gbif=for_gbif)
        assert ("gbif.json" in made.names) == for_gbif
        if for_gbif:
            assert json.loads(made.read("gbif.json")) == {"time": int(NOW.timestamp())}
            assert len(read(made.path)) == 3

    def test_the_time_in_the_metadata_is_utcs(self, folder: Path) -> None:
        there = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=-9)))
        assert b"2024-05-06 2024-05-06T07:08:09Z" in sample(folder, eml=EML, now=there).read("eml.xml")

    def test_an_id_field_with_a_strange_name_is_quoted_in_the_header(self, folder: Path) -> None:
        made = make(folder, ['a,"\n', "genus"], [(1, "Rosa")], DWC_ID_FIELD='a,"\n')
        assert made.table("occurrence.csv")[0] == ['a," ', "genus"]

    @pytest.mark.skipif(not GBIF.is_dir(), reason=f"GBIF's own files are not in {GBIF} (GBIF_DATA)")
    @pytest.mark.parametrize(
        ("names", "files"),
        [
            (
                ["occurrence", "measurement_or_fact", "multimedia"],
                [
                    "dwc_occurrence_2025-07-10.xml",
                    "measurements_or_facts_2025-07-10.xml",
                    "multimedia.xml",
                ],
            ),
            (
                ["occurrence-2014", "measurement_or_fact-2014", "multimedia-2014"],
                [
                    "upstream2014/dwc_occurrence.xml",
                    "upstream2014/measurements_or_facts.xml",
                    "upstream2014/multimedia.xml",
                ],
            ),
        ],
    )
    def test_d1_gbifs_own_definitions_by_their_paths_make_the_same_archive(
        self, tmp_path: Path, names: list[str], files: list[str]
    ) -> None:
        def made_by(folder: str, core: str, additional: str, extension: str) -> bytes:
            (tmp_path / folder).mkdir()
            made = make(
                tmp_path / folder,
                [*COLUMNS, "Measurement type"],
                [[*record, "height"] for record in RECORDS],
                DWC_CORE_EXTENSION=core,
                DWC_ADDITIONAL_EXTENSIONS=[additional],
                DWC_EXTENSION_FIELDS={
                    "associatedMedia": {**MEDIA["associatedMedia"], "extension": extension}
                },
            )
            assert len(made.meta()) == 3
            return made.path.read_bytes()

        assert made_by("shipped", *names) == made_by("gbifs", *(str(GBIF / file) for file in files))

    def test_pages_of_any_size_make_the_same_archive(self, tmp_path: Path) -> None:
        archives = []
        for pages in (1, 2, 1000):
            (tmp_path / str(pages)).mkdir()
            made = make(tmp_path / str(pages), COLUMNS, RECORDS, pages=pages, DWC_EXTENSION_FIELDS=MEDIA)
            archives.append((made.path.read_bytes(), made.summary.to_dict()))
        assert archives[0] == archives[1] == archives[2]

    def test_it_is_written_into_the_admins_archive_too(self, tmp_path: Path) -> None:
        path = tmp_path / "archive.zip"
        fields = [Field(name) for name in COLUMNS]
        made_plan = plan(fields, Configuration.from_settings(settings_of(DWC_EXTENSION_FIELDS=MEDIA)))
        with (
            CommandArchive(path, PACK, now=NOW) as archive,
            DwcArchiveWriter(archive, fields, made_plan, package_id="1", now=NOW) as writer,
        ):
            writer.write(Page(len(RECORDS), RECORDS))
        assert len(read(path)) == 3

    def test_left_by_an_exception_it_leaves_no_archive_and_no_files(self, tmp_path: Path) -> None:
        path = tmp_path / "archive.zip"
        fields = [Field(name) for name in COLUMNS]
        made = plan(fields, Configuration.from_settings(settings_of(DWC_EXTENSION_FIELDS=MEDIA)))
        with (
            pytest.raises(RuntimeError),
            ZipArchive(path) as archive,
            DwcArchiveWriter(archive, fields, made, package_id="1", now=NOW) as writer,
        ):
            writer.write(Page(len(RECORDS), RECORDS))
            raise RuntimeError("the source died")
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
        assert not zipfile.is_zipfile(path)


# ------------------------------------------------------------------- anything

CHARACTERS = st.characters(exclude_categories=()) | st.sampled_from('\0\n\r\t\x7f",;\\\ud800{[NaN')
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        [10**400, math.nan, math.inf, 1e-300, 1e300, Decimal("1E-30"), Decimal("NaN"), "NaN", "1e999", " "]
    )
    | st.floats()
    | st.decimals(allow_nan=False, allow_infinity=False, places=9)
    | st.text(CHARACTERS, max_size=12)
)
WHOLE = st.characters(exclude_categories=("Cs",))
KEYS = st.text(WHOLE | st.sampled_from('\n",\\'), max_size=4)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
# Of two kinds of rows, ours and those that Python's json writes, with its NaN.
TEXTS_OF_JSON = st.builds(lambda value: json.dumps(value, default=str), JSON)
ANYTHING = JSON | TEXTS_OF_JSON
OBJECTS = st.dictionaries(
    st.sampled_from(["type", "format", "identifier", "title", "mime", "creator", "dcterms:type", "other"]),
    SCALARS,
    max_size=5,
)
LISTS = st.lists(OBJECTS | SCALARS, max_size=3) | OBJECTS
LISTS = LISTS | st.builds(lambda value: json.dumps(value, default=str), LISTS) | SCALARS
PHOTOS = {
    "extension": "multimedia",
    "fields": {"type": "StillImage", "format": "jpeg", "identifier": "", "title": 0},
    "mappings": {"format": "mime", "creator": "creator"},
    "formatters": {"format": "image_type"},
}
LIST_FIELDS = {
    **MEDIA,
    "photos": PHOTOS,
    "sounds": {"extension": "audiovisual", "fields": {"identifier": "", "dcterms:type": "", "type": "Sound"}},
}
NAMES = st.sampled_from(
    [
        "scientificName", "Scientific Name", "scientific name ", "Event date", "decimal latitude", "occurrenceID",
        "decimalLongitude", "Basis of record", "creator", "Creator", "title", "measurementType", "type", "Type",
        "dynamicProperties", "Dynamic properties", "foo bar", "Foo Bar", "fooBar",
    ]
)  # fmt: skip
NAMES = NAMES | st.text(WHOLE, min_size=1, max_size=6)


@dataclass(frozen=True)
class World:
    """A resource, and what the settings say of it."""

    columns: list[str]
    records: list[list[Any]]
    dwc: dict[str, Any]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    core = draw(st.sampled_from(["occurrence", "occurrence-2014", "event", "taxon"]))
    own = {"taxon": "taxonRemarks"}.get(core, "dynamicProperties")
    id_field = draw(st.sampled_from(["_id", "key", "occurrenceID"]))
    lists = draw(st.lists(st.sampled_from(sorted(LIST_FIELDS)), unique=True, max_size=3))
    names = draw(st.lists(NAMES, unique=True, max_size=7).map(set)) - {id_field, *lists}
    columns = draw(st.permutations([id_field, "parentEventID", "family", *lists, *sorted(names)]))
    more = st.lists(st.sampled_from(["multimedia", "audiovisual", "measurement_or_fact"]), unique=True)
    dwc = {
        "DWC_ID_FIELD": id_field,
        "DWC_CORE_EXTENSION": core,
        "DWC_DYNAMIC_TERM": draw(st.sampled_from([own, None])),
        "DWC_DYNAMIC_KEYS": draw(st.sampled_from(["camel", "verbatim"])),
        "DWC_ADDITIONAL_EXTENSIONS": draw(more),
        "DWC_EXTENSION_FIELDS": {name: LIST_FIELDS[name] for name in lists},
    }
    ids = st.integers(0, 9) | st.text(st.sampled_from('aA,"\t é'), max_size=3)
    values = {name: LISTS if name in lists else ids if name == id_field else ANYTHING for name in columns}
    records = draw(st.lists(st.tuples(*map(values.__getitem__, columns)).map(list), max_size=5))
    return World(
        columns, records + draw(st.lists(st.sampled_from(records), max_size=1)) if records else [], dwc
    )


def words(value: Any) -> str:
    """A value as the rules have it, told another way than the package tells it."""
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return format(value, "d")
    if isinstance(value, float | Decimal):
        number = Decimal(str(value))
        return format(number, "f") if number.is_finite() else ""
    if isinstance(value, list) and not [member for member in value if isinstance(member, list | dict)]:
        return " | ".join(filter(None, map(words, value)))
    return value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    """JSON as Python writes it, with numbers of their own digits."""
    numbers: list[str] = []

    def marked(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {valid(key): marked(member) for key, member in sorted(inner.items())}
        if isinstance(inner, list):
            return list(map(marked, inner))
        if isinstance(inner, float | Decimal | int) and not isinstance(inner, bool):
            numbers.append(words(inner) or "null")
            return f"\ue000{len(numbers) - 1}\ue000"
        return valid(inner) if isinstance(inner, str) else inner

    text = json.dumps(marked(value), ensure_ascii=False)
    return re.sub('"\ue000([0-9]+)\ue000"', lambda mark: numbers[int(mark[1])], text).replace(
        "\x7f", "\\u007f"
    )


def valid(text: str) -> str:
    return re.sub("[\ud800-\udfff]", "\ufffd", re.sub("([\ud800-\udbff])([\udc00-\udfff])", _paired, text))


def _paired(pair: "re.Match[str]") -> str:
    return chr(0x10000 + ((ord(pair[1]) - 0xD800) << 10) + ord(pair[2]) - 0xDC00)


def expected(value: Any) -> str:
    return re.sub("[\x00-\x1f\x7f]", " ", valid(words(value)))


def is_blank(value: Any) -> bool:
    return not words(value).strip()


def unpacked(text: Any, constant: Callable[[str], Any]) -> Any:
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=constant)
    except (ValueError, TypeError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)


class Model:
    """What the rules make of records, one by one and cell by cell, for a plan."""

    def __init__(self, made_plan: Plan) -> None:
        self.plan = made_plan
        self.files: list[list[list[str]]] = [[] for _ in (made_plan.core, *made_plan.extensions)]
        self.skipped: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self._rows: dict[str, Any] = {}

    def add(self, record: dict[str, Any]) -> bool:
        """Does the record go with those before it?"""
        identifier = re.sub('[,"]', " ", expected(record[self.plan.id_field])).strip()
        if not identifier:
            return False
        before = Counter(self.skipped), Counter(self.lost)
        losers: dict[str, Any] = {}
        core = [self._best(column, record, losers) for column in self.plan.core.columns]
        extensions = [self._rows_of(file, record, losers) for file in self.plan.extensions]
        if self.plan.dynamic is not None:
            core[-1] = self._object(self.plan.dynamic, record, losers)
        files = [[core], *extensions]
        if identifier in self._rows:
            self.skipped, self.lost = before
            return bool(self._rows[identifier] == files)
        self._rows[identifier] = files
        for file, rows in zip(self.files, files, strict=True):
            file += [[identifier, *row] for row in rows]
        return True

    def _best(self, column: Column, record: dict[str, Any], losers: dict[str, Any]) -> str:
        cell = expected(record[column.sources[0]]) if column.sources else ""
        for name in column.sources[1:]:
            other = expected(record[name])
            if other.strip() and not cell.strip():
                cell = other
            elif other.strip() and other != cell:
                losers[name] = record[name]
                self.lost[name] += 1
        return cell

    def _rows_of(self, file: File, record: dict[str, Any], losers: dict[str, Any]) -> list[list[str]]:
        plain = {column.term: self._best(column, record, losers) for column in file.columns}
        rows, any_object = [], False
        for field in file.lists:
            keys = {key.term: key for key in field.keys}
            for element in self._objects(field.column, record[field.column]):
                any_object = True
                rows.append([self._cell(keys.get(term), element, cell) for term, cell in plain.items()])
        if not any_object:
            rows = [list(plain.values())]
        return [row for row in rows if "".join(row).strip()]

    def _cell(self, key: ListKey | None, element: dict[str, Any], plain: str) -> str:
        if key is None:
            return plain
        value = element.get(key.key)
        if key.formatter and isinstance(value, str) and value.strip() and "/" not in value:
            value = f"image/{value.strip()}"
        return next((cell for cell in (expected(value), plain) if cell.strip()), expected(key.default))

    def _objects(self, column: str, value: Any) -> list[dict[str, Any]]:
        found = unpacked(value, lambda constant: None) if isinstance(value, str) else value
        elements = found if isinstance(found, list) else [] if is_blank(found) else [found]
        objects = [element for element in elements if isinstance(element, dict)]
        self.skipped[column] += len(elements) - len(objects)
        return objects

    def _object(self, dynamic: Dynamic, record: dict[str, Any], losers: dict[str, Any]) -> str:
        members = {key: record[column] for column, key in dynamic.keys if not is_blank(record[column])}
        members |= {key: losers[column] for column, key in dynamic.losers if column in losers}
        if dynamic.own is not None:
            own = record[dynamic.own]
            found = unpacked(own, _refuse) if isinstance(own, str) else own
            is_more = isinstance(found, dict) and not members.keys() & found.keys()
            members |= found if is_more else {dynamic.term.name: own}
        opened = {key: self._opened(value) for key, value in members.items()}
        pairs = [
            f"{as_json(key)}: {as_json(opened[key])}" for key in sorted(opened) if not is_blank(opened[key])
        ]
        return f"{{{', '.join(pairs)}}}" if pairs else ""

    def _opened(self, value: Any) -> Any:
        found = unpacked(value, _refuse) if isinstance(value, str) else value
        return found if isinstance(found, list | dict) else value


@settings(max_examples=300)
@given(
    world=worlds(),
    format=st.sampled_from(["csv", "tsv", "xlsx"]),
    pages=st.integers(1, 5),
    eml=st.sampled_from([None, EML]),
    for_gbif=st.booleans(),
)
def test_whatever_comes_makes_a_valid_archive_of_what_the_rules_say(
    world: World, format: str, pages: int, eml: str | None, for_gbif: bool
) -> None:
    made_plan = plan(
        [Field(name) for name in world.columns], Configuration.from_settings(settings_of(**world.dwc))
    )
    model = Model(made_plan)
    options = {"format": format, "eml": eml, "for_gbif": for_gbif}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not all(model.add(dict(zip(world.columns, record, strict=True))) for record in world.records):
            event("refused")
            with pytest.raises(
                PackageError, match="(?s)^(Row [0-9]+ has no value|Two different rows) .*DWC_ID_FIELD"
            ):
                make(folder, world.columns, world.records, pages=pages, options=options, **world.dwc)
            return
        made = make(folder, world.columns, world.records, pages=pages, options=options, **world.dwc)
        suffix = "tsv" if format == "tsv" else "csv"
        files = [made_plan.core, *made_plan.extensions]
        names = [
            f"{file.stem}.{suffix}"
            for file, rows in zip(files, model.files, strict=True)
            if rows or file is made_plan.core
        ]
        metadata = ["meta.xml", *(["eml.xml"] if eml else []), *(["gbif.json"] if for_gbif else [])]
        assert made.names == [*names, *metadata]
        for file, rows in zip(files, model.files, strict=True):
            if f"{file.stem}.{suffix}" in names:
                assert made.table(f"{file.stem}.{suffix}")[1:] == rows
    assert made.summary.repeated_rows == len(world.records) - len(model.files[0])
    assert made.summary.skipped == +model.skipped
    assert made.summary.lost == +model.lost
    json.dumps(made.summary.to_dict())
    made.summary.text().encode()
