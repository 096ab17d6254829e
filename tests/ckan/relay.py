"""A middleman between the service and a real CKAN, who can wait, and who can break off.

with Relay(ckan.url) as relay:
    gate = relay.hold(page=2)      # the second request for rows waits ...
    ...
    gate.reached()
    gate.open()                    # ... until now
    relay.cut(page=3)              # the answer to the third breaks off in its middle
"""

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 60
TRANSFER_HEADERS = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Gate:
    """Holds a request until it is opened."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._opened = threading.Event()

    def reached(self) -> None:
        assert self._arrived.wait(PATIENCE), "the request never came"

    def open(self) -> None:
        self._opened.set()

    def pass_through(self) -> None:
        self._arrived.set()
        self._opened.wait(PATIENCE)


class Relay:
    """Listens on a free port. Pages are counted from 1, in the order in which they are asked for."""

    def __init__(self, url: str) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.relay = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="relay")
        self._lock = threading.Lock()
        self._gates: dict[int, Gate] = {}
        self._cuts: set[int] = set()
        self.have_been_cut: set[int] = set()
        self._pages = 0
        self.before_each_page: Callable[[], object] | None = None
        self.target = urlsplit(url).netloc
        self.api_url = f"http://127.0.0.1:{self._server.server_port}/api/action/datastore_search"
        self.asked: list[dict[str, Any]] = []

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for gate in self._gates.values():
            gate.open()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def hold(self, page: int) -> Gate:
        """Have the request for this page wait before it goes to CKAN."""
        return self._gates.setdefault(page, Gate())

    def cut(self, page: int) -> None:
        """Break off in the middle of the answer to this page."""
        self._cuts.add(page)

    def number(self, body: bytes) -> int:
        """Which page this asks for; 0 if it is not for one."""
        parameters = json.loads(body)
        with self._lock:
            self.asked.append(parameters)
            # A request for one row looks for the ends of a range.
            if parameters.get("limit") in (0, 1):
                return 0
            self._pages += 1
            return self._pages

    def wait(self, page: int) -> None:
        if page > 1 and self.before_each_page:
            self.before_each_page()
        if page in self._gates:
            self._gates[page].pass_through()

    def is_cut(self, page: int) -> bool:
        if page in self._cuts:
            self.have_been_cut.add(page)
        return page in self._cuts


class _Server(ThreadingHTTPServer):
    relay: Relay
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.close_connection = True
        relay = self.server.relay
        body = self.rfile.read(int(self.headers["Content-Length"]))
        page = relay.number(body)
        relay.wait(page)
        connection = http.client.HTTPConnection(relay.target, timeout=PATIENCE)
        try:
            connection.request("POST", self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        except (http.client.HTTPException, ConnectionError):
            # As CKAN does, so do we: no answer at all.
            return
        finally:
            connection.close()
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in TRANSFER_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if relay.is_cut(page) else content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""
