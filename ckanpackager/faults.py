"""Faults on purpose, for the tests of what the service promises.

A point is a place between two steps at which a kill or a full disk would hurt
most. Where the environment variable CKANPACKAGER_FAULTS names a folder, a
process that comes to a point takes what `plant` has put there for it, and
suffers it: so a fault strikes once, whichever process comes first, and whoever
planted it sees when it has struck. Without the variable nothing is looked for.
"""

import contextlib
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from ckanpackager.errors import SettingsError

ENVIRONMENT = "CKANPACKAGER_FAULTS"
KILL = "kill"

# In the order in which a job comes by; but only a long reading comes by a checkpoint, and only a job that is
# cancelled by the last. The worker passes those from "checkpoint.marked" to "built.said", and from
# "mail.begun" to "sent.said"; the service the others.
POINTS = (
    "job.accepted",
    "job.claimed",
    "checkpoint.marked",
    "checkpoint.written",
    "draft.written",
    "draft.synced",
    "package.named",
    "folder.synced",
    "built.said",
    "built.heard",
    "built.committed",
    "mail.claimed",
    "mail.begun",
    "mail.taken",
    "sent.said",
    "sent.heard",
    "sent.committed",
    "cancel.committed",
)

_folder: Path | None = None


def switch_on() -> None:
    """Heed the environment variable from here on in this process.

    Raises SettingsError where it names no folder, or one in which something else lies than faults.
    """
    global _folder  # noqa: PLW0603 - one process, one switch
    name = os.environ.get(ENVIRONMENT)
    if name is None:
        return
    folder = Path(name)
    if not folder.is_dir():
        raise SettingsError(f"{ENVIRONMENT} must name a folder, and {name} is none. Only tests set it.")
    for point, what in _planted(folder):
        _check(point, what)
    _folder = folder


def plant(folder: Path, point: str, what: str = KILL) -> None:
    """Have the next process that comes to the point suffer ``what``: "kill", or an OSError such as "ENOSPC".

    Raises SettingsError for a point or a fault that there is not.
    """
    _check(point, what)
    (folder / point).symlink_to(what)  # a link has its content from the beginning


def reached(point: str) -> None:
    """Suffer what is planted at this point, if anything is."""
    if _folder is not None:
        _suffer(_folder / point)


def _suffer(path: Path) -> None:
    assert path.name in POINTS
    with contextlib.suppress(FileNotFoundError):
        what = os.readlink(path)
        path.unlink()  # another process may have been quicker
        if what == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, what)
        raise OSError(number, os.strerror(number))


def _planted(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.iterdir():
        try:
            yield path.name, os.readlink(path)
        except FileNotFoundError:
            continue  # it has just struck
        except OSError:
            yield path.name, ""  # no link


def _check(point: str, what: str) -> None:
    if point not in POINTS:
        raise SettingsError(f"{ENVIRONMENT}: {point} is no point; those are {', '.join(POINTS)}.")
    if what != KILL and not isinstance(getattr(errno, what, None), int):
        raise SettingsError(
            f"{ENVIRONMENT}: {point}: {what!r} is neither {KILL!r} nor an error of the system."
        )
