"""The doctor, called to an installation that is healthy, and to it with one illness at a time."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ckanpackager import __version__
from ckanpackager.commands import doctor
from tests.commands import Outcome, call, closed_port, isolate, write_defaults
from tests.recorder import Raw, Recorder, refusal
from tests.sinks import smtp_sink

SECRET = "what only the two of us know"
CKAN = {"site_url": "http://ckan.example", "ckan_version": "2.11.3", "extensions": ["datastore", "stats"]}
STATUS = {"success": True, "version": __version__, "worker_count": 3}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command in this process."""
    return functools.partial(call, capsys)


@pytest.fixture
def service() -> Iterator[Recorder]:
    """A service, which is also its own public address and its own CKAN."""
    with Recorder() as recorder:
        recorder.answers = {
            "POST /status": STATUS,
            "GET /api/3/action/status_show": {"success": True, "result": CKAN},
        }
        yield recorder


@dataclasses.dataclass
class Installation:
    """A healthy one, to be made ill. ``settings`` are written down when the doctor comes."""

    folder: Path
    settings: dict[str, Any]
    service: Recorder
    run: Callable[..., Outcome]

    def examine(self, *words: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
        """Exit status, and the verdicts and messages of each check."""
        outcome = self.run("--json", *words, "doctor")
        assert outcome.err == ""
        findings: dict[str, list[tuple[str, str]]] = {}
        answer = json.loads(outcome.out)
        assert answer["success"] is (outcome.status == 0)
        for finding in answer["checks"]:
            findings.setdefault(finding["check"], []).append((finding["verdict"], finding["message"]))
        return outcome.status, findings

    def write(self) -> None:
        path = self.folder / "settings.py"
        path.write_text("".join(f"{name} = {value!r}\n" for name, value in self.settings.items()))
        path.chmod(0o640)

    def verdicts(self, check: str, *words: str) -> tuple[int, str, str]:
        """Exit status, the worst verdict of the check, and all that it said."""
        self.write()
        status, findings = self.examine(*words)
        ranked = [doctor.OK, doctor.WARN, doctor.FAIL]
        worst = max((verdict for verdict, _ in findings[check]), key=ranked.index)
        return status, worst, " ".join(message for _, message in findings[check])


@pytest.fixture
def installation(
    run: Callable[..., Outcome], service: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    for name in ("store", "temp", "db"):
        (tmp_path / name).mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "db" / "stats.db")) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE requests (id INTEGER PRIMARY KEY, email TEXT)")
        database.executemany("INSERT INTO requests (email) VALUES (?)", [("x" * 500,)] * 200)
        database.commit()
    host, _, port = service.address.partition(":")
    isolate(monkeypatch, tmp_path)
    monkeypatch.setenv("CKANPACKAGER_CONFIG", str(tmp_path / "settings.py"))
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    monkeypatch.setattr(doctor, "_LITTLE_SPACE", 2)
    monkeypatch.setattr(doctor, "_NO_SPACE", 1)
    settings = {
        "HOST": host,
        "PORT": int(port),
        "PUBLIC_URL": service.url,
        "SECRET": SECRET,
        "STORE_DIRECTORY": str(tmp_path / "store"),
        "TEMP_DIRECTORY": str(tmp_path / "temp"),
        "STATS_DB": f"sqlite:///{tmp_path / 'db' / 'stats.db'}",
        "CKAN_HOSTS": [service.address],
        "EMAIL_FROM": "packager@example.org",
        "SMTP_TIMEOUT": 5,
    }
    with smtp_sink() as sink:
        yield Installation(tmp_path, settings | sink.settings, service, run)


