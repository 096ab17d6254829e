"""What was done to the service, and when."""

import threading
import time
from collections import Counter
from collections.abc import Collection


class Diary:
    """May be written from several threads. Times are UNIX seconds."""

    def __init__(self) -> None:
        self.began = time.time()
        self._entries: list[tuple[float, float, str]] = []
        self._lock = threading.Lock()

    def note(self, what: str, lasting: float = 0.0) -> None:
        """Something happens now, and lasts so many seconds."""
        with self._lock:
            now = time.time()
            self._entries.append((now, now + lasting, what))

    def counts(self) -> Counter[str]:
        """How often each thing happened."""
        with self._lock:
            return Counter(what for _, _, what in self._entries)

    def count(self, *prefixes: str) -> int:
        """How often something happened whose name begins so."""
        return sum(count for what, count in self.counts().items() if what.startswith(prefixes))

    def has(self, prefixes: Collection[str], begin: float, end: float) -> bool:
        """Did something whose name begins so happen, or go on, in that time?"""
        starts = tuple(prefixes)
        with self._lock:
            return any(
                what.startswith(starts) and first <= end and last >= begin
                for first, last, what in self._entries
            )

    def text(self) -> str:
        """A line for each entry."""
        with self._lock:
            return "\n".join(f"{first - self.began:8.2f} {what}" for first, _, what in self._entries)
