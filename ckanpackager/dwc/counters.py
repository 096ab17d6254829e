"""Counting, in one pass, what GBIF and its users trip over.

A page is looked at column by column, and mostly as a whole: values are taken one by one only where a page has
something to count.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ckanpackager.dwc.ids import Repetitions
from ckanpackager.dwc.plan import File, Plan
from ckanpackager.dwc.summary import Summary
from ckanpackager.dwc.terms import MEDIA, OCCURRENCE, PREFIXES

# https://rs.gbif.org/vocabulary/dwc/basis_of_record.xml and what GBIF reads besides.
BASES_OF_RECORD = frozenset(
    {
        "preservedspecimen",
        "fossilspecimen",
        "livingspecimen",
        "materialsample",
        "materialentity",
        "materialcitation",
        "humanobservation",
        "machineobservation",
        "observation",
        "occurrence",
        "event",
        "taxon",
    }
)
_DWC = PREFIXES["dwc"]
# A definition may have two terms of one of these names.
_MEDIA_NEED = {"media_identifier_blank": ("identifier", "accessURI"), "media_format_blank": ("format",)}
# So many different unknown values are told apart, by so many characters, and so many of them are told.
_MOST_VALUES = 1000
_LONGEST_VALUE = 60
_TOP = 5

# A letter such as é is two bytes in UTF-8, and Windows-1252 has a character for nearly every byte.
_FOLLOWING = bytes(range(0x80, 0xC0)).decode("cp1252", errors="ignore")
_CONTINUED = f"[\u0080-\u00bf{_FOLLOWING}]"
_MOJIBAKE = re.compile(f"[ÂÃ]{_CONTINUED}|â{_CONTINUED}{{2}}")
_LOST = "\ufffd"

_DAY = r"(?:0[1-9]|[12]\d|3[01])"
_MONTH_DAY = rf"(?!(?:02-3|(?:0[469]|11)-31))(?:0[1-9]|1[0-2])-{_DAY}"
_TIME = r"(?:[01]\d|2[0-4])(?::?[0-5]\d(?::?[0-5]\d(?:[.,]\d+)?)?)?(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?"
_DATE = rf"\d{{4}}(?:-(?:{_MONTH_DAY}(?:T{_TIME})?|0[1-9]|1[0-2]))?"
_INTERVAL = re.compile(
    rf"{_DATE}(?:/(?:{_DATE}|{_MONTH_DAY}(?:T{_TIME})?|{_DAY}(?:T{_TIME})?|{_TIME}))?", re.ASCII
)
_LEAP_DAY = re.compile(r"(\d{4})-02-29", re.ASCII)

_DECIMAL = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


class Counters:
    """Looks at the cells of a core and its extensions, as they go into the archive, and tells ``summary``.

    Ask for `finish` at the end.
    """

    def __init__(self, plan: Plan, summary: Summary, scratch: Path) -> None:
        self._summary = summary
        places = {column.term.iri: place for place, column in enumerate(plan.core.columns)}
        is_occurrence = plan.core.definition.row_type == OCCURRENCE
        self._occurrence_id = places.get(_DWC + "occurrenceID") if is_occurrence else None
        self._ids_are_occurrences = plan.id_term is not None and plan.id_term.iri == _DWC + "occurrenceID"
        self._basis = places.get(_DWC + "basisOfRecord") if is_occurrence else None
        self._date = places.get(_DWC + "eventDate")
        self._latitude = places.get(_DWC + "decimalLatitude")
        self._longitude = places.get(_DWC + "decimalLongitude")
        self._unknown_bases: Counter[str] = Counter()
        self._identifiers = Repetitions(scratch)

    def core(self, ids: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
        """Rows of these ids, given as the columns of the plan, go into the core."""
        self._count_damage(columns)
        if self._occurrence_id is not None:
            self._count_occurrence_ids(columns[self._occurrence_id])
        elif self._ids_are_occurrences:
            self._count_occurrence_ids(ids)
        if self._basis is not None:
            self._count_bases(columns[self._basis])
        if self._date is not None:
            self._summary.add_problem("date_invalid", bad_dates(columns[self._date]))
        if self._latitude is not None and self._longitude is not None:
            for name, count in bad_coordinates(columns[self._latitude], columns[self._longitude]).items():
                self._summary.add_problem(name, count)

    def extension(self, file: File, rows: int, columns: Sequence[Sequence[str]]) -> None:
        """These rows, ``rows`` in number, go into an extension."""
        self._count_damage(columns)
        if file.definition.row_type not in MEDIA:
            return
        for problem, names in _MEDIA_NEED.items():
            found = [
                cells
                for column, cells in zip(file.columns, columns, strict=True)
                if column.term.name in names
            ]
            blank = sum(not any(map(str.strip, cells)) for cells in zip(*found, strict=True))
            self._summary.add_problem(problem, blank if found else rows)

    def finish(self) -> None:
        """There are no more rows."""
        top = sorted(self._unknown_bases.items(), key=lambda item: (-item[1], item[0]))
        self._summary.unknown_basis = dict(top[:_TOP])
        self._summary.add_problem("occurrenceID_duplicate", self._identifiers.count())

    def close(self) -> None:
        self._identifiers.close()

    def _count_damage(self, columns: Sequence[Sequence[str]]) -> None:
        for cells in columns:
            for problem, count in bad_text(cells).items():
                self._summary.add_problem(problem, count)

    def _count_occurrence_ids(self, cells: Sequence[str]) -> None:
        # GBIF's publishing toolkit takes no two that differ in capitals alone.
        cells = [cell.strip().lower() for cell in cells]
        self._summary.add_problem("occurrenceID_blank", cells.count(""))
        self._identifiers.add(cells)

    def _count_bases(self, cells: Sequence[str]) -> None:
        for value, count in Counter(cells).items():
            if not value.strip():
                self._summary.add_problem("basisOfRecord_blank", count)
            elif value.strip().lower() not in BASES_OF_RECORD:
                self._summary.add_problem("basisOfRecord_unknown", count)
                beginning, known = value.strip()[:_LONGEST_VALUE], self._unknown_bases
                if beginning in known or len(known) < _MOST_VALUES:
                    known[beginning] += count


def bad_text(cells: Sequence[str]) -> Mapping[str, int]:
    """How many cells are damaged, and how."""
    together = "".join(cells)
    if together.isascii():
        return {}
    found = {}
    if _LOST in together:
        found["replacement"] = sum(_LOST in cell for cell in cells)
    if ("Ã" in together or "Â" in together or "â" in together) and _MOJIBAKE.search(together):
        found["mojibake"] = sum(_MOJIBAKE.search(cell) is not None for cell in cells)
    return found


def bad_dates(cells: Sequence[str]) -> int:
    """How many cells are no date, nor an interval, of ISO 8601-1 in its extended format; blank ones are."""
    bad = {cell for cell in set(cells) if not is_date(cell)}
    return sum(cell in bad for cell in cells) if bad else 0


def is_date(cell: str) -> bool:
    """May ``cell`` stand in eventDate?"""
    cell = cell.strip()
    if not cell:
        return True
    if not _INTERVAL.fullmatch(cell):
        return False
    return "-02-29" not in cell or all(_is_leap(int(year)) for year in _LEAP_DAY.findall(cell))


def bad_coordinates(latitudes: Sequence[str], longitudes: Sequence[str]) -> Mapping[str, int]:
    """How many pairs are of no use, and why."""
    if _are_fine(latitudes, longitudes):
        return {}
    found: Counter[str] = Counter()
    for pair in zip(latitudes, longitudes, strict=True):
        if problem := _problem(*pair):
            found[problem] += 1
    return found


def _are_fine(latitudes: Sequence[str], longitudes: Sequence[str]) -> bool:
    """Is there surely nothing wrong with any pair?"""
    north, east = _numbers(latitudes, 90), _numbers(longitudes, 180)
    if north is None or east is None or 0.0 in north:
        return False
    if len(north) == len(east) == len(latitudes):
        return True
    return all((not one) == (not other) for one, other in zip(latitudes, longitudes, strict=True))


def _numbers(cells: Sequence[str], most: int) -> list[float] | None:
    """The cells that are not empty, if all of them are plain numbers of no more than ``most``."""
    try:
        numbers = list(map(float, filter(None, cells)))
    except ValueError:
        return None
    # Python reads digits of other scripts and 1_000, which others do not.
    together = "".join(cells)
    if "_" in together or not together.isascii():
        return None
    # A number that is none makes the sum none.
    fits = not numbers or (math.isfinite(sum(numbers)) and -most <= min(numbers) and max(numbers) <= most)
    return numbers if fits else None


def _problem(latitude: str, longitude: str) -> str | None:
    if not latitude.strip() and not longitude.strip():
        return None
    if not (_DECIMAL.fullmatch(latitude) and _DECIMAL.fullmatch(longitude)):
        return "coordinate_invalid"
    north, east = float(latitude), float(longitude)
    if north == 0 == east:
        return "coordinate_zero"
    if abs(north) <= 90 and abs(east) <= 180:
        return None
    return "coordinate_swapped" if 90 < abs(north) <= 180 and abs(east) <= 90 else "coordinate_out_of_range"


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
