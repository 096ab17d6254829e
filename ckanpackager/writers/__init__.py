"""What rows can be packed in: ``WRITERS`` is the table of formats, and a Darwin Core Archive is a task of its
own, which needs a plan.
"""

from ckanpackager.writers.base import Writer
from ckanpackager.writers.delimited import CsvWriter, TsvWriter
from ckanpackager.writers.dwca import DwcArchiveWriter
from ckanpackager.writers.xlsx import XlsxWriter

WRITERS: dict[str, type[Writer]] = {
    "csv": CsvWriter,
    "tsv": TsvWriter,
    "xlsx": XlsxWriter,
}

__all__ = ["WRITERS", "DwcArchiveWriter", "Writer"]
