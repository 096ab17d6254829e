"""A package opens with whatever the visitor has, and a broken one never looks whole."""

import datetime
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckanpackager.archive import Archive, CommandArchive, Mark, ZipArchive, open_archive, records
from ckanpackager.archive.records import Header, end_of_archive
from ckanpackager.errors import CheckpointError, PackageError

NOW = datetime.datetime(2024, 5, 6, 7, 8, 10, tzinfo=datetime.UTC)
ZIP = "/usr/bin/zip -j {output} {input}"

# The contents of all members, one after another, as each unpacker finds them.
UNPACKERS = {
    "unzip": ["unzip", "-p"],
    "7z": ["7z", "e", "-so"],
    "bsdtar": ["bsdtar", "-xOf"],
}
CHECKERS = {
    "unzip": ["unzip", "-t"],
    "7z": ["7z", "t"],
    "bsdtar": ["bsdtar", "-tf"],
}


def run(command: list[str], path: Path) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, path], check=False, capture_output=True)
    assert done.returncode == 0, (done.stdout[-500:], done.stderr[-500:])
    assert b"warning" not in (done.stdout[-2000:] + done.stderr).lower()
    return done.stdout


def pack(path: Path, members: dict[str, bytes], *, compress: bool = True) -> Path:
    with ZipArchive(path, now=NOW) as zip_archive:
        for name, content in members.items():
            with zip_archive.member(name, compress=compress) as member:
                member.write(content)
    return path


