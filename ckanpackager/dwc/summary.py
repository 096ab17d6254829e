"""What is worth knowing about an archive: what is in it, what was done to the values, and what GBIF is going
to find fault with, by the names of its validator's remarks.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

from ckanpackager.dwc import values
from ckanpackager.dwc.plan import Plan
from ckanpackager.dwc.terms import LICENCES, OCCURRENCE, PREFIXES, last_part, outdated

_MOST_NAMES = 20

# Problems that are counted, in the order in which they are told: for one, and for more than one.
PROBLEMS = {
    "occurrenceID_blank": (
        "row has no occurrenceID",
        "rows have no occurrenceID",
        "RECORD_NOT_UNIQUELY_IDENTIFIED",
    ),
    "occurrenceID_duplicate": (
        "row has the occurrenceID of another, or one that differs in capitals alone",
        "rows have the occurrenceID of another, or one that differs in capitals alone",
        "RECORD_NOT_UNIQUELY_IDENTIFIED",
    ),
    "basisOfRecord_blank": (
        "row has no basisOfRecord",
        "rows have no basisOfRecord",
        "REQUIRED_TERM_MISSING",
    ),
    "basisOfRecord_unknown": (
        "row has a basisOfRecord that is not in GBIF's vocabulary",
        "rows have a basisOfRecord that is not in GBIF's vocabulary",
        "BASIS_OF_RECORD_INVALID",
    ),
    "date_invalid": (
        "row has an eventDate that is not an ISO 8601 date",
        "rows have an eventDate that is not an ISO 8601 date",
        "RECORDED_DATE_INVALID",
    ),
    "coordinate_invalid": (
        "row has a latitude or longitude that is not a decimal number, or only one of the two",
        "rows have a latitude or longitude that is not a decimal number, or only one of the two",
        "COORDINATE_INVALID",
    ),
    "coordinate_zero": (
        "row has the coordinates 0, 0",
        "rows have the coordinates 0, 0",
        "ZERO_COORDINATE",
    ),
    "coordinate_out_of_range": (
        "row has coordinates that are not on Earth",
        "rows have coordinates that are not on Earth",
        "COORDINATE_OUT_OF_RANGE",
    ),
    "coordinate_swapped": (
        "row seems to have its latitude and longitude swapped",
        "rows seem to have their latitude and longitude swapped",
        "PRESUMED_SWAPPED_COORDINATE",
    ),
    "mojibake": (
        "value looks like UTF-8 that was once read as Windows-1252",
        "values look like UTF-8 that was once read as Windows-1252",
        "",
    ),
    "replacement": (
        "value has the character U+FFFD, which stands for a lost one",
        "values have the character U+FFFD, which stands for a lost one",
        "",
    ),
    "media_identifier_blank": (
        "media row has no identifier, so that nothing can be shown",
        "media rows have no identifier, so that nothing can be shown",
        "",
    ),
    "media_format_blank": (
        "media row has no format, so that it may not be shown",
        "media rows have no format, so that they may not be shown",
        "",
    ),
}


@dataclasses.dataclass
class Summary:
    """What the writer learnt about an archive. All of it is JSON.

    ``files`` is rows by file name. ``unmatched`` columns are in ``dynamic_term`` or, where that is empty,
    ``dropped``. ``near_misses`` are pairs of a column and the term that it nearly is. ``lost`` is values by
    column that gave way to another column of the same term. ``cleaned`` values had control characters,
    ``changed_ids`` more than that. ``defaults`` is how often a default was put in, by file and column.
    ``skipped`` is elements by list column that are no objects. ``missing_terms`` are those that GBIF asks
    for, ``outdated_terms`` those that it has given up. ``problems`` is counts by the names in ``PROBLEMS``,
    ``unknown_basis`` the beginnings of the most frequent values of that kind, most frequent first.
    """

    files: dict[str, int] = dataclasses.field(default_factory=dict)
    dynamic_term: str = ""
    unmatched: list[str] = dataclasses.field(default_factory=list)
    dropped: list[str] = dataclasses.field(default_factory=list)
    near_misses: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    lost: dict[str, int] = dataclasses.field(default_factory=dict)
    cleaned: int = 0
    changed_ids: int = 0
    repeated_rows: int = 0
    defaults: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    missing_terms: list[str] = dataclasses.field(default_factory=list)
    outdated_terms: list[str] = dataclasses.field(default_factory=list)
    problems: dict[str, int] = dataclasses.field(default_factory=dict)
    unknown_basis: dict[str, int] = dataclasses.field(default_factory=dict)
    has_eml: bool = True

    @classmethod
    def of(cls, plan: Plan, *, has_eml: bool) -> Self:
        """What is known before there are rows."""
        terms = {column.term.iri for column in plan.core.columns}
        if plan.id_term is not None:
            terms.add(plan.id_term.iri)
        needed = ("occurrenceID", "basisOfRecord") if plan.core.definition.row_type == OCCURRENCE else ()
        return cls(
            dynamic_term=plan.dynamic.term.name if plan.dynamic is not None else "",
            unmatched=[column for column, _ in plan.dynamic.keys] if plan.dynamic is not None else [],
            dropped=list(plan.dropped),
            near_misses=list(plan.near_misses),
            missing_terms=[name for name in needed if PREFIXES["dwc"] + name not in terms],
            outdated_terms=[
                column.term.prefixed
                for file in (plan.core, *plan.extensions)
                for column in file.columns
                if column.term.iri in outdated(file.definition.row_type)
            ],
            has_eml=has_eml,
        )

    def add_problem(self, name: str, count: int) -> None:
        """``count`` more of what ``PROBLEMS`` calls ``name``."""
        if count:
            self.problems[name] = self.problems.get(name, 0) + count

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What ``to_dict`` made, also by another version; what is unknown is left out."""
        known = {field.name for field in dataclasses.fields(cls)}
        summary = cls(**{name: value for name, value in data.items() if name in known})
        summary.near_misses = [(column, term) for column, term in summary.near_misses]
        return summary

    def text(self) -> str:
        """All of it in a few lines of plain words. What did not happen is not mentioned."""
        # A column's name may have a line break in it.
        return "\n".join(map(values.clean, self._lines()))

    def _lines(self) -> Iterator[str]:
        rows = [f"{_rows(count)} in {name}" for name, count in self.files.items()]
        if rows:
            yield f"{_listed(rows)}."
        if self.repeated_rows:
            yield _said(self.repeated_rows, "row came twice and is", "rows came twice and are", " in it once")
        yield from self._about_columns()
        yield from self._about_values()
        yield from self._about_problems()
        if not self.has_eml:
            yield "It has no metadata, as no EML came with the request (EML_NOT_FOUND)."

    def _about_columns(self) -> Iterator[str]:
        if self.unmatched:
            yield f"In {self.dynamic_term}, since no term has their name: {_listed(self.unmatched)}."
        if self.dropped:
            yield f"Left out, since no term has their name: {_listed(self.dropped)}."
        for column, term in self.near_misses[:_MOST_NAMES]:
            yield f"The column {column} is nearly called {term}: rename it if that is what it holds."
        if (more := len(self.near_misses) - _MOST_NAMES) > 0:
            yield _said(more, "more column is", "more columns are", " nearly called as a term is")
        for column, count in self.lost.items():
            where = f"is in {self.dynamic_term}" if self.dynamic_term else "was left out"
            yield (
                f"{_said(count, 'value', 'values')} of the column {column} gave way to another column "
                f"of the same term, and {where}."
            )

    def _about_values(self) -> Iterator[str]:
        if self.cleaned:
            yield _said(
                self.cleaned,
                "value",
                "values",
                " had line breaks, tabs or other control characters; now there are spaces",
            )
        if self.changed_ids:
            yield _said(
                self.changed_ids,
                "id",
                "ids",
                " had commas, quotation marks or spaces around; they are gone, as readers stumble over them",
            )
        for name, columns in self.defaults.items():
            for column, count in columns.items():
                remark = ": nobody stated that licence for them" if last_part(column) in LICENCES else ""
                yield f"The default for {column} was put into {_rows(count)} of {name}{remark}."
        for column, count in self.skipped.items():
            yield _said(
                count, "element", "elements", f" in the column {column} could not be used: no objects"
            )

    def _about_problems(self) -> Iterator[str]:
        for term in self.missing_terms:
            code = "RECORD_NOT_UNIQUELY_IDENTIFIED" if term == "occurrenceID" else "REQUIRED_TERM_MISSING"
            yield f"No column is {term}, which GBIF asks for ({code})."
        if self.outdated_terms:
            yield f"GBIF has given up these terms since 2014 (UNKNOWN_TERM): {_listed(self.outdated_terms)}."
        for name, (one, many, code) in PROBLEMS.items():
            if count := self.problems.get(name, 0):
                examples = ""
                if name == "basisOfRecord_unknown" and self.unknown_basis:
                    examples = f", such as {_listed([f'{value!r}' for value in self.unknown_basis])}"
                yield _said(count, one, many, examples + (f" ({code})" if code else ""))


def _said(count: int, one: str, many: str, rest: str | None = None) -> str:
    """``3 values``; a whole sentence where there is a rest."""
    said = f"{count:,} {one if count == 1 else many}"
    return said if rest is None else f"{said}{rest}."


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _listed(names: list[str]) -> str:
    shown = names[:_MOST_NAMES]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
