"""A ZIP being made, one member after another.

What is written to a member is packed at once and forgotten, so that memory stays the same for a file of any
size. A file that was not closed in good order never looks like a finished ZIP.
"""

from pathlib import Path

from ckanpackager.archive.base import Archive, Member
from ckanpackager.archive.command_archive import CommandArchive
from ckanpackager.archive.records import Mark
from ckanpackager.archive.zip_archive import ZipArchive
from ckanpackager.errors import CheckpointError

__all__ = ["Archive", "CommandArchive", "Mark", "Member", "ZipArchive", "open_archive"]


def open_archive(path: Path, scratch: Path, command: str | None = None, mark: Mark | None = None) -> Archive:
    """The archive that ``path`` is to be, packed by ``command`` (the setting ZIP_COMMAND) if there is one.

    With a ``mark`` what there is of it is gone on with; CheckpointError where that cannot be.
    """
    if command is None:
        return ZipArchive(path, scratch=scratch, mark=mark)
    if mark is not None:
        raise CheckpointError("ZIP_COMMAND packs now.")
    return CommandArchive(path, command, scratch)
