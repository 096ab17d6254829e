"""What someone sees who tries the commands on a fresh machine, against the real service."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ckanpackager.demo.ckan import PENGUINS
from tests.archives import read
from tests.fake_ckan import FakeCkan
from tests.services import SECRET, Service
from tests.sinks import Sink

COMMAND = Path(sys.executable).with_name("ckanpackager")


def ckanpackager(
    *words: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def test_the_demo_shows_the_whole_way(tmp_path: Path) -> None:
    shown = ckanpackager("demo", "--output", str(tmp_path / "demo"))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for words in (
        "344 penguins",
        "POST http://127.0.0.1:",
        "To: visitor@museum.example",
        "/download/",
        "resource.csv",
        "Adelie Penguin",
        "All 344 rows are there.",
    ):
        assert words in shown.stdout
    assert "344/344" in shown.stderr  # the progress bar
    (package,) = (tmp_path / "demo").glob("*.zip")
    assert str(package) in shown.stdout
    with zipfile.ZipFile(package) as archive:
        assert archive.namelist() == ["resource.csv"]
    assert "Traceback" not in (tmp_path / "demo" / "service.log").read_text()


def test_the_demo_shows_a_darwin_core_archive_with_its_plan_and_summary(tmp_path: Path) -> None:
    shown = ckanpackager("demo", "--task", "dwc", "--output", str(tmp_path / "demo"))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for words in (
        "ckanpackager dwc-plan -r",
        "delta15N in dynamicProperties",
        "/package_dwc_archive, as the CKAN extension does",
        "344 rows in occurrence.csv, 1,368 rows in measurement_or_facts.csv.",
        "since no term has their name: Study name",
        "--- meta.xml",
        "All 344 rows are there.",
    ):
        assert words in shown.stdout
    (package,) = (tmp_path / "demo").glob("*.zip")
    rows = read(package)
    assert len(rows) == 344
    assert rows[0].extensions[0][1]["http://rs.tdwg.org/dwc/terms/measurementValue"] == "39.1"
    assert "Traceback" not in (tmp_path / "demo" / "service.log").read_text()


def test_the_demo_packs_a_resource_of_another_ckan(tmp_path: Path, ckan: FakeCkan) -> None:
    shown = ckanpackager("demo", "--output", str(tmp_path), "--api-url", ckan.api_url, "-r", PENGUINS)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "small CKAN" not in shown.stdout
    assert "All 344 rows are there." in shown.stdout
    assert ckan.searches[0] == {"resource_id": PENGUINS, "limit": 0}


def test_the_demo_says_what_is_wrong_with_another_ckan(tmp_path: Path, ckan: FakeCkan) -> None:
    ckan.lie(400)
    shown = ckanpackager("demo", "--output", str(tmp_path), "--api-url", ckan.api_url, "-r", PENGUINS)
    assert shown.returncode == 1
    assert "Only 344 of 400 rows" in shown.stderr
    half = ckanpackager("demo", "--api-url", ckan.api_url)
    assert (half.returncode, "-r" in half.stderr, "Traceback" in half.stderr) == (1, True, False)


def test_a_request_can_be_queued_followed_and_looked_at(service: Service, ckan: FakeCkan, smtp: Sink) -> None:
    ask = ["-D", "-p", service.url, "-s", SECRET]
    queued = ckanpackager(
        *ask,
        "--json",
        "queue",
        "package_datastore",
        f"resource_id:{PENGUINS}",
        f"api_url:{ckan.api_url}",
        "email:visitor@localhost.example",
        "limit:7",
        "--wait",
    )
    assert queued.returncode == 0, queued.stderr
    job = json.loads(queued.stdout)["job"]
    assert (job["state"], job["rows_done"]) == ("done", 7)
    assert job["download_url"] in smtp.wait_for(1)[0].text
    status = json.loads(ckanpackager(*ask, "--json", "status").stdout)
    assert (status["queue_length"], status["processed_requests"]) == (0, 1)
    assert "1" in ckanpackager(*ask, "status").stdout
    totals = json.loads(ckanpackager(*ask, "--json", "stats", "-x").stdout)
    assert totals["totals"][PENGUINS] == {"emails": 1, "requests": 1, "errors": 0}
    assert "visitor@localhost.example" in ckanpackager(*ask, "stats", "requests").stdout
    assert job["id"] in ckanpackager(*ask, "jobs").stdout
    shown = ckanpackager(*ask, "jobs", "show", job["id"])
    assert "handed to the mail server" in shown.stdout
    refused = ckanpackager(*ask, "jobs", "cancel", job["id"])
    assert refused.returncode == 1
    assert "only an unfinished job can be cancelled" in refused.stderr
    kept = json.loads(ckanpackager(*ask, "--json", "expire").stdout)
    assert kept["removed"] == 0
    cleared = json.loads(ckanpackager(*ask, "--json", "cc").stdout)
    assert cleared["removed"] == 1
    assert ckanpackager("-D", "-p", service.url, "-s", "wrong!", "status").returncode == 1


def test_a_package_can_be_made_without_a_service(ckan: FakeCkan, tmp_path: Path) -> None:
    ckan.token = "the-token"
    made = ckanpackager(
        "-D",
        "--json",
        "package",
        "package_datastore",
        f"resource_id:{PENGUINS}",
        f"api_url:{ckan.api_url}",
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["rows"] == 344
    with zipfile.ZipFile(tmp_path / f"{PENGUINS}.zip") as archive:
        rows = list(csv.reader(io.StringIO(archive.read("resource.csv").decode(), newline="")))
    assert len(rows) == 345
    url = ckan.upload("private.csv", b"1,2\n", private=True)
    made = ckanpackager(
        "-D",
        "package",
        "package_url",
        "resource_id:r",
        f"resource_url:{url}",
        "key:the-token",
        "--output",
        "x.zip",
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.read("private.csv") == b"1,2\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PENGUINS}.zip", "x.zip"]


def test_the_doctor_finds_a_running_service_well(service: Service, ckan: FakeCkan) -> None:
    config = service.folder / "doctor.py"
    settings = {
        **service.settings,
        "PORT": int(service.url.rpartition(":")[2]),
        "CKAN_HOSTS": [f"{ckan.host}:{ckan.port}"],
    }
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    seen = ckanpackager("--json", "doctor", CKANPACKAGER_CONFIG=str(config))
    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert "FAIL" not in seen.stdout


@pytest.mark.parametrize(
    "settings", ["SECRET = '8ba6d280d4ce9a416e9b604f3f0ebb'", "SECRETS = 1", "SECRET = ", None]
)
def test_a_service_that_cannot_start_says_what_to_change(settings: str | None, tmp_path: Path) -> None:
    config = tmp_path / "settings.py"
    if settings is not None:
        config.write_text(settings)
    environment = {"CKANPACKAGER_CONFIG": str(config)} if settings is not None else {}
    started = subprocess.run(
        [COMMAND.with_name("ckanpackager-service")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert started.returncode == os.EX_CONFIG
    assert started.stderr.startswith("ckanpackager-service: ")
    assert "Traceback" not in started.stderr
    assert (
        "SECRET" if settings else "CKANPACKAGER_CONFIG"
    ) in started.stderr or "settings.py" in started.stderr


def test_both_programs_explain_themselves() -> None:
    for program in ("ckanpackager", "ckanpackager-service"):
        for option, words in (("--help", "Usage:"), ("--version", "1.0.0")):
            said = subprocess.run(
                [COMMAND.with_name(program), option], capture_output=True, text=True, timeout=60
            )
            assert (said.returncode, words in said.stdout) == (0, True)


def test_service_that_is_given_arguments_says_where_to_read() -> None:
    said = subprocess.run(
        [COMMAND.with_name("ckanpackager-service"), "start"], capture_output=True, text=True, timeout=60
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "ckanpackager-service takes no arguments; --help says more.\n"