def unpack(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as zip_file:
        return {name: zip_file.read(name) for name in zip_file.namelist()}


ROWS = b"".join(b'%d,Rosa canina L.,"a ""quoted"" word"\n' % number for number in range(40_000))
MEMBERS = {"resource.csv": ROWS, "größe/Ünïcödé 名前.txt": "日本".encode(), "empty": b"", "meta.xml": b"<a/>"}


chunks = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda seed, size: (seed or b"\0") * size, st.binary(max_size=7), st.integers(0, 90_000)),
    ),
    max_size=6,
)
junk = st.builds(lambda seed, size: seed * size, st.binary(max_size=7), st.integers(0, 90_000))
part = st.text(st.characters(exclude_characters="/\\\0", codec="utf-8"), min_size=1, max_size=8)
names = st.lists(part.filter(lambda text: text not in (".", "..")), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(names, st.tuples(chunks, st.booleans()), max_size=5))
@settings(deadline=None)
def test_any_members_written_in_any_pieces_read_back(
    members: dict[str, tuple[list[bytes], bool]],
) -> None:
    members = {name: wanted for name, wanted in members.items() if name[1:3] != ":/"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.zip")
        with ZipArchive(path, now=NOW) as zip_archive:
            for name, (pieces, compress) in members.items():
                with zip_archive.member(name, compress=compress) as member:
                    assert [member.write(piece) for piece in pieces] == [len(piece) for piece in pieces]
        with zipfile.ZipFile(path) as zip_file:
            found = {info.orig_filename: zip_file.read(info) for info in zip_file.infolist()}
    assert found == {name: b"".join(pieces) for name, (pieces, _) in members.items()}


def go_on(path: Path, mark: Mark, junk: bytes = b"") -> ZipArchive:
    """The archive of another process, which finds on the disk what the mark speaks of, and more."""
    with open(path, "r+b") as file:
        file.seek(mark.offset)
        file.truncate()
        file.write(junk)
    return ZipArchive(path, mark=Mark.from_dict(json.loads(json.dumps(mark.to_dict()))))


@given(
    st.dictionaries(names, st.tuples(chunks, st.booleans()), max_size=2),
    st.lists(st.tuples(chunks, st.one_of(st.none(), junk)), min_size=1, max_size=5),
    st.booleans(),
)
@settings(deadline=None)
def test_an_archive_that_was_cut_at_any_marks_is_as_if_it_had_not_been(
    members: dict[str, tuple[list[bytes], bool]],
    parts: list[tuple[list[bytes], bytes | None]],
    compress: bool,
) -> None:
    """``parts`` are what is written to the last member; after each is a mark, and a death where junk is given."""
    members = {name: wanted for name, wanted in members.items() if name[1:3] != ":/" and name != "last"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.zip")
        zip_archive = ZipArchive(path, now=NOW)
        for name, (pieces, compressed) in members.items():
            with zip_archive.member(name, compress=compressed) as member:
                for piece in pieces:
                    member.write(piece)
        for pieces, junk in parts:
            member = zip_archive.member("last", compress=compress) if zip_archive._member is None else member
            for piece in pieces:
                member.write(piece)
            mark = zip_archive.mark()
            if junk is not None:
                member.write(b"lost")
                zip_archive.discard()
                zip_archive = go_on(path, mark, junk)
                member = zip_archive.member("last")
                assert member.is_begun
        member.close()
        zip_archive.close()
        assert path.read_bytes()[-22:-18] == b"PK\5\6", "nothing follows its end"
        with zipfile.ZipFile(path) as zip_file:
            assert zip_file.testzip() is None
            found = {info.orig_filename: zip_file.read(info) for info in zip_file.infolist()}
            assert {info.date_time for info in zip_file.infolist()} == {(2024, 5, 6, 7, 8, 10)}
    expected = {name: b"".join(pieces) for name, (pieces, _) in members.items()}
    assert found == {**expected, "last": b"".join(b"".join(pieces) for pieces, _ in parts)}


@pytest.mark.parametrize("unpacker", UNPACKERS)
def test_every_unpacker_reads_over_the_places_where_an_archive_was_gone_on_with(
    tmp_path: Path, unpacker: str
) -> None:
    path = tmp_path / "package.zip"
    zip_archive = ZipArchive(path, now=NOW)
    for start in range(0, len(ROWS), 300_000):
        zip_archive.member("resource.csv").write(ROWS[start : start + 300_000])
        mark = zip_archive.mark()
        zip_archive.discard()
        zip_archive = go_on(path, mark, b"PK\5\6 junk")
    zip_archive.member("resource.csv").close()
    zip_archive.close()
    run(CHECKERS[unpacker], path)
    assert run(UNPACKERS[unpacker], path) == ROWS


def test_a_mark_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with ZipArchive(tmp_path / "package.zip") as zip_archive, zip_archive.member("a") as member:
        member.write(ROWS)
        assert synced == []
        mark = zip_archive.mark()
        assert synced == [mark.offset]


@pytest.mark.parametrize("there", [0, -1])
def test_an_archive_that_does_not_reach_its_mark_is_not_gone_on_with(tmp_path: Path, there: int) -> None:
    path = tmp_path / "package.zip"
    zip_archive = ZipArchive(path)
    zip_archive.member("a").write(ROWS)
    mark = zip_archive.mark()
    zip_archive.discard()
    os.truncate(path, (mark.offset + there) % mark.offset)
    with pytest.raises(CheckpointError, match="shorter"):
        open_archive(path, tmp_path, mark=mark)
    with pytest.raises(CheckpointError, match="ZIP_COMMAND packs now"):
        open_archive(path, tmp_path, ZIP, mark)


def test_what_was_open_at_the_mark_must_be_finished_first(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    zip_archive = ZipArchive(path)
    zip_archive.member("a").write(ROWS)
    mark = zip_archive.mark()
    zip_archive.discard()
    zip_archive = go_on(path, mark)
    with pytest.raises(ValueError, match="a is still being written"):
        zip_archive.member("b")
    with pytest.raises(ValueError, match="not written to its end"):
        zip_archive.close()


@pytest.mark.parametrize("unpacker", UNPACKERS)
def test_every_unpacker_finds_what_was_written(tmp_path: Path, unpacker: str) -> None:
    path = pack(tmp_path / "package.zip", MEMBERS)
    run(CHECKERS[unpacker], path)
    assert run(UNPACKERS[unpacker], path) == b"".join(MEMBERS.values())
    listed = run(CHECKERS[unpacker] if unpacker != "7z" else ["7z", "l", "-sccUTF-8"], path).decode()
    assert all(name in listed for name in MEMBERS)


def test_an_archive_can_be_read_from_front_to_back(tmp_path: Path) -> None:
    path = pack(tmp_path / "package.zip", MEMBERS)
    if shutil.which("bsdtar") is None:
        pytest.skip("bsdtar is not installed")
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as pipe:
        found = subprocess.run(["bsdtar", "-xOf", "-"], stdin=pipe.stdout, capture_output=True, check=True)
    assert found.stdout == b"".join(MEMBERS.values())


def test_an_archive_without_members_is_still_a_zip(tmp_path: Path) -> None:
    assert unpack(pack(tmp_path / "package.zip", {})) == {}


def test_what_is_compressed_already_is_stored(tmp_path: Path) -> None:
    path = pack(tmp_path / "package.zip", {"resource.xlsx": ROWS}, compress=False)
    with zipfile.ZipFile(path) as zip_file:
        assert zip_file.getinfo("resource.xlsx").compress_type == zipfile.ZIP_STORED
    assert unpack(path) == {"resource.xlsx": ROWS}


def test_rows_are_compressed(tmp_path: Path) -> None:
    assert pack(tmp_path / "package.zip", {"resource.csv": ROWS}).stat().st_size < len(ROWS) / 5


def test_a_small_archive_needs_no_zip64(tmp_path: Path) -> None:
    path = pack(tmp_path / "package.zip", MEMBERS)
    with zipfile.ZipFile(path) as zip_file:
        assert {(info.extract_version, info.extra) for info in zip_file.infolist()} == {(20, b"")}
    assert path.read_bytes()[-22 - 20 :][:4] != b"PK\6\7"


@pytest.mark.parametrize("unpacker", [*UNPACKERS, "zipfile"])
@pytest.mark.parametrize("compress", [True, False], ids=["deflated", "stored"])
def test_zip64_is_understood_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacker: str, compress: bool
) -> None:
    monkeypatch.setattr(records, "_MOST_32", 100_000)
    members = {"small.csv": ROWS[:500], "large.csv": ROWS, "beyond.csv": ROWS[:500]}
    path = pack(tmp_path / "package.zip", members, compress=compress)
    if unpacker == "zipfile":
        assert unpack(path) == members
    else:
        run(CHECKERS[unpacker], path)
        assert run(UNPACKERS[unpacker], path) == b"".join(members.values())


def test_zip64_is_used_for_what_needs_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_MOST_32", 100_000)
    path = pack(tmp_path / "package.zip", {"small": ROWS[:500], "large": ROWS, "beyond": ROWS[:500]})
    with zipfile.ZipFile(path) as zip_file:
        small, large, beyond = zip_file.infolist()
    assert (small.extract_version, large.extract_version, beyond.extract_version) == (20, 45, 45)
    # In the directory: both sizes, and then an offset.
    assert [struct.unpack("<H", info.extra[2:4])[0] for info in (large, beyond)] == [16, 8]


@pytest.mark.parametrize(
    ("count", "start", "length", "large"),
    [
        (65_534, 2**32 - 2, 2**32 - 2, False),
        (65_535, 0, 0, True),
        (70_000, 0, 0, True),
        (1, 2**32 - 1, 0, True),
        (1, 0, 2**32 - 1, True),
    ],
)
def test_the_end_turns_to_zip64_where_a_number_no_longer_fits(
    count: int, start: int, length: int, large: bool
) -> None:
    assert end_of_archive(count, start, length).startswith(b"PK\6\6" if large else b"PK\5\6")


@pytest.mark.parametrize(
    ("size", "packed", "offset", "in_header", "in_directory"),
    [
        (2**32 - 2, 2**32 - 2, 2**32 - 2, False, 0),
        (2**32 - 1, 5, 5, True, 1),
        (5, 2**32 - 1, 5, True, 1),
        (5, 5, 2**32 - 1, False, 1),
        (2**40, 2**40, 2**40, True, 3),
    ],
)
def test_a_member_turns_to_zip64_where_a_number_no_longer_fits(
    size: int, packed: int, offset: int, in_header: bool, in_directory: int
) -> None:
    header = Header(b"name", 8, (0, 0), offset, 0, size, packed)
    identifier, length, *numbers = struct.unpack("<2H2Q", header.local()[-20:])
    assert (identifier == 1) is in_header
    assert length == 16 and (not in_header or numbers == [size, packed])
    extra = header.central()[46 + 4 :]
    assert len(extra) == (4 + 8 * in_directory if in_directory else 0)


@pytest.mark.parametrize("unpacker", [*UNPACKERS, "zipfile"])
def test_more_members_than_a_plain_zip_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacker: str
) -> None:
    monkeypatch.setattr(records, "_MOST_16", 3)
    path = pack(tmp_path / "package.zip", MEMBERS)
    if unpacker == "zipfile":
        assert unpack(path) == MEMBERS
    else:
        assert run(UNPACKERS[unpacker], path) == b"".join(MEMBERS.values())


@pytest.mark.parametrize("size", [1000, 16 << 20])
def test_memory_does_not_grow_with_a_member(tmp_path: Path, size: int) -> None:
    # VmHWM, because ru_maxrss begins with that of the process which started this one.
    script = """if True:
        import re, sys
        from pathlib import Path
        from ckanpackager.archive import ZipArchive
        peak = lambda: int(re.search(r"VmHWM:\\s*([0-9]+) kB", Path("/proc/self/status").read_text())[1])
        piece = bytes(int(sys.argv[2]))
        with ZipArchive(Path(sys.argv[1])) as archive, archive.member("large") as member:
            member.write(piece)
            before = peak()
            for _ in range((128 << 20) // len(piece)):
                member.write(piece)
        print(peak() - before)
    """
    path = tmp_path / "package.zip"
    grown = subprocess.run([sys.executable, "-c", script, path, str(size)], capture_output=True, check=True)
    with zipfile.ZipFile(path) as zip_file:
        assert zip_file.getinfo("large").file_size >= 128 << 20
    assert int(grown.stdout) < 4096  # KiB


def test_members_bear_the_time_given_in_utc(tmp_path: Path) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=9))
    with ZipArchive(tmp_path / "package.zip", now=NOW.astimezone(zone)) as zip_archive:
        zip_archive.member("a").close()
    with zipfile.ZipFile(tmp_path / "package.zip") as zip_file:
        assert zip_file.getinfo("a").date_time == (2024, 5, 6, 7, 8, 10)


