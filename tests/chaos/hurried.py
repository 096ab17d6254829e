"""ckanpackager-service with its pauses cut to a tenth or less, so that an hour's trouble fits into minutes.

A worker imports this too, as multiprocessing has every child import the main program, and so makes a
checkpoint after every page.
"""

import sys

from ckanpackager import checkpoint, database, service
from ckanpackager.jobs import outbox, table


def hurry() -> None:
    """Cut the pauses."""
    table._PAUSES_AFTER_DEATH = (0.0, 0.3, 1.0)
    table._SHORTEST_WAIT = 1.0
    outbox._SHORTEST_WAIT = 1.0
    database._SQLITE_PRAGMAS["busy_timeout"] = 1000
    checkpoint._SECONDS_BETWEEN = 0.0


hurry()
if __name__ == "__main__":
    sys.exit(service.main())
