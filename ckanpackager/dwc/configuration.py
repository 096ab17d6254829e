"""What the settings say about Darwin Core Archives, checked whole."""

import dataclasses

from ckanpackager.dwc.terms import Definition, Term


@dataclasses.dataclass(frozen=True)
class ListKey:
    """``key`` of the objects in a list fills ``term``.

    ``default`` takes the place of what is missing, null or blank, and is not formatted; ``formatter`` is the
    name of one of :data:`ckanpackager.dwc.formatters.FORMATTERS`.
    """

    term: Term
    key: str
    default: object
    formatter: str | None


@dataclasses.dataclass(frozen=True)
class ExtensionField:
    """A column that holds a list of objects, each a row of ``definition``. No term is in ``keys`` twice."""

    column: str
    definition: Definition
    keys: tuple[ListKey, ...]


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The DWC settings, with their definitions read. ``dynamic_keys`` is "camel" or "verbatim"."""

    id_field: str
    core: Definition
    additional: tuple[Definition, ...]
    dynamic_term: Term | None
    extension_fields: tuple[ExtensionField, ...]
    dynamic_keys: str = "camel"
