"""CKAN's answers, taken apart without holding a page three times over."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckanpackager.errors import SourceError
from ckanpackager.sources import answers
from ckanpackager.sources.answers import fields_of, page_of, result_of, total_of

FIELDS = [{"id": "_id", "type": "int"}, {"id": '", "fields": [', "type": "text"}]
# What JSON escapes, what looks like an escape, and what looks like the end of the text.
PARTS = [
    "\n",
    "\\",
    '"',
    "\\n",
    "é",
    "日",
    "\U0001f99c",
    "\t",
    "\0",
    "\u2028",
    '", "fields": [',
    "a,b",
    "\r\n",
    "x" * 40,
]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(st.characters(exclude_categories=["Cs"]))).map("".join)


def body(text: str, ascii_only: bool = True, **more: Any) -> bytes:
    """An answer as CKAN writes it."""
    result = {
        "include_total": False,
        **more,
        "records_format": "csv",
        "records": text,
        "fields": FIELDS,
        "total": 7,
    }
    return json.dumps({"help": "...", "success": True, "result": result}, ensure_ascii=ascii_only).encode()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_PIECE", 8)


@given(TEXTS, st.booleans(), st.dictionaries(st.sampled_from(["q", "filters"]), TEXTS))
@example("", True, {})
@example("1,\\\n2,\n", True, {"q": '"records": "'})
def test_the_text_of_a_page_is_what_ckan_sent(text: str, ascii_only: bool, more: dict[str, str]) -> None:
    sent = body(text, ascii_only, **more)
    result = result_of("http://ckan", 200, sent)
    assert result.pop("records") == text.encode()
    assert result == {
        name: value for name, value in orjson.loads(sent)["result"].items() if name != "records"
    }


@pytest.mark.parametrize(
    "more", [{"filters": {"records": "x"}}, {"filters": {"records": 'a", "fields": [1'}}, {"records_": "y"}]
)
def test_a_filter_that_looks_like_the_page_is_not_taken_for_it(more: dict[str, Any]) -> None:
    result = result_of("http://ckan", 200, body("1,a\n2,b\n", **more))
    page = page_of(result, fields_of(result))
    assert (page.records, page.rows, total_of(result)) == (b"1,a\n2,b\n", 2, 7)


@pytest.mark.parametrize("records", [[], [[1, "a"]], [{"_id": 1, '", "fields": [': "a"}]])
def test_rows_that_are_no_text_are_lists(records: list[Any]) -> None:
    result = result_of("http://ckan", 200, body(records))  # type: ignore[arg-type]
    assert page_of(result, fields_of(result)).records == [[1, "a"]] * len(records)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"<html>",
        body("1,a\n")[:-1],
        body("1,a\n").replace(b"1,a", b'1,"a'),
        body("1,a\n").replace(b"1,a", b"1,\xff"),
        body("1,a\n").replace(b"1,a", b"1,\\x"),
        body("1,a\n").replace(b"1,a", b"1,\n"),
    ],
)
def test_what_is_no_json_is_never_a_page(sent: bytes) -> None:
    with pytest.raises(SourceError, match="not JSON"):
        result_of("http://ckan", 200, sent)


def test_numbers_keep_their_digits_where_they_are_asked_for() -> None:
    sent = body([[1, 2]]).replace(b"2]]", b"51.4960000]]")  # type: ignore[arg-type]
    assert str(result_of("http://ckan", 200, sent, exact=True)["records"][0][1]) == "51.4960000"


def test_a_page_beside_the_result_is_not_taken_for_it() -> None:
    sent = b'{"records": "x", "fields": [], "result": {"records": [[1]], "fields": []}}'
    assert result_of("http://ckan", 200, sent)["records"] == [[1]]


def test_a_refusal_is_never_a_page() -> None:
    with pytest.raises(SourceError, match="CKAN refused"):
        result_of("http://ckan", 409, body("1,a\n"))


@pytest.mark.parametrize("total", [None, "7", -1, 2**63, 2**64 - 1])
def test_a_count_that_cannot_be_one_is_none(total: Any) -> None:
    with pytest.raises(SourceError, match="how many rows"):
        total_of({"total": total})
