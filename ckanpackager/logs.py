"""Where the log goes: to standard error, a line an event, for systemd or a terminal to keep.

No secret and no whole e-mail address gets there, whoever's words are logged: mail servers quote addresses
when they refuse them, and databases quote rows.
"""

import logging
import re
from collections.abc import Collection

_FORMAT = "%(asctime)s %(levelname)s %(process)d %(message)s"
_BEFORE_THE_DOMAIN = re.compile(r"[\w.!#$%&'*+=?^`{|}~-]+@(?=\w)")
# What is shorter is no secret of any use, and might be a part of any word.
SHORTEST_SECRET = 8


class _Discreet(logging.Formatter):
    def __init__(self, private: Collection[str]) -> None:
        super().__init__(_FORMAT)
        self._private = private

    def format(self, record: logging.LogRecord) -> str:
        return _BEFORE_THE_DOMAIN.sub("...@", without(self._private, super().format(record)))


def without(private: Collection[str], text: str) -> str:
    """The text with ``(hidden)`` for each of the private words, but for those that are too short."""
    for word in private:
        if len(word) >= SHORTEST_SECRET:
            text = text.replace(word, "(hidden)")
    return text


def start_logging(debug: bool, private: Collection[str] = ()) -> None:
    """Log at INFO, or at DEBUG, and never the ``private`` words.

    Libraries are heard only from WARNING on, since they name URLs and keys.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Discreet(private))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("ckanpackager").setLevel(logging.DEBUG if debug else logging.INFO)
