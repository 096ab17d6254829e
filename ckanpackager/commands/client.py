"""Talking to the service over HTTP.

Every request has a time-out. Whatever goes wrong is raised as an error whose
message says what to change.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from ckanpackager.errors import (
    BadRequestError,
    ConflictError,
    GoneError,
    NotAuthorizedError,
    NotFoundError,
    PackagerError,
    UnavailableError,
)

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0

_REFUSALS: dict[int, type[PackagerError]] = {
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    429: UnavailableError,
}


class Service:
    """The service at ``address``, an URL or HOST:PORT, for one who knows its ``secret``."""

    def __init__(self, address: str, secret: str | None, timeouts: tuple[float, float] | None = None) -> None:
        self.url = base_url(address)
        self._secret = secret
        self._timeouts = timeouts or (CONNECT_TIMEOUT, READ_TIMEOUT)

    def post(self, path: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer to ``parameters`` and the secret, posted to ``path``.

        Raises UnavailableError when there is no answer, or none of a ckanpackager; NotAuthorizedError when
        the secret is refused; and what else the service says, as the error of that status.
        """
        if self._secret is None:
            raise NotAuthorizedError(
                'The service\'s secret is needed: give it with -s, or as "secret" in the defaults file (-d).'
            )
        # As JSON, since a form could not tell the columns of a list from a column with a comma in its name.
        body = {**(parameters or {}), "secret": self._secret}
        return self._ask("POST", f"{self.url}/{path}", json=body, allow_redirects=False)

    def get(self, url: str) -> dict[str, Any]:
        """Answer as JSON of one of the service's pages, which need no secret. Raises as :meth:`post` does."""
        return self._ask("GET", url)

    def _ask(self, method: str, url: str, **arguments: Any) -> dict[str, Any]:
        with requests.Session() as session:
            # What is on this host is not asked through the proxy that the rest of the world needs.
            session.trust_env = not _is_loopback(url)
            try:
                with session.request(
                    method, url, headers={"Accept": "application/json"}, timeout=self._timeouts, **arguments
                ) as response:
                    return _read(response)
            except requests.RequestException as error:
                raise _unreachable(url, error) from error


def base_url(address: str) -> str:
    """``address`` as an URL without a slash at its end. Raises BadRequestError where it is none."""
    url = (address if "://" in address else f"http://{address}").rstrip("/")
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or any(character.isspace() for character in url):
        raise BadRequestError(
            f"{address!r} is not the address of a service: write it as http://127.0.0.1:8765"
        )
    return url


def _read(response: requests.Response) -> dict[str, Any]:
    status = f"{response.status_code} {response.reason}".strip()
    if response.is_redirect:
        raise BadRequestError(
            f"{response.url} is answered with a redirect to {response.headers['Location']}: "
            "name the address where the service itself answers (-p)."
        )
    try:
        answer = response.json()
    except (requests.JSONDecodeError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UnavailableError(
            f"{response.url} answered {status}, but not as ckanpackager does: "
            "is something else at that address (-p), or the service behind it down?"
        )
    if response.status_code == 401:
        raise NotAuthorizedError(
            f"{response.url} refuses the secret: give the SECRET of the service's settings with -s, "
            'or as "secret" in the defaults file (-d).'
        )
    if response.status_code >= 400 or answer.get("success") is False:
        raise _refusal(response.status_code, answer.get("message") or answer.get("msg") or status)
    return answer


def _refusal(status: int, message: object) -> PackagerError:
    kind = UnavailableError if status >= 500 else _REFUSALS.get(status, BadRequestError)
    return kind(f"The service says: {message}")


def _unreachable(url: str, error: requests.RequestException) -> PackagerError:
    advice = "Is ckanpackager-service running there? -p names another address."
    if isinstance(error, requests.exceptions.SSLError):
        return UnavailableError(f"{url} could not prove who it is: {cause(error)}.")
    if isinstance(error, requests.Timeout):
        return UnavailableError(f"{url} did not answer in time. {advice}")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return UnavailableError(f"{url} does not answer: {cause(error)}. {advice}")
    return BadRequestError(f"{url} cannot be asked: {cause(error)}.")


def cause(error: BaseException) -> str:
    """What the operating system, or the innermost library, had to say."""
    while error.__context__ is not None:
        error = error.__context__
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.rstrip(".") or type(error).__name__


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
