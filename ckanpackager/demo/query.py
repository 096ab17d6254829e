"""A request to ``datastore_search``, read as CKAN's schema reads it, before any table is looked at.

Nothing wrong with a parameter's form gets past this module, and nothing is refused that CKAN accepts.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

FORMATS = ["objects", "lists", "csv", "tsv"]
YES = frozenset({"true", "yes", "t", "y", "1"})


class ValidationError(Exception):
    """CKAN's 409: parameter names, each with a list of complaints."""

    def __init__(self, errors: Mapping[str, Any]) -> None:
        super().__init__(str(errors))
        self.errors = dict(errors)


class ServerError(Exception):
    """CKAN's own code stumbles over the request: a 500."""


@dataclasses.dataclass(frozen=True)
class Release:
    """What differs between the versions of CKAN that are in use."""

    version: str

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:2])

    @property
    def has_ranges(self) -> bool:
        """Whether there are range filters, ``$and``, ``$or`` and, in the answer, ``next_page``."""
        return self.number >= (2, 12)

    @property
    def has_milliseconds(self) -> bool:
        return self.number >= (2, 12)

    @property
    def refuses_hash(self) -> bool:
        """Whether a ``#`` in a column's name or in q makes the query fail (2.11.6 does; 2.12.0 does not)."""
        return self.number == (2, 11)


@dataclasses.dataclass(frozen=True)
class Query:
    """What is asked. ``echo`` holds the parameters as the answer repeats them."""

    resource_id: str
    filters: Any
    q: str | dict[str, Any]
    plain: bool
    language: str
    distinct: bool
    fields: list[str] | None
    sort: list[str]
    offset: int | None
    limit: int
    include_total: bool
    include_next_page: bool
    records_format: str
    unknown: tuple[str, ...] = ()
    echo: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def searched(self) -> list[str | None]:
        """The columns that q is to be looked for in; None is the whole row."""
        if isinstance(self.q, dict):
            return list(self.q)
        return [None] if self.q else []


PARAMETERS = frozenset(field.name for field in dataclasses.fields(Query)) - {"unknown", "echo"}


def read_query(parameters: Mapping[str, Any], release: Release, rows_max: int = 32000) -> Query:
    """The parameters as they came in JSON or, all of them text, in a query string. Raises ValidationError."""
    given = {name: value for name, value in parameters.items() if value is not None}
    if "id" in given:
        given.setdefault("resource_id", given.pop("id"))
    reader = Reader(given)
    query = Query(
        resource_id=reader.resource_id(),
        filters=reader.filters(release),
        q=reader.words(),
        plain=reader.boolean("plain", True),
        language=str(given.get("language") or "english"),
        distinct=reader.boolean("distinct", False),
        fields=reader.field_names(),
        sort=reader.names("sort"),
        offset=reader.integer("offset", 0),
        limit=reader.limit(rows_max),
        include_total=reader.boolean("include_total", True),
        include_next_page=reader.boolean("include_next_page", False),
        records_format=reader.records_format(),
    )
    if reader.errors:
        raise ValidationError(reader.errors)
    known = PARAMETERS - (set() if release.has_ranges else {"include_next_page"})
    unknown = tuple(name for name in given if name not in known | {"total_estimation_threshold"})
    return dataclasses.replace(query, unknown=unknown, echo=echo_of(query, given, release))


def echo_of(query: Query, given: Mapping[str, Any], release: Release) -> dict[str, Any]:
    always = {"include_total", "limit", "records_format", "resource_id"}
    always |= {"include_next_page"} if release.has_ranges else set()
    echo = {name: getattr(query, name) for name in sorted((PARAMETERS & given.keys()) | always)}
    echo |= {"sort": given["sort"]} if "sort" in given else {}
    return echo if release.has_ranges else echo | {"total_estimation_threshold": None}


class Reader:
    """Reads one parameter after the other, and gathers what is wrong with them."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.errors: dict[str, list[str]] = {}

    def refuse(self, name: str, complaint: str) -> None:
        self.errors.setdefault(name, []).append(complaint)

    def resource_id(self) -> str:
        if self.given.get("resource_id", "") == "":
            self.refuse("resource_id", "Missing value")
        return str(self.given.get("resource_id"))

    def boolean(self, name: str, default: bool) -> bool:
        value = self.given.get(name, default)
        return value.lower() in YES if isinstance(value, str) else bool(value)

    def integer(self, name: str, default: int) -> int | None:
        value = self.given.get(name, default)
        if isinstance(value, str) and not value.strip():
            return None
        try:
            if isinstance(value, float) and not value.is_integer():
                raise ValueError(value)
            return int(value)
        except (TypeError, ValueError):
            self.refuse(name, "Invalid integer")
            return None

    def limit(self, rows_max: int) -> int:
        value = self.integer("limit", 100)
        if value is None and isinstance(self.given.get("limit"), str) and "limit" in self.errors:
            self.refuse("limit", "Please enter an integer value")
        if value is not None and value < 0:
            self.refuse("limit", "Must be a natural number")
        return min(100 if value is None else value, rows_max)

    def records_format(self) -> str:
        value = self.given.get("records_format") or "objects"
        if value not in FORMATS:
            self.refuse("records_format", f"Value must be one of {FORMATS}")
        return str(value)

    def names(self, name: str) -> list[str]:
        """A list, or text with commas between. Commas are not quoted: a name with one must come in a list."""
        value = self.given.get(name, [])
        if isinstance(value, str):
            return [part.strip() for part in value.split(",")] if value else []
        if not isinstance(value, list):
            self.refuse(name, "Not a list")
            return []
        return [str(part) for part in value]

    def field_names(self) -> list[str] | None:
        if "fields" not in self.given:
            return None
        names = self.names("fields")
        return [name.strip().strip('"') if name and name[0] == name[-1] else name for name in names]

    def filters(self, release: Release) -> Any:
        value = self.given.get("filters", {})
        if isinstance(value, list) and not release.has_ranges:
            found = [("filters", n, name) for n, part in enumerate(value) for name in part]
            self.refuse("__junk", f"The input field {found} was not expected.")
        if isinstance(value, dict | list):
            return value
        try:
            return json.loads(value)
        except (TypeError, ValueError):
            self.refuse("filters", "Cannot parse JSON")
            return {}

    def words(self) -> str | dict[str, Any]:
        """q: words for the whole row; or, as an object or the JSON of one, words for each column."""
        value = self.given.get("q", "")
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(value)
        except (TypeError, ValueError):
            return str(value)
        return parsed if isinstance(parsed, dict) else str(value)
