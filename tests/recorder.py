"""An HTTP server of a test's own: it answers what it is told to, and remembers what it was asked."""

import dataclasses
import functools
import http.server
import json
import threading
from typing import Any

DROP = "cut the connection without a word"


@dataclasses.dataclass(frozen=True)
class Raw:
    """An answer that is not simply JSON with status 200."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    values: dict[str, Any]


def refusal(status: int, error: str, message: str) -> Raw:
    answer = {"success": False, "status": "failed", "error": error, "msg": message, "message": message}
    return Raw(status, json.dumps(answer).encode())


class Recorder:
    """``answers`` leads from ``POST /status`` to an answer, or to several, of which the last is repeated.

    An answer is JSON, a Raw, DROP, or a function that gives one of these.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[Asked] = []
        self.seen = threading.Event()
        handler = functools.partial(_Handler, recorder=self)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler, bind_and_activate=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def posted(self) -> dict[str, Any]:
        [asked] = self.asked
        assert asked.method == "POST"
        return asked.values

    def next_answer(self, asked: Asked) -> Any:
        self.asked.append(asked)
        self.seen.set()
        answers = self.answers.get(
            f"{asked.method} {asked.path}", refusal(404, "NotFoundError", "No such path.")
        )
        if not isinstance(answers, list):
            return answers
        return answers.pop(0) if len(answers) > 1 else answers[0]


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments: Any, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__(*arguments)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        values = json.loads(body) if body else {}
        answer = self._recorder.next_answer(Asked(self.command, self.path, dict(self.headers), values))
        if answer is DROP:
            return
        if callable(answer):
            answer = answer()
        if not isinstance(answer, Raw):
            answer = Raw(body=json.dumps(answer).encode())
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass
