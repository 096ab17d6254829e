"""Everything that can go wrong, in one tree.

Each class says what happened to the user's request and knows its HTTP status.
The class's name and the message are what the caller is shown, so a message is
a sentence that names what to change.
"""


class PackagerError(Exception):
    """Something went wrong that we foresaw. ``str()`` of it is fit to be shown to the one who asked."""

    status = 500


# What a request over HTTP can be refused for. The first two names are those of the retired service.


class BadRequestError(PackagerError):
    """The request cannot be understood, or asks for what cannot be had."""

    status = 400


class NotAuthorizedError(PackagerError):
    """The secret is missing or wrong."""

    status = 401


class NotFoundError(PackagerError):
    """No such path, job or package."""

    status = 404


class MethodNotAllowedError(PackagerError):
    """The path is right and the method is not."""

    status = 405


class ConflictError(PackagerError):
    """The job is not in a state in which this can be done."""

    status = 409


class GoneError(PackagerError):
    """There was such a package, and it has been removed."""

    status = 410


class TooLargeError(PackagerError):
    """The body is larger than any sensible request."""

    status = 413


class RangeError(PackagerError):
    """The byte range asked for lies outside the package, which has ``size`` bytes."""

    status = 416

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class UnavailableError(PackagerError):
    """The request cannot be accepted safely now; the same request may be accepted later."""

    status = 503
    retry_after = 30


class ServerError(PackagerError):
    """A fault of ours. The log has the traceback; the caller gets no more than this."""

    status = 500


# What can stop the service, or a command, before it starts.


class SettingsError(PackagerError):
    """A setting is missing, unknown, of the wrong type or of no use."""


# What a job can fail for.


class SourceError(PackagerError):
    """CKAN, or the file's host, said no or said nonsense. Asking again would not help."""

    status = 502


class SourceUnavailableError(SourceError):
    """CKAN, or the file's host, could not be reached or is overloaded. Asking again may help.

    ``retry_after`` is in how many seconds at the earliest, if it said so.
    """

    status = 503

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IncompleteError(SourceError):
    """Fewer or more rows came than the source counted: the package is not announced."""


class CheckpointError(PackagerError):
    """What an earlier attempt left cannot be gone on with: the package is begun from nothing."""


class PackageError(PackagerError):
    """The rows came, but they could not be packed in the form that was asked for."""


# What can happen to an e-mail.


class MailError(PackagerError):
    """The mail server refused this message for good."""


class MailDelayedError(MailError):
    """The mail server could not be reached, or asked for patience: the message is tried again."""
