"""Handing an e-mail to the mail server.

`send` returns once the server has taken the message, and never otherwise. What only the message can be
blamed for is a MailError; whatever time or the admin can mend is a MailDelayedError.
"""

import base64
import contextlib
import logging
import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage

from ckanpackager import faults
from ckanpackager.errors import MailDelayedError, MailError
from ckanpackager.notify.message import compose
from ckanpackager.notify.notice import Notice
from ckanpackager.settings import Settings

__all__ = ["Notice", "compose", "notify", "probe", "send"]

log = logging.getLogger(__name__)

# Seconds to wait for the answer to QUIT: the message has been taken, and nothing depends on it.
_GOODBYE = 5
# Replies (RFC 4954, RFC 3207) that ask for a log-in or for TLS. They are about the settings, not the message.
_ABOUT_SETTINGS = {530, 534, 535, 538}
_UNWILLING = {
    smtplib.SMTPAuthenticationError: "refused the log-in (SMTP_LOGIN, SMTP_PASSWORD)",
    smtplib.SMTPSenderRefused: "refused the sender (EMAIL_FROM)",
}
_LONGEST_REPLY = 500


def notify(settings: Settings, notice: Notice) -> None:
    """Mail *notice*. Raises as `send` does."""
    send(settings, compose(settings, notice))
    log.info(
        "%s: mail (%s) handed to %s:%s",
        notice.resource_id,
        notice.kind,
        settings.SMTP_HOST,
        settings.SMTP_PORT,
    )


def send(settings: Settings, message: EmailMessage) -> None:
    """Hand *message* to the server of *settings*.

    Raises MailError where the server refuses the recipient or the message for good (5xx), MailDelayedError
    where it cannot be reached or trusted, refuses the log-in or the sender, or asks for patience (4xx).
    """
    sender = message["From"].addresses[0].addr_spec
    recipient = message["To"].addresses[0].addr_spec
    with _failures_explained(settings, recipient), _session(settings) as smtp:
        options = _international(settings, smtp, sender, recipient)
        smtp.sendmail(sender, [recipient], message.as_bytes(), options)
        faults.reached("mail.taken")


def probe(settings: Settings) -> None:
    """Connect, encrypt and log in as for a mail, and send none. Raises MailDelayedError as `send` does."""
    with _failures_explained(settings), _session(settings):
        pass


@contextlib.contextmanager
def _session(settings: Settings) -> Iterator[smtplib.SMTP]:
    """A connection on which mail can be sent, as safe as SMTP_SECURITY asks for."""
    smtp = _connected(settings)
    try:
        if settings.SMTP_SECURITY == "starttls":
            _start_tls(settings, smtp)
        if settings.SMTP_LOGIN:
            _log_in(settings, smtp)
        smtp.ehlo_or_helo_if_needed()
        yield smtp
        _say_goodbye(smtp)
    finally:
        smtp.close()


def _connected(settings: Settings) -> smtplib.SMTP:
    host, port, timeout = settings.SMTP_HOST, settings.SMTP_PORT, settings.SMTP_TIMEOUT
    if settings.SMTP_SECURITY == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=timeout, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, timeout=timeout)


def _start_tls(settings: Settings, smtp: smtplib.SMTP) -> None:
    smtp.ehlo_or_helo_if_needed()
    if not smtp.has_extn("starttls"):
        raise MailDelayedError(f"{_name(settings)} does not offer STARTTLS, which SMTP_SECURITY asks for.")
    smtp.starttls(context=ssl.create_default_context())


def _log_in(settings: Settings, smtp: smtplib.SMTP) -> None:
    smtp.ehlo_or_helo_if_needed()
    if not smtp.has_extn("auth"):
        raise MailDelayedError(f"{_name(settings)} does not offer a log-in here, and SMTP_LOGIN is set.")
    try:
        smtp.login(settings.SMTP_LOGIN, settings.SMTP_PASSWORD)
    except UnicodeError:
        # Its text would quote the password.
        raise MailDelayedError("SMTP_LOGIN and SMTP_PASSWORD must consist of ASCII characters.") from None


