"""Whatever is killed between two steps, the visitor gets the package, and nothing else is left of it."""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from ckanpackager import faults
from ckanpackager.errors import SettingsError
from ckanpackager.faults import POINTS, plant
from tests.conftest import StartService
from tests.fake_ckan import FakeCkan, rows_after
from tests.services import TIMEOUT, Service
from tests.sinks import Sink
from tests.test_service import ask, leftovers, link, rows

PACKAGE = Path(faults.__file__).parent
IN_THE_SERVICE = {
    point for point in POINTS if point.endswith((".accepted", ".claimed", ".heard", ".committed"))
}
# Which not every job comes by.
SELDOM = [point for point in POINTS if point.startswith(("checkpoint.", "cancel."))]
# Where the mail server has the mail, and the table does not know it yet.
SENT_AGAIN = {"mail.taken", "sent.heard"}
Planter = Callable[..., Path]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planter:
    """Plants a fault for services that are started later. Returns what is there until it has struck."""
    (folder := tmp_path / "faults").mkdir()
    monkeypatch.setenv(faults.ENVIRONMENT, str(folder))

    def put(point: str, what: str = faults.KILL) -> Path:
        plant(folder, point, what)
        return folder / point

    return put


@pytest.mark.parametrize("point", [point for point in POINTS if point not in SELDOM])
def test_a_kill_between_two_steps_costs_at_most_a_second_mail(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, planted: Planter, point: str
) -> None:
    fault = planted(point)
    service = start_service(PUBLIC_URL="http://packages.example.org")  # the port is another after a restart
    job_id = submit(service, **ask(ckan))
    if point in IN_THE_SERVICE:
        service.process.wait(TIMEOUT)
        service.kill()
        service.start()
    elif point in ("mail.begun", "mail.taken"):
        service.wait_for_log("the mail about it waits: the process that sent it was killed")
        service.stop()
        service.start()  # what waits is tried at once
    job_id = job_id or only_job(service)
    assert service.wait_for(job_id, "done")["state"] == "done"
    assert not fault.is_symlink()
    mails = smtp.wait_for(1 + (point in SENT_AGAIN))
    name = link(smtp).rpartition("/")[2]
    assert [int(row[0]) for row in rows(f"{service.url}/download/{name}")[1:]] == list(range(1, 345))
    assert [path.name for path in service.store.glob("*.zip")] == [name]
    assert leftovers(service) == []
    service.stop()
    assert len(smtp.mails) == len(mails)
    assert len({(mail.message["Message-ID"], mail.text) for mail in mails}) == 1
    assert query(service, "pragma integrity_check") == [("ok",)]
    assert query(service, "select count(*) from requests") == [(1,)]


@pytest.mark.parametrize("point", ["checkpoint.marked", "checkpoint.written"])
def test_a_kill_at_a_checkpoint_costs_nothing(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, planted: Planter, point: str
) -> None:
    fault = planted(point)
    service = start_service(hurried=True, PAGE_SIZE=10)
    job_id = service.submit(**ask(ckan))
    service.wait_for(job_id, "done")
    assert not fault.is_symlink()
    assert service.events(job_id).count("running") == 2
    assert [int(row[0]) for row in rows(link(smtp))[1:]] == list(range(1, 345))
    assert ("goes on after" in service.log) == (point == "checkpoint.written")  # it is the first
    assert leftovers(service) == []


def test_a_service_that_is_killed_goes_on_where_its_worker_was(
    start_service: StartService, ckan: FakeCkan, smtp: Sink
) -> None:
    service = start_service(hurried=True, PAGE_SIZE=10, PAGES_AT_ONCE=1)
    ckan.hold(when=rows_after(100))
    job_id = service.submit(**ask(ckan))
    ckan.wait_for(1, rows_after(100))
    service.kill()
    ckan.requests.clear()
    service.start()
    service.wait_for(job_id, "done")
    assert min(ckan.asked_after) >= 10
    assert [int(row[0]) for row in rows(link(smtp))[1:]] == list(range(1, 345))
    assert leftovers(service) == []


