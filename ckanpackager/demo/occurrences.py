"""The penguins as a museum would publish them: columns by Darwin Core's names, measurements in a list.

What the table itself does not hold is common knowledge: where the islands are, and what a penguin is.
"""

from collections.abc import Mapping
from typing import Any

from ckanpackager.demo.table import Resource

OCCURRENCES = "7c1d1d0e-2f0b-4d5e-9a39-3e6f0a6f6b52"

TYPES = {
    "Occurrence ID": "text",
    "Basis of record": "text",
    "Institution code": "text",
    "Catalog Number": "text",
    "Scientific Name": "text",
    "Vernacular name": "text",
    "Kingdom": "text",
    "Class": "text",
    "Family": "text",
    "Genus": "text",
    "Specific epithet": "text",
    "Sex": "text",
    "Life stage": "text",
    "Reproductive condition": "text",
    "Event date": "date",
    "Continent": "text",
    "Island group": "text",
    "Island": "text",
    "Decimal latitude": "numeric",
    "Decimal longitude": "numeric",
    "Geodetic datum": "text",
    "Coordinate uncertainty in meters": "int4",
    "Occurrence remarks": "text",
    "Measurements": "json",
    "Study name": "text",
    "Clutch completion": "text",
    "Delta 15 N": "numeric",
    "Delta 13 C": "numeric",
}
# To the minute of arc; what they are on is no larger than that.
_ISLANDS = {
    "Torgersen": ("Torgersen Island", "-64.77", "-64.08"),
    "Dream": ("Dream Island", "-64.73", "-64.23"),
    "Biscoe": ("Biscoe Point", "-64.82", "-63.82"),
}
_UNCERTAINTY = 2000  # meters
_MEASURED = {
    "Culmen Length (mm)": ("culmen length", "mm"),
    "Culmen Depth (mm)": ("culmen depth", "mm"),
    "Flipper Length (mm)": ("flipper length", "mm"),
    "Body Mass (g)": ("body mass", "g"),
}

# What a site's settings would say of such a table.
SETTINGS = {
    "DWC_EXTENSION_FIELDS": {
        "Measurements": {
            "extension": "measurement_or_fact",
            "fields": {"measurementType": "", "measurementValue": "", "measurementUnit": ""},
        }
    }
}
EML = """<?xml version="1.0" encoding="UTF-8"?>
<eml:eml xmlns:eml="https://eml.ecoinformatics.org/eml-2.2.0" packageId="{package_id}" system="ckanpackager">
  <dataset>
    <title>Penguins near Palmer Station, Antarctica, 2007 to 2009</title>
    <creator><organizationName>Palmer Station LTER</organizationName></creator>
    <pubDate>{pub_date}</pubDate>
    <intellectualRights><para>Public Domain (CC0 1.0)</para></intellectualRights>
    <contact><organizationName>Palmer Station LTER</organizationName></contact>
  </dataset>
  <additionalMetadata><metadata><gbif><dateStamp>{date_stamp}</dateStamp></gbif></metadata></additionalMetadata>
</eml:eml>
"""


def occurrences(penguins: Resource, id: str = OCCURRENCES) -> Resource:
    """The table of *penguins*, a row for each of them."""
    table = penguins.table
    rows = (
        _occurrence({column.id: table.value(position, column.id) for column in penguins.columns})
        for position in range(len(table))
    )
    return Resource(id, TYPES.items(), ([row[name] for name in TYPES] for row in rows))


def _occurrence(penguin: Mapping[str, Any]) -> dict[str, Any]:
    vernacular, _, name = penguin["Species"].rstrip(")").partition(" (")
    genus, epithet = name.split()
    stage, _, condition = penguin["Stage"].partition(", ")
    island, latitude, longitude = _ISLANDS[penguin["Island"]]
    study, number = penguin["studyName"], penguin["Sample Number"]
    return {
        "Occurrence ID": f"PAL-LTER:{study}:{epithet}:{number}",
        "Basis of record": "HumanObservation",
        "Institution code": "PAL-LTER",
        "Catalog Number": penguin["Individual ID"],
        "Scientific Name": name,
        "Vernacular name": vernacular,
        "Kingdom": "Animalia",
        "Class": "Aves",
        "Family": "Spheniscidae",
        "Genus": genus,
        "Specific epithet": epithet,
        "Sex": penguin["Sex"].lower() if penguin["Sex"] in ("MALE", "FEMALE") else None,
        "Life stage": stage.lower(),
        "Reproductive condition": condition,
        "Event date": penguin["Date Egg"],
        "Continent": "Antarctica",
        "Island group": "Palmer Archipelago",
        "Island": island,
        "Decimal latitude": latitude,
        "Decimal longitude": longitude,
        "Geodetic datum": "EPSG:4326",
        "Coordinate uncertainty in meters": _UNCERTAINTY,
        "Occurrence remarks": None if penguin["Comments"] == "NA" else penguin["Comments"],
        "Measurements": [
            {"measurementType": kind, "measurementValue": str(penguin[column]), "measurementUnit": unit}
            for column, (kind, unit) in _MEASURED.items()
            if penguin[column] is not None
        ],
        "Study name": study,
        "Clutch completion": penguin["Clutch Completion"],
        "Delta 15 N": penguin["Delta 15 N (o/oo)"],
        "Delta 13 C": penguin["Delta 13 C (o/oo)"],
    }
