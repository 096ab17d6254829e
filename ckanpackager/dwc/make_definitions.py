"""Makes the definitions that come with the service, in GBIF's format, from two tables beside them.

    python -m ckanpackager.dwc.make_definitions

``definitions.csv`` has a line for each definition, and ``terms.csv`` one for
each of its terms, in their order. They state facts alone: names, IRIs, groups,
and which terms are required.
"""

import csv
from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from ckanpackager.dwc.terms import FOLDER, PREFIXES

_OPENING = """<?xml version="1.0" encoding="UTF-8"?>
<!-- Made by python -m ckanpackager.dwc.make_definitions: change the tables beside this file instead.
     The terms are those of Biodiversity Information Standards (TDWG), https://dwc.tdwg.org and https://ac.tdwg.org,
     CC BY 4.0, and of the Dublin Core Metadata Initiative and others; their selection and order is GBIF's,
     {source}{time}. -->
<extension xmlns="http://rs.gbif.org/extension/" xmlns:dc="http://purl.org/dc/terms/"
    {attributes}>
"""
_CLOSING = "</extension>\n"


def main() -> None:
    """Write every definition to its file."""
    for name, text in definitions():
        (FOLDER / f"{name}.xml").write_text(text, "utf-8")


def definitions() -> Iterator[tuple[str, str]]:
    """The name and the XML of each definition that the tables describe."""
    terms = _rows("terms")
    for row in _rows("definitions"):
        own = [_property(term) for term in terms if term["definition"] == row["definition"]]
        yield row["definition"], "".join([_opening(row), *own, _CLOSING])


def _opening(row: dict[str, str]) -> str:
    attributes = {
        "dc:title": row["title"],
        "name": row["name"],
        "namespace": row["row_type"].rpartition("/")[0] + "/",
        "rowType": row["row_type"],
    }
    if row["issued"]:
        attributes["dc:issued"] = row["issued"]
    # The lists of 2014 are those that the retired service came with; GBIF's address has changed since.
    return _OPENING.format(
        source=row["source"],
        time="" if row["issued"] else " as it was in 2014",
        attributes="\n    ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items()),
    )


def _property(row: dict[str, str]) -> str:
    prefix, _, name = row["term"].partition(":")
    beginning = PREFIXES[prefix]
    attributes = {"group": row["group"]} if row["group"] else {}
    attributes |= {
        "name": name,
        "namespace": beginning,
        "qualName": beginning + name,
        "required": row["required"] or "false",
    }
    return f"  <property {' '.join(f'{key}={quoteattr(value)}' for key, value in attributes.items())}/>\n"


def _rows(table: str) -> list[dict[str, str]]:
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
