"""The whole service at work, on this host: what `make demo` shows.

A real service in a folder of its own, a CKAN, a mail server; the request that
the CKAN extension would post; the e-mail that a visitor would get; and the
package behind the link in it.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import requests

from ckanpackager.commands.client import Service
from ckanpackager.commands.console import Console
from ckanpackager.commands.waiting import Progress, StatusPage, follow
from ckanpackager.demo import contents, occurrences
from ckanpackager.demo.ckan import PENGUINS, Ckan, penguins
from ckanpackager.demo.sink import MailSink
from ckanpackager.errors import BadRequestError, PackagerError, SourceError, UnavailableError

_VISITOR = "visitor@museum.example"
_PATIENCE = 60  # seconds
_PAGE_SIZE = 20  # rows; few, so that there is progress to see even with penguins
_TASKS = {"dwc": "package_dwc_archive"}


def run(api_url: str | None, resource_id: str | None, task: str, folder: Path) -> int:
    """Show the service making a package of a resource: of a real CKAN's, or of our own's penguins.

    ``task`` is package_datastore or package_dwc_archive, "dwc" for short. Everything is done, and left, in
    ``folder``. Returns the exit status.
    """
    task = _TASKS.get(task, task)
    if task not in ("package_datastore", "package_dwc_archive"):
        raise BadRequestError(f"The demo shows package_datastore and package_dwc_archive, not {task}.")
    is_archive = task == "package_dwc_archive"
    if (api_url is None) != (resource_id is None):
        raise BadRequestError("Give both --api-url and -r, or neither.")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        form: dict[str, Any] = {}
        if api_url is None or resource_id is None:
            tables = [penguins(), occurrences.occurrences(penguins())]
            ckan = stack.enter_context(Ckan(tables))
            api_url, resource_id = ckan.api_url, occurrences.OCCURRENCES if is_archive else PENGUINS
            form = {"eml": occurrences.EML} if is_archive else {}
            _say(f"A small CKAN with 344 penguins (Palmer Station LTER, CC0) answers at {ckan.url}")
        sink = stack.enter_context(MailSink())
        _say(f"A mail server that keeps what it gets listens on {sink.host}:{sink.port}")
        settings = _settings(folder, sink) | (occurrences.SETTINGS if is_archive else {})
        url = stack.enter_context(_service(folder, settings))
        _say(f"ckanpackager-service answers at {url}; its log is {folder / 'service.log'}")
        total = _count(api_url, resource_id)
        if is_archive:
            _show_plan(folder, api_url, resource_id)
        form |= {"resource_id": resource_id, "format": "csv", "api_url": api_url, "limit": str(total)}
        package = _package(url, settings["SECRET"], task, form)
        mail = sink.wait(_PATIENCE)
        _say("The visitor's e-mail:")
        _show_mail(mail)
        return _show_package(_download(mail, folder), total, package, is_archive)


def _settings(folder: Path, sink: MailSink) -> dict[str, Any]:
    return {
        "SECRET": secrets.token_hex(),
        "HOST": "127.0.0.1",
        "PORT": _free_port(),
        "STATS_DB": f"sqlite:///{folder.absolute()}/stats.db",
        "STORE_DIRECTORY": str(folder.absolute() / "store"),
        "TEMP_DIRECTORY": str(folder.absolute() / "temp"),
        "SMTP_HOST": sink.host,
        "SMTP_PORT": sink.port,
        "EMAIL_FROM": "data-portal@museum.example",
        "PAGE_SIZE": _PAGE_SIZE,
    }


@contextlib.contextmanager
def _service(folder: Path, settings: dict[str, Any]) -> Iterator[str]:
    """The service as systemd would start it, until the block is left. Yields its address."""
    config = _settings_file(folder)
    config.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    with (
        open(folder / "service.log", "wb") as log,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as readiness,
    ):
        # An abstract address, which is no file and has no length to be too long.
        address = f"ckanpackager-demo-{secrets.token_hex(8)}"
        readiness.bind(f"\0{address}")
        environment = {**os.environ, "CKANPACKAGER_CONFIG": str(config), "NOTIFY_SOCKET": f"@{address}"}
        process = subprocess.Popen(
            _command("ckanpackager-service", "ckanpackager.service"), env=environment, stderr=log
        )
        try:
            _wait_until_ready(process, readiness, folder / "service.log")
            yield f"http://127.0.0.1:{settings['PORT']}"
        finally:
            process.terminate()
            process.wait()


def _settings_file(folder: Path) -> Path:
    return folder.absolute() / "settings.py"


def _command(program: str, module: str) -> list[str]:
    beside = Path(sys.executable).with_name(program)
    return [str(beside)] if beside.exists() else [sys.executable, "-m", module]


def _wait_until_ready(process: "subprocess.Popen[bytes]", readiness: socket.socket, log: Path) -> None:
    readiness.settimeout(0.2)
    for _ in range(5 * _PATIENCE):
        if process.poll() is not None:
            raise UnavailableError(f"The service did not start:\n{log.read_text()}")
        with contextlib.suppress(TimeoutError):
            if readiness.recv(100) == b"READY=1":
                return
    raise UnavailableError(f"The service was not ready within {_PATIENCE} s:\n{log.read_text()}")


def _count(api_url: str, resource_id: str) -> int:
    """What the extension asks CKAN before it posts."""
    try:
        with requests.post(api_url, json={"resource_id": resource_id, "limit": 0}, timeout=30) as answer:
            return int(answer.json()["result"]["total"])
    except (requests.RequestException, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{api_url} does not say how many rows {resource_id} has: {error}") from error


def _show_plan(folder: Path, api_url: str, resource_id: str) -> None:
    """What an admin would look at beforehand."""
    words = ["dwc-plan", "-r", resource_id, "--api-url", api_url]
    _say(f"ckanpackager {' '.join(words)}")
    shown = subprocess.run(
        [*_command("ckanpackager", "ckanpackager"), "-D", *words],
        env={**os.environ, "CKANPACKAGER_CONFIG": str(_settings_file(folder))},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if shown.returncode:
        raise PackagerError("The plan could not be made.")
    for line in shown.stdout.splitlines():
        print(f"      {line}".rstrip())


def _package(url: str, secret: str, task: str, form: dict[str, Any]) -> dict[str, Any]:
    """Post what the extension posts, and wait until the mail is sent. Returns the job."""
    form = {"secret": secret, "email": _VISITOR, **form}
    _say(f"POST {url}/{task}, as the CKAN extension does:")
    for name, value in form.items():
        shown = {"secret": "(our secret)", "eml": f"({len(value)} characters of XML)"}.get(name, value)
        print(f"      {name:12} {shown}")
    with requests.post(f"{url}/{task}", form, timeout=_PATIENCE) as response:
        answer = response.json()
    _say(f"The service says: {answer['message']}")
    with Progress(Console(quiet=False, as_json=False), on_terminal=True) as show:
        job = follow(
            StatusPage(Service(url, secret), [answer["status_url"]]), show, sleep=lambda _: time.sleep(0.02)
        )
    if job["state"] != "done":
        raise PackagerError(f"The job is {job['state']}: {job['error']}")
    return job


def _show_mail(mail: EmailMessage) -> None:
    for header in ("From", "To", "Subject"):
        print(f"    | {header}: {mail[header]}")
    print("    |")
    for line in _text(mail).rstrip().splitlines():
        print(f"    | {line}".rstrip())


def _text(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def _download(mail: EmailMessage, folder: Path) -> Path:
    """The package behind the link in the mail."""
    link = re.search(r"https?://\S+/download/(\S+)", _text(mail))
    if link is None:
        raise PackagerError("There is no link in the e-mail.")
    target = folder / link[1]
    with requests.get(link[0], stream=True, timeout=_PATIENCE) as answer, open(target, "wb") as file:
        answer.raise_for_status()
        shutil.copyfileobj(answer.raw, file)
    _say(f"Downloaded {link[0]}")
    return target


def _show_package(path: Path, total: int, job: dict[str, Any], is_archive: bool) -> int:
    _say("In it:")
    try:
        count = contents.show_archive(path) if is_archive else contents.show_rows(path)
    except contents.BrokenPackageError as error:
        print(f"The package is not whole: {error}")
        return 1
    if count != total or job["rows_done"] != total:
        print(f"The package is not whole: {count} of {total} rows.")
        return 1
    _say(f"All {count:,} rows are there. The package lies at {path}")
    return 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)
