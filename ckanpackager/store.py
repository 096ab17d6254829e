"""The folder of finished packages.

Whatever has a package's name in it is whole: a package is written as a draft,
and takes its name only when it is finished and on the disk.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ckanpackager import faults
from ckanpackager.errors import SettingsError
from ckanpackager.job import Job

_DRAFTS = ".drafts"
_LOCK = ".lock"


def new_token() -> str:
    """An unguessable name: 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


def zip_file_name(job: Job, token: str) -> str:
    """The name of a package in the store: it cannot be guessed, and still says which resource it is."""
    return f"{job.resource_id[:64]}-{token}.zip"


@dataclasses.dataclass(frozen=True)
class Package:
    """A finished package.

    ``file_name`` is what a visitor should save it as, ``size`` is in bytes, ``sha256`` of the whole file in
    hexadecimal; ``rows`` is None where there are none to count. ``report`` is what a visitor should know
    about how it was made, in plain text.
    """

    zip_file_name: str
    file_name: str
    size: int
    sha256: str
    rows: int | None
    report: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """This package as JSON's own types."""
        return dataclasses.asdict(self)


class Store:
    """``folder`` holds the packages; ``scratch`` is for files that are needed only while one is made.

    One random token names all that an attempt at a package leaves: its draft, its scratch folder and, at
    last, the package itself; so that whoever knows the token can remove every trace.
    """

    def __init__(self, folder: str | Path, scratch: str | Path) -> None:
        self.folder = Path(folder).absolute()
        # Several services may share one temporary directory; each sweeps only its own corner.
        corner = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        self.scratch = Path(scratch).absolute() / f"ckanpackager-{corner}"
        self._drafts = self.folder / _DRAFTS
        # Where workers keep count of the requests that are under way; see sources.slots.
        self.slots = self.folder / ".slots"

    def prepare(self) -> None:
        """Make the folders."""
        self._drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> IO[bytes]:
        """Hold the store for this process, until the file returned is closed.

        Raises SettingsError where another service holds it.
        """
        file = open(self.folder / _LOCK, "ab")  # noqa: SIM115 - it is to stay open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise SettingsError(
                f"STORE_DIRECTORY {self.folder} is in use by another ckanpackager-service: "
                "stop that one first, or give this one a folder of its own."
            ) from error
        return file

    @contextlib.contextmanager
    def draft(self, token: str) -> Iterator["Draft"]:
        """Somewhere to make a package. Nothing of it is left behind, but for what was published."""
        draft = Draft(self.folder, self._drafts / f"{token}.zip", self.scratch / token)
        draft.scratch.mkdir(mode=0o700)
        try:
            yield draft
        finally:
            draft.path.unlink(missing_ok=True)
            shutil.rmtree(draft.scratch)

    def discard(self, token: str, zip_file_name: str) -> None:
        """Remove whatever an attempt that ended badly left, its published package too."""
        shutil.rmtree(self.scratch / token, ignore_errors=True)
        for path in (*self._drafts.glob(f"{token}*"), self.folder / zip_file_name):
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove all drafts and scratch folders: only for a start, when no worker can be alive."""
        for path in self._drafts.iterdir():
            path.unlink()
        for path in self.scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True)

    def path(self, zip_file_name: str) -> Path:
        """Where the package of that name lies, if it does."""
        assert "/" not in zip_file_name and not zip_file_name.startswith(".")
        return self.folder / zip_file_name

    def holds(self, zip_file_name: str, size: int) -> bool:
        """Is the package there, in its full size?"""
        try:
            return self.path(zip_file_name).stat().st_size == size
        except FileNotFoundError:
            return False

    def remove(self, zip_file_names: Iterable[str]) -> tuple[int, int]:
        """Remove packages, if they are still there. Returns how many files and bytes went."""
        removed = freed = 0
        for path in map(self.path, zip_file_names):
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                removed, freed = removed + 1, freed + size
        return removed, freed

    def changed_before(self, cutoff: float) -> Iterator[str]:
        """Names of the ZIPs, but not of links, that were last changed before ``cutoff`` (UNIX seconds)."""
        for path in self.folder.glob("[!.]*.zip"):
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and found.st_mtime < cutoff:
                    yield path.name

    def linked(self) -> set[str]:
        """Names of the packages that a symbolic link in the folder points to, such as a site's newest."""
        return {
            path.resolve().name
            for path in self.folder.iterdir()
            if path.is_symlink() and path.resolve().parent == self.folder.resolve()
        }


@dataclasses.dataclass(frozen=True)
class Draft:
    """A package in the making: the ZIP goes to ``path``, and what else must be written to ``scratch``."""

    folder: Path
    path: Path
    scratch: Path

    def publish(
        self, zip_file_name: str, file_name: str, rows: int | None, report: str | None = None
    ) -> Package:
        """Give the finished ZIP its name, once its bytes are safely on the disk."""
        faults.reached("draft.written")
        with open(self.path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
            size = file.seek(0, os.SEEK_END)
        faults.reached("draft.synced")
        named = self.folder / zip_file_name
        os.rename(self.path, named)
        try:
            faults.reached("package.named")
            _sync_folder(self.folder)
            faults.reached("folder.synced")
        except BaseException:
            named.unlink()  # nobody will hear of it
            raise
        return Package(zip_file_name, file_name, size, sha256, rows, report)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
