"""The folder of finished packages."""

import hashlib
import os
import re
import stat
from pathlib import Path

import pytest

from ckanpackager.errors import SettingsError
from ckanpackager.job import Job
from ckanpackager.store import Package, Store, new_token, zip_file_name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", tmp_path / "temp")
    store.prepare()
    return store


def everything(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}


def die_in_mid_package(store: Store, *, checkpoint: bool = False) -> None:
    process = os.fork()
    if process == 0:
        with store.draft("j", "t") as draft:
            draft.path.write_bytes(b"half")
            draft.path.with_name("draft.zip.zip").write_bytes(b"half, of a ZIP_COMMAND")
            if checkpoint:
                draft.checkpoint.write_bytes(b"half")
            (draft.scratch / "folder").mkdir()
            (draft.scratch / "folder" / "file").write_bytes(b"half")
            os._exit(0)
    os.waitpid(process, 0)


def test_a_package_takes_its_name_only_when_it_is_whole(store: Store, tmp_path: Path) -> None:
    with store.draft("j", "t") as draft:
        draft.path.write_bytes(b"half")
        (draft.scratch / "sheet.xml").write_text("x")
        assert [path.name for path in store.folder.glob("[!.]*")] == []
        draft.path.write_bytes(b"whole")
        finished = draft.publish("r-t.zip", "r.zip", 3)
    assert finished == Package("r-t.zip", "r.zip", 5, hashlib.sha256(b"whole").hexdigest(), 3)
    assert everything(tmp_path) == {"store/r-t.zip"}
    assert store.holds("r-t.zip", 5)
    assert not store.holds("r-t.zip", 6)


def test_what_is_worth_knowing_stays_with_the_package(store: Store) -> None:
    with store.draft("j", "t") as draft:
        draft.path.write_bytes(b"whole")
        assert draft.publish("r-t.zip", "r.zip", 3, "2 rows had no date.").report == "2 rows had no date."


