"""Showing where columns would go in a Darwin Core Archive, before anybody asks for one."""

from collections.abc import Mapping, Sequence
from typing import Any

from ckanpackager import packager
from ckanpackager.commands import here, output, parameters
from ckanpackager.commands.console import Console
from ckanpackager.commands.parameters import Arguments
from ckanpackager.dwc.configuration import Configuration
from ckanpackager.dwc.explain import explain
from ckanpackager.dwc.plan import plan
from ckanpackager.errors import BadRequestError
from ckanpackager.form import Form
from ckanpackager.job import Job
from ckanpackager.settings import Settings
from ckanpackager.sources.base import Field

_ID = "_id"


def show(arguments: Arguments, console: Console) -> int:
    """``dwc-plan``: the plan for the columns of a resource, or for those that were named."""
    job = None if arguments["-r"] is None else _job(arguments)
    settings = here.settings() if job is None else here.settings(job.ckan_host)
    # Before CKAN is asked: these settings could be of no use.
    configuration = Configuration.from_settings(settings)
    fields = _named(arguments["COLUMN"], settings) if job is None else packager.columns(job, settings)
    columns = [field.id for field in fields]
    explanation = explain(columns, plan(fields, configuration), configuration)
    console.answer({"success": True, "status": "success", **explanation.to_dict()}, view)
    return 0


def _named(columns: Sequence[str], settings: Settings) -> tuple[Field, ...]:
    """The columns that were typed, with CKAN's own _id, which every table of its datastore has."""
    own = [_ID] if settings.DWC_ID_FIELD == _ID and _ID not in columns else []
    return tuple(Field(column) for column in [*own, *columns])


def _job(arguments: Arguments) -> Job:
    values = parameters.known(arguments)
    if arguments["--api-url"] is not None:
        values["api_url"] = arguments["--api-url"]
    if not values.get("api_url"):
        raise BadRequestError(
            "Where is the CKAN? Name its datastore_search with --api-url, or as api_url in the defaults file."
        )
    form = {name: values.get(name) for name in ("api_url", "key")}
    return Job.from_form(
        "package_datastore", Form({**form, "resource_id": arguments["-r"], "email": here.NOBODY})
    )


def view(answer: Mapping[str, Any]) -> str:
    """A table of the columns, one of what fills the extensions' terms from lists, and the notes."""
    rows = [(row["column"], _file(row), _use(row), _remark(row)) for row in answer["columns"]]
    parts = [output.table(("COLUMN", "FILE", "AS", "REMARK"), rows)]
    if answer["lists"]:
        fillings = [
            (row["column"], row["file"], row["header"], row["key"], row["default"], row["formatter"])
            for row in answer["lists"]
        ]
        parts.append(output.table(("LIST", "FILE", "TERM", "FROM THE KEY", "DEFAULT", "FORMATTER"), fillings))
    if answer["notes"]:
        parts.append("\n".join(answer["notes"]))
    return "\n\n".join(parts)


def _file(row: Mapping[str, Any]) -> str:
    return "every file" if row["place"] == "id" else str(row["file"])


def _use(row: Mapping[str, Any]) -> str:
    if row["place"] == "id":
        return f"the id, and {row['term']}" if row["term"] else "the id"
    if row["place"] == "dynamic":
        return f"{row['key']} in {row['header']}"
    return {"list": "a row for each object", "dropped": "left out"}.get(row["place"]) or str(row["header"])


def _remark(row: Mapping[str, Any]) -> str:
    if row["near_miss"]:
        return f"almost {row['near_miss']}"
    if row["behind"]:
        rest = f"else {row['key']} in the dynamic term" if row["key"] else "else left out"
        return f"where {row['behind']} is blank, {rest}"
    return ""
