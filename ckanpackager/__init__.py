"""Packs CKAN resources into ZIP files in the background, and e-mails a link."""

from importlib.metadata import version

__version__ = version("ckanpackager")
