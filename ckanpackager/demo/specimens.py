"""A large table that is made up while it is read: specimens of a museum, for measurements.

Its rows have the size and the types of a real collection's; the names are real, the specimens are not.
"""

import random
from typing import Any

from ckanpackager.demo.table import Generated, Resource

SPECIMENS = "05ff2255-c38a-40c9-b657-4ccb55ab2feb"
PERIOD = 2000
FIELDS = {
    "GUID": "text",
    "Catalogue number": "text",
    "Collection": "text",
    "Created": "timestamp",
    "Modified": "timestamp",
    "Scientific name": "text",
    "Author": "text",
    "Kingdom": "text",
    "Family": "text",
    "Genus": "text",
    "Specific epithet": "text",
    "Type status": "text",
    "Individual count": "int4",
    "Sex": "text",
    "Life stage": "text",
    "Preservative": "text",
    "Collector": "text",
    "Year": "int4",
    "Month": "int4",
    "Day": "int4",
    "Continent": "text",
    "Country": "text",
    "Locality": "text",
    "Latitude": "numeric",
    "Longitude": "numeric",
    "Uncertainty (m)": "float8",
    "Minimum elevation": "int4",
    "Maximum elevation": "int4",
    "Has image": "bool",
    "Identified by": "text",
    "Date identified": "date",
    "Remarks": "text",
    "Associated media": "json",
}
NAMES = [
    ("Rosa", "canina", "L.", "Plantae", "Rosaceae"),
    ("Rosa", "\u00d7alba", "L.", "Plantae", "Rosaceae"),
    ("Carabus", "violaceus", "Linnaeus, 1758", "Animalia", "Carabidae"),
    ("Bombus", "terrestris", "(Linnaeus, 1758)", "Animalia", "Apidae"),
    ("Pygoscelis", "adeliae", "(Hombron & Jacquinot, 1841)", "Animalia", "Spheniscidae"),
    ("Dicranum", "scoparium", "Hedw.", "Plantae", "Dicranaceae"),
]
PLACES = [
    ("Europe", "United Kingdom", "Box Hill, Surrey; chalk slope above the river"),
    ("Europe", "Österreich", 'Kärnten, "Hohe Tauern", Großglockner, 2400 m'),
    ("South America", "Perú", "Río Tambopata, 3 km upstream of the confluence"),
    ("Antarctica", "", "Anvers Island, Palmer Station"),
    ("Asia", "日本", "長野県, 上高地"),
]
WORDS = (
    'collected at dusk under bark, label faded; see the field book (vol. 2), p. 114: "rare" det. uncertain'
)


def specimens(count: int, id: str = SPECIMENS) -> Resource:
    """*count* rows of 33 columns and an ``_id``: some 540 bytes each as CSV, twice that as objects."""
    return Resource(id, FIELDS.items(), Generated(count, make_row, period=PERIOD))


def make_row(n: int) -> list[Any]:
    chance = random.Random(n)  # noqa: S311 - reproducible on purpose
    genus, epithet, author, kingdom, family = chance.choice(NAMES)
    continent, country, locality = chance.choice(PLACES)
    year, month, day = chance.randint(1820, 2020), chance.randint(1, 12), chance.randint(1, 28)
    height = chance.randint(0, 3000)
    media = [{"identifier": f"https://example.org/media/{n}.jpeg", "format": "image/jpeg"}]
    rare = chance.random() < 0.2
    return [
        f"{chance.getrandbits(128):032x}",
        f"NHMUK{n:09d}",
        chance.choice(["Botany", "Entomology", "Zoology"]),
        f"2013-0{chance.randint(1, 9)}-{day:02d}T10:00:00",
        f"2020-{month:02d}-{day:02d}T03:04:05.{chance.randint(0, 999):03d}",
        f"{genus} {epithet} {author}",
        author,
        kingdom,
        family,
        genus,
        epithet,
        "Holotype" if rare else None,
        chance.randint(1, 9),
        chance.choice(["male", "female", "", None]),
        chance.choice(["adult", "larva", None]),
        chance.choice(["Dry", "Spirit", "Slide"]),
        chance.choice(["A. R. Wallace", "Mary Anning", "J. D. Hooker; T. Thomson"]),
        year,
        month,
        day,
        continent,
        country or None,
        locality,
        f"{chance.uniform(-90, 90):.7f}",
        f"{chance.uniform(-180, 180):.5f}",
        chance.choice([None, 1.5, 100.0, 1e-07, 1e15]),
        height,
        height + 20,
        chance.random() < 0.5,
        chance.choice(["Müller, F.", "O'Brien", None]),
        f"{min(year + 3, 2020)}-{month:02d}-{day:02d}",
        " ".join(chance.choices(WORDS.split(), k=20)) + ("\nsecond line" if rare else ""),
        media if chance.random() < 0.3 else None,
    ]
