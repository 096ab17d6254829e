"""The formats that rows can be packed in: ``WRITERS`` is the table of them."""

from ckanpackager.writers.base import Writer
from ckanpackager.writers.delimited import CsvWriter, TsvWriter
from ckanpackager.writers.xlsx import XlsxWriter

WRITERS: dict[str, type[Writer]] = {
    "csv": CsvWriter,
    "tsv": TsvWriter,
    "xlsx": XlsxWriter,
}

__all__ = ["WRITERS", "Writer"]
