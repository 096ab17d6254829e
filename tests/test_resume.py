"""A package whose worker dies is gone on with from the newest checkpoint, and is what it would have been."""

import asyncio
import contextlib
import csv
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import os
import select
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager import checkpoint, faults, packager
from ckanpackager.archive import CommandArchive, ZipArchive
from ckanpackager.checkpoint import Checkpoint, Checkpoints
from ckanpackager.demo.ckan import PENGUINS
from ckanpackager.demo.table import Resource
from ckanpackager.errors import CheckpointError, SourceUnavailableError
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.jobs import messages, pools
from ckanpackager.jobs.pools import forkserver
from ckanpackager.packager import package
from ckanpackager.settings import Settings
from ckanpackager.sources.base import Field, Position
from ckanpackager.sources.http import Client
from ckanpackager.store import Package, Store
from ckanpackager.writers import CsvWriter
from tests.fake_ckan import FakeCkan, a_page, rows_after
from tests.services import TIMEOUT
from tests.test_archive import CHECKERS, ZIP, run
from tests.test_pools import Stage, stage
from tests.test_table import Bench

__all__ = ["stage"]

EVERY_ROW = list(range(1, 345))
CHECKPOINTS = "_SECONDS_BETWEEN"


class Silence:
    """A report that nobody reads."""

    def planned(self, rows: int | None, size: int | None, before: int = 0) -> None: ...

    def progress(self, rows: int, size: int) -> None: ...

    def alive(self) -> None: ...


@dataclasses.dataclass
class Mortal(Silence):
    """Dies when so many rows have come; or then at the point of a fault, if one is given."""

    rows: int
    point: str | None
    faults: Path

    def progress(self, rows: int, size: int) -> None:
        if rows >= self.rows and self.point is None:
            os.kill(os.getpid(), signal.SIGKILL)
        elif rows >= self.rows and not (self.faults / str(self.point)).is_symlink():
            faults.plant(self.faults, str(self.point))


def make_and_die(job: Job, settings: Settings, report: Mortal) -> None:
    """The life of a worker that makes a checkpoint after every page."""
    setattr(checkpoint, CHECKPOINTS, 0.0)
    os.environ[faults.ENVIRONMENT] = str(report.faults)
    faults.switch_on()
    store = Store(settings.STORE_DIRECTORY, settings.TEMP_DIRECTORY)
    package(job, store, "j", "first", settings, report)


class Attempts:
    """Attempts at one job, ``j``."""

    def __init__(self, folder: Path, ckan: FakeCkan) -> None:
        self.ckan = ckan
        self.settings = Settings.from_mapping(
            {
                "SECRET": "of these tests",
                "STORE_DIRECTORY": str(folder / "store"),
                "TEMP_DIRECTORY": str(folder / "temp"),
                "PAGE_SIZE": 10,
            }
        )
        self.store = Store(self.settings.STORE_DIRECTORY, self.settings.TEMP_DIRECTORY)
        self.store.prepare()
        self._faults = folder / "faults"
        self._faults.mkdir()

    def job(self, task: str = "package_datastore", **parameters: Any) -> Job:
        form = {"resource_id": PENGUINS, "email": "a@localhost.example", "api_url": self.ckan.api_url}
        return Job.from_form(task, Form({**form, **parameters}))

    def die(self, job: Job, rows: int = 60, point: str | None = None) -> None:
        """Make one that is killed when so many rows have come. What it asked for is forgotten."""
        report = Mortal(rows, point, self._faults)
        process = forkserver.Process(target=make_and_die, args=(job, self.settings, report))
        process.start()
        process.join(TIMEOUT)
        assert process.exitcode == -signal.SIGKILL
        self.store.discard("first", "none.zip")
        self.ckan.requests.clear()

    def left(self, job: Job) -> Checkpoint:
        """Where the one that died can be gone on with."""
        found = Checkpoints(self.draft / "checkpoint", job.cache_key).read()
        assert found is not None
        return found

    @property
    def draft(self) -> Path:
        """The only draft that there is."""
        (draft,) = self.store.folder.glob(".drafts/*")
        return draft

    def live(self, job: Job, token: str = "last", **settings: Any) -> Package:
        """Make one that ends well. Nothing but the package may be left."""
        made = package(job, self.store, "j", token, dataclasses.replace(self.settings, **settings), Silence())
        assert list(self.store.folder.glob(".drafts/*")) + list(self.store.scratch.iterdir()) == []
        return made

    def content(self, made: Package) -> bytes:
        with zipfile.ZipFile(self.store.path(made.zip_file_name)) as archive:
            assert archive.testzip() is None
            (name,) = archive.namelist()
            return archive.read(name)

    def ids(self, made: Package) -> list[int]:
        text = self.content(made).decode()
        _, *rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in text[:20] else ",")
        assert made.rows == len(rows)
        return [int(row[0]) for row in rows]


