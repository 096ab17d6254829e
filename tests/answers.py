"""What a service answers: an example for each endpoint."""

from typing import Any

JOB = "0123456789abcdef0123456789abcdef"

STATUS = {
    "success": True,
    "status": "success",
    "version": "1.0.0",
    "worker_count": 3,
    "queue_length": 1204,
    "processed_requests": 98765,
    "pools": {
        "fast": {"workers": 2, "running": 1, "waiting": 0},
        "slow": {"workers": 1, "running": 1, "waiting": 1202},
    },
}
TOTALS = {
    "success": True,
    "totals": {
        "3a": {"emails": 1, "requests": 2, "errors": 0},
        "*": {"emails": 900, "requests": 12345, "errors": 1},
        "9b": {"emails": 899, "requests": 12343, "errors": 1},
    },
}
REQUESTS = {
    "success": True,
    "requests": [
        {
            "email": "a@example.org",
            "resource_id": "9b",
            "timestamp": 1700000000,
            "count": 1000,
            "domain": "x",
        },
        {
            "email": "b@example.org",
            "resource_id": "3a",
            "timestamp": 1699990000,
            "count": None,
            "domain": "x",
        },
    ],
}
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py"\nHTTPError: 404\n'
ERRORS = {
    "success": True,
    "errors": [
        {"email": "a@example.org", "resource_id": "9b", "timestamp": 1700000000, "message": TRACEBACK}
    ],
}
ACCEPTED = {"success": True, "msg": "Please be patient.", "message": "Please be patient.", "job_id": JOB}
QUEUED = {
    "id": JOB,
    "task": "package_datastore",
    "resource_id": "9b",
    "state": "queued",
    "queue": "slow",
    "position": 4,
    "rows_done": 0,
    "rows_total": None,
    "bytes_done": 0,
    "eta_seconds": None,
    "download_url": None,
    "error": None,
    "email": "a@example.org",
    "created": 1700000000.25,
    "started": None,
    "finished": None,
    "expires": None,
}
RUNNING = QUEUED | {
    "state": "running",
    "started": 1700000001,
    "rows_done": 1500,
    "rows_total": 60000,
    "eta_seconds": 125,
}
FAILED = RUNNING | {"state": "failed", "error": "CKAN said: no such table."}
DONE = RUNNING | {
    "state": "done",
    "rows_done": 60000,
    "eta_seconds": 0,
    "download_url": "https://packages.example.org/download/9b-xyz.zip",
    "file_name": "9b.zip",
    "size": 2_500_000,
    "sha256": "ab" * 32,
    "finished": 1700000100,
    "expires": 1700604900,
    "source_url": "https://data.example.org/api/3/action/datastore_search",
}
BUILT = DONE | {"state": "built", "finished": None}
EVENTS = [
    {"timestamp": 1700000000, "state": "queued", "reason": "accepted"},
    {"timestamp": 1700000100, "state": "done", "reason": None},
]


def of_a_service(url: str) -> dict[str, Any]:
    """The answers of a service at ``url``, by method and path."""
    return {
        "POST /status": STATUS,
        "POST /clear_caches": {"success": True, "removed": 3, "freed": 1_234_567},
        "POST /statistics": TOTALS,
        "POST /statistics/requests": REQUESTS,
        "POST /statistics/errors": ERRORS,
        "POST /jobs": {"success": True, "jobs": [RUNNING, FAILED], "total": 7},
        f"POST /jobs/{JOB}": {"success": True, "job": DONE, "events": EVENTS},
        f"POST /jobs/{JOB}/retry": {"success": True, "job": RUNNING},
        f"POST /jobs/{JOB}/cancel": {"success": True, "job": RUNNING | {"state": "cancelled"}},
        "POST /package_datastore": ACCEPTED | {"status_url": f"{url}/jobs/{JOB}"},
        "POST /package_url": ACCEPTED | {"status_url": f"{url}/jobs/{JOB}"},
        f"GET /jobs/{JOB}": {"success": True, "job": DONE},
    }
