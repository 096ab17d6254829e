"""The plan of an archive: which column of a resource goes to which term of which file.

Made once for a resource, from its columns and the settings alone. Every column
has exactly one place in it.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

from ckanpackager.checks import nearest
from ckanpackager.dwc.configuration import Configuration, ExtensionField, ListKey
from ckanpackager.dwc.terms import Definition, Term
from ckanpackager.errors import PackageError
from ckanpackager.sources.base import Field

__all__ = ["Column", "Dynamic", "File", "ListField", "ListKey", "Plan", "camel_case", "plan"]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a file, besides the first one, which is always the id.

    ``header`` is what stands in the file's first line. ``sources`` are the resource's columns that may fill
    it, best first: the first that is not blank gives the value, and what another has to say besides goes to
    the dynamic term. There are none where lists alone fill it.
    """

    term: Term
    header: str
    sources: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class ListField:
    """A column of the resource with a JSON list of objects (or that as text), each a row of the extension."""

    column: str
    keys: tuple[ListKey, ...]


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the archive: ``stem`` is its name without the suffix. No term has two ``columns``.

    An extension has a column for every term that its ``lists`` or columns of the resource fill.
    """

    definition: Definition
    stem: str
    columns: tuple[Column, ...]
    lists: tuple[ListField, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dynamic:
    """The term that takes what has no other place, as a JSON object. It is the last column of the core.

    ``keys`` are pairs of a column that landed nowhere else and its key in that object; ``own`` is the column
    that is itself named as the term. ``losers`` are the same pairs for the columns that are not the first of
    their term's sources, for what they have to say besides. All keys differ.
    """

    term: Term
    keys: tuple[tuple[str, str], ...]
    own: str | None
    losers: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """All of an archive's files, and where each column of the resource goes.

    ``id_term`` is the core's term that the id column is, if it is one. ``dropped`` are the columns that go
    nowhere, ``near_misses`` pairs of an unmatched column and the name of a term that it almost has.
    """

    id_field: str
    id_term: Term | None
    core: File
    extensions: tuple[File, ...]
    dynamic: Dynamic | None
    dropped: tuple[str, ...]
    near_misses: tuple[tuple[str, str], ...]


def plan(fields: Sequence[Field], configuration: Configuration) -> Plan:
    """The plan for a resource with these columns.

    A column goes to the list that the settings make of it; else to the term of the core that has its name, as
    it is or in camel case; else to such a term of an additional extension; else to the dynamic term.

    Raises PackageError where the column of the ids is not among them, or none has a place in the core.
    """
    columns = [field.id for field in fields]
    _refuse_unfit(columns, configuration)
    id_term = _id_term(columns, configuration)
    sorted_out = _sort_out(columns, id_term, configuration)
    core, *extensions = _files(sorted_out, configuration)
    dynamic = _dynamic(sorted_out, [core, *extensions], configuration)
    if dynamic is not None:
        header = _header(dynamic.term, {configuration.id_field, *(column.header for column in core.columns)})
        last = Column(dynamic.term, header, () if dynamic.own is None else (dynamic.own,))
        core = dataclasses.replace(core, columns=(*core.columns, last))
    if id_term is None and not core.columns:
        raise PackageError(
            f"None of the columns ({', '.join(columns)}) is a term of {configuration.core.name}, so that a "
            "Darwin Core Archive would have no core: ask for more fields, or for another resource."
        )
    return Plan(
        id_field=configuration.id_field,
        id_term=id_term,
        core=core,
        extensions=tuple(extension for extension in extensions if extension.columns),
        dynamic=dynamic,
        dropped=() if configuration.dynamic_term else tuple(sorted_out.rest),
        near_misses=tuple(_near_misses(sorted_out.unknown, configuration)),
    )


def camel_case(name: str) -> str:
    """``catalogNumber`` for "Catalog Number": in lower camel case, but for words all in capitals."""
    first, *others = name.split() or [""]
    words = [first if first.isupper() else first.lower()]
    words += [word if word.isupper() else word.capitalize() for word in others]
    return "".join(words)


@dataclasses.dataclass
class _SortedOut:
    """The columns by where they go. Files are keyed by their row type."""

    sources: dict[str, dict[Term, list[str]]]
    lists: dict[str, list[ListField]]
    own: list[str]
    rest: list[str]
    unknown: list[str]

    @property
    def have_losers(self) -> bool:
        return any(len(names) > 1 for terms in self.sources.values() for names in terms.values())


def _sort_out(columns: Sequence[str], id_term: Term | None, configuration: Configuration) -> _SortedOut:
    definitions = _definitions(configuration)
    found = _SortedOut(
        {row_type: {} for row_type in definitions}, {name: [] for name in definitions}, [], [], []
    )
    for extension_field in configuration.extension_fields:
        row_type = extension_field.definition.row_type
        for column in columns:
            if _extension_field(column, configuration) is extension_field:
                found.lists[row_type].append(ListField(column, extension_field.keys))
                for key in extension_field.keys:
                    found.sources[row_type].setdefault(key.term, [])
    for column in columns:
        if column == configuration.id_field or _extension_field(column, configuration) is not None:
            continue
        place = _place(column, configuration)
        if place is None:
            found.unknown.append(column)
            found.rest.append(column)
        elif place == (configuration.core, configuration.dynamic_term):
            found.own.append(column)
        elif place == (configuration.core, id_term):
            found.rest.append(column)
        else:
            found.sources[place[0].row_type].setdefault(place[1], []).append(column)
    if configuration.dynamic_term is not None:
        # The rest of those that are named as the dynamic term have no better place than within it.
        found.own.sort(key=lambda column: _distance(column, configuration.dynamic_term))
        found.rest = [column for column in columns if column in {*found.rest, *found.own[1:]}]
        if found.own and not found.rest and not found.have_losers:
            # With nothing to add to it, it is a term like any other.
            found.sources[configuration.core.row_type][configuration.dynamic_term] = found.own
            found.own = []
    return found


def _place(column: str, configuration: Configuration) -> tuple[Definition, Term] | None:
    """The first definition that has a term of this column's name, and that term."""
    for definition in (configuration.core, *configuration.additional):
        term = _match(column, definition)
        if term is not None:
            return definition, term
    return None


