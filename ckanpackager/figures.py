"""Numbers and times as a person reads them. What is not known is a dash, which needs no translation."""

from datetime import UTC, datetime

_UNKNOWN = "\N{EN DASH}"
_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def count(number: int | None) -> str:
    """1234567 is ``1,234,567``."""
    return _UNKNOWN if number is None else f"{number:,}"


def size(number: int | None) -> str:
    """Bytes in powers of a thousand, as file managers and browsers show them: ``1.4 MB``."""
    if number is None:
        return _UNKNOWN
    if number < 1000:
        return f"{number} byte" if number == 1 else f"{number} bytes"
    scale = 1000
    units = iter(_UNITS)
    unit = next(units)
    while number >= scale * 999.95:
        scale, unit = scale * 1000, next(units)
    return f"{number / scale:.1f} {unit}"


def moment(timestamp: float | None) -> str:
    """A UNIX time as ``24 November 2025, 15:28 UTC``."""
    if timestamp is None:
        return _UNKNOWN
    when = datetime.fromtimestamp(timestamp, UTC)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def duration(seconds: float) -> str:
    """A length of time in its largest unit: ``40 seconds``, ``5 minutes``, ``2 hours``."""
    number, unit = round(seconds), "second"
    for length, name in ((60, "minute"), (3600, "hour"), (86400, "day")):
        if seconds >= 2 * length:
            number, unit = round(seconds / length), name
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