@pytest.fixture
def attempts(tmp_path: Path, ckan: FakeCkan) -> Attempts:
    return Attempts(tmp_path, ckan)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a checkpoint after every page that this process reads."""
    monkeypatch.setattr(checkpoint, CHECKPOINTS, 0.0)


# ------------------------------------------------------------- it is gone on with


@pytest.mark.parametrize("format_", ["csv", "tsv"])
@pytest.mark.parametrize(
    "point", [None, "checkpoint.marked", "checkpoint.written", "draft.written", "draft.synced"]
)
def test_the_successor_of_a_killed_worker_asks_only_for_the_rows_after_the_checkpoint(
    attempts: Attempts, ckan: FakeCkan, format_: str, point: str | None
) -> None:
    job = attempts.job(format=format_)
    attempts.die(job, point=point)
    position = attempts.left(job).position
    assert position.rows == position.reached
    assert position.rows >= (60 if point == "checkpoint.written" else 344 if point in DRAFTS else 10)
    made = attempts.live(job)
    assert min(ckan.asked_after, default=344) == position.reached
    assert attempts.ids(made) == EVERY_ROW
    path = attempts.store.path(made.zip_file_name)
    assert (made.size, made.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert attempts.content(made) == attempts.content(attempts.live(job, "unbroken"))


DRAFTS = ("draft.written", "draft.synced")


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_unpacker_takes_a_package_that_was_gone_on_with_again_and_again(
    attempts: Attempts, checker: str
) -> None:
    job = attempts.job()
    for rows in (20, 100, 200, 340):
        attempts.die(job, rows)
    made = attempts.live(job)
    assert attempts.ids(made) == EVERY_ROW
    run(CHECKERS[checker], attempts.store.path(made.zip_file_name))


@pytest.mark.parametrize(
    "asked",
    [
        {"offset": 9, "limit": 200},
        {"filters": {"Island": ["Biscoe", "Dream"]}, "q": "Gentoo"},
        {"fields": "Species,Island"},
        {"distinct": True},
        {"sort": "_id"},
    ],
)
def test_whatever_is_asked_for_by_ranges_is_gone_on_with(
    attempts: Attempts, ckan: FakeCkan, asked: dict[str, Any]
) -> None:
    job = attempts.job(**asked)
    attempts.die(job, 40)
    reached = attempts.left(job).position.reached
    made = attempts.live(job)
    assert min(ckan.asked_after) == reached
    assert attempts.content(made) == attempts.content(attempts.live(job, "unbroken"))


def test_a_source_that_goes_away_in_mid_reading_costs_what_came_after_the_checkpoint_alone(
    attempts: Attempts, ckan: FakeCkan, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packager, "Client", functools.partial(Client, pauses=()))
    ckan.status(503, times=None, when=rows_after(60))
    with pytest.raises(SourceUnavailableError):
        attempts.live(attempts.job(), "first")
    reached = attempts.left(attempts.job()).position.reached
    ckan.behave()
    ckan.requests.clear()
    assert attempts.ids(attempts.live(attempts.job())) == EVERY_ROW
    assert min(ckan.asked_after) == reached >= 10


# ------------------------------------------------------------- rows that come, go and change meanwhile


def insert(resource: Resource) -> None:
    resource.insert(*[[None] * len(resource.columns)] * 50)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (insert, EVERY_ROW),  # they belong to the next package
        (lambda resource: resource.delete(300, 343), [id for id in EVERY_ROW if id not in (300, 343)]),
        (lambda resource: resource.delete(*range(250, 345)), list(range(1, 250))),
        (lambda resource: (resource.delete(344), insert(resource)), list(range(1, 344))),
        (lambda resource: resource.update(300, {"Island": "Elephant"}), EVERY_ROW),
    ],
)
def test_rows_that_come_or_go_after_the_checkpoint_are_neither_lost_nor_twice(
    attempts: Attempts, ckan: FakeCkan, change: Callable[[Resource], Any], expected: list[int]
) -> None:
    attempts.die(attempts.job())
    reached = attempts.left(attempts.job()).position.reached
    change(ckan.resources[PENGUINS])
    assert attempts.ids(attempts.live(attempts.job())) == expected
    assert min(ckan.asked_after) == reached


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda resource: resource.delete(1), EVERY_ROW[1:]),
        (lambda resource: resource.delete(5, 300), [id for id in EVERY_ROW if id not in (5, 300)]),
        (lambda resource: resource.delete(*EVERY_ROW[:-1]), [344]),
        (lambda resource: resource.delete(*EVERY_ROW), []),
        (lambda resource: (resource.delete(*EVERY_ROW), insert(resource)), list(range(345, 395))),
    ],
)
def test_where_rows_that_had_been_read_are_gone_it_is_begun_anew(
    attempts: Attempts, ckan: FakeCkan, change: Callable[[Resource], Any], expected: list[int]
) -> None:
    attempts.die(attempts.job())
    change(ckan.resources[PENGUINS])
    assert attempts.ids(attempts.live(attempts.job())) == expected


def test_another_table_with_the_same_columns_is_read_from_its_beginning(
    attempts: Attempts, ckan: FakeCkan
) -> None:
    attempts.die(attempts.job())
    columns = ckan.resources[PENGUINS].columns
    values = [f"{len(columns)}" if column.type == "text" else None for column in columns]
    ckan.add(Resource(PENGUINS, columns, [values] * 344))
    made = attempts.live(attempts.job())
    assert attempts.content(made) == attempts.content(attempts.live(attempts.job(), "unbroken"))


@pytest.mark.parametrize("more", [0, 50])
@pytest.mark.parametrize("trouble", [FakeCkan.lose_rows, FakeCkan.repeat_rows])
def test_what_is_gone_on_with_must_be_proven_complete_too(
    attempts: Attempts,
    ckan: FakeCkan,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[..., None],
    more: int,
) -> None:
    attempts.die(attempts.job())
    trouble(ckan, when=rows_after(100))
    if more:  # they do not make up for what is missing, nor for what is too much
        insert(ckan.resources[PENGUINS])
    assert attempts.ids(attempts.live(attempts.job())) == list(range(1, 345 + more))
    assert "It is read again." in caplog.text
    assert 0 in ckan.asked_after


# ------------------------------------------------------------- what cannot be trusted is not


def cut_the_part(attempts: Attempts) -> None:
    os.truncate(attempts.draft / "draft.zip", attempts.left(attempts.job()).mark.offset - 1)


def damage_the_checkpoint(attempts: Attempts) -> None:
    path = attempts.draft / "checkpoint"
    path.write_bytes(path.read_bytes().replace(b'"reached": ', b'"reached": 1'))


def add_a_column(attempts: Attempts) -> None:
    old = attempts.ckan.resources[PENGUINS]
    rows = [[old.table.value(n, column.id) for column in old.columns] for n in range(344)]
    attempts.ckan.add(Resource(PENGUINS, [*old.columns, ("new", "text")], [[*row, "x"] for row in rows]))


def change_a_type(attempts: Attempts) -> None:
    old = attempts.ckan.resources[PENGUINS]
    rows = [[old.table.value(n, column.id) for column in old.columns] for n in range(344)]
    fields = [(column.id, "text" if column.id == "Sample Number" else column.type) for column in old.columns]
    attempts.ckan.add(Resource(PENGUINS, fields, [list(map(_text, row)) for row in rows]))


def _text(value: Any) -> Any:
    return None if value is None else str(value)


def make_it_an_older_ckan(attempts: Attempts) -> None:
    attempts.ckan.version = "2.11.6"


def change_the_last_row(attempts: Attempts) -> None:
    last = attempts.left(attempts.job()).position.reached
    attempts.ckan.resources[PENGUINS].update(last, {"Island": "Elephant"})


DISTRUST: list[tuple[str, Callable[[Attempts], Any]]] = [
    ("The part is shorter than the checkpoint says.", cut_the_part),
    ("The checkpoint is damaged.", damage_the_checkpoint),
    ("CKAN has other columns now.", add_a_column),
    ("CKAN has other columns now.", change_a_type),
    ("CKAN can no longer be read by ranges of ids.", make_it_an_older_ckan),
    (
        "CKAN no longer has the rows that had come.",
        lambda attempts: attempts.ckan.resources[PENGUINS].delete(1),
    ),
    ("CKAN no longer has the rows that had come.", change_the_last_row),
]


@pytest.mark.parametrize(("reason", "trouble"), DISTRUST)
def test_what_cannot_be_trusted_is_begun_anew_and_the_log_says_why(
    attempts: Attempts, caplog: pytest.LogCaptureFixture, reason: str, trouble: Callable[[Attempts], Any]
) -> None:
    attempts.die(attempts.job())
    trouble(attempts)
    made = attempts.live(attempts.job())
    assert f"{PENGUINS} {reason} It is read again." in caplog.text
    assert attempts.content(made) == attempts.content(attempts.live(attempts.job(), "unbroken"))


@pytest.mark.parametrize("name", ["draft.zip", "checkpoint"])
def test_what_is_only_half_there_is_begun_anew(attempts: Attempts, ckan: FakeCkan, name: str) -> None:
    attempts.die(attempts.job())
    (attempts.draft / name).unlink()
    made = package(attempts.job(), attempts.store, "j", "last", attempts.settings, Silence())
    assert attempts.ids(made) == EVERY_ROW
    assert min(ckan.asked_after) == 0


def test_what_another_version_left_is_not_gone_on_with(
    attempts: Attempts, ckan: FakeCkan, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts.die(attempts.job())
    monkeypatch.setattr(checkpoint, "_LAYOUT", checkpoint._LAYOUT + 1)
    assert attempts.ids(attempts.live(attempts.job())) == EVERY_ROW
    assert "The checkpoint is another version's. It is read again." in caplog.text
    assert min(ckan.asked_after) == 0


def test_what_another_request_left_is_not_gone_on_with(
    attempts: Attempts, ckan: FakeCkan, caplog: pytest.LogCaptureFixture
) -> None:
    attempts.die(attempts.job())
    assert attempts.ids(attempts.live(attempts.job(limit=300))) == EVERY_ROW[:300]
    assert "The checkpoint is another request's. It is read again." in caplog.text
    assert min(ckan.asked_after) == 0


def test_what_is_packed_by_a_command_now_is_begun_anew(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    if not os.path.exists(ZIP.split()[0]):
        pytest.skip("zip is not installed")
    attempts.die(attempts.job())
    assert attempts.ids(attempts.live(attempts.job(), ZIP_COMMAND=ZIP)) == EVERY_ROW
    assert "ZIP_COMMAND packs now. It is read again." in caplog.text


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        ({"format": "xlsx"}, "2.12.0"),
        ({"task": "package_dwc_archive"}, "2.12.0"),
        ({"sort": "Island"}, "2.12.0"),
        ({}, "2.11.6"),
    ],
)
def test_other_ways_of_reading_and_packing_are_begun_anew(
    attempts: Attempts, ckan: FakeCkan, asked: dict[str, Any], version: str
) -> None:
    ckan.version = version
    attempts.die(attempts.job(**asked), 200)
    assert list(attempts.store.folder.glob(".drafts/*")) == []
    assert attempts.live(attempts.job(**asked)).rows == 344


def test_what_a_writer_keeps_to_itself_is_no_part_of_a_checkpoint(
    attempts: Attempts, ckan: FakeCkan, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packager, "Client", functools.partial(Client, pauses=()))
    monkeypatch.setattr(CsvWriter, "keeps_nothing", False)
    ckan.status(503, times=None, when=rows_after(60))
    with pytest.raises(SourceUnavailableError):
        attempts.live(attempts.job())
    assert list(attempts.store.folder.glob(".drafts/*")) == []


# ------------------------------------------------------------- the checkpoint itself


POSITION = Position((Field("_id", "int"), Field("ö")), 1, 344, 344, 10, 10, "0" * 64)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[ZipArchive]:
    archive = ZipArchive(tmp_path / "draft.zip")
    archive.member("resource.csv").write(b"rows")
    yield archive
    archive.discard()


def test_a_checkpoint_is_made_every_few_seconds_and_no_oftener(tmp_path: Path, archive: ZipArchive) -> None:
    now = 1000.0
    checkpoints = Checkpoints(tmp_path / "checkpoint", "r", lambda: now)
    assert not checkpoints.is_due
    now += 4.9
    assert not checkpoints.is_due
    now += 0.2
    assert checkpoints.is_due
    checkpoints.write(POSITION, archive)
    assert not checkpoints.is_due
    now += 5.1
    assert checkpoints.is_due


def test_a_checkpoint_reads_back(tmp_path: Path, archive: ZipArchive) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoint", "r")
    assert checkpoints.read() is None
    checkpoints.write(POSITION, archive)
    read = checkpoints.read()
    assert read is not None
    assert read.position == POSITION
    assert read.mark.offset == (tmp_path / "draft.zip").stat().st_size
    assert [header.name for header in read.mark.headers] == [b"resource.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "draft.zip"]
    checkpoints.drop()
    checkpoints.drop()
    assert checkpoints.read() is None


def test_what_a_checkpoint_holds_is_what_its_layout_says(tmp_path: Path, archive: ZipArchive) -> None:
    """Whoever changes this counts up the layout, so that an older checkpoint is not taken for a newer one."""
    Checkpoints(tmp_path / "checkpoint", "r").write(POSITION, archive)
    held = json.loads((tmp_path / "checkpoint").read_bytes().partition(b"\n")[2])
    position, mark = held["position"], held["mark"]
    assert list(held) == ["layout", "request", "position", "mark"]
    assert list(position) == ["fields", "first", "last", "total", "reached", "rows", "last_row"]
    assert list(position["fields"][0]) == ["id", "type"]
    assert list(mark) == ["offset", "headers"]
    assert list(mark["headers"][0]) == ["name", "method", "stamp", "offset", "crc", "size", "packed"]
    assert held["layout"] == 1


def test_what_packs_by_a_command_has_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoint", "r")
    packed = CommandArchive(tmp_path / "package.zip", ZIP)
    packed.member("resource.csv").write(b"rows")
    checkpoints.write(POSITION, packed)
    packed.discard()
    assert checkpoints.read() is None


@given(st.data())
def test_a_checkpoint_that_was_changed_anywhere_is_not_trusted(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoints = Checkpoints(folder / "checkpoint", "r")
    archive = ZipArchive(folder / "draft.zip")
    archive.member("resource.csv").write(b"rows")
    checkpoints.write(POSITION, archive)
    archive.discard()
    content = (folder / "checkpoint").read_bytes()
    start = data.draw(st.integers(0, len(content) - 1))
    stop = data.draw(st.integers(start, len(content)))
    changed = content[:start] + data.draw(st.binary(max_size=20)) + content[stop:]
    (folder / "checkpoint").write_bytes(changed)
    if changed != content:
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.read()


# ------------------------------------------------------------- who keeps it, and how long


def live_with_checkpoints(pipe: Any, settings: Settings, task: messages.Task) -> None:
    setattr(checkpoint, CHECKPOINTS, 0.0)
    importlib.import_module("ckanpackager.jobs.worker").main(pipe, settings, task)


@pytest.fixture
def with_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the workers of the stage make a checkpoint after every page."""
    monkeypatch.setattr(pools, "_live", live_with_checkpoints)


