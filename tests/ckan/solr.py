"""A stand-in for Solr: it finds nothing, keeps nothing and refuses nothing.

CKAN then reads datasets from its database, as it does for one that is not indexed yet; only searching for
datasets is without result. It is one thread, on a free port of the loopback interface.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# CKAN starts only with a schema whose name it knows; all of 2.9 to 2.12 know this one.
SCHEMA = '<schema name="ckan-2.10" version="1.6"/>'
EMPTY = {
    "responseHeader": {"status": 0, "QTime": 0},
    "status": "OK",
    "response": {"numFound": 0, "start": 0, "docs": []},
    "facet_counts": {"facet_queries": {}, "facet_fields": {}, "facet_ranges": {}},
}


class Solr:
    """A context manager; ``url`` is what CKAN knows as ``solr_url``."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="solr")
        self.url = f"http://127.0.0.1:{self._server.server_port}/solr"

    def __enter__(self) -> "Solr":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if urlsplit(self.path).path.endswith("/schema"):
            self._answer("application/xml", SCHEMA)
        else:
            self._answer("application/json", json.dumps(EMPTY))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def _answer(self, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""
