"""Whatever is killed in the middle of a page, no package is wrong."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from tests.ckan.bed import SECRET, RealCkan
from tests.ckan.conftest import Tables
from tests.ckan.installation import version_numbers
from tests.ckan.orders import Counter
from tests.ckan.queries import Query
from tests.ckan.relay import Gate, Relay
from tests.services import Service, running_service
from tests.sinks import Sink

QUERIES = [
    Query("everything"),
    Query("by genus", {"sort": "Genus desc"}, order='"Genus" DESC, _id'),
    Query("q", {"q": "common"}, "_full_text @@ plainto_tsquery('english', 'common')"),
]
in_every_order = pytest.mark.parametrize("query", QUERIES, ids=[query.name for query in QUERIES])


@pytest.fixture(scope="module")
def hasty(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that does not wait long for an answer."""
    folder = tmp_path_factory.mktemp("hasty")
    with running_service(folder, SECRET=SECRET, PAGE_SIZE=1000, READ_TIMEOUT=5, **sink.settings) as service:
        yield service


@pytest.fixture(scope="module")
def often(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that makes a checkpoint after every page."""
    folder = tmp_path_factory.mktemp("often")
    with running_service(folder, hurried=True, SECRET=SECRET, PAGE_SIZE=1000, **sink.settings) as service:
        yield service


@pytest.fixture(scope="module")
def counter(hasty: Service, sink: Sink) -> Counter:
    return Counter(hasty, sink, "hasty")


@pytest.fixture(autouse=True)
def afterwards(ckan: RealCkan) -> Iterator[None]:
    """All is well again for the next test."""
    yield
    ckan.resume()
    if ckan.postgresql.process is None:
        ckan.start_postgresql()
    if ckan.website.process is None:
        ckan.start()
    ckan.website.wait_until_ready()


@contextlib.contextmanager
def in_mid_page(ckan: RealCkan, table: str, gate: Gate) -> Iterator[None]:
    """Inside, CKAN is busy with the page that waited at the gate: a lock holds it there."""
    gate.reached()
    with contextlib.closing(ckan.postgresql.connect("datastore")) as connection:
        with connection.cursor() as cursor:
            cursor.execute(f'LOCK TABLE "{table}"')
        gate.open()
        ckan.wait_for_a_blocked_query()
        yield
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()


def check_after(
    counter: Counter, ckan: RealCkan, table: str, query: Query, happens: Callable[[], None]
) -> None:
    """The rows are right although this happens while they are read."""
    visitor = counter.new_visitor()
    with Relay(ckan.url) as relay:
        gate = relay.hold(page=2)
        job_id = counter.post(visitor, resource_id=table, api_url=relay.api_url, **query.parameters)
        with in_mid_page(ckan, table, gate):
            happens()
        job = counter.finished(job_id)
    check_package(counter, ckan, table, query, visitor, job["error"])


def check_package(
    counter: Counter, ckan: RealCkan, table: str, query: Query, visitor: str, error: str | None
) -> None:
    assert error is None, error
    package = counter.collect(visitor)
    assert package.rows()[0] == query.columns(ckan, table)
    assert package.body == query.expected(ckan, table)


@in_every_order
def test_killed_workers_of_ckan_lose_no_row(
    counter: Counter, ckan: RealCkan, tables: Tables, query: Query
) -> None:
    check_after(counter, ckan, tables.specimens, query, ckan.kill_workers)


@in_every_order
def test_a_killed_worker_of_ours_is_followed_by_one_that_goes_on(
    often: Service, ckan: RealCkan, tables: Tables, sink: Sink, query: Query
) -> None:
    counter = Counter(often, sink, f"often-{query.name.replace(' ', '-')}")
    visitor, seen = counter.new_visitor(), len(often.lines)
    with Relay(ckan.url) as relay:
        gate = relay.hold(page=4)  # it is asked for when the first is in the ZIP
        job_id = counter.post(
            visitor, resource_id=tables.specimens, api_url=relay.api_url, **query.parameters
        )
        gate.reached()
        (worker,) = often.worker_pids()
        os.kill(worker, signal.SIGKILL)
        often.wait_for_log(f"job {job_id} queued: its worker died", after=seen)
        gate.open()
        job = counter.finished(job_id)
    check_package(counter, ckan, tables.specimens, query, visitor, job["error"])
    went_on = any("goes on after" in line for line in often.lines[seen:])
    assert went_on == (query.order == "_id" and version_numbers(ckan.version) >= (2, 12))


@in_every_order
def test_a_crash_of_postgresql_loses_no_row(
    counter: Counter, ckan: RealCkan, tables: Tables, query: Query
) -> None:
    def crash() -> None:
        ckan.stop_postgresql()
        ckan.start_postgresql()

    check_after(counter, ckan, tables.specimens, query, crash)


def test_a_restart_of_ckan_loses_no_row(counter: Counter, ckan: RealCkan, tables: Tables) -> None:
    def restart() -> None:
        ckan.stop()
        ckan.start()

    check_after(counter, ckan, tables.specimens, QUERIES[0], restart)


def test_a_ckan_that_falls_silent_is_asked_again(
    hasty: Service, counter: Counter, ckan: RealCkan, tables: Tables
) -> None:
    def fall_silent() -> None:
        seen = len(hasty.lines)
        ckan.pause()
        hasty.wait_for_log("did not answer in time", after=seen)
        ckan.resume()

    check_after(counter, ckan, tables.specimens, QUERIES[0], fall_silent)


@in_every_order
def test_a_connection_that_breaks_in_mid_page_loses_no_row(
    counter: Counter, ckan: RealCkan, tables: Tables, query: Query
) -> None:
    visitor = counter.new_visitor()
    with Relay(ckan.url) as relay:
        for page in (1, 3, 4):
            relay.cut(page)
        job_id = counter.post(
            visitor, resource_id=tables.specimens, api_url=relay.api_url, **query.parameters
        )
        job = counter.finished(job_id)
        assert relay.have_been_cut == {1, 3, 4}
    check_package(counter, ckan, tables.specimens, query, visitor, job["error"])


def test_while_postgresql_is_down_nothing_is_announced_and_then_all(
    hasty: Service, counter: Counter, ckan: RealCkan, tables: Tables
) -> None:
    visitor, query = counter.new_visitor(), QUERIES[1]
    with Relay(ckan.url) as relay:
        gate = relay.hold(page=2)
        job_id = counter.post(
            visitor, resource_id=tables.specimens, api_url=relay.api_url, **query.parameters
        )
        with in_mid_page(ckan, tables.specimens, gate):
            seen = len(hasty.lines)
            ckan.stop_postgresql()
        # It is given up for now: the job waits.
        hasty.wait_for_log(f"job {job_id} (queued|failed)", after=seen, timeout=60)
        job = hasty.job(job_id)
        assert (job["state"], job["download_url"]) == ("queued", None)
        ckan.start_postgresql()
        job = counter.finished(job_id)
    check_package(counter, ckan, tables.specimens, query, visitor, job["error"])
