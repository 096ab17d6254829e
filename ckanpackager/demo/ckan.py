"""A small CKAN: the datastore API and file downloads over real data, from a server of one's own.

It answers as a real CKAN does (`datastore` names the one difference), several requests at once, and nothing
of it is left after `Ckan.close`.
"""

import contextlib
import csv
import importlib.resources
import io
import json
import re
import signal
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Self
from urllib.parse import parse_qs, urlencode

import docopt

from ckanpackager.demo import datastore, postgres
from ckanpackager.demo.files import Page, Upload, html
from ckanpackager.demo.listener import Listener, Request, Response
from ckanpackager.demo.query import Release, ServerError, ValidationError, read_query
from ckanpackager.demo.specimens import specimens
from ckanpackager.demo.table import DELIMITERS, Column, Resource

USAGE = """A small CKAN over real data: the 344 penguins of the Palmer Station LTER. Run by python -m.

Usage: ckanpackager.demo.ckan [options]

Prints its URL, then the id of each resource, and serves until it is interrupted.

Options:
  --host HOST         where to listen [default: 127.0.0.1]
  --port PORT         0 is any free one [default: 0]
  --ckan-version V    the CKAN to be: 2.12.0, 2.11.6 or 2.9.11 [default: 2.12.0]
  --specimens N       have a generated table of N rows, too
"""

PENGUINS = "5d0e1c52-3b1f-4a0a-9a6e-0c8f6f0b9a11"
PENGUIN_TYPES = {
    "Sample Number": "int4",
    "Date Egg": "date",
    "Culmen Length (mm)": "numeric",
    "Culmen Depth (mm)": "numeric",
    "Flipper Length (mm)": "int4",
    "Body Mass (g)": "int4",
    "Delta 15 N (o/oo)": "numeric",
    "Delta 13 C (o/oo)": "numeric",
}
ACTION = re.compile(r"/api(?:/3)?/action/(\w+)")


def penguins(id: str = PENGUINS) -> Resource:
    """The penguins of ``penguins-raw.csv``, by its column names; NA is NULL except where it is text."""
    text = importlib.resources.files("ckanpackager.demo").joinpath("penguins-raw.csv").read_text("utf-8")
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    types = [PENGUIN_TYPES.get(name, "text") for name in header]

    def value(type_: str, cell: str) -> str | None:
        return None if cell == "NA" and type_ != "text" else cell

    return Resource(id, zip(header, types, strict=True), (map(value, types, line) for line in lines))