def _international(settings: Settings, smtp: smtplib.SMTP, sender: str, recipient: str) -> list[str]:
    """The options that the two addresses ask for (RFC 6531)."""
    if (sender + recipient).isascii():
        return []
    if smtp.has_extn("smtputf8"):
        return ["SMTPUTF8", "BODY=8BITMIME"]
    cannot = f"{_name(settings)} cannot handle an address with letters outside ASCII (it offers no SMTPUTF8)"
    if recipient.isascii():
        raise MailDelayedError(f"{cannot}, and EMAIL_FROM is one: {sender}.")
    raise MailError(f"{cannot}, and the recipient's is one.")


def _say_goodbye(smtp: smtplib.SMTP) -> None:
    with contextlib.suppress(OSError):
        if smtp.sock and smtp.timeout > _GOODBYE:
            smtp.sock.settimeout(_GOODBYE)
        smtp.quit()


@contextlib.contextmanager
def _failures_explained(settings: Settings, recipient: str = "") -> Iterator[None]:
    """Whatever smtplib, ssl and socket raise, as an error of ours."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        code, reply = error.recipients[recipient]
        raise _refusal(settings, recipient, "the recipient", code, reply) from error
    except smtplib.SMTPDataError as error:
        raise _refusal(settings, recipient, "the message", error.smtp_code, error.smtp_error) from error
    except (OSError, UnicodeError) as error:
        raise MailDelayedError(f"{_name(settings)} {_trouble(settings, recipient, error)}.") from error


def _refusal(settings: Settings, recipient: str, what: str, code: int, reply: bytes | str) -> MailError:
    kind = MailError if 500 <= code < 600 and code not in _ABOUT_SETTINGS else MailDelayedError
    return kind(f"{_name(settings)} did not take {what}: {_quoted(settings, recipient, code, reply)}.")


def _trouble(settings: Settings, recipient: str, error: Exception) -> str:
    """What happened, to follow the server's name."""
    if isinstance(error, smtplib.SMTPResponseException):
        what = _UNWILLING.get(type(error), "does not take mail now")
        return f"{what}: {_quoted(settings, recipient, error.smtp_code, error.smtp_error)}"
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return f"did not answer within {settings.SMTP_TIMEOUT} s"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "closed the connection before it had taken the message"
    if isinstance(error, ssl.SSLError):
        return _distrust(error)
    if isinstance(error, smtplib.SMTPException):
        return f"cannot be used: {str(error).rstrip('.')}"
    return f"cannot be reached: {getattr(error, 'strerror', None) or error}"


def _distrust(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"cannot be trusted: {error.verify_message.rstrip('.')}"
    return f"could not agree on TLS (is SMTP_SECURITY right for this port?): {error.reason or error}"


def _name(settings: Settings) -> str:
    return f"The mail server {settings.SMTP_HOST}:{settings.SMTP_PORT}"


def _quoted(settings: Settings, recipient: str, code: int, reply: bytes | str) -> str:
    """A reply in one line, without the password or the recipient's address should the server repeat them."""
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    hidden = dict.fromkeys(_credentials(settings), "(hidden)") | {recipient: "(recipient)"}
    for private, shown in hidden.items():
        if private:
            text = text.replace(private, shown)
    return f"{code} {' '.join(text.split())}"[:_LONGEST_REPLY].rstrip(". ")


def _credentials(settings: Settings) -> list[str]:
    """The password as it is and as AUTH LOGIN and AUTH PLAIN carry it."""
    login, password = settings.SMTP_LOGIN, settings.SMTP_PASSWORD
    forms = [password, f"\0{login}\0{password}"] if password else []
    return [*(base64.b64encode(form.encode()).decode() for form in forms), *forms]
