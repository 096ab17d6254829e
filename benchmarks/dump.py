"""From accepted to ZIP ready, beside CKAN's own dump of the same resource, on a real CKAN.

Usage:
    dump [--rows N] [--rounds N] [VERSION ...]

Options:
    --rows N    How many specimens, of 34 columns [default: 300000].
    --rounds N  How often each is done [default: 7].

CKAN runs on this machine with two gunicorn workers. A round is one of each: ``curl`` of
``/datastore/dump/<resource>``, which neither checks nor packs, and a request to a real service, from the
moment that its job was accepted until its package was in the store. Printed are the medians and their ratio,
and the most memory (VmHWM) of the worker.
"""

import contextlib
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import docopt

from benchmarks.processes import peak_megabytes
from tests.ckan.bed import RealCkan
from tests.ckan.installation import UnavailableError, check_machine
from tests.services import Service, running_service


class MemoryWatch:
    """The most memory that any worker of the service ever had."""

    def __init__(self, service: Service) -> None:
        self.megabytes = 0.0
        self._service = service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for pid in self._service.worker_pids():
                with contextlib.suppress(OSError):
                    self.megabytes = max(self.megabytes, peak_megabytes(pid))


def dump(url: str) -> float:
    """Seconds that curl takes for a dump."""
    begin = time.perf_counter()
    subprocess.run(["curl", "--silent", "--fail", "--output", "/dev/null", url], check=True)
    return time.perf_counter() - begin


def package(service: Service, api_url: str, resource_id: str, rows: int, number: int) -> float:
    """Seconds from accepted to built, of what CKAN's extension posts: the limit is what CKAN has counted.

    The DOI differs each time, so that nothing comes from the cache.
    """
    job_id = service.submit(resource_id=resource_id, api_url=api_url, limit=rows, doi=f"10.1/{number}")
    job = service.wait_for(job_id, "built", "failed", timeout=3600)
    assert job["rows_done"] == job["rows_total"], job["error"]
    events = {
        event["state"]: event["timestamp"] for event in service.post(f"/jobs/{job_id}").json()["events"]
    }
    return float(events["built"] - job["created"])


def compare(version: str, rows: int, rounds: int) -> None:
    """Print the rounds and their medians."""
    with (
        RealCkan(version) as ckan,
        tempfile.TemporaryDirectory() as folder,
        running_service(Path(folder) / "service", SMTP_HOST="127.0.0.1", SMTP_PORT=9) as service,
    ):
        table = ckan.load_specimens(rows)
        dumps, packages = [], []
        watch = MemoryWatch(service)
        try:
            for number in range(rounds):
                dumps.append(dump(f"{ckan.url}/datastore/dump/{table}"))
                packages.append(package(service, ckan.api_url, table, rows, number))
                print(
                    f"  round {number + 1}: dump {dumps[-1]:.2f} s, package {packages[-1]:.2f} s", flush=True
                )
        finally:
            watch.stop()
    ours, theirs = statistics.median(packages), statistics.median(dumps)
    print(
        f"CKAN {version}, {rows:,} rows: package {ours:.2f} s, dump {theirs:.2f} s, ratio {ours / theirs:.2f} "
        f"(goal: under 1.0, at best 0.8); worker {watch.megabytes:.0f} MB; "
        f"{1e6 * ours / rows:.1f} s per million rows"
    )


def main() -> None:
    arguments = docopt.docopt(__doc__ or "")
    try:
        check_machine()
    except UnavailableError as error:
        print(f"No CKAN can run here, so there is nothing to compare with: {error}.")
        return
    for version in arguments["VERSION"] or ["2.12.0"]:
        compare(version, int(arguments["--rows"]), int(arguments["--rounds"]))


if __name__ == "__main__":
    main()
