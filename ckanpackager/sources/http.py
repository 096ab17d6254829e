"""Asking other servers: with time-outs always, and with failures sorted.

A lost connection, a time-out, an overloaded server may pass: in mid-read they
are asked again after growing pauses, and at last raised as
SourceUnavailableError. Everything else is an answer.
"""

import contextlib
import dataclasses
import datetime
import email.utils
import functools
import ipaddress
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from ckanpackager.errors import SourceError, SourceUnavailableError
from ckanpackager.sources.slots import Slots

log = logging.getLogger(__name__)

# CKAN without its database answers 500; what it means to refuse, it refuses with 4xx.
PASSING = {408, 429, 500, 502, 503, 504}
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
# What PostgreSQL says in CKAN's answer 409 "Invalid query" when it crashed or was restarted under the query.
_CUT_OFF = re.compile(
    rb'"orig": *\[?"(?:[^"\\]|\\.)*?(?:server closed the connection|terminating connection|'
    rb"connection to server|could not connect to server|could not receive data from server|"
    rb"the database system is |"
    rb"connection already closed)"
)
_LONGEST_PAUSE = 60.0  # seconds that a worker waits because a server asked it to
_MOST_OF_A_MESSAGE = 500
_REDIRECTS = {301, 302, 303, 307, 308}
_LOST = (
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ProtocolError,
    OSError,
)


class _Authorization(requests.auth.AuthBase):
    """Sends CKAN's token, or nothing.

    Given to every request, since requests would otherwise look for a log-in in the user's .netrc, and would
    send that in the place of the token.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = self._key
        return request


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answered, in ``seconds``."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def location(self) -> str | None:
        """Where the server sends us instead, if it does."""
        return self.headers.get("Location") if self.status in _REDIRECTS else None


class Client:
    """One worker's connections to the servers it reads from.

    ``connect_timeout`` and ``read_timeout`` are seconds; the second is the longest silence in an answer.
    ``pauses`` are the seconds to wait before each further try of a patient request, by ``sleep``. ``slots``
    bounds the requests to one host that are under way at once, in all workers together. ``alive`` is called
    whenever a server is asked, be it again, so that to wait for it with patience is no standstill.
    """

    def __init__(
        self,
        connect_timeout: float,
        read_timeout: float,
        pauses: Sequence[float] = PAUSES,
        slots: Slots | None = None,
        alive: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._timeouts = (connect_timeout, read_timeout)
        self._pauses = pauses
        self._slots = slots
        self._alive = alive
        self._sleep = sleep
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "ckanpackager"
        # A file comes as it is: what its host counts is what is counted here.
        self._session.headers["Accept-Encoding"] = "identity"
        # Several threads ask at once, and nothing here wants to be recognized.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def ask(self, url: str, query: Mapping[str, Any], *, key: str | None = None, patient: bool) -> Answer:
        """Answer to a POST of ``query`` as JSON, whatever its status but for those that may pass.

        Raises SourceUnavailableError when the server cannot be reached, or answers with one of
        :data:`PASSING`, or that its database was cut off; where the request is ``patient``, only if it goes
        on doing so. Patience keeps what has been read so far; who has read nothing yet, or is told to stay
        away for long, had better wait in the queue than in a worker. May be called from several threads.
        """
        for pause in (*(self._pauses if patient else ()), None):
            try:
                return self._ask(url, query, key)
            except SourceUnavailableError as error:
                if pause is None or error.retry_after > _LONGEST_PAUSE:
                    raise
                wait = max(pause, error.retry_after)
                log.warning("%s Trying again in %.1f s.", error, wait)
                self._sleep(wait)
        raise AssertionError("the last try either returns or raises")

    def open(self, url: str, *, key: str | None = None) -> requests.Response:
        """Answer to a GET, its body still to be read; redirects are not followed. Raises as :meth:`ask`."""
        response = self._send("GET", url, key)
        _raise_if_it_may_pass(url, response)
        return response

    def slot(self, url: str) -> contextlib.AbstractContextManager[None]:
        """One of the requests that the URL's host is to bear at once."""
        return self._slots.one(url, self._alive) if self._slots else contextlib.nullcontext()

    def close(self) -> None:
        """End the connections."""
        self._session.close()

    def _ask(self, url: str, query: Mapping[str, Any], key: str | None) -> Answer:
        with self.slot(url):
            begin = time.monotonic()
            encoding = {"Accept-Encoding": accepted_encoding(urlsplit(url).hostname or "")}
            with self._send("POST", url, key, json=query, headers=encoding) as response:
                try:
                    # At once: requests would read it in pieces and then hold it twice.
                    body = response.raw.read(decode_content=True)
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    raise unreachable(url, error) from error
                _raise_if_it_may_pass(url, response)
                if response.status_code == 409 and _CUT_OFF.search(body):
                    raise SourceUnavailableError(f"{url} answered 409: its database was cut off.")
                return Answer(
                    response.status_code,
                    response.reason,
                    response.headers,
                    body,
                    time.monotonic() - begin,
                )

    def _send(self, method: str, url: str, key: str | None, **arguments: Any) -> requests.Response:
        self._alive()
        try:
            return self._session.request(
                method,
                url,
                auth=_Authorization(key),
                timeout=self._timeouts,
                allow_redirects=False,
                stream=True,
                **arguments,
            )
        except (requests.RequestException, ValueError) as error:  # the latter of an address that is none
            raise unreachable(url, error) from error


def shown(url: str) -> str:
    """The address as it may be told to anybody: without its query, by which a store of files lets one in."""
    address, question, _ = url.partition("?")
    return f"{address}?..." if question else address


def unreachable(url: str, error: Exception) -> SourceError:
    """The sentence for what requests or urllib3 raised while ``url`` was asked."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return SourceUnavailableError(f"{shown(url)} did not answer in time.")
    if isinstance(error, requests.exceptions.SSLError):
        return SourceError(f"{shown(url)} could not prove who it is: {_reason(error)}.")
    if isinstance(error, _LOST):
        return SourceUnavailableError(
            f"The connection to {shown(url)} was lost or refused: {_reason(error)}."
        )
    return SourceError(f"{shown(url)} could not be asked: {_reason(error)}.")


def _reason(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return str(error)[:_MOST_OF_A_MESSAGE].rstrip(".") or type(error).__name__


def _raise_if_it_may_pass(url: str, response: requests.Response) -> None:
    if response.status_code in PASSING:
        response.close()
        raise SourceUnavailableError(
            f"{shown(url)} answered {response.status_code} {response.reason}.",
            seconds_to_wait(response.headers.get("Retry-After", ""), time.time()),
        )


def seconds_to_wait(retry_after: str, now: float) -> float:
    """What a ``Retry-After`` asks for (RFC 9110, 10.2.3), be it seconds or a date; 0 where it is neither.

    ``now`` is in seconds since 1970.
    """
    value = retry_after.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=datetime.UTC)
    return max(until.timestamp() - now, 0.0)


@functools.cache
def accepted_encoding(host: str) -> str:
    """The ``Accept-Encoding`` for pages from ``host``: gzip where they have a long way to come.

    They become a fourth of their size. But a web server takes as long to compress a page, and we to unpack
    it, as a gigabit network to carry it whole: between neighbours it costs both of them time for nothing.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return "identity"  # whoever is going to connect will say what is wrong
    addresses = [ipaddress.ip_address(address[0]) for *_, address in found]
    return "gzip" if all(address.is_global for address in addresses) else "identity"