def drafts(stage: Stage) -> list[Path]:
    return list(stage.bench.store.folder.glob(".drafts/*"))


async def until_half_done(stage: Stage, **parameters: Any) -> str:
    """Return when the job has a checkpoint and stands still. What it asked for is forgotten."""
    stage.ckan.hold(when=rows_after(100))
    job_id = stage.accept(**parameters)
    await stage.tick()
    # It asks for this page when it has written the last but one before it.
    await asyncio.to_thread(stage.ckan.wait_for, 1, rows_after(100))
    assert list(map(has_checkpoint, drafts(stage))) == [True]
    stage.ckan.requests.clear()
    return job_id


def has_checkpoint(draft: Path) -> bool:
    return (draft / "checkpoint").exists()


def kill(stage: Stage) -> None:
    (run,) = stage.running()
    os.kill(run.child.pid, signal.SIGKILL)


def whole(stage: Stage) -> list[str]:
    (path,) = stage.bench.store.folder.glob("*.zip")
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("resource.csv").decode().splitlines()[1:]
    return [line.partition(",")[0] for line in lines]


def test_a_killed_worker_is_followed_by_one_that_goes_on(
    stage: Callable[..., None], with_checkpoints: None
) -> None:
    async def scene(stage: Stage) -> None:
        job_id = await until_half_done(stage)
        gate = stage.ckan.hold(when=rows_after(10))
        kill(stage)
        await stage.until(lambda: any(run.progress.rows_before for run in stage.running()))
        (run,) = stage.running()
        assert run.progress.rows == run.progress.rows_before >= 10
        gate.open()
        await stage.until(lambda: stage.bench.state(job_id) == "built")
        assert min(stage.ckan.asked_after) >= 10
        assert whole(stage) == list(map(str, EVERY_ROW))
        await stage.until(lambda: not stage.running())
        assert drafts(stage) == []

    stage(scene, PAGE_SIZE=10, PAGES_AT_ONCE=1)


