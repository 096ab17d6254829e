"""Formatters: what may be done to the values of a list's objects on their way into a term.

DWC_EXTENSION_FIELDS names them. Each takes a value as it came in the JSON and
returns the one to write; what it has nothing to do with, it returns as it is.
"""

from collections.abc import Callable
from typing import Any

Formatter = Callable[[Any], Any]


def _media_type(kind: str) -> Formatter:
    """Makes ``jpeg`` into ``image/jpeg``; what has its slash already is a media type."""

    def complete(value: Any) -> Any:
        if not isinstance(value, str) or not value.strip() or "/" in value:
            return value
        return f"{kind}/{value.strip()}"

    return complete


FORMATTERS: dict[str, Formatter] = {
    "image_type": _media_type("image"),
    "audio_type": _media_type("audio"),
    "video_type": _media_type("video"),
}
