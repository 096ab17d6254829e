"""What a host's admin copies into place, tried with the programs that are to read it."""

import configparser
import contextlib
import ctypes
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path

import docopt
import pytest

from ckanpackager import cli
from ckanpackager.settings import PUBLISHED_SECRET, SETTINGS
from tests.services import Service
from tests.sinks import smtp_sink

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
ETC = ROOT / "etc"
DEFAULTS = {setting.name: setting.default for setting in SETTINGS}
STORE = "/var/lib/ckanpackager/store"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def unit(name):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string((UNITS / name).read_text())
    return parser


SERVICE = unit("ckanpackager.service")["Service"]
CARETAKER = unit("ckanpackager-caretaker.service")["Service"]


# The units.


@needs_systemd
def test_systemd_finds_nothing_to_complain_of(tmp_path):
    for path in UNITS.iterdir():
        # The program is not in /opt here, and a program that is missing would be a complaint.
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", path.read_text(), flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3
    verified = subprocess.run(
        ["systemd-analyze", "--man=no", "verify", *paths], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("name", ["ckanpackager.service", "ckanpackager-caretaker.service"])
def test_service_is_exposed_no_more_than_it_must_be(name):
    analysed = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", UNITS / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert analysed.returncode == 0, analysed.stdout.splitlines()[-1:] + analysed.stderr.splitlines()


def test_systemd_waits_for_longer_than_the_service_gives_its_jobs():
    assert int(SERVICE["TimeoutStopSec"]) >= DEFAULTS["STOP_GRACE"] + 30


def test_workers_are_left_to_the_service_when_it_stops_or_one_of_them_dies():
    assert SERVICE["KillMode"] == "mixed"
    assert SERVICE["OOMPolicy"] == "continue"


def test_service_is_watched_and_started_again():
    assert SERVICE["Type"] == "notify"
    assert SERVICE["Restart"] == "on-failure"
    assert int(SERVICE["WatchdogSec"]) > 0


@pytest.mark.parametrize("section", [SERVICE, CARETAKER])
def test_units_run_programs_that_are_installed_as_a_user_without_rights(section):
    program = Path(shlex.split(section["ExecStart"])[0])
    scripts = {
        script.name for script in entry_points(group="console_scripts") if script.module.startswith("ckanp")
    }
    assert program.name in scripts
    assert section["User"] == section["Group"] == "ckanpackager"
    assert section["CapabilityBoundingSet"] == ""


def test_default_folders_outlive_a_restart_under_systemd():
    kept = [f"/var/lib/{name}" for name in SERVICE["StateDirectory"].split()]
    assert str(Path(DEFAULTS["STATS_DB"].removeprefix("sqlite:///")).parent) in kept
    source, _, target = SERVICE["BindPaths"].partition(":")
    assert source in kept
    assert target == DEFAULTS["STORE_DIRECTORY"]


def test_caretaker_gives_the_command_line_words_that_it_knows():
    words = shlex.split(CARETAKER["ExecStart"])[1:]
    arguments = docopt.docopt(cli.USAGE, words)
    assert arguments["expire"]
    assert arguments["-d"] == "/etc/ckanpackager/ckanpackager-cli.json"


def test_caretaker_comes_every_hour():
    timer = unit("ckanpackager-caretaker.timer")
    assert timer["Timer"]["OnCalendar"] == "hourly"
    assert timer["Install"]["WantedBy"] == "timers.target"


# The sandbox. The filter of system calls can be had without systemd; processes inherit it from one another.

SITECUSTOMIZE = """
import ctypes
import os

ALLOW, REFUSE_WITH_EPERM = 0x7FFF0000, 0x00050001
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65

allowed = os.environ.pop("ALLOWED_BY_UNIT", None)  # by the first process, for all that it starts
if allowed is not None:
    seccomp, libc = ctypes.CDLL("libseccomp.so.2"), ctypes.CDLL(None)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(REFUSE_WITH_EPERM))
    for name in allowed.split():
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(rules, ALLOW, number, 0)
    libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # MemoryDenyWriteExecute, where the kernel knows it
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    seccomp.seccomp_load(rules)
try:
    os.nice(1)
except PermissionError:
    pass
else:
    os._exit(99)  # the filter is not in force, and an exception would not end the process here
"""


def system_calls(group):
    """The system calls in a group of systemd's, and in the groups of which it is made."""
    command = ["systemd-analyze", "syscall-filter", group]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    calls = set()
    for name in map(str.strip, listed.splitlines()[1:]):
        if not name.startswith("#"):
            calls |= system_calls(name) if name.startswith("@") else {name}
    return calls


def allowed_by_unit():
    text = (UNITS / "ckanpackager.service").read_text()
    calls = system_calls("@default")
    for words in re.findall("^SystemCallFilter=(.*)", text, re.MULTILINE):
        named = set().union(*map(system_calls, words.removeprefix("~").split()))
        calls = calls - named if words.startswith("~") else calls | named
    return " ".join(calls)


@needs_systemd
def test_sandbox_of_the_unit_lets_the_service_do_all_its_work(tmp_path):
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    environment = {"PYTHONPATH": str(tmp_path), "ALLOWED_BY_UNIT": allowed_by_unit()}
    with smtp_sink() as mail_server, backend() as port:
        service = Service(tmp_path, **mail_server.settings)
        service.start(environment)
        try:
            url = f"http://127.0.0.1:{port}/numbers.csv"
            job = service.submit("package_url", resource_id="numbers", resource_url=url)
            assert service.wait_for(job)["state"] == "done", service.log
        finally:
            assert service.stop() == 0, service.log


# The command line's defaults.


def test_command_lines_defaults_are_the_secret_and_the_api():
    defaults = json.loads((ETC / "ckanpackager-cli.json").read_text())
    assert defaults.keys() == {"secret", "api_url"}
    assert defaults["secret"] == PUBLISHED_SECRET
    assert defaults["api_url"].endswith("/datastore_search")


# The web server in front.


class Backend(BaseHTTPRequestHandler):
    """Stands for the service: says what has reached it."""

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        text = json.dumps(
            {
                "asked": f"{self.command} {self.path}",
                "body": body.decode(),
                "headers": {name.lower(): value for name, value in self.headers.items()},
            }
        ).encode()
        self.send_response(410 if self.path.startswith("/download/") else 200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def backend():
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def nginx(folder, port, snippet):
    program = shutil.which("nginx") or pytest.skip("nginx is not installed")
    (folder / "snippet.conf").write_text(snippet)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "server.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log; events {{}}\n"
        f"http {{ access_log off; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; include {folder}/snippet.conf; }} }}\n"
    )
    return [program, "-p", folder, "-e", folder / "log", "-c", folder / "server.conf"]


# On some systems the last ones are built in.
APACHE_MODULES = ["authz_core", "headers", "mime", "proxy", "proxy_http", "rewrite", "mpm_event", "unixd"]


def apache(folder, port, snippet):
    program = shutil.which("apache2") or shutil.which("httpd") or pytest.skip("Apache is not installed")
    near = Path(program).parents[1]
    modules = [near / "lib/apache2/modules", near / "lib64/httpd/modules", near / "lib/httpd/modules"]
    modules = next((path for path in modules if path.is_dir()), None) or pytest.skip("no modules of Apache's")
    loaded = [name for name in APACHE_MODULES if (modules / f"mod_{name}.so").exists()]
    (folder / "server.conf").write_text(
        "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in loaded)
        + f"ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {folder}/pid\nErrorLog {folder}/log\n"
        + f"DefaultRuntimeDir {folder}\nUser nobody\nGroup nogroup\n"
        + f"TypesConfig /dev/null\nDocumentRoot {folder}\n"
        + f"<VirtualHost *:{port}>\n{snippet}\n</VirtualHost>\n"
    )
    return [program, "-X", "-d", folder, "-f", folder / "server.conf"]


FRONTS = {"nginx": nginx, "apache": apache}


@pytest.fixture(scope="module", params=sorted(FRONTS))
def front(request):
    """Port of a web server that stands before a backend by our snippet, and the store that it serves."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = folder / "store"
        for path in (folder, store):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)  # Apache gives up root's rights, and may then read what all may read
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        behind = stack.enter_context(backend())
        snippet = (ETC / f"{request.param}.conf").read_text()
        assert f":{DEFAULTS['PORT']}" in snippet
        assert STORE in snippet
        snippet = snippet.replace(STORE, str(store)).replace(f":{DEFAULTS['PORT']}", f":{behind}")
        with open(folder / "output", "wb") as output:
            command = FRONTS[request.param](folder, port, snippet)
            server = stack.enter_context(subprocess.Popen(command, stdout=output, stderr=output))
        stack.callback(server.terminate)
        wait_for(port, server, folder)
        (store / "bees-0123abcd.zip").write_bytes(b"0123456789")
        # In its first second a file is young for Apache, and its ETag weak.
        os.utime(store / "bees-0123abcd.zip", (1_000_000_000, 1_000_000_000))
        (store / ".lock").write_bytes(b"dotted")
        (store / ".drafts").mkdir()
        (store / ".drafts" / "bees-0123abcd.zip").write_bytes(b"dotted")
        yield port


def wait_for(port, server, folder):
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            said = "\n".join(
                path.read_text() for path in (folder / "output", folder / "log") if path.exists()
            )
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)


def ask(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_front_serves_a_package_with_the_headers_that_the_service_gives(front):
    status, headers, body = ask(front, "GET", "/download/bees-0123abcd.zip")
    assert (status, body) == (200, b"0123456789")
    assert headers["Content-Type"] == "application/zip"
    assert headers["Content-Disposition"] == "attachment"
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["X-Robots-Tag"] == "noindex"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_front_resumes_a_package_that_has_not_changed(front):
    _, headers, _ = ask(front, "HEAD", "/download/bees-0123abcd.zip")
    condition = {"Range": "bytes=4-", "If-Range": headers["ETag"]}
    status, headers, body = ask(front, "GET", "/download/bees-0123abcd.zip", headers=condition)
    assert (status, body) == (206, b"456789")
    assert headers["Content-Disposition"] == "attachment"


@pytest.mark.parametrize(
    "path", [".lock", ".drafts/bees-0123abcd.zip", "%2elock", "x/../.lock", "x/..%2f.lock"]
)
def test_front_serves_nothing_that_begins_with_a_dot(front, path):
    status, _, body = ask(front, "GET", f"/download/{path}")
    assert status >= 400
    assert body != b"dotted"


@pytest.mark.parametrize("path", ["", "../server.conf", "..%2fserver.conf"])
def test_front_shows_neither_the_folder_nor_what_is_beside_it(front, path):
    status, _, body = ask(front, "GET", f"/download/{path}")
    assert status in (400, 403, 404) or b'"asked"' in body


def test_front_asks_the_service_about_a_package_that_is_gone(front):
    status, _, body = ask(front, "GET", "/download/gone-0123abcd.zip")
    assert status == 410
    assert json.loads(body)["asked"] == "GET /download/gone-0123abcd.zip"


def test_front_passes_a_request_on_as_it_is(front):
    body = "secret=x&filters=%7B%22a%22%3A+%22%C3%A9%22%7D"
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Host": "packages.example.org"}
    status, _, answer = ask(front, "POST", "/package_datastore?a=b%20c", body, headers)
    assert status == 200
    seen = json.loads(answer)
    assert seen["asked"] == "POST /package_datastore?a=b%20c"
    assert seen["body"] == body
    assert seen["headers"]["content-type"] == "application/x-www-form-urlencoded"
    assert seen["headers"]["host"] == "packages.example.org"


def test_front_says_who_asks_and_lets_nobody_say_it_in_its_place(front):
    headers = {"X-Real-IP": "192.0.2.1", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "gopher"}
    _, _, answer = ask(front, "GET", "/jobs/0123", headers=headers)
    seen = json.loads(answer)["headers"]
    assert seen["x-real-ip"] == "127.0.0.1"
    assert seen["x-forwarded-for"].endswith("127.0.0.1")
    assert seen["x-forwarded-proto"] == "http"