def _match(column: str, definition: Definition) -> Term | None:
    """The term that has the column's name, as it is (without blanks around it) or in camel case."""
    term = definition.find(column.strip())
    if term is None:
        short = camel_case(column)
        term = definition.find(short)
        if term is not None and term.name != short:
            return None
    return term


def _distance(column: str, term: Term | None) -> int:
    """How far a column's name is from the term's that it matches: 0 is the same."""
    names = () if term is None else (term.name, term.prefixed, term.iri)
    if column in names:
        return 0
    return 1 if column.strip() in names else 2


def _extension_field(column: str, configuration: Configuration) -> ExtensionField | None:
    for extension_field in configuration.extension_fields:
        if column == extension_field.column:
            return extension_field
    stripped = column.strip()
    return next((field for field in configuration.extension_fields if stripped == field.column.strip()), None)


def _id_term(columns: Sequence[str], configuration: Configuration) -> Term | None:
    """The term that the ids fill, unless another column has more of its name."""
    id_field = configuration.id_field
    term = _match(id_field, configuration.core)
    if term is None or term == configuration.dynamic_term:
        return None
    nearer = [
        column
        for column in columns
        if _distance(column, term) < _distance(id_field, term)
        and _extension_field(column, configuration) is None
        and _match(column, configuration.core) == term
    ]
    return None if nearer else term