def test_a_stop_and_a_start_lose_no_more_than_a_kill(
    stage: Callable[..., None], with_checkpoints: None
) -> None:
    async def scene(stage: Stage) -> None:
        job_id = await until_half_done(stage)
        stage.supervisor.stop(grace=0)
        await stage.until(lambda: not stage.running())
        assert stage.bench.state(job_id) == "queued"
        await stage.database(stage.bench.table.recover, stage.now)
        stage.supervisor._stopping = False
        await stage.until(lambda: stage.bench.state(job_id) == "built")
        assert min(stage.ckan.asked_after) >= 10
        assert whole(stage) == list(map(str, EVERY_ROW))

    stage(scene, PAGE_SIZE=10, PAGES_AT_ONCE=1)


def test_a_job_that_fails_leaves_nothing_and_a_retry_begins_anew(
    stage: Callable[..., None], with_checkpoints: None
) -> None:
    async def scene(stage: Stage) -> None:
        job_id = await until_half_done(stage)
        kill(stage)
        await stage.until(lambda: not stage.running())
        assert stage.bench.state(job_id) == "failed"
        assert drafts(stage) == []
        await stage.queue().retry(job_id)
        await stage.until(lambda: stage.bench.state(job_id) == "built")
        assert min(stage.ckan.asked_after) == 0
        await stage.until(lambda: not stage.running())
        assert drafts(stage) == []

    stage(scene, PAGE_SIZE=10, PAGES_AT_ONCE=1, MAX_ATTEMPTS=1)


