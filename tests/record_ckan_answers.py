"""Ask real CKANs what the demo's CKAN is held to, and write their answers to ckan_answers.json.

    python -m tests.record_ckan_answers URL TOKEN [URL TOKEN ...]

The token is a sysadmin's. Each CKAN gets a new dataset with one table of odd values.
"""

import json
import sys
import uuid
from pathlib import Path
from typing import Any

import requests

ANSWERS = Path(__file__).with_name("ckan_answers.json")

FIELDS = {
    "name": "text",
    "flag": "bool",
    "n": "numeric",
    "f": "float8",
    "ts": "timestamp",
    "d": "date",
    "tm": "time",
    "doc": "json",
    "tags": "_text",
    "i": "int4",
    "c, d": "text",
}
ROWS: list[list[Any]] = [
    [None] * 11,
    [
        "",
        True,
        "51.4960000",
        1e-7,
        "2020-01-02T03:04:05.678901",
        "2020-01-02",
        "01:02:03",
        {"a": 1},
        ["a", "b c"],
        1,
        "x",
    ],
    ['a,b"c\nd\re\tf', False, "NaN", 1e15, "2020-01-02", "1999-12-31", "01:02:03.5", "x", ['q"\\'], 2, ""],
    [
        "\\.",
        True,
        "1E-7",
        123456789012345,
        "2020-01-02T00:00:00",
        "2020-01-02",
        "00:00:00",
        [1, 2.5, None],
        [],
        3,
        "x",
    ],
    [" lead ", True, "12345678901234567890.123456789", 0.1, None, None, None, {"é": "ü"}, None, 1, "y"],
    ["é ü 😀 Rosa", False, "0", 1e16, "2020-01-02T03:04:05.9999", None, None, True, ["x"], 1, "y"],
    ["Rosa canina", False, "-0.50", 3.0, None, None, None, 12, ["x"], 2, "\\."],
    ["None", False, "100", 3.0, None, None, None, None, ["x"], 2, "null"],
    ["rosa", None, "100", 3.0, None, None, None, None, ["x"], 2, "\ta\u0001\u007f'"],
]

