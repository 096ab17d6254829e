"""The commands that ask the service: each posts, and shows what was answered."""

import math
import sys
from functools import partial
from typing import Any
from urllib.parse import quote

from ckanpackager.commands import parameters, views, waiting
from ckanpackager.commands.client import Service
from ckanpackager.commands.console import Console, understand
from ckanpackager.commands.parameters import Arguments
from ckanpackager.errors import BadRequestError, NotFoundError, PackagerError, UnavailableError

_LONGEST_TIME = 100 * 365 * 86400


def status(arguments: Arguments, console: Console) -> int:
    """``status``"""
    service = _service(arguments)
    console.answer(service.post("status"), partial(views.status, host=service.url))
    return 0


def clear_cache(arguments: Arguments, console: Console) -> int:
    """``cc|clear-cache``"""
    console.answer(_service(arguments).post("clear_caches"), views.removed)
    return 0


def expire(arguments: Arguments, console: Console) -> int:
    """``expire``: what is past its time, or older than so many days."""
    days = arguments["--older-than"]
    which = {"expired": "true"} if days is None else {"older_than": _seconds(days)}
    console.answer(_service(arguments).post("clear_caches", which), views.removed)
    return 0


def statistics(arguments: Arguments, console: Console) -> int:
    """``stats|statistics``, in its three forms. With ``-x``, 1 when there are errors."""
    kind = next((name for name in ("requests", "errors") if arguments[name]), "totals")
    path = "statistics" if kind == "totals" else f"statistics/{kind}"
    answer = _service(arguments).post(path, _page(arguments) | _about(arguments))
    view = {"totals": views.totals, "requests": views.requests, "errors": views.errors}[kind]
    console.answer(answer, view)
    return 1 if arguments["-x"] and understand(answer, partial(_errors, kind)) else 0


def jobs(arguments: Arguments, console: Console) -> int:
    """``jobs``: the list, or one of them to look at, retry or cancel."""
    service = _service(arguments)
    if arguments["JOB"] is None:
        state = {"state": arguments["--state"]} if arguments["--state"] else {}
        page = _page(arguments)
        console.answer(service.post("jobs", page | state), partial(views.jobs, offset=page.get("offset", 0)))
        return 0
    path = f"jobs/{quote(arguments['JOB'], safe='')}"
    action = next((f"/{name}" for name in ("retry", "cancel") if arguments[name]), "")
    try:
        answer = service.post(path + action)
    except NotFoundError as error:
        raise NotFoundError(f"There is no job {arguments['JOB']}: ckanpackager jobs lists them.") from error
    console.answer(answer, views.job)
    return 0


def queue(arguments: Arguments, console: Console) -> int:
    """``queue``: ask for a package and, with ``--wait``, see it through."""
    task, values = parameters.request(arguments, console)
    service = parameters.service(arguments, values)
    accepted = service.post(task, parameters.form(values))
    if not arguments["--wait"]:
        console.answer(accepted, views.accepted)
        return 0
    console.note(views.accepted(accepted))
    job = _see_through(service, accepted, console)
    answer = {"success": True, "status": "success", "job": job}
    if job["state"] == "done":
        console.answer(answer, views.download)
        return 0
    if console.as_json:
        console.answer(answer, views.job)
    raise PackagerError(views.ending(job))


def _service(arguments: Arguments) -> Service:
    return parameters.service(arguments, parameters.known(arguments))


def _see_through(service: Service, accepted: dict[str, Any], console: Console) -> dict[str, Any]:
    """The job at its end. Its page is looked for at its public address, and at the one we have just used."""
    urls = [str(accepted["status_url"])] if accepted.get("status_url") else []
    if accepted.get("job_id"):
        urls.append(f"{service.url}/jobs/{accepted['job_id']}")
    if not urls:
        raise UnavailableError("The request is accepted, but the service names no page to follow it on.")
    try:
        with waiting.Progress(console, on_terminal=sys.stderr.isatty()) as show:
            return waiting.follow(waiting.StatusPage(service, urls), lambda job: understand(job, show))
    except (KeyboardInterrupt, PackagerError):
        console.note(f"The request goes on all the same: {urls[0]}")
        raise


def _page(arguments: Arguments) -> dict[str, int]:
    names = {"offset": "-o", "limit": "-l"}
    return {
        name: _whole(option, arguments[option])
        for name, option in names.items()
        if arguments[option] is not None
    }


def _about(arguments: Arguments) -> dict[str, Any]:
    names = {"resource_id": "-r", "email": "-e"}
    return {name: arguments[option] for name, option in names.items() if arguments[option] is not None}


def _whole(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequestError(f"{option} takes a whole number, 0 or more, not {text!r}.")
    return int(text)


def _seconds(days: str) -> int:
    try:
        seconds = float(days) * 86400
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_TIME:
        raise BadRequestError(f"--older-than takes a number of days, such as 7 or 0.5, not {days!r}.")
    return round(seconds)


def _errors(kind: str, answer: dict[str, Any]) -> int:
    if kind == "errors":
        return len(answer["errors"])
    return sum(entry["errors"] for entry in answer["totals"].values()) if kind == "totals" else 0
