"""A Darwin Core Archive of specimens with media, beside the plain way to write one.

    python -m benchmarks.dwca [ROWS [ROUNDS]]

Both get the same pages as they come from CKAN's JSON: rows of 30 columns, each second one with a medium, as
JSON text. The plain way maps names to terms, writes with csv, and packs with zipfile at its usual level; it
looks at no value. Each is run in a process of its own, one after the other. Printed are the medians of rows a
second, without the time that the making of pages takes, and the most memory that a process ever had in RAM
(VmHWM); the goal is 1.5 times the speed in less than 128 MB.
"""

import csv
import datetime
import io
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.processes import peak_megabytes, result_of
from ckanpackager.archive import ZipArchive
from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.plan import plan
from ckanpackager.settings import Settings
from ckanpackager.sources.base import Field, Page
from ckanpackager.writers.dwca import DwcArchiveWriter

PAGE = 5000
LIMIT = 128  # megabytes
GOAL = 1.5
NOW = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)

TYPES = {"_id": "int", "Decimal latitude": "numeric", "Decimal longitude": "numeric", "Year": "int"}
COLUMNS = [
    "_id", "Occurrence ID", "Catalog Number", "Institution code", "Collection code", "Basis of record",
    "Scientific name", "Scientific name authorship", "Kingdom", "Phylum", "Class", "Order", "Family", "Genus",
    "Specific epithet", "Event date", "Year", "Month", "Recorded by", "Country", "State province", "Locality",
    "Decimal latitude", "Decimal longitude", "Geodetic datum", "Type status", "Kind of object", "Registered weight",
    "Donor name", "associatedMedia",
]  # fmt: skip
UNMATCHED = ("Kind of object", "Registered weight", "Donor name")
MEDIA = {
    "type": "StillImage",
    "format": "image/jpeg",
    "identifier": "",
    "title": "",
    "license": "CC BY",
    "rightsHolder": "",
}
FIELDS = [Field(name, TYPES.get(name, "text")) for name in COLUMNS]
MEDIA_URL = "https://data.example.org/media/"


def pages(rows: int) -> Iterator[Page]:
    """Specimens, the same ones each time."""
    chance = random.Random(1)
    genera = [
        f"{start}{end}" for start in ("Rosa", "Carab", "Homal", "Quer") for end in ("us", "ium", "ella", "a")
    ]
    people = ["Smith, J.", "Darwin, C. R.", "Müller, F.", "Anning", "Wallace, A. R.", None]
    places = ["Cocos Island, north shore", 'Forest near "Old Mill"', "Downs", "Río Negro", "Wicken Fen"]
    for start in range(1, rows + 1, PAGE):
        records: list[list[Any]] = []
        for number in range(start, min(start + PAGE, rows + 1)):
            genus, epithet = chance.choice(genera), f"species{chance.randrange(400)}"
            year, month, day = chance.randrange(1850, 2020), chance.randrange(1, 13), chance.randrange(1, 29)
            medium = {
                "identifier": f"{MEDIA_URL}{number}.jpg",
                "title": f"Specimen {number}",
                "rightsHolder": "A museum",
            }
            records.append(
                [
                    number, f"0a1b2c3d-0000-4000-8000-{number:012}", f"BM {number:08}", "NHMUK", "ZOO",
                    "PreservedSpecimen", f"{genus} {epithet} ({chance.choice(genera)}, {year})", "(L., 1758)",
                    "Animalia", "Arthropoda", "Insecta", "Coleoptera", f"{genus}idae", genus, epithet,
                    f"{year}-{month:02}-{day:02}", year, month, chance.choice(people), chance.choice(["Costa Rica", "Peru", None]),
                    None, f"{chance.choice(places)} {chance.randrange(5000)}", Decimal(f"{chance.uniform(-80, 80):.6f}"),
                    Decimal(f"{chance.uniform(-170, 170):.6f}"), "WGS84", None, chance.choice(["dry", "wet", "slide"]),
                    f"{chance.randrange(9999)} mg", chance.choice(people), json.dumps([medium]) if number % 2 == 0 else None,
                ]
            )  # fmt: skip
        yield Page(len(records), records)


