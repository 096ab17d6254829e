"""So many requests to one host at once, in all workers together.

A slot is a file that is locked while a request is under way. The kernel
unlocks it when its holder ends, however that ends.
"""

import contextlib
import fcntl
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

_SECONDS_BETWEEN = 1.0


class Slots:
    """``count`` slots for each host, kept in ``folder``. May be used from several threads and processes."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._turn = itertools.count()

    @contextlib.contextmanager
    def one(self, url: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold a slot of the URL's host; wait for one if none is free, and call ``waiting`` each second."""
        host = hashlib.sha256(urlsplit(url).netloc.lower().encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            paths = [self._folder / f"{host}-{number}" for number in range(self._count)]
            files = [stack.enter_context(open(path, "ab")) for path in paths]
            for file in files:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
            else:
                with _every_second(waiting):
                    fcntl.flock(files[next(self._turn) % self._count], fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _every_second(say: Callable[[], None]) -> Iterator[None]:
    """Call ``say`` again and again, as who waits for a lock cannot."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(_SECONDS_BETWEEN):
            say()

    thread = threading.Thread(target=go_on, name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
