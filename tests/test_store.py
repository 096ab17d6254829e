"""The folder of finished packages."""

import hashlib
import os
from pathlib import Path

import pytest

from ckanpackager.errors import SettingsError
from ckanpackager.store import Package, Store, new_token


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", tmp_path / "temp")
    store.prepare()
    return store


def everything(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}


def die_in_mid_package(store: Store) -> None:
    process = os.fork()
    if process == 0:
        with store.draft("t") as draft:
            draft.path.write_bytes(b"half")
            draft.path.with_name("t.zip.zip").write_bytes(b"half, of a ZIP_COMMAND")
            (draft.scratch / "folder").mkdir()
            (draft.scratch / "folder" / "file").write_bytes(b"half")
            os._exit(0)
    os.waitpid(process, 0)


def test_a_package_takes_its_name_only_when_it_is_whole(store: Store, tmp_path: Path) -> None:
    with store.draft("t") as draft:
        draft.path.write_bytes(b"half")
        (draft.scratch / "sheet.xml").write_text("x")
        assert [path.name for path in store.folder.glob("[!.]*")] == []
        draft.path.write_bytes(b"whole")
        finished = draft.publish("r-t.zip", "r.zip", 3)
    assert finished == Package("r-t.zip", "r.zip", 5, hashlib.sha256(b"whole").hexdigest(), 3)
    assert everything(tmp_path) == {"store/r-t.zip"}
    assert store.holds("r-t.zip", 5)
    assert not store.holds("r-t.zip", 6)


def test_a_draft_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), store.draft("t") as draft:
        draft.path.write_bytes(b"half")
        (draft.scratch / "sheet.xml").write_text("x")
        raise ZeroDivisionError
    assert everything(tmp_path) == set()


def test_all_that_an_attempt_left_is_found_by_its_token(store: Store, tmp_path: Path) -> None:
    die_in_mid_package(store)
    (store.folder / "r-t.zip").write_bytes(b"published")
    (store.folder / "r-other.zip").write_bytes(b"another")
    assert len(everything(tmp_path)) == 5
    store.discard("t", "r-t.zip")
    store.discard("t", "r-t.zip")
    assert everything(tmp_path) == {"store/r-other.zip"}


def test_a_start_sweeps_what_a_kill_left_and_nothing_else(store: Store, tmp_path: Path) -> None:
    die_in_mid_package(store)
    (store.folder / "r-t.zip").write_bytes(b"whole")
    stranger = tmp_path / "temp" / "ckanpackager-of-another-store"
    stranger.mkdir()
    (stranger / "x").write_text("x")
    store.sweep()
    assert everything(tmp_path) == {"store/r-t.zip", "temp/ckanpackager-of-another-store/x"}


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


def test_what_a_link_points_to_is_known(store: Store) -> None:
    (store.folder / "a.zip").write_bytes(b"1")
    (store.folder / "newest.zip").symlink_to("a.zip")
    (store.folder / "elsewhere.zip").symlink_to("/etc/passwd")
    assert store.linked() == {"a.zip"}


def test_no_two_tokens_are_alike() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000