@pytest.mark.parametrize(
    ("year", "shown"), [(1970, (1980, 1, 1, 0, 0, 0)), (2200, (2107, 12, 31, 23, 59, 58))]
)
def test_a_time_that_zip_cannot_tell_is_the_nearest_it_can(
    tmp_path: Path, year: int, shown: tuple[int, ...]
) -> None:
    with ZipArchive(tmp_path / "package.zip", now=NOW.replace(year=year)) as zip_archive:
        zip_archive.member("a").close()
    with zipfile.ZipFile(tmp_path / "package.zip") as zip_file:
        assert zip_file.getinfo("a").date_time == shown


def test_the_same_members_make_the_same_file(tmp_path: Path) -> None:
    one, other = (pack(tmp_path / name, MEMBERS).read_bytes() for name in ("one.zip", "other.zip"))
    assert one == other


def test_members_are_plain_files_that_all_may_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(tmp_path / "package.zip", MEMBERS)) as zip_file:
        assert {info.external_attr >> 16 for info in zip_file.infolist()} == {0o100644}


@pytest.mark.parametrize("data", [bytearray(b"\1\2\3\4"), memoryview(b"\1\2\3\4").cast("I")])
def test_a_member_takes_any_bytes(tmp_path: Path, data: bytearray | memoryview) -> None:
    with ZipArchive(tmp_path / "package.zip") as zip_archive, zip_archive.member("a") as member:
        assert member.write(data) == 4
    assert unpack(tmp_path / "package.zip") == {"a": b"\1\2\3\4"}


