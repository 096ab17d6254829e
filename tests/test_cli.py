"""The command line, run as a person or a script runs it, against a service that listens and takes notes."""

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docopt import docopt
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager import __version__, cli
from ckanpackager.commands import client, console, output, parameters, views
from ckanpackager.errors import BadRequestError
from tests import answers
from tests.answers import ERRORS, JOB, STATUS
from tests.commands import Outcome, call, closed_port, execute, isolate, start, write_defaults
from tests.recorder import DROP, Raw, Recorder, refusal

SECRET = "what only the two of us know"


@pytest.fixture
def service() -> Iterator[Recorder]:
    with Recorder() as recorder:
        recorder.answers = answers.of_a_service(recorder.url)
        yield recorder


ASK = ["queue", "package_datastore", "resource_id:9b", "email:a@example.org"]

# Every command that asks the service, and what it asks.
QUESTIONS = {
    "status": (["status"], "/status", {}),
    "cc": (["cc"], "/clear_caches", {}),
    "clear-cache": (["clear-cache"], "/clear_caches", {}),
    "expire": (["expire"], "/clear_caches", {"expired": "true"}),
    "expire days": (["expire", "--older-than", "0.5"], "/clear_caches", {"older_than": 43200}),
    "stats": (["stats"], "/statistics", {}),
    "totals": (["statistics", "totals", "-r", "9b"], "/statistics", {"resource_id": "9b"}),
    "requests": (
        ["statistics", "requests", "-o", "5", "-l", "7", "-r", "9b", "-e", "a@b.example"],
        "/statistics/requests",
        {"offset": 5, "limit": 7, "resource_id": "9b", "email": "a@b.example"},
    ),
    "errors": (["stats", "errors", "-l", "0"], "/statistics/errors", {"limit": 0}),
    "jobs": (["jobs"], "/jobs", {}),
    "jobs list": (
        ["jobs", "list", "--state", "failed", "-o", "1", "-l", "2"],
        "/jobs",
        {"state": "failed", "offset": 1, "limit": 2},
    ),
    "show": (["jobs", "show", JOB], f"/jobs/{JOB}", {}),
    "retry": (["jobs", "retry", JOB], f"/jobs/{JOB}/retry", {}),
    "cancel": (["jobs", "cancel", JOB], f"/jobs/{JOB}/cancel", {}),
    "queue": (ASK, "/package_datastore", {"resource_id": "9b", "email": "a@example.org"}),
}


# Ways to run the command.


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def nothing_of_this_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process."""

    return functools.partial(call, capsys)


@pytest.fixture
def ask(run: Run, service: Recorder) -> Run:
    """Runs the command in this process, with the service's address and secret."""
    return functools.partial(run, "-p", service.url, "-s", SECRET)


# What one may type.


def test_help_names_every_command_and_option_and_succeeds() -> None:
    outcome = execute("--help")
    assert (outcome.status, outcome.err) == (0, "")
    for word in [
        *cli.COMMANDS,
        "-q",
        "-x",
        "-p HOST",
        "-d FILE",
        "-D",
        "-s SECRET",
        "-o",
        "-l",
        "-r",
        "-e",
        "--json",
    ]:
        assert word in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 110


def test_version_is_that_of_the_package() -> None:
    assert execute("--version") == Outcome(0, f"ckanpackager {__version__}\n", "")


def test_python_m_ckanpackager_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ckanpackager", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"ckanpackager {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "-q -p h -d f -s s status",
        "status -D",
        "cc",
        "clear-cache",
        "queue TASK",
        "queue TASK a:b c:d:e f:",
        "-s secret queue TASK a:b -d file",
        "stats",
        "-x stats",
        "statistics totals -x",
        "stats requests -o 1 -l 2 -r 3 -e 4",
        "-o 1 -l 2 -r 3 -e 4 statistics errors",
        "-x statistics errors",
        "status --json",
        "--json stats requests",
    ],
)
def test_what_the_retired_command_line_understood_is_understood(words: str) -> None:
    assert docopt(cli.USAGE, words.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Usage:"),
        (["frob"], "there is no command frob"),
        (["statos"], "Did you mean stat"),
        (["status", "-l", "3"], "ckanpackager status: -l does not go with it."),
        (["status", "--jsno"], "--jsno does not go with it"),
        (["jobs", "show"], "jobs (show|retry|cancel) JOB"),
        (["queue"], "ckanpackager queue: something is missing"),
        (["-d", "file", "-p", "host", "-q", "dwc-plan"], "ckanpackager dwc-plan: something is missing"),
        (["-p", "host", "jobs", "show", "-x"], "ckanpackager jobs: -x does not go with it."),
        (["status", "-p"], "-p needs a value"),
        (["-q"], "which command?"),
        (["stats", "it's"], "stats"),
    ],
)
def test_misuse_is_explained_on_standard_error(run: Run, words: list[str], said: str) -> None:
    outcome = run(*words)
    assert (outcome.status, outcome.out) == (1, "")
    assert said in outcome.err
    assert "--help" in outcome.err
    assert "unmatched" not in outcome.err


