"""The service's answers, as a person reads them.

One function for each kind of answer, which it takes as the service's JSON.
"""

from collections.abc import Mapping
from typing import Any

from ckanpackager.commands import output


def status(answer: Mapping[str, Any], host: str) -> str:
    """The answer of /status."""
    lines = [f"ckanpackager {answer.get('version', '')}".rstrip() + f" at {host}"]
    pools = answer.get("pools")
    if isinstance(pools, dict):
        rows = [
            (name, pool.get("workers"), pool.get("running"), pool.get("waiting"))
            for name, pool in pools.items()
        ]
        lines.append(output.table(("POOL", "WORKERS", "RUNNING", "WAITING"), rows))
    lines.append(
        f"{output.count(answer.get('worker_count', 0), 'worker')}, "
        f"{output.count(answer.get('queue_length', 0), 'request')} not yet finished, "
        f"{output.number(answer.get('processed_requests', 0))} processed"
    )
    if answer.get("shortage"):
        lines.append(f"Nothing is begun or accepted for want of room: {answer['shortage']}")
    return "\n".join(lines)


def totals(answer: Mapping[str, Any]) -> str:
    """The answer of /statistics: the grand totals first, then the resources asked for most."""
    ranked = sorted(answer["totals"].items(), key=lambda entry: (-entry[1]["requests"], entry[0]))
    if not ranked:
        return "Nothing has been asked for yet."
    rows = [
        ("all resources" if name == "*" else name, entry["requests"], entry["errors"], entry["emails"])
        for name, entry in ranked
    ]
    return output.table(("RESOURCE", "REQUESTS", "ERRORS", "ADDRESSES"), rows)


def requests(answer: Mapping[str, Any]) -> str:
    """The answer of /statistics/requests."""
    rows = [
        (output.moment(row["timestamp"]), row["resource_id"], _limit(row), row["email"])
        for row in answer["requests"]
    ]
    return output.table(("WHEN", "RESOURCE", "LIMIT", "E-MAIL"), rows) if rows else "No requests."


def errors(answer: Mapping[str, Any]) -> str:
    """The answer of /statistics/errors. Of a traceback, its last line says what happened."""
    rows = [
        (output.moment(row["timestamp"]), row["resource_id"], row["email"], _last_line(row.get("message")))
        for row in answer["errors"]
    ]
    return output.table(("WHEN", "RESOURCE", "E-MAIL", "ERROR"), rows) if rows else "No errors."


def removed(answer: Mapping[str, Any]) -> str:
    """The answer of /clear_caches."""
    if "removed" not in answer:
        return "Done."
    packages = output.count(answer["removed"], "package")
    return f"Removed {packages}, {output.size(answer.get('freed', 0))}."


def jobs(answer: Mapping[str, Any], offset: int) -> str:
    """The answer of /jobs, which began at ``offset``."""
    found = answer["jobs"]
    if not found:
        return "No jobs."
    rows = [
        (
            job["id"],
            job["state"],
            output.moment(job.get("created")),
            job.get("resource_id"),
            job.get("email"),
            progress(job),
        )
        for job in found
    ]
    lines = [output.table(("JOB", "STATE", "ACCEPTED", "RESOURCE", "E-MAIL", "NOW"), rows)]
    total = answer.get("total")
    if isinstance(total, int) and total > offset + len(found):
        shown = f"{output.number(len(found))} of {output.count(total, 'job')}"
        lines.append(f"{shown}; for more: -o {offset + len(found)}")
    return "\n".join(lines)


def accepted(answer: Mapping[str, Any]) -> str:
    """The answer to a request for a package."""
    said = answer.get("message") or answer.get("msg") or "The request is accepted."
    where = [f"It is job {answer['job_id']}."] if answer.get("job_id") else []
    page = [f"Follow it at {answer['status_url']}"] if answer.get("status_url") else []
    return "\n".join([str(said), *where, *page])


def ending(job: Mapping[str, Any]) -> str:
    """Why a job that has ended has nothing to download."""
    if job["state"] == "failed":
        return f"The package could not be made: {job.get('error') or 'no reason is given'}"
    return f"The request is {job['state']}: there is nothing to download."


def download(answer: Mapping[str, Any]) -> str:
    """Where the package of a job that has ended can be had, and nothing else."""
    return str(answer["job"].get("download_url") or "")


def file(answer: Mapping[str, Any]) -> str:
    """What was made here."""
    rows = [] if answer["rows"] is None else [output.count(answer["rows"], "row")]
    lines = [
        f"{answer['file']}: {', '.join([*rows, output.size(answer['size'])])}",
        f"sha256 {answer['sha256']}",
    ]
    return "\n".join([*lines, answer["report"] or ""]).rstrip()


def progress(job: Mapping[str, Any]) -> str:
    """How far a job is, in a few words."""
    state = job.get("state")
    if state == "queued":
        place = job.get("position")
        lane = f"{job['queue']} queue" if job.get("queue") else "queue"
        return f"in the {lane}" if place is None else f"number {output.number(place)} in the {lane}"
    if state == "failed":
        return _last_line(job.get("error"))
    words = [_amount(job)]
    if state == "running" and job.get("eta_seconds") is not None:
        words.append(f"{output.duration(job['eta_seconds'])} left")
    if state == "built":
        words.append("ready, e-mail still to be sent")
    return ", ".join(word for word in words if word)


def job(answer: Mapping[str, Any]) -> str:
    """The answer of /jobs/<id>: the job, and what happened to it."""
    known = answer["job"]
    times = ("created", "started", "finished", "expires")
    shown: dict[str, object] = {
        "job": known.get("id"),
        "state": known.get("state"),
        # Why a job has failed stands below, as its error.
        "now": "" if known.get("state") == "failed" else progress(known),
        "task": known.get("task"),
        "resource": known.get("resource_id"),
        "from": known.get("source_url"),
        "e-mail": known.get("email"),
        "broken off": output.count(known["attempts"], "time") if known.get("attempts") else "",
        "accepted": output.moment(known.get("created")),
        **{name: output.moment(known.get(name)) for name in times[1:]},
        "download": known.get("download_url"),
        "file name": known.get("file_name"),
        "size": "" if known.get("size") is None else output.size(known["size"]),
        "sha256": known.get("sha256"),
        "report": known.get("report"),
        "error": known.get("error"),
        "mail trouble": next((mail["error"] for mail in known.get("mails") or () if mail.get("error")), ""),
    }
    events = [
        (output.moment(event["timestamp"]), event["state"], event.get("reason"))
        for event in answer.get("events", [])
    ]
    history = f"\n\n{output.table(('WHEN', 'STATE', 'WHY'), events)}" if events else ""
    return output.listing(shown) + history


def _amount(job: Mapping[str, Any]) -> str:
    done, total = job.get("rows_done"), job.get("rows_total")
    if job.get("task") == "package_url" or not (done or total):
        amount = job.get("size") or job.get("bytes_done")
        return output.size(amount) if amount else ""
    if total is None or done == total:
        return output.count(done or 0, "row")
    return f"{output.number(done or 0)} of {output.count(total, 'row')}"


def _limit(row: Mapping[str, Any]) -> object:
    return "all" if row.get("count") is None else row["count"]


def _last_line(text: object) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[-1] if lines else ""
