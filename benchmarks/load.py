"""How quickly requests are accepted, and that none of them is lost.

    python -m benchmarks.load [REQUESTS [CONNECTIONS [FINISHED]]]

Posts requests (5,000) as fast as they are answered, over so many connections at once (50), to the real
service with its SQLite file on this disk, while it packs what it is asked for from a CKAN on this machine.
The table of jobs holds many finished ones (100,000) before. Then the service is killed, and every request
that was answered with success is looked for in the file. Printed are the times of an answer.
"""

import asyncio
import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlencode

from ckanpackager.demo.ckan import PENGUINS, Ckan, penguins
from ckanpackager.demo.sink import MailSink
from tests.services import SECRET, Service

GOAL = 100  # milliseconds: the time within which 99 of 100 posts are answered

Answers = list[tuple[float, int, bytes]]


def fill(path: Path, count: int) -> None:
    """Put so many finished jobs, and what belongs to them, into the database."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    request = '{"task": "package_url", "resource_id": "r", "email": "a@localhost.example", "resource_url": "http://h.example/"}'
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(
            f"""
            {numbers} INSERT INTO packages (id, cache_key, zip_file_name, file_name, size, sha256, created, expires, removed)
                SELECT i, hex(randomblob(32)), 'r-' || i || '.zip', 'r.zip', 5, '0', i, i + 1, i + 2 FROM n;
            {numbers} INSERT INTO jobs (seq, id, task, resource_id, request, cache_key, queue, state, created, finished, not_before, deaths, package_id)
                SELECT i, lower(hex(randomblob(16))), 'package_url', 'r', '{request}', hex(randomblob(32)), 'fast', 'done', i, i + 1, 0, 0, i FROM n;
            {numbers} INSERT INTO job_events (job_id, timestamp, state, reason)
                SELECT (i + 3) / 4, i, 'done', 'the e-mail was handed to the mail server' FROM n;
            {numbers} INSERT INTO mails (job_id, kind, state, not_before) SELECT i, 'ready', 'sent', 0 FROM n;
            {numbers} INSERT INTO requests (timestamp, resource_id, email) SELECT i, 'r', 'a@localhost.example' FROM n;
            """
        )
        database.commit()


class Connection:
    """One that is kept open from request to request, as a portal's worker keeps its own."""

    def __init__(self, service: Service) -> None:
        self._host, self._port = service.url.removeprefix("http://").split(":")

    async def ask(self, path: str, body: str | None, answers: Answers) -> None:
        """Post ``body``, or get, and note how long that took and what was answered."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection(self._host, int(self._port))
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {self._host}\r\n"
        head += f"Accept: application/json\r\nContent-Length: {len(body or '')}\r\n\r\n"
        begin = time.perf_counter()
        self._writer.write((head + (body or "")).encode())
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        said = await self._reader.readexactly(length)
        answers.append((time.perf_counter() - begin, int(lines[0].split()[1]), said))

    def close(self) -> None:
        self._writer.close()


async def at_once(
    count: int, connections: int, service: Service, one: Callable[[Connection, int], Awaitable[None]]
) -> float:
    """Do ``one`` so many times, over so many connections. Returns the seconds it took."""
    numbers = iter(range(count))

    async def work() -> None:
        with contextlib.closing(Connection(service)) as connection:
            for number in numbers:
                await one(connection, number)

    begin = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(connections)))
    return time.perf_counter() - begin


def told(what: str, answers: Answers, seconds: float) -> float:
    """Print the times of the answers, and return the 99th percentile in milliseconds."""
    times = sorted(1000 * answer[0] for answer in answers)
    p50, p99 = times[len(times) // 2], times[min(len(times) * 99 // 100, len(times) - 1)]
    rate = len(times) / seconds
    print(
        f"{what:44} {len(times):>6,}  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms  most {times[-1]:7.1f} ms  {rate:7.0f}/s"
    )
    return p99


async def load(service: Service, ckan: Ckan, count: int, connections: int) -> tuple[float, set[str]]:
    """Post them all. Returns the 99th percentile and the jobs that were accepted."""
    secret = urlencode({"secret": SECRET})

    async def look(what: str, path: str, body: str | None) -> None:
        answers: Answers = []
        seconds = await at_once(100, 1, service, lambda connection, _: connection.ask(path, body, answers))
        assert {status for _, status, _ in answers} == {200}
        told(what, answers, seconds)

    await look("/status, with nothing else to do", "/status", secret)
    posts: Answers = []

    def post(connection: Connection, number: int) -> Awaitable[None]:
        form = {"secret": SECRET, "resource_id": PENGUINS, "email": f"v{number}@localhost.example"}
        form |= {"api_url": ckan.api_url, "q": f"w{number}", "limit": "10"}
        return connection.ask("/package_datastore", urlencode(form), posts)

    seconds = await at_once(count, connections, service, post)
    p99 = told(f"posts over {connections} connections", posts, seconds)
    accepted = [body.partition(b'"job_id": "')[2][:32].decode() for _, code, body in posts if code == 200]
    print(f"{len(accepted):,} were accepted, {len(posts) - len(accepted):,} refused.")
    assert len(set(accepted)) == len(accepted)
    await look("/status, with all of them waiting", "/status", secret)
    await look("/, with all of them waiting", "/", secret)
    await look("the page of the last one", f"/jobs/{accepted[-1]}", None)
    return p99, set(accepted)


def main(count: int = 5000, connections: int = 50, finished: int = 100_000) -> int:
    with tempfile.TemporaryDirectory() as folder, MailSink() as sink, Ckan([penguins()]) as ckan:
        mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": sink.port}
        service = Service(Path(folder), QUEUE_LENGTH=2 * count, **mail)
        service.start()
        service.stop()
        file = Path(folder, "stats.db")
        fill(file, finished)
        print(f"{finished:,} finished jobs are in the table ({file.stat().st_size / 1e6:.0f} MB).")
        service.start()
        try:
            p99, accepted = asyncio.run(load(service, ckan, count, connections))
        finally:
            service.kill()
        with contextlib.closing(sqlite3.connect(file)) as database:
            rows = database.execute("SELECT id, state FROM jobs WHERE seq > ?", (finished,)).fetchall()
            (sound,) = database.execute("PRAGMA integrity_check").fetchone()
    lost = accepted - {job_id for job_id, _ in rows}
    ended = sum(state in ("built", "done") for _, state in rows)
    print(
        f"{len(lost)} of {len(accepted):,} are lost; {ended:,} packages were made meanwhile; database: {sound}."
    )
    print(f"The goal for the 99th percentile of a post is {GOAL} ms.")
    print("That is kept." if p99 < GOAL else "That is missed.")
    return 0 if not lost and sound == "ok" else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
