"""Darwin Core Archives from end to end: posted as the extension does, mailed, and read by GBIF's own rules."""

import contextlib
import csv
import io
import json
import sqlite3
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
import requests
from lxml import etree

from ckanpackager import cli
from ckanpackager.demo.ckan import PENGUINS, penguins
from ckanpackager.demo.occurrences import EML, OCCURRENCES, SETTINGS, occurrences
from ckanpackager.demo.table import Resource
from tests.archives import DWC, Row, read, schema
from tests.conftest import StartService
from tests.fake_ckan import FakeCkan, a_page
from tests.services import SECRET, TIMEOUT, Service
from tests.sinks import Mail, Sink

BIRDS = "11111111-2222-4333-8444-555555555555"
COLUMNS = [("Occurrence ID", "text"), ("Scientific Name", "text"), ("Bone density", "numeric")]
CORE = [("b:1", "Rosa canina", "1.50"), ("b:2", "Größe, 日本", None), ("b:3", None, "1e-7")]


@pytest.fixture
def service(start_service: StartService) -> Service:
    """A service with the settings that the demo's table wants, which reads it in several pages."""
    return start_service(PAGE_SIZE=50, **SETTINGS)


@pytest.fixture
def ckan(ckan: FakeCkan) -> FakeCkan:
    ckan.add(occurrences(penguins()))
    ckan.add(Resource(BIRDS, COLUMNS, CORE))
    return ckan


def submit(service: Service, ckan: FakeCkan, resource_id: str = BIRDS, **parameters: Any) -> str:
    return service.submit("package_dwc_archive", resource_id=resource_id, api_url=ckan.api_url, **parameters)


def collect(mail: Mail, folder: Path) -> Path:
    """The archive behind the link in a mail."""
    answer = requests.get(mail.link, timeout=TIMEOUT)
    assert answer.status_code == 200
    path = folder / mail.link.rpartition("/")[2]
    path.write_bytes(answer.content)
    check(path)
    return path


def check(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        meta = etree.fromstring(archive.read("meta.xml"))
    if (known := schema()) is not None:
        known.assertValid(meta)


def member(path: Path, name: str) -> str:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name).decode()


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def refusal(service: Service, ckan: FakeCkan, **parameters: Any) -> str:
    answer = service.post(
        "/package_dwc_archive",
        **{"resource_id": BIRDS, "api_url": ckan.api_url, "email": "visitor@localhost.example"} | parameters,
    )
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    return str(answer.json()["message"])


def term(rows: list[Row], name: str) -> list[str]:
    return [row.data[DWC + name] for row in rows]


# ------------------------------------------------------------- the main job