def test_misuse_of_a_command_shows_the_usage_of_that_command_only(run: Run) -> None:
    lines = [line for line in run("jobs", "frob").err.splitlines() if "[options]" in line]
    assert len(lines) == 2
    assert all(" jobs " in line for line in lines)


# What is sent, and to whom.


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_command_posts_what_the_contract_says(ask: Run, service: Recorder, name: str) -> None:
    words, path, values = QUESTIONS[name]
    assert ask(*words).status == 0
    assert service.posted() == {"secret": SECRET, **values}
    assert service.asked[0].path == path


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name != "queue"])
def test_only_queue_sends_more_of_the_defaults_file_than_the_secret(
    run: Run, service: Recorder, tmp_path: Path, name: str
) -> None:
    words, _, values = QUESTIONS[name]
    file = write_defaults(
        tmp_path / "d.json", secret=SECRET, api_url="http://ckan.example", limit=9, email="e"
    )
    assert run("-p", service.url, "-d", file, *words).status == 0
    assert service.posted() == {"secret": SECRET, **values}


def test_queue_sends_the_defaults_file_with_what_was_typed_in_its_place(
    run: Run, service: Recorder, tmp_path: Path
) -> None:
    filters = {"genus": ["Rosa"]}
    file = write_defaults(
        tmp_path / "d.json",
        host=service.url,
        secret=SECRET,
        filters=filters,
        limit=9,
        fields=["a,b"],
        doi=None,
    )
    assert run("-d", file, *ASK, "limit:5", "q:a:b").status == 0
    assert service.posted() == {
        "secret": SECRET,
        "filters": filters,
        "fields": ["a,b"],
        "doi": None,
        "limit": "5",
        "resource_id": "9b",
        "email": "a@example.org",
        "q": "a:b",
    }


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (ASK, "of the file"),
        (["-s", "of -s", *ASK], "of -s"),
        (["-s", "of -s", *ASK, "secret:of the pair"], "of the pair"),
        ([*ASK, "secret:of the pair"], "of the pair"),
        (["-s", "of -s", "status"], "of -s"),
        (["status"], "of the file"),
    ],
)
def test_secret_of_a_pair_outweighs_that_of_s_and_that_the_one_of_the_file(
    run: Run, service: Recorder, tmp_path: Path, words: list[str], sent: str
) -> None:
    file = write_defaults(tmp_path / "d.json", secret="of the file")
    assert run("-p", service.url, "-d", file, *words).status == 0
    assert service.posted()["secret"] == sent


def test_host_of_p_outweighs_that_of_the_defaults_file(run: Run, service: Recorder, tmp_path: Path) -> None:
    file = write_defaults(tmp_path / "d.json", secret=SECRET, host=f"http://127.0.0.1:{closed_port()}")
    assert run("-d", file, "status").status == 1
    assert run("-d", file, "-p", service.url, "status").status == 0


@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "{}", "{}/"])
def test_host_may_be_written_with_or_without_scheme_and_slash(run: Run, service: Recorder, form: str) -> None:
    assert run("-p", form.format(service.address), "-s", SECRET, "status").status == 0


def test_host_may_have_a_path_before_the_service(run: Run, service: Recorder) -> None:
    service.answers["POST /packager/status"] = STATUS
    assert run("-p", f"{service.url}/packager/", "-s", SECRET, "status").status == 0


