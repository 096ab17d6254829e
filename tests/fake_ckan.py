"""A CKAN that keeps a log of what it is asked, and misbehaves when told to.

    with FakeCkan([resource]) as ckan:
        ckan.status(503, retry_after=1, times=2)      # the next two requests
        ckan.hang_up(after=100, when=page_from(200))  # the first that asks for the page from row 200
        ...
        assert [search["offset"] for search in ckan.searches] == [0, 100, 100]

Every misbehaviour takes ``times`` (how many requests it befalls, None for all) and ``when`` (which; any by
default). The first that fits befalls a request, and no other.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ckanpackager.demo import datastore
from ckanpackager.demo.ckan import Ckan, penguins, read_parameters
from ckanpackager.demo.listener import Request, Response
from ckanpackager.demo.table import Resource

Predicate = Callable[[Request], bool]
Change = Callable[[datastore.Found], datastore.Found]
PATIENCE = 20  # seconds after which a test that waits for ever is told so


def any_request(request: Request) -> bool:
    return True


def a_search(request: Request) -> bool:
    """Whether the request is a ``datastore_search``."""
    return request.path.endswith("/datastore_search")


def a_page(request: Request) -> bool:
    """Whether the request is a ``datastore_search`` for rows, not for the fields, the total or an id alone."""
    asked = parameters(request)
    alone = {"limit": 1, "fields": ["_id"]}
    return a_search(request) and int(asked.get("limit", 100)) != 0 and not alone.items() <= asked.items()


def a_download(request: Request) -> bool:
    return "/download/" in request.path


def page_from(offset: int) -> Predicate:
    """Whether the request is for the page that begins after *offset* rows."""
    return lambda request: a_page(request) and int(parameters(request).get("offset", 0)) == offset


def rows_after(id: int) -> Predicate:
    """Whether the request is for a range of the rows after that ``_id``, or after a later one."""
    return lambda request: (start := _start(parameters(request))) is not None and start >= id


def _start(search: dict[str, Any]) -> int | None:
    if not search.get("include_next_page"):
        return None
    return int(search["filters"]["$and"][-1]["_id"]["gt"])


def with_parameters(**expected: Any) -> Predicate:
    """Whether the request is a ``datastore_search`` with these parameters among its own."""
    return lambda request: a_search(request) and expected.items() <= parameters(request).items()


def parameters(request: Request) -> dict[str, Any]:
    """What an action was asked with, or {} if it cannot be read."""
    try:
        return read_parameters(request)
    except ValueError:
        return {}


class Gate:
    """Holds requests until it is opened. `reached` waits for the first to arrive."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def reached(self, timeout: float = PATIENCE) -> None:
        if not self._arrived.wait(timeout):
            raise TimeoutError("no request came to the gate")

    def pass_through(self) -> None:
        self._arrived.set()
        self._opened.wait()


@dataclasses.dataclass
class Fault:
    """Something to befall the next *times* requests for which *when* holds."""

    act: Callable[[Request], Response]
    when: Predicate
    times: int | None


