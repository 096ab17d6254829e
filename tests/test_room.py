"""Disks that fill up: what makes room, what waits, and what fails alone."""

import contextlib
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ckanpackager.errors import UnavailableError
from ckanpackager.jobs.pools import FAST, MAIL
from ckanpackager.jobs.room import free
from tests.conftest import StartService
from tests.fake_ckan import FakeCkan
from tests.services import TIMEOUT, Service, children
from tests.test_pools import Stage, stage
from tests.test_service import ask, leftovers, visit

__all__ = ["stage"]

MEGABYTE = 1_000_000
NO_ROOM = (
    "There was not enough room on the service's disk for the package. "
    "Please ask for it again later, or for fewer rows."
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of ten megabytes, where the store will be."""
    folder = tmp_path / "service" / "store"
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=10m,mode=755", "ckanpackager-test", folder],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    # The service has it open until the very end.
    subprocess.run(["umount", "--lazy", folder], check=True)


def names(service: Service) -> list[str]:
    return [path.name for path in service.store.glob("*.zip")]


def put(ckan: FakeCkan, name: str, megabytes: float) -> dict[str, Any]:
    """What to ask for to have a package of that size."""
    url = ckan.upload(f"{name}.bin", os.urandom(int(megabytes * MEGABYTE)))
    return {"task": "package_url", "resource_id": name, "resource_url": url}


# ------------------------------------------------------------- too little is free


def test_where_room_is_short_nothing_is_begun_or_accepted(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        job_id = stage.accept()
        queue = stage.queue()
        await stage.tick()
        assert not stage.running(FAST)
        job = await queue.view(job_id)
        assert (job["state"], job["waits_for"]) == ("queued", "disk")
        assert job["error"] == (
            "The service has too little room on its disk at the moment. It goes on when there is more."
        )
        with pytest.raises(UnavailableError, match=r"too little room .* Please try again later\.$"):
            await queue.submit(stage.bench.job(q="x"))
        assert (await queue.counts())["queue_length"] == 1
        shortage = (await queue.counts())["shortage"]
        assert re.fullmatch(
            r"STORE_DIRECTORY: \S+ \wB are free on the disk of .*, less than MIN_FREE_SPACE \(1.2 EB\)\.",
            shortage,
        )

    stage(scene, MIN_FREE_SPACE=2**60)


def test_mails_go_out_where_room_is_short(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.accept()
        stage.bench.build(stage.bench.claim(now=stage.now), stage.now)
        await stage.tick()
        assert stage.running(MAIL)

    stage(scene, MIN_FREE_SPACE=2**60)


def test_a_folder_that_has_gone_is_a_shortage_too(stage: Callable[..., None], tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        job_id = stage.accept()
        await stage.tick()
        assert stage.bench.state(job_id) == "queued"
        assert "No such file or directory" in str(stage.supervisor.room.shortage)
        (tmp_path / "elsewhere").rename(tmp_path / "store")
        stage.now += 1
        await stage.until(lambda: stage.bench.state(job_id) == "built")

    stage(scene)


def test_a_small_disk_is_kept_free_as_long_as_that_can_be(
    start_service: StartService, small_disk: Path, ckan: FakeCkan
) -> None:
    service = start_service(MIN_FREE_SPACE=4 * MEGABYTE)
    jobs = {}
    for name in ("a", "b", "c"):
        jobs[name] = service.submit(**put(ckan, name, 2.5))
        service.wait_for(jobs[name], "done")
    # The third left too little: the first had to go, and its visitor has had it for longest.
    service.wait_for_log(rf"job {jobs['a']} expired: the package was removed to make room")
    service.wait_for_log("packages removed to make room: 1, 2.5 MB")
    assert sorted(name[0] for name in names(service)) == ["b", "c"]
    assert free(small_disk) >= 4 * MEGABYTE

    # What we may not remove fills the disk.
    (small_disk / "somebody-elses").write_bytes(bytes(3 * MEGABYTE))
    while len(names(service)) > 1:
        pass
    after = len(service.lines)
    (small_disk / "more").write_bytes(bytes(4 * MEGABYTE))
    service.wait_for_log("no job is begun or accepted until there is more room: STORE_DIRECTORY", after)
    service.wait_for_log(rf"job {jobs['c']} expired")
    refused = service.post("/package_datastore", email="a@localhost.example", **ask(ckan))
    assert (refused.status_code, refused.json()["error"]) == (503, "UnavailableError")
    assert int(refused.headers["Retry-After"]) > 0
    assert "MIN_FREE_SPACE" in service.post("/status").json()["shortage"]
    after = len(service.lines)
    (small_disk / "more").unlink()
    (small_disk / "somebody-elses").unlink()
    service.wait_for_log("there is room again", after)
    service.wait_for(service.submit(**ask(ckan)), "done")
    assert service.post("/status").json()["shortage"] is None


def test_what_was_accepted_waits_for_room_and_says_so(
    start_service: StartService, small_disk: Path, ckan: FakeCkan
) -> None:
    service = start_service(MIN_FREE_SPACE=4 * MEGABYTE, FAST_WORKERS=1)
    gate = ckan.hold()
    first, second = service.submit(**ask(ckan)), service.submit(**ask(ckan, q="Adelie"))
    gate.reached()
    (small_disk / "somebody-elses").write_bytes(bytes(7 * MEGABYTE))
    service.wait_for_log("no job is begun or accepted until there is more room")
    gate.open()
    service.wait_for(first, "done")  # there was enough for what was under way
    assert "too little room" in visit(service, second, "Your package is waiting for its turn", refreshes=True)
    assert service.job(second)["waits_for"] == "disk"
    (small_disk / "somebody-elses").unlink()
    service.wait_for(second, "done")


# ------------------------------------------------------------- too much is kept


def test_more_than_the_cap_is_not_kept(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(MAX_STORE_SIZE=5 * MEGABYTE)
    jobs = []
    for name in ("a", "b", "c"):
        jobs.append(service.submit(**put(ckan, name, 2)))
        service.wait_for(jobs[-1], "done")
    service.wait_for_log(rf"job {jobs[0]} expired: the package was removed to make room")
    service.wait_for_log("packages removed to make room: 1")
    assert sorted(name[0] for name in names(service)) == ["b", "c"]
    visit(service, jobs[0], "Your package has been removed", refreshes=False)


def test_what_is_being_downloaded_is_spared(start_service: StartService, ckan: FakeCkan) -> None:
    service = start_service(MAX_STORE_SIZE=15 * MEGABYTE)
    first = service.submit(**put(ckan, "a", 10))
    url = service.wait_for(first, "done")["download_url"]
    with contextlib.closing(requests.get(url, stream=True, timeout=TIMEOUT)) as slow:
        next(slow.iter_content(1000))
        second = service.submit(**put(ckan, "b", 10))
        service.wait_for(second, "done")
        service.wait_for_log("packages removed to make room")
        assert [name[0] for name in names(service)] == ["a"]
        assert len(slow.content) > 9 * MEGABYTE
    third = service.submit(**put(ckan, "c", 10))
    service.wait_for(third, "done")
    service.wait_for_log(rf"job {first} expired: the package was removed to make room")


def test_a_mail_that_is_owed_keeps_its_package(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        stage.accept(q="x")
        await stage.database(stage.bench.build, await stage.database(stage.bench.claim, FAST, 1e9), 1)
        await stage.supervisor.room.look(stage.now)
        assert len(list(stage.bench.store.folder.glob("*.zip"))) == 1
        await stage.database(stage.bench.mail)
        await stage.supervisor.room.look(stage.now)  # not so soon
        await stage.supervisor.room.look(stage.now + 1)
        assert not list(stage.bench.store.folder.glob("*.zip"))

    stage(scene, MAX_STORE_SIZE=1)


# ------------------------------------------------------------- it runs out in mid-job


@pytest.mark.parametrize("what", ["csv", "tsv", "xlsx", "a file"])
def test_a_job_that_fills_the_disk_fails_alone(
    start_service: StartService, small_disk: Path, ckan: FakeCkan, what: str
) -> None:
    service = start_service(MIN_FREE_SPACE=0)
    kept = service.submit(**ask(ckan, q="Adelie"))
    service.wait_for(kept, "done")
    filler = small_disk / "somebody-elses"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    larger = put(ckan, "big", 1) if what == "a file" else ask(ckan, format=what)
    job = service.wait_for(service.submit(**larger))
    assert (job["state"], job["error"]) == ("failed", NO_ROOM)
    assert leftovers(service) == []
    assert len(names(service)) == 1
    filler.unlink()
    assert requests.get(service.job(kept)["download_url"], timeout=TIMEOUT).status_code == 200
    service.wait_for(service.submit(**ask(ckan)), "done")


@pytest.mark.parametrize("what", ["csv", "xlsx", "a file"])
def test_a_package_larger_than_a_file_may_be_fails_alone(
    start_service: StartService, ckan: FakeCkan, what: str
) -> None:
    service = start_service(CKAN_HOSTS=[f"{ckan.host}:{ckan.port}"])
    service.wait_for(service.submit(**ask(ckan)), "done")
    (forkserver,) = [pid for pid in children(service.process.pid) if children(pid) or is_forkserver(pid)]
    resource.prlimit(forkserver, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    larger = put(ckan, "big", 1) if what == "a file" else ask(ckan, format=what, q="Gentoo")
    job = service.wait_for(service.submit(**larger))
    assert (job["state"], job["error"]) == ("failed", NO_ROOM)
    assert leftovers(service) == []
    assert len(names(service)) == 1
    resource.prlimit(forkserver, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    service.wait_for(service.submit(**ask(ckan, q="Adelie")), "done")


def is_forkserver(pid: int) -> bool:
    return b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_what_is_measured_is_what_we_may_fill(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    assert free(tmp_path) == found.f_bavail * found.f_frsize
