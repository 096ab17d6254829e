"""The least of an HTTP/1.1 server that a test can rely on: a thread a connection, and an orderly end.

A `ConnectionError`, whether of the network or raised by who answers, ends the connection there and then.
"""

import dataclasses
import email.message
import http.server
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as it came. ``path`` is decoded and without ``arguments``, the query string, which is not."""

    method: str
    path: str
    arguments: str
    headers: email.message.Message
    body: bytes


@dataclasses.dataclass(frozen=True)
class Response:
    """What to answer. A body that is made while it is sent and has no length is sent chunked."""

    status: int
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    length: int | None = None


class Listener(socketserver.ThreadingTCPServer):
    """Listens once it is made, answers in ``serve_forever``; `stop` ends every connection and its thread."""

    allow_reuse_address = True
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], answer: Callable[[Request], Response]) -> None:
        self.answer = answer
        self._connections: set[socket.socket] = set()
        self._changing = threading.Lock()
        super().__init__(address, Handler)
        self.server_port: int = self.server_address[1]

    def stop(self) -> None:
        self.shutdown()
        with self._changing:
            for connection in self._connections:
                cut(connection)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._changing:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was first


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection and its requests, one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "ckan"
    sys_version = ""
    disable_nagle_algorithm = True
    server: Listener

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, unquote(url.path), url.query, self.headers, body)
        self.write(self.server.answer(request))

    do_HEAD = do_POST = do_GET

    def write(self, response: Response) -> None:
        body = [response.body] if isinstance(response.body, bytes) else response.body
        length = len(response.body) if isinstance(response.body, bytes) else response.length
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
            body = chunks(body)
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        for part in body if self.command != "HEAD" else ():
            self.wfile.write(part)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: who wants a log keeps one."""


def chunks(body: Iterable[bytes]) -> Iterator[bytes]:
    """RFC 9112, section 7.1."""
    for part in body:
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"
