"""A value of CKAN's becomes a cell that every reader takes as it was meant."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager.dwc import values
from ckanpackager.dwc.columns import Texts
from ckanpackager.dwc.summary import Summary
from ckanpackager.errors import PackageError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters(exclude_categories=()))
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("code", [*range(32), 127])
def test_r10_every_control_character_becomes_one_space(code: int) -> None:
    assert values.cell(f"one{chr(code)}two") == "one two"
    assert values.cell(f"{chr(code)}{chr(code)}") == "  "


def test_r10_nothing_else_is_changed() -> None:
    text = " \u0085\u00a0\u2028 Größe 日本 \U0001f41e "
    assert values.cell(text) == text


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        [],
        {},
        [None],
        [None, ""],
        math.nan,
        math.inf,
        Decimal("NaN"),
        Decimal("-Infinity"),
        Decimal("sNaN"),
    ],
)
def test_r13_what_says_nothing_is_an_empty_cell(value: Any) -> None:
    assert values.cell(value) == ""
    assert values.is_blank(value)


@pytest.mark.parametrize("value", [0, False, 0.0, Decimal("0.00"), "0", [0], {"a": None}])
def test_zero_and_false_say_something(value: Any) -> None:
    assert not values.is_blank(value)
    assert values.cell(value) != ""


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (True, "true"),
        (False, "false"),
        (["A", "Bé"], "A | Bé"),
        (["A", None, 3, True, Decimal("1.50")], "A | 3 | true | 1.50"),
        ({"b": [1, None], "a": "é\n"}, '{"a": "é\\n", "b": [1, null]}'),
        ([["a"], "b"], '[["a"], "b"]'),
        ([{"a": math.nan}], '[{"a": null}]'),
    ],
)
def test_case_29_lists_objects_and_booleans_are_what_darwin_core_makes_of_them(value: Any, cell: str) -> None:
    assert values.cell(value) == cell


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (1e-07, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (51.5, "51.5"),
        (-0.0, "-0.0"),
        (Decimal("51.4960000"), "51.4960000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("1.5E+3"), "1500"),
        (Decimal("0E-9"), "0.000000000"),
        (10**30, "1" + "0" * 30),
    ],
)
def test_case_38_numbers_are_plain_decimals_with_all_their_digits(value: Any, cell: str) -> None:
    assert values.cell(value) == cell


def test_an_integer_of_thousands_of_digits_is_written_too() -> None:
    assert values.cell(10**5000) == "1" + "0" * 5000
    assert list(Texts(",", Summary()).cells([10**5000, 1]).cells) == ["1" + "0" * 5000, "1"]


def test_a_number_that_would_fill_the_memory_keeps_its_exponent() -> None:
    assert values.cell(Decimal("1E+999999999")) == "1E+999999999"


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff", "\udc00\ud800"])
def test_half_a_surrogate_pair_becomes_a_character_that_utf_8_has(text: str) -> None:
    assert "\ufffd" in values.cell(text)
    values.cell(text).encode("utf-8", errors="strict")
    values.json_text({text: text}).encode("utf-8", errors="strict")


def test_a_whole_surrogate_pair_becomes_its_character() -> None:
    assert values.cell("\ud83d\udc1e") == "\U0001f41e"


def test_json_that_is_nested_too_deeply_is_refused_with_a_sentence() -> None:
    deep: Any = 1.5
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(PackageError, match="nested too deeply"):
        values.cell([deep])


@given(ANYTHING)
def test_a_cell_is_valid_and_never_pythons_own_notation(value: Any) -> None:
    cell = values.cell(value)
    cell.encode("utf-8", errors="strict")
    assert not any(ord(character) < 32 or ord(character) == 127 for character in cell)
    if not isinstance(value, str | list):
        assert cell not in ("None", "True", "False", "nan", "inf", "-inf", "NaN", "Infinity")
    if isinstance(value, float | Decimal) and Decimal(value).is_finite() and Decimal(value).adjusted() < 9999:
        assert "e" not in cell.lower()
        assert Decimal(cell) == (value if isinstance(value, Decimal) else Decimal(repr(value)))
    if isinstance(value, dict) and value:
        json.loads(cell, parse_constant=pytest.fail)


@given(st.lists(ANYTHING, min_size=1, max_size=6), st.sampled_from([",", "\t"]))
def test_a_column_at_once_is_the_same_as_its_cells_one_by_one(column: list[Any], delimiter: str) -> None:
    summary = Summary()
    cells = Texts(delimiter, summary).cells(column)
    assert list(cells.cells) == [values.cell(value) for value in column]
    assert cells.plain == (not any('"' in cell or delimiter in cell for cell in cells.cells))
    assert summary.cleaned == sum(values.text(value) != values.cell(value) for value in column)


@pytest.mark.parametrize(
    "column", [[1, 2, None], [Decimal("1E-7"), 1], ["a", None], [1.5, math.nan], [None, None], [True, 1]]
)
def test_columns_of_one_kind_take_a_shorter_way_to_the_same_cells(column: list[Any]) -> None:
    assert list(Texts(",", Summary()).cells(column).cells) == [values.cell(value) for value in column]


@pytest.mark.parametrize("text", ['{"a": 1.10}', ' ["x"] '])
def test_case_23_text_that_is_an_object_or_an_array_is_nested(text: str) -> None:
    assert values.nested(text) == json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize("text", ["1.10", "NaN", "1e999", "true", '"a"', "{", "[NaN]", '{"a": Infinity}', ""])
def test_case_23_any_other_text_stays_a_text(text: str) -> None:
    assert values.nested(text) == text


@pytest.mark.parametrize("text", ["[" * 9999, "[" * 9999 + "]" * 9999, '{"a":' * 500 + "1" + "}" * 500])
def test_text_that_is_nested_too_deeply_to_be_written_as_json_stays_a_text(text: str) -> None:
    assert values.nested(text) == text
    assert json.loads(values.json_text({"note": values.nested(text)})) == {"note": text}


def test_text_that_is_nested_as_deeply_as_any_that_means_something_is_json() -> None:
    assert values.nested("[" * 99 + "]" * 99) == json.loads("[" * 99 + "]" * 99)


def test_a_number_that_no_decimal_can_be_is_no_json() -> None:
    text = "[1e9999999999999999999]"
    assert values.nested(text) == text
    with pytest.raises(ValueError, match="1e9999999999999999999 is too large or too small"):
        values.parse(text)
