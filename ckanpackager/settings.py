"""The settings: a Python file, read once and checked whole.

A Settings object that exists is fit to be worked with. Whatever in the file is
missing, unknown, of the wrong type or of no use has been said before, all of it
at once, in one SettingsError with a sentence for each problem.
"""

import dataclasses
import errno
import functools
import os
import shlex
import shutil
import socket
import tempfile
import textwrap
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ckanpackager import checks
from ckanpackager.checks import CENTURY, DAY, PUBLISHED_SECRET, Check, Unfit
from ckanpackager.errors import SettingsError

VARIABLE = "CKANPACKAGER_CONFIG"

PLACEHOLDERS = (
    "resource_id",
    "zip_file_name",
    "ckan_host",
    "doi",
    "doi_body",
    "doi_body_html",
    "download_url",
    "status_url",
    "rows",
    "size",
    "sha256",
    "expires",
    "report",
)
FAILURE_PLACEHOLDERS = (*PLACEHOLDERS, "error")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DOI_PLACEHOLDERS = tuple(name for name in PLACEHOLDERS if not name.startswith("doi_"))

_EMAIL_BODY = """Hello,

The resource that you asked for on {ckan_host} is ready:

{download_url}

The link can be used until {expires}.

Size: {size}
Rows: {rows}
SHA-256: {sha256}

{report}

{doi_body}

The page of your request, with all that is known about it:

{status_url}

Best wishes,
The Data Portal Bot
"""

_FAILURE_BODY = """Hello,

The resource that you asked for on {ckan_host} could not be packaged, and we are sorry for that. The reason:

{error}

Resource: {resource_id}

The page of your request, with all that is known about it:

{status_url}

Best wishes,
The Data Portal Bot
"""

