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
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ckanpackager import faults
from ckanpackager.errors import SettingsError
from ckanpackager.job import Job

_DRAFTS = ".drafts"
_PART = "draft.zip"
_CHECKPOINT = "checkpoint"
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
    last, the package itself; so that whoever knows the token can remove every trace. A draft bears the job's
    id too: a later attempt at the same job may take it over, and whoever knows the id can remove it.

    A draft is a folder with a lock, which its worker holds while it lives (the kernel lets go of it, however
    the worker ends). Nobody else writes to a draft, takes it over or removes it for its room until then.
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
        file = _locked(self.folder)
        if file is None:
            raise SettingsError(
                f"STORE_DIRECTORY {self.folder} is in use by another ckanpackager-service: "
                "stop that one first, or give this one a folder of its own."
            )
        return file

    @contextlib.contextmanager
    def draft(self, job_id: str, token: str) -> Iterator["Draft"]:
        """Somewhere to make a package of the job; what an earlier attempt left to go on with is in it.

        Nothing of it is left behind but what was published, or what the next attempt can go on with.
        """
        folder = self._drafts / f"{job_id}-{token}"
        with self._taken_over(job_id, folder) or _made(folder):
            draft = Draft(self.folder, folder / _PART, self.scratch / token, folder / _CHECKPOINT)
            try:
                draft.scratch.mkdir(mode=0o700)
                yield draft
            finally:
                if not _can_go_on(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(draft.scratch, ignore_errors=True)

    def _taken_over(self, job_id: str, folder: Path) -> IO[bytes] | None:
        """The lock of an earlier draft of the job, which now is ``folder``; None where there is none."""
        for path in self._drafts.glob(f"{job_id}-*"):
            if _can_go_on(path) and (lock := _locked(path)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    path.rename(folder)
                    return lock
                lock.close()
        return None

    def discard(self, token: str, zip_file_name: str) -> None:
        """Remove whatever an attempt that ended badly left, its published package too, but for a draft that
        can be gone on with."""
        shutil.rmtree(self.scratch / token, ignore_errors=True)
        for path in self._drafts.glob(f"*-{token}"):
            if not _can_go_on(path):
                shutil.rmtree(path, ignore_errors=True)
        (self.folder / zip_file_name).unlink(missing_ok=True)

    def forget(self, job_id: str) -> None:
        """Remove what is left of the job's drafts: there will be no further attempt."""
        for path in self._drafts.glob(f"{job_id}-*"):
            shutil.rmtree(path, ignore_errors=True)

    def forget_all_but(self, job_ids: Container[str]) -> None:
        """Remove the drafts that no job with such an id can go on with: only for a start.

        A worker of the last service that has not died yet finds its draft gone, and so cannot publish it.
        """
        for path in self._drafts.iterdir():
            if not path.is_dir():
                path.unlink()
                continue
            lock = _locked(path) if path.name.partition("-")[0] in job_ids else None
            if lock is None or not _can_go_on(path):
                shutil.rmtree(path, ignore_errors=True)
            if lock is not None:
                lock.close()

    def drafted(self) -> int:
        """How many bytes all drafts have together."""
        return sum(size for _, size, _ in self._parts())

    def forgo_drafts(self, size: int) -> int:
        """Remove drafts that wait to be gone on with, the oldest first, until so many bytes are free or there
        are no more. Returns how many are."""
        freed = 0
        for _, part, path in sorted(self._parts()):
            if freed < size and (lock := _locked(path)) is not None:
                with lock:
                    shutil.rmtree(path, ignore_errors=True)
                freed += part
        return freed

    def _parts(self) -> Iterator[tuple[float, int, Path]]:
        """The drafts: when each was last written to, and how large it is."""
        for part in self._drafts.glob(f"*/{_PART}"):
            with contextlib.suppress(FileNotFoundError):
                found = part.stat()
                yield found.st_mtime, found.st_size, part.parent

    def sweep(self) -> None:
        """Remove all scratch folders: only for a start, when no worker can be alive."""
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
    """A package in the making: the ZIP goes to ``path``, and what else must be written to ``scratch``.

    ``checkpoint`` is a file that says how to go on with what is in ``path``; see `checkpoint`.
    """

    folder: Path
    path: Path
    scratch: Path
    checkpoint: Path

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


def _can_go_on(draft: Path) -> bool:
    """Is there a part, and a checkpoint that speaks of it? Of what has been published only that is left."""
    return (draft / _PART).exists() and (draft / _CHECKPOINT).exists()


def _made(folder: Path) -> IO[bytes]:
    """A new folder's lock."""
    folder.mkdir(mode=0o700)
    lock = _locked(folder)
    assert lock is not None, "nobody else knows of it"
    return lock


def _locked(folder: Path) -> IO[bytes] | None:
    """The lock of the folder, held until it is closed; None where another process holds it, or it is gone."""
    try:
        file = open(folder / _LOCK, "ab")  # noqa: SIM115 - it is to stay open
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