_ID: dict[str, Any] = {"fields": "_id"}
VALUES: list[Any] = [
    {"i": 2},
    {"i": "2"},
    {"i": " 2 ", "d": "1999-12-31"},
    {"i": [1, "3"]},
    {"i": 1.5},
    {"i": "1.0"},
    {"i": "abc"},
    {"i": ["1", "x"]},
    {"i": [""]},
    {"i": None},
    {"i": [1, None]},
    {"i": True},
    {"i": []},
    {"name": []},
    {"name": ""},
    {"name": [""]},
    {"name": None},
    {"name": [5, None, True]},
    {"n": 51.496},
    {"n": "51.496"},
    {"n": "NaN"},
    {"f": "1e-7"},
    {"flag": 1},
    {"flag": ["True"]},
    {"flag": "yes"},
    {"flag": "maybe"},
    {"ts": "2020-01-02"},
    {"ts": "2020-01-02T03:04:05"},
    {"ts": "2020-01-02T03:04:05.678901"},
    {"d": "yesterday-ish"},
    {"d": 5},
    {"tm": "01:02:03"},
    {"doc": "x"},
    {"tags": "x"},
    {"tags": ["x"]},
    {"nofield": 1},
    {"nofield": [1]},
    {"_id": 3},
    {"_id": [3, 4]},
    {},
]
RANGES: list[Any] = [
    {"_id": {"gt": 2, "lte": 4}},
    {"_id": {"gte": 2, "lt": 4}},
    {"_id": {"gt": "2"}, "flag": True},
    {"_id": {"eq": 3}},
    {"_id": {"foo": 2}},
    {"_id": {}},
    {"_id": [{"lt": 2}, 7, 8]},
    {"name": {"gt": "a"}},
    {"name": {"gte": "R"}},
    {"name": {"eq": "rosa", "in": ["rosa"]}},
    {"i": {"in": [3, "2"]}},
    {"i": {"gt": None}},
    {"i": {"gt": "x"}},
    {"n": {"gt": 99}},
    {"d": {"gt": "2000-01-01"}},
    {"ts": {"lt": "2020-01-02T03:04:05.7"}},
    {"nofield": {"gt": "x"}},
    {"$or": [{"_id": 2}, {"i": [3]}]},
    {"$and": [{"i": 1}, {"_id": {"gt": 2}}]},
    {"$and": [{"i": 1, "flag": True}, {"_id": {"gt": 2, "lt": 9}}]},
    {"$or": [{"i": 3}, {"$or": [{"i": 2}, {"i": 1}]}], "_id": {"gt": 2, "lt": 9}},
    {"$or": [{"i": 3, "_id": 4}, {"$and": [{"i": 2}, {"flag": False}]}], "_id": {"lt": 8}},
    {"$or": []},
    {"$or": 5},
    {"$foo": []},
    [{"i": 3}, {"i": 2}],
]
QUESTIONS: list[dict[str, Any]] = [
    # every kind of value in every format
    {},
    {"records_format": "lists"},
    {"records_format": "csv"},
    {"records_format": "tsv"},
    *({"fields": [name], "records_format": "csv"} for name in FIELDS),
    *(
        {"fields": ["c, d", "_id"], "records_format": format_}
        for format_ in ("objects", "lists", "csv", "tsv")
    ),
    # q
    {"q": "rosa", "sort": "_id"},
    {"q": "rosa", "records_format": "csv", "sort": "_id"},
    {"q": "rosa", "fields": "name,rank", "sort": "_id"},
    {"q": "ROSA", **_ID, "records_format": "lists", "sort": "_id"},
    {"q": {"name": "rosa"}, "limit": 1, "sort": "_id"},
    {"q": {"name": "rosa", "i": "2"}, "fields": "_id,rank i", "sort": "_id"},
    {"q": '{"name":"rosa"}', **_ID, "sort": "_id"},
    {"q": {"nofield": "x"}},
    {"q": {"name": 5}},
    {"q": "rosa canina", **_ID},
    {"q": "rosa canina", "plain": False},
    {"q": "rosa canina", "plain": False, "records_format": "csv"},
    {"q": "rosa & canina", "plain": False, **_ID},
    {"q": "rosa & !canina", "plain": False, **_ID},
    {"q": "canin:* | null", "plain": "false", **_ID, "sort": "_id"},
    {"q": "rosa", "language": "klingon"},
    {"q": "rosa", "language": "simple", **_ID, "sort": "_id"},
    {"q": "", "limit": 1},
    {"q": 51, **_ID},
    {"q": "51.4960000", **_ID},
    # filters, as values
    *({"filters": filters, **_ID} for filters in VALUES),
    {"filters": {"i": "abc"}, "records_format": "csv"},
    {"filters": {"i": "abc"}, "records_format": "lists"},
    {"filters": {"i": "abc"}, "limit": 0},
    {"filters": "{bad"},
    {"filters": "[1]"},
    {"filters": "7"},
    {"filters": ""},
    {"filters": '{"i": 1}', **_ID},
    # filters, as ranges
    *({"filters": filters, **_ID} for filters in RANGES),
    {"filters": {"_id": {"gt": 2}}, **_ID, "records_format": "csv"},
    # sort
    *(
        {"sort": sort, **_ID}
        for sort in (
            "",
            "nofield",
            "doc",
            "_id desc",
            " _id  ASC",
            '"_id" DESC',
            "i desc nulls last, _id DESC",
            "i, _id",
            "i DESC,_id",
            ["i asc nulls first", "_id desc"],
            "flag, _id desc",
            "n desc, _id",
            "f desc, _id",
            "ts,_id",
            "tags,_id",
            "name",
            "name desc",
            "i descending",
            ", i",
            "c, d",
            '"c, d", _id',
            ["c, d", "_id"],
            ['"c, d" desc', "_id"],
            5,
        )
    ),
    {"sort": "rank desc", "q": "rosa"},
    {"sort": "doc", "records_format": "csv"},
    # fields
    {"fields": ""},
    {"fields": [], "limit": 1},
    {"fields": "nofield"},
    {"fields": ["name", "nofield"]},
    {"fields": "name, i", "limit": 2},
    {"fields": '"name"', "limit": 2},
    {"fields": "name,name", "limit": 2, "records_format": "csv"},
    {"fields": "rank"},
    {"fields": 5},
    # limit, offset, total, next_page
    {"limit": 0},
    {"limit": 0, "records_format": "csv"},
    {"limit": 0, "include_total": False},
    {"limit": 40000, **_ID},
    {"limit": "2", "offset": "1", **_ID},
    {"limit": "", **_ID},
    {"limit": None, **_ID},
    {"limit": "abc"},
    {"limit": -1},
    {"limit": 1.5},
    {"offset": 100, **_ID},
    {"offset": 100, **_ID, "records_format": "csv"},
    {"offset": -1},
    {"offset": "x"},
    {"offset": ""},
    {"include_total": "false", "limit": 1},
    {"records_format": "xml"},
    {"foo": 1},
    {"foo": 1, "cursor": "x"},
    *(
        {"include_next_page": True, "limit": 2, "fields": "i", **more}
        for more in (
            {},
            {"records_format": "csv"},
            {"sort": "_id desc"},
            {"sort": "_id desc, i"},
            {"sort": "i, _id"},
            {"q": "rosa", "sort": "i, _id"},
            {"q": "rosa", "sort": "_id"},
            {"offset": 100},
            {"filters": {"_id": {"gt": 7}}, "offset": 1},
        )
    ),
    # distinct
    {"distinct": True, "fields": "i", "sort": "i desc"},
    {"distinct": True, "fields": "i", "sort": "i", "limit": 2, "offset": 1, "records_format": "csv"},
    {"distinct": True, "fields": "i", "sort": "_id"},
    {"distinct": True, "fields": "i", "sort": "_id", "records_format": "csv"},
    {"distinct": True, "fields": "i", "records_format": "lists"},
    {"distinct": True, "fields": "i", "sort": "i", "records_format": "lists"},
    {"distinct": True, "fields": "ts", "sort": "ts", "records_format": "csv"},
    {"distinct": True, "fields": "doc"},
    {"distinct": True, "records_format": "csv"},
    {"distinct": True, "q": "x"},
    {"distinct": True, "q": "x", "fields": "i"},
    {"distinct": True, "q": "x", "fields": "i", "sort": "i"},
    {"distinct": True, "q": {"name": "x"}, "fields": "i", "limit": 0},
]