@pytest.mark.parametrize("when", ["running", "queued"])
def test_a_job_that_is_cancelled_leaves_nothing(
    stage: Callable[..., None], with_checkpoints: None, when: str
) -> None:
    async def scene(stage: Stage) -> None:
        job_id = await until_half_done(stage)
        if when == "queued":
            stage.supervisor.stop(grace=0)
            await stage.until(lambda: not stage.running())
            assert list(map(has_checkpoint, drafts(stage))) == [True]
        await stage.queue().cancel(job_id)
        await stage.until(lambda: not stage.running())
        assert drafts(stage) == []

    stage(scene, PAGE_SIZE=10, PAGES_AT_ONCE=1)


@pytest.mark.parametrize(
    ("message", "waited", "kept"),
    [
        (messages.Slow(5000), 0, True),
        (messages.Delayed("away"), 0, True),
        (messages.Delayed("away"), 10**9, False),
        (messages.Failed("no"), 0, False),
        (messages.Built(Package("r.zip", "r.zip", 5, "0" * 64, 3)), 0, False),
    ],
)
@pytest.mark.parametrize("cancelled", [False, True])
def test_what_can_be_gone_on_with_is_kept_while_its_job_waits(
    stage: Callable[..., None], message: messages.Message, waited: int, kept: bool, cancelled: bool
) -> None:
    async def scene(stage: Stage) -> None:
        job_id = stage.accept()
        claim = stage.bench.claim(now=stage.now)
        if waited:
            stage.bench.table.source_unavailable(claim, "away", stage.now)
            claim = stage.bench.claim(now=stage.now + waited)
        leave_half(stage.bench, job_id, claim.lease)
        if cancelled:
            stage.bench.table.cancel(job_id, stage.now)
        await stage.supervisor._settle_job(claim, message, stage.now + waited)
        assert bool(drafts(stage)) == (kept and not cancelled)

    stage(scene)