def test_a_package_is_on_the_disk_before_it_has_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens when the power fails cannot be tried here; the order of the system calls can be seen."""
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))

    def rename(old: Path, new: Path) -> None:
        calls.append(("rename", str(new)))
        os.replace(old, new)

    with store.draft("j", "t") as draft:
        draft.path.write_bytes(b"whole")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            patch.setattr(os, "rename", rename)
            draft.publish("r-t.zip", "r.zip", 3)
    name, folder = str(store.folder / "r-t.zip"), str(store.folder)
    assert calls == [("fsync", str(draft.path)), ("rename", name), ("fsync", folder)]


def test_nobody_else_sees_what_is_being_made(store: Store) -> None:
    with store.draft("j", "t") as draft:
        for folder in (draft.path.parent, draft.scratch, draft.scratch.parent):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_draft_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), store.draft("j", "t") as draft:
        draft.path.write_bytes(b"half")
        (draft.scratch / "sheet.xml").write_text("x")
        raise ZeroDivisionError
    assert everything(tmp_path) == set()


def test_all_that_an_attempt_left_is_found_by_its_token_and_its_job(store: Store, tmp_path: Path) -> None:
    die_in_mid_package(store, checkpoint=True)
    (store.folder / "r-t.zip").write_bytes(b"published")
    (store.folder / "r-other.zip").write_bytes(b"another")
    assert len(everything(tmp_path)) == 7
    store.discard("t", "r-t.zip")
    store.discard("t", "r-t.zip")
    draft = {f"store/.drafts/j-t/{name}" for name in (".lock", "draft.zip", "draft.zip.zip", "checkpoint")}
    assert everything(tmp_path) == {"store/r-other.zip", *draft}
    store.forget("j")
    store.forget("j")
    assert everything(tmp_path) == {"store/r-other.zip"}
    assert list((store.folder / ".drafts").iterdir()) == []


def test_a_draft_that_cannot_be_gone_on_with_goes_with_its_attempt(store: Store, tmp_path: Path) -> None:
    die_in_mid_package(store)
    store.discard("t", "r-t.zip")
    assert everything(tmp_path) == set()
    assert list((store.folder / ".drafts").iterdir()) == []


def test_a_later_attempt_takes_over_what_a_dead_one_left_to_go_on_with(store: Store, tmp_path: Path) -> None:
    die_in_mid_package(store, checkpoint=True)
    with store.draft("j", "u") as draft:
        assert (draft.path.read_bytes(), draft.checkpoint.read_bytes()) == (b"half", b"half")
        assert {path.name for path in draft.path.parent.parent.iterdir()} == {"j-u"}
        draft.path.write_bytes(b"whole")
        draft.publish("r-u.zip", "r.zip", 3)
    store.sweep()
    assert everything(tmp_path) == {"store/r-u.zip"}


@pytest.mark.parametrize(("job_id", "checkpoint"), [("j", False), ("k", True)])
def test_nothing_is_taken_over_without_a_checkpoint_or_from_another_job(
    store: Store, job_id: str, checkpoint: bool
) -> None:
    die_in_mid_package(store, checkpoint=checkpoint)
    with store.draft(job_id, "u") as draft:
        assert not draft.path.exists()


def test_what_a_living_attempt_writes_to_is_nobody_elses(store: Store) -> None:
    with store.draft("j", "t") as old:
        old.path.write_bytes(b"half")
        old.checkpoint.write_bytes(b"half")
        with store.draft("j", "u") as new:
            assert not new.path.exists()
            assert store.forgo_drafts(1) == 0
        assert old.path.read_bytes() == b"half"
        store.forget_all_but({"j"})
        with pytest.raises(FileNotFoundError):
            old.publish("r-t.zip", "r.zip", 3)
    assert list(store.folder.glob("*.zip")) == []


def test_a_draft_that_fails_is_kept_if_it_can_be_gone_on_with(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.draft("j", "t") as draft:
        draft.path.write_bytes(b"half")
        draft.checkpoint.write_bytes(b"half")
        raise ZeroDivisionError
    assert draft.path.exists()
    assert not draft.scratch.exists()


def test_drafts_that_wait_make_room_when_they_must_the_oldest_first(store: Store) -> None:
    for job_id, modified in (("new", 3), ("old", 1), ("middle", 2)):
        with pytest.raises(ZeroDivisionError), store.draft(job_id, "t") as draft:
            draft.path.write_bytes(b"12345")
            draft.checkpoint.write_bytes(b"half")
            os.utime(draft.path, (modified, modified))
            raise ZeroDivisionError
    assert store.drafted() == 15
    assert store.forgo_drafts(6) == 10
    assert [path.name for path in (store.folder / ".drafts").iterdir()] == ["new-t"]
    assert store.drafted() == 5


def test_what_is_left_beside_a_published_package_goes_with_its_attempt(store: Store, tmp_path: Path) -> None:
    process = os.fork()
    if process == 0:
        with store.draft("j", "t") as draft:
            draft.path.write_bytes(b"whole")
            draft.checkpoint.write_bytes(b"half")
            draft.publish("r-t.zip", "r.zip", 3)
            os._exit(0)
    os.waitpid(process, 0)
    store.discard("t", "r-t.zip")
    assert everything(tmp_path) == set()


@pytest.mark.parametrize(
    ("checkpoint", "waiting", "kept"), [(False, {"j"}, False), (True, set(), False), (True, {"j"}, True)]
)
def test_a_start_keeps_only_what_a_job_that_waits_can_go_on_with(
    store: Store, tmp_path: Path, checkpoint: bool, waiting: set[str], kept: bool
) -> None:
    die_in_mid_package(store, checkpoint=checkpoint)
    (store.folder / ".drafts" / "t.zip").write_bytes(b"an older version's")
    store.sweep()
    store.forget_all_but(waiting)
    assert [path.name for path in (store.folder / ".drafts").iterdir()] == (["j-t"] if kept else [])


def test_a_start_sweeps_what_a_kill_left_and_nothing_else(store: Store, tmp_path: Path) -> None:
    die_in_mid_package(store)
    (store.folder / "r-t.zip").write_bytes(b"whole")
    other = Store(tmp_path / "other", tmp_path / "temp")
    other.prepare()
    with other.draft("j", "t") as draft:
        (draft.scratch / "x").write_text("x")
        store.sweep()
        store.forget_all_but(set())
        others = {"other/.drafts/j-t/.lock", str((draft.scratch / "x").relative_to(tmp_path))}
        assert everything(tmp_path) == {"store/r-t.zip", *others}


def test_two_services_never_share_a_store(store: Store) -> None:
    with store.lock():
        other = Store(store.folder, store.folder.parent / "temp")
        with pytest.raises(SettingsError, match=r"STORE_DIRECTORY .* is in use by another"):
            other.lock()
    other.lock().close()


def test_removing_counts_what_it_frees(store: Store) -> None:
    for name in ("a.zip", "b.zip"):
        (store.folder / name).write_bytes(b"12345")
    assert store.remove(["a.zip", "gone.zip"]) == (1, 5)
    assert [path.name for path in store.folder.glob("*.zip")] == ["b.zip"]


def test_only_old_files_are_old(store: Store) -> None:
    for name, modified in (("old.zip", 1), ("new.zip", 2), (".hidden.zip", 1), ("notes.txt", 1)):
        (store.folder / name).write_bytes(b"1")
        os.utime(store.folder / name, (modified, modified))
    (store.folder / "folder.zip").mkdir()
    os.utime(store.folder / "folder.zip", (1, 1))
    (store.folder / "link.zip").symlink_to("old.zip")
    (store.folder / "broken.zip").symlink_to("nowhere.zip")
    for link in ("link.zip", "broken.zip"):
        os.utime(store.folder / link, (1, 1), follow_symlinks=False)
    assert list(store.changed_before(2)) == ["old.zip"]


def test_what_a_link_points_to_is_known(store: Store) -> None:
    (store.folder / "a.zip").write_bytes(b"1")
    (store.folder / "newest.zip").symlink_to("a.zip")
    (store.folder / "elsewhere.zip").symlink_to("/etc/passwd")
    assert store.linked() == {"a.zip"}


@pytest.mark.parametrize("name", ["../x.zip", "/etc/passwd", ".lock", ".drafts/t.zip"])
def test_no_name_leads_out_of_the_folder(store: Store, name: str) -> None:
    with pytest.raises(AssertionError):
        store.path(name)


def test_no_two_tokens_are_alike() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)


def test_a_name_fits_into_every_file_system() -> None:
    job = Job("package_datastore", "r" * 128, "a@localhost.example", api_url="http://ckan.example/api")
    assert zip_file_name(job, new_token()).startswith("r" * 64 + "-")
    assert len(zip_file_name(job, new_token())) == 64 + 1 + 32 + 4
