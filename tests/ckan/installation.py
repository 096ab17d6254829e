"""A CKAN in a folder of its own, with its client: what is downloaded and made once.

    .ckan/2.12.0/
        venv/           CKAN, gunicorn and ckanext-ckanpackager, mended where this CKAN needs it
        databases.tar   PostgreSQL's folder, with the tables of a new CKAN and its administrator
        token           the administrator's API token
        recipe          what all this was made from: whatever differs from it is made again

Whoever finds a recipe there that is ours finds everything whole.
"""

import contextlib
import ctypes.util
import fcntl
import glob
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
VERSION = "2.12.0"
EXTENSION = "ckanext-ckanpackager==2.2.9"
LAYOUT = 1  # to be raised when something else is made from the same parts

# ckanext-ckanpackager 2.2.9 was written for SQLAlchemy 1 and a toolkit that had request.params.
MENDINGS = [
    (
        "model/stat.py",
        "meta.mapper(CKANPackagerStat, ckanpackager_stats_table)",
        "meta.registry.map_imperatively(CKANPackagerStat, ckanpackager_stats_table)",
    ),
    (
        "cli.py",
        "if not ckanpackager_stats_table.exists(model.meta.engine):",
        "from sqlalchemy import inspect\n"
        "    if not inspect(model.meta.engine).has_table(ckanpackager_stats_table.name):",
    ),
    ("lib/utils.py", "toolkit.request.params", "toolkit.request.args"),
    ("routes/packager.py", "toolkit.request.params", "toolkit.request.args"),
]


class UnavailableError(Exception):
    """This machine lacks what a CKAN needs; the text says what to install."""


class InstallationError(Exception):
    """A step failed; the text has its last words."""


def requested_version() -> str:
    return os.environ.get("CKAN_VERSION") or VERSION


def version_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def postgresql_programs() -> Path:
    """The folder with initdb and postgres, of the newest PostgreSQL."""
    found = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    if not found:
        raise UnavailableError("PostgreSQL is not installed (Debian: postgresql)")
    return Path(max(found, key=lambda path: float(Path(path).parts[4]))).parent


def postgresql_user() -> str:
    """Who runs PostgreSQL: we, unless we are root, as whom it does not run."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise UnavailableError("PostgreSQL does not run as root, and there is no user postgres") from None


def redis_program() -> str:
    program = shutil.which("redis-server")
    if program is None:
        raise UnavailableError("Redis is not installed (Debian: redis-server)")
    return program


def interpreter(version: str) -> str:
    """The Python that this CKAN runs on: ours, or for one before 2.10 the 3.8 that CKAN_PYTHON names."""
    if version_numbers(version) >= (2, 10):
        return sys.executable
    named = os.environ.get("CKAN_PYTHON") or "python3.8"
    program = shutil.which(named)
    asked = "import sys; print(sys.version_info[:2] == (3, 8))"
    if (
        program is None
        or "True"
        not in subprocess.run([program, "-c", asked], capture_output=True, text=True, check=False).stdout
    ):
        raise UnavailableError(
            f"CKAN {version} needs Python 3.8, and {named} is none: name one in CKAN_PYTHON"
        )
    return program


def check_machine(version: str | None = None) -> None:
    """Raise UnavailableError where no CKAN, or not this one, can run."""
    interpreter(version or requested_version())
    postgresql_programs()
    postgresql_user()
    redis_program()
    if ctypes.util.find_library("magic") is None:
        raise UnavailableError("libmagic is not installed (Debian: libmagic1)")
    if shutil.which("setpriv") is None:
        raise UnavailableError("setpriv is not installed (Debian: util-linux)")


class Installation:
    """The folder of one version."""

    def __init__(self, version: str, folder: Path | None = None) -> None:
        self.version = version
        self.folder = folder or REPOSITORY / ".ckan" / version
        self.databases = self.folder / "databases.tar"
        self._environment = self.folder / "venv"
        self._recipe = self.folder / "recipe"
        self._python = interpreter(version)

    @property
    def token(self) -> str:
        return (self.folder / "token").read_text().strip()

    @property
    def is_old(self) -> bool:
        """Is it a CKAN from before 2.10?"""
        return version_numbers(self.version) < (2, 10)

    def program(self, name: str) -> Path:
        return self._environment / "bin" / name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone in the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def is_complete(self) -> bool:
        return self._recipe.exists() and self._recipe.read_text() == self.recipe()

    def complete(self) -> None:
        self._recipe.write_text(self.recipe())

    def recipe(self) -> str:
        parts = {
            "ckan": self.version,
            "extension": EXTENSION,
            "mendings": MENDINGS,
            "python": self._python,
            "postgresql": str(postgresql_programs()),
            "layout": LAYOUT,
        }
        return json.dumps(parts, indent=1)

    def install(self) -> None:
        """Make the virtual environment."""
        self._recipe.unlink(missing_ok=True)
        if self._environment.exists():
            shutil.rmtree(self._environment)
        run([self._python, "-m", "venv", self._environment], self.folder / "pip.log")
        # CKAN 2.9 is built with what comes with Python 3.8, but for wheel.
        self._pip(*([] if self.is_old else ["setuptools<81"]), "wheel")
        self._pip(f"ckan=={self.version}", "gunicorn")
        self._pip(*self._requirements(), EXTENSION)
        if version_numbers(self.version) >= (2, 12):
            self._mend()

    def _pip(self, *requirements: str) -> None:
        command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        run([self.program("python"), *command], self.folder / "pip.log")

    def _requirements(self) -> list[str]:
        """What ``ckan[requirements]`` names, with a psycopg2 that needs no compiler."""
        [metadata] = self._environment.glob(f"lib/*/site-packages/ckan-{self.version}.dist-info/METADATA")
        lines = metadata.read_text().split("\n\n")[0].splitlines()
        wanted = [line for line in lines if re.match("Requires-Dist:.*(['\"])requirements\\1", line)]
        found = [line.removeprefix("Requires-Dist:").split(";")[0].strip() for line in wanted]
        # The other was written for a setuptools that is no more.
        spared = {"psycopg2==": "psycopg2-binary==", "zope.interface==4.3.2": "zope.interface<6"}
        for old, new in spared.items():
            found = [requirement.replace(" ", "").replace(old, new) for requirement in found]
        return found

    def _mend(self) -> None:
        [package] = self._environment.glob("lib/*/site-packages/ckanext/ckanpackager")
        for name, old, new in MENDINGS:
            path = package / name
            text = path.read_text()
            if old not in text:
                raise InstallationError(f"{path} has no {old!r} to be mended.")
            path.write_text(text.replace(old, new))


def run(command: list[Path | str], log: Path, *, text: str | None = None, folder: Path | None = None) -> str:
    """What a program writes to its standard output; InstallationError if it fails."""
    with log.open("a+") as errors:
        begin = errors.tell()
        done = subprocess.run(
            command, input=text, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, check=False
        )
        if done.returncode == 0:
            return done.stdout
        errors.seek(begin)
        words = (errors.read() + done.stdout)[-2000:]
    raise InstallationError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{words}")
