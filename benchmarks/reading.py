"""What reading and packing costs our side, for a small and a large resource, beside the plain ways to do it.

    python -m benchmarks.reading [ROWS ...]

Each package is made by a process that is started as the service starts its workers, from a CKAN on this
machine that has a made-up table of 34 columns in memory. Printed are the CPU time of that process, all its
threads together, the most memory that it ever had in RAM (VmHWM), and the rows a second, which are mostly
those that this CKAN has to give. The plain ways read 300,000 rows at most.
"""

import csv
import io
import multiprocessing
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import requests

from benchmarks.processes import peak_megabytes, result_of
from ckanpackager.demo.ckan import Ckan
from ckanpackager.demo.specimens import SPECIMENS, specimens
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.jobs.worker import give_memory_back
from ckanpackager.packager import package
from ckanpackager.settings import Settings
from ckanpackager.store import Store, new_token

ROWS = (30_000, 300_000, 3_000_000)
ROUNDS = 3
MOST_FOR_PLAIN_WAYS = 300_000
PAGE = 5000
LIMIT = 128  # megabytes

Way = Callable[[Job, str], None]


class Silence:
    """Nobody wants to know how far a package is."""

    def planned(self, rows: int | None, size: int | None, before: int = 0) -> None: ...

    def progress(self, rows: int, size: int) -> None: ...

    def alive(self) -> None: ...


def as_the_worker_does(job: Job, folder: str) -> None:
    give_memory_back()
    settings = Settings.from_mapping({"SECRET": "of a benchmark"})
    store = Store(f"{folder}/store", f"{folder}/temp")
    store.prepare()
    package(job, store, new_token(), new_token(), settings, Silence())


def in_a_plain_loop(job: Job, folder: str) -> None:
    """Page after page of objects, written row by row: what one would write first."""
    assert job.api_url is not None
    offset = 0
    with (
        zipfile.ZipFile(f"{folder}/loop.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
        archive.open("resource.csv", "w", force_zip64=True) as member,
        io.TextIOWrapper(member, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text)
        while True:
            query = {"resource_id": job.resource_id, "offset": offset, "limit": PAGE, "sort": "_id"}
            result = requests.post(job.api_url, json=query, timeout=60).json()["result"]
            names = [field["id"] for field in result["fields"]]
            if offset == 0:
                writer.writerow(names)
            for record in result["records"]:
                writer.writerow([record[name] for name in names])
            offset += len(result["records"])
            if offset >= result["total"]:
                return


def reading_everything_first(job: Job, folder: str) -> None:
    """Bytes as they come, and packed at the end: quick, and all in memory."""
    assert job.api_url is not None
    text = io.StringIO()
    offset = 0
    query = {"resource_id": job.resource_id, "limit": PAGE, "records_format": "csv", "sort": "_id"}
    while records := requests.post(job.api_url, json={**query, "offset": offset}, timeout=60).json()[
        "result"
    ]["records"]:
        text.write(records)
        offset += PAGE
    with zipfile.ZipFile(f"{folder}/all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("resource.csv", text.getvalue())


PLAIN_WAYS: tuple[Way, ...] = (in_a_plain_loop, reading_everything_first)


def measured(pipe: "Connection[Any, Any]", way: Way, job: Job) -> None:
    begin, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        way(job, folder)
    pipe.send((time.process_time() - cpu, peak_megabytes(), time.perf_counter() - begin))


def measure(way: Way, job: Job) -> tuple[float, float, float]:
    """CPU seconds, megabytes and seconds of one package in a process of its own."""
    result: tuple[float, float, float] = result_of(
        multiprocessing.get_context("forkserver"), measured, way, job
    )
    return result


def main(counts: list[int]) -> int:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["ckanpackager.jobs.worker"])
    cpu: dict[tuple[int, str], float] = {}
    peaks: list[float] = []
    print(f"{'rows':>10}  {'way':26}  {'CPU s/million rows':>18}  {'peak MB':>8}  {'rows/s':>9}")
    for count in counts:
        with Ckan([specimens(count)]) as ckan:
            form = {"resource_id": SPECIMENS, "email": "a@localhost.example", "api_url": ckan.api_url}
            job = Job.from_form("package_datastore", Form(form))
            ways: tuple[Way, ...] = (as_the_worker_does,)
            if count <= MOST_FOR_PLAIN_WAYS:
                ways += PLAIN_WAYS
            rounds = [[measure(way, job) for way in ways] for _ in range(ROUNDS if len(ways) > 1 else 1)]
            for way, results in zip(ways, zip(*rounds, strict=True), strict=True):
                name = way.__name__.replace("_", " ")
                seconds, megabytes, elapsed = (
                    statistics.median(values) for values in zip(*results, strict=True)
                )
                cpu[count, way.__name__] = 1e6 * seconds / count
                if way is as_the_worker_does:
                    peaks.append(megabytes)
                print(
                    f"{count:>10,}  {name:26}  {cpu[count, way.__name__]:>18.2f}  {megabytes:>8.1f}"
                    f"  {count / elapsed:>9,.0f}",
                    flush=True,
                )
    return judge(cpu, peaks, counts)


def judge(cpu: dict[tuple[int, str], float], peaks: list[float], counts: list[int]) -> int:
    """Say how that compares with the goals; 1 if the memory is not as it must be."""
    ours = as_the_worker_does.__name__
    beside = max(count for count in counts if count <= MOST_FOR_PLAIN_WAYS)
    ratio = cpu[beside, in_a_plain_loop.__name__] / cpu[beside, ours]
    print(f"CPU of a plain loop / ours, {beside:,} rows: {ratio:.1f} (goal: at least 10)")
    if counts[-1] > beside:
        growth = cpu[counts[-1], ours] / cpu[beside, ours]
        print(f"CPU per row, {counts[-1]:,} rows / {beside:,}: {growth:.2f} (goal: at most 1.10)")
    print(
        f"The worker's peak: {max(peaks):.0f} MB (goal: under {LIMIT}); it grew by {peaks[-1] - peaks[0]:.1f} MB."
    )
    return 0 if max(peaks) < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main([int(count) for count in sys.argv[1:]] or list(ROWS)))
