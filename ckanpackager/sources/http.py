"""Asking other servers: with time-outs always, and with failures sorted.

A lost connection, a time-out, an overloaded server may pass: in mid-read they
are asked again after growing pauses, and at last raised as
SourceUnavailableError. Everything else is an answer.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import requests

from ckanpackager.errors import SourceError, SourceUnavailableError

log = logging.getLogger(__name__)

PASSING = {408, 429, 502, 503, 504}
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
_LONGEST_PAUSE = 60.0
_MOST_OF_A_MESSAGE = 500


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


class Client:
    """One worker's connections to the servers it reads from.

    ``connect_timeout`` and ``read_timeout`` are seconds; the second is the longest silence in an answer.
    ``pauses`` are the seconds to wait before each further try of a patient request.
    """

    def __init__(self, connect_timeout: float, read_timeout: float, pauses: Sequence[float] = PAUSES) -> None:
        self._timeouts = (connect_timeout, read_timeout)
        self._pauses = pauses
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "ckanpackager"
        # Compressing costs CKAN's host more than it saves on the way to a neighbour.
        self._session.headers["Accept-Encoding"] = "identity"

    def request(
        self, method: str, url: str, *, key: str | None = None, patient: bool = False, **arguments: Any
    ) -> requests.Response:
        """Answer of the server, whatever its status but for those that may pass; redirects are not followed.

        Raises SourceUnavailableError when the server cannot be reached, or answers with one of
        :data:`PASSING` or with an HTML page of status 500; where the request is ``patient``, only if it goes
        on doing so. Patience keeps what has been read so far; who has read nothing yet had better wait in
        the queue than in a worker.
        """
        for pause in (*(self._pauses if patient else ()), None):
            try:
                response = self._session.request(
                    method,
                    url,
                    auth=_Authorization(key),
                    timeout=self._timeouts,
                    allow_redirects=False,
                    **arguments,
                )
            except requests.RequestException as error:
                failure: SourceError = unreachable(url, error)
                if not isinstance(failure, SourceUnavailableError):
                    raise failure from error
                wait = pause
            else:
                if not _may_pass(response):
                    return response
                failure = SourceUnavailableError(f"{url} answered {response.status_code} {response.reason}.")
                wait = None if pause is None else max(pause, _retry_after(response))
                response.close()
            if wait is None:
                raise failure
            log.warning("%s Trying again in %.1f s.", failure, wait)
            time.sleep(wait)
        raise AssertionError("the last try either returns or raises")

    def close(self) -> None:
        """End the connections."""
        self._session.close()


def unreachable(url: str, error: requests.RequestException) -> SourceError:
    """The sentence for what requests raised while ``url`` was asked."""
    if isinstance(error, requests.Timeout):
        return SourceUnavailableError(f"{url} did not answer in time.")
    if isinstance(error, requests.exceptions.SSLError):
        return SourceError(f"{url} could not prove who it is: {_reason(error)}.")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return SourceUnavailableError(f"The connection to {url} was lost or refused: {_reason(error)}.")
    return SourceError(f"{url} could not be asked: {_reason(error)}.")


def _reason(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__
    return str(error)[:_MOST_OF_A_MESSAGE].rstrip(".") or type(error).__name__


def _may_pass(response: requests.Response) -> bool:
    if response.status_code in PASSING:
        return True
    # CKAN without its database answers 500 with a page; an answer of the API itself is JSON.
    return response.status_code == 500 and "html" in response.headers.get("Content-Type", "")


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return min(float(value), _LONGEST_PAUSE) if value.isascii() and value.isdigit() else 0.0