@pytest.mark.parametrize(
    "host", ["ftp://x", "http://", "http://a b", "http://x:99999", "http://[x", "", "x:y:z"]
)
def test_host_that_is_none_is_refused_with_an_example(run: Run, host: str) -> None:
    complaint = run("-p", host, "-s", SECRET, "status").one_complaint()
    assert "http://127.0.0.1:8765" in complaint


def test_defaults_file_in_etc_is_used_if_it_is_there(
    run: Run, service: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_defaults(tmp_path / "d.json", secret=SECRET, host=service.url)
    monkeypatch.setattr(parameters, "DEFAULTS_FILE", Path(file))
    assert run("status").status == 0
    assert run("-D", "-p", service.url, "status").status == 1


def test_minus_big_d_wins_over_minus_d(run: Run, service: Recorder, tmp_path: Path) -> None:
    file = write_defaults(tmp_path / "d.json", secret="of the file", limit=3)
    assert run("-D", "-d", file, "-s", SECRET, "-p", service.url, *ASK).status == 0
    assert service.posted() == {"secret": SECRET, "resource_id": "9b", "email": "a@example.org"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "There is no defaults file"),
        (b"{'secret': 1}", "is not JSON"),
        (b"", "is not JSON"),
        (b'{"secret": "\xff"}', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'["secret"]', "must hold a JSON object"),
        (b'{"secret": 12}', '"secret" in the defaults file must be a text'),
        (b'{"secret": "x", "host": []}', '"secret"|"host"|answer'),
        (b'{"secret": "x", "host": 5}', '"host" in the defaults file must be a text'),
    ],
)
def test_defaults_file_of_no_use_is_named_with_its_fault(
    run: Run, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "d.json"
    if content is not None:
        path.write_bytes(content)
    assert re.search(said, run("-d", str(path), "status").one_complaint())


def test_defaults_file_that_is_a_folder_is_refused(run: Run, tmp_path: Path) -> None:
    assert "cannot be read" in run("-d", str(tmp_path), "status").one_complaint()


def test_without_a_secret_nothing_is_sent(run: Run, service: Recorder) -> None:
    complaint = run("-p", service.url, "status").one_complaint()
    assert "-s" in complaint
    assert "defaults file" in complaint
    assert not service.asked


@given(st.text(min_size=1).filter(lambda name: ":" not in name), st.text())
def test_a_pair_is_split_at_its_first_colon(name: str, value: str) -> None:
    assert parameters.split_pair(f"{name}:{value}") == (name, value)


@pytest.mark.parametrize("pair", ["limit", ":5", "", "limit=5", "--", "-5"])
def test_a_pair_without_a_name_or_colon_is_refused(ask: Run, service: Recorder, pair: str) -> None:
    assert "PARAM:VALUE" in ask(*ASK, pair).one_complaint()
    assert not service.asked


@pytest.mark.parametrize("task", ["/package_datastore", "package_url", "/package_url"])
def test_a_task_may_have_a_leading_slash(ask: Run, service: Recorder, task: str) -> None:
    assert ask("queue", task, "resource_id:9b").status == 0
    assert service.asked[0].path == f"/{task.strip('/')}"


def test_an_unknown_task_is_refused_with_the_ones_there_are(ask: Run, service: Recorder) -> None:
    complaint = ask("queue", "package_datastor").one_complaint()
    assert "package_datastore" in complaint
    assert "package_url" in complaint
    assert not service.asked


def test_a_slip_in_a_parameters_name_is_remarked_upon(ask: Run, service: Recorder) -> None:
    outcome = ask(*ASK, "limt:5")
    assert outcome.status == 0
    assert "Did you mean limit?" in outcome.err
    assert service.posted()["limt"] == "5"


@pytest.mark.parametrize(
    "words",
    [
        ["stats", "requests", "-l", "ten"],
        ["stats", "requests", "-o", "-1"],
        ["jobs", "-l", "1.5"],
        ["jobs", "-o", "\N{ARABIC-INDIC DIGIT FIVE}"],
        ["jobs", "-o", "9" * 30],
        ["expire", "--older-than", "a week"],
        ["expire", "--older-than", "-1"],
        ["expire", "--older-than", "nan"],
        ["expire", "--older-than", "inf"],
        ["expire", "--older-than", "1e300"],
    ],
)
def test_numbers_that_are_none_are_refused_before_anything_is_sent(
    ask: Run, service: Recorder, words: list[str]
) -> None:
    assert "takes a" in ask(*words).one_complaint()
    assert not service.asked


def test_a_job_id_cannot_lead_to_another_path(ask: Run, service: Recorder) -> None:
    assert ask("jobs", "show", "../clear_caches?x=#").status == 1
    assert service.asked[0].path == "/jobs/..%2Fclear_caches%3Fx%3D%23"


def test_a_job_that_is_unknown_is_named_with_where_to_find_others(ask: Run) -> None:
    complaint = ask("jobs", "cancel", "ffff").one_complaint()
    assert "There is no job ffff" in complaint
    assert "ckanpackager jobs lists them" in complaint


def test_a_proxy_is_not_asked_for_what_is_on_this_host(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    assert ask("status").status == 0


# What can go wrong between here and there.

REDIRECT = Raw(301, headers=(("Location", "https://packages.example.org/status"),))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (DROP, "does not answer"),
        (Raw(body=b"<html>hello"), "not as ckanpackager does"),
        (Raw(body=b""), "not as ckanpackager does"),
        (Raw(body=b"\xff\xfe"), "not as ckanpackager does"),
        (Raw(body=b"[" * 100_000), "not as ckanpackager does"),
        ([["a list"]], "not as ckanpackager does"),
        (Raw(502, b"<h1>Bad Gateway</h1>"), "502 Bad Gateway"),
        (Raw(body=b"{}", headers=(("Content-Encoding", "gzip"),)), "cannot be asked"),
        (REDIRECT, "https://packages.example.org/status"),
        (refusal(401, "NotAuthorizedError", "The secret is wrong."), "refuses the secret: give the SECRET"),
        (refusal(400, "BadRequestError", "limit must be a number."), "says: limit must be a number."),
        (refusal(409, "ConflictError", "It is done."), "It is done."),
        (refusal(429, "TooMany", "Wait."), "Wait."),
        (refusal(500, "ServerError", "Server error."), "Server error."),
        (refusal(200, "BadRequestError", "Old manners."), "Old manners."),
        (Raw(500, b"{}"), "500 Internal Server Error"),
        ({"success": True}, "--json shows it"),
    ],
)
def test_every_answer_that_is_none_is_explained_in_a_sentence(
    ask: Run, service: Recorder, answer: Any, said: str
) -> None:
    service.answers["POST /statistics"] = answer
    assert said in ask("stats").one_complaint()


