"""What becomes of a job, one transition at a time, in a real database."""

import dataclasses
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from ckanpackager import stats
from ckanpackager.database import open_database
from ckanpackager.errors import ConflictError, GoneError, NotFoundError, UnavailableError
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.jobs import models
from ckanpackager.jobs.outbox import Delivery, Outbox
from ckanpackager.jobs.table import FAST, SLOW, Claim, JobTable, Request
from ckanpackager.notify import Notice
from ckanpackager.settings import Settings
from ckanpackager.stats import Statistics
from ckanpackager.store import Package, Store

DAY = 86400


class Bench:
    """A table with its store, and shorthands for what services do with it."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.settings = Settings.from_mapping(
            {
                "SECRET": "of these tests",
                "STATS_DB": f"sqlite:///{folder}/stats.db",
                "STORE_DIRECTORY": str(folder / "store"),
                "TEMP_DIRECTORY": str(folder / "temp"),
                "SLOW_REQUEST": 1000,
                "JOBS_PER_ADDRESS": 0,
                "PUBLIC_URL": "https://packages.example",
                **changes,
            }
        )
        self.store = Store(self.settings.STORE_DIRECTORY, self.settings.TEMP_DIRECTORY)
        self.store.prepare()
        self.database = open_database(self.settings.STATS_DB, (*stats.MODELS, *models.MODELS))
        self.statistics = Statistics(self.settings.ANONYMIZE_EMAILS, self.settings.SECRET)
        self.table = JobTable(self.database, self.settings, self.store, self.statistics)
        self.outbox = Outbox(self.table, self.settings)

    def job(self, **parameters: Any) -> Job:
        form = {
            "resource_id": "r",
            "email": "visitor@localhost.example",
            "api_url": "http://ckan.example/api/3/action/datastore_search",
            **parameters,
        }
        return Job.from_form("package_datastore", Form(form))

    def accept(self, now: float = 0, **parameters: Any) -> str:
        return self.ask(self.job(**parameters), now)

    def ask(self, job: Job, now: float, key: str | None = None, closed: str | None = None) -> str:
        """Hand in one request, and raise what is said against it."""
        (answer,) = self.table.accept([Request(job, key)], now, closed)
        if isinstance(answer, str):
            return answer
        raise answer

    def claim(self, queue: str = FAST, now: float = 0) -> Claim:
        claim = self.table.claim(queue, now)
        assert claim is not None
        return claim

    def build(self, claim: Claim, now: float = 0, report: str | None = None) -> bool:
        self.store.path(claim.zip_file_name).write_bytes(b"12345")
        package = Package(claim.zip_file_name, "r.zip", 5, "0" * 64, 3, report)
        return self.table.built(claim, package, now)

    def state(self, job_id: str) -> str:
        return str(self.table.view(job_id)["state"])

    def mail(self, now: float = 0) -> None:
        delivery = self.outbox.claim(now)
        assert delivery is not None
        self.outbox.sent(delivery, now)

    def finish(self, now: float = 0, **parameters: Any) -> str:
        job_id = self.accept(now, **parameters)
        self.build(self.claim(now=now), now)
        self.mail(now)
        return job_id


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench on either database."""
    on_postgresql = request.param == "postgresql"
    bench = Bench(tmp_path, **({"STATS_DB": request.getfixturevalue("postgresql")} if on_postgresql else {}))
    yield bench
    if on_postgresql:
        bench.database.drop_tables((*stats.MODELS, *models.MODELS))
    bench.database.close()


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Bench]:
    """A bench on SQLite."""
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def test_another_program_that_locks_the_database_is_waited_for(on_sqlite: Bench, tmp_path: Path) -> None:
    job_id = on_sqlite.accept()
    other = sqlite3.connect(tmp_path / "stats.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    assert on_sqlite.state(job_id) == "queued"  # who only asks need not wait
    end = threading.Timer(0.1, other.rollback)
    end.start()
    assert on_sqlite.claim().id == job_id
    end.join()
    other.close()


def test_a_job_goes_from_accepted_to_done(bench: Bench) -> None:
    job_id = bench.accept(now=1)
    assert bench.state(job_id) == "queued"
    claim = bench.claim(now=2)
    assert (bench.state(job_id), claim.id) == ("running", job_id)
    assert bench.build(claim, now=3)
    assert bench.state(job_id) == "built"
    bench.mail(now=4)
    job = bench.table.view(job_id)
    assert (job["state"], job["created"], job["started"], job["finished"]) == ("done", 1, 2, 4)
    assert job["download_url"] == f"https://packages.example/download/{claim.zip_file_name}"
    assert [(event["timestamp"], event["state"]) for event in bench.table.events(job_id)] == [
        (1, "queued"),
        (2, "running"),
        (3, "built"),
        (4, "done"),
    ]


def test_what_is_accepted_is_in_the_file_before_anyone_hears_of_it(on_sqlite: Bench, tmp_path: Path) -> None:
    job_id = on_sqlite.accept()
    other = peewee.SqliteDatabase(tmp_path / "stats.db")
    assert other.execute_sql("select id, state from jobs").fetchall() == [(job_id, "queued")]
    other.close()
    wanted = {"synchronous": 2, "journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 10_000}  # 2 is FULL
    pragmas = {name: on_sqlite.database.execute_sql(f"pragma {name}").fetchone()[0] for name in wanted}
    assert pragmas == wanted


def test_jobs_are_carried_out_in_their_order(bench: Bench) -> None:
    jobs = [bench.accept(resource_id=f"r{number}") for number in range(3)]
    assert [bench.table.view(job_id)["position"] for job_id in jobs] == [1, 2, 3]
    assert [bench.claim().id for _ in jobs] == jobs
    assert bench.table.claim(FAST, 0) is None


@pytest.mark.parametrize(
    ("setting", "one", "other"),
    [
        ("JOBS_PER_ADDRESS", {"email": "a@localhost.example"}, {"email": "b@localhost.example"}),
        ("JOBS_PER_HOST", {}, {"api_url": "http://other.example/api/3/action/datastore_search"}),
    ],
)
def test_who_asks_for_much_lets_others_pass(
    bench: Bench, setting: str, one: dict[str, str], other: dict[str, str]
) -> None:
    bench.settings = dataclasses.replace(bench.settings, **{setting: 2})
    bench.table = JobTable(bench.database, bench.settings, bench.store, bench.statistics)
    same = {**one, "email": one["email"].upper()} if "email" in one else one
    mine = [bench.accept(q="0", **one), bench.accept(q="1", **same), bench.accept(limit=5000, **one)]
    mine += [bench.accept(q="3", **one)]
    yours = [bench.accept(q="4", **other), bench.accept(q="5", **other), bench.accept(q="6", **other)]
    claims = [bench.claim() for _ in range(4)]
    assert [claim.id for claim in claims] == [*mine[:2], *yours[:2]]
    assert bench.table.claim(FAST, 0) is None
    assert bench.table.claim(SLOW, 0) is None
    assert bench.build(claims[0])
    assert bench.claim(SLOW).id == mine[2]
    assert bench.build(claims[2])
    assert bench.claim().id == yours[2]


def test_what_an_older_version_accepted_is_held_up_by_nobody(bench: Bench) -> None:
    bench.settings = dataclasses.replace(bench.settings, JOBS_PER_ADDRESS=1, JOBS_PER_HOST=1)
    bench.table = JobTable(bench.database, bench.settings, bench.store, bench.statistics)
    jobs = [bench.accept(q=q) for q in "012"]
    models.JobRow.update(visitor=None, host=None).execute()
    assert [bench.claim().id for _ in jobs] == jobs


def test_a_visitor_is_not_named_by_what_stands_for_the_address(bench: Bench) -> None:
    bench.accept()
    visitor = models.JobRow.get().visitor
    assert visitor == bench.statistics.pseudonym("VISITOR@localhost.example")
    assert visitor != hashlib.sha256(b"visitor@localhost.example").hexdigest()


def test_a_place_in_the_queue_counts_only_who_waits_there(bench: Bench) -> None:
    done, running, first, second = (bench.accept(resource_id=name) for name in "abcd")
    slow = bench.accept(limit=5000)
    bench.build(bench.claim())
    bench.claim()
    places = {job_id: bench.table.view(job_id)["position"] for job_id in (done, running, first, second, slow)}
    assert list(places.values()) == [None, None, 1, 2, 1]


@pytest.mark.parametrize("table", ["packages", "jobs", "job_events", "requests", "mails"])
def test_a_change_that_cannot_be_written_down_whole_is_not_written_at_all(
    on_sqlite: Bench, table: str
) -> None:
    job_id = on_sqlite.accept()
    claim = on_sqlite.claim()
    full = f"before {'update' if table == 'jobs' else 'insert'} on {table} begin select raise(abort, 'full'); end"
    on_sqlite.database.execute_sql(f"create trigger no_room {full}")
    with pytest.raises(peewee.IntegrityError, match="full"):
        on_sqlite.build(claim)
    assert on_sqlite.state(job_id) == "running"
    assert len(on_sqlite.table.events(job_id)) == 2
    on_sqlite.database.execute_sql("drop trigger no_room")
    assert on_sqlite.build(claim)
    assert on_sqlite.statistics.processed() == 1
    assert len(on_sqlite.table.view(job_id, private=True)["mails"]) == 1


@pytest.mark.parametrize(("limit", "queue"), [(1000, FAST), (1001, SLOW), (0, FAST), (None, FAST)])
def test_the_limit_divides_fast_from_slow(bench: Bench, limit: int | None, queue: str) -> None:
    # An offset makes a request no smaller.
    job_id = bench.accept(limit=limit, offset=500)
    assert bench.table.view(job_id)["queue"] == queue


def test_a_job_that_turns_out_to_be_slow_waits_for_the_slow_pool(bench: Bench) -> None:
    job_id = bench.accept()
    bench.table.move_to_slow(bench.claim(), 5000, 0)
    assert bench.table.claim(FAST, 0) is None
    assert bench.claim(SLOW).id == job_id
    assert bench.table.view(job_id)["rows_total"] == 5000


def test_the_same_request_is_built_once_and_mailed_to_each(bench: Bench) -> None:
    first = bench.accept(email="a@localhost.example")
    second = bench.accept(email="b@localhost.example")
    other = bench.accept(q="other")
    claim = bench.claim()
    assert bench.claim().id == other  # the second waits for the first, and holds nobody up
    assert bench.table.claim(FAST, 0) is None
    bench.build(claim)
    assert bench.table.claim(FAST, 0) is None
    assert {bench.state(first), bench.state(second)} == {"built"}
    notices = []
    while (delivery := bench.outbox.claim(0)) is not None:
        notices.append(delivery.notice)
    assert [notice.email for notice in notices] == ["a@localhost.example", "b@localhost.example"]
    assert {notice.zip_file_name for notice in notices} == {claim.zip_file_name}


def test_the_same_request_from_the_same_address_is_the_same_job_while_it_is_unfinished(bench: Bench) -> None:
    first = bench.accept(email="Visitor@localhost.example")
    assert bench.accept() == first  # in any case
    claim = bench.claim()
    assert bench.accept() == first
    bench.table.hand_back(claim, "the service is stopping", 0)
    assert bench.accept() == first
    for parameters in ({"email": "b@localhost.example"}, {"q": "x"}, {"key": "k"}, {"doi": "10.5072/x"}):
        assert bench.accept(**parameters) != first
    bench.build(bench.claim())
    assert bench.accept() == first  # its mail is on its way
    bench.mail()
    assert bench.accept() != first


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_who_asks_again_for_what_has_ended_badly_is_given_a_new_job(bench: Bench, how: str) -> None:
    first = bench.accept()
    if how == "failed":
        bench.table.failed(bench.claim(), "no", 0)
    else:
        bench.table.cancel(first, 0)
    assert bench.accept() != first


def test_a_package_that_waits_to_be_announced_for_too_long_is_made_anew(bench: Bench) -> None:
    first = bench.accept()
    claim = bench.claim()
    bench.build(claim)
    assert bench.accept(now=bench.settings.CACHE_TIME - 1) == first
    assert bench.accept(now=bench.settings.CACHE_TIME) != first
    bench.store.path(claim.zip_file_name).unlink()
    assert bench.accept(now=1) != first


@pytest.mark.parametrize("end", ["done", "failed", "cancelled", "expired"])
def test_a_key_leads_to_its_job_for_as_long_as_that_is_known(bench: Bench, end: str) -> None:
    job = bench.job()
    first = bench.ask(job, 0, "the key")
    if end == "cancelled":
        bench.table.cancel(first, 0)
    elif end == "failed":
        bench.table.failed(bench.claim(), "no", 0)
    else:
        bench.build(bench.claim())
        bench.mail()
    bench.table.remove_packages(10**9)
    if end == "expired":
        assert bench.state(first) == "expired"
    assert bench.ask(job, 10**9, "the key") == first
    assert bench.ask(job, 10**9, "another key") != first
    for other in (bench.job(q="x"), bench.job(email="b@localhost.example")):
        with pytest.raises(ConflictError, match="used for another request"):
            bench.ask(other, 0, "the key")


def test_a_key_that_came_with_a_repetition_leads_to_the_first(bench: Bench) -> None:
    first = bench.accept()
    assert bench.ask(bench.job(), 0, "the key") == first
    bench.table.cancel(first, 0)
    assert bench.ask(bench.job(), 0, "the key") == first


def test_a_key_of_an_anonymous_visitor_names_nobody(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ANONYMIZE_EMAILS=True)
    job = bench.job()
    first = bench.ask(job, 0, "the key")
    bench.table.cancel(first, 0)
    assert bench.ask(job, 0, "the key") == first
    plain = hashlib.sha256(f"{job.cache_key} {job.email}".encode()).hexdigest()
    assert models.RequestKeyRow.get().fingerprint != plain
    bench.database.close()


def test_nothing_new_is_accepted_while_the_service_is_closed_or_full(
    on_sqlite: Bench, tmp_path: Path
) -> None:
    bench = on_sqlite
    bench.settings = dataclasses.replace(bench.settings, QUEUE_LENGTH=2)
    bench.table = JobTable(bench.database, bench.settings, bench.store, bench.statistics)
    first = bench.ask(bench.job(), 0, "the key")
    with pytest.raises(UnavailableError, match="^closed$"):
        bench.ask(bench.job(q="x"), 0, closed="closed")
    assert bench.ask(bench.job(), 0, closed="closed") == first
    bench.ask(bench.job(q="x"), 0)
    with pytest.raises(UnavailableError, match="more requests than it can take"):
        bench.ask(bench.job(q="y"), 0)
    assert bench.ask(bench.job(), 0, "the key") == first
    assert bench.table.counts()["queue_length"] == 2
    bench.table.cancel(first, 0)
    bench.ask(bench.job(q="y"), 0)
    assert bench.table.counts()["queue_length"] == 2


def test_requests_that_share_a_commit_are_answered_each_by_itself(on_sqlite: Bench, tmp_path: Path) -> None:
    bench = on_sqlite
    bench.settings = dataclasses.replace(bench.settings, QUEUE_LENGTH=3)
    bench.table = JobTable(bench.database, bench.settings, bench.store, bench.statistics)
    known = bench.ask(bench.job(q="0"), 0, "its key")
    jobs = [bench.job(q=q) for q in "120123"]
    answers = bench.table.accept([Request(jobs[0]), Request(jobs[1], "its key"), *map(Request, jobs[2:])], 0)
    kinds = [answer if isinstance(answer, str) else type(answer) for answer in answers]
    first, second = answers[0], answers[4]
    assert kinds == [first, ConflictError, known, first, second, UnavailableError]
    assert [bench.state(str(answer)) for answer in (known, first, second)] == ["queued"] * 3
    assert bench.table.counts()["queue_length"] == 3


def test_of_requests_that_share_a_commit_all_are_accepted_or_none(on_sqlite: Bench) -> None:
    bench = on_sqlite
    bench.database.execute_sql(
        "CREATE TRIGGER full BEFORE INSERT ON jobs WHEN NEW.resource_id = 'x'"
        " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
    )
    with pytest.raises(peewee.IntegrityError):
        bench.table.accept([Request(bench.job()), Request(bench.job(resource_id="x"))], 0)
    assert bench.table.counts()["queue_length"] == 0
    bench.ask(bench.job(), 0)
    assert bench.table.counts()["queue_length"] == 1


def test_no_question_takes_longer_for_all_that_is_finished(on_sqlite: Bench) -> None:
    """Each is answered by an index: nothing is read from one end to the other."""
    bench, plans = on_sqlite, []
    execute = bench.database.execute_sql

    def explain(sql: str, params: Any = None, *arguments: Any) -> Any:
        if sql.startswith(("SELECT", "UPDATE", "DELETE")):
            plans.extend((sql, row[3]) for row in execute("EXPLAIN QUERY PLAN " + sql, params).fetchall())
        return execute(sql, params, *arguments)

    bench.database.execute_sql = explain
    done = bench.finish()
    queued = bench.ask(bench.job(resource_id="a"), 0, "the key")
    bench.ask(bench.job(resource_id="a"), 0, "the key")
    bench.table.counts()
    for job_id in (done, queued):
        bench.table.view(job_id)
        bench.table.view(job_id, private=True)
        bench.table.events(job_id)
    bench.table.package(bench.table.view(done)["download_url"].rpartition("/")[2])
    bench.table.failed(bench.claim(), "no", 0)
    bench.table.page("failed", 0, 10)
    del bench.database.execute_sql
    assert len(plans) > 20
    scans = [(sql, plan) for sql, plan in plans if plan.startswith("SCAN")]
    assert [scan for scan in scans if scan[1] != "SCAN CONSTANT ROW"] == []
    twins = [plan for sql, plan in plans if '"jobs"' in sql and '"cache_key" = ?) AND' in sql]
    assert twins
    assert {"jobrow_cache_key_state" in plan for plan in twins} == {True}, twins


def test_what_has_been_processed_is_counted_on_and_not_anew(bench: Bench) -> None:
    for number in range(3):
        bench.finish(resource_id=f"r{number}")
        assert bench.table.counts()["processed_requests"] == number + 1
    assert Statistics(False, "another start").processed() == 3


def test_a_package_made_lately_is_used_again_at_once(bench: Bench) -> None:
    done = bench.finish(now=0)
    again = bench.accept(now=bench.settings.CACHE_TIME - 1, email="b@localhost.example")
    assert bench.state(again) == "built"
    assert bench.table.view(again)["download_url"] == bench.table.view(done)["download_url"]


@pytest.mark.parametrize("parameters", [{"key": "private"}, {"limit": 5}, {"filters": '{"a": 1}'}])
def test_a_package_is_not_used_for_another_request(bench: Bench, parameters: dict[str, Any]) -> None:
    bench.finish()
    assert bench.state(bench.accept(**parameters)) == "queued"


def test_whoever_hears_of_a_package_last_has_all_the_time_for_it(bench: Bench) -> None:
    """It is used again, and the mail about it is sent late."""
    day, keep = 86_400, bench.settings.KEEP_TIME
    first = bench.accept(email="a@localhost.example")
    bench.build(bench.claim())
    bench.mail(10)
    assert bench.table.view(first)["expires"] == 10 + keep
    second = bench.accept(day - 10, email="b@localhost.example")
    assert bench.table.view(second)["expires"] == day - 10 + keep
    bench.mail(3 * day)
    assert bench.table.view(second)["expires"] == 3 * day + keep
    assert bench.table.remove_packages(2 * day + keep) == []
    assert len(bench.table.remove_packages(3 * day + keep)) == 1


def test_a_package_that_is_too_old_or_gone_is_not_used_again(bench: Bench) -> None:
    job_id = bench.finish(now=0)
    assert bench.state(bench.accept(now=bench.settings.CACHE_TIME)) == "queued"
    name = bench.table.view(job_id)["download_url"].rpartition("/")[2]
    bench.store.path(name).write_bytes(b"cut")
    assert bench.state(bench.accept(now=1)) == "queued"
    bench.store.path(name).unlink()
    assert bench.state(bench.accept(now=1)) == "queued"
    while (claim := bench.table.claim(FAST, DAY)) is not None:
        bench.build(claim, 2)
    assert bench.state(bench.accept(now=3)) == "built"  # from the newer one


def test_a_late_report_changes_nothing(bench: Bench) -> None:
    job_id = bench.accept()
    late = bench.claim()
    bench.table.worker_lost(late, "killed", 0)
    now = bench.claim()
    assert not bench.build(late)
    bench.table.failed(late, "too late", 0)
    bench.table.worker_lost(late, "killed again", 0)
    bench.table.hand_back(late, "too late", 0)
    bench.table.source_unavailable(late, "too late", 0)
    bench.table.move_to_slow(late, 10**6, 0)
    assert bench.state(job_id) == "running"
    assert bench.build(now)


def test_a_job_whose_worker_dies_is_tried_again_and_not_for_ever(bench: Bench) -> None:
    job_id = bench.accept()
    now = 0.0
    for _ in range(bench.settings.MAX_ATTEMPTS - 1):
        now += 60
        bench.table.worker_lost(bench.claim(now=now), "killed", now)
        assert bench.state(job_id) == "queued"
    bench.table.worker_lost(bench.claim(now=now + 60), "killed", now + 60)
    assert bench.state(job_id) == "failed"
    assert "died 3 times, last killed" in bench.table.view(job_id)["error"]
    delivery = bench.outbox.claim(now)
    assert delivery is not None
    assert (delivery.notice.kind, delivery.notice.error) == ("failed", bench.table.view(job_id)["error"])


def test_a_job_that_killed_its_worker_waits_longer_each_time(bench: Bench) -> None:
    bench.accept()
    bench.table.worker_lost(bench.claim(now=0), "killed", 0)
    bench.table.worker_lost(bench.claim(now=0), "killed", 0)  # once is an accident
    assert bench.table.claim(FAST, 4) is None
    assert bench.table.claim(FAST, 5) is not None


def test_being_stopped_is_not_held_against_a_job(bench: Bench) -> None:
    job_id = bench.accept()
    for _ in range(10):
        bench.table.hand_back(bench.claim(), "the service is stopping", 0)
    assert bench.state(job_id) == "queued"


def test_a_job_waits_for_a_source_that_is_down_and_fails_at_last(bench: Bench) -> None:
    job_id = bench.accept()
    now, tries = 0.0, 0
    while bench.state(job_id) != "failed":
        assert now < 2 * bench.settings.SOURCE_RETRY_TIME
        while (claim := bench.table.claim(FAST, now)) is None:
            now += 10
        bench.table.source_unavailable(claim, "CKAN is down", now)
        tries += 1
    assert now >= bench.settings.SOURCE_RETRY_TIME
    assert 5 < tries < 100
    assert bench.table.view(job_id)["error"] == "CKAN is down"


def test_a_source_is_left_alone_for_as_long_as_it_asked(bench: Bench) -> None:
    bench.accept()
    bench.table.source_unavailable(bench.claim(), "down", 0, 3600)
    assert bench.table.claim(FAST, 3599) is None
    assert bench.table.claim(FAST, 3600) is not None


def test_a_source_that_asks_for_more_than_it_is_given_is_asked_once_more_at_the_end(bench: Bench) -> None:
    job_id, patience = bench.accept(), bench.settings.SOURCE_RETRY_TIME
    bench.table.source_unavailable(bench.claim(), "down", 0, 10 * patience)
    assert bench.table.claim(FAST, patience - 1) is None
    bench.table.source_unavailable(bench.claim(now=patience), "down", patience, 10 * patience)
    assert bench.state(job_id) == "failed"


def test_a_source_that_came_back_is_given_its_whole_patience_again(bench: Bench) -> None:
    job_id = bench.accept()
    bench.table.source_unavailable(bench.claim(), "down", 0)
    assert bench.table.view(job_id)["error"] == "down"
    bench.build(bench.claim(now=10), 10)
    assert bench.table.view(job_id)["error"] is None


@pytest.mark.parametrize("how", ["it was sized", "it was built, and the store lost it"])
def test_patience_is_counted_from_when_the_source_was_last_heard_of(bench: Bench, how: str) -> None:
    job_id = bench.accept()
    bench.table.source_unavailable(bench.claim(), "down", 0)
    queue, late = FAST, bench.settings.SOURCE_RETRY_TIME + 100
    if how == "it was sized":
        bench.table.move_to_slow(bench.claim(now=10), 5000, 10)
        assert bench.table.view(job_id)["error"] is None
        queue = SLOW
    else:
        claim = bench.claim(now=10)
        bench.build(claim, 10)
        bench.store.path(claim.zip_file_name).unlink()
        bench.table.recover(20)
    bench.table.source_unavailable(bench.claim(queue, now=late), "down again", late)
    assert bench.state(job_id) == "queued"


def test_cancelling_ends_a_job_wherever_it_is(bench: Bench) -> None:
    waiting, running = bench.accept(resource_id="w"), bench.accept(resource_id="r")
    assert bench.table.cancel(waiting, 1) is None
    claim = bench.claim()
    assert claim.id == running
    assert bench.table.cancel(running, 1) == claim.lease
    assert not bench.build(claim)
    built = bench.accept(resource_id="b")
    bench.build(bench.claim())
    bench.table.cancel(built, 1)
    assert bench.outbox.claim(1) is None
    assert {bench.state(job_id) for job_id in (waiting, running, built)} == {"cancelled"}
    assert {bench.table.view(job_id)["finished"] for job_id in (waiting, running, built)} == {1}
    with pytest.raises(ConflictError, match="only an unfinished job"):
        bench.table.cancel(waiting, 2)
    with pytest.raises(NotFoundError):
        bench.table.cancel("0" * 32, 2)


def test_a_failed_job_can_be_tried_again(bench: Bench) -> None:
    job_id = bench.accept(key="k")
    bench.table.failed(bench.claim(), "CKAN said no", 1)
    bench.mail(now=2)
    bench.table.retry(job_id, 3)
    claim = bench.claim(now=3)
    assert (claim.id, claim.job.key) == (job_id, "k")
    assert bench.table.view(job_id)["finished"] is None
    bench.build(claim)
    bench.mail()
    assert bench.state(job_id) == "done"
    with pytest.raises(ConflictError, match="only a failed job"):
        bench.table.retry(job_id, 4)


@pytest.mark.parametrize("then", ["delayed", "the service was killed"])
@pytest.mark.parametrize("what", ["cancelled", "tried again"])
def test_a_mail_under_way_that_is_no_longer_true_is_not_tried_again(
    bench: Bench, what: str, then: str
) -> None:
    job_id = bench.accept()
    if what == "cancelled":
        bench.build(bench.claim())
    else:
        bench.table.failed(bench.claim(), "no", 0)
    delivery = bench.outbox.claim(0)
    assert delivery is not None
    if what == "cancelled":
        bench.table.cancel(job_id, 1)
    else:
        bench.table.retry(job_id, 1)
    if then == "delayed":
        bench.outbox.delayed(delivery, "connection refused", 2)
    else:
        bench.table.recover(2)
    assert bench.outbox.claim(10**6) is None


def test_a_mail_that_was_sent_all_the_same_changes_nothing(bench: Bench) -> None:
    job_id = bench.accept()
    bench.build(bench.claim())
    delivery = bench.outbox.claim(0)
    assert delivery is not None
    bench.table.cancel(job_id, 1)
    bench.outbox.sent(delivery, 2)
    assert bench.state(job_id) == "cancelled"


def test_a_restart_tries_at_once_what_was_waiting(bench: Bench) -> None:
    waiting = bench.accept(resource_id="a")
    bench.table.source_unavailable(bench.claim(), "CKAN is down", 0)
    bench.accept(resource_id="b")
    bench.build(bench.claim())
    delivery = bench.outbox.claim(0)
    assert delivery is not None
    bench.outbox.delayed(delivery, "connection refused", 0)
    assert bench.table.claim(FAST, 1) is None
    assert bench.outbox.claim(1) is None
    bench.table.recover(1)
    assert bench.claim(now=1).id == waiting
    assert bench.outbox.claim(1) is not None


def test_a_failure_that_is_tried_again_is_not_announced_any_more(bench: Bench) -> None:
    job_id = bench.accept()
    bench.table.failed(bench.claim(), "CKAN said no", 1)
    bench.table.retry(job_id, 2)
    assert bench.outbox.claim(3) is None


def test_a_job_that_is_tried_again_has_all_its_tries(bench: Bench) -> None:
    job_id = bench.accept()
    for now in range(bench.settings.MAX_ATTEMPTS):
        bench.table.worker_lost(bench.claim(now=10 * now), "killed", 10 * now)
    assert bench.state(job_id) == "failed"
    bench.table.retry(job_id, 101)
    bench.table.worker_lost(bench.claim(now=101), "killed", 101)
    assert bench.state(job_id) == "queued"


def test_a_restart_goes_on_with_what_was_under_way(bench: Bench) -> None:
    running, waiting = bench.accept(resource_id="a"), bench.accept(resource_id="b")
    claim = bench.claim()
    # Killed between giving the package its name and writing that down:
    bench.store.path(claim.zip_file_name).write_bytes(b"12345")
    built = bench.accept(resource_id="c")
    bench.table.claim(FAST, 0)
    bench.build(bench.claim())
    assert bench.outbox.claim(0) is not None  # killed in mid-mail
    bench.table.recover(5)
    assert not bench.store.path(claim.zip_file_name).exists()
    assert [bench.state(job_id) for job_id in (running, waiting, built)] == ["queued", "queued", "built"]
    again = bench.outbox.claim(5)
    assert again is not None
    assert again.notice.job_id == built


def test_after_a_restart_nothing_is_announced_that_the_store_has_lost(bench: Bench) -> None:
    done = bench.finish(resource_id="a")
    built = bench.accept(resource_id="b")
    bench.build(bench.claim())
    for path in bench.store.folder.glob("*.zip"):
        path.unlink()
    bench.table.recover(5)
    assert (bench.state(done), bench.state(built)) == ("expired", "queued")
    assert bench.outbox.claim(5) is None


def test_a_notice_says_all_about_its_package(bench: Bench) -> None:
    job_id = bench.accept(doi="10.5072/x")
    claim = bench.claim()
    bench.build(claim, now=100)
    delivery = bench.outbox.claim(100)
    assert delivery is not None
    assert delivery.notice == Notice(
        kind="ready",
        job_id=job_id,
        email="visitor@localhost.example",
        resource_id="r",
        zip_file_name=claim.zip_file_name,
        ckan_host="ckan.example",
        doi="10.5072/x",
        download_url=f"https://packages.example/download/{claim.zip_file_name}",
        status_url=f"https://packages.example/jobs/{job_id}",
        rows=3,
        size=5,
        sha256="0" * 64,
        expires=100 + bench.settings.KEEP_TIME,
        report="",
        error="",
    )


def test_what_is_worth_knowing_about_a_package_goes_with_it_to_all_who_get_it(bench: Bench) -> None:
    first = bench.accept()
    bench.build(bench.claim(), report="2 rows had no date.\n<b>")
    second = bench.accept(email="b@localhost.example")
    for job_id in (first, second):
        delivery = bench.outbox.claim(0)
        assert delivery is not None
        assert delivery.notice.report == "2 rows had no date.\n<b>"
        assert bench.table.view(job_id)["report"] == "2 rows had no date.\n<b>"


def test_a_mail_server_that_is_down_delays_the_mail_and_loses_nothing(bench: Bench) -> None:
    job_id = bench.accept()
    bench.build(bench.claim())
    now, tries = 0.0, 0
    while now < bench.settings.MAIL_RETRY_TIME / 2:
        if (delivery := bench.outbox.claim(now)) is not None:
            tries += 1
            bench.outbox.delayed(delivery, "connection refused", now)
        now += 60
    assert bench.state(job_id) == "built"
    assert 10 < tries < 200
    now += 3600
    bench.mail(now)
    assert bench.state(job_id) == "done"


@pytest.mark.parametrize("how", ["refused", "delayed for too long"])
def test_a_mail_that_cannot_be_delivered_is_said_and_the_package_stays(bench: Bench, how: str) -> None:
    job_id = bench.accept()
    bench.build(bench.claim())
    delivery = bench.outbox.claim(0)
    assert delivery is not None
    if how == "refused":
        bench.outbox.refused(delivery, "550 no such user", 1)
    else:
        bench.outbox.delayed(delivery, "550 no such user", bench.settings.MAIL_RETRY_TIME)
    job = bench.table.view(job_id)
    assert job["state"] == "failed"
    assert job["error"] == "The package is ready, but the e-mail could not be sent: 550 no such user"
    assert job["download_url"]
    assert bench.statistics.totals()["*"] == {"emails": 1, "requests": 1, "errors": 1}
    bench.table.retry(job_id, 2)
    assert bench.state(job_id) == "built"  # nothing is built again
    assert bench.statistics.totals()["*"] == {"emails": 1, "requests": 1, "errors": 1}  # nor counted
    assert bench.outbox.claim(2) is not None


def test_a_package_that_was_lost_is_built_again_where_its_mail_was_refused(bench: Bench) -> None:
    job_id = bench.accept()
    claim = bench.claim()
    bench.build(claim)
    delivery = bench.outbox.claim(0)
    assert delivery is not None
    bench.outbox.refused(delivery, "550 no such user", 1)
    bench.store.path(claim.zip_file_name).unlink()
    bench.table.retry(job_id, 2)
    job = bench.table.view(job_id)
    assert (job["state"], job["download_url"], job["rows_done"]) == ("queued", None, None)
    bench.build(bench.claim(now=3))
    assert bench.statistics.processed() == 1


def test_what_is_old_is_removed_and_its_job_says_so(bench: Bench) -> None:
    old, new = bench.finish(now=0, resource_id="a"), bench.finish(now=DAY, resource_id="b")
    now = bench.settings.KEEP_TIME
    url = bench.table.view(old)["download_url"]
    names = bench.table.remove_packages(now)
    assert names == [url.rpartition("/")[2]]
    assert (bench.state(old), bench.state(new)) == ("expired", "done")
    assert bench.table.view(old)["download_url"] is None
    bench.store.remove(names)
    with pytest.raises(GoneError):
        bench.table.package(names[0])
    with pytest.raises(NotFoundError):
        bench.table.package("never-was.zip")


def test_what_is_still_to_be_announced_or_linked_to_is_kept(bench: Bench) -> None:
    linked = bench.finish(resource_id="a")
    name = bench.table.view(linked)["download_url"].rpartition("/")[2]
    (bench.store.folder / "newest.zip").symlink_to(name)
    built = bench.accept(resource_id="b")
    bench.build(bench.claim())
    assert bench.table.remove_packages(10**9, cutoff=10**9) == []
    assert (bench.state(linked), bench.state(built)) == ("done", "built")
    # The caches were to be cleared: what is kept is not handed to anybody else.
    assert bench.state(bench.accept(resource_id="b")) == "queued"


def test_room_is_made_with_what_was_announced_longest_ago_and_with_no_more(bench: Bench) -> None:
    built = []
    for name in "abcd":
        bench.accept(resource_id=name)
        built.append(bench.claim())
    for claim in built:
        bench.build(claim, now=1)
    order = {"c": 2, "a": 3, "d": 4}  # b is yet to be announced
    for name, now in order.items():
        mail = models.MailRow.select().join(models.JobRow).where(models.JobRow.resource_id == name).get()
        bench.outbox.sent(Delivery(mail.id, Notice("ready", "", "", "")), now)
    names = {claim.job.resource_id: claim.zip_file_name for claim in built}
    assert bench.table.stored() == 20
    assert bench.table.make_room(0, 5, ()) == []
    assert bench.table.make_room(6, 5, ()) == [names["c"], names["a"]]
    assert bench.table.stored() == 10
    assert {claim.job.resource_id: bench.state(claim.id) for claim in built} == {
        "a": "expired",
        "b": "built",
        "c": "expired",
        "d": "done",
    }
    assert bench.table.events(built[2].id)[-1]["reason"] == "the package was removed to make room"
    assert bench.table.make_room(10**9, 5, {names["d"]}) == []
    (bench.store.folder / "newest.zip").symlink_to(names["d"])
    assert bench.table.make_room(10**9, 5, ()) == []
    (bench.store.folder / "newest.zip").unlink()
    assert bench.table.make_room(10**9, 5, ()) == [names["d"]]
    assert bench.table.stored() == 5


def test_a_job_whose_mail_was_refused_expires_with_its_package(bench: Bench) -> None:
    job_id = bench.accept(key="very-private")
    bench.build(bench.claim())
    delivery = bench.outbox.claim(0)
    assert delivery is not None
    bench.outbox.refused(delivery, "550 no such user", 1)
    assert len(bench.table.remove_packages(bench.settings.KEEP_TIME)) == 1
    job = bench.table.view(job_id)
    assert (job["state"], job["download_url"]) == ("expired", None)
    assert "very-private" not in models.JobRow.get(id=job_id).request
    assert bench.statistics.totals()["*"] == {"emails": 1, "requests": 1, "errors": 1}


def test_packages_that_the_retired_service_left_are_removed_when_they_are_old(bench: Bench) -> None:
    for name, modified in (("old.zip", 0), ("new.zip", 7 * DAY), ("notes.txt", 0), ("linked.zip", 0)):
        path = bench.store.folder / name
        path.write_bytes(b"x")
        os.utime(path, (modified, modified))
    (bench.store.folder / "newest.zip").symlink_to("linked.zip")
    running = bench.accept()
    just_named = bench.store.path(bench.claim().zip_file_name)
    just_named.write_bytes(b"12345")
    os.utime(just_named, (0, 0))
    assert bench.table.remove_packages(8 * DAY) == ["old.zip"]
    assert sorted(bench.table.remove_packages(8 * DAY, cutoff=8 * DAY)) == ["new.zip", "old.zip"]
    assert bench.state(running) == "running"


def test_a_package_whose_removal_was_interrupted_goes_the_next_time(bench: Bench) -> None:
    job_id = bench.finish(now=0)
    path = bench.store.path(bench.table.view(job_id)["download_url"].rpartition("/")[2])
    os.utime(path, (0, 0))
    now = bench.settings.KEEP_TIME + 1
    assert bench.table.remove_packages(now) == [path.name]
    # Killed before the file was unlinked:
    assert path.exists()
    assert bench.state(bench.accept(now=1)) == "queued"
    bench.table.recover(now + 1)
    assert bench.table.remove_packages(now + DAY) == [path.name]


def test_an_address_is_hashed_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ANONYMIZE_EMAILS=True)
    job_id = bench.accept(q="somebody@localhost.example")
    bench.table.failed(bench.claim(), "no", 0)
    shown = []
    for _ in range(2):
        bench.table.remove_packages(bench.settings.KEEP_TIME + 1)
        shown.append(bench.table.view(job_id, private=True)["email"])
    assert shown == [bench.statistics.address("visitor@localhost.example")] * 2
    with pytest.raises(ConflictError, match="no longer known"):
        bench.table.retry(job_id, 10**7)
    bench.database.close()


def test_a_finished_job_forgets_the_key(bench: Bench) -> None:
    job_id = bench.accept(key="very-private")
    assert "very-private" in models.JobRow.get(id=job_id).request
    bench.build(bench.claim())
    bench.mail()
    assert "very-private" not in models.JobRow.get(id=job_id).request
    cancelled = bench.accept(key="very-private", q="y")
    bench.table.cancel(cancelled, 0)
    assert "very-private" not in models.JobRow.get(id=cancelled).request
    failed = bench.accept(key="very-private", q="x")
    bench.table.failed(bench.claim(), "no", 0)
    bench.table.remove_packages(bench.settings.KEEP_TIME)
    assert "very-private" in models.JobRow.get(id=failed).request  # a retry needs it
    bench.table.remove_packages(bench.settings.KEEP_TIME + 1)
    assert "very-private" not in models.JobRow.get(id=failed).request


def test_with_anonymized_addresses_none_stays_behind(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ANONYMIZE_EMAILS=True)
    job_id = bench.finish(email="Visitor@localhost.example")
    bench.finish(email="visitor@localhost.example", resource_id="other")
    assert bench.statistics.totals()["*"]["emails"] == 1
    assert (
        bench.statistics.requests(0, 9, None, "VISITOR@localhost.example")[0]["domain"] == "localhost.example"
    )
    assert "@" not in bench.table.view(job_id, private=True)["email"]
    rows = bench.database.execute_sql("select request from jobs union all select email from requests")
    assert not [text for (text,) in rows if "isitor@" in text]
    bench.database.close()


def test_the_counts_are_those_of_the_rows(bench: Bench) -> None:
    bench.finish(resource_id="done")
    for number in range(3):
        bench.accept(resource_id=f"r{number}")
    bench.accept(limit=5000)
    bench.claim()
    assert bench.table.counts() == {
        "queue_length": 4,
        "processed_requests": 1,
        "pools": {"fast": {"running": 1, "waiting": 2}, "slow": {"running": 0, "waiting": 1}},
    }
    jobs, total = bench.table.page("queued", 1, 1)
    assert (len(jobs), total) == (1, 3)
    assert jobs[0]["resource_id"] == "r2"
    jobs, total = bench.table.page(None, 0, 2)
    assert (total, [job["resource_id"] for job in jobs]) == (5, ["r", "r2"])


def test_a_database_that_is_locked_refuses_instead_of_forgetting(on_sqlite: Bench, tmp_path: Path) -> None:
    on_sqlite.database.execute_sql("pragma busy_timeout = 1")
    other = peewee.SqliteDatabase(tmp_path / "stats.db", timeout=0)
    with other.atomic("EXCLUSIVE"), pytest.raises(peewee.OperationalError):
        on_sqlite.accept()
    other.close()
    assert on_sqlite.table.counts()["queue_length"] == 0
    on_sqlite.accept()
    assert on_sqlite.table.counts()["queue_length"] == 1