def _refuse_unfit(columns: Sequence[str], configuration: Configuration) -> None:
    id_field = configuration.id_field
    if id_field not in columns:
        near = nearest(id_field, columns)
        hint = f" Is it {near}?" if near else ""
        raise PackageError(
            f"There is no column {id_field}, whose values are the ids in a Darwin Core Archive "
            f"(DWC_ID_FIELD).{hint} The columns are: {', '.join(columns)}."
        )
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise PackageError(f"The column {twice} is there twice: ask for it once.")


def _definitions(configuration: Configuration) -> dict[str, Definition]:
    """The definitions by their row types: the core, and the extensions in the order of the settings."""
    fields = (extension_field.definition for extension_field in configuration.extension_fields)
    definitions: dict[str, Definition] = {}
    for definition in (configuration.core, *configuration.additional, *fields):
        definitions.setdefault(definition.row_type, definition)
    return definitions


def _files(sorted_out: _SortedOut, configuration: Configuration) -> list[File]:
    definitions = _definitions(configuration)
    # By the settings alone, so that a file has the same name in all archives.
    stems = _stems(definition.name for definition in definitions.values())
    return [
        File(
            definition,
            stem,
            _columns(sorted_out.sources[row_type], configuration.id_field),
            tuple(sorted_out.lists[row_type]),
        )
        for stem, (row_type, definition) in zip(stems, definitions.items(), strict=True)
    ]


def _columns(sources: dict[Term, list[str]], id_field: str) -> tuple[Column, ...]:
    columns: list[Column] = []
    taken = {id_field}
    for term, names in sources.items():
        header = _header(term, taken)
        taken.add(header)
        columns.append(
            Column(term, header, tuple(sorted(names, key=functools.partial(_distance, term=term))))
        )
    return tuple(columns)


def _header(term: Term, taken: Collection[str]) -> str:
    """The short name of ``term``, or one that tells it apart from what has that name already."""
    names = (term.name, term.prefixed, term.iri)
    return next(name for name in itertools.chain(names, _numbered(term.name, "_")) if name not in taken)


def _stems(names: Iterable[str]) -> list[str]:
    """A file's name for each definition: ``measurement_or_fact`` for MeasurementOrFact."""
    stems: list[str] = []
    for name in names:
        words = re.sub(r"([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])", r"\1\3_\2", name)
        stem = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "extension"
        stems.append(
            next(each for each in itertools.chain([stem], _numbered(stem, "_")) if each not in stems)
        )
    return stems


def _dynamic(sorted_out: _SortedOut, files: Sequence[File], configuration: Configuration) -> Dynamic | None:
    term = configuration.dynamic_term
    losers = [name for file in files for column in file.columns for name in column.sources[1:]]
    if term is None or not (sorted_out.own or sorted_out.rest or losers):
        return None
    own = sorted_out.own[0] if sorted_out.own else None
    # What of the own column is no object is kept under the term's name.
    taken = set() if own is None else {term.name}
    rest = _keys(sorted_out.rest, taken, configuration)
    return Dynamic(term, rest, own, _keys(losers, taken, configuration))


def _keys(
    columns: Iterable[str], taken: set[str], configuration: Configuration
) -> tuple[tuple[str, str], ...]:
    """Each column with its key: in camel case, or its own name where another has taken that."""
    keys = []
    for column in columns:
        first = column if configuration.dynamic_keys == "verbatim" else camel_case(column)
        names = itertools.chain([first or column, column], _numbered(column, " "))
        key = next(name for name in names if name not in taken)
        taken.add(key)
        keys.append((column, key))
    return tuple(keys)


def _numbered(name: str, between: str) -> Iterator[str]:
    return (f"{name}{between}{number}" for number in itertools.count(2))


def _near_misses(columns: Iterable[str], configuration: Configuration) -> Iterator[tuple[str, str]]:
    """The columns that have a term's name but for capitals, blanks, underscores and the like."""
    definitions = (configuration.core, *configuration.additional)
    names = {
        _letters(term.name): term.name for definition in reversed(definitions) for term in definition.terms
    }
    for column in columns:
        if _letters(column) in names:
            yield column, names[_letters(column)]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
