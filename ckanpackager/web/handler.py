"""What all handlers share: parameters in, one shape of answer and of error out."""

import hmac
import http
import logging
from types import TracebackType
from typing import Any

from tornado.web import HTTPError, RequestHandler, stream_request_body

from ckanpackager import errors
from ckanpackager.database import UNUSABLE
from ckanpackager.form import Form
from ckanpackager.jobs.queue import JobQueue
from ckanpackager.settings import Settings
from ckanpackager.web.body import parse_body

log = logging.getLogger(__name__)

_LARGEST_BODY = 4 * 1024 * 1024  # bytes; a request is a few hundred, but for a long list of filters


class Handler(RequestHandler):
    """Knows the service and how to answer.

    Raise any PackagerError: it is answered with its status, as JSON, from :meth:`write_error`.
    """

    @property
    def queue(self) -> JobQueue:
        """Where jobs are handed in."""
        queue: JobQueue = self.application.settings["queue"]
        return queue

    @property
    def config(self) -> Settings:
        """The service's settings."""
        settings: Settings = self.application.settings["config"]
        return settings

    def set_default_headers(self) -> None:
        """Say nothing about the server, and let no browser guess or keep anything."""
        self.set_header("Server", "ckanpackager")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Robots-Tag", "noindex")

    def answer(self, values: dict[str, Any]) -> None:
        """Finish with success. The retired service said so in two ways, and clients read either."""
        self.finish({"success": True, "status": "success", **values})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Finish with an error, in its only shape."""
        error = as_packager_error(kwargs["exc_info"][1]) if "exc_info" in kwargs else errors.ServerError()
        self.set_status(error.status)
        self.set_error_headers(error)
        self.show_error(error)

    def show_error(self, error: errors.PackagerError) -> None:
        """Finish with ``error`` as JSON; a page says it in a page."""
        message = str(error)
        self.finish(
            {
                "success": False,
                "status": "failed",
                "error": type(error).__name__,
                "msg": message,
                "message": message,
            }
        )

    def set_error_headers(self, error: errors.PackagerError) -> None:
        """What HTTP asks for beside some statuses."""
        if isinstance(error, errors.UnavailableError):
            self.set_header("Retry-After", error.retry_after)
        if isinstance(error, errors.RangeError):
            self.set_header("Content-Range", f"bytes */{error.size}")
        if isinstance(error, errors.MethodNotAllowedError):
            self.set_header("Allow", ", ".join(self.allowed_methods()))

    def allowed_methods(self) -> list[str]:
        """The methods that this handler answers."""
        return [
            method
            for method in self.SUPPORTED_METHODS
            if getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """A line for what we foresaw, a traceback for what we did not."""
        assert value is not None
        error = as_packager_error(value)
        asked = f"{self.request.method} {self.request.path}"
        if isinstance(error, errors.ServerError):
            log.error("%s", asked, exc_info=value)
        elif error.status >= 500:
            log.warning("%s answered %d: %s", asked, error.status, value)
        else:
            log.info("%s answered %d: %s", asked, error.status, error)


@stream_request_body
class PostHandler(Handler):
    """Answers POSTs that carry the secret.

    The body is taken in pieces, so that one that is too large is never kept, and its sender is told so
    instead of finding the connection cut.
    """

    def prepare(self) -> None:
        """Begin to take the body."""
        self._body = bytearray()
        self._size = 0

    def data_received(self, chunk: bytes) -> None:
        """Take a piece of the body, as long as it is of a sensible size."""
        self._size += len(chunk)
        if self._size <= _LARGEST_BODY:
            self._body += chunk

    def parameters(self) -> dict[str, Any]:
        """The parameters, whoever sent them.

        Raises TooLargeError, and BadRequestError for a body that cannot be read.
        """
        if self._size > _LARGEST_BODY:
            raise errors.TooLargeError(f"The body is larger than {_LARGEST_BODY} bytes.")
        return parse_body(self.request.headers.get("Content-Type", ""), bytes(self._body))

    def form(self) -> Form:
        """The parameters of an authorized request. Raises as :meth:`parameters`, and NotAuthorizedError."""
        values = self.parameters()
        self._authorize(values.get("secret"))
        return Form(values)

    def _authorize(self, secret: Any) -> None:
        if secret is None or secret == "":
            raise errors.NotAuthorizedError("Parameter secret is required.")
        # As bytes, since compare_digest refuses text that is not ASCII.
        given = str(secret).encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self.config.SECRET.encode()):
            raise errors.NotAuthorizedError("The secret is wrong.")


def as_packager_error(error: BaseException | None) -> errors.PackagerError:
    """What the caller may be told about ``error``: foreseen ones as they are, others without their words."""
    if isinstance(error, errors.PackagerError):
        return error
    if isinstance(error, UNUSABLE):
        return errors.UnavailableError("The service cannot use its database now. Please try again later.")
    if isinstance(error, HTTPError):
        return _of_status(error.status_code)
    return errors.ServerError("The service has a fault; its log says more.")


def _of_status(status: int) -> errors.PackagerError:
    """Tornado's own refusals in our words."""
    if status == 405:
        return errors.MethodNotAllowedError("This path does not answer that method; see the Allow header.")
    if status == 404:
        return errors.NotFoundError("There is nothing at this path.")
    return errors.BadRequestError(f"The request cannot be understood ({http.HTTPStatus(status).phrase}).")
