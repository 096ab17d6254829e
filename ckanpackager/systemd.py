"""Telling systemd how the service is: sd_notify(3), which is one datagram."""

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send ``state``, such as ``READY=1``, to the manager that started us, if there is one and it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError as error:
            log.warning("systemd was not told %s: %s", state, error)


def watchdog_seconds() -> float | None:
    """How often ``WATCHDOG=1`` is to be sent: twice in the time after which systemd gives us up."""
    limit = os.environ.get("WATCHDOG_USEC")
    return int(limit) / 1_000_000 / 2 if limit else None
