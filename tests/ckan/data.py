"""Tables that are hard to package: every type, every way in which rows tie, ids with gaps."""

from collections.abc import Mapping
from typing import Any

from tests.ckan.bed import RealCkan

TEXTS: list[Any] = [
    "Rosa canina",
    "",
    None,
    " lead and trail ",
    'comma, "quotes"',
    '"',
    '""',
    "two\nlines",
    "two\r\nlines",
    "\r",
    "\n",
    "tab\tbed",
    "\\.",
    "\\N",
    "\\",
    "NULL",
    "null",
    "None",
    "é",
    "e\u0301",
    "😀👩‍👩‍👧\U0010ffff",
    "\ufeffbegins with a byte order mark",
    "\u200fעברית, العربية",
    "日本語、「引用」",
    "\u0001\u0008\u000b\u007f\u0085\u2028\u2029",
    "=1+1",
    "-1",
    "@SUM(A1)",
    "'; DROP TABLE x; --",
    "%s %(name)s {0} :name $1 \\x41",
    "0012",
    "1e5",
    "<b>&amp;</b>",
    "x" * 200_000,
]
TYPES: dict[str, list[Any]] = {
    "text": TEXTS,
    "varchar": ["a", "", None],
    "bpchar": ["a  ", "", None],
    "int2": [-32768, 32767, 0],
    "int4": [-2147483648, 2147483647, 0],
    "int8": [-9223372036854775808, 9223372036854775807, 9007199254740993],
    "numeric": [
        "51.4960000",
        "12345678901234567890.123456789",
        "0.1234567890123456789012345678901234567890",
        "1E-7",
        "1E+30",
        "-0.50",
        "NaN",
        "Infinity",
        "-Infinity",
    ],
    "float4": ["0.1", "1e-30", "NaN"],
    "float8": ["0.1", "1e-7", "1e15", "1e16", "123456789012345", "NaN", "Infinity", "-Infinity", "-0"],
    "bool": [True, False, None],
    "date": ["2020-02-29", "0044-03-15 BC", "12020-01-01", "infinity", None],
    "time": ["00:00:00", "24:00:00", "01:02:03.123456"],
    "timetz": ["01:02:03+02", None],
    "timestamp": [
        "2020-01-02T03:04:05.678901",
        "2020-01-02T03:04:05.9999",
        "2020-01-02",
        "0044-03-15 BC",
        "12020-01-01",
        "infinity",
        None,
    ],
    "timestamptz": ["2020-01-02T03:04:05.678901+02:00", None],
    "interval": ["1 day 02:00:00", "-3 mons", None],
    "json": [
        {"a": 1, "é": ['ü"', None, {"b": "line\nbreak, comma"}]},
        "a text",
        12,
        1.5,
        True,
        [],
        {},
        "\\",
        None,
    ],
    "jsonb": ['{"b": 2, "a": 1e2, "a": 3}', "null", None],
    "_text": [["a", "b c"], [], ['q"\\', None, "", "NULL"], None],
    "_int4": [[1, None, -3], [], None],
    "_bool": [[True, None], None],
    "uuid": ["05ff2255-c38a-40c9-b657-4ccb55ab2feb", None],
    "inet": ["127.0.0.1", "2001:db8::/32", None],
    "bytea": ["\\x00ff22", None],
    "xml": ["<a>ä &amp; b</a>", None],
    "point": ["(1,2)", None],
}
# Without what CKAN itself cannot serve: "Cat #" (to 2.11), "a :b" and, with q, "query" and "rank".
ODD_NAMES = ["naïve", "a, b", "100%", "a:b", "c;d", "日本", "select", "it's", "UPPER", "(p)", "{x}", "x" * 60]

# Specimens whose columns tie, in 31,003 rows: many pages, the last one short.
ROWS = 31_003
PERIOD = 1_000
GENERA = ["Rosa", "Carabus", "Bombus", "Dicranum", "Pygoscelis", "rosa", "Zea", None]
SPECIMENS = {
    "Genus": "text",
    "Individual count": "int4",
    "Weight": "float8",
    "Price": "numeric",
    "Label": "text",
    "Collected": "timestamp",
    "Remarks": "text",
    "Alive": "bool",
    "Number": "int4",
}
WORDS = ["common", "common", "common", "seldom", "common seldom", "commonly found"]


def make_specimen(n: int) -> list[Any]:
    """Row n of the period: nothing in it is unique, and some values differ only where CKAN does not show it."""
    return [
        GENERA[n * 7 % len(GENERA)],
        None if n % 11 == 0 else n % 10,
        [None, "NaN", "Infinity", "0.1", "0.30000000000000004", "0.3", "-5"][n % 7],
        [None, "1.00000000000000000001", "1.00000000000000000002", "1.0", "NaN"][n % 5],
        TEXTS[n % (len(TEXTS) - 1)],
        None if n % 13 == 0 else f"2020-01-02T03:04:05.1234{n % 40:02d}",
        "rare" if n == 77 else f"{WORDS[n % len(WORDS)]} {n % 3}",
        [True, False, None][n % 3],
        0,
    ]


def every_type(ckan: RealCkan) -> str:
    """A table with a column of every type, as long as the longest list of values."""
    height = max(map(len, TYPES.values()))
    rows = [[(values + [None] * height)[n] for values in TYPES.values()] for n in range(height)]
    return ckan.create_table("every type", {f"a {type_}": type_ for type_ in TYPES}, rows)


def odd_names(ckan: RealCkan) -> str:
    """A table whose columns have names that are hard to quote."""
    rows = [[f"{name} {n % 3}" for name in ODD_NAMES] for n in range(10)]
    return ckan.create_table("odd names", dict.fromkeys(ODD_NAMES, "text"), rows)


def specimens(ckan: RealCkan, dataset: str = "public", **resource: Any) -> str:
    """`ROWS` rows that tie in every column but Number, and do not lie in the order of their ids."""
    rows = [make_specimen(n) for n in range(PERIOD)]
    table = ckan.create_table("specimens", SPECIMENS, rows, dataset=dataset, **resource)
    ckan.repeat_rows(table, ROWS)
    # An updated row moves to the end of the table's file; 7919 has no factor in common with ROWS.
    ckan.psql(f'UPDATE "{table}" SET "Number" = _id::bigint * 7919 % {ROWS}')
    ckan.psql(f'UPDATE "{table}" SET "Number" = "Number" WHERE _id % 3 = 0')
    ckan.vacuum(table)
    return table


def with_gaps(ckan: RealCkan) -> str:
    """Some rows at the beginning, some in the middle, and one very far away; the rest was deleted."""
    table = ckan.create_table("gaps", {"Name": "text", "Genus": "text"}, [["a", "Rosa"], ["b", None]])
    ckan.repeat_rows(table, 20_000)
    ckan.psql(f'DELETE FROM "{table}" WHERE _id < 7 OR _id BETWEEN 50 AND 9000 OR _id > 9500 AND _id % 7 > 0')
    ckan.psql(f'INSERT INTO "{table}" (_id, "Name") VALUES (2147483646, %s), (1500000000, %s)', "last", "far")
    ckan.forget_count(table)
    return table


def fields_of(ckan: RealCkan, table: str) -> Mapping[str, str]:
    """The columns of a table and their types, as PostgreSQL names them, without ``_full_text``."""
    rows = ckan.psql(
        "SELECT attname, typname FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        f'"{table}"',
    )
    return {name: type_ for name, type_ in rows if name != "_full_text"}
