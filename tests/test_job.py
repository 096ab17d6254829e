"""What may be posted, and what is refused before it is accepted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckanpackager.errors import BadRequestError
from ckanpackager.form import Form
from ckanpackager.job import Job

DATASTORE = {
    "resource_id": "48cf7ddd-0bab-4a04-8c2f-162b57fa788c",
    "email": "someone@localhost.example",
    "api_url": "http://127.0.0.1:55000/api/action/datastore_search",
}
FILE = {**DATASTORE, "resource_url": "http://127.0.0.1:55000/dataset/d/resource/r/download/numbers.csv"}


def datastore(**parameters: Any) -> Job:
    return Job.from_form("package_datastore", Form({**DATASTORE, **parameters}))


def refusal(**parameters: Any) -> str:
    with pytest.raises(BadRequestError) as refused:
        datastore(**parameters)
    return str(refused.value)


def test_what_the_extension_posts_is_understood() -> None:
    job = datastore(
        secret="s",
        format="xlsx",
        filters='{"genus": ["Rosa", "Carabus"], "sex": [""]}',
        q="Linnaeus 1758",
        limit="50",
        offset="100",
        sort="year ASC,genus DESC",
    )
    assert job == Job(
        task="package_datastore",
        format="xlsx",
        filters={"genus": ["Rosa", "Carabus"], "sex": [""]},
        q="Linnaeus 1758",
        limit=50,
        offset=100,
        sort="year ASC,genus DESC",
        **DATASTORE,
    )


def test_blanks_around_a_value_are_not_part_of_it() -> None:
    job = datastore(**{name: f"  {value}\n" for name, value in DATASTORE.items()})
    assert job == datastore()


def test_a_limit_of_nothing_is_not_no_limit() -> None:
    assert datastore(limit="0").limit == 0
    assert datastore(limit=0).limit == 0
    assert datastore(limit="").limit is None
    assert datastore().limit is None


@pytest.mark.parametrize("name", ["resource_id", "email", "api_url"])
@pytest.mark.parametrize("value", [None, "", "   "])
def test_what_is_missing_is_named(name: str, value: str | None) -> None:
    assert refusal(**{name: value}) == f"Parameter {name} is required."


@pytest.mark.parametrize(
    "email",
    [
        "nobody",
        "a@b",
        "a@b.example, c@d.example",
        "a@b.example;c@d.example",
        "Ann <a@b.example>",
        "a@b.example\nBcc: c@d.example",
        "a@b.example\r\n\r\nHello",
        "a@@b.example",
        "a b@c.example",
        ["a@b.example"],
    ],
)
def test_exactly_one_address_is_taken(email: Any) -> None:
    assert refusal(email=email).startswith("email must be")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://ckan.example/api",
        "ckan.example/api",
        "//ckan.example/api",
        "http://",
        "http:///api",
        "http://ckan.example:port/api",
        "http://ckan.example:99999/api",
        "http://user:password@ckan.example/api",
        "http://ckan.example/a b",
        "http://ckan.example/\r\nHost: other",
        "javascript:alert(1)",
        "http://[::1/api",
    ],
)
def test_only_full_web_addresses_are_taken(url: str) -> None:
    assert refusal(api_url=url).startswith("api_url")
    with pytest.raises(BadRequestError, match="^resource_url"):
        Job.from_form("package_url", Form({**FILE, "resource_url": url}))


@pytest.mark.parametrize("resource_id", ["../../etc/passwd", "a/b", ".hidden", "a b", "a\0", "x" * 129, "é"])
def test_a_resource_id_is_safe_in_a_file_name(resource_id: str) -> None:
    assert refusal(resource_id=resource_id).startswith("resource_id ")


@pytest.mark.parametrize("name", ["limit", "offset"])
@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "1e3", "٣", True, [1], str(2**63), "1 2", "+1"])
def test_only_whole_numbers_count_rows(name: str, value: Any) -> None:
    assert refusal(**{name: value}) == f"{name} must be a whole number of rows, 0 or more."


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("{", "filters is not JSON"),
        ("[" * 100_000, "filters is not JSON"),
        ('{"a": ' + "[" * 400 + "]" * 400 + "}", "filters is nested too deeply"),
        ("[]", "not a list"),
        ('"x"', "not str"),
        ("1", "not a number"),
        ("null", "not NoneType"),
        ([1], "not a list"),
    ],
)
def test_filters_are_an_object(filters: Any, message: str) -> None:
    assert message in refusal(filters=filters)


def test_a_format_that_cannot_be_written_is_refused_with_those_that_can() -> None:
    assert refusal(format="json") == "format must be one of csv, tsv, xlsx."
    assert datastore(format=" TSV ").format == "tsv"


def test_a_file_is_packed_whatever_format_is_asked_for() -> None:
    job = Job.from_form("package_url", Form({**FILE, "format": "nonsense", "limit": "x"}))
    assert (job.resource_url, job.limit) == (FILE["resource_url"], None)


@pytest.mark.parametrize(("given", "meant"), [("true", True), ("1", True), ("No", False), (False, False)])
def test_yes_and_no_may_be_said_in_many_ways(given: Any, meant: bool) -> None:
    assert datastore(plain=given).plain is meant
    assert datastore(distinct=given).distinct is meant
    assert refusal(plain="perhaps") == "plain must be true or false."


def test_fields_may_be_a_list_or_a_text() -> None:
    assert datastore(fields="a, b").fields == datastore(fields=["a", "b"]).fields == ("a", "b")
    assert refusal(fields="a,a") == "fields names a column twice."
    assert "fields must be" in refusal(fields="a,,b")
    assert "fields must be" in refusal(fields=[1])


def test_an_api_key_cannot_smuggle_a_header() -> None:
    assert "key" in refusal(key="x\r\nHost: other")
    assert "key" in refusal(key="ü")


@pytest.mark.parametrize("name", ["q", "sort", "language", "key", "doi"])
def test_text_that_is_no_text_is_refused(name: str) -> None:
    assert refusal(**{name: ["x"]}).startswith(name)
    assert refusal(**{name: "x" * 20_000}).startswith(name)
    assert refusal(**{name: "a\ud800"}).startswith(name)
    assert refusal(**{name: "a\0"}).startswith(name)


def test_no_database_is_given_what_it_cannot_hold() -> None:
    for name in ("q", "filters"):
        assert refusal(**{name: {"a": "b\ud800"}}).startswith(name)
        assert refusal(**{name: {"b\ud800": "a"}}).startswith(name)
    assert refusal(fields=["a", "b\ud800"]).startswith("fields")
    assert refusal(fields=["a", "b\0"]).startswith("fields")


def test_the_cache_knows_requests_apart_by_all_but_the_address() -> None:
    job = datastore(limit="5")
    assert datastore(limit=5, email="other@localhost.example").cache_key == job.cache_key
    assert datastore(filters='{"a": 1, "b": 2}').cache_key == datastore(filters='{"b": 2, "a": 1}').cache_key
    for name, value in {
        "key": "k", "limit": 6, "offset": 1, "q": "x", "sort": "a", "fields": "a", "format": "tsv",
        "distinct": True, "filters": {"a": 1}, "resource_id": "other", "plain": False, "language": "french",
        "api_url": "http://other.example/api",
    }.items():  # fmt: skip
        assert datastore(**{"limit": 5, name: value}).cache_key != job.cache_key, name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["resource_id", "email", "api_url", "resource_url", "filters", "q", "plain", "language", "distinct",
         "fields", "sort", "offset", "limit", "format", "key", "doi"]
    ),
    JSON,
)  # fmt: skip


@given(task=st.sampled_from(["package_datastore", "package_url"]), parameters=PARAMETERS)
def test_whatever_is_posted_is_a_job_or_a_refusal(task: str, parameters: dict[str, Any]) -> None:
    try:
        job = Job.from_form(task, Form({**FILE, **parameters}))
    except BadRequestError as refused:
        assert str(refused)
    else:
        assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
        assert len(job.cache_key) == 64


def test_a_key_is_not_shown() -> None:
    assert "very-private" not in repr(datastore(key="very-private"))


@pytest.mark.parametrize("text", ["Größe 日本", "\N{PENGUIN}", "e\u0301", "'\"\\%"])
def test_case_9_a_request_may_hold_any_letters(text: str) -> None:
    form = {**DATASTORE, "q": text, "filters": json.dumps({text: text}), "eml": f"<a><![CDATA[{text}]]></a>"}
    job = Job.from_form("package_dwc_archive", Form(form))
    assert job.eml is not None
    assert text in job.eml
    assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job
    assert job.cache_key != Job.from_form("package_dwc_archive", Form({**form, "q": text + "x"})).cache_key
