"""The plan of an archive: which column of a resource goes to which term of which file.

Made once for a resource, from its columns and the settings alone. Every column
has exactly one place in it.
"""

import dataclasses
from collections.abc import Sequence

from ckanpackager.dwc.configuration import Configuration, ListKey
from ckanpackager.dwc.terms import Definition, Term
from ckanpackager.sources.base import Field

__all__ = ["Column", "Dynamic", "File", "ListField", "ListKey", "Plan", "plan"]


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

    Raises PackageError where the column of the ids is not among them, or none has a place in the core.
    """
    raise NotImplementedError
