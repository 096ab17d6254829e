"""The memory of a worker, for a small and a large resource, beside that of reading everything first.

    python -m benchmarks.memory [ROWS ...]

Each package is made by a process that is started as the service starts its workers, from a CKAN on this
machine with a made-up table of 34 columns. Printed is the most memory that the process ever had in RAM
(VmHWM), and the rows a second.
"""

import io
import multiprocessing
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import requests

from ckanpackager.demo.ckan import Ckan
from ckanpackager.demo.specimens import SPECIMENS, specimens
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.jobs.worker import give_memory_back
from ckanpackager.packager import package
from ckanpackager.settings import Settings
from ckanpackager.store import Store, new_token

ROWS = (30_000, 300_000)
LIMIT = 128  # megabytes


class Silence:
    """Nobody wants to know how far a package is."""

    def planned(self, rows: int | None, size: int | None) -> None: ...

    def progress(self, rows: int, size: int) -> None: ...

    def alive(self) -> None: ...


def as_the_worker_does(job: Job, folder: str) -> None:
    give_memory_back()
    settings = Settings.from_mapping({"SECRET": "of a benchmark"})
    store = Store(f"{folder}/store", f"{folder}/temp")
    store.prepare()
    package(job, store, new_token(), settings, Silence())


def reading_everything_first(job: Job, folder: str) -> None:
    assert job.api_url is not None
    text = io.StringIO()
    offset = 0
    while True:
        query = {"resource_id": job.resource_id, "offset": offset, "limit": 5000, "records_format": "csv"}
        records = requests.post(job.api_url, json={**query, "sort": "_id"}, timeout=60).json()["result"][
            "records"
        ]
        if not records:
            break
        text.write(records)
        offset += 5000
    with zipfile.ZipFile(f"{folder}/all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("resource.csv", text.getvalue())


def peak_megabytes() -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def measured(pipe: "Connection[Any, Any]", way: Callable[[Job, str], None], job: Job) -> None:
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        way(job, folder)
    pipe.send((peak_megabytes(), time.perf_counter() - begin))


def measure(way: Callable[[Job, str], None], job: Job) -> tuple[float, float]:
    """Megabytes and seconds of one package in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    with here, there:
        process = context.Process(target=measured, args=(there, way, job))
        process.start()
        process.join()
        result: tuple[float, float] = here.recv()
    return result


def main(counts: list[int]) -> int:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["ckanpackager.jobs.worker"])
    peaks = []
    print(f"{'rows':>10}  {'way':26}  {'peak MB':>8}  {'rows/s':>9}")
    for count in counts:
        with Ckan([specimens(count)]) as ckan:
            form = {"resource_id": SPECIMENS, "email": "a@localhost.example", "api_url": ckan.api_url}
            job = Job.from_form("package_datastore", Form(form))
            for way in (as_the_worker_does, reading_everything_first):
                megabytes, seconds = measure(way, job)
                name, speed = way.__name__.replace("_", " "), count / seconds
                print(f"{count:>10,}  {name:26}  {megabytes:>8.1f}  {speed:>9,.0f}")
                if way is as_the_worker_does:
                    peaks.append(megabytes)
    print(f"The worker's peak grew by {peaks[-1] - peaks[0]:.1f} MB; the limit is {LIMIT} MB.")
    return 0 if max(peaks) < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main([int(count) for count in sys.argv[1:]] or list(ROWS)))
