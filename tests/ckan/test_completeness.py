"""Every row that matches, once, in the order asked for: as PostgreSQL itself says."""

import random
import re

import pytest

from tests.ckan.bed import RealCkan
from tests.ckan.conftest import Tables
from tests.ckan.data import ROWS
from tests.ckan.orders import Counter
from tests.ckan.queries import Query
from tests.ckan.relay import Relay

RANGES = (2, 12)
ORDERS = [
    Query("no order"),
    *(
        Query(f"by {sort}", {"sort": sort}, order=order)
        for sort, order in {
            "Genus": '"Genus", _id',
            "Genus desc": '"Genus" DESC, _id',
            "Genus desc nulls last,Individual count": '"Genus" DESC NULLS LAST, "Individual count", _id',
            "Individual count asc nulls first": '"Individual count" NULLS FIRST, _id',
            "Weight": '"Weight", _id',
            "Price desc": '"Price" DESC, _id',
            "Label": '"Label", _id',
            "Collected": '"Collected", _id',
            "Alive DESC,Remarks": '"Alive" DESC, "Remarks", _id',
            "Number": '"Number"',
            "_id desc": "_id DESC",
            "Genus, _id desc": '"Genus", _id DESC',
        }.items()
    ),
]
COMMON = "_full_text @@ plainto_tsquery('english', 'common')"
REMARKS = "to_tsvector('english', \"Remarks\") @@ plainto_tsquery('english', 'common')"
CONDITIONS = [
    Query("everything"),
    Query("one genus", {"filters": {"Genus": "Rosa"}}, "\"Genus\" = 'Rosa'"),
    Query(
        "two genera, alive",
        {"filters": {"Genus": ["Rosa", "Carabus"], "Alive": ["true"]}},
        "\"Genus\" IN ('Rosa', 'Carabus') AND \"Alive\"",
    ),
    Query("an empty text", {"filters": {"Label": ""}}, "\"Label\" = ''"),
    Query("most counts", {"filters": {"Individual count": list(range(9))}}, '"Individual count" <= 8'),
    Query("some ids", {"filters": {"_id": [7, 30_000, 7, 99_999]}}, "_id IN (7, 30000)"),
    Query("nothing", {"filters": {"Genus": "Sequoia"}}, "false"),
    Query("q", {"q": "common"}, COMMON),
    Query("q of one row in 1,000", {"q": "rare"}, "_full_text @@ plainto_tsquery('rare')"),
    Query("q of a column", {"q": {"Remarks": "common"}}, REMARKS),
    Query("q of a column, as text", {"q": '{"Remarks": "common"}'}, REMARKS),
    Query(
        "q with operators",
        {"q": "common & !seldom", "plain": False},
        "_full_text @@ to_tsquery('english', 'common & !seldom')",
    ),
    Query("q as it is spelt", {"q": "commonly", "language": "simple"}, "_full_text @@ 'commonly'"),
    Query("q, one genus", {"q": "common", "filters": {"Genus": "Rosa"}}, f"{COMMON} AND \"Genus\" = 'Rosa'"),
    Query(
        "a range of ids",
        {"filters": {"_id": {"gt": 5_000, "lte": 26_001}}},
        "_id > 5000 AND _id <= 26001",
        needs=RANGES,
    ),
    Query(
        "ids and a range of them",
        {"filters": {"$and": [{"_id": {"gte": 100}}, {"$or": [{"_id": {"lt": 9_000}}, {"Genus": "Zea"}]}]}},
        "_id >= 100 AND (_id < 9000 OR \"Genus\" = 'Zea')",
        needs=RANGES,
    ),
    Query("a range", {"filters": {"Individual count": {"gt": 3}}}, '"Individual count" > 3', needs=RANGES),
]
FIELDS = [
    Query("all fields"),
    *(
        Query(f"fields {', '.join(fields)}", {"fields": fields})
        for fields in (
            ["_id"],
            ["Number"],
            ["Genus", "Label"],
            ["Label", "_id"],
            ["Collected", "Price", "Weight"],
        )
    ),
]
WINDOWS = [
    Query("all rows"),
    *(
        Query(str(window), window)
        for window in (
            {"offset": 1},
            {"offset": 12_345},
            {"offset": ROWS - 1},
            {"offset": ROWS},
            {"offset": 10**9},
            {"limit": 1},
            {"limit": 1_000},
            {"limit": 1_001},
            {"limit": ROWS - 1},
            {"limit": 10**9},
            {"offset": 999, "limit": 20_002},
            {"offset": ROWS - 3, "limit": 5},
        )
    ),
]
ALONE = [*ORDERS, *CONDITIONS[1:], *FIELDS[1:], *WINDOWS[1:]]


def some_together(count: int) -> list[Query]:
    """Combinations, always the same ones, in which every choice appears several times."""
    chance = random.Random(20)
    lists = [ORDERS, CONDITIONS, FIELDS, WINDOWS]
    decks = [chance.sample(options * count, count) for options in lists]
    return [
        order | condition | fields | window for order, condition, fields, window in zip(*decks, strict=True)
    ]