def test_a_visitor_gets_an_archive_of_every_row(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    job_id = submit(service, ckan, OCCURRENCES, eml=EML, for_gbif="true", limit="344")
    path = collect(smtp.wait_for(1)[0], tmp_path)
    assert names(path) == ["occurrence.csv", "measurement_or_facts.csv", "meta.xml", "eml.xml", "gbif.json"]
    rows = read(path)
    assert [int(row.id) for row in rows] == list(range(1, 345))
    assert len(set(term(rows, "occurrenceID"))) == 344
    table = occurrences(penguins()).table
    for position, row in enumerate(rows):
        assert row.data[DWC + "scientificName"] == table.value(position, "Scientific Name")
        assert row.data[DWC + "eventDate"] == f"{table.value(position, 'Event date')}"
        measured = [
            (other[DWC + "measurementType"], other[DWC + "measurementValue"]) for _, other in row.extensions
        ]
        wanted = table.value(position, "Measurements")
        assert measured == [(one["measurementType"], one["measurementValue"]) for one in wanted]
        dynamic = json.loads(row.data[DWC + "dynamicProperties"])
        assert dynamic["studyName"] == table.value(position, "Study name")
    job = service.wait_for(job_id, "done")
    assert (job["task"], job["rows_done"], job["rows_total"]) == ("package_dwc_archive", 344, 344)


def test_the_summary_is_in_the_mail_on_the_page_and_in_its_json(
    service: Service, ckan: FakeCkan, smtp: Sink
) -> None:
    job_id = submit(service, ckan)
    mail = smtp.wait_for(1)[0]
    report = service.wait_for(job_id, "done")["report"]
    assert report.splitlines() == [
        "3 rows in occurrence.csv.",
        "In dynamicProperties, since no term has their name: Bone density.",
        "No column is basisOfRecord, which GBIF asks for (REQUIRED_TERM_MISSING).",
        "It has no metadata, as no EML came with the request (EML_NOT_FOUND).",
    ]
    assert report in mail.text
    page = requests.get(f"{service.url}/jobs/{job_id}", headers={"Accept": "text/html"}, timeout=TIMEOUT).text
    for line in report.splitlines():
        assert line in page
        assert line in mail.html


def test_the_post_of_the_extension_for_a_dwc_resource_is_carried_out(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    """Byte for byte as ckanext-ckanpackager 2.2.9 sends it, but for the addresses and the secret."""
    answer = requests.post(
        service.url + "/package_dwc_archive",
        data=f"secret={SECRET.replace(' ', '+')}&resource_id={BIRDS}&email=someone%40localhost.example"
        f"&format=tsv&api_url=http%3A%2F%2F127.0.0.1%3A{ckan.port}%2Fapi%2Faction%2Fdatastore_search&limit=1000",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept-Encoding": "gzip, deflate"},
        timeout=TIMEOUT,
    )
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    path = collect(smtp.wait_for(1)[0], tmp_path)
    assert names(path) == ["occurrence.tsv", "meta.xml"]
    assert term(read(path), "scientificName") == ["Rosa canina", "Größe, 日本", ""]


@pytest.mark.parametrize(
    ("format", "file"), [("csv", "occurrence.csv"), ("tsv", "occurrence.tsv"), ("XLSX", "occurrence.csv")]
)
@pytest.mark.parametrize("version", ["2.12.0", "2.11.6", "2.9.11"])
def test_every_format_and_every_ckan_gives_the_same_rows(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path, format: str, file: str, version: str
) -> None:
    ckan.version = version
    submit(service, ckan, format=format)
    path = collect(smtp.wait_for(1)[0], tmp_path)
    assert names(path) == [file, "meta.xml"]
    rows = read(path)
    assert term(rows, "occurrenceID") == ["b:1", "b:2", "b:3"]
    # Numbers keep their digits.
    assert term(rows, "dynamicProperties") == ['{"boneDensity": 1.50}', "", '{"boneDensity": 0.0000001}']


# ------------------------------------------------------------- metadata


def test_the_placeholders_of_the_metadata_are_filled_in(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    before = time.gmtime()
    submit(service, ckan, eml="<a id='{package_id}'>{pub_date} {date_stamp} {other} é</a>")
    submit(service, ckan, eml="<a id='{package_id}'/>", for_gbif="0")
    paths = [collect(mail, tmp_path) for mail in smtp.wait_for(2)]
    texts = {names(path).count("gbif.json"): member(path, "eml.xml") for path in paths}
    documents = [etree.fromstring(member(path, "eml.xml").encode()) for path in paths]
    assert len({uuid.UUID(document.get("id")) for document in documents}) == 2
    assert set(texts) == {0}
    (words,) = [document.text.split() for document in documents if document.text]
    assert words[2:] == ["{other}", "é"]
    assert time.strftime("%Y-%m-%d", before) <= words[0] == words[1][:10]
    assert time.strftime("%Y-%m-%dT%H:%M:%SZ", before) <= words[1]
    for path in paths:
        assert etree.fromstring(member(path, "meta.xml").encode()).get("metadata") == "eml.xml"


@pytest.mark.parametrize("eml", ["", " \r\n"])
def test_case_18_empty_metadata_is_as_good_as_none(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path, eml: str
) -> None:
    submit(service, ckan, eml=eml)
    path = collect(smtp.wait_for(1)[0], tmp_path)
    assert names(path) == ["occurrence.csv", "meta.xml"]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"eml": "<a>"}, "eml is not well-formed XML"),
        ({"eml": "{'a': 1}"}, "eml is not well-formed XML"),
        ({"eml": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'}, "eml has a DOCTYPE"),
        ({"eml": f"<a>{'x' * 1_000_000}</a>"}, "eml is longer than 1000000 characters"),
        ({"format": "json"}, "format must be one of csv, tsv, xlsx"),
        ({"for_gbif": "perhaps"}, "for_gbif must be true or false"),
        ({"api_url": ""}, "Parameter api_url is required"),
    ],
)
def test_case_8_and_18_what_cannot_be_an_archive_is_refused_at_the_request(
    service: Service, ckan: FakeCkan, parameters: dict[str, str], sentence: str
) -> None:
    assert sentence in refusal(service, ckan, **parameters)
    with contextlib.closing(sqlite3.connect(service.folder / "stats.db")) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


def test_archives_with_other_metadata_are_not_the_same_package(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    gate = ckan.hold(when=a_page, times=None)
    ids = [
        submit(service, ckan, **parameters)
        for parameters in ({"eml": "<a/>"}, {"eml": "<b/>"}, {}, {"for_gbif": "1"}, {"eml": "<a/>"})
    ]
    gate.open()
    assert len(set(ids)) == 4
    assert ids[0] == ids[4]
    made = [names(collect(mail, tmp_path)) for mail in smtp.wait_for(4)]
    assert sorted(len(each) for each in made) == [2, 3, 3, 3]


# ------------------------------------------------------------- ids


def test_case_14_the_ids_come_along_where_fields_do_not_name_them(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    submit(service, ckan, fields="Scientific Name")
    path = collect(smtp.wait_for(1)[0], tmp_path)
    assert [row.id for row in read(path)] == ["1", "2", "3"]
    header, *_ = csv.reader(io.StringIO(member(path, "occurrence.csv")))
    assert header == ["_id", "scientificName"]


@pytest.mark.parametrize("fields", ["", "Scientific Name"])
def test_case_14_a_resource_without_the_ids_is_refused_before_a_row_is_read(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, fields: str
) -> None:
    service = start_service(DWC_ID_FIELD="catalogue_key")
    job = service.wait_for(submit(service, ckan, fields=fields), "failed")
    assert "There is no column catalogue_key" in job["error"]
    assert "DWC_ID_FIELD" in job["error"]
    assert job["error"] in smtp.wait_for(1)[0].text
    assert all(int(search.get("limit", 100)) == 0 for search in ckan.searches)


def test_case_16_ids_that_are_a_term_are_both(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    service = start_service(DWC_ID_FIELD="Occurrence ID")
    submit(service, ckan, sort="Scientific Name desc")
    rows = read(collect(smtp.wait_for(1)[0], tmp_path))
    assert [(row.id, row.data[DWC + "occurrenceID"]) for row in rows] == [
        (id, id) for id in ("b:3", "b:1", "b:2")
    ]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("x", "Rosa", "1"), ("x", "Zea", "1")], "x"),
        ([("x", "Rosa", "1"), (None, "Zea", "1")], "Occurrence ID"),
    ],
    ids=["differing rows of one id", "a row without an id"],
)
def test_case_15_ids_that_identify_nothing_fail_the_job(
    start_service: StartService,
    ckan: FakeCkan,
    smtp: Sink,
    rows: list[tuple[Any, ...]],
    sentence: str,
) -> None:
    service = start_service(DWC_ID_FIELD="Occurrence ID")
    ckan.add(Resource(BIRDS, COLUMNS, rows))
    job = service.wait_for(submit(service, ckan), "failed")
    assert sentence in job["error"]
    assert "/download/" not in smtp.wait_for(1)[0].text
    assert list(service.store.glob("*.zip")) == []


