"""A plan in plain words: where each column goes, and what an admin should know before rows are read."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.plan import Column, File, Plan, camel_case
from ckanpackager.dwc.terms import LICENCES, MEDIA, OCCURRENCE, outdated

# What GBIF asks of every occurrence, and what it shows no media without.
_WANTED = {
    OCCURRENCE: ("occurrenceID", "basisOfRecord", "scientificName", "eventDate"),
    **dict.fromkeys(MEDIA, ("identifier", "format")),
}


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a column of the resource goes.

    ``place`` is "id", "term", "list", "dynamic" or "dropped". ``file`` has no suffix; ``header`` is what the
    column is called there and ``term`` the IRI. ``behind`` is the column that is asked first for the same
    term. ``key`` is the key in the dynamic term: of the column, or of what it says besides the one it is
    behind. ``near_miss`` is the term that the column almost has the name of.
    """

    column: str
    place: str
    file: str = ""
    header: str = ""
    term: str = ""
    behind: str = ""
    key: str = ""
    near_miss: str = ""


@dataclasses.dataclass(frozen=True)
class Filling:
    """How a term of an extension is filled from the objects in a list."""

    column: str
    file: str
    header: str
    term: str
    key: str
    default: object
    formatter: str


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A plan as a person may read it: the columns in their order, the lists' terms, and sentences."""

    columns: tuple[Placement, ...]
    lists: tuple[Filling, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """This as JSON's own types."""
        return {
            "columns": [dataclasses.asdict(placement) for placement in self.columns],
            "lists": [dataclasses.asdict(filling) for filling in self.lists],
            "notes": list(self.notes),
        }


def explain(columns: Sequence[str], plan: Plan, configuration: Configuration) -> Explanation:
    """Say where each of ``columns`` goes by ``plan``, which was made for them by ``configuration``."""
    placements = {placement.column: placement for placement in _placements(plan)}
    return Explanation(
        tuple(placements[column] for column in columns),
        tuple(_fillings(plan)),
        tuple(_notes(columns, plan, configuration)),
    )


def _placements(plan: Plan) -> Iterator[Placement]:
    near = dict(plan.near_misses)
    id_iri = plan.id_term.iri if plan.id_term else ""
    yield Placement(plan.id_field, "id", header=plan.id_field, term=id_iri)
    losers = dict(plan.dynamic.losers) if plan.dynamic else {}
    for file in (plan.core, *plan.extensions):
        for column in file.columns:
            for name in column.sources:
                first = column.sources[0]
                behind = "" if name == first else first
                yield Placement(
                    name, "term", file.stem, column.header, column.term.iri, behind, losers.get(name, "")
                )
        for each in file.lists:
            yield Placement(each.column, "list", file.stem)
    if plan.dynamic is not None:
        header = plan.core.columns[-1].header
        for name, key in plan.dynamic.keys:
            yield Placement(
                name, "dynamic", plan.core.stem, header, plan.dynamic.term.iri, "", key, near.get(name, "")
            )
    for name in plan.dropped:
        yield Placement(name, "dropped", near_miss=near.get(name, ""))


def _fillings(plan: Plan) -> Iterator[Filling]:
    for file in plan.extensions:
        headers = {column.term: column.header for column in file.columns}
        for each in file.lists:
            for key in each.keys:
                header = headers[key.term]
                yield Filling(
                    each.column, file.stem, header, key.term.iri, key.key, key.default, key.formatter or ""
                )


def _notes(columns: Sequence[str], plan: Plan, configuration: Configuration) -> Iterator[str]:
    for column, name in plan.near_misses:
        yield f"{column} is almost {name}, which is another name: rename the column if it means that."
    there = {column.strip() for column in columns}
    for name in (field.column.strip() for field in configuration.extension_fields):
        if name in there:
            continue
        like = [column for column in columns if camel_case(column) == name]
        hint = f"; {like[0]} is not that name" if like else ""
        yield f"DWC_EXTENSION_FIELDS has {name}, which is no column here{hint}."
    for file in (plan.core, *plan.extensions):
        yield from _missing(file, plan)
        yield from _outdated(file)
        yield from _ambiguous(file)
        yield from _licences(file)


def _missing(file: File, plan: Plan) -> Iterator[str]:
    there = {column.term.name for column in file.columns}
    if file is plan.core and plan.id_term is not None:
        there.add(plan.id_term.name)
    required = {term.name for term in file.definition.terms if term.required} - there
    wanted = [name for name in _WANTED.get(file.definition.row_type, ()) if name not in there | required]
    for name in sorted(required):
        yield f"{file.stem} lacks {name}, which {file.definition.name} requires."
    if wanted:
        yield f"{file.stem} lacks {_listed(wanted)}, without which GBIF may not take or show its rows."


def _outdated(file: File) -> Iterator[str]:
    gone = outdated(file.definition.row_type)
    names = [column.term.prefixed for column in file.columns if column.term.iri in gone]
    if names:
        yield f"{file.stem} has {_listed(names)}, given up by GBIF since 2014: name a newer definition."


def _ambiguous(file: File) -> Iterator[str]:
    def name(column: Column) -> str:
        return column.term.name

    names = [name(column) for column in file.columns]
    for twice in sorted({each for each in names if names.count(each) > 1}):
        both = _listed([column.term.prefixed for column in file.columns if name(column) == twice])
        yield f"{file.stem} has both {both}: some readers take neither then, so fill only one."


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _licences(file: File) -> Iterator[str]:
    for each in file.lists:
        for key in each.keys:
            if key.term.name in LICENCES and key.default not in (None, ""):
                yield (
                    f"Where an object in {each.column} states no {key.term.name}, {file.stem} says "
                    f"{key.default}: make sure that its owner agrees, or make the default ''."
                )
