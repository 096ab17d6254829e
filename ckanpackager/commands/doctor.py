"""Checking an installation, from its settings outwards.

Nothing is changed and nothing is sent that anybody would get. What is wrong
is said in a sentence that names what to do.
"""

import dataclasses
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import peewee
import requests
from playhouse import db_url

from ckanpackager import __version__
from ckanpackager.commands import output, parameters
from ckanpackager.commands.client import Service, cause
from ckanpackager.commands.console import Console
from ckanpackager.commands.parameters import Arguments
from ckanpackager.database import said
from ckanpackager.dwc.configuration import Configuration
from ckanpackager.errors import MailError, NotAuthorizedError, NotFoundError, PackagerError, SettingsError
from ckanpackager.notify import mail
from ckanpackager.settings import Settings

OK, WARN, FAIL = "ok", "warn", "FAIL"

_TIMEOUTS = (5.0, 15.0)
_LITTLE_SPACE = 1_000_000_000
_NO_SPACE = 100_000_000
_NO_JOB = "0" * 32


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check came to: ``verdict`` is "ok", "warn" or "FAIL"."""

    check: str
    verdict: str
    message: str


@dataclasses.dataclass(frozen=True)
class Patient:
    """The installation: its settings, and how the command line was called."""

    settings: Settings
    arguments: Arguments


Check = Callable[[Patient], Iterator[tuple[str, str]]]


def diagnose(arguments: Arguments, console: Console) -> int:
    """``doctor``: make all checks, each shown as soon as it is made. 1 if one of them fails."""
    findings = []
    for finding in _examine(arguments):
        findings.append(finding)
        console.say(f"{finding.verdict:4}  {finding.check:14}  {output.one_line(finding.message)}")
    failed = any(finding.verdict == FAIL for finding in findings)
    answer = {
        "success": not failed,
        "status": "failed" if failed else "success",
        "checks": [dataclasses.asdict(finding) for finding in findings],
    }
    console.answer(answer, _summary)
    return 1 if failed else 0


def _examine(arguments: Arguments) -> Iterator[Finding]:
    try:
        patient = Patient(Settings.from_environment(), arguments)
    except SettingsError as error:
        for sentence in str(error).splitlines():
            yield Finding("settings", FAIL, sentence)
        return
    for name, check in CHECKS.items():
        for verdict, message in check(patient):
            yield Finding(name, verdict, message)


def _summary(answer: dict[str, Any]) -> str:
    verdicts = [finding["verdict"] for finding in answer["checks"]]
    if {finding["check"] for finding in answer["checks"]} == {"settings"}:
        return "All other checks need the settings: mend them first."
    failures, warnings = verdicts.count(FAIL), verdicts.count(WARN)
    if failures:
        return f"{output.count(failures, 'failure')}, {output.count(warnings, 'warning')}."
    return f"No failures, {output.count(warnings, 'warning')}." if warnings else "All is well."


def _settings(patient: Patient) -> Iterator[tuple[str, str]]:
    yield OK, f"{patient.settings.source} can be used"
    yield from _privacy(Path(patient.settings.source), "SECRET")
    for note in patient.settings.notes():
        yield WARN, note
    if not patient.settings.CKAN_HOSTS:
        yield WARN, "CKAN_HOSTS is empty: any address may be asked for data. List the hosts of your CKAN."


def _darwin_core(patient: Patient) -> Iterator[tuple[str, str]]:
    try:
        configuration = Configuration.from_settings(patient.settings)
    except SettingsError as error:
        for sentence in str(error).splitlines():
            yield FAIL, sentence
        return
    definitions = [configuration.core, *configuration.additional]
    definitions += [field.definition for field in configuration.extension_fields]
    core, *extensions = dict.fromkeys(definition.name for definition in definitions)
    yield OK, f"{core} is the core of archives, with {', '.join(extensions) or 'no extensions'}"


def _command_line(patient: Patient) -> Iterator[tuple[str, str]]:
    try:
        values = parameters.defaults(patient.arguments)
    except SettingsError as error:
        yield WARN, str(error)
        return
    if not values:
        return
    path = Path(patient.arguments["-d"] or parameters.DEFAULTS_FILE)
    if values.get("secret") == patient.settings.SECRET:
        yield OK, f"{path} has the secret of the settings"
    else:
        yield WARN, f"{path} has another secret than the settings: the commands will be refused."
    yield from _privacy(path, "the secret")


def _privacy(path: Path, what: str) -> Iterator[tuple[str, str]]:
    if path.stat().st_mode & stat.S_IROTH:
        yield WARN, f"{path} can be read by every user of this host, and holds {what}: chmod o= {path}"


def _folders(patient: Patient) -> Iterator[tuple[str, str]]:
    settings = patient.settings
    folders = {
        "STORE_DIRECTORY": Path(settings.STORE_DIRECTORY),
        "TEMP_DIRECTORY": Path(settings.TEMP_DIRECTORY),
    }
    if settings.stats_file is not None:
        folders["STATS_DB"] = settings.stats_file.parent
    for name, folder in folders.items():
        yield _folder(name, folder)
    if os.geteuid() == 0:
        yield WARN, "This is run by root, who may write anywhere: run it as the service's user to be sure."


def _folder(name: str, folder: Path) -> tuple[str, str]:
    if not folder.exists():
        return (
            WARN,
            f"{name}: there is no folder {folder} yet; the service makes it when it starts, if it may.",
        )
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ckanpackager")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return (
            FAIL,
            f"{name}: nothing can be written to {folder} ({error.strerror}): make it the service's own.",
        )
    left = f"{name}: {folder} has {output.size(free)} free"
    if free < _LITTLE_SPACE:
        return FAIL if free < _NO_SPACE else WARN, f"{left}: make room, or name a folder on another disk."
    return OK, left


def _database(patient: Patient) -> Iterator[tuple[str, str]]:
    path = patient.settings.stats_file
    try:
        if path is None:
            yield _server(patient.settings.STATS_DB)
        elif path.exists():
            yield _sqlite(path)
        else:
            yield WARN, f"There is no database {path} yet; the service makes it when it starts."
    except peewee.ImproperlyConfigured:
        yield FAIL, "STATS_DB: PostgreSQL needs its driver: pip install 'ckanpackager[postgresql]'."
    except (sqlite3.Error, peewee.PeeweeException, RuntimeError) as error:
        yield FAIL, f"STATS_DB: the database cannot be opened: {said(error)}"


def _sqlite(path: Path) -> tuple[str, str]:
    # Where nobody has it open, even a reader would leave files of its own beside it, which might then not
    # be the service's to write. Said to be immutable, it is read without them.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True, timeout=5)) as database:
        found = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        return (
            FAIL,
            f"{path} is damaged ({found}): stop the service and put back a copy, or try sqlite3's .recover.",
        )
    return OK, f"{path} is sound, {output.size(path.stat().st_size)}"


def _server(url: str) -> tuple[str, str]:
    database = db_url.connect(url, connect_timeout=int(_TIMEOUTS[0]))
    with closing(database):
        database.connect()
    return OK, "The database answers."


def _mail_server(patient: Patient) -> Iterator[tuple[str, str]]:
    settings = patient.settings
    try:
        mail.probe(settings)
    except MailError as error:
        yield FAIL, f"{error} See SMTP_HOST, SMTP_PORT and SMTP_SECURITY."
        return
    ways = {"none": "", "starttls": " with STARTTLS", "tls": " with TLS"}
    known = f", as {settings.SMTP_LOGIN}" if settings.SMTP_LOGIN else ""
    yield OK, f"{settings.SMTP_HOST}:{settings.SMTP_PORT} answers{ways[settings.SMTP_SECURITY]}{known}"


def _service(patient: Patient) -> Iterator[tuple[str, str]]:
    settings, arguments = patient.settings, patient.arguments
    if settings.PORT == 0 and not arguments["-p"]:
        yield WARN, "PORT is 0, so that only the service's log says where it is: name its address with -p."
        return
    service = Service(arguments["-p"] or _address(settings), arguments["-s"] or settings.SECRET, _TIMEOUTS)
    try:
        version = service.post("status").get("version")
    except NotAuthorizedError:
        yield (
            FAIL,
            f"{service.url} does not know the SECRET of these settings: restart it, so that it reads them.",
        )
    except PackagerError as error:
        yield FAIL, str(error)
    else:
        if version == __version__:
            yield OK, f"{service.url} answers, and knows the SECRET"
        else:
            yield WARN, f"{service.url} runs version {version}, and {__version__} is installed: restart it."


def _address(settings: Settings) -> str:
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens; it is asked on this host
    host = everywhere.get(settings.HOST, settings.HOST)
    return f"http://[{host}]:{settings.PORT}" if ":" in host else f"http://{host}:{settings.PORT}"


def _public_address(patient: Patient) -> Iterator[tuple[str, str]]:
    """Does the address in e-mails lead to the page of a job? One that nobody has is asked for."""
    url = patient.settings.PUBLIC_URL
    if not url:
        return
    try:
        Service(url, None, _TIMEOUTS).get(f"{url}/jobs/{_NO_JOB}")
    except NotFoundError:
        yield OK, f"{url} leads to the service"
    except PackagerError as error:
        yield FAIL, f"PUBLIC_URL: {error}"
    else:
        yield FAIL, f"PUBLIC_URL: {url} leads to something else than the service."


def _ckan(patient: Patient) -> Iterator[tuple[str, str]]:
    for host in patient.settings.CKAN_HOSTS:
        yield _site(host)


def _site(host: str) -> tuple[str, str]:
    reasons = []
    for url in (f"https://{host}", f"http://{host}"):
        try:
            site = _status_show(url)
        except requests.JSONDecodeError:
            reasons.append(f"{url} answers, but not as CKAN does")
        except requests.RequestException as error:
            reasons.append(f"{url} does not answer ({cause(error)})")
        else:
            if "datastore" not in site.get("extensions", ["datastore"]):
                return WARN, f"{url} is CKAN without its datastore: only files can be packaged."
            return OK, f"{url} is CKAN {site.get('ckan_version', '(which version, it does not say)')}"
    return FAIL, f"CKAN_HOSTS: {', and '.join(reasons)}."


def _status_show(url: str) -> dict[str, Any]:
    with requests.get(f"{url}/api/3/action/status_show", timeout=_TIMEOUTS) as response:
        answer = response.json()
    site = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(site, dict) or "site_url" not in site:
        raise requests.JSONDecodeError("not what CKAN says", response.text, 0)
    return site


CHECKS: dict[str, Check] = {
    "settings": _settings,
    "Darwin Core": _darwin_core,
    "command line": _command_line,
    "folders": _folders,
    "database": _database,
    "mail server": _mail_server,
    "service": _service,
    "public address": _public_address,
    "CKAN": _ckan,
}
