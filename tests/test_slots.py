"""So many requests to one host at once, in all processes together."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest

from ckanpackager.demo.ckan import PENGUINS
from ckanpackager.sources import slots
from ckanpackager.sources.slots import Slots
from tests.conftest import StartService
from tests.fake_ckan import FakeCkan, a_download, a_page
from tests.services import Service

URL = "http://ckan.example:5000/api"


def hold_and_wait(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with Slots(folder, 1).one(URL):
        ready.set()
        signal.pause()


def test_a_slot_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold_and_wait, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(20)
    got = threading.Event()

    def wait_for_a_slot() -> None:
        with Slots(tmp_path, 1).one(URL):
            got.set()

    waiting = threading.Thread(target=wait_for_a_slot)
    waiting.start()
    with Slots(tmp_path, 1).one("http://other.example/api"):
        pass  # another host has slots of its own
    assert not got.is_set()
    assert holder.pid
    os.kill(holder.pid, signal.SIGKILL)
    assert got.wait(20)
    waiting.join()
    holder.join()
    holder.close()


def test_no_more_requests_are_under_way_than_a_ckan_is_to_bear(
    start_service: StartService, ckan: FakeCkan
) -> None:
    service = start_service(CKAN_REQUESTS=2, JOBS_PER_ADDRESS=0, PAGES_AT_ONCE=4, FAST_WORKERS=3, PAGE_SIZE=5)
    gate = ckan.hold(times=None, when=a_page)
    jobs = [
        service.submit(
            resource_id=PENGUINS, api_url=ckan.api_url, email=f"v{number}@localhost.example", q=word
        )
        for number, word in enumerate(("Adelie", "Gentoo", "Chinstrap"))
    ]
    ckan.wait_for(2, when=a_page)
    wait_until_one_waits_for_a_lock(service)
    assert len(ckan.pages) == 2
    gate.open()
    for job_id in jobs:
        assert service.wait_for(job_id)["state"] == "done"
    assert ckan.most_at_once == 2


def test_a_file_that_is_being_fetched_is_a_request_under_way(
    start_service: StartService, ckan: FakeCkan
) -> None:
    service = start_service(CKAN_REQUESTS=1)
    gate = ckan.hold(when=a_download)
    jobs = [
        service.submit("package_url", resource_id=name, resource_url=ckan.upload(f"{name}.csv", b"1,2"))
        for name in ("first", "second")
    ]
    gate.reached()
    wait_until_one_waits_for_a_lock(service)
    assert len(ckan.requests) == 1
    gate.open()
    for job_id in jobs:
        assert service.wait_for(job_id)["state"] == "done"
    assert ckan.most_at_once == 1


def test_who_waits_for_a_slot_says_so_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_SECONDS_BETWEEN", 0.001)
    said, got = threading.Semaphore(0), threading.Event()

    def wait_for_a_slot() -> None:
        with Slots(tmp_path, 1).one(URL, said.release):
            got.set()

    waiting = threading.Thread(target=wait_for_a_slot)
    with Slots(tmp_path, 1).one(URL):
        waiting.start()
        for _ in range(3):
            assert said.acquire(timeout=20)
        assert not got.is_set()
    assert got.wait(20)
    waiting.join()


def wait_until_one_waits_for_a_lock(service: Service) -> None:
    """The kernel lists who waits for whose lock (proc_locks(5))."""
    for _ in range(100_000):
        workers = service.worker_pids()
        for line in Path("/proc/locks").read_text().splitlines():
            if "->" in line and "FLOCK" in line and int(line.split()[5]) in workers:
                return
    raise AssertionError("no worker waits for a slot")
