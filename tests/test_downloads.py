"""A download is whole, and can be resumed."""

import base64
import hashlib
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager.web.downloads import content_disposition, parse_range
from tests.fake_ckan import FakeCkan
from tests.services import TIMEOUT, Service, running_service
from tests.sinks import Sink

Download = tuple[str, bytes]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        Sink() as sink,
        running_service(tmp_path_factory.mktemp("downloads") / "s", **sink.settings) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def package(service: Service) -> Download:
    """The address of a package of some megabytes, and its bytes."""
    with FakeCkan() as ckan:
        job_id = service.submit(
            "package_url", resource_id="r", resource_url=ckan.upload("näme.bin", 3_000_000)
        )
        url = service.wait_for(job_id, "done")["download_url"]
    return url, requests.get(url, timeout=TIMEOUT).content


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(
        url, headers={name.replace("_", "-"): value for name, value in headers.items()}, timeout=TIMEOUT
    )


def test_the_headers_describe_the_package(package: Download) -> None:
    url, content = package
    answer = get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Accept-Ranges"] == "bytes"
    digest = hashlib.sha256(content)
    assert answer.headers["ETag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert "filename*=UTF-8''n%C3%A4me.bin.zip" in answer.headers["Content-Disposition"]
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["X-Robots-Tag"] == "noindex"


def test_head_says_the_same_without_the_bytes(package: Download) -> None:
    url, _ = package
    head, whole = requests.head(url, timeout=TIMEOUT), get(url)
    assert head.content == b""
    assert {**head.headers, "Date": ""} == {**whole.headers, "Date": ""}


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=1000000-", 1_000_000, None),
        ("bytes=-100", -100, None),
        ("bytes=-99999999", 0, None),
        ("bytes=100-99999999", 100, None),
        ("bytes= 0 - 99", 0, 100),
    ],
)
def test_a_part_can_be_asked_for(package: Download, asked: str, first: int, stop: int | None) -> None:
    url, content = package
    answer = get(url, Range=asked)
    assert answer.status_code == 206
    assert answer.content == content[first:stop]
    start = first if first >= 0 else len(content) + first
    assert (
        answer.headers["Content-Range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(content)}"
    )


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0", "bytes=99999999-99999999"])
def test_a_part_outside_is_refused(package: Download, asked: str) -> None:
    url, content = package
    answer = get(url, Range=asked, Accept="application/json")
    assert (answer.status_code, answer.json()["error"]) == (416, "RangeError")
    assert answer.headers["Content-Range"] == f"bytes */{len(content)}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "rows=0-1",
        "bytes=5-1",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-\u00b2",
        "bytes=0-" + "9" * 5000,
        "bytes=" + "9" * 5000 + "-",
        "",
    ],
)
def test_a_range_that_we_do_not_know_gives_the_whole(package: Download, asked: str) -> None:
    url, content = package
    answer = get(url, Range=asked)
    assert (answer.status_code, answer.content) == (200, content)


def test_a_part_of_another_version_is_not_given(package: Download) -> None:
    url, content = package
    etag = get(url).headers["ETag"]
    assert get(url, Range="bytes=10-", If_Range=etag).content == content[10:]
    for other in ('"other"', f"W/{etag}", "Mon, 23 Nov 2026 12:00:00 GMT"):
        answer = get(url, Range="bytes=10-", If_Range=other)
        assert (answer.status_code, answer.content) == (200, content)


def test_what_is_known_is_not_sent_again(package: Download) -> None:
    url, _ = package
    etag = get(url).headers["ETag"]
    answer = get(url, If_None_Match=etag)
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    assert get(url, If_None_Match="*").status_code == 304
    assert get(url, If_None_Match='"other"').status_code == 200


def test_a_visitor_who_goes_away_leaves_no_trace(service: Service, package: Download) -> None:
    address = urlsplit(package[0])
    with socket.socket() as visitor:
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        visitor.settimeout(TIMEOUT)
        visitor.connect((address.hostname, address.port))
        visitor.sendall(f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert visitor.recv(100)
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no last words
    assert get(package[0]).content == package[1]
    assert "Traceback" not in service.log


def test_a_download_that_was_cut_off_is_resumed_by_curl(package: Download, tmp_path: Path) -> None:
    url, content = package
    part = tmp_path / "part.zip"
    part.write_bytes(content[:1_234_567])
    subprocess.run(["curl", "--silent", "--fail", "--continue-at", "-", "--output", part, url], check=True)
    assert part.read_bytes() == content


def test_only_packages_can_be_had(service: Service, package: Download) -> None:
    (service.store / "stranger.zip").write_bytes(b"x")
    for name in ("stranger.zip", ".lock", "..%2Fstats.db", "%2e%2e/stats.db", ".drafts/x", "", "a/b", "a%00"):
        assert get(f"{service.url}/download/{name}").status_code == 404, name


@given(st.integers(1, 10**12), st.integers(0, 10**13), st.none() | st.integers(0, 10**13))
def test_a_range_never_leads_outside(size: int, first: int, last: int | None) -> None:
    part = parse_range(f"bytes={first}-{'' if last is None else last}", size)
    if last is not None and last < first:
        assert part is None
    else:
        assert part is not None
        assert part[1] <= size
        assert part[0] == first
        assert part[1] - part[0] <= (size if last is None else last - first + 1)


def test_only_plain_digits_are_a_range() -> None:
    assert parse_range("bytes=\N{ARABIC-INDIC DIGIT THREE}-", 10) is None


@given(st.text())
def test_no_file_name_breaks_the_header(name: str) -> None:
    try:
        header = content_disposition(name)
    except UnicodeEncodeError:
        return
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
