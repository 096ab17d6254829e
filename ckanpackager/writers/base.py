"""What every writer is: opened with the fields, fed with pages, closed.

A writer knows rows and an archive, and nothing of jobs. If it is left by an exception, its member is not
finished, and so the archive cannot be either.
"""

import abc
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Self

from ckanpackager.archive import Archive
from ckanpackager.sources.base import Field, Page


class Writer(abc.ABC):
    """Rows in, members of ``archive`` out.

    ``records_format`` is how it would have its pages: 'csv' or 'tsv' (bytes) or 'lists'. ``keeps_nothing`` is
    whether all of a page is in its member once it has been written, so that another writer can go on with it.
    """

    records_format: ClassVar[str]
    keeps_nothing: ClassVar[bool] = False

    def __init__(self, archive: Archive, fields: Sequence[Field]) -> None:
        self._fields = tuple(fields)

    @property
    def report(self) -> str | None:
        """What is worth knowing about what was written, once it is closed: some lines of plain words."""
        return None

    @abc.abstractmethod
    def write(self, page: Page) -> None:
        """Add the rows of ``page``. Raises PackageError for a value that the format cannot hold."""

    @abc.abstractmethod
    def close(self) -> None:
        """There are no more rows."""

    def discard(self) -> None:  # noqa: B027 - most writers hold nothing but their member
        """Let go of what is unfinished."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
