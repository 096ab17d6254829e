"""The contract over HTTP: every answer has its status and its shape, whatever is sent."""

import contextlib
import http.client
import json
import socket
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from tornado.template import Loader

from ckanpackager import figures
from ckanpackager.demo.ckan import PENGUINS
from ckanpackager.web import app
from tests.conftest import StartService
from tests.fake_ckan import FakeCkan
from tests.services import SECRET, TIMEOUT, Service, running_service

POSTS = [
    "/",
    "/status",
    "/package_datastore",
    "/package_url",
    "/statistics",
    "/statistics/requests",
    "/statistics/errors",
    "/clear_caches",
    "/jobs",
    "/jobs/" + "0" * 32,
    "/jobs/" + "0" * 32 + "/retry",
    "/jobs/" + "0" * 32 + "/cancel",
]
VALID = {
    "resource_id": PENGUINS,
    "email": "visitor@localhost.example",
    "api_url": "http://127.0.0.1:9/api/action/datastore_search",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests here: none of them depends on what it has done."""
    folder = tmp_path_factory.mktemp("web")
    with running_service(folder / "service", SMTP_HOST="127.0.0.1", SMTP_PORT=9) as service:
        yield service


def assert_refused(answer: requests.Response, status: int, error: str) -> str:
    """The one shape of an error. Returns its message."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"success", "status", "error", "msg", "message"}
    assert (body["success"], body["status"], body["error"]) == (False, "failed", error)
    assert body["msg"] == body["message"] != ""
    assert "Traceback" not in answer.text
    return str(body["message"])


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("secret", ["wrong", "", None, SECRET + "x", SECRET[:-1], "wröng", "\ud800"])
def test_nothing_is_done_without_the_secret(service: Service, path: str, secret: str | None) -> None:
    answer = requests.post(
        service.url + path, json={"secret": secret, **VALID} if secret is not None else VALID, timeout=TIMEOUT
    )
    assert_refused(answer, 401, "NotAuthorizedError")


def test_a_secret_that_is_not_ascii_works(start_service: StartService) -> None:
    service = start_service(SECRET="geheimes Wörtchen")
    assert service.post("/status", secret="geheimes Wörtchen").status_code == 200
    assert_refused(service.post("/status", secret="geheimes Wortchen"), 401, "NotAuthorizedError")


@pytest.mark.parametrize(
    "path", ["/nothing", "/package_nothing", "/jobs/1", "/download/", "/status/", "/x" * 900]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"])
def test_an_unknown_path_is_not_found(service: Service, path: str, method: str) -> None:
    answer = requests.request(method, service.url + path, timeout=TIMEOUT)
    assert answer.status_code == 404
    if method != "HEAD":
        assert_refused(answer, 404, "NotFoundError")


@pytest.mark.parametrize("path", [path for path in POSTS if path not in ("/", "/jobs/" + "0" * 32)])
def test_what_wants_a_post_says_so(service: Service, path: str) -> None:
    answer = requests.get(service.url + path, timeout=TIMEOUT)
    assert_refused(answer, 405, "MethodNotAllowedError")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "application/json", "", "text/x"]
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"\xff\xfe\x00",
        b"{",
        b"[1]",
        b"%7B%22secret",
        b"%7B%FF",
        b"=&=&=",
        b"{" * 5000,
        b"null",
    ],
)
def test_garbage_is_refused(service: Service, content_type: str, body: bytes) -> None:
    answer = requests.post(
        service.url + "/status", data=body, headers={"Content-Type": content_type}, timeout=TIMEOUT
    )
    assert answer.status_code in (400, 401)
    assert_refused(answer, answer.status_code, answer.json()["error"])


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("application/json", b"[1]", "must be a JSON object"),
        ("application/json", b"secret=x", "not JSON"),
        ("", b"%7B%22a%22%3A%22%FF%22%7D", "not UTF-8"),
        ("application/x-www-form-urlencoded", b"secret=%FF", "not UTF-8"),
        ("", b"\xff", "not UTF-8"),
        ("application/json", b'{"a": ' * 100_000, "not JSON"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_said(service: Service, content_type: str, body: bytes, message: str) -> None:
    headers = {"Content-Type": content_type}
    answer = requests.post(service.url + "/status", data=body, headers=headers, timeout=TIMEOUT)
    assert message in assert_refused(answer, 400, "BadRequestError")


@pytest.mark.parametrize(
    "body",
    [
        b"--x\r\n\r\nno name\r\n--x--",
        b"garbage",
        b"",
        b'--x\r\nContent-Disposition: form-data; name="secret"',
    ],
)
def test_a_broken_multipart_form_is_refused(service: Service, body: bytes) -> None:
    for content_type in ("multipart/form-data; boundary=x", "multipart/form-data"):
        answer = requests.post(
            service.url + "/status", data=body, headers={"Content-Type": content_type}, timeout=TIMEOUT
        )
        assert answer.status_code in (400, 401)
        assert_refused(answer, answer.status_code, answer.json()["error"])


def test_more_parameters_than_any_request_has_are_refused(service: Service) -> None:
    answer = service.post("/status", **{f"parameter{number}": "" for number in range(1000)})
    assert "more than 1000 parameters" in assert_refused(answer, 400, "BadRequestError")


def test_a_huge_body_is_refused_and_not_kept(service: Service) -> None:
    before = peak_megabytes(service.process.pid)
    body = b"x" * 110_000_000  # also more than Tornado would take by itself
    answer = requests.post(service.url + "/package_datastore", data=body, timeout=TIMEOUT)
    assert_refused(answer, 413, "TooLargeError")
    assert peak_megabytes(service.process.pid) < before + 25


def test_a_huge_body_in_chunks_is_refused_too(service: Service) -> None:
    answer = requests.post(service.url + "/status", data=iter([b"x" * 1_000_000] * 20), timeout=TIMEOUT)
    assert_refused(answer, 413, "TooLargeError")


def peak_megabytes(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


PARAMETERS = {"secret": SECRET, "offset": "0", "limit": "7", "resource_id": "räsource"}


@pytest.mark.parametrize(
    "request_",
    [
        {"data": PARAMETERS},
        {"json": PARAMETERS},
        {"json": {**PARAMETERS, "offset": 0, "limit": 7}},
        {"files": {name: (None, value) for name, value in PARAMETERS.items()}},
        {"files": {name: ("file", value) for name, value in PARAMETERS.items()}},
        {
            "data": "".join(
                f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
                for name, value in PARAMETERS.items()
            ).encode()
            + b"--x--\r\n",
            "headers": {"Content-Type": "Multipart/Form-Data; boundary=x"},
        },
        {"data": json.dumps(PARAMETERS), "headers": {"Content-Type": "Application/JSON; charset=utf-8"}},
        {"data": urllib.parse.quote(json.dumps(PARAMETERS))},
        {
            "data": urllib.parse.quote(json.dumps(PARAMETERS)),
            "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        },
        {"data": json.dumps(PARAMETERS), "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    ],
    ids=[
        "form",
        "json",
        "typed json",
        "multipart",
        "files",
        "Multipart",
        "JSON",
        "quoted json",
        "quoted json as form",
        "json as form",
    ],
)
def test_parameters_may_be_written_in_four_ways(service: Service, request_: dict[str, Any]) -> None:
    answer = requests.post(service.url + "/statistics/requests", timeout=TIMEOUT, **request_)
    assert answer.json() == {"success": True, "status": "success", "requests": []}


@pytest.mark.parametrize(
    ("path", "parameters", "named"),
    [
        ("/package_datastore", {**VALID, "email": "nobody"}, "email"),
        ("/package_datastore", {**VALID, "resource_id": ""}, "resource_id"),
        ("/package_datastore", {**VALID, "api_url": "ckan"}, "api_url"),
        ("/package_datastore", {**VALID, "limit": "many"}, "limit"),
        ("/package_datastore", {**VALID, "filters": "["}, "filters"),
        ("/package_datastore", {**VALID, "format": "pdf"}, "format"),
        ("/package_url", VALID, "resource_url"),
        ("/statistics/requests", {"limit": "x"}, "limit"),
        ("/statistics/errors", {"offset": "-1"}, "offset"),
        ("/statistics/requests", {"limit": "10001"}, "limit"),
        ("/jobs", {"state": "lost"}, "state"),
        ("/clear_caches", {"older_than": "x"}, "older_than must be a whole number of seconds"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(
    service: Service, path: str, parameters: dict[str, str], named: str
) -> None:
    assert named in assert_refused(service.post(path, **parameters), 400, "BadRequestError")


@pytest.mark.parametrize("name", ["secret", "filters", "limit", "plain", "fields", "email", "other"])
@pytest.mark.parametrize("depth", [40, 400, 950])
def test_json_that_is_nested_deeply_is_refused(service: Service, name: str, depth: int) -> None:
    value = "[" * depth + "]" * depth
    for nested in (value, f'{{"a": {value}}}'):
        answer = requests.post(
            service.url + "/package_datastore",
            data=f'{{"secret": "{SECRET}", {json.dumps(VALID)[1:-1]}, "{name}": {nested}}}',
            timeout=TIMEOUT,
        )
        assert "nested too deeply" in assert_refused(answer, 400, "BadRequestError")


def test_a_database_that_cannot_be_used_is_said(start_service: StartService) -> None:
    service = start_service()
    with contextlib.closing(sqlite3.connect(service.folder / "stats.db")) as database:
        database.execute("alter table requests rename to elsewhere")
        for path in ("/statistics", "/status"):
            answer = service.post(path)
            assert_refused(answer, 503, "UnavailableError")
            assert int(answer.headers["Retry-After"]) > 0
        database.execute("alter table elsewhere rename to requests")
    assert service.post("/statistics").status_code == 200


def test_a_refused_request_is_not_accepted(service: Service) -> None:
    before = service.post("/jobs").json()["total"]
    service.post("/package_datastore", **{**VALID, "email": "x"})
    service.post("/package_datastore", secret="wrong", **VALID)
    assert service.post("/jobs").json()["total"] == before


def test_a_job_that_is_not_there_is_not_found(service: Service) -> None:
    for path in POSTS[-3:]:
        assert_refused(service.post(path), 404, "NotFoundError")
    answer = requests.get(service.url + POSTS[-3], headers={"Accept": "application/json"}, timeout=TIMEOUT)
    assert_refused(answer, 404, "NotFoundError")
    answer = requests.get(service.url + POSTS[-3], headers={"Accept": "text/html"}, timeout=TIMEOUT)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "There is no job" in answer.text


@pytest.mark.parametrize("path", ["/jobs/0123abcd", "/download/", "/no/such/path"])
def test_a_link_that_was_cut_short_is_answered_with_a_page_in_a_browser(service: Service, path: str) -> None:
    answer = requests.get(service.url + path, headers={"Accept": "text/html,*/*;q=0.8"}, timeout=TIMEOUT)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
    assert f"There is nothing at {path}." in answer.text
    assert_refused(requests.get(service.url + path, timeout=TIMEOUT), 404, "NotFoundError")


def test_the_page_of_a_file_says_how_long_it_still_takes() -> None:
    names = ["rows_total", "report", "download_url"]
    job = {"id": "1", "state": "running", "resource_id": "r", "bytes_done": 1_000_000, "created": 0}
    job |= {"eta_seconds": 186, **dict.fromkeys(names)}
    page = Loader(str(Path(app.__file__).parent / "templates")).load("job.html")
    shown = page.generate(job=job, headline="", refresh=5, figures=figures, version="").decode()
    assert "<p>1.0 MB so far, about 3 minutes to go.</p>" in shown
    job["eta_seconds"] = None
    shown = page.generate(job=job, headline="", refresh=5, figures=figures, version="").decode()
    assert "<p>1.0 MB so far.</p>" in shown


def test_what_is_refused_is_one_line_in_the_log(service: Service) -> None:
    service.post("/status", secret="wrong")
    service.post("/jobs", state="lost")
    service.wait_for_log("POST /status answered 401: The secret is wrong")
    service.wait_for_log("POST /jobs answered 400: state must be one of")
    assert "Traceback" not in service.log


def test_the_front_page_says_what_it_is_and_nothing_else(service: Service) -> None:
    for accept in ("text/html", "*/*", "application/json"):
        answer = requests.get(service.url + "/", headers={"Accept": accept}, timeout=TIMEOUT)
        assert answer.status_code == 200
        assert "ckanpackager is running" in answer.text
        assert SECRET not in answer.text
        assert "script" not in answer.text


def test_only_the_ckans_in_the_settings_are_asked(start_service: StartService) -> None:
    service = start_service(CKAN_HOSTS=["ckan.example", "other.example:8080"])
    for host, status in {
        "ckan.example": 200,
        "CKAN.example:5000": 200,
        "other.example:8080": 200,
        "Other.example:8080": 200,
        "other.example": 400,
        "ckan.example.evil.example": 400,
        "169.254.169.254": 400,
    }.items():
        answer = service.post("/package_datastore", **{**VALID, "api_url": f"http://{host}/api"})
        assert answer.status_code == status, host
        if status == 400:
            assert "CKAN_HOSTS" in assert_refused(answer, 400, "BadRequestError")


def test_a_request_that_is_not_http_ends_in_no_traceback(service: Service) -> None:
    host, port = urlsplit(service.url).netloc.split(":")
    for nonsense in (
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), TIMEOUT) as connection:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
    assert service.post("/status").status_code == 200


def test_the_secret_in_the_query_string_is_not_taken(service: Service) -> None:
    answer = requests.post(f"{service.url}/status?secret={SECRET}", timeout=TIMEOUT)
    assert_refused(answer, 401, "NotAuthorizedError")


def test_the_status_counts_what_is_there(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(FAST_WORKERS=1, SLOW_WORKERS=2, SLOW_REQUEST=1000)
    gate = ckan.hold(times=None)
    ask = {**VALID, "api_url": ckan.api_url}
    first = service.submit(**ask)
    service.submit(**ask, q="a")
    service.submit(**ask, limit=5000)
    service.wait_for(first, "running")
    ckan.wait_for(2)
    status = service.post("/status").json()
    assert status == service.post("/").json()
    assert (status["success"], status["status"]) == (True, "success")
    assert (status["worker_count"], status["queue_length"], status["processed_requests"]) == (3, 3, 0)
    assert status["pools"] == {
        "fast": {"workers": 1, "running": 1, "waiting": 1},
        "slow": {"workers": 2, "running": 1, "waiting": 0},
    }
    assert len(service.worker_pids()) == 2
    gate.open()
    ckan.behave()
    for number in range(3):
        service.wait_for_log(r"(?s)job \w+ done", after=number)
    assert json.dumps(status)


def test_headers_keep_browsers_from_guessing(service: Service) -> None:
    answer = requests.get(service.url + "/", timeout=TIMEOUT)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert "Tornado" not in answer.headers["Server"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_kept_connection_is_good_for_many_requests(service: Service) -> None:
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=TIMEOUT)
    for body in (
        "secret=wrong",
        f"secret={urllib.parse.quote(SECRET)}",
        "{",
        "x" * 5_000_000,
        "secret=wrong",
    ):
        connection.request("POST", "/status", body)
        answer = connection.getresponse()
        assert json.loads(answer.read())["success"] is (answer.status == 200)
    connection.close()
