"""What a visitor lives through: a click in CKAN, a message, a mail, a link, the rows."""

import html
import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from ckanpackager.demo.ckan import penguins
from ckanpackager.demo.occurrences import TYPES, occurrences
from tests.archives import DWC, read
from tests.ckan.bed import RealCkan
from tests.ckan.conftest import Tables
from tests.ckan.orders import Counter
from tests.ckan.queries import Query
from tests.services import TIMEOUT, Service

COMMON = "_full_text @@ plainto_tsquery('english', 'common')"


def click(ckan: RealCkan, resource_id: str, dataset: str = "public", **parameters: Any) -> str:
    """Follow the extension's link, as a browser does. Returns what CKAN then says at the head of the page."""
    with requests.Session() as browser:
        answer = browser.get(
            f"{ckan.url}/dataset/{dataset}/resource/{resource_id}/package", params=parameters, timeout=TIMEOUT
        )
    assert answer.status_code == 200, answer.text
    assert answer.url.startswith(f"{ckan.url}/dataset/{dataset}")
    found = re.search(r'class="flash-messages.*?<div class="alert[^"]*">(.*?)</div>', answer.text, re.DOTALL)
    assert found is not None, answer.text
    return " ".join(html.unescape(re.sub("<[^>]*>", "", found[1])).split())


@pytest.mark.parametrize(
    ("parameters", "query"),
    [
        ({}, Query("everything")),
        ({"filters": "Genus:Rosa|Genus:Zea|Alive:true"}, Query("", where="\"Genus\" IN ('Rosa', 'Zea') AND \"Alive\"")),
        ({"q": "common"}, Query("", where=COMMON)),
        ({"q": "common", "sort": "Individual count ASC,Genus DESC"}, Query("", where=COMMON, order='"Individual count", "Genus" DESC, _id')),
        ({"limit": "2500", "offset": "20000"}, Query("", {"limit": 2500, "offset": 20_000})),
        ({"filters": "Genus:Rosa", "q": "seldom", "sort": "Number desc", "limit": "100", "offset": "7"}, Query("", {"limit": 100, "offset": 7}, "_full_text @@ to_tsquery('seldom') AND \"Genus\" = 'Rosa'", '"Number" DESC')),
        ({"filters": "Genus:Sequoia"}, Query("nothing", where="false")),
    ],
    ids=str,
)  # fmt: skip
def test_a_click_leads_to_a_mail_and_the_mail_to_the_rows(
    packager: Service,
    counter: Counter,
    ckan: RealCkan,
    tables: Tables,
    parameters: dict[str, str],
    query: Query,
) -> None:
    visitor = counter.new_visitor()
    click(ckan, tables.specimens, email=visitor, **parameters)
    package = counter.collect(visitor)
    assert package.rows()[0] == query.columns(ckan, tables.specimens)
    assert package.body == query.expected(ckan, tables.specimens)
    assert package.mail.message["Subject"] == f"Resource from {ckan.url.removeprefix('http://')}"