class ActionError(Exception):
    """What an action refuses with a status of its own."""

    def __init__(self, status: int, type_: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.type = type_


class Ckan:
    """A CKAN that listens from the moment it is made; closed by `close` or by leaving it as a context.

    ``resources`` are its tables by id and ``files`` what else it serves, by path; both may be changed at any
    time. Whoever sends ``token`` as Authorization may read what is private.
    """

    def __init__(
        self,
        resources: Iterable[Resource] = (),
        *,
        version: str = "2.12.0",
        token: str = "",
        rows_max: int = 32000,
        hide_version: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.resources = {resource.id: resource for resource in resources}
        self.files: dict[str, Page] = {}
        self.version = version
        self.token = token
        self.rows_max = rows_max
        self.hide_version = hide_version
        self._listener = Listener((host, port), self.answer)
        self.host, self.port = host, self._listener.server_port
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), name="ckan")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def api_url(self) -> str:
        """What the CKAN extension posts as ``api_url``."""
        return f"{self.url}/api/action/datastore_search"

    @property
    def release(self) -> Release:
        return Release(self.version)

    def close(self) -> None:
        """Stop listening, cut what is under way, and wait until it has ended."""
        self._listener.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def add(self, resource: Resource) -> Resource:
        self.resources[resource.id] = resource
        return resource

    def upload(self, name: str, content: bytes | int, **how: Any) -> str:
        """Serve a file, as CKAN serves an uploaded resource, and return its URL. See `Upload`."""
        file = Upload(name, content, **how)
        self.files[file.path] = file
        return self.url + file.url_path

    def answer(self, request: Request) -> Response:
        """Every request comes through here, in a thread of its own."""
        if action := ACTION.fullmatch(request.path):
            return self._act(action[1], request)
        page = self.files.get(request.path)
        if page is None:
            return html(404, "The requested URL was not found on the server.")
        return page.answer(request, authorized=self.is_authorized(request))

    def is_authorized(self, request: Request) -> bool:
        return bool(self.token) and request.headers.get("Authorization") == self.token

    def find(self, plan: datastore.Plan) -> datastore.Found:
        """Which rows a search answers with; apart, so that a test may have it answer with others."""
        return datastore.find(plan)

    def _act(self, name: str, request: Request) -> Response:
        actions = {
            "datastore_search": self._datastore_search,
            "datastore_info": self._datastore_info,
            "status_show": self._status_show,
        }
        if name not in actions:
            return self._bad_request(f"Action name not known: {name}")
        try:
            parameters = read_parameters(request)
        except ValueError as error:
            return self._bad_request(f"JSON Error: {error}")
        help_url = f"{self.url}/api/3/action/help_show?name={name}"
        status, outcome = outcome_of(lambda: actions[name](request, parameters), parameters)
        succeeded = {"success": True} if status == 200 else {}
        failed = {} if status == 200 else {"success": False}
        return json_response(status, datastore.to_json({"help": help_url} | succeeded | outcome | failed))

    def _bad_request(self, message: str) -> Response:
        separator = ":" if self.release.has_ranges else " -"
        return json_response(400, json.dumps(f"Bad request{separator} {message}"))

    def _datastore_search(self, request: Request, parameters: Mapping[str, Any]) -> dict[str, Any]:
        query = read_query(parameters, self.release, self.rows_max)
        resource = self._readable(query.resource_id, request, "Resource")
        plan = datastore.make_plan(query, resource.table, self.release)
        result = datastore.render(plan, self.find(plan))
        if self.release.has_ranges:
            return result
        result["_links"] = links(request, query.offset or 0, query.limit)
        return result | ({"total_was_estimated": False} if query.include_total else {})

    def _datastore_info(self, request: Request, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if self.release.number < (2, 10) and request.method == "GET":
            raise ActionError(400, "Bad Request", "Please use POST method for your request")
        id = parameters.get("resource_id") or parameters.get("id")
        if not id:
            raise ValidationError({"resource_id": ["Missing value"]})
        resource = self._readable(str(id), request, "Resource/Alias")
        if self.release.number < (2, 10):
            schema = {column.id: postgres.coarse_type(column.type) for column in resource.columns}
            return {"schema": schema, "meta": {"count": len(resource.table)}}
        meta = {"id": resource.id, "count": len(resource.table), "table_type": "BASE TABLE", "aliases": []}
        return {"meta": meta, "fields": [info(column) for column in resource.columns]}

    def _status_show(self, request: Request, parameters: Mapping[str, Any]) -> dict[str, Any]:
        status = {"site_title": "CKAN", "site_url": self.url, "extensions": ["datastore"]}
        return status | ({} if self.hide_version else {"ckan_version": self.version})

    def _readable(self, id: str, request: Request, called: str) -> Resource:
        resource = self.resources.get(id)
        if resource is None:
            raise ActionError(404, "Not Found Error", f'Not found: {called} "{id}" was not found.')
        if resource.private and not self.is_authorized(request):
            doing = "perform resource_show on" if self.release.has_ranges else "read"
            message = f"Access denied: User  not authorized to {doing} resource {id}"
            raise ActionError(403, "Authorization Error", message)
        return resource


def outcome_of(action: Any, parameters: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status, and ``result`` or ``error``. Who asks for csv or tsv is not told what PostgreSQL said."""
    try:
        return 200, {"result": action()}
    except ActionError as error:
        return error.status, {"error": {"__type": error.type, "message": str(error)}}
    except ValidationError as error:
        return 409, {"error": error.errors | {"__type": "Validation Error"}}
    except postgres.QueryError as error:
        if parameters.get("records_format") not in DELIMITERS:
            info = {"statement": ["SELECT ..."], "params": [{}], "orig": [f"{error}\n"]}
            return 409, {"error": {"query": ["Invalid query"], "info": info, "__type": "Validation Error"}}
    except ServerError:
        pass
    return 500, {"error": {"__type": "Internal Server Error", "message": "Internal Server Error"}}


def json_response(status: int, text: str) -> Response:
    return Response(status, text.encode(), {"Content-Type": "application/json;charset=utf-8"})


def read_parameters(request: Request) -> dict[str, Any]:
    """An action's parameters, from the query string, a form or JSON. Raises ValueError as CKAN complains."""
    if request.method != "POST":
        return flat(request.arguments)
    if request.headers.get_content_type() == "application/x-www-form-urlencoded" and b"=" in request.body:
        return flat(request.body.decode())
    try:
        parameters = json.loads(request.body or b"{}")
    except ValueError as error:
        raise ValueError(f"Error decoding JSON data. Error: {error} JSON data extracted: {{}}") from error
    if not isinstance(parameters, dict):
        raise ValueError(f"Request data JSON decoded to {parameters} but it needs to be a dictionary.")
    return parameters


def flat(arguments: str) -> dict[str, Any]:
    parsed = parse_qs(arguments, keep_blank_values=True)
    return {name: values if len(values) > 1 else values[0] for name, values in parsed.items()}


def links(request: Request, offset: int, limit: int) -> dict[str, str]:
    """The ``_links`` of the CKANs before 2.12; of a POST they hold nothing but the offset."""
    arguments = {name: values[-1] for name, values in parse_qs(request.arguments).items()}
    start = urlencode({name: value for name, value in arguments.items() if name != "offset"})
    next_ = urlencode(arguments | {"offset": offset + limit})
    return {"start": f"{request.path}?{start}".rstrip("?"), "next": f"{request.path}?{next_}"}


def info(column: Column) -> dict[str, Any]:
    names = {"index_name": None, "is_index": False, "notnull": False, "uniquekey": False}
    schema = {"native_type": postgres.name_of(column.type)} | names
    described = datastore.describe(column) | {"schema": schema}
    return described | ({"type": "nested"} if column.type == "json" else {})


def main() -> None:
    options = docopt.docopt(USAGE)
    stopping = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
    tables = [penguins()]
    if options["--specimens"]:
        tables.append(specimens(int(options["--specimens"])))
    address = {"host": options["--host"], "port": int(options["--port"])}
    with (
        Ckan(tables, version=options["--ckan-version"], **address) as ckan,
        contextlib.suppress(BrokenPipeError),
    ):
        print(ckan.url, *ckan.resources, sep="\n", flush=True)
        signal.sigwait(stopping)


if __name__ == "__main__":
    main()
