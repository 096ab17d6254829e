"""One run: jobs, trouble, and what became of the promises."""

import random
import tempfile
import time
from pathlib import Path

from ckanpackager.demo.table import Resource
from tests.chaos.audit import Audit
from tests.chaos.diary import Diary
from tests.chaos.orders import SLOW_REQUEST, orders, table
from tests.chaos.portal import Portal
from tests.chaos.trouble import ChaosSink, Trouble
from tests.chaos.unit import Unit
from tests.fake_ckan import FakeCkan

TIMEOUTS = {"CONNECT_TIMEOUT": 2, "READ_TIMEOUT": 2, "SMTP_TIMEOUT": 3, "STOP_GRACE": 1}


def run(folder: Path, jobs: int, kills: int, seed: int) -> None:
    """Make trouble for a service in ``folder``, and raise AssertionError with the promises that were broken.

    What was done is printed. The seed decides what is asked for and what is done, but not what the machine
    does meanwhile: a run is much like another of the same seed, and never the same.
    """
    diary = Diary()
    rng = random.Random(seed)
    print(f"CHAOS_SEED={seed} CHAOS_JOBS={jobs}, in {folder}", flush=True)
    resources: list[Resource] = [table()]
    with FakeCkan(resources) as ckan, ChaosSink(diary) as sink, tempfile.TemporaryDirectory() as temp:
        unit = Unit(
            folder,
            Path(temp),
            diary,
            {**sink.settings, **TIMEOUTS, "SLOW_REQUEST": SLOW_REQUEST, "PAGE_SIZE": 1000},
        )
        some = orders(ckan, jobs, random.Random(rng.random()))
        portal = Portal(unit, diary, some, most_unfinished=min(24, jobs // 5))
        trouble = Trouble(unit, ckan, sink, portal, diary, rng)
        try:
            unit.start()
            portal.open()
            try:
                trouble.make(jobs, kills)
            finally:
                portal.close()
                trouble.end()
            audit = Audit(unit, sink, portal, trouble, diary)
            audit.wait_for_rest()
            audit.look()
        finally:
            unit.destroy()
            (folder / "log").write_text(unit.log)
            (folder / "diary").write_text(diary.text())
    print(_report(unit, portal, audit, diary))
    assert not audit.problems, "\n".join(
        [f"with CHAOS_SEED={seed} (the log and the diary are in {folder}):", *audit.problems]
    )


def _report(unit: Unit, portal: Portal, audit: Audit, diary: Diary) -> str:
    counts = diary.counts()
    lines = [
        ("jobs accepted", len(portal.accepted)),
        *((f"    {state}", count) for state, count in sorted(audit.states.items())),
        ("kills", diary.count("kill")),
        *((f"    {what}", count) for what, count in sorted(counts.items()) if what.startswith("kill")),
        ("troubles", diary.count("source", "smtp", "disk full", "database", "cancel", "stop")),
        *((f"    {what}", count) for what, count in sorted(counts.items()) if not what.startswith("kill")),
        ("packages that were gone on with", unit.log.count(" goes on after ")),
        ("mails that came twice", audit.duplicates),
        ("seconds", round(time.time() - diary.began)),
    ]
    return "\n".join(f"{what:<45}{count:>7}" for what, count in lines)