def test_a_job_that_is_cancelled_as_its_process_could_not_start_leaves_nothing(
    stage: Callable[..., None],
) -> None:
    async def scene(stage: Stage) -> None:
        job_id = stage.accept()
        claim = stage.bench.claim(now=stage.now)
        leave_half(stage.bench, job_id, "earlier")
        await stage.queue().cancel(job_id)
        await stage.supervisor._not_started(claim, stage.now)
        assert drafts(stage) == []

    stage(scene)


def leave_half(bench: Bench, job_id: str, lease: str, size: int = 5) -> None:
    """Leave what a worker leaves that is killed after a checkpoint."""
    with contextlib.suppress(ZeroDivisionError), bench.store.draft(job_id, lease) as draft:
        draft.path.write_bytes(b"x" * size)
        draft.checkpoint.write_bytes(b"half")
        raise ZeroDivisionError


def test_a_start_keeps_what_waits_and_removes_what_does_not(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        bench = stage.bench
        jobs = {
            state: stage.accept(q=state) for state in ("running", "queued", "cancelled", "failed", "built")
        }
        claims = {state: bench.claim(now=stage.now) for state in jobs}
        for state, job_id in jobs.items():
            leave_half(bench, job_id, claims[state].lease)
        bench.table.hand_back(claims["queued"], "stopped", stage.now)
        bench.table.cancel(jobs["cancelled"], stage.now)
        bench.table.failed(claims["failed"], "no", stage.now)
        bench.build(claims["built"], stage.now)
        assert {state: bench.state(job_id) for state, job_id in jobs.items()} == {
            state: state for state in jobs
        }
        bench.table.recover(stage.now)
        left = {path.name.partition("-")[0] for path in drafts(stage)}
        assert left == {jobs["running"], jobs["queued"]}

    stage(scene)


def test_half_made_packages_count_and_make_room_when_no_package_can(stage: Callable[..., None]) -> None:
    async def scene(stage: Stage) -> None:
        bench = stage.bench
        announced = bench.finish(stage.now, q="announced")
        job_id = stage.accept(q="half")
        claim = bench.claim(now=stage.now)
        leave_half(bench, job_id, claim.lease, size=6)
        bench.table.hand_back(claim, "stopped", stage.now)
        await stage.supervisor.room.look(stage.now)
        assert bench.state(announced) == "expired"
        assert len(drafts(stage)) == 1
        leave_half(bench, job_id, "again", size=11)
        await stage.supervisor.room.look(stage.now + 1)
        assert drafts(stage) == []

    stage(scene, MAX_STORE_SIZE=10)


def test_a_job_that_was_cancelled_as_its_package_was_published_leaves_none(
    stage: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(stage: Stage) -> None:
        gate = stage.ckan.hold(when=a_page)
        job_id = stage.accept()
        await stage.until(lambda: any(run.progress.rows_total for run in stage.running()))
        (run,) = stage.running()
        gate.open()
        await asyncio.to_thread(select.select, run.child.waitables[-1:], [], [], TIMEOUT)
        assert len(list(stage.bench.store.folder.glob("*.zip"))) == 1
        monkeypatch.setattr(faults, "_folder", tmp_path)
        faults.plant(tmp_path, "cancel.committed", "EINTR")
        with pytest.raises(InterruptedError):  # here the service is killed
            await stage.queue().cancel(job_id)
        stage.supervisor.abandon()
        stage.bench.table.recover(stage.now)
        assert list(stage.bench.store.folder.glob("*.zip")) == []
        assert stage.bench.state(job_id) == "cancelled"
        lease = stage.bench.database.execute_sql("select lease from jobs").fetchone()
        assert lease == (None,)

    stage(scene)
