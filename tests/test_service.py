"""The main job from end to end: a real service, its workers, a CKAN that listens, a mail server."""

import asyncio
import contextlib
import csv
import io
import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import openpyxl
import pytest
import requests

from ckanpackager import cli, systemd
from ckanpackager import service as program
from ckanpackager.database import DatabaseThread
from ckanpackager.demo.ckan import PENGUINS, penguins
from ckanpackager.demo.files import generated_bytes
from ckanpackager.demo.listener import Response
from ckanpackager.demo.table import Resource
from tests.conftest import StartService
from tests.fake_ckan import FakeCkan, a_page, page_from
from tests.services import SECRET, TIMEOUT, Service, children, is_alive
from tests.sinks import DROP, Sink

VISITOR = "visitor@localhost.example"


def ask(ckan: FakeCkan, **parameters: Any) -> dict[str, Any]:
    return {"resource_id": PENGUINS, "api_url": ckan.api_url, **parameters}


def download(url: str) -> zipfile.ZipFile:
    answer = requests.get(url, timeout=TIMEOUT)
    assert answer.status_code == 200
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def rows(url: str, member: str = "resource.csv", delimiter: str = ",") -> list[list[str]]:
    archive = download(url)
    assert archive.namelist() == [member]
    text = archive.read(member).decode()
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def link(sink: Sink, number: int = 1) -> str:
    """The link in the mail that came as the n-th."""
    return sink.wait_for(number)[number - 1].link


# ------------------------------------------------------------- the main job