def test_a_kill_in_the_moment_of_cancelling_leaves_nothing(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, planted: Planter
) -> None:
    planted("cancel.committed")
    service = start_service(hurried=True, PAGE_SIZE=10, PAGES_AT_ONCE=1)
    ckan.hold(when=rows_after(100), times=None)
    job_id = service.submit(**ask(ckan))
    ckan.wait_for(1, rows_after(100))
    with pytest.raises(requests.ConnectionError):
        service.post(f"/jobs/{job_id}/cancel")
    service.process.wait(TIMEOUT)
    service.kill()
    ckan.behave()
    service.start()
    assert service.job(job_id)["state"] == "cancelled"
    assert leftovers(service) == []
    assert list(service.store.glob("*.zip")) == []
    assert smtp.mails == []


@pytest.mark.parametrize(
    "point", [point for point in POINTS if point.startswith(("draft.", "package.", "folder."))]
)
def test_a_disk_that_is_full_leaves_nothing_and_says_so(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, planted: Planter, point: str
) -> None:
    planted(point, "ENOSPC")
    service = start_service()
    job_id = service.submit(**ask(ckan))
    error = service.wait_for(job_id, "failed")["error"]
    assert error.startswith("There was not enough room on the service's disk")
    assert error in " ".join(smtp.wait_for(1)[0].text.split())
    assert leftovers(service) == []
    assert list(service.store.glob("*.zip")) == []
    service.post(f"/jobs/{job_id}/retry")
    service.wait_for(job_id, "done")
    assert len(rows(link(smtp, 2))) == 345


def test_a_host_in_trouble_delays_a_mail_and_loses_none(
    start_service: StartService, ckan: FakeCkan, smtp: Sink, planted: Planter
) -> None:
    planted("mail.begun", "ENOMEM")
    service = start_service()
    job_id = service.submit(**ask(ckan))
    service.wait_for_log("mail about it waits: The service could not send the mail: Cannot allocate memory.")
    service.stop()
    service.lines.clear()
    service.start()
    service.wait_for(job_id, "done")
    assert len(smtp.mails) == 1


def submit(service: Service, **parameters: Any) -> str | None:
    """Post what must be accepted. Returns the job's id, or None if the service died before it could answer."""
    try:
        return service.submit(**parameters)
    except requests.ConnectionError:
        return None


def only_job(service: Service) -> str:
    ((job_id,),) = query(service, "select id from jobs")
    return str(job_id)


def query(service: Service, sql: str) -> list[Any]:
    database = sqlite3.connect(service.folder / "stats.db")
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


# ------------------------------------------------------------- the points themselves


def test_every_point_is_reached_in_one_place() -> None:
    texts = [path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "faults.py"]
    calls = re.findall(r"faults\.reached\((.+)\)", "\n".join(texts))
    named = Counter(name for call in calls for name in re.findall(r'"(\w+\.\w+)"', call))
    assert named == dict.fromkeys(POINTS, 1)


def test_without_the_variable_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(faults.ENVIRONMENT, raising=False)
    monkeypatch.chdir(tmp_path)
    plant(tmp_path, "draft.written", "EIO")
    faults.switch_on()
    faults.reached("draft.written")
    assert (tmp_path / "draft.written").is_symlink()


@pytest.mark.parametrize(("point", "what"), [("draft.eaten", "kill"), ("draft.written", "EVERYTHING")])
def test_what_is_no_fault_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str, what: str
) -> None:
    monkeypatch.setenv(faults.ENVIRONMENT, str(tmp_path))
    with pytest.raises(SettingsError, match=point if what == "kill" else what):
        plant(tmp_path, point, what)
    (tmp_path / point).symlink_to(what)
    with pytest.raises(SettingsError, match=point):
        faults.switch_on()
    faults.reached(point)


def test_what_else_lies_among_the_faults_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(faults.ENVIRONMENT, str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match="must name a folder"):
        faults.switch_on()
    (tmp_path / "draft.written").write_text("kill")
    monkeypatch.setenv(faults.ENVIRONMENT, str(tmp_path))
    with pytest.raises(SettingsError, match="neither 'kill' nor an error"):
        faults.switch_on()


def test_a_fault_strikes_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(faults.ENVIRONMENT, str(tmp_path))
    monkeypatch.setattr(faults, "_folder", None)
    plant(tmp_path, "draft.written", "EIO")
    faults.switch_on()
    with pytest.raises(OSError, match="Input/output error"):
        faults.reached("draft.written")
    faults.reached("draft.written")
