"""Where the log goes: to standard error, a line an event, for systemd or a terminal to keep."""

import logging


def start_logging(debug: bool) -> None:
    """Log at INFO, or at DEBUG. Libraries are heard only from WARNING on, since they name URLs and keys."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(message)s", level=logging.WARNING)
    logging.getLogger("ckanpackager").setLevel(logging.DEBUG if debug else logging.INFO)
