"""What is sent, and to whom: the defaults file, the options and PARAM:VALUE, in rising order of weight."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ckanpackager.commands.client import Service
from ckanpackager.commands.console import Console
from ckanpackager.errors import BadRequestError, SettingsError
from ckanpackager.job import TASKS, Job

DEFAULTS_FILE = Path("/etc/ckanpackager/ckanpackager-cli.json")
DEFAULT_HOST = "http://127.0.0.1:8765"

# As docopt gives them: by the names that the usage text has for them.
Arguments = dict[str, Any]

_ABOUT_THE_SERVICE = {"host", "secret"}
_KNOWN = {field.name for field in dataclasses.fields(Job)} - {"task"} | {"secret"}


def defaults(arguments: Arguments) -> dict[str, Any]:
    """Values of the defaults file of ``-d``, or else of the one in /etc if there is one; none with ``-D``.

    Raises SettingsError where the file is not to be had, or does not hold a JSON object.
    """
    if arguments["-D"]:
        return {}
    named = arguments["-d"]
    path = DEFAULTS_FILE if named is None else Path(named)
    advice = "name another with -d, or do without with -D"
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        if named is None:
            return {}
        raise SettingsError(f"There is no defaults file {path}: {advice}.") from error
    except OSError as error:
        reason = error.strerror
        raise SettingsError(f"The defaults file {path} cannot be read ({reason}): {advice}.") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The defaults file {path} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise SettingsError(f'The defaults file {path} must hold a JSON object, such as {{"secret": "..."}}.')
    return values


def known(arguments: Arguments) -> dict[str, Any]:
    """Values of the defaults file, and the secret of ``-s`` in the place of the one there."""
    return defaults(arguments) | ({} if arguments["-s"] is None else {"secret": arguments["-s"]})


def request(arguments: Arguments, console: Console) -> tuple[str, dict[str, Any]]:
    """The task, and all that is known with what was typed as PARAM:VALUE in its place.

    A parameter that is unknown is taken all the same, but not without a word: a slip of the finger in
    ``limit`` would ask for all rows.
    """
    task = arguments["TASK"].lstrip("/")
    if task not in TASKS:
        raise BadRequestError(f"There is no task {task}: it is one of {', '.join(TASKS)}.")
    typed = dict(map(split_pair, arguments["PARAM:VALUE"]))
    for name in typed.keys() - _KNOWN:
        near = difflib.get_close_matches(name, sorted(_KNOWN), 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        console.note(f"ckanpackager: {name} is not a parameter that this version knows.{hint}")
    return task, known(arguments) | typed


def split_pair(pair: str) -> tuple[str, str]:
    """Name and value of ``PARAM:VALUE``, split at the first colon."""
    name, colon, value = pair.partition(":")
    if not colon or not name:
        raise BadRequestError(f"{pair!r} is not PARAM:VALUE: write the parameter's name, a colon, its value.")
    return name, value


def service(arguments: Arguments, values: Mapping[str, Any]) -> Service:
    """The service that ``-p``, or else ``values``, lead to."""
    address = arguments["-p"] or values.get("host") or DEFAULT_HOST
    for name, value in (("host", address), ("secret", values.get("secret", ""))):
        if not isinstance(value, str):
            raise SettingsError(f'"{name}" in the defaults file must be a text in quotes.')
    return Service(address, values.get("secret"))


def form(values: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``values`` is about the request itself."""
    return {name: value for name, value in values.items() if name not in _ABOUT_THE_SERVICE}