def test_a_visitor_gets_every_row_by_mail(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    job_id = service.submit(**ask(ckan))
    header, *data = rows(link(smtp))
    assert header == ["_id", *(column.id for column in penguins().columns)]
    assert [int(row[0]) for row in data] == list(range(1, 345))
    mail = smtp.wait_for(1)[0]
    assert mail.recipients == (VISITOR,)
    assert mail.message["Subject"] == f"Resource from {ckan.host}:{ckan.port}"
    job = service.wait_for(job_id)
    assert (job["state"], job["rows_done"], job["rows_total"]) == ("done", 344, 344)
    assert service.events(job_id) == ["queued", "running", "built", "done"]
    assert service.post("/statistics").json()["totals"][PENGUINS] == {"emails": 1, "requests": 1, "errors": 0}


@pytest.mark.parametrize(
    ("format_", "member", "delimiter"), [("csv", "resource.csv", ","), ("tsv", "resource.tsv", "\t")]
)
def test_a_format_is_what_was_asked_for(
    service: Service, ckan: FakeCkan, smtp: Sink, format_: str, member: str, delimiter: str
) -> None:
    service.submit(**ask(ckan, format=format_, limit=3))
    table = rows(link(smtp), member, delimiter)
    assert len(table) == 4
    assert table[1][:4] == ["1", "PAL0708", "1", "Adelie Penguin (Pygoscelis adeliae)"]


def test_odd_tables_come_as_they_are(service: Service, smtp: Sink) -> None:
    names = ['naïve, "quoted"', "日本", "n", "doc", "flag"]
    types = ["text", "text", "numeric", "json", "bool"]
    data = [
        ['line\nbreak, "quotes"', "\t tab", "51.4960000", {"a": [1, None]}, True],
        [None, "", "12345678901234567890.123456789", None, False],
        ["é😀", "=1+1", None, "text", None],
    ]
    odd = Resource("odd", zip(names, types, strict=True), data)
    empty = Resource("empty", [("a", "text")])
    with FakeCkan([odd, empty, Resource("one", [("ä", "text")], [["x"]])]) as ckan:
        first = service.submit(**ask(ckan, resource_id="odd"))
        service.wait_for(first, "done")
        assert rows(link(smtp)) == [
            ["_id", *names],
            ["1", 'line\nbreak, "quotes"', "\t tab", "51.4960000", '{"a": [1, null]}', "t"],
            ["2", "", "", "12345678901234567890.123456789", "null", "f"],
            ["3", "é😀", "=1+1", "", '"text"', ""],
        ]
        second = service.submit(**ask(ckan, resource_id="empty"))
        service.wait_for(second, "done")
        assert rows(link(smtp, 2)) == [["_id", "a"]]
        third = service.submit(**ask(ckan, resource_id="one"))
        service.wait_for(third, "done")
        assert rows(link(smtp, 3)) == [["_id", "ä"], ["1", "x"]]


def test_a_limit_of_nothing_gives_the_header_alone(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    service.submit(**ask(ckan, limit=0, filters=json.dumps({"Island": ["Atlantis"]})))
    assert len(rows(link(smtp))) == 1
    assert not ckan.pages


def test_a_file_comes_as_it_is(start_service: StartService, ckan: FakeCkan, smtp: Sink) -> None:
    ckan.token = "the-key"
    service = start_service(CKAN_HOSTS=[f"{ckan.host}:{ckan.port}"])
    content = os.urandom(3_000_000)
    url = ckan.upload("naïve data.bin", content, private=True)
    service.submit("package_url", resource_id="r", resource_url=url, key="the-key")
    archive = download(link(smtp))
    assert archive.namelist() == ["naïve data.bin"]
    assert archive.read("naïve data.bin") == content


# ------------------------------------------------------------- what the extension posts


def test_the_posts_of_the_extension_are_answered_and_carried_out(
    start_service: StartService, ckan: FakeCkan, smtp: Sink
) -> None:
    """Byte for byte as ckanext-ckanpackager 2.2.9 sends them, but for the addresses and the secret."""
    service = start_service(
        SECRET="8ba6d280d4ce9a416e9b604f3f0ebb-changed", SUCCESS_MESSAGE="Please wait, ö!"
    )
    columns = [
        ("genus", "text"),
        ("Barcode label", "text"),
        ("sex", "text"),
        ("author", "text"),
        ("year", "int4"),
    ]
    plants = [["Rosa", "NHMUK010000001", "", "Linnaeus, 1758", 1758 + n % 7] for n in range(130)]
    ckan.add(
        Resource("48cf7ddd-0bab-4a04-8c2f-162b57fa788c", columns, [*plants, ["Bombus", "x", None, "L.", 1]])
    )
    api_url = f"http%3A%2F%2F127.0.0.1%3A{ckan.port}%2Fapi%2Faction%2Fdatastore_search"
    file_url = ckan.upload("numbers.csv", b"1,2\n").replace(":", "%3A").replace("/", "%2F")
    start = (
        "secret=8ba6d280d4ce9a416e9b604f3f0ebb-changed&resource_id=48cf7ddd-0bab-4a04-8c2f-162b57fa788c"
        "&email=someone%40localhost.example"
    )
    filters = (
        "%7B%22genus%22%3A+%5B%22Rosa%22%2C+%22Carabus%22%5D%2C+%22Barcode+label%22%3A+%5B%22NHMUK010000001"
        "%22%5D%2C+%22sex%22%3A+%5B%22%22%5D%7D"
    )
    posts = [
        ("/package_datastore", f"{start}&format=csv&api_url={api_url}&limit=300000"),
        (
            "/package_datastore",
            f"{start}&format=xlsx&api_url={api_url}&filters={filters}&q=Linnaeus+1758&limit=50&offset=100"
            "&sort=year+ASC%2Cgenus+DESC",
        ),
        (
            "/package_datastore",
            f"{start}&format=csv&key=932c3f86-3566-4aee-8f11-f3e50f255683&api_url={api_url}&limit=0",
        ),
        ("/package_url", f"{start}&format=csv&resource_url={file_url}"),
    ]
    for path, body in posts:
        answer = requests.post(
            service.url + path,
            data=body,
            headers={
                "User-Agent": "python-requests/2.32",
                "Accept-Encoding": "gzip, deflate",
                "Accept": "*/*",
                "Connection": "keep-alive",
                "Content-Type": "application/x-www-form-urlencoded",
            },
            timeout=TIMEOUT,
        )
        assert answer.status_code == 200
        # The extension shows `message`; the README of the retired service promised `msg` and `success`.
        assert answer.json()["message"] == answer.json()["msg"] == "Please wait, ö!"
        assert (answer.json()["success"], answer.json()["status"]) == (True, "success")
    mails = smtp.wait_for(4)
    assert {tuple(mail.recipients) for mail in mails} == {("someone@localhost.example",)}
    packages = [download(link(smtp, number)) for number in range(1, 5)]
    members = [package.namelist() for package in packages]
    assert sorted(members) == [["numbers.csv"], ["resource.csv"], ["resource.csv"], ["resource.xlsx"]]
    sheet = openpyxl.load_workbook(packages[members.index(["resource.xlsx"])].open("resource.xlsx")).active
    assert sheet.max_row == 1 + 30  # of 130 that match, those after 100
    assert [row[5].value for row in sheet.iter_rows(min_row=2)] == sorted(1758 + n % 7 for n in range(130))[
        100:
    ]
    texts = [
        package.read("resource.csv").decode() for package in packages if "resource.csv" in package.namelist()
    ]
    assert sorted(text.count("\n") for text in texts) == [1, 132]
    statistics = requests.post(
        service.url + "/statistics/requests",
        data="secret=8ba6d280d4ce9a416e9b604f3f0ebb-changed&limit=5&offset=2"
        "&resource_id=48cf7ddd-0bab-4a04-8c2f-162b57fa788c&email=someone%40localhost.example",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        timeout=TIMEOUT,
    ).json()
    assert len(statistics["requests"]) == 2
    assert set(statistics["requests"][0]) == {"email", "resource_id", "timestamp", "count", "domain"}


# ------------------------------------------------------------- fast and slow


def test_a_request_without_a_limit_is_sized_first(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(SLOW_REQUEST=52)  # as many as there are on Torgersen
    whole = service.submit(**ask(ckan))
    part = service.submit(**ask(ckan, filters=json.dumps({"Island": "Torgersen"})))
    given = service.submit(**ask(ckan, limit=53))
    jobs = {job_id: service.wait_for(job_id) for job_id in (whole, part, given)}
    assert [job["queue"] for job in jobs.values()] == ["slow", "fast", "slow"]
    assert service.events(whole) == ["queued", "running", "queued", "running", "built", "done"]
    assert service.events(part) == ["queued", "running", "built", "done"]


def test_slow_requests_do_not_hold_up_fast_ones(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(SLOW_REQUEST=100, SLOW_WORKERS=1, FAST_WORKERS=1)
    gate = ckan.hold(when=lambda request: a_page(request) and "Dream" not in str(request.body))
    slow = service.submit(**ask(ckan, limit=344))
    gate.reached()
    fast = service.submit(**ask(ckan, filters=json.dumps({"Island": "Dream"}), limit=50))
    assert service.wait_for(fast)["state"] == "done"
    assert service.job(slow)["state"] == "running"
    gate.open()
    service.wait_for(slow, "done")


def test_the_same_request_again_is_answered_from_the_store(
    service: Service, ckan: FakeCkan, smtp: Sink
) -> None:
    first = service.submit(**ask(ckan))
    service.wait_for(first, "done")
    asked = len(ckan.requests)
    second = service.submit(**ask(ckan, email="other@localhost.example"))
    service.wait_for(second, "done")
    assert len(ckan.requests) == asked
    assert link(smtp, 1) == link(smtp, 2)
    assert smtp.mails[1].recipients == ("other@localhost.example",)
    third = service.submit(**ask(ckan, key="someone's"))
    service.wait_for(third, "done")
    assert link(smtp, 3) != link(smtp, 1)


def test_who_asks_twice_gets_one_package_and_one_mail(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    gate = ckan.hold(when=a_page)
    first = service.submit(**ask(ckan))
    again = service.submit(**ask(ckan))
    other = service.submit(**ask(ckan, email="other@localhost.example"))
    assert again == first != other
    gate.open()
    for job_id in (first, other):
        service.wait_for(job_id, "done")
    mails = smtp.wait_for(2)
    assert sorted(mail.recipients[0] for mail in mails) == ["other@localhost.example", VISITOR]
    assert link(smtp, 1) == link(smtp, 2)
    assert len(list(service.store.glob("*.zip"))) == 1
    assert service.post("/jobs").json()["total"] == 2
    assert service.submit(**ask(ckan)) != first  # that one is finished


def test_a_request_that_is_sent_again_with_its_key_is_the_same_job(service: Service, ckan: FakeCkan) -> None:
    def post(key: str, **parameters: Any) -> requests.Response:
        return requests.post(
            f"{service.url}/package_datastore",
            data={"secret": SECRET, "email": VISITOR, **ask(ckan, **parameters)},
            headers={"Idempotency-Key": key},
            timeout=TIMEOUT,
        )

    first = post("k-1").json()
    service.wait_for(first["job_id"], "done")
    assert post("k-1").json() == first
    service.kill()
    service.start()
    assert post("k-1").json()["job_id"] == first["job_id"]
    other = post("k-1", q="x")
    assert (other.status_code, other.json()["error"]) == (409, "ConflictError")
    assert "Idempotency-Key was used for another request" in other.json()["message"]
    assert post("k-2").json()["job_id"] != first["job_id"]
    for key in ("", "ä", "x" * 256):
        refused = post(key.encode("latin-1"))  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["error"]) == (400, "BadRequestError")
        assert "Idempotency-Key" in refused.json()["message"]


def test_what_is_more_than_the_queue_holds_is_refused(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(QUEUE_LENGTH=2)
    gate = ckan.hold(times=None, when=a_page)
    jobs = [service.submit(**ask(ckan, q=word)) for word in ("Adelie", "Gentoo")]
    refused = service.post("/package_datastore", email=VISITOR, **ask(ckan))
    assert (refused.status_code, refused.json()["error"]) == (503, "UnavailableError")
    assert "more requests than it can take" in refused.json()["message"]
    assert int(refused.headers["Retry-After"]) > 0
    assert service.submit(**ask(ckan, q="Gentoo")) == jobs[1]  # nothing more to do for that
    gate.open()
    ckan.behave()
    for job_id in jobs:
        service.wait_for(job_id, "done")
    service.wait_for(service.submit(**ask(ckan)), "done")


def test_the_visitors_page_says_how_far_it_is(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    gate = ckan.hold(when=a_page)
    first = service.submit(**ask(ckan))
    second = service.submit(**ask(ckan, email="other@localhost.example"))
    gate.reached()
    while service.job(first)["rows_total"] is None:
        pass
    assert "0 of 344 rows" in visit(service, first, "Your package is being made", refreshes=True)
    assert "It is the next one" in visit(
        service, second, "Your package is waiting for its turn", refreshes=True
    )
    smtp.answers["RCPT"] = "550 no such user"
    gate.open()
    service.wait_for(second, "failed")  # the mail alone: the package is there
    link = f'href="{service.job(second)["download_url"]}"'
    assert link in visit(service, second, "Your package is ready", refreshes=False)
    smtp.answers.clear()
    third = service.submit(**ask(ckan, email="third@localhost.example"))
    service.wait_for(third, "done")
    visit(service, third, "Your package is ready", refreshes=False)
    service.post("/clear_caches")
    visit(service, third, "Your package has been removed", refreshes=False)
    failed = service.submit(**ask(ckan, resource_id="nope"))
    service.wait_for(failed, "failed")
    assert "Resource &quot;nope&quot; was not found" in visit(
        service, failed, "Your package could not be made", refreshes=False
    )


def test_what_is_worth_knowing_about_a_package_is_on_its_page(service: Service, ckan: FakeCkan) -> None:
    job_id = service.submit(**ask(ckan))
    service.wait_for(job_id, "done")
    with contextlib.closing(sqlite3.connect(service.folder / "stats.db")) as database:
        database.execute("UPDATE packages SET report = '2 rows <b>without</b> date\nand more'")
        database.commit()
    assert service.job(job_id)["report"] == "2 rows <b>without</b> date\nand more"
    page = visit(service, job_id, "Your package is ready", refreshes=False)
    assert "<li>2 rows &lt;b&gt;without&lt;/b&gt; date</li><li>and more</li>" in page


def visit(service: Service, job_id: str, headline: str, *, refreshes: bool) -> str:
    """The page of the job, as a browser gets it."""
    answer = requests.get(
        f"{service.url}/jobs/{job_id}", headers={"Accept": "text/html, application/json"}, timeout=TIMEOUT
    )
    assert answer.headers["Content-Type"].startswith("text/html")
    assert f"<h1>{headline}</h1>" in answer.text
    assert ('http-equiv="refresh"' in answer.text) is refreshes
    assert VISITOR not in answer.text
    return answer.text


# ------------------------------------------------------------- what goes wrong


def test_the_words_of_ckan_reach_the_visitor(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    job_id = service.submit(**ask(ckan, resource_id="nope"))
    job = service.wait_for(job_id)
    assert job["state"] == "failed"
    assert 'Not found: Resource "nope" was not found' in job["error"]
    mail = smtp.wait_for(1)[0]
    assert 'Resource "nope" was not found' in mail.text
    assert mail.recipients == (VISITOR,)
    errors = service.post("/statistics/errors").json()["errors"]
    assert [(error["email"], error["resource_id"]) for error in errors] == [(VISITOR, "nope")]
    assert "nope" in errors[0]["message"]
    assert service.post("/statistics").json()["totals"]["*"] == {"emails": 0, "requests": 0, "errors": 1}


def test_words_that_cannot_be_stored_cost_only_themselves(service: Service, ckan: FakeCkan) -> None:
    body = rb'{"success": false, "error": {"message": "odd \u0000 words"}}'
    ckan.fault(lambda request: Response(404, body, {"Content-Type": "application/json"}))
    job = service.wait_for(service.submit(**ask(ckan)), "failed")
    assert "odd  words" in job["error"]
    service.wait_for(service.submit(**ask(ckan)), "done")


def test_a_file_that_is_short_is_never_announced(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    ckan.lie(400)
    job = service.wait_for(service.submit(**ask(ckan)))
    assert job["state"] == "failed"
    assert "Only 344 of 400 rows" in job["error"]
    assert job["download_url"] is None
    assert "Only 344 of 400 rows" in smtp.wait_for(1)[0].text
    assert list(service.store.glob("*.zip")) == []


def test_a_ckan_that_is_down_makes_jobs_wait(service: Service, ckan: FakeCkan) -> None:
    ckan.status(404, times=None, body=b'"x"')
    final = service.submit(**ask(ckan, q="x"))
    assert service.wait_for(final)["state"] == "failed"
    host, port = ckan.host, ckan.port
    ckan.close()
    waiting = service.submit(resource_id=PENGUINS, api_url=f"http://{host}:{port}/api")
    service.wait_for_log(rf"job {waiting} queued: waits for its source")
    assert "refused" in service.job(waiting)["error"]


def test_a_ckan_that_asks_for_an_hour_is_given_it(service: Service, ckan: FakeCkan) -> None:
    ckan.status(503, retry_after=3600)
    asked = time.time()
    job_id = service.submit(**ask(ckan))
    service.wait_for_log(rf"job {job_id} queued: waits for its source")
    until = service.post(f"/jobs/{job_id}").json()["job"]["not_before"]
    assert asked + 3600 <= until <= time.time() + 3600
    assert len(ckan.requests) == 1


def test_a_mail_server_that_is_down_delays_the_mail(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    smtp.answers["CONNECT"] = DROP
    job_id = service.submit(**ask(ckan))
    job = service.wait_for(job_id, "built")
    assert rows(job["download_url"])[0][0] == "_id"
    service.wait_for_log("mail about it waits")
    smtp.answers.clear()
    service.kill()
    service.start()  # and a restart does not forget it either
    assert link(smtp).rpartition("/")[2] == job["download_url"].rpartition("/")[2]
    service.wait_for(job_id, "done")


def test_a_killed_worker_costs_no_job(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    gate = ckan.hold(when=a_page)
    job_id = service.submit(**ask(ckan))
    gate.reached()
    (worker,) = service.worker_pids()
    os.kill(worker, signal.SIGKILL)
    service.wait_for_log(rf"job {job_id} queued: its worker died \(killed \(SIGKILL\)")
    gate.open()
    assert service.wait_for(job_id, "done")["rows_done"] == 344
    assert len(rows(link(smtp))) == 345
    assert len(smtp.mails) == 1
    assert leftovers(service) == []


def test_a_job_that_stands_still_is_begun_anew_and_leaves_nothing(
    start_service: StartService, ckan: FakeCkan, smtp: Sink
) -> None:
    service = start_service(FAST_STALL_TIMEOUT=1)
    service.wait_for_log("FAST_STALL_TIMEOUT is not more than CONNECT_TIMEOUT and READ_TIMEOUT")
    gate = ckan.hold(when=a_page)
    job_id = service.submit(**ask(ckan))
    gate.reached()
    (worker,) = service.worker_pids()
    service.wait_for_log(rf"job {job_id} queued: its worker died \(stopped after 1 seconds without progress")
    assert not is_alive(worker)
    assert service.wait_for(job_id, "done")["rows_done"] == 344
    assert leftovers(service) == []
    assert len(smtp.wait_for(1)) == 1


def test_a_job_that_kills_its_worker_is_given_up(
    start_service: StartService, ckan: FakeCkan, smtp: Sink
) -> None:
    service = start_service(MAX_ATTEMPTS=1)
    gate = ckan.hold(when=a_page)
    job_id = service.submit(**ask(ckan))
    gate.reached()
    os.kill(service.worker_pids()[0], signal.SIGKILL)
    assert "died" in service.wait_for(job_id, "failed")["error"]
    assert "died" in smtp.wait_for(1)[0].text


def test_a_killed_service_loses_no_accepted_job(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    gate = ckan.hold(times=None, when=page_from(0))
    jobs = [
        service.submit(**ask(ckan, filters=json.dumps({"Island": island}))) for island in ("Dream", "Biscoe")
    ]
    jobs += [service.submit(**ask(ckan, q=word)) for word in ("Adelie", "Gentoo", "Chinstrap")]
    gate.reached()
    everyone = [service.process.pid, *descendants(service.process.pid)]
    assert len(everyone) >= 3
    service.kill()
    gate.open()
    ckan.behave()
    service.start()
    assert {service.wait_for(job_id)["state"] for job_id in jobs} == {"done"}
    assert len(smtp.wait_for(5)) == 5
    assert not [pid for pid in everyone if is_alive(pid)]
    assert leftovers(service) == []


def test_a_killed_forkserver_costs_no_job(service: Service, ckan: FakeCkan) -> None:
    gate = ckan.hold(when=a_page)
    job_id = service.submit(**ask(ckan))
    gate.reached()
    (worker,) = service.worker_pids()
    forkserver = parent(worker)
    assert forkserver != service.process.pid
    os.kill(forkserver, signal.SIGKILL)
    service.wait_for_log(rf"job {job_id} queued: its worker died")
    gate.open()
    service.wait_for(job_id, "done")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return [*found, *(below for child in found for below in descendants(child))]


def leftovers(service: Service) -> list[str]:
    """What lies in the folders of work in progress, but for multiprocessing's own."""
    drafts = (service.store / ".drafts").iterdir()
    scratch = [path for corner in service.scratch.iterdir() for path in corner.iterdir()]
    return [str(path) for path in (*drafts, *scratch) if not path.name.startswith("pymp-")]


@pytest.mark.parametrize("end", ["its worker dies", "the job is cancelled", "the service is killed"])
def test_a_zip_command_does_not_outlive_its_job(
    start_service: StartService, ckan: FakeCkan, tmp_path: Path, end: str
) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    service = start_service(
        ZIP_COMMAND=f"/bin/sh -c 'echo $$ > {fifo}; exec sleep 60' sh {{output}} {{input}}", MAX_ATTEMPTS=1
    )
    job_id = service.submit(**ask(ckan))
    command = os.pidfd_open(int(fifo.read_text()))
    if end == "its worker dies":
        os.kill(service.worker_pids()[0], signal.SIGKILL)
    elif end == "the job is cancelled":
        service.post(f"/jobs/{job_id}/cancel")
    else:
        service.kill()
    ended, _, _ = select.select([command], [], [], TIMEOUT)
    os.close(command)
    assert ended


def test_what_a_kill_leaves_in_temporary_folders_is_swept(start_service: StartService) -> None:
    # Sockets lie in them, whose paths must be short.
    with tempfile.TemporaryDirectory() as folder:
        (temporary := Path(folder, "tmp")).mkdir()
        service = start_service(TEMP_DIRECTORY=f"{folder}/scratch")
        for _ in range(2):
            service.kill()
            service.start({"TMPDIR": str(temporary)})
        assert len(list(Path(folder).glob("scratch/*/pymp-*"))) == 1
        assert list(temporary.iterdir()) == []
        assert service.stop() == 0
        assert list(Path(folder).glob("scratch/*/*")) == []


# ------------------------------------------------------------- being stopped


def test_sigterm_lets_what_runs_finish(service: Service, ckan: FakeCkan) -> None:
    gate = ckan.hold(when=a_page)
    job_id = service.submit(**ask(ckan))
    gate.reached()
    service.process.send_signal(signal.SIGTERM)
    service.wait_for_log("SIGTERM: stopping")
    refused = service.post("/package_datastore", email=VISITOR, **ask(ckan, q="x"))
    assert (refused.status_code, refused.json()["error"]) == (503, "UnavailableError")
    assert int(refused.headers["Retry-After"]) > 0
    assert service.job(job_id)["state"] == "running"
    gate.open()
    service.wait_for_log(rf"job {job_id} built")
    assert service.process.wait(TIMEOUT) == 0


def test_sigterm_hands_back_what_does_not_finish(
    start_service: StartService, ckan: FakeCkan, smtp: Sink
) -> None:
    service = start_service(STOP_GRACE=0)
    gate = ckan.hold(when=a_page)
    job_id = service.submit(**ask(ckan))
    gate.reached()
    assert service.stop() == 0
    service.wait_for_log(rf"job {job_id} queued: the service is stopping")
    assert leftovers(service) == []
    gate.open()
    service.start()
    service.wait_for(job_id, "done")
    assert len(rows(link(smtp))) == 345


def test_ctrl_c_stops_it_as_well(service: Service) -> None:
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(TIMEOUT) == 0
    service.wait_for_log("SIGINT: stopping")


@pytest.mark.parametrize("kind", ["a file", "abstract"])
def test_systemd_is_told_how_the_service_is(service: Service, tmp_path: Path, kind: str) -> None:
    service.stop()
    address = str(tmp_path / "s") if kind == "a file" else f"@ckanpackager-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(TIMEOUT)
        manager.bind(address.replace("@", "\0"))
        service.start({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
        assert manager.recv(100) == b"READY=1"
        assert service.post("/status").status_code == 200
        assert [manager.recv(100) for _ in range(5)] == [b"WATCHDOG=1"] * 5
        service.process.send_signal(signal.SIGTERM)
        while (said := manager.recv(100)) == b"WATCHDOG=1":
            pass
        assert said == b"STOPPING=1"
        assert service.process.wait(TIMEOUT) == 0


def test_systemd_hears_nothing_while_the_database_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        said: list[str] = []
        monkeypatch.setenv("WATCHDOG_USEC", "2")
        monkeypatch.setattr(systemd, "notify", said.append)
        database, hangs = DatabaseThread(), threading.Event()
        busy = asyncio.create_task(database(hangs.wait))
        watchdog = asyncio.create_task(program._feed_watchdog(database))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert said == []
        hangs.set()
        await busy
        while not said:
            await asyncio.sleep(0)
        assert said[0] == "WATCHDOG=1"
        watchdog.cancel()
        await database.close()

    asyncio.run(scene())


def test_a_systemd_that_does_not_listen_stops_nothing(service: Service, tmp_path: Path) -> None:
    service.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        for address in (str(tmp_path / "deaf"), str(tmp_path / "nowhere")):
            service.start({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200"})
            service.wait_for_log(r"systemd was not told WATCHDOG=1", after=len(service.lines))
            assert service.post("/status").status_code == 200
            assert service.stop() == 0


def test_systemd_hears_twice_in_the_time_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert systemd.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert systemd.watchdog_seconds() == 30


def test_two_services_do_not_share_a_store(service: Service) -> None:
    second = subprocess.run(
        [Path(service.process.args[0])],
        env={**os.environ, "CKANPACKAGER_CONFIG": str(service.folder / "settings.py")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert second.returncode == os.EX_CONFIG
    assert "in use by another ckanpackager-service" in second.stderr
    assert "Traceback" not in second.stderr


# ------------------------------------------------------------- the admin's hands


def test_a_running_job_can_be_cancelled(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    gate = ckan.hold(when=a_page)
    job_id = service.submit(**ask(ckan))
    gate.reached()
    (worker,) = service.worker_pids()
    answer = service.post(f"/jobs/{job_id}/cancel").json()
    assert answer["job"]["state"] == "cancelled"
    other = service.submit(**ask(ckan, q="Adelie"))
    service.wait_for(other, "done")
    gate.open()
    assert [mail.text.count("/download/") for mail in smtp.wait_for(1)] == [1]
    assert not is_alive(worker)
    assert leftovers(service) == []
    assert service.post(f"/jobs/{job_id}/cancel").status_code == 409
    assert service.post("/status").json()["queue_length"] == 0


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize("state", ["queued", "running", "built"])
def test_a_visitor_can_cancel_from_the_page_and_nothing_is_left(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, state: str, accept: str
) -> None:
    service = start_service(FAST_WORKERS=1)
    first = service.submit(**ask(ckan, q="Gentoo"))
    service.wait_for(first, "done")
    if state == "built":
        smtp.answers["CONNECT"] = DROP
        job_id = service.submit(**ask(ckan))
        service.wait_for_log("mail about it waits")
    else:
        gate = ckan.hold(when=a_page)
        running = service.submit(**ask(ckan))
        gate.reached()
        job_id = running if state == "running" else service.submit(**ask(ckan, q="Adelie"))
    workers = service.worker_pids() if state == "running" else []
    assert len(workers) == (state == "running")
    page = requests.get(f"{service.url}/jobs/{job_id}", headers={"Accept": "text/html"}, timeout=TIMEOUT)
    action = re.search(
        r'<form method="post" action="(\S+)"><input type="hidden" name="confirm" value="yes">', page.text
    )
    assert action is not None
    address = urljoin(page.url, action[1])
    # A program that follows every link does no harm, nor one that posts nothing.
    assert requests.get(address, timeout=TIMEOUT).status_code == 405
    assert requests.head(address, timeout=TIMEOUT).status_code == 405
    assert requests.post(address, timeout=TIMEOUT).status_code == 401
    assert (
        requests.post(address, data={"confirm": "yes", "secret": "wrong"}, timeout=TIMEOUT).status_code == 401
    )
    assert service.job(job_id)["state"] == state

    done = requests.post(address, data={"confirm": "yes"}, headers={"Accept": accept}, timeout=TIMEOUT)
    assert done.status_code == 200
    if accept == "text/html":
        assert (done.url, done.history[0].status_code) == (page.url, 303)
        assert "<h1>Your package was cancelled</h1>" in done.text
        assert "ask for it again on the data portal" in done.text
        assert "<form" not in done.text
    else:
        assert done.json()["job"] == service.job(job_id)
        assert "email" not in done.json()["job"]
    assert service.job(job_id)["state"] == "cancelled"
    assert service.job(job_id)["download_url"] is None
    shown = service.post(f"/jobs/{job_id}").json()
    assert shown["job"]["mails"] == []
    assert shown["events"][-1]["reason"] == "cancelled on its page"
    again = requests.post(address, data={"confirm": "yes"}, headers={"Accept": accept}, timeout=TIMEOUT)
    assert again.status_code == 409
    assert again.headers["Content-Type"].startswith(accept)

    smtp.answers.clear()
    if state == "queued":
        gate.open()
    service.wait_for(service.submit(**ask(ckan, q="Chinstrap")), "done")
    assert not [pid for pid in workers if is_alive(pid)]
    if state == "running":
        assert leftovers(service) == []
    assert job_id not in "".join(mail.text for mail in smtp.mails)


def test_a_failed_job_can_be_tried_again(service: Service, ckan: FakeCkan) -> None:
    ckan.lie(400)
    job_id = service.submit(**ask(ckan))
    service.wait_for(job_id, "failed")
    ckan.behave()
    assert service.post(f"/jobs/{job_id}/retry").status_code == 200
    service.wait_for(job_id, "done")
    assert service.post(f"/jobs/{job_id}/retry").status_code == 409
    shown = service.post("/jobs", state="done").json()
    assert (shown["total"], shown["jobs"][0]["id"], shown["jobs"][0]["email"]) == (1, job_id, VISITOR)
    assert service.post("/jobs", limit=0).json()["jobs"] == []
    assert "email" not in service.job(job_id)


def test_clearing_the_caches_removes_packages(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    service.wait_for(service.submit(**ask(ckan)), "done")
    for narrower in ({"expired": "true"}, {"older_than": 3600}):
        kept = service.post("/clear_caches", **narrower).json()
        assert (kept["removed"], kept["freed"]) == (0, 0)
    answer = service.post("/clear_caches").json()
    assert answer["removed"] == 1
    assert answer["freed"] > 1000
    assert list(service.store.glob("*.zip")) == []
    gone = requests.get(link(smtp), timeout=TIMEOUT)
    assert (gone.status_code, "has been removed" in gone.text) == (410, True)
    again = service.submit(**ask(ckan))
    service.wait_for(again, "done")
    assert len(rows(link(smtp, 2))) == 345


# ------------------------------------------------------------- ways to pack


def test_a_zip_command_is_used_where_it_is_set(
    start_service: StartService, ckan: FakeCkan, smtp: Sink
) -> None:
    service = start_service(ZIP_COMMAND="/usr/bin/zip -9 -j {output} {input}")
    service.wait_for(service.submit(**ask(ckan)), "done")
    assert len(rows(link(smtp))) == 345
    assert leftovers(service) == []


def test_a_zip_command_that_fails_fails_the_job(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(ZIP_COMMAND="/bin/sh -c 'echo no room >&2; exit 3' {output} {input}")
    job = service.wait_for(service.submit(**ask(ckan)))
    assert job["state"] == "failed"
    assert "no room" in job["error"]
    assert leftovers(service) == []


def test_no_secret_or_key_is_logged(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(DEBUG=True)
    service.wait_for(service.submit(**ask(ckan, key="a-very-private-key")), "done")
    service.wait_for(service.submit(**ask(ckan, key="a-very-private-key", resource_id="no")), "failed")
    service.post("/status", secret="a wrong secret")
    for word in ("a-very-private-key", service.settings["SECRET"], "a wrong secret", VISITOR):
        assert word not in service.log


@pytest.mark.parametrize("debug", [False, True])
def test_nothing_private_is_logged_whatever_goes_wrong(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, debug: bool
) -> None:
    service = start_service(DEBUG=debug, SMTP_PASSWORD="a-very-private-password")
    key, address = "a-very-private-key", "Some.Visitor+tag@localhost.example"

    def refuse(code: int) -> str:
        return f"{code} <{address}>: {address.lower()} {address.upper()} unknown, from packager@localhost.example"

    said = f'{{"success": false, "error": {{"message": "{key} is wrong, {address}"}}}}'.encode()
    ckan.fault(lambda request: Response(403, said, {"Content-Type": "application/json"}))
    failed = service.submit(**ask(ckan, key=key, email=address))
    assert "(hidden) is wrong" in service.wait_for(failed, "failed")["error"]
    for code, seen in ((550, "given up"), (451, "waits")):
        smtp.answers["RCPT"] = refuse(code)
        job_id = service.submit(**ask(ckan, email=address, q=f"w{code}"))
        service.wait_for_log(f"job {job_id}: the mail about it (is )?{seen}")
    smtp.answers["MAIL"] = refuse(550)
    job_id = service.submit(**ask(ckan, email=address, q="sender"))
    service.wait_for_log(f"job {job_id}: the mail about it waits: .* refused the sender")
    service.post("/package_datastore", **ask(ckan, email="two@localhost.example,three@localhost.example"))
    service.post("/status", secret="a wrong secret")
    log = service.log.lower()
    assert "...@localhost.example" in log
    for word in (key, service.settings["SECRET"], "a-very-private-password", "a wrong secret"):
        assert word not in log
    assert re.findall(r"[\w+.-]*\w@[\w.]+", log) == []


def test_the_admin_sees_and_steers_jobs_from_the_command_line(
    service: Service, ckan: FakeCkan, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> str:
        status = cli.main(["-D", "-s", SECRET, "-p", service.url, "jobs", *words])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return str(out)

    ckan.lie(400)
    job_id = service.submit(**ask(ckan))
    service.wait_for(job_id, "failed")
    assert job_id in run("list", "--state", "failed")
    shown = run("show", job_id)
    for reason in ("accepted", "given to a fast worker", "Only 344 of 400 rows"):
        assert re.search(rf"(queued|running|failed) .*{reason}", shown)
    ckan.behave()
    gate = ckan.hold(when=a_page)
    assert re.search("queued|running", run("retry", job_id))  # a worker may have it already
    gate.reached()
    assert "cancelled" in run("cancel", job_id)
    assert "cancelled" in run("show", job_id)
    # One line in the log for each change, and no more.
    events = service.post(f"/jobs/{job_id}").json()["events"]
    lines = [line for line in service.lines if f"job {job_id} " in line and " INFO " in line]
    assert len(lines) == len(events) == 6


# ------------------------------------------------------------- large, and elsewhere


def test_half_a_gigabyte_by_its_address_costs_no_memory(service: Service, ckan: FakeCkan) -> None:
    size = 500_000_000
    job_id = service.submit("package_url", resource_id="r", resource_url=ckan.upload("big.bin", size))
    service.wait_for(job_id, "running")
    peaks = []
    while (job := service.job(job_id))["state"] == "running":
        if (job["bytes_done"] or 0) > size // 10:
            peaks += [peak_megabytes(pid) for pid in service.worker_pids()]
    url = service.wait_for(job_id, "done", timeout=60)["download_url"]
    assert peaks
    assert max(peaks) < 128
    path = service.store / url.rpartition("/")[2]
    with zipfile.ZipFile(path) as archive, archive.open("big.bin") as member:
        assert archive.getinfo("big.bin").file_size == size
        wanted = generated_bytes(size)
        while chunk := member.read(65536):
            assert chunk == next(wanted)
    assert next(wanted, None) is None


def peak_megabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)


def test_the_whole_way_works_on_postgresql(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, postgresql: str
) -> None:
    service = start_service(STATS_DB=postgresql)
    job_id = service.submit(**ask(ckan))
    service.wait_for(job_id, "done")
    assert len(rows(link(smtp))) == 345
    service.kill()
    service.start()
    assert service.job(job_id)["state"] == "done"
    assert service.post("/status").json()["processed_requests"] == 1
    assert requests.get(f"{service.url}/download/a%00.zip", timeout=TIMEOUT).status_code == 404
    assert service.stop() == 0  # before its database goes


def long_definition(folder: Path) -> str:
    """The path of a definition that takes so long to read that whoever reads it can be caught at it."""
    terms = "".join(
        f'<property name="t{n}" namespace="http://x/" qualName="http://x/t{n}"/>' for n in range(50_000)
    )
    path = folder / "long.xml"
    path.write_text(f'<extension name="Long" rowType="http://x/Long">{terms}</extension>')
    return str(path)


def test_a_start_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    service = Service(tmp_path, DWC_ADDITIONAL_EXTENSIONS=[long_definition(tmp_path)])
    service.begin_to_start()
    deadline = time.monotonic() + TIMEOUT
    below: list[int] = []
    # Until a process of its forkserver's reads the definitions.
    while not any(children(pid) for pid in below):
        assert time.monotonic() < deadline, service.log
        below = children(service.process.pid)
    below += [pid for parent in below for pid in children(parent)]
    service.process.kill()
    while any(is_alive(pid) for pid in below):
        assert time.monotonic() < deadline, "processes live on"
    service.kill()


def test_a_start_goes_on_where_the_reader_of_definitions_is_killed(
    tmp_path: Path,
) -> None:
    service = Service(tmp_path, DWC_ADDITIONAL_EXTENSIONS=[long_definition(tmp_path)])
    service.begin_to_start()
    deadline = time.monotonic() + TIMEOUT
    readers: list[int] = []
    while not readers:
        assert time.monotonic() < deadline, service.log
        readers = [child for pid in children(service.process.pid) for child in children(pid)]
    os.kill(readers[0], signal.SIGKILL)
    service.wait_for_log(r"listens on (\S+)")
    assert service.stop() == 0