def test_a_service_that_is_not_there_is_explained() -> None:
    outcome = execute("-D", "-p", f"127.0.0.1:{closed_port()}", "-s", SECRET, "status")
    complaint = outcome.one_complaint()
    assert "Connection refused" in complaint
    assert "Is ckanpackager-service running there? -p names another address." in complaint
    assert "HTTPConnectionPool" not in complaint


def test_a_service_that_does_not_answer_is_not_waited_for_for_ever(
    ask: Run, service: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = threading.Event()
    service.answers["POST /status"] = lambda: enough.wait(10) and STATUS
    monkeypatch.setattr(client, "READ_TIMEOUT", 0.05)
    try:
        assert "did not answer in time" in ask("status").one_complaint()
    finally:
        enough.set()


@pytest.mark.parametrize("odd", [{}, {"jobs": 5, "job": [], "totals": [], "requests": {"a": 1}, "errors": 7}])
@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("options", [[], ["--json"], ["-q"]])
def test_no_answer_however_odd_becomes_a_traceback(
    ask: Run, service: Recorder, name: str, odd: dict[str, Any], options: list[str]
) -> None:
    service.answers = {f"POST {QUESTIONS[name][1]}": odd}
    extra = ["-x"] if name in ("stats", "totals", "errors") else []
    outcome = ask(*options, *QUESTIONS[name][0], *extra)
    assert outcome.status in (0, 1)
    assert len(outcome.err.splitlines()) == outcome.status


def test_a_reader_that_leaves_early_is_no_error_of_ours(service: Recorder) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start("-D", "-p", service.url, "-s", SECRET, "status", stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")


# What is shown.


def test_status_can_be_read(service: Recorder) -> None:
    outcome = execute("-D", "-p", service.url, "-s", SECRET, "status")
    assert outcome == Outcome(
        0,
        f"ckanpackager 1.0.0 at {service.url}\n"
        "POOL  WORKERS  RUNNING  WAITING\n"
        "fast        2        1        0\n"
        "slow        1        1    1,202\n"
        "3 workers, 1,204 requests not yet finished, 98,765 processed\n",
        "",
    )


def test_totals_can_be_read(ask: Run) -> None:
    assert ask("stats").out == (
        "RESOURCE       REQUESTS  ERRORS  ADDRESSES\n"
        "all resources    12,345       1        900\n"
        "9b               12,343       1        899\n"
        "3a                    2       0          1\n"
    )


def test_requests_can_be_read(ask: Run) -> None:
    assert ask("stats", "requests").out == (
        "WHEN                 RESOURCE  LIMIT  E-MAIL\n"
        "2023-11-14 22:13:20  9b        1,000  a@example.org\n"
        "2023-11-14 19:26:40  3a        all    b@example.org\n"
    )


def test_of_a_traceback_among_the_errors_the_last_line_is_shown(ask: Run) -> None:
    assert ask("stats", "errors").out == (
        "WHEN                 RESOURCE  E-MAIL         ERROR\n"
        "2023-11-14 22:13:20  9b        a@example.org  HTTPError: 404\n"
    )


def test_jobs_can_be_read_and_say_how_to_see_more(ask: Run) -> None:
    lines = ask("jobs").out.splitlines()
    assert lines[0].split() == ["JOB", "STATE", "ACCEPTED", "RESOURCE", "E-MAIL", "NOW"]
    assert lines[1].startswith(JOB)
    assert lines[1].endswith("1,500 of 60,000 rows, 2 min 5 s left")
    assert lines[2].endswith("CKAN said: no such table.")
    assert lines[3] == "2 of 7 jobs; for more: -o 2"
    assert "for more" not in ask("jobs", "-o", "5").out


def test_a_job_is_shown_with_its_history(ask: Run) -> None:
    assert ask("jobs", "show", JOB).out == (
        f"job        {JOB}\n"
        "state      done\n"
        "now        60,000 rows\n"
        "task       package_datastore\n"
        "resource   9b\n"
        "from       https://data.example.org/api/3/action/datastore_search\n"
        "e-mail     a@example.org\n"
        "accepted   2023-11-14 22:13:20\n"
        "started    2023-11-14 22:13:21\n"
        "finished   2023-11-14 22:15:00\n"
        "expires    2023-11-21 22:15:00\n"
        "download   https://packages.example.org/download/9b-xyz.zip\n"
        "file name  9b.zip\n"
        "size       2.5 MB\n"
        f"sha256     {'ab' * 32}\n"
        "\n"
        "WHEN                 STATE   WHY\n"
        "2023-11-14 22:13:20  queued  accepted\n"
        "2023-11-14 22:15:00  done\n"
    )


def test_a_job_that_failed_is_shown_with_its_reason_once() -> None:
    failed = {"id": JOB, "state": "failed", "error": "CKAN said: no such table.", "attempts": 0}
    assert views.job({"job": failed}) == f"job    {JOB}\nstate  failed\nerror  CKAN said: no such table."
    died = views.job({"job": {**failed, "attempts": 3}})
    assert "broken off  3 times\n" in died


def test_a_job_whose_mail_waits_is_shown_with_the_reason() -> None:
    mails = [{"kind": "ready", "state": "waiting", "error": "The mail server cannot be reached."}]
    shown = views.job({"job": {"id": JOB, "state": "built", "mails": mails}})
    assert "mail trouble  The mail server cannot be reached." in shown
    assert "mail trouble" not in views.job({"job": {"id": JOB, "state": "done", "mails": []}})


def test_what_was_removed_is_said(ask: Run) -> None:
    assert ask("cc").out == "Removed 3 packages, 1.2 MB.\n"


def test_what_was_queued_is_said_with_its_page(ask: Run, service: Recorder) -> None:
    assert ask(*ASK).out == (f"Please be patient.\nIt is job {JOB}.\nFollow it at {service.url}/jobs/{JOB}\n")


@pytest.mark.parametrize(
    ("words", "path", "answer", "said"),
    [
        (["stats"], "/statistics", {"totals": {}}, "Nothing has been asked for yet.\n"),
        (["stats", "requests"], "/statistics/requests", {"requests": []}, "No requests.\n"),
        (["stats", "errors"], "/statistics/errors", {"errors": []}, "No errors.\n"),
        (["jobs"], "/jobs", {"jobs": [], "total": 0}, "No jobs.\n"),
        (["cc"], "/clear_caches", {"status": "success"}, "Done.\n"),
        (["cc"], "/clear_caches", {"removed": 1, "freed": 1}, "Removed 1 package, 1 byte.\n"),
        (ASK, "/package_datastore", {"status": "success"}, "The request is accepted.\n"),
    ],
)
def test_little_is_said_of_nothing(
    ask: Run, service: Recorder, words: list[str], path: str, answer: dict[str, Any], said: str
) -> None:
    service.answers[f"POST {path}"] = answer
    assert ask(*words) == Outcome(0, said, "")


@pytest.mark.parametrize("name", QUESTIONS)
def test_json_is_the_services_answer_indented_by_two_and_nothing_else(
    ask: Run, service: Recorder, name: str
) -> None:
    words, path, _ = QUESTIONS[name]
    expected = json.dumps(service.answers[f"POST {path}"], indent=2) + "\n"
    assert ask("--json", *words) == Outcome(0, expected, "")


@pytest.mark.parametrize("name", QUESTIONS)
def test_quiet_outputs_nothing_but_errors(ask: Run, service: Recorder, name: str) -> None:
    words, path, _ = QUESTIONS[name]
    assert ask("-q", *words) == Outcome(0, "", "")
    assert ask("-q", "--json", *words) == Outcome(0, "", "")
    service.answers[f"POST {path}"] = refusal(400, "BadRequestError", "No.")
    assert "No." in ask("-q", *words).one_complaint()


def test_a_terminal_without_the_letters_is_no_obstacle(service: Recorder) -> None:
    service.answers["POST /package_datastore"] = {"success": True, "message": "Größe → 0 \ud800"}
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    outcome = execute("-D", "-p", service.url, "-s", SECRET, *ASK, env=environment)
    assert outcome == Outcome(0, "Gr\\xf6\\xdfe \\u2192 0 \\ufffd\n", "")


@given(st.text())
def test_no_control_character_from_outside_reaches_the_terminal(text: str) -> None:
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        console.Console(quiet=False, as_json=False).say(text)
    assert all(character.isprintable() for character in stream.getvalue().replace("\n", ""))


@given(st.lists(st.tuples(st.text(), st.integers() | st.none() | st.text()), max_size=5))
def test_a_table_has_one_line_for_each_row_and_columns_that_begin_together(rows: list[Any]) -> None:
    header, *lines = output.table(("FIRST", "SECOND"), rows).split("\n")
    assert len(lines) == len(rows)
    start = header.index("SECOND") if all(not isinstance(row[1], int) for row in rows) else 0
    for line, (first, _) in zip(lines, rows, strict=True):
        assert line.startswith(output.one_line(first))
        assert line[start - 2 : start].strip() == "" or start == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h"), (-3, "0 s")],
)
def test_durations_are_in_the_two_largest_units(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text


# Whether there are errors.


@pytest.mark.parametrize(
    ("words", "path", "answer", "status"),
    [
        (["stats"], "/statistics", {"totals": {"*": {"emails": 1, "requests": 1, "errors": 1}}}, 1),
        (["stats", "totals"], "/statistics", {"totals": {"*": {"emails": 1, "requests": 1, "errors": 0}}}, 0),
        (["stats", "-r", "9"], "/statistics", {"totals": {}}, 0),
        (["stats", "errors"], "/statistics/errors", {"errors": []}, 0),
        (["stats", "errors"], "/statistics/errors", ERRORS, 1),
    ],
)
@pytest.mark.parametrize("form", [[], ["-q"], ["--json"]])
def test_x_makes_errors_in_the_statistics_the_exit_status(
    ask: Run, service: Recorder, words: list[str], path: str, answer: Any, status: int, form: list[str]
) -> None:
    service.answers[f"POST {path}"] = answer
    outcome = ask("-x", *form, *words)
    assert (outcome.status, outcome.err) == (status, "")
    assert ask(*form, *words).status == 0


# Without a service.


@pytest.fixture
def file_url(service: Recorder) -> str:
    service.answers["GET /numbers.csv"] = Raw(body=b"a,b\n1,2\n")
    return f"resource_url:{service.url}/numbers.csv"


def test_package_makes_a_zip_here_and_now(service: Recorder, file_url: str, tmp_path: Path) -> None:
    outcome = execute("-D", "package", "package_url", "resource_id:9b", file_url, cwd=tmp_path)
    made = tmp_path / "9b.zip"
    assert outcome.status == 0, outcome
    with zipfile.ZipFile(made) as archive:
        assert archive.read("numbers.csv") == b"a,b\n1,2\n"
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    assert outcome.out == f"9b.zip: {made.stat().st_size} bytes\nsha256 {digest}\n"
    assert os.listdir(tmp_path) == ["9b.zip"]


def test_package_tells_a_script_what_it_made(run: Run, file_url: str, tmp_path: Path) -> None:
    target = tmp_path / "other.zip"
    outcome = run("--json", "package", "/package_url", "resource_id:9b", file_url, "--output", str(target))
    made = json.loads(outcome.out)
    assert (made["file"], made["rows"], made["size"]) == (str(target), None, target.stat().st_size)
    assert made["success"] is True


def test_package_takes_what_the_defaults_file_says(run: Run, file_url: str, tmp_path: Path) -> None:
    name, _, value = file_url.partition(":")
    file = write_defaults(tmp_path / "d.json", secret=SECRET, resource_id="of-the-file", **{name: value})
    target = tmp_path / "made.zip"
    assert run("-d", file, "package", "package_url", "--output", str(target)).status == 0
    assert target.exists()


def test_package_with_a_key_shows_it_to_the_host_that_was_named(
    run: Run, service: Recorder, file_url: str, tmp_path: Path
) -> None:
    words = ["package_url", "resource_id:9b", "key:abc", file_url, "--output", str(tmp_path / "x.zip")]
    assert run("package", *words).status == 0
    assert service.asked[0].headers["Authorization"] == "abc"


def test_package_does_not_replace_a_file_that_was_not_named(
    run: Run, file_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "9b.zip").write_text("mine")
    assert "is there already" in run("package", "package_url", "resource_id:9b", file_url).one_complaint()
    assert (tmp_path / "9b.zip").read_text() == "mine"
    assert run("package", "package_url", "resource_id:9b", file_url, "--output", "9b.zip").status == 0
    assert zipfile.is_zipfile(tmp_path / "9b.zip")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["package_url", "resource_id:9b"], "resource_url"),
        (["package_url", "resource_id:9b", "FILE", "--output", "."], "is a folder"),
        (["package_url", "resource_id:9b", "FILE", "--output", "none/x.zip"], "cannot be written"),
        (["package_url", "resource_id:9b", "FILE.gone"], "404"),
        (["package_datastore", "resource_id:9b", "api_url:x"], "api_url"),
        (["package_frob"], "There is no task"),
    ],
)
def test_package_that_cannot_be_made_says_why_and_leaves_nothing(
    run: Run,
    file_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("FILE", file_url) for word in words]
    assert said in run("package", *words).one_complaint()
    assert os.listdir(tmp_path) == []


def test_package_with_a_settings_file_obeys_it(
    run: Run, file_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CKANPACKAGER_CONFIG", str(tmp_path / "none.py"))
    words = ["package_url", "resource_id:9b", file_url, "--output", str(tmp_path / "x.zip")]
    assert "none.py" in run("package", *words).one_complaint()


def test_demo_is_handed_what_was_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []

    def run_demo(*arguments: Any) -> int:
        calls.append(arguments)
        return 7

    monkeypatch.setitem(sys.modules, "ckanpackager.demo.run", types.SimpleNamespace(run=run_demo))
    assert run("demo", "--api-url", "http://ckan.example", "-r", "9b", "--output", str(tmp_path)).status == 7
    assert run("demo", "--task", "/package_url", "--output", str(tmp_path)).status == 7
    assert calls == [
        ("http://ckan.example", "9b", "package_datastore", tmp_path),
        (None, None, "package_url", tmp_path),
    ]


def test_demo_without_its_packages_says_how_to_get_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ckanpackager.demo.run", None)
    assert "pip install 'ckanpackager[demo]'" in run("demo").one_complaint()


# Addresses.


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        url = client.base_url(text)
    except BadRequestError:
        return
    assert url.startswith(("http://", "https://"))
    assert not url.endswith("/")
