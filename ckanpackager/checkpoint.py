"""Where a package can be gone on with, if its worker dies.

A checkpoint is a file beside the draft that it speaks of. It is written whole or not at all, and after what
it speaks of is on the disk; what cannot be trusted to be so is not gone on with.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from ckanpackager import faults
from ckanpackager.archive import Archive, Mark
from ckanpackager.errors import CheckpointError
from ckanpackager.sources.base import Position

log = logging.getLogger(__name__)

# To be counted up whenever what a checkpoint holds changes, or what it means.
_LAYOUT = 1
# What is lost at most by a death; and often enough for the disk, which each of them waits for.
_SECONDS_BETWEEN = 5.0


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What the reading had brought by ``position`` is in the archive, up to ``mark``."""

    position: Position
    mark: Mark


class Checkpoints:
    """The newest checkpoint of a package, in the file ``path``.

    ``request`` is its job's cache key. ``clock`` gives seconds from any beginning.
    """

    def __init__(self, path: Path, request: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._request = request
        self._clock = clock
        self._next = clock() + _SECONDS_BETWEEN

    @property
    def is_due(self) -> bool:
        """Is it time for another?"""
        return self._clock() >= self._next

    def read(self) -> Checkpoint | None:
        """The newest, if there is one. Raises CheckpointError where it cannot be trusted."""
        try:
            digest, _, text = self._path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if digest != _digest(text):
            raise CheckpointError("The checkpoint is damaged.")
        said = json.loads(text)
        if said["layout"] != _LAYOUT:
            raise CheckpointError("The checkpoint is another version's.")
        if said["request"] != self._request:
            raise CheckpointError("The checkpoint is another request's.")
        return Checkpoint(Position.from_dict(said["position"]), Mark.from_dict(said["mark"]))

    def write(self, position: Position, archive: Archive) -> None:
        """Go on from here, if it comes to that."""
        mark = archive.mark()
        if mark is None:
            return
        faults.reached("checkpoint.marked")
        said = {
            "layout": _LAYOUT,
            "request": self._request,
            "position": position.to_dict(),
            "mark": mark.to_dict(),
        }
        text = json.dumps(said).encode()
        new = self._path.with_name(self._path.name + ".new")
        new.write_bytes(_digest(text) + b"\n" + text)
        os.rename(new, self._path)
        faults.reached("checkpoint.written")
        self._next = self._clock() + _SECONDS_BETWEEN

    def drop(self) -> None:
        """There is none any more: what has been written is not to be gone on with."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