_SUCCESS_MESSAGE = (
    "Your request has been accepted, and the resource will be e-mailed to you shortly. "
    "Please be patient: it may take longer when our servers are busy."
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A row of the table of settings; ``group`` is the heading that it begins, or empty."""

    name: str
    default: Any
    check: Check
    help: str
    group: str


def _setting(default: Any, check: Check, help: str, *, group: str = "") -> Any:
    row = {"default": default, "check": check, "help": textwrap.dedent(help).strip(), "group": group}
    return dataclasses.field(kw_only=True, metadata=row)


@dataclasses.dataclass(frozen=True, repr=False)
class Settings:
    """What the settings file says, and the defaults for what it does not say.

    To be had from :meth:`load`, :meth:`from_environment` or :meth:`from_mapping`. ``source`` is where it was
    read, ``given`` the names that were set there. Frozen and picklable; its ``repr`` shows no secret.
    """

    source: str
    given: frozenset[str]

    DEBUG: bool = _setting(False, checks.yes_or_no, "Debug mode: the log says more.", group="The service")
    HOST: str = _setting(
        "127.0.0.1",
        checks.host,
        "The address to listen on. 127.0.0.1 serves this machine only; 0.0.0.0 (or :: with IPv6), or the "
        "address of an interface, serves others too.",
    )
    PORT: int = _setting(8765, checks.whole(0, 65535), "The port to listen on; 0 takes any free one.")
    PUBLIC_URL: str = _setting(
        "",
        checks.public_url,
        "The address at which visitors reach this service, such as https://packages.example.org: the links "
        "in e-mails begin with it. Empty means http://HOST:PORT, which is right only for visitors who can "
        "reach that.",
    )
    SECRET: str = _setting(
        None,
        checks.secret,
        "The secret that CKAN and this service share, at least 8 characters: only who knows it can queue a "
        "request. YOU MUST CHANGE THIS VALUE: the service does not start with the published example. It is "
        "only as safe as the way it travels, so let it travel over HTTPS or not leave the machine.",
    )
    CKAN_HOSTS: tuple[str, ...] = _setting(
        [],
        checks.list_of(checks.host_and_port),
        "The CKANs that may be asked, and that an API key may be sent to: a list of hosts, such as "
        "'data.example.org' (on any port) or 'data.example.org:8080'. Empty means that any api_url is "
        "accepted, and that no key is ever sent when a file is fetched by its URL.",
    )
    SUCCESS_MESSAGE: str = _setting(
        _SUCCESS_MESSAGE,
        checks.full_text,
        "What the visitor reads in CKAN when a request has been accepted.",
    )

    STATS_DB: str = _setting(
        "sqlite:////var/lib/ckanpackager/stats.db",
        checks.database,
        "The database of requests, errors and waiting jobs: sqlite:/// and the path of a file (four slashes "
        "begin a full path), or postgresql://user:password@host/database. It cannot be in memory, and it "
        "belongs to one service.",
        group="Files",
    )
    STORE_DIRECTORY: str = _setting(
        "/tmp/ckanpackager",  # noqa: S108 - the retired service's default, which old installations rely on
        checks.folder,
        "The folder where finished packages are stored. They outlive a restart of the machine in one that is "
        "not under /tmp, such as /var/lib/ckanpackager/store.",
    )
    TEMP_DIRECTORY: str = _setting(
        "/tmp",  # noqa: S108 - as above; what is made in it has an unguessable name and is private
        checks.folder,
        "The folder for what is needed only while a package is made.",
    )
    CACHE_TIME: int = _setting(
        DAY,
        checks.cache_time,
        "The seconds for which a request with the same parameters is answered with the same package; at "
        "least 1. 86400 is a day.",
    )
    KEEP_TIME: int = _setting(
        7 * DAY,
        checks.whole(1, CENTURY),
        "The seconds for which a package can be downloaded after it was announced, for the last time if to "
        "several visitors; then it is removed. Not less than CACHE_TIME. 604800 is a week.",
    )
    MIN_FREE_SPACE: int = _setting(
        200_000_000,
        checks.whole(0, 2**63 - 1),
        "The bytes that are to be free on the disks of STORE_DIRECTORY, TEMP_DIRECTORY and STATS_DB. Where "
        "there are fewer, packages that nobody needs any more are removed, the one announced longest ago "
        "first; where that does not help, nothing is begun and nothing accepted until there is more room.",
    )
    MAX_STORE_SIZE: int = _setting(
        0,
        checks.whole(0, 2**63 - 1),
        "The bytes that all packages may have together, finished and half-made; beyond that finished ones "
        "are removed as for MIN_FREE_SPACE. It should be many times the size of the largest. 0 sets no "
        "limit.",
    )
    ZIP_COMMAND: str | None = _setting(
        None,
        checks.none_or(checks.zip_command),
        "A command that packs, run once for each file, such as '/usr/bin/zip -j {output} {input}'. {input} "
        "is replaced by the path of the file, and {output} by that of the ZIP; they need no quotes. None "
        "means that the service packs by itself, which is quicker.",
    )

    PAGE_SIZE: int = _setting(
        5000,
        checks.whole(1, 32000),
        "The number of rows to ask CKAN for at first. Pages then grow or shrink, so that one takes CKAN some "
        "two seconds (it gives up after 60) and is a few megabytes large.",
    )
    PAGES_AT_ONCE: int = _setting(
        2, checks.whole(1, 16), "The number of pages of one resource that may be under way at once."
    )
    CKAN_REQUESTS: int = _setting(
        4,
        checks.whole(1, 64),
        "The number of requests to one CKAN, or one host of files, that may be under way at once, over all "
        "jobs.",
    )
    SLOW_REQUEST: int = _setting(
        50000,
        checks.whole(1, 2**63 - 1),
        "A request for more rows than this is slow, and goes to the slow workers.",
    )
    FAST_WORKERS: int = _setting(2, checks.whole(1, 64), "How many fast requests are worked on at once.")
    SLOW_WORKERS: int = _setting(1, checks.whole(1, 64), "How many slow requests are worked on at once.")
    JOBS_PER_ADDRESS: int = _setting(
        2,
        checks.whole(0, 128),
        "How many requests for one e-mail address are worked on at once; its others wait, and let those of "
        "other visitors pass. 0 sets no bound.",
    )
    JOBS_PER_HOST: int = _setting(
        0,
        checks.whole(0, 128),
        "The same for the requests that read from one CKAN, or one host of files, so that a slow one does "
        "not keep all workers. 0 sets no bound.",
    )
    QUEUE_LENGTH: int = _setting(
        10_000,
        checks.whole(0, 2**31 - 1),
        "How many requests may be accepted and not finished; beyond that, further ones are refused for the "
        "time being. 0 sets no bound.",
    )
    MAX_ATTEMPTS: int = _setting(
        3,
        checks.whole(1, 100),
        "A request has failed when the process that makes its package died so often.",
    )
    FAST_TIMEOUT: int = _setting(
        2 * 60 * 60,
        checks.whole(1, CENTURY),
        "The seconds that a fast worker may take for a request; then it is stopped, which counts as one of "
        "the MAX_ATTEMPTS.",
    )
    SLOW_TIMEOUT: int = _setting(DAY, checks.whole(1, CENTURY), "The same for a slow worker.")
    FAST_STALL_TIMEOUT: int = _setting(
        600,
        checks.whole(1, CENTURY),
        "The seconds that a fast worker may go without a further row or byte. Asking again a source that did "
        "not answer is no standstill, and neither is packing what has come. It should be some minutes more "
        "than READ_TIMEOUT. What is slower than a megabyte in this time is given up too.",
    )
    SLOW_STALL_TIMEOUT: int = _setting(1200, checks.whole(1, CENTURY), "The same for a slow worker.")
    WORKER_MEMORY: int = _setting(
        0,
        checks.zero_or(100_000_000),
        "The bytes of memory that a worker may use, at least 100000000; a request that needs more fails. 0 "
        "sets no limit. A worker needs about 60 MB, however large the resource, and more for large pages.",
    )
    SOURCE_RETRY_TIME: int = _setting(
        6 * 60 * 60,
        checks.whole(0, CENTURY),
        "The seconds for which a request is tried again while CKAN, or a file's host, cannot be reached; "
        "21600 is six hours.",
    )
    STOP_GRACE: float = _setting(
        30,
        checks.seconds(0),
        "The seconds given to running jobs to finish when the service is told to stop; what has not finished "
        "by then is begun again at the next start. TimeoutStopSec in the systemd unit must be more.",
    )
    CONNECT_TIMEOUT: float = _setting(
        30, checks.seconds(0.01), "The seconds to wait for a connection to CKAN, or to the host of a file."
    )
    READ_TIMEOUT: float = _setting(
        60,
        checks.seconds(0.01),
        "The seconds to wait for CKAN, or the host of a file, to go on with its answer.",
    )

    EMAIL_SUBJECT: str = _setting(
        "Resource from {ckan_host}",
        checks.template_line(*PLACEHOLDERS),
        """
        The subject of the e-mail. Placeholders, here and in the bodies:
        {resource_id}: the resource's id;
        {zip_file_name}: the name of the package;
        {ckan_host}: the host name of the CKAN that was asked;
        {download_url}: the link to the package;
        {status_url}: the page of the request;
        {rows}, {size}, {sha256}: the number of rows, the size and the checksum of the package;
        {expires}: until when it can be downloaded;
        {report}: what is worth knowing about how it was made;
        {doi}: the DOI that came with the request;
        {doi_body}, {doi_body_html}: DOI_BODY and DOI_BODY_HTML, if there is a DOI.
        """,
        group="E-mail",
    )
    EMAIL_FROM: str = _setting(
        "(nobody)",
        checks.template_line(*PLACEHOLDERS),
        "The sender, which should be an e-mail address.",
    )
    EMAIL_BODY: str = _setting(_EMAIL_BODY, checks.template(*PLACEHOLDERS), "The text of the e-mail.")
    EMAIL_BODY_HTML: str | None = _setting(
        None,
        checks.none_or(checks.template(*PLACEHOLDERS)),
        "The e-mail as HTML. None means that it is made from the text, and an empty text that there is none.",
    )
    DOI_BODY: str = _setting(
        "",
        checks.template(*_DOI_PLACEHOLDERS),
        "A paragraph for {doi_body}, used when the request came with a DOI, which is {doi} in it.",
    )
    DOI_BODY_HTML: str = _setting(
        "", checks.template(*_DOI_PLACEHOLDERS), "The same as HTML, for {doi_body_html}."
    )
    FAILURE_SUBJECT: str = _setting(
        "The resource from {ckan_host} could not be packaged",
        checks.template_line(*FAILURE_PLACEHOLDERS),
        "The subject of the e-mail about a request that failed. {error} is the reason, in the bodies too.",
    )
    FAILURE_BODY: str = _setting(
        _FAILURE_BODY,
        checks.template(*FAILURE_PLACEHOLDERS),
        "The text of the e-mail about a request that failed.",
    )
    FAILURE_BODY_HTML: str | None = _setting(
        None,
        checks.none_or(checks.template(*FAILURE_PLACEHOLDERS)),
        "The same as HTML. None means that it is made from the text, and an empty text that there is none.",
    )
    ANONYMIZE_EMAILS: bool = _setting(
        False,
        checks.yes_or_no,
        "Whether the statistics hold a keyed hash in the place of each e-mail address.",
    )

    SMTP_HOST: str = _setting("localhost", checks.host, "The mail server.", group="The mail server")
    SMTP_PORT: int = _setting(
        25, checks.whole(1, 65535), "Its port; 587 is usual for 'starttls', 465 for 'tls'."
    )
    SMTP_SECURITY: str = _setting(
        "none",
        checks.one_of("none", "starttls", "tls"),
        "'starttls' or 'tls' encrypt the connection, and check the server's certificate; 'none' does not.",
    )
    SMTP_LOGIN: str = _setting(
        "", checks.text_or_none, "The user to log in as; empty to send without log-in."
    )
    SMTP_PASSWORD: str = _setting("", checks.text_or_none, "The password to log in with.")
    SMTP_TIMEOUT: float = _setting(
        30, checks.seconds(0.01), "The seconds to wait for each answer of the mail server."
    )
    MAIL_RETRY_TIME: int = _setting(
        3 * DAY,
        checks.whole(0, CENTURY),
        "The seconds for which an e-mail is tried again while the mail server does not take it; 259200 is "
        "three days.",
    )

    DWC_ID_FIELD: str = _setting(
        "_id",
        checks.full_text,
        "The field whose values identify the rows within an archive.",
        group="Darwin Core Archives",
    )
    DWC_CORE_EXTENSION: str = _setting(
        "occurrence",
        checks.full_text,
        "The core: the name of a definition that comes with the service, such as 'occurrence', 'taxon' or "
        "'event', or the path of an XML file in the format of GBIF's. Fields whose name, as it is or in "
        "camel case, is one of its terms go there.",
    )
    DWC_ADDITIONAL_EXTENSIONS: tuple[str, ...] = _setting(
        [],
        checks.list_of(checks.full_text),
        "More definitions, such as 'measurement_or_fact', for the fields that have no place in the core: the "
        "first that has a term of their name takes them.",
    )
    DWC_DYNAMIC_TERM: str | None = _setting(
        "dynamicProperties",
        checks.none_or(checks.full_text),
        "The term of the core that takes, as a JSON object, the fields that have no place at all. None drops "
        "them.",
    )
    DWC_DYNAMIC_KEYS: str = _setting(
        "camel",
        checks.one_of("camel", "verbatim"),
        "What the fields are called in that JSON object: 'camel' makes a 'Bone density' into 'boneDensity', "
        "and any single word into small letters; 'verbatim' leaves all names as they are.",
    )
    DWC_EXTENSION_FIELDS: dict[str, dict[str, Any]] = _setting(  # noqa: RUF009 - is no default
        {},
        checks.extension_fields,
        """
        Fields that hold a JSON list of objects, each object a row of an extension. For each such field:
        'extension' is the definition;
        'fields' leads from its terms, which are the names to expect in an object, to the values for those
        that are missing, null or blank;
        'mappings', optional, leads from terms that have another name in the objects to that name;
        'formatters', optional, leads from terms to the formatter that their values go through: 'image_type',
        'audio_type' or 'video_type', which turn a 'jpeg' into 'image/jpeg'.
        Where two terms of a definition have one short name, dcterms:type or the whole IRI tells them apart.
        For example: {"associatedMedia": {"extension": "multimedia",
        "fields": {"type": "StillImage", "format": "image/jpeg", "title": ""},
        "mappings": {"format": "mime"}, "formatters": {"format": "image_type"}}}
        """,
    )

    CELERY_BROKER: str = _setting(
        "",
        checks.text_or_none,
        "Accepted, so that older files can be used, and not used: the service has its own queue.",
        group="Of the retired service",
    )
    SENTRY_DSN: str = _setting(
        "",
        checks.text_or_none,
        "Accepted, so that older files can be used, and not used: faults are in the log.",
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Settings of the file that CKANPACKAGER_CONFIG names."""
        path = environment.get(VARIABLE)
        if not path:
            raise SettingsError(
                f"{VARIABLE} is not set: set it to the path of the settings file, "
                "such as /etc/ckanpackager/ckanpackager_settings.py."
            )
        return cls.load(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Settings of a Python file: its upper-case names. Other names, and what it imports, are its own.

        Raises SettingsError, naming the line, when the file cannot be read or run.
        """
        source = os.fspath(path)
        names = _run(source).items()
        return cls.from_mapping({name: value for name, value in names if _is_setting(name, value)}, source)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], source: str = "settings") -> Self:
        """Settings of names and values. Raises SettingsError with a line, a sentence, for each problem."""
        names = {setting.name for setting in SETTINGS}
        problems = [_unknown(name) for name in mapping if name not in names]
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            try:
                values[setting.name] = setting.check(mapping.get(setting.name, setting.default))
            except Unfit as unfit:
                problems.append(f"{setting.name} {unfit}")
        if {"CACHE_TIME", "KEEP_TIME"} <= values.keys() and values["KEEP_TIME"] < values["CACHE_TIME"]:
            if "KEEP_TIME" in mapping:
                problems.append("KEEP_TIME must not be less than CACHE_TIME: what is removed answers nobody")
            # An older file may have a long CACHE_TIME, and cannot know of KEEP_TIME.
            values["KEEP_TIME"] = values["CACHE_TIME"]
        _raise_if_any(problems, source)
        return cls(source, frozenset(mapping), **values)

    @property
    def public_url(self) -> str:
        """What every link in an e-mail begins with, without a slash at its end."""
        if self.PUBLIC_URL:
            return self.PUBLIC_URL
        host = _own_name() if self.HOST in ("0.0.0.0", "::") else self.HOST  # noqa: S104 - only compared
        return f"http://[{host}]:{self.PORT}" if ":" in host else f"http://{host}:{self.PORT}"

    @property
    def stats_file(self) -> Path | None:
        """The file of STATS_DB, where it is SQLite's."""
        path = self.STATS_DB.removeprefix("sqlite:///")
        return None if path == self.STATS_DB else Path(path.partition("?")[0]).absolute()

    def prepare(self) -> None:
        """Make the folders that are missing, and prove that what the settings name can be used.

        Raises SettingsError with a sentence for each folder that cannot be written to, and for a ZIP_COMMAND
        that is not installed.
        """
        problems = [
            *_unusable("STORE_DIRECTORY", Path(self.STORE_DIRECTORY)),
            *_unusable("TEMP_DIRECTORY", Path(self.TEMP_DIRECTORY)),
        ]
        if self.stats_file is not None:
            problems += _unusable_file("STATS_DB", self.stats_file)
        if self.ZIP_COMMAND is not None and shutil.which(program := shlex.split(self.ZIP_COMMAND)[0]) is None:
            problems.append(f"ZIP_COMMAND needs {program}: install it, or set ZIP_COMMAND to None")
        _raise_if_any(problems, self.source)

    def notes(self) -> list[str]:
        """What an admin should read in the log at the start, though it stops nothing; a sentence each."""
        notes = [f"{name} is accepted and not used." for name in _UNUSED if getattr(self, name)]
        if not self.PUBLIC_URL:
            notes.append(f"PUBLIC_URL is not set: links in e-mails begin with {self.public_url}.")
        if "@" not in self.EMAIL_FROM:
            notes.append("EMAIL_FROM is not an e-mail address: mail servers may refuse what is sent.")
        if self.SMTP_LOGIN and self.SMTP_SECURITY == "none" and self.SMTP_HOST not in _HERE:
            notes.append(f"SMTP_PASSWORD goes to {self.SMTP_HOST} unencrypted: set SMTP_SECURITY.")
        if Path(self.STORE_DIRECTORY).is_relative_to("/tmp"):  # noqa: S108 - only compared
            notes.append("STORE_DIRECTORY is under /tmp, which most systems empty: links die with it.")
        for pool in ("FAST", "SLOW"):
            if getattr(self, f"{pool}_STALL_TIMEOUT") <= self.CONNECT_TIMEOUT + self.READ_TIMEOUT:
                notes.append(
                    f"{pool}_STALL_TIMEOUT is not more than CONNECT_TIMEOUT and READ_TIMEOUT together: "
                    "a source that answers late is taken for a standstill."
                )
        if "KEEP_TIME" not in self.given and self.KEEP_TIME == self.CACHE_TIME:
            notes.append(f"KEEP_TIME is {self.KEEP_TIME} seconds, since CACHE_TIME is.")
        return notes

    def __repr__(self) -> str:
        shown = ", ".join(f"{row.name}={_shown(row.name, getattr(self, row.name))}" for row in SETTINGS)
        return f"Settings({self.source!r}, {shown})"


SETTINGS: tuple[Setting, ...] = tuple(
    Setting(name=field.name, **field.metadata)
    for field in dataclasses.fields(Settings)
    if field.name.isupper()
)

_UNUSED = ("CELERY_BROKER", "SENTRY_DSN")
_PRIVATE = ("SECRET", "SMTP_PASSWORD", *_UNUSED)
_HERE = ("localhost", "127.0.0.1", "::1")


def example() -> str:
    """The text of the example settings file: every setting, its help and default; SECRET is to be changed."""
    parts = [
        "# Settings of ckanpackager. A Python file: names in upper case are settings, others are yours.\n"
        "# Every setting is here with its default, so that all lines but the one of SECRET may be removed.\n"
        "# ruff: noqa: E501, S105, S108 - texts are long, and the secret and the folders are as documented\n"
    ]
    for setting in SETTINGS:
        if setting.group:
            parts.append(f"\n# {setting.group}\n# {'-' * len(setting.group)}\n")
        default = PUBLISHED_SECRET if setting.name == "SECRET" else setting.default
        parts.append(f"{_comment(setting.help)}\n{setting.name} = {_python(default)}\n")
    return "\n".join(parts)


def reference() -> str:
    """The table of the settings, name, default and help, in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 23 55", ""]
    for row in (("Name", "Default", "Meaning"), *map(_row, SETTINGS)):
        for mark, cell in zip(("   * - ", "     - ", "     - "), row, strict=True):
            lines.append(mark + cell.replace("\n", "\n       "))
    return "\n".join(lines) + "\n"


def _row(setting: Setting) -> tuple[str, str, str]:
    if setting.name == "SECRET":
        default = "none, it must be set"
    elif isinstance(setting.default, str) and len(setting.default) > 60:
        default = "a text, see ``etc/ckanpackager_settings.py``"
    else:
        default = f"``{_python(setting.default)}``"
    # A line block keeps the lines of a list apart.
    lines = setting.help.splitlines()
    meaning = "\n".join(f"| {line}" for line in lines) if len(lines) > 1 else setting.help
    return f"``{setting.name}``", default, meaning


def _comment(text: str) -> str:
    return "\n".join(
        textwrap.fill(line, 109, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        for line in text.splitlines()
    )


def _python(value: Any) -> str:
    """Python that gives ``value``, as a person would write it."""
    if not isinstance(value, str):
        return repr(value)
    return f'"""{value}"""' if "\n" in value else f'"{value}"'


def _run(path: str) -> dict[str, Any]:
    """The names that the Python file at ``path`` leaves behind."""
    names: dict[str, Any] = {"__file__": path, "__name__": "ckanpackager_settings"}
    try:
        code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
    except OSError as error:
        raise SettingsError(f"{path}: the settings file cannot be read: {error.strerror}.") from error
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise SettingsError(f"{path}{line}: the settings file is not Python: {error.msg}.") from error
    except ValueError as error:  # what Python before 3.11.4 says of a NUL
        raise SettingsError(f"{path}: the settings file is not Python: {error}.") from error
    try:
        exec(code, names)  # noqa: S102 - the settings file is a program of the admin's own
    except (Exception, SystemExit) as error:  # whatever that program raises is what the admin must read
        calls = traceback.extract_tb(error.__traceback__)
        line = next((f", line {call.lineno}" for call in reversed(calls) if call.filename == path), "")
        raise SettingsError(
            f"{path}{line}: the settings file fails: {type(error).__name__}: {error}."
        ) from error
    return names


def _is_setting(name: str, value: object) -> bool:
    return name.isupper() and not name.startswith("_") and not isinstance(value, types.ModuleType)


def _unknown(name: object) -> str:
    near = checks.nearest(str(name), (setting.name for setting in SETTINGS))
    advice = (
        f"the nearest is {near}" if near else "remove it, or write it in lower case if it is the file's own"
    )
    return f"{name} is not a setting: {advice}"


def _raise_if_any(problems: list[str], source: str) -> None:
    if problems:
        raise SettingsError("\n".join(f"{source}: {problem}." for problem in problems))


def _unusable(name: str, folder: Path) -> list[str]:
    """A sentence if nothing can be written to ``folder``, which is made if it can be."""
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ckanpackager")
    except OSError as error:
        if error.errno in _NO_ROOM:
            return []  # that passes, and finished packages can be handed out meanwhile
        advice = f"let {_user()} write to it, or name another"
        if error.errno == errno.EROFS:
            advice = f"name another, or allow it with ReadWritePaths={folder} in the systemd unit"
        return [f"{name} needs the folder {folder}, which cannot be used ({error.strerror}): {advice}"]
    return []


def _unusable_file(name: str, file: Path) -> list[str]:
    """A sentence if ``file`` can be neither written to nor made."""
    if problems := _unusable(name, file.parent):
        return problems
    if not file.exists() or (file.is_file() and os.access(file, os.R_OK | os.W_OK)):
        return []
    return [f"{name} names {file}, which is not a file that {_user()} can read and write"]


def _user() -> str:
    return f"the user with id {os.geteuid()}"


@functools.cache
def _own_name() -> str:
    return socket.getfqdn()


def _shown(name: str, value: Any) -> str:
    """``repr(value)``, but for what is secret, or may hold a password."""
    private = name in _PRIVATE or (name == "STATS_DB" and not value.startswith("sqlite"))
    return "'...'" if private and value else repr(value)
