"""Room on the disks: a floor under what is free, and a cap on what is kept.

Where room is short, packages that nobody needs any more are removed, the one
announced longest ago first; where that does not help, nothing new is begun.
"""

import asyncio
import contextlib
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ckanpackager import figures
from ckanpackager.database import DatabaseThread
from ckanpackager.jobs.table import JobTable
from ckanpackager.settings import Settings
from ckanpackager.store import Store

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 1.0


class Room:
    """What is left for packages. ``shortage`` says, to the admin, what there is too little of, if there is.

    It lives in the service's loop; what blocks is done in other threads.
    """

    def __init__(self, settings: Settings, table: JobTable, store: Store, database: DatabaseThread) -> None:
        self._settings = settings
        self._table = table
        self._store = store
        self._database = database
        self._looked = -math.inf
        self._lent: Counter[str] = Counter()
        self.shortage: str | None = None

    @contextlib.contextmanager
    def lent(self, zip_file_name: str) -> Iterator[None]:
        """Spare the package meanwhile: somebody is downloading it."""
        self._lent[zip_file_name] += 1
        try:
            yield
        finally:
            self._lent[zip_file_name] -= 1

    async def look(self, now: float) -> None:
        """Measure, make room if need be, and judge. ``now`` is UNIX seconds."""
        if abs(now - self._looked) < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        in_a_thread = asyncio.get_running_loop().run_in_executor
        try:
            # Others write too: what is missing is measured anew until it is there, or nothing more can go.
            while (missing := await self._missing()) > 0 and await self._remove(missing, now):
                pass
            self._judge(await in_a_thread(None, self._short))
        except OSError as error:
            self._judge(f"{error.filename} cannot be used: {error.strerror or error}.")

    async def _missing(self) -> int:
        """So many bytes are too few on the store's disk, or too many in the store."""
        in_a_thread = asyncio.get_running_loop().run_in_executor
        too_few = self._settings.MIN_FREE_SPACE - await in_a_thread(None, free, self._store.folder)
        cap = self._settings.MAX_STORE_SIZE
        if not cap:
            return too_few
        drafted = await in_a_thread(None, self._store.drafted)
        return max(too_few, await self._database(self._table.stored) + drafted - cap)

    async def _remove(self, size: int, now: float) -> bool:
        """Make so much room, or as much as can be made. False where nothing can go.

        Packages go before what is left of broken-off attempts: those may have taken hours, and who has lost
        a link can ask again.
        """
        in_a_thread = asyncio.get_running_loop().run_in_executor
        names = await self._database(self._table.make_room, size, now, set(+self._lent))
        if names:
            removed, freed = await in_a_thread(None, self._store.remove, names)
            log.warning("packages removed to make room: %d, %s", removed, figures.size(freed))
            return True
        if freed := await in_a_thread(None, self._store.forgo_drafts, size):
            log.warning("half-made packages removed to make room, to be begun anew: %s", figures.size(freed))
        return freed > 0

    def _short(self) -> str | None:
        """A sentence about the first folder on whose disk too little is free."""
        folders = {
            "STORE_DIRECTORY": self._store.folder,
            "TEMP_DIRECTORY": self._store.scratch,
            "STATS_DB": self._settings.stats_file and self._settings.stats_file.parent,
        }
        least = self._settings.MIN_FREE_SPACE
        for name, folder in folders.items():
            if folder is not None and (left := free(folder)) < least:
                return (
                    f"{name}: {figures.size(left)} are free on the disk of {folder}, "
                    f"less than MIN_FREE_SPACE ({figures.size(least)})."
                )
        return None

    def _judge(self, shortage: str | None) -> None:
        if shortage is not None and self.shortage is None:
            log.warning("no job is begun or accepted until there is more room: %s", shortage)
        elif shortage is None and self.shortage is not None:
            log.warning("there is room again")
        self.shortage = shortage


def free(folder: Path) -> int:
    """The bytes on the folder's disk that we may still fill."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
