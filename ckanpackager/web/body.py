"""The four ways in which a request's parameters may be written.

A form, a multipart form, a JSON object, and a JSON object that has been
percent-encoded as a whole, as the first clients of this service sent it.
"""

import json
from typing import Any
from urllib.parse import parse_qsl, unquote

from tornado.httputil import HTTPFile, HTTPInputError, parse_body_arguments

from ckanpackager.errors import BadRequestError
from ckanpackager.form import refuse_deep

_MOST_PARAMETERS = 1000


def parse_body(content_type: str, body: bytes) -> dict[str, Any]:
    """The parameters by name; of one that is given twice, the last. Raises BadRequestError."""
    kind, _, rest = content_type.partition(";")
    kind = kind.strip().lower()
    if kind == "multipart/form-data":
        return _multipart(f"{kind};{rest}", body)
    try:
        text = body.decode().strip()
        if kind == "application/json" or text.startswith("{"):
            return _object(text or "{}")
        if text[:3].upper() == "%7B":
            return _object(unquote(text, errors="strict"))
        return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS))
    except UnicodeDecodeError as error:
        raise BadRequestError("The body is not UTF-8 text.") from error
    except ValueError as error:
        raise BadRequestError(f"The body has more than {_MOST_PARAMETERS} parameters.") from error


def _multipart(content_type: str, body: bytes) -> dict[str, Any]:
    arguments: dict[str, list[bytes]] = {}
    files: dict[str, list[HTTPFile]] = {}
    try:
        parse_body_arguments(content_type, body, arguments, files)
        values = {name: values[-1].decode() for name, values in arguments.items()}
        return values | {name: files[name][-1].body.decode() for name in files}
    except HTTPInputError as error:
        raise BadRequestError(f"The body is not a multipart form: {error}.") from error
    except UnicodeDecodeError as error:
        raise BadRequestError("The body is not UTF-8 text.") from error


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BadRequestError("The body must be a JSON object with the parameters by name.")
    refuse_deep("The body", value)
    return value