def test_a_full_disk_is_told_and_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    path = tmp_path / "package.zip"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError, match="File too large"):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
            with ZipArchive(path) as zip_archive, zip_archive.member("a", compress=False) as member:
                member.write(bytes(2 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not zipfile.is_zipfile(path)


# What both kinds of archive promise.


@pytest.fixture(params=["zip", "command"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Archive]]:
    (tmp_path / "scratch").mkdir()
    command = None if request.param == "zip" else f"{sys.executable} -c pass {{input}} {{output}}"
    made: list[Archive] = []

    def make() -> Archive:
        made.append(open_archive(tmp_path / "package.zip", tmp_path / "scratch", command))
        return made[-1]

    yield make
    for each in made:
        each.discard()


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".", "a/./b", "a\\b", "a\0b", "C:/a", "é" * 32_768],
)
def test_a_name_that_could_lead_an_unpacker_astray_is_refused(make: Callable[[], Archive], name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        make().member(name)


def test_a_name_that_is_no_unicode_is_refused(make: Callable[[], Archive]) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        make().member("a\ud800")


def test_a_name_is_used_once(make: Callable[[], Archive]) -> None:
    unfinished = make()
    unfinished.member("a").close()
    with pytest.raises(ValueError, match="already"):
        unfinished.member("a")


def test_one_member_is_written_at_a_time(make: Callable[[], Archive]) -> None:
    unfinished = make()
    unfinished.member("a")
    with pytest.raises(ValueError, match="a is still being written"):
        unfinished.member("b")


def test_a_closed_member_takes_no_more(make: Callable[[], Archive]) -> None:
    member = make().member("a")
    member.close()
    with pytest.raises(ValueError, match="closed"):
        member.write(b"a")


def test_a_closed_archive_takes_no_more(make: Callable[[], Archive]) -> None:
    archive = make()
    archive.discard()
    with pytest.raises(ValueError, match="is closed"):
        archive.member("a")


def test_an_archive_left_by_an_exception_is_not_finished(make: Callable[[], Archive]) -> None:
    with pytest.raises(RuntimeError, match="source"), make() as unfinished, unfinished.member("a") as member:
        member.write(ROWS)
        raise RuntimeError("the source died")
    assert not unfinished.path.exists() or not zipfile.is_zipfile(unfinished.path)
    assert list(unfinished.scratch.iterdir()) == []


def test_half_a_member_is_never_delivered(make: Callable[[], Archive]) -> None:
    unfinished = make()
    with pytest.raises(RuntimeError), unfinished.member("a") as member:
        member.write(ROWS)
        raise RuntimeError("and somebody goes on as if nothing had happened")
    with pytest.raises(ValueError, match="a was not written to its end"):
        unfinished.close()
    assert not unfinished.path.exists() or not zipfile.is_zipfile(unfinished.path)


# The admin's own command.


def command_archive(folder: Path, command: str, **options: float) -> CommandArchive:
    (folder / "scratch").mkdir(exist_ok=True)
    return CommandArchive(folder / "package.zip", command, folder / "scratch", **options)


def python(folder: Path, script: str) -> str:
    """A command that runs ``script`` with the member's file and the archive as arguments."""
    path = folder / "command.py"
    path.write_text(f"import sys\nmember, archive = sys.argv[-2:]\n{script}")
    return f"'{sys.executable}' '{path}' {{input}} {{output}}"


@pytest.mark.skipif(not os.path.exists("/usr/bin/zip"), reason="/usr/bin/zip is not installed")
@pytest.mark.parametrize("name", ["package.zip", "package"])
def test_the_command_of_the_old_settings_packs(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a folder of {input}"
    folder.mkdir()
    with CommandArchive(folder / name, ZIP, folder) as archive:
        for member_name in ("resource.csv", "meta {output} $(x).xml"):
            with archive.member(member_name) as member:
                member.write(ROWS[:70_000])
                member.write(b"end")
    assert unpack(folder / name) == {
        "resource.csv": ROWS[:70_000] + b"end",
        "meta {output} $(x).xml": ROWS[:70_000] + b"end",
    }
    assert [path.name for path in folder.iterdir()] == [name]


def test_the_command_runs_once_for_each_member_in_order(tmp_path: Path) -> None:
    script = "import json; open(archive, 'a').write(json.dumps([member, open(member).read()]) + '\\n')"
    with command_archive(tmp_path, python(tmp_path, script)) as archive:
        for name in ("first name", "sub/second"):
            with archive.member(name) as member:
                member.write(name.encode())
        assert not archive.path.exists()
    runs = [json.loads(line) for line in (tmp_path / "package.zip").read_text().splitlines()]
    assert [(Path(path).name, content) for path, content in runs] == [
        ("first name", "first name"),
        ("second", "sub/second"),
    ]
    assert list(archive.scratch.iterdir()) == []


def test_what_the_command_packs_bears_the_time_given(tmp_path: Path) -> None:
    command = python(tmp_path, "import os; open(archive, 'w').write(str(os.stat(member).st_mtime))")
    with CommandArchive(tmp_path / "package.zip", command, now=NOW) as archive:
        archive.member("a").close()
    assert float((tmp_path / "package.zip").read_text()) == NOW.timestamp()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("print('x' * 1000); sys.exit('the disk is full')", r"failed \(1\): x+\s+the disk is full"),
        ("sys.exit(12)", r"failed \(12\): it said nothing"),
        ("import os; os.kill(os.getpid(), 9)", r"was killed by signal 9"),
        ("pass", r"left no archive"),
    ],
)
def test_a_command_that_fails_is_quoted(tmp_path: Path, script: str, sentence: str) -> None:
    archive = command_archive(tmp_path, python(tmp_path, script))
    archive.member("a").close()
    with pytest.raises(PackageError, match=sentence) as failure:
        archive.close()
    assert len(str(failure.value)) < 700
    assert list(archive.scratch.iterdir()) == []