@pytest.mark.parametrize(("format_", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_click_gives_the_format_asked_for(
    counter: Counter, ckan: RealCkan, tables: Tables, format_: str, delimiter: str
) -> None:
    visitor = counter.new_visitor()
    click(ckan, tables.gaps, email=visitor, format=format_)
    rows = counter.collect(visitor).rows(delimiter, f"resource.{format_}")
    assert rows[0] == ["_id", "Name", "Genus"]
    assert [int(row[0]) for row in rows[1:]] == [
        id for (id,) in ckan.psql(f'SELECT _id FROM "{tables.gaps}" ORDER BY 1')
    ]


def test_ckan_shows_what_the_service_says(
    packager: Service, counter: Counter, ckan: RealCkan, tables: Tables
) -> None:
    answer = packager.post(
        "/package_datastore",
        secret=packager.settings["SECRET"],
        email=counter.new_visitor(),
        resource_id=tables.gaps,
        api_url=ckan.api_url,
    )
    message = answer.json()["message"]
    assert click(ckan, tables.gaps, email=counter.new_visitor()).startswith(message)


def test_ckan_counts_the_download_that_was_accepted(
    packager: Service, counter: Counter, ckan: RealCkan, tables: Tables
) -> None:
    def counted() -> list[Any]:
        with ckan.postgresql.connect("ckan") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count FROM ckanpackager_stats WHERE resource_id = %s", [tables.odd_names])
            rows = list(cursor.fetchall())
        connection.close()
        return rows

    click(ckan, tables.odd_names, email=counter.new_visitor(), limit=3)
    click(ckan, tables.odd_names, email="not an address", limit=4)
    assert counted() == [(3,)]


def test_ckan_says_that_it_failed_where_the_service_refuses(
    packager: Service, counter: Counter, ckan: RealCkan, tables: Tables
) -> None:
    assert click(ckan, tables.gaps, email="not an address").startswith("Failed to contact")


def test_a_click_on_a_file_leads_to_the_file(packager: Service, counter: Counter, ckan: RealCkan) -> None:
    content = "naïve,data\r\n1,2\n".encode() * 100_000
    resource = ckan.upload("Some numbers.csv", content)
    visitor = counter.new_visitor()
    click(ckan, resource["id"], email=visitor)
    package = counter.collect(visitor)
    [name] = package.archive.namelist()
    assert name == resource["url"].rpartition("/")[2]
    assert package.archive.read(name) == content


def test_a_click_on_occurrences_leads_to_a_darwin_core_archive(
    counter: Counter, ckan: RealCkan, tmp_path: Path
) -> None:
    """The extension asks for one where the resource's format is DwC."""
    table = occurrences(penguins()).table
    names = list(TYPES)
    rows = [[table.value(position, name) for name in names] for position in range(len(table))]
    id = ckan.create_table(
        "occurrences",
        TYPES,
        [[str(value) if isinstance(value, Decimal | date) else value for value in row] for row in rows],
        format="DwC",
    )
    visitor = counter.new_visitor()
    click(ckan, id, email=visitor, format="tsv", filters="Island:Dream Island")
    package = counter.collect(visitor)
    assert package.archive.namelist() == ["occurrence.tsv", "meta.xml"]
    path = tmp_path / package.name
    path.write_bytes(requests.get(package.mail.link, timeout=TIMEOUT).content)
    known = [
        (str(one), *two)
        for one, *two in ckan.psql(
            'SELECT _id, "Occurrence ID", "Event date"::text, "Decimal latitude"::text, "Delta 15 N"::text'
            f""" FROM "{id}" WHERE "Island" = 'Dream Island' ORDER BY 1"""
        )
    ]
    assert len(known) == 124
    found = []
    for row in read(path):
        dynamic = json.loads(row.data[DWC + "dynamicProperties"], parse_float=str)
        terms = [row.data[DWC + term] for term in ("occurrenceID", "eventDate", "decimalLatitude")]
        found.append((row.id, *terms, dynamic.get("delta15N")))
    assert found == known


# ------------------------------------------------------------- what is private


def test_a_private_table_needs_the_key(counter: Counter, ckan: RealCkan, tables: Tables) -> None:
    order = {"resource_id": tables.private, "api_url": ckan.api_url}
    assert "not authorized" in counter.failure(**order)
    assert "not authorized" in counter.failure(**order, key="no such key")
    assert counter.package(**order, key=ckan.token).body == b"1,a\n2,b\n"
    # What the key has opened stays closed to others.
    assert "not authorized" in counter.failure(**order)


def test_a_private_file_needs_the_key(counter: Counter, ckan: RealCkan) -> None:
    resource = ckan.upload("secret.txt", b"secret", dataset="private")
    order = {"resource_id": resource["id"], "resource_url": resource["url"]}
    counter.failure("package_url", **order)
    package = counter.package("package_url", **order, key=ckan.token)
    assert package.read("secret.txt") == b"secret"


def test_what_is_not_there_is_a_failure_with_ckans_words(
    counter: Counter, ckan: RealCkan, tables: Tables
) -> None:
    assert "was not found" in counter.failure(resource_id="no-such-resource", api_url=ckan.api_url)
    assert "nofield" in counter.failure(
        resource_id=tables.specimens, api_url=ckan.api_url, filters={"nofield": 1}
    )
    assert "nofield" in counter.failure(resource_id=tables.specimens, api_url=ckan.api_url, sort="nofield")
    assert "nofield" in counter.failure(
        resource_id=tables.specimens, api_url=ckan.api_url, fields=["nofield"]
    )


# ------------------------------------------------------------- what is told of it


def test_the_extension_shows_the_statistics(counter: Counter, ckan: RealCkan) -> None:
    table = ckan.create_table("counted", {"name": "text"}, [["a"]])
    visitors = [counter.new_visitor() for _ in range(3)]
    for visitor in visitors:
        click(ckan, table, email=visitor)
        counter.collect(visitor)

    def statistics(**parameters: Any) -> list[tuple[str, str]]:
        answer = requests.get(f"{ckan.url}/stats/ckanpackager", params=parameters, timeout=TIMEOUT)
        assert answer.status_code == 200
        assert answer.json()["success"]
        return [(request["email"], request["resource_id"]) for request in answer.json()["requests"]]

    expected = [(visitor, table) for visitor in reversed(visitors)]
    assert statistics(resource_id=table) == expected
    assert statistics(resource_id=table, limit=1, offset=1) == expected[1:2]
    assert statistics(email=visitors[0]) == expected[2:]
