"""A CKAN that gives fewer rows a page than it is asked for, and does not say so."""

from collections.abc import Iterator

import pytest

from tests.ckan.bed import RealCkan
from tests.ckan.conftest import Tables
from tests.ckan.orders import Counter
from tests.ckan.queries import Query
from tests.ckan.test_completeness import check, named

ROWS_MAX = 700


@pytest.fixture(scope="module", autouse=True)
def narrow(ckan: RealCkan, tables: Tables) -> Iterator[None]:
    """CKAN with a rows_max below the first page of the service."""
    ckan.stop()
    ckan.start(ckan__datastore__search__rows_max=ROWS_MAX)
    try:
        assert (
            len(ckan.call("datastore_search", resource_id=tables.specimens, limit=1000)["records"])
            == ROWS_MAX
        )
        yield
    finally:
        ckan.stop()
        ckan.start()


@named(
    [
        Query("everything"),
        Query("by genus", {"sort": "Genus"}, order='"Genus", _id'),
        Query("without id", {"sort": "Genus", "fields": ["Label"], "limit": 9000}, order='"Genus", _id'),
        Query("q", {"q": "seldom"}, "_full_text @@ plainto_tsquery('english', 'seldom')"),
        Query("filters", {"filters": {"Genus": ["Rosa", "Zea"]}}, "\"Genus\" IN ('Rosa', 'Zea')"),
        Query("a window", {"offset": 5_000, "limit": 7_001}),
        Query(
            "distinct",
            {"fields": ["Number"], "distinct": True, "sort": "Number desc", "limit": 5_000},
            order='"Number" DESC',
        ),
    ]
)
def test_short_pages_lose_nothing(counter: Counter, ckan: RealCkan, tables: Tables, query: Query) -> None:
    check(counter, ckan, tables.specimens, query)


def test_short_pages_lose_nothing_between_gaps(counter: Counter, ckan: RealCkan, tables: Tables) -> None:
    check(counter, ckan, tables.gaps, Query("everything"))
