"""Following a job to its end: by ``queue --wait``, and with a time that passes only when slept."""

import contextlib
import fcntl
import functools
import json
import os
import pty
import signal
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ckanpackager.commands import client, console, waiting
from ckanpackager.errors import NotFoundError, UnavailableError
from tests import answers
from tests.answers import ACCEPTED, BUILT, DONE, FAILED, JOB, QUEUED, RUNNING
from tests.commands import Outcome, call, closed_port, execute, isolate, start
from tests.recorder import DROP, Raw, Recorder, refusal

SECRET = "what only the two of us know"
ASK = ["queue", "package_datastore", "resource_id:9b", "email:a@example.org"]

Ask = Callable[..., Outcome]


@pytest.fixture
def service() -> Iterator[Recorder]:
    with Recorder() as recorder:
        recorder.answers = answers.of_a_service(recorder.url)
        yield recorder


@pytest.fixture
def ask(
    service: Recorder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Ask:
    """Runs the command in this process, with the service's address and secret."""
    isolate(monkeypatch, tmp_path)
    return functools.partial(call, capsys, "-p", service.url, "-s", SECRET)


class Time:
    """Passes only when slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.naps: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


def follow(answers: list[Any], show: Callable[[Any], None] = lambda _: None) -> tuple[Any, Time]:
    """The end of ``answers``, of which the last goes on for ever and errors are raised."""
    passing = Time()

    def ask() -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return waiting.follow(ask, show, sleep=passing.sleep, clock=passing.clock), passing


@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "expired"])
def test_a_job_is_followed_until_it_has_ended(state: str) -> None:
    shown: list[Any] = []
    last = DONE | {"state": state}
    job, passed = follow([QUEUED, RUNNING, RUNNING, BUILT, last], shown.append)
    assert job == last
    assert [job["state"] for job in shown] == ["queued", "running", "running", "built", state]
    assert passed.naps == [1.0] * 4


def test_a_service_that_is_restarted_meanwhile_is_waited_for() -> None:
    gone = UnavailableError("gone")
    job, _ = follow([QUEUED, *[gone] * 100, QUEUED, *[gone] * 100, DONE])
    assert job["state"] == "done"


def test_a_service_that_stays_away_is_given_up_after_two_minutes() -> None:
    with pytest.raises(UnavailableError, match="gone"):
        follow([UnavailableError("gone")])
    passing = Time()
    with pytest.raises(UnavailableError):
        waiting.follow(
            lambda: (_ for _ in ()).throw(UnavailableError()), print, sleep=passing.sleep, clock=passing.clock
        )
    assert sum(passing.naps) == 120


def test_a_job_that_is_unknown_is_not_waited_for() -> None:
    with pytest.raises(NotFoundError):
        follow([NotFoundError("no such job")])


def test_wait_outputs_the_address_of_the_download_and_nothing_else(service: Recorder) -> None:
    outcome = execute("-D", "-p", service.url, "-s", SECRET, *ASK, "--wait")
    assert (outcome.status, outcome.out) == (0, DONE["download_url"] + "\n")
    assert "Please be patient." in outcome.err
    assert "done: 60,000 rows" in outcome.err
    assert service.asked[-1].headers["Accept"] == "application/json"
    assert "secret" not in str(service.asked[-1])


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (FAILED, "CKAN said: no such table."),
        (DONE | {"state": "expired"}, "is expired"),
        (RUNNING | {"state": "cancelled"}, "is cancelled"),
    ],
)
def test_wait_fails_unless_there_is_something_to_download(
    ask: Ask, service: Recorder, end: dict[str, Any], said: str
) -> None:
    service.answers[f"GET /jobs/{JOB}"] = {"success": True, "job": end}
    outcome = ask(*ASK, "--wait")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.count(said) == 1
    assert said in ask("-q", *ASK, "--wait").one_complaint()
    outcome = ask("--json", *ASK, "--wait")
    assert outcome.status == 1
    assert json.loads(outcome.out)["job"] == end


def test_wait_asks_the_address_it_has_just_used_when_the_public_one_is_out_of_reach(
    ask: Ask, service: Recorder
) -> None:
    public = f"http://127.0.0.1:{closed_port()}/jobs/{JOB}"
    service.answers["POST /package_datastore"] = ACCEPTED | {"status_url": public}
    assert ask("-q", *ASK, "--wait", "--json") == Outcome(0, "", "")
    assert service.asked[-1].path == f"/jobs/{JOB}"


@pytest.mark.parametrize(
    "page",
    [
        {"success": True},
        {"success": True, "job": {"id": JOB}},
        Raw(body=b"<html>"),
        {"job": "done"},
        {"job": DONE | {"rows_done": "x"}},
    ],
)
def test_wait_gives_up_on_a_page_that_does_not_say_what_has_become_of_the_job(
    ask: Ask, service: Recorder, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0)
    service.answers[f"GET /jobs/{JOB}"] = page
    outcome = ask(*ASK, "--wait")
    assert outcome.status == 1
    assert f"The request goes on all the same: {service.url}/jobs/{JOB}" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_page_that_does_not_know_the_job_is_passed_over_for_the_next(service: Recorder) -> None:
    service.answers["GET /else"] = {"job": {"id": JOB}}
    urls = [f"{service.url}/{path}" for path in ("none", "else", f"jobs/{JOB}")]
    assert waiting.StatusPage(client.Service(service.url, SECRET), urls)() == DONE


def test_wait_goes_on_while_the_service_is_out_of_order(
    ask: Ask, service: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "INTERVAL", 0)
    service.answers["POST /package_datastore"] = ACCEPTED
    busy = refusal(503, "UnavailableError", "The service is being stopped.")
    fault = refusal(500, "ServerError", "The service has a fault.")
    service.answers[f"GET /jobs/{JOB}"] = [
        busy,
        fault,
        Raw(502, b"<h1>Bad Gateway</h1>"),
        DROP,
        {"job": DONE},
    ]
    assert ask("-q", *ASK, "--wait") == Outcome(0, "", "")


def test_wait_needs_a_page_to_look_at(ask: Ask, service: Recorder) -> None:
    service.answers["POST /package_datastore"] = {"success": True}
    assert "names no page" in ask("-q", *ASK, "--wait").one_complaint()


def test_progress_off_a_terminal_is_a_line_for_each_new_state(capsys: pytest.CaptureFixture[str]) -> None:
    passing = Time()
    with waiting.Progress(console.Console(False, False), on_terminal=False, clock=passing.clock) as show:
        for job in (QUEUED, QUEUED, RUNNING, RUNNING | {"rows_done": 9999}, BUILT, DONE):
            show(job)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "queued: number 4 in the slow queue",
        "running: 1,500 of 60,000 rows, 2 min 5 s left",
        "built: 60,000 rows, ready, e-mail still to be sent",
        "done: 60,000 rows",
    ]


@pytest.mark.parametrize("on_terminal", [True, False])
def test_a_package_whose_mail_is_delayed_is_announced_once(
    capsys: pytest.CaptureFixture[str], on_terminal: bool
) -> None:
    passing = Time()
    late = BUILT | {"error": "The mail server is down."}
    with waiting.Progress(console.Console(False, False), on_terminal, passing.clock) as show:
        show(late)
        assert "delayed" not in capsys.readouterr().err
        for _ in range(30):
            passing.sleep(1)
            show(late)
    err = capsys.readouterr().err
    assert err.count("is delayed (The mail server is down.)") == 1
    assert BUILT["download_url"] in err


def test_quiet_waiting_shows_no_progress(service: Recorder) -> None:
    assert on_a_terminal("-q", "-D", "-p", service.url, "-s", SECRET, *ASK, "--wait") == (0, "", "")


def on_a_terminal(*words: str) -> tuple[int, str, str]:
    """Status, output and what a terminal on standard error got to see."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    with start(*words, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # Linux's way to say that nobody holds the other side any more
            while piece := os.read(ours, 65536):
                seen += piece
        os.close(ours)
        out, _ = process.communicate(timeout=30)
    return process.returncode, out, seen.decode()


def test_progress_on_a_terminal_is_a_bar(service: Recorder) -> None:
    service.answers[f"GET /jobs/{JOB}"] = [{"job": job} for job in (QUEUED, RUNNING, DONE)]
    status, out, seen = on_a_terminal("-D", "-p", service.url, "-s", SECRET, *ASK, "--wait")
    assert (status, out) == (0, DONE["download_url"] + "\n")
    assert "queued, number 4 in the slow queue" in seen
    assert "1500/60000" in seen
    assert "100%" in seen


def test_progress_of_a_file_is_in_bytes(service: Recorder) -> None:
    file = {"task": "package_url", "rows_done": 0, "rows_total": None, "bytes_done": 7_000_000}
    service.answers[f"GET /jobs/{JOB}"] = {"job": DONE | file}
    words = ("queue", "package_url", "resource_id:9b", "--wait")
    _, _, seen = on_a_terminal("-D", "-p", service.url, "-s", SECRET, *words)
    assert "7.00MB" in seen


def test_an_interrupted_wait_says_where_the_request_goes_on(service: Recorder) -> None:
    looked = threading.Event()

    def running() -> dict[str, Any]:
        looked.set()
        return {"job": RUNNING}

    service.answers[f"GET /jobs/{JOB}"] = running
    # Whoever runs the tests in the background has SIGINT ignored, and what is started here would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start("-D", "-p", service.url, "-s", SECRET, *ASK, "--wait")
    signal.signal(signal.SIGINT, before)
    with process:
        assert looked.wait(20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert f"The request goes on all the same: {service.url}/jobs/{JOB}" in err
    assert "Traceback" not in err