def ignore_tmp(findings: dict[str, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    """All that is not well, but for the store being under /tmp, where tests keep it."""
    return [
        finding
        for list_of in findings.values()
        for finding in list_of
        if finding[0] != doctor.OK and "is under /tmp" not in finding[1]
    ]


def test_doctor_finds_nothing_wrong_with_a_healthy_installation(installation: Installation) -> None:
    installation.write()
    before = sorted(installation.folder.rglob("*"))
    status, findings = installation.examine()
    assert (status, ignore_tmp(findings)) == (0, [])
    assert list(findings) == [
        "settings",
        "Darwin Core",
        "folders",
        "database",
        "mail server",
        "service",
        "public address",
        "CKAN",
    ]
    assert findings["CKAN"] == [("ok", f"http://{installation.service.address} is CKAN 2.11.3")]
    assert sorted(installation.folder.rglob("*")) == before


def test_doctor_says_what_darwin_core_archives_are_made_of(installation: Installation) -> None:
    fields = {"images": {"extension": "multimedia", "fields": {"title": ""}}}
    installation.settings |= {"DWC_EXTENSION_FIELDS": fields, "DWC_ADDITIONAL_EXTENSIONS": ["identification"]}
    assert installation.verdicts("Darwin Core") == (
        0,
        doctor.OK,
        "Occurrence is the core of archives, with Identification, Multimedia",
    )
    installation.settings |= {"DWC_CORE_EXTENSION": "taxon", "DWC_ADDITIONAL_EXTENSIONS": ["mulitmedia"]}
    status, verdict, message = installation.verdicts("Darwin Core")
    assert (status, verdict) == (1, doctor.FAIL)
    assert "DWC_DYNAMIC_TERM: 'dynamicProperties' is no term of Taxon" in message
    assert "Did you mean 'multimedia'?" in message


def test_doctor_examines_a_database_that_is_in_use(installation: Installation) -> None:
    with contextlib.closing(sqlite3.connect(installation.folder / "db" / "stats.db")) as database:
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("VACUUM")
        ill_damaged_database(installation)  # only where all is still to be replaced by what is in the log
        assert installation.verdicts("database")[1] == doctor.OK


def test_doctor_can_be_read_line_by_line(installation: Installation) -> None:
    installation.settings["STORE_DIRECTORY"] = "/proc"
    installation.write()
    outcome = installation.run("doctor")
    assert (outcome.status, outcome.err) == (1, "")
    *lines, summary = outcome.out.splitlines()
    assert all(re.match(r"(ok  |warn|FAIL)  [a-zA-Z ]{14}  \S", line) for line in lines)
    assert summary == "1 failure, 0 warnings."
    assert installation.run("-q", "doctor") == Outcome(1, "", "")


def test_doctor_without_settings_says_so_and_stops(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    isolate(monkeypatch, tmp_path)
    outcome = run("doctor")
    assert (outcome.status, outcome.err) == (1, "")
    assert "CKANPACKAGER_CONFIG" in outcome.out.splitlines()[0]
    assert outcome.out.endswith("mend them first.\n")


def test_doctor_names_every_problem_of_the_settings(installation: Installation) -> None:
    installation.settings |= {"SECRET": "short", "PORT": "http"}
    status, verdict, said = installation.verdicts("settings")
    assert (status, verdict) == (1, "FAIL")
    assert "SECRET" in said
    assert "PORT" in said


def ill_folder(it: Installation) -> None:
    it.settings["TEMP_DIRECTORY"] = "/proc/self"


def ill_file_for_a_folder(it: Installation) -> None:
    (it.folder / "file").touch()
    it.settings["STORE_DIRECTORY"] = str(it.folder / "file")


def ill_missing_folder(it: Installation) -> None:
    it.settings["STORE_DIRECTORY"] = str(it.folder / "none")


def ill_garbage_database(it: Installation) -> None:
    (it.folder / "db" / "stats.db").write_bytes(b"garbage " * 1000)


def ill_damaged_database(it: Installation) -> None:
    with (it.folder / "db" / "stats.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 3 * 4096)


def ill_missing_database(it: Installation) -> None:
    (it.folder / "db" / "stats.db").unlink()


def ill_database_server(it: Installation) -> None:
    it.settings["STATS_DB"] = f"postgresql://u:p@127.0.0.1:{closed_port()}/x"


def ill_mail_server(it: Installation) -> None:
    it.settings["SMTP_PORT"] = closed_port()


def ill_mail_security(it: Installation) -> None:
    it.settings["SMTP_SECURITY"] = "starttls"


def ill_mail_login(it: Installation) -> None:
    it.settings |= {"SMTP_LOGIN": "me", "SMTP_PASSWORD": "wrong"}


def ill_service(it: Installation) -> None:
    it.settings["PORT"] = closed_port()


def ill_other_secret(it: Installation) -> None:
    it.service.answers["POST /status"] = refusal(401, "NotAuthorizedError", "The secret is wrong.")


def ill_old_service(it: Installation) -> None:
    it.service.answers["POST /status"] = STATUS | {"version": "0.9"}


def ill_unknown_port(it: Installation) -> None:
    it.settings["PORT"] = 0


def ill_public_address(it: Installation) -> None:
    it.settings["PUBLIC_URL"] = f"http://127.0.0.1:{closed_port()}"


def ill_other_site(it: Installation) -> None:
    it.service.answers[f"GET /jobs/{'0' * 32}"] = Raw(404, b"<h1>Not Found</h1>")


def ill_other_api(it: Installation) -> None:
    it.service.answers[f"GET /jobs/{'0' * 32}"] = {"hello": "world"}


def ill_no_public_address(it: Installation) -> None:
    it.settings["PUBLIC_URL"] = ""


def ill_ckan(it: Installation) -> None:
    it.settings["CKAN_HOSTS"] = [f"127.0.0.1:{closed_port()}"]


def ill_no_ckan(it: Installation) -> None:
    it.service.answers["GET /api/3/action/status_show"] = Raw(body=b"<html>")


def ill_something_like_ckan(it: Installation) -> None:
    it.service.answers["GET /api/3/action/status_show"] = {"result": []}


def ill_something_more_like_ckan(it: Installation) -> None:
    it.service.answers["GET /api/3/action/status_show"] = {"result": {"version": 7}}


def ill_without_datastore(it: Installation) -> None:
    it.service.answers["GET /api/3/action/status_show"] = {"result": CKAN | {"extensions": ["stats"]}}


def well_but_discreet(it: Installation) -> None:
    site = {name: value for name, value in CKAN.items() if name != "ckan_version"}
    it.service.answers["GET /api/3/action/status_show"] = {"result": site}


def ill_open_house(it: Installation) -> None:
    it.settings["CKAN_HOSTS"] = []


@pytest.mark.parametrize(
    ("illness", "check", "verdict", "said"),
    [
        (ill_folder, "folders", "FAIL", "TEMP_DIRECTORY: nothing can be written to /proc/self"),
        (ill_file_for_a_folder, "folders", "FAIL", "STORE_DIRECTORY: nothing can be written"),
        (ill_missing_folder, "folders", "warn", "the service makes it"),
        (ill_garbage_database, "database", "FAIL", "not a database"),
        (ill_damaged_database, "database", "FAIL", "stats.db is damaged|malformed"),
        (ill_missing_database, "database", "warn", "There is no database"),
        (ill_database_server, "database", "FAIL", r"refused|pip install 'ckanpackager\[postgresql\]'"),
        (ill_mail_server, "mail server", "FAIL", "Connection refused.*SMTP_PORT"),
        (ill_mail_security, "mail server", "FAIL", "STARTTLS.*SMTP_SECURITY"),
        (ill_mail_login, "mail server", "FAIL", "log-in"),
        (ill_service, "service", "FAIL", "Is ckanpackager-service running there?"),
        (ill_other_secret, "service", "FAIL", "does not know the SECRET.*restart"),
        (ill_old_service, "service", "warn", "runs version 0.9.*restart"),
        (ill_unknown_port, "service", "warn", "PORT is 0"),
        (ill_public_address, "public address", "FAIL", "PUBLIC_URL.*refused"),
        (ill_other_site, "public address", "FAIL", "404 Not Found, but not as ckanpackager does"),
        (ill_other_api, "public address", "FAIL", "something else"),
        (ill_no_public_address, "settings", "warn", "PUBLIC_URL is not set"),
        (ill_ckan, "CKAN", "FAIL", "https://.*and http://.*Connection refused"),
        (ill_no_ckan, "CKAN", "FAIL", "http://.* answers, but not as CKAN does"),
        (ill_something_like_ckan, "CKAN", "FAIL", "not as CKAN does"),
        (ill_something_more_like_ckan, "CKAN", "FAIL", "not as CKAN does"),
        (ill_without_datastore, "CKAN", "warn", "without its datastore"),
        (well_but_discreet, "CKAN", "ok", "is CKAN"),
        (ill_open_house, "settings", "warn", "CKAN_HOSTS is empty"),
    ],
)
def test_doctor_finds_each_illness_and_names_it(
    installation: Installation,
    illness: Callable[[Installation], None],
    check: str,
    verdict: str,
    said: str,
) -> None:
    illness(installation)
    status, found, message = installation.verdicts(check)
    assert found == verdict, message
    assert re.search(said, message), message
    assert status == (1 if verdict == "FAIL" else 0)


@pytest.mark.parametrize(("little", "none", "verdict"), [(10**18, 1, "warn"), (10**18, 10**18, "FAIL")])
def test_doctor_sees_a_disk_that_is_nearly_full(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, little: int, none: int, verdict: str
) -> None:
    monkeypatch.setattr(doctor, "_LITTLE_SPACE", little)
    monkeypatch.setattr(doctor, "_NO_SPACE", none)
    _, found, said = installation.verdicts("folders")
    assert found == verdict
    assert "make room" in said


def test_doctor_warns_where_the_secret_can_be_read_by_everyone(installation: Installation) -> None:
    installation.write()
    path = installation.folder / "settings.py"
    path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IROTH)
    _, findings = installation.examine()
    assert ("warn", f"{path} can be read by every user of this host, and holds SECRET: chmod o= {path}") in (
        findings["settings"]
    )


def test_doctor_run_by_root_says_what_that_hides(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "run by root" in installation.verdicts("folders")[2]


@pytest.mark.parametrize(
    ("secret", "mode", "verdict", "said"),
    [
        (SECRET, 0o600, "ok", "has the secret of the settings"),
        ("another", 0o600, "warn", "has another secret"),
        (SECRET, 0o644, "warn", "can be read by every user"),
    ],
)
def test_doctor_compares_the_defaults_file_with_the_settings(
    installation: Installation, secret: str, mode: int, verdict: str, said: str
) -> None:
    path = installation.folder / "defaults.json"
    write_defaults(path, secret=secret)
    path.chmod(mode)
    status, found, message = installation.verdicts("command line", "-d", str(path))
    assert (status, found) == (0, verdict)
    assert said in message


def test_doctor_asks_the_service_where_it_is_told_to(installation: Installation) -> None:
    ill_service(installation)
    assert installation.verdicts("service", "-p", installation.service.url)[:2] == (0, "ok")


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "http://127.0.0.1:8765"), ("::", "http://[::1]:8765"), ("10.1.2.3", "http://10.1.2.3:8765")],
)
def test_doctor_asks_a_service_that_listens_everywhere_on_this_host(host: str, address: str) -> None:
    settings = doctor.Settings.from_mapping({"SECRET": SECRET, "HOST": host})
    assert doctor._address(settings) == address


def test_doctor_greets_the_mail_server_as_the_service_will(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with smtp_sink(tls="starttls", login=("me", "right")) as sink:
        monkeypatch.setenv("SSL_CERT_FILE", str(sink.write_authority(installation.folder / "ca.pem")))
        installation.settings |= sink.settings
        status, verdict, said = installation.verdicts("mail server")
        assert (status, verdict) == (0, "ok"), said
        assert said.endswith("answers with STARTTLS, as me")
        assert not sink.mails
        assert "MAIL" not in sink.commands