DISTINCT = [
    Query("genera", {"fields": ["Genus"]}),
    Query("genera, backwards", {"fields": ["Genus"], "sort": "Genus desc"}, order='"Genus" DESC'),
    Query(
        "pairs, some",
        {"fields": ["Genus", "Label"], "sort": "Label desc,Genus", "offset": 5, "limit": 40},
        order='"Label" DESC, "Genus"',
    ),
    Query("numbers", {"fields": ["Number"], "sort": "Number", "offset": 2}, order='"Number"'),
    Query("times", {"fields": ["Collected"]}),
    Query("weights", {"fields": ["Weight"]}),
    Query("remarks that match", {"fields": ["Remarks"], "q": "common"}, COMMON),
    Query("with the id", {"fields": ["Genus", "_id"], "sort": "_id"}, order="_id"),
    Query("all fields", {"filters": {"Genus": "Zea"}}, "\"Genus\" = 'Zea'"),
]


def check(counter: Counter, ckan: RealCkan, table: str, query: Query, in_any_order: bool = False) -> None:
    if not query.is_answered_by(ckan):
        pytest.skip(f"CKAN {ckan.version} has no ranges")
    package = counter.package(resource_id=table, api_url=ckan.api_url, **query.parameters)
    assert package.rows()[0] == query.columns(ckan, table)
    expected = query.expected(ckan, table)
    if in_any_order:
        assert sorted(package.body.splitlines()) == sorted(expected.splitlines())
    else:
        assert package.body == expected


def named(queries: list[Query]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("query", queries, ids=[query.name for query in queries])


@named(ALONE)
def test_every_row_that_matches_comes_once_in_order(
    counter: Counter, ckan: RealCkan, tables: Tables, query: Query
) -> None:
    check(counter, ckan, tables.specimens, query)


@named(some_together(24))
def test_every_row_that_matches_several_conditions_comes_once_in_order(
    counter: Counter, ckan: RealCkan, tables: Tables, query: Query
) -> None:
    check(counter, ckan, tables.specimens, query)


@named([query | Query("distinct", {"distinct": True}) for query in DISTINCT])
def test_distinct_rows_come_once(counter: Counter, ckan: RealCkan, tables: Tables, query: Query) -> None:
    check(counter, ckan, tables.specimens, query, in_any_order=query.order == "_id")


@pytest.mark.parametrize("type_", ["numeric", "float8", "bpchar"])
def test_distinct_values_that_are_equal_however_they_are_written_come_once(
    counter: Counter, ckan: RealCkan, type_: str
) -> None:
    values = {"numeric": ["1", "1.0", "1.00", "2"], "float8": ["0", "-0", "1"], "bpchar": ["a", "a  ", "b"]}[
        type_
    ]
    table = ckan.create_table("equal", {"value": type_}, [[value] for value in values * 600])
    [(expected,)] = ckan.psql(f'SELECT count(DISTINCT value) FROM "{table}"')
    package = counter.package(resource_id=table, api_url=ckan.api_url, fields=["value"], distinct=True)
    assert len(package.rows()) == 1 + expected


@named(
    [
        Query("everything"),
        Query("backwards", {"sort": "_id desc"}, order="_id DESC"),
        Query("by name", {"sort": "Name"}, order='"Name", _id'),
        Query("from the middle", {"offset": 500}),
        Query("the last two", {"offset": 2043}),
        Query("up to the middle", {"limit": 1234}),
        Query("one genus", {"filters": {"Genus": "Rosa"}}, "\"Genus\" = 'Rosa'"),
        Query("beyond all rows but two", {"filters": {"_id": {"gt": 20_000}}}, "_id > 20000", needs=RANGES),
    ]
)
def test_gaps_between_ids_lose_nothing(
    counter: Counter, ckan: RealCkan, tables: Tables, query: Query
) -> None:
    check(counter, ckan, tables.gaps, query)


@pytest.mark.parametrize("format_", ["csv", "tsv"])
def test_columns_of_any_name_can_be_packaged(
    counter: Counter, ckan: RealCkan, tables: Tables, format_: str
) -> None:
    query = Query("everything")
    package = counter.package(resource_id=tables.odd_names, api_url=ckan.api_url, format=format_)
    rows = package.rows("," if format_ == "csv" else "\t", f"resource.{format_}")
    names = query.columns(ckan, tables.odd_names)
    assert rows == [names, *([str(n + 1), *(f"{name} {n % 3}" for name in names[1:])] for n in range(10))]


@pytest.mark.parametrize(
    "name", ["naïve", "100%", "a:b", "c;d", "日本", "select", "it's", "UPPER", "(p)", "{x}"]
)
def test_columns_of_any_name_can_be_sorted_by_and_filtered(
    counter: Counter, ckan: RealCkan, tables: Tables, name: str
) -> None:
    values = [f"{name} 0", f"{name} 2"]
    query = Query(
        name,
        {"sort": f'"{name}" desc', "fields": [name, "_id"], "filters": {name: values}},
        where=f"right(\"{name}\", 1) IN ('0', '2')",
        order=f'"{name}" DESC, _id',
    )
    check(counter, ckan, tables.odd_names, query)


# ------------------------------------------------------------- tables that change


@pytest.fixture
def changing(ckan: RealCkan) -> str:
    """A table of 9,000 rows of its own."""
    table = ckan.create_table(
        "changing", {"name": "text", "half": "int4"}, [[f"row {n}", n % 2] for n in range(1000)]
    )
    ckan.repeat_rows(table, 9000)
    return table


@pytest.mark.parametrize("sort", [None, "name"])
@pytest.mark.parametrize("change", ["more", "fewer"])
def test_a_count_that_is_out_of_date_loses_nothing(
    counter: Counter, ckan: RealCkan, changing: str, change: str, sort: str | None
) -> None:
    """CKAN 2.12 remembers how many rows there are; what was written behind its back it does not see."""
    assert ckan.call("datastore_search", resource_id=changing, limit=0)["total"] == 9000
    if change == "more":
        ckan.psql(f"INSERT INTO \"{changing}\" (name) SELECT 'new' FROM generate_series(1, 3000)")
    else:
        ckan.psql(f'DELETE FROM "{changing}" WHERE _id % 3 = 0')
    query = Query("everything", {"sort": sort}, order="name, _id" if sort else "_id")
    check(counter, ckan, changing, query)


@pytest.mark.parametrize("sort", [None, "name", "half desc"])
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM {table} WHERE _id < 500",
        "DELETE FROM {table} WHERE _id > 8500",
        "DELETE FROM {table} WHERE _id % 2 = 0",
        "INSERT INTO {table} (name) SELECT 'row 0' FROM generate_series(1, 500)",
        "UPDATE {table} SET name = 'a first one' WHERE _id % 5 = 0",
        "DELETE FROM {table} WHERE _id < 100; INSERT INTO {table} (name) SELECT 'z' FROM generate_series(1, 99)",
    ],
)
def test_rows_that_were_there_throughout_come_once_whatever_changes(
    counter: Counter, ckan: RealCkan, changing: str, change: str, sort: str | None
) -> None:
    before = {row[0] for row in ckan.psql(f'SELECT _id FROM "{changing}"')}
    visitor = counter.new_visitor()
    with Relay(ckan.url) as relay:
        gate = relay.hold(page=2)
        job_id = counter.post(visitor, resource_id=changing, api_url=relay.api_url, sort=sort, fields=["_id"])
        gate.reached()
        ckan.psql(change.format(table=f'"{changing}"'))
        ckan.forget_count(changing)
        gate.open()
        job = counter.finished(job_id)
    after = {row[0] for row in ckan.psql(f'SELECT _id FROM "{changing}"')}
    assert job["state"] == "done", job["error"]
    came = [int(line) for line in counter.collect(visitor).body.split()]
    assert len(came) == len(set(came)) == job["rows_done"]
    assert before & after <= set(came) <= before | after


