"""The metadata that comes with a request, in the Ecological Metadata Language.

Nothing is asked of it but that it is XML on its own, and nothing in it is changed but its placeholders.
"""

import re
from html import escape
from typing import Any, NoReturn

from ckanpackager.errors import BadRequestError

_PLACEHOLDER = re.compile(r"\{(package_id|pub_date|date_stamp)\}")
_DECLARATION = re.compile(r"\A<\?xml\s.*?\?>\s*", re.DOTALL)
_OUR_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def check(text: str | None) -> str | None:
    """The metadata, or None where there is none.

    Raises BadRequestError where it is not well-formed, or has a DOCTYPE: what that refers to or defines is
    not ours to fetch, nor to unfold.
    """
    # A form may have put a line before the XML declaration, and a file a byte order mark.
    text = (text or "").strip("\ufeff \t\r\n")
    if not text:
        return None
    from xml.parsers import expat  # noqa: PLC0415 - who never gets any metadata needs no parser

    # With a separator, a prefix that is not declared is an error, as it is to whoever reads the archive.
    parser: Any = expat.ParserCreate(namespace_separator=" ")
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        # What the text declares as its encoding does not matter: it is a text already.
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise BadRequestError(
            f"eml is not well-formed XML: {expat.ErrorString(error.code)} in line {error.lineno}."
        ) from error
    except UnicodeEncodeError as error:
        raise BadRequestError("eml holds a character that is not valid Unicode.") from error
    return text


def fill(text: str, package_id: str, pub_date: str, date_stamp: str) -> bytes:
    """The file of a checked ``text``, with its placeholders filled in; ``pub_date`` is YYYY-MM-DD,
    ``date_stamp`` YYYY-MM-DDThh:mm:ssZ.
    """
    values = {"package_id": package_id, "pub_date": pub_date, "date_stamp": date_stamp}
    body = _DECLARATION.sub("", text)
    filled = _PLACEHOLDER.sub(lambda place: escape(values[place[1]]), body)
    return (_OUR_DECLARATION + filled).encode()


def _refuse_doctype(*_: object) -> NoReturn:
    raise BadRequestError("eml has a DOCTYPE, which metadata does not need: remove it.")