def comparable(status: int, text: str) -> dict[str, Any]:
    """What of an answer is the same on every installation; numbers as the text they are written in."""
    answer = json.loads(text, parse_float=str)
    if status != 200:
        error = answer["error"]
        return {"status": status, "error": {k: v for k, v in error.items() if k != "info"}}
    result = answer["result"]
    return {
        "status": status,
        "result": {k: v for k, v in result.items() if k not in ("resource_id", "_links")},
    }


class RealCkan:
    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.session = requests.Session()
        self.session.headers["Authorization"] = token

    def call(self, action: str, **parameters: Any) -> Any:
        answer = self.session.post(f"{self.url}/api/3/action/{action}", json=parameters, timeout=60)
        answer.raise_for_status()
        return answer.json()["result"]

    def load(self) -> str:
        name = f"odd-{uuid.uuid4()}"
        self.call("organization_create", name=name)
        self.call("package_create", name=name, owner_org=name)
        table = self.call(
            "datastore_create",
            resource={"package_id": name, "name": "odd"},
            fields=[{"id": id, "type": type_} for id, type_ in FIELDS.items()],
            records=[dict(zip(FIELDS, row, strict=True)) for row in ROWS],
            force=True,
        )
        return str(table["resource_id"])

    def ask(self, resource_id: str, question: dict[str, Any]) -> dict[str, Any]:
        body = {"resource_id": resource_id, **question}
        answer = self.session.post(f"{self.url}/api/action/datastore_search", json=body, timeout=60)
        return comparable(answer.status_code, answer.text)


def record(url: str, token: str) -> None:
    ckan = RealCkan(url, token)
    version, resource_id = ckan.call("status_show")["ckan_version"], ckan.load()
    recorded = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
    recorded[version] = [ckan.ask(resource_id, question) for question in QUESTIONS]
    ANSWERS.write_text(text_of(recorded))


def text_of(recorded: dict[str, list[Any]]) -> str:
    """JSON with a line for each answer."""
    versions = []
    for version, answers in sorted(recorded.items()):
        lines = ",\n".join(json.dumps(answer, ensure_ascii=False) for answer in answers)
        versions.append(f"{json.dumps(version)}: [\n{lines}\n]")
    return "{" + ",\n".join(versions) + "}\n"


if __name__ == "__main__":
    for url, token in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        record(url, token)
