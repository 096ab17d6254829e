"""``python -m ckanpackager`` is the command line."""

import sys

from ckanpackager.cli import main

if __name__ == "__main__":
    sys.exit(main())
