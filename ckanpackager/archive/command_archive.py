"""A ZIP that a command of the admin's packs."""

import datetime
import errno
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from ckanpackager.archive.base import Archive, Data, Member
from ckanpackager.errors import PackageError


class CommandArchive(Archive):
    """Packs by a command of the admin's, run once for each member when all are written.

    ``command`` is split as a shell would, but run without one; ``{input}`` and ``{output}`` in it become the
    member's file and the archive. That must not exist before: most such programs add to one that does.
    ``timeout`` is in seconds, for each run. What cannot be packed so is a PackageError.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        scratch: Path | None = None,
        *,
        timeout: float | None = None,
        now: datetime.datetime | None = None,
    ) -> None:
        super().__init__(path, scratch, now)
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        self._command = command
        self._timeout = timeout
        self._folder = tempfile.TemporaryDirectory(prefix="members-", dir=self.scratch)
        self._written: IO[bytes] | None = None

    def _begin(self, name: str, compress: bool) -> Member:
        target = self._file(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._written = open(target, "xb")  # noqa: SIM115 - closed by the member and by _release
        return _FileMember(self, self._written)

    def _complete(self, file: IO[bytes]) -> None:
        os.utime(file.name, (self.now.timestamp(), self.now.timestamp()))
        self._member = None

    def _finish(self) -> None:
        for name in self._names:
            self._run(self._file(name))
            self._file(name).unlink()
        # Info-ZIP's zip adds an ending to a name that has none.
        ended = self.path.with_name(self.path.name + ".zip")
        if ended.exists() and not self.path.exists():
            ended.rename(self.path)
        if not self.path.exists():
            raise PackageError("ZIP_COMMAND ended well but left no archive.")

    def _run(self, file: Path) -> None:
        places = {"{input}": str(file), "{output}": str(self.path)}
        # Both at once: a file may be called {output}.
        arguments = [
            re.sub(r"\{(?:input|output)\}", lambda place: places[place.group()], argument)
            for argument in shlex.split(self._command)
        ]
        # Into a file and not a pipe: a pipe held open by something the command started would keep us waiting.
        with tempfile.TemporaryFile(dir=self._folder.name) as said:
            try:
                subprocess.run(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    timeout=self._timeout,
                    check=True,
                )
            except OSError as error:
                raise PackageError(f"ZIP_COMMAND: {arguments[0]} cannot be run: {error.strerror}.") from error
            except subprocess.TimeoutExpired as error:
                raise PackageError(f"ZIP_COMMAND was not done after {self._timeout:g} seconds.") from error
            except subprocess.CalledProcessError as error:
                raise PackageError(f"ZIP_COMMAND {_fate(error)}: {_last_words(said)}") from error

    def _file(self, name: str) -> Path:
        return Path(self._folder.name, name)

    def _release(self) -> None:
        try:
            if self._written is not None:
                self._written.close()
        finally:
            self._folder.cleanup()


class _FileMember(Member):
    def __init__(self, archive: CommandArchive, file: IO[bytes]) -> None:
        self._archive = archive
        self._file = file

    def write(self, data: Data) -> int:
        return self._file.write(data)

    def close(self) -> None:
        if not self._file.closed:
            self._file.close()
            self._archive._complete(self._file)


def _fate(error: subprocess.CalledProcessError) -> str:
    return (
        f"was killed by signal {-error.returncode}"
        if error.returncode < 0
        else f"failed ({error.returncode})"
    )


def _last_words(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - 500))
    return said.read().decode(errors="replace").strip() or "it said nothing."