def test_d3_a_row_that_comes_twice_is_in_the_archive_once_and_counted(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    service = start_service(DWC_ID_FIELD="Occurrence ID")
    ckan.add(Resource(BIRDS, COLUMNS, [("x", "Rosa", "1"), ("x", "Rosa", "1"), ("y", "Zea", "1")]))
    job_id = submit(service, ckan, fields="Occurrence ID,Scientific Name")
    rows = read(collect(smtp.wait_for(1)[0], tmp_path))
    assert [row.id for row in rows] == ["x", "y"]
    assert "1 row came twice and is in it once." in service.wait_for(job_id, "done")["report"]


# ------------------------------------------------------------- hardly anything


def test_case_11_no_rows_give_an_archive_with_a_header(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path
) -> None:
    submit(service, ckan, filters='{"Scientific Name": ["Unicornis"]}', limit="0")
    path = collect(smtp.wait_for(1)[0], tmp_path)
    assert read(path) == []
    assert member(path, "occurrence.csv") == "_id,occurrenceID,scientificName,dynamicProperties\n"


def test_case_12_nothing_for_the_core_fails_with_the_names_of_the_columns(
    start_service: StartService, ckan: FakeCkan
) -> None:
    service = start_service(DWC_DYNAMIC_TERM=None)
    job = service.wait_for(submit(service, ckan, PENGUINS, fields="Flipper Length (mm),Region"), "failed")
    assert "Flipper Length (mm), Region" in job["error"]


# ------------------------------------------------------------- the command line


def test_an_archive_can_be_made_without_a_service(
    ckan: FakeCkan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CKANPACKAGER_CONFIG", raising=False)
    path = tmp_path / "birds.zip"
    words = ["package_dwc_archive", f"resource_id:{BIRDS}", f"api_url:{ckan.api_url}", "eml:<eml/>"]
    assert cli.main(["-D", "package", *words, "--output", str(path)]) == 0
    assert "In dynamicProperties, since no term has their name: Bone density." in capsys.readouterr().out
    check(path)
    assert len(read(path)) == 3
    assert cli.main(["-D", "package", *words, "eml:<eml>", "--output", str(path)]) == 1
    assert "eml is not well-formed XML" in capsys.readouterr().err


def test_an_archive_can_be_asked_for_on_the_command_line(
    service: Service, ckan: FakeCkan, smtp: Sink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"resource_id:{BIRDS}", f"api_url:{ckan.api_url}", "email:visitor@localhost.example"]
    asked = ["-D", "-s", SECRET, "-p", service.url, "queue", "package_dwc_archive", *words, "--wait"]
    assert cli.main(asked) == 0
    mail = smtp.wait_for(1)[0]
    assert mail.link in capsys.readouterr().out
    assert len(read(collect(mail, tmp_path))) == 3
