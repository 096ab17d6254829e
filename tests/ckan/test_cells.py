"""The cells of a package are those of CKAN's own dump, on every type."""

import io
import itertools
from decimal import Decimal

import openpyxl
import pytest

from tests.ckan.bed import RealCkan
from tests.ckan.conftest import Tables
from tests.ckan.data import ROWS, TYPES
from tests.ckan.orders import Counter
from tests.ckan.queries import Parameters

NUMBERS = ["a int2", "a int4", "a int8", "a numeric", "a float4", "a float8"]


@pytest.mark.parametrize("format_", ["csv", "tsv"])
def test_every_type_is_written_as_ckan_writes_it(
    counter: Counter, ckan: RealCkan, tables: Tables, format_: str
) -> None:
    package = counter.package(resource_id=tables.every_type, api_url=ckan.api_url, format=format_)
    member = f"resource.{format_}"
    header, _, rows = ckan.dump(tables.every_type, format=format_).partition(b"\r\n")
    assert package.read(member).partition(b"\n")[0].rstrip(b"\r") == header
    assert package.read(member).partition(b"\n")[2] == rows


@pytest.mark.parametrize("type_", TYPES)
def test_a_column_alone_is_written_as_ckan_writes_it(
    counter: Counter, ckan: RealCkan, tables: Tables, type_: str
) -> None:
    """Where a line is one cell, an empty line is a row."""
    name = f"a {type_}"
    package = counter.package(resource_id=tables.every_type, api_url=ckan.api_url, fields=[name])
    assert package.body == ckan.dump(tables.every_type, fields=name).partition(b"\r\n")[2]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"filters": '{"Genus": ["Rosa", "Zea"]}'},
        {"sort": "Number desc"},
        {"fields": "Label,_id,Collected"},
        {"offset": "10000", "limit": "12345"},
        {
            "filters": '{"Alive": "true"}',
            "sort": "Number",
            "fields": "Number,Price",
            "offset": "3",
            "limit": "9000",
        },
        {"fields": "Genus", "distinct": "true", "sort": "Genus"},
    ],
    ids=str,
)
def test_a_package_is_the_dump_of_the_same_query(
    counter: Counter, ckan: RealCkan, tables: Tables, query: Parameters
) -> None:
    package = counter.package(resource_id=tables.specimens, api_url=ckan.api_url, **query)
    header, _, rows = ckan.dump(tables.specimens, **query).partition(b"\r\n")
    assert package.header == header
    assert package.body == rows


def test_numbers_stay_exact_in_a_spreadsheet(counter: Counter, ckan: RealCkan, tables: Tables) -> None:
    package = counter.package(
        resource_id=tables.every_type, api_url=ckan.api_url, fields=NUMBERS, format="xlsx"
    )
    sheet = openpyxl.load_workbook(io.BytesIO(package.read("resource.xlsx"))).active
    assert sheet is not None
    header, *rows = sheet.iter_rows(values_only=True)
    assert list(header) == NUMBERS
    columns = ", ".join(f'"{name}"::text' for name in NUMBERS)
    expected = ckan.psql(f'SELECT {columns} FROM "{tables.every_type}" ORDER BY _id')
    # A row without a value at the end of a sheet is none.
    for came, wanted in itertools.zip_longest(rows, expected, fillvalue=(None,) * len(NUMBERS)):
        for cell, text in zip(came, wanted, strict=True):
            assert (cell is None) == (text is None)
            if text is not None:
                number = Decimal(text)
                assert Decimal(str(cell)) == number or (number.is_nan() and cell == "NaN"), (cell, text)


def test_a_spreadsheet_holds_every_row(counter: Counter, ckan: RealCkan, tables: Tables) -> None:
    package = counter.package(
        resource_id=tables.specimens,
        api_url=ckan.api_url,
        sort="Number desc",
        fields=["Number"],
        format="xlsx",
    )
    workbook = openpyxl.load_workbook(io.BytesIO(package.read("resource.xlsx")), read_only=True)
    assert workbook.active is not None
    values = [row[0] for row in workbook.active.iter_rows(values_only=True)]
    workbook.close()
    assert values == ["Number", *range(ROWS - 1, -1, -1)]