def ours(rows: int, folder: Path) -> None:
    settings = Settings.from_mapping(
        {
            "SECRET": "of a benchmark",
            "DWC_EXTENSION_FIELDS": {"associatedMedia": {"extension": "multimedia", "fields": MEDIA}},
        }
    )
    configuration = Configuration.from_settings(settings)
    with (
        ZipArchive(folder / "ours.zip") as archive,
        DwcArchiveWriter(archive, FIELDS, plan(FIELDS, configuration), package_id="1", now=NOW) as writer,
    ):
        for page in pages(rows):
            writer.write(page)


def plain(rows: int, folder: Path) -> None:
    def term(name: str) -> str:
        first, *others = name.split()
        return first.lower() + "".join(word[0].upper() + word[1:] for word in others)

    terms = {name: term(name) for name in COLUMNS if name not in (*UNMATCHED, "_id", "associatedMedia")}
    core_names = ["_id", *terms.values(), "dynamicProperties"]
    media_names = ["_id", *MEDIA]
    encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
    with (
        open(folder / "occurrence.csv", "w", newline="") as core,
        open(folder / "multimedia.csv", "w", newline="") as media,
    ):
        core_lines, media_lines = (
            csv.writer(core, lineterminator="\n"),
            csv.writer(media, lineterminator="\n"),
        )
        core_lines.writerow(core_names)
        media_lines.writerow(media_names)
        for page in pages(rows):
            assert not isinstance(page.records, bytes)
            for record in page.records:
                row = dict(zip(COLUMNS, record, strict=True))
                others = {term(name): row[name] for name in UNMATCHED if row[name] is not None}
                core_lines.writerow([row["_id"], *(row[name] for name in terms), encode(others)])
                for medium in json.loads(row["associatedMedia"] or "[]"):
                    media_lines.writerow([row["_id"], *(medium.get(key) or MEDIA[key] for key in MEDIA)])
    with zipfile.ZipFile(folder / "plain.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("occurrence.csv", "multimedia.csv"):
            archive.write(folder / name, name)


def measured(pipe: "Connection[Any, Any]", name: str, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        WAYS[name](rows, Path(folder))
        whole = time.perf_counter() - begin
        shape = contents(Path(folder, f"{name}.zip"))
    pages_alone = time_of_pages(rows)
    pipe.send((whole - pages_alone, peak_megabytes(), shape))


def time_of_pages(rows: int) -> float:
    begin = time.perf_counter()
    for _ in pages(rows):
        pass
    return time.perf_counter() - begin


def contents(path: Path) -> dict[str, tuple[int, int]]:
    """The lines and columns of each file of rows."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in ("occurrence.csv", "multimedia.csv"):
            with archive.open(name) as member:
                lines = csv.reader(io.TextIOWrapper(member, "utf-8", newline=""))
                found[name] = (len(next(lines)), sum(1 for _ in lines))
    return found


WAYS = {"ours": ours, "plain": plain}


def run(name: str, rows: int) -> Any:
    """Seconds, megabytes and contents of one archive, made in a process of its own."""
    return result_of(multiprocessing.get_context("spawn"), measured, name, rows)


def main(rows: int, rounds: int) -> int:
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    peaks = dict.fromkeys(WAYS, 0.0)
    shapes = set()
    for number in range(rounds):
        for name in WAYS:
            took, peak, shape = run(name, rows)
            seconds[name].append(took)
            peaks[name] = max(peaks[name], peak)
            shapes.add(json.dumps(shape))
            print(f"  round {number + 1}, {name}: {took:.2f} s, {peak:.0f} MB", flush=True)
    assert len(shapes) == 1, f"the two archives differ: {shapes}"
    speed = {name: rows / statistics.median(times) for name, times in seconds.items()}
    ratio = speed["ours"] / speed["plain"]
    print(
        f"{rows:,} rows of {len(COLUMNS)} columns, {rows // 2:,} media: ours {speed['ours']:,.0f} rows/s in "
        f"{peaks['ours']:.0f} MB, the plain way {speed['plain']:,.0f} rows/s in {peaks['plain']:.0f} MB: "
        f"{ratio:.2f} times as fast (goal {GOAL}, and less than {LIMIT} MB)."
    )
    return 0 if ratio >= GOAL and peaks["ours"] < LIMIT else 1


if __name__ == "__main__":
    given = [*sys.argv[1:], *["200000", "5"][len(sys.argv) - 1 :]]
    sys.exit(main(int(given[0]), int(given[1])))
