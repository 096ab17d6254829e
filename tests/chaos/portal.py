"""Several clients that post orders, and insist."""

import contextlib
import random
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import requests

from tests.chaos.diary import Diary
from tests.chaos.orders import Order
from tests.chaos.unit import Unit
from tests.services import SECRET

CLIENTS = 4
_PATIENCE = 60.0  # seconds
UNFINISHED = "('queued', 'running', 'built')"


class Portal:
    """Posts ``orders`` and keeps what was answered. ``accepted`` leads from an order's number to its job."""

    def __init__(self, unit: Unit, diary: Diary, orders: Iterator[Order], most_unfinished: int) -> None:
        self.orders: list[Order] = []
        self.accepted: dict[int, str] = {}
        self.posted = 0
        self.problems: list[str] = []
        self.ended = threading.Event()
        self._unit = unit
        self._diary = diary
        self._waiting = orders
        self._most_unfinished = most_unfinished  # more would only wait
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._post_all, name=f"client {n}") for n in range(CLIENTS)]

    def open(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Post no more."""
        self.ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, timeout: float) -> bool:
        """Wait until so many orders have been accepted; False where that takes too long, or nobody posts."""
        with self._changed:
            self._changed.wait_for(lambda: self.posted >= count or not self._posts(), timeout)
            return self.posted >= count

    def is_posting(self) -> bool:
        """Is there more to come?"""
        with self._changed:
            return self._posts()

    def _posts(self) -> bool:
        return not self.ended.is_set() and any(thread.is_alive() for thread in self._threads)

    def _post_all(self) -> None:
        while not self.ended.is_set() and (order := self._next()) is not None:
            try:
                self._wait_for_room()
                job_id = self._post(order)
            except Exception as error:
                self.problems.append(f"order {order.number}: {type(error).__name__}: {error}")
                return
            with self._changed:
                if job_id is not None:
                    self.accepted[order.number] = job_id
                    self.posted += 1
                self._changed.notify_all()

    def _next(self) -> Order | None:
        with self._changed:
            order = next(self._waiting, None)
            if order is not None:
                self.orders.append(order)
            return order

    def _wait_for_room(self) -> None:
        sql = f"SELECT count(*) FROM jobs WHERE state IN {UNFINISHED}"
        while query(self._unit, sql)[0][0] >= self._most_unfinished and not self.ended.wait(0.1):
            pass

    def _post(self, order: Order) -> str | None:
        form = {"secret": SECRET, "email": order.email, **order.parameters}
        headers = {"Idempotency-Key": f"order-{order.number}"}
        while not self.ended.is_set():
            url, generation = self._unit.wait_until_up()
            try:
                answer = requests.post(f"{url}/{order.task}", form, headers=headers, timeout=_PATIENCE)
            except requests.RequestException:
                self._diary.note("client: no answer")
                self._unit.wait_for_another(than=generation, timeout=2)
                # It may have been accepted, and what is accepted is in the table.
                if (job_id := job_of(self._unit, order)) is not None:
                    self._diary.note("client: no answer, and yet accepted")
                    return job_id
                continue
            if answer.status_code == 503:
                self._diary.note("client: told to come again")
                self.ended.wait(random.random() / 2)
                continue
            assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
            return str(answer.json()["job_id"])
        return None


def job_of(unit: Unit, order: Order) -> str | None:
    """The job that was made of an order, if there is one."""
    rows = query(unit, "SELECT id FROM jobs WHERE request LIKE ?", f'%"{order.email}"%')
    return str(rows[0][0]) if rows else None


def query(unit: Unit, sql: str, *values: Any) -> list[Any]:
    """What the database answers, as soon as it does."""
    for _ in range(200):
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(connect(unit)) as database:
            return database.execute(sql, values).fetchall()
        threading.Event().wait(0.1)
    raise TimeoutError(f"the database does not answer {sql}")


def connect(unit: Unit) -> sqlite3.Connection:
    """A connection from outside of the service."""
    return sqlite3.connect(unit.database, timeout=5, isolation_level=None, check_same_thread=False)
