"""What the settings say about Darwin Core Archives, checked whole."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

from ckanpackager.checks import nearest
from ckanpackager.dwc.formatters import FORMATTERS
from ckanpackager.dwc.terms import Definition, Term, load
from ckanpackager.errors import SettingsError
from ckanpackager.settings import Settings


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

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The DWC settings. Raises SettingsError with a line, a sentence, for each problem with them."""
        reader = _Reader(settings)
        core = reader.load("DWC_CORE_EXTENSION", settings.DWC_CORE_EXTENSION)
        additional = [
            reader.load("DWC_ADDITIONAL_EXTENSIONS", name) for name in settings.DWC_ADDITIONAL_EXTENSIONS
        ]
        dynamic_term = reader.dynamic_term(core)
        extension_fields = [
            reader.extension_field(column, parts) for column, parts in settings.DWC_EXTENSION_FIELDS.items()
        ]
        if settings.DWC_ID_FIELD.strip() in map(str.strip, settings.DWC_EXTENSION_FIELDS):
            reader.problem("DWC_EXTENSION_FIELDS", f"{settings.DWC_ID_FIELD!r} is DWC_ID_FIELD, and no list.")
        if reader.problems or core is None:
            raise SettingsError("\n".join(reader.problems))
        return cls(
            id_field=settings.DWC_ID_FIELD,
            core=core,
            additional=tuple(dict.fromkeys(definition for definition in additional if definition)),
            dynamic_term=dynamic_term,
            extension_fields=tuple(field for field in extension_fields if field),
            dynamic_keys=settings.DWC_DYNAMIC_KEYS,
        )


class _Reader:
    """Reads the settings one by one, and collects what is wrong with them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_row_type: dict[str, tuple[str, Definition]] = {}
        self.problems: list[str] = []

    def problem(self, setting: str, sentence: str) -> None:
        self.problems.append(f"{self._settings.source}: {setting}: {sentence}")

    def load(self, setting: str, name: str) -> Definition | None:
        """The definition of this name or path, unless its rows would be those of another one."""
        try:
            definition = load(name)
        except SettingsError as error:
            self.problem(setting, str(error))
            return None
        first, other = self._by_row_type.setdefault(definition.row_type, (name, definition))
        core = self._settings.DWC_CORE_EXTENSION
        if setting != "DWC_CORE_EXTENSION" and first == core:
            self.problem(setting, f"{name!r} has the rowType of the core, {core!r}: name another definition.")
            return None
        if other != definition:
            self.problem(
                setting, f"{name!r} has the rowType of {first!r}: name the same definition in both places."
            )
            return None
        return definition

    def dynamic_term(self, core: Definition | None) -> Term | None:
        name = self._settings.DWC_DYNAMIC_TERM
        if name is None or core is None:
            return None
        term = core.find(name)
        if term is None:
            hint = _hint(name, core)
            self.problem(
                "DWC_DYNAMIC_TERM",
                f"{name!r} is no term of {core.name}{hint}: name one that it has, or None, "
                "so that what has no place is left out.",
            )
        return term

    def extension_field(self, column: str, parts: Mapping[str, Any]) -> ExtensionField | None:
        setting = f"DWC_EXTENSION_FIELDS[{column!r}]"
        definition = self.load(setting, parts["extension"])
        if definition is None:
            return None
        keys: dict[Term, ListKey] = {}
        for part in ("fields", "mappings", "formatters"):
            for name, term in self._terms(setting, part, parts.get(part, {}), definition):
                value = parts[part][name]
                if part == "fields":
                    keys[term] = ListKey(term, name, value, None)
                    continue
                if not isinstance(value, str) or not value:
                    self.problem(setting, f"{part!r} must lead from {name!r} to a name, not to {value!r}.")
                elif part == "mappings":
                    # What fills a term without a default of its own is blank where it is missing.
                    key = keys.get(term, ListKey(term, value, "", None))
                    keys[term] = dataclasses.replace(key, key=value)
                elif value not in FORMATTERS:
                    self.problem(
                        setting,
                        f"there is no formatter {value!r}; there are {', '.join(sorted(FORMATTERS))}.",
                    )
                elif term not in keys:
                    self.problem(setting, f"'formatters' has {name!r}, which 'fields' lacks: add it there.")
                else:
                    keys[term] = dataclasses.replace(keys[term], formatter=value)
        if not parts["fields"] and not parts.get("mappings"):
            self.problem(setting, "'fields' is empty: name the terms that the objects fill.")
        return ExtensionField(column, definition, tuple(keys.values()))

    def _terms(
        self, setting: str, part: str, names: Mapping[str, Any], definition: Definition
    ) -> Iterator[tuple[str, Term]]:
        """The names with their terms, for those that have one of their own."""
        seen: dict[Term, str] = {}
        for name in names:
            term = definition.find(name)
            if term is None:
                hint = _hint(name, definition)
                self.problem(setting, f"{part!r} has {name!r}, which is no term of {definition.name}{hint}.")
            elif term in seen:
                self.problem(
                    setting, f"{part!r} has {seen[term]!r} and {name!r}, which are one term: keep one."
                )
            else:
                seen[term] = name
                yield name, term


def _hint(name: str, definition: Definition) -> str:
    near = nearest(name, (term.name for term in definition.terms))
    return f" (is it {near!r}?)" if near else ""