@pytest.mark.parametrize("program", ["/no/such/zip", "/tmp"])
def test_a_command_that_cannot_be_run_is_named(tmp_path: Path, program: str) -> None:
    archive = command_archive(tmp_path, program + " {output} {input}")
    archive.member("a").close()
    with pytest.raises(PackageError, match=f"ZIP_COMMAND.*{program} cannot be run: "):
        archive.close()


def test_a_command_that_hangs_is_stopped(tmp_path: Path) -> None:
    # What it started lives on and keeps its output open: that must not keep us waiting either.
    script = "import subprocess, time; subprocess.Popen(['sleep', '3']); time.sleep(3)"
    archive = command_archive(tmp_path, python(tmp_path, script), timeout=0.2)
    archive.member("a").close()
    started = time.monotonic()
    with pytest.raises(PackageError, match=r"not done after 0\.2 seconds"):
        archive.close()
    assert time.monotonic() - started < 2


def test_a_command_is_never_run_on_an_archive_that_exists(tmp_path: Path) -> None:
    (tmp_path / "package.zip").touch()
    with pytest.raises(FileExistsError):
        command_archive(tmp_path, ZIP)


def test_the_setting_chooses_who_packs(tmp_path: Path) -> None:
    with open_archive(tmp_path / "own.zip", tmp_path, None) as own:
        assert isinstance(own, ZipArchive)
    with pytest.raises(PackageError), open_archive(tmp_path / "other.zip", tmp_path, ZIP) as other:
        assert isinstance(other, CommandArchive)