GROWING = [
    Query("sorted", {"sort": "name desc", "fields": ["_id", "name"]}, order="name DESC, _id", needs=RANGES),
    Query(
        "some, sorted",
        {"sort": "name", "fields": ["_id"], "filters": {"half": 1}},
        "half = 1",
        "name, _id",
        RANGES,
    ),
    Query("distinct", {"fields": ["name"], "distinct": True, "sort": "name"}, order="name", needs=RANGES),
    Query("in the order of ids", {"fields": ["name"]}, needs=RANGES),
]


@pytest.mark.parametrize("query", GROWING, ids=str)
def test_a_table_that_never_stops_growing_comes_as_it_was(
    counter: Counter, ckan: RealCkan, changing: str, query: Query
) -> None:
    if not query.is_answered_by(ckan):
        pytest.skip(f"CKAN {ckan.version} has no ranges")
    expected, visitor = query.expected(ckan, changing), counter.new_visitor()
    grow = f"INSERT INTO \"{changing}\" (name, half) SELECT 'row ' || g, 1 FROM generate_series(1, 2000, 7) g"
    with Relay(ckan.url) as relay:
        relay.before_each_page = lambda: ckan.psql(grow)
        job = counter.finished(
            counter.post(visitor, resource_id=changing, api_url=relay.api_url, **query.parameters)
        )
    assert job["state"] == "done", job["error"]
    assert counter.collect(visitor).body == expected
    assert ckan.psql(f'SELECT count(*) FROM "{changing}"') != [(9000,)]


def test_a_package_that_cannot_be_whole_is_not_announced(
    counter: Counter, ckan: RealCkan, changing: str
) -> None:
    """The rows go while they are read, whenever that is tried: the visitor is told how many of how many came."""
    visitor = counter.new_visitor()
    with Relay(ckan.url) as relay:
        first = f'SELECT _id FROM "{changing}" ORDER BY name, _id LIMIT 10'
        relay.before_each_page = lambda: ckan.psql(f'DELETE FROM "{changing}" WHERE _id IN ({first})')
        job = counter.finished(
            counter.post(visitor, resource_id=changing, api_url=relay.api_url, sort="name", fields=["name"])
        )
    assert (job["state"], job["download_url"]) == ("failed", None)
    assert re.search(r"\d+ of \d+ rows", job["error"])
    assert "/download/" not in counter.mail_to(visitor).text
