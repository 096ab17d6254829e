"""One CKAN for all these tests, with its tables, and a service and a mail server to go with it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ckan import data
from tests.ckan.bed import SECRET, RealCkan
from tests.ckan.installation import UnavailableError, check_machine
from tests.ckan.orders import Counter
from tests.services import Service, running_service
from tests.sinks import Sink

TIMEOUT = 120  # seconds for one test, not counting what it waits for to be installed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TIMEOUT, func_only=True))


@dataclasses.dataclass(frozen=True)
class Tables:
    """The ids of the tables that no test changes."""

    specimens: str
    every_type: str
    odd_names: str
    gaps: str
    private: str


@pytest.fixture(scope="session")
def ckan() -> Iterator[RealCkan]:
    """A real CKAN. Where there cannot be one, the tests are skipped."""
    try:
        check_machine()
    except UnavailableError as error:
        pytest.skip(f"No CKAN can run here: {error}.")
    with RealCkan() as real:
        yield real


@pytest.fixture(scope="session")
def tables(ckan: RealCkan) -> Tables:
    return Tables(
        specimens=data.specimens(ckan),
        every_type=data.every_type(ckan),
        odd_names=data.odd_names(ckan),
        gaps=data.with_gaps(ckan),
        private=ckan.create_table("private", {"name": "text"}, [["a"], ["b"]], dataset="private"),
    )


@pytest.fixture(scope="session")
def sink() -> Iterator[Sink]:
    """A mail server that keeps what it gets."""
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="session")
def packager(ckan: RealCkan, sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that the extension in CKAN knows. Its first pages are small, so that there are several."""
    with running_service(
        tmp_path_factory.mktemp("service"),
        SECRET=SECRET,
        PORT=ckan.packager_port,
        PAGE_SIZE=1000,
        CKAN_HOSTS=["127.0.0.1"],
        **sink.settings,
    ) as service:
        yield service


@pytest.fixture(scope="session")
def counter(packager: Service, sink: Sink) -> Counter:
    """Where packages are ordered and handed out."""
    return Counter(packager, sink)