class FakeCkan(Ckan):
    """A `Ckan` with a log and faults. Without resources it has the penguins."""

    def __init__(self, resources: Iterable[Resource] | None = None, **settings: Any) -> None:
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._faults: list[Fault] = []
        self._gates: list[Gate] = []
        self._under_way = 0
        self._changed = threading.Condition()
        self._change = threading.local()
        super().__init__([penguins()] if resources is None else resources, **settings)

    def close(self) -> None:
        for gate in self._gates:
            gate.open()
        super().close()

    # What it was asked

    @property
    def searches(self) -> list[dict[str, Any]]:
        """The parameters of each ``datastore_search``, in the order of arrival."""
        return [parameters(request) for request in list(self.requests) if a_search(request)]

    @property
    def pages(self) -> list[dict[str, Any]]:
        """The parameters of each ``datastore_search`` that asked for rows."""
        return [parameters(request) for request in list(self.requests) if a_page(request)]

    @property
    def asked_after(self) -> list[int]:
        """After which ``_id`` each range of rows begins that it was asked for."""
        return [start for search in self.searches if (start := _start(search)) is not None]

    def wait_for(self, count: int, when: Predicate = any_request, timeout: float = PATIENCE) -> None:
        """Wait until *count* such requests have arrived since the beginning."""
        with self._changed:
            if not self._changed.wait_for(lambda: sum(map(when, self.requests)) >= count, timeout):
                raise TimeoutError(f"{sum(map(when, self.requests))} requests came, not {count}")

    # How it misbehaves

    def status(
        self,
        status: int,
        *,
        body: bytes = b"<!DOCTYPE html>\n<html><head><title>Sorry</title></head></html>\n",
        retry_after: int | str | None = None,
        times: int | None = 1,
        when: Predicate = any_request,
    ) -> None:
        """Answer with this status and a page of HTML, as the web server before a CKAN in trouble does."""
        headers = {"Content-Type": "text/html"} | ({"Retry-After": str(retry_after)} if retry_after else {})
        self.fault(lambda request: Response(status, body, headers), times=times, when=when)

    def nonsense(
        self, body: bytes = b'{"success": tru', *, times: int | None = 1, when: Predicate = a_search
    ) -> None:
        """Answer 200 and something that is not JSON, or not CKAN's."""
        headers = {"Content-Type": "application/json"}
        self.fault(lambda request: Response(200, body, headers), times=times, when=when)

    def hang_up(
        self, after: int | None = None, *, times: int | None = 1, when: Predicate = any_request
    ) -> None:
        """Close the connection without an answer or, with *after*, after so many bytes of its body."""

        def act(request: Request) -> Response:
            if after is None:
                raise ConnectionAbortedError
            return interrupted(super(FakeCkan, self).answer(request), after, refuse_to_go_on)

        self.fault(act, times=times, when=when)

    def hold(self, after: int | None = None, *, times: int | None = 1, when: Predicate = any_request) -> Gate:
        """Answer only when the gate is opened or, with *after*, send so many bytes of the body before."""
        gate = Gate()
        self._gates.append(gate)

        def act(request: Request) -> Response:
            if after is None:
                gate.pass_through()
                return super(FakeCkan, self).answer(request)
            return interrupted(super(FakeCkan, self).answer(request), after, gate.pass_through)

        self.fault(act, times=times, when=when)
        return gate

    def short_pages(self, rows: int, *, times: int | None = None, when: Predicate = a_page) -> None:
        """Return at most so many rows a page, whatever the limit."""
        self.rows(lambda found: with_positions(found, found.positions[:rows]), times=times, when=when)

    def lose_rows(self, count: int = 1, *, times: int | None = 1, when: Predicate = a_page) -> None:
        """Leave rows out of the middle of a page; the total still counts them."""

        def lose(found: datastore.Found) -> datastore.Found:
            middle = len(found.positions) // 2
            return with_positions(found, [*found.positions[:middle], *found.positions[middle + count :]])

        self.rows(lose, times=times, when=when)

    def repeat_rows(self, count: int = 1, *, times: int | None = 1, when: Predicate = a_page) -> None:
        """Return the last rows of a page twice."""
        self.rows(
            lambda found: with_positions(found, [*found.positions, *found.positions[-count:]]),
            times=times,
            when=when,
        )

    def lie(self, total: int, *, times: int | None = None, when: Predicate = a_search) -> None:
        """Say that there are so many rows in all."""
        self.rows(lambda found: dataclasses.replace(found, total=total), times=times, when=when)

    def rows(self, change: Change, *, times: int | None = 1, when: Predicate = a_page) -> None:
        """Answer with other rows, or another total, than those found."""

        def act(request: Request) -> Response:
            self._change.now = change
            try:
                return super(FakeCkan, self).answer(request)
            finally:
                del self._change.now

        self.fault(act, times=times, when=when)

    def meanwhile(
        self, change: Callable[[], object], *, times: int | None = 1, when: Predicate = a_page
    ) -> None:
        """Answer well, and have something happen before the next answer: rows come, go or change."""

        def act(request: Request) -> Response:
            response = super(FakeCkan, self).answer(request)
            change()
            return response

        self.fault(act, times=times, when=when)

    def fault(
        self, act: Callable[[Request], Response], *, times: int | None = 1, when: Predicate = any_request
    ) -> None:
        """Answer with what *act* returns; a ConnectionError that it raises closes the connection."""
        with self._changed:
            self._faults.append(Fault(act, when, times))

    def behave(self) -> None:
        """Forget every misbehaviour, and let go what is held."""
        with self._changed:
            self._faults.clear()
        for gate in self._gates:
            gate.open()

    # How it answers

    def answer(self, request: Request) -> Response:
        fault = self._arrive(request)
        try:
            return fault.act(request) if fault else super().answer(request)
        finally:
            with self._changed:
                self._under_way -= 1

    def find(self, plan: datastore.Plan) -> datastore.Found:
        found = super().find(plan)
        change: Change | None = getattr(self._change, "now", None)
        return change(found) if change else found

    def _arrive(self, request: Request) -> Fault | None:
        with self._changed:
            self.requests.append(request)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            self._changed.notify_all()
            fault = next((fault for fault in self._faults if fault.times != 0 and fault.when(request)), None)
            if fault and fault.times:
                fault.times -= 1
            return fault


def with_positions(found: datastore.Found, positions: Any) -> datastore.Found:
    return dataclasses.replace(found, positions=positions)


def interrupted(response: Response, after: int, pause: Callable[[], object]) -> Response:
    """The same response, with something happening before the rest of its body."""
    body = response.body if isinstance(response.body, bytes) else b"".join(response.body)

    def parts() -> Iterable[bytes]:
        yield body[:after]
        pause()
        yield body[after:]

    return dataclasses.replace(response, body=parts(), length=len(body))


def refuse_to_go_on() -> None:
    raise ConnectionAbortedError
