"""From a notice to an e-mail that can be sent.

Whatever a request, a resource or a CKAN put into its values, it has one recipient and only the headers
written here.
"""

import hashlib
import re
import socket
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from html import escape

from email_validator import EmailNotValidError, validate_email

from ckanpackager import figures
from ckanpackager.errors import MailError
from ckanpackager.notify.headers import MAIL_POLICY
from ckanpackager.notify.markup import from_text
from ckanpackager.notify.notice import Notice
from ckanpackager.notify.template import fill
from ckanpackager.settings import Settings

# A dot-atom, of RFC 5322 with the letters of RFC 6531. Quoted local parts and address literals are refused.
_ATOMS = r"[^\s()<>\[\]:;@\\,.\"]+(?:\.[^\s()<>\[\]:;@\\,.\"]+)*"
_MAILBOX = re.compile(f"({_ATOMS})@({_ATOMS})")

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_GAP = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")  # what an empty value leaves between two paragraphs
_LONGEST_SUBJECT = 200


def compose(settings: Settings, notice: Notice, *, now: datetime | None = None) -> EmailMessage:
    """The e-mail that *notice* becomes by the templates of *settings*.

    Text, and the same as HTML. The Message-ID depends on job, address and kind alone: sent twice, it is the
    same message. Raises MailError where the address is none.
    """
    values = _values(settings, notice)
    to = mailbox(notice.email)
    sender = _sender(_one_line(fill(settings.EMAIL_FROM, values)))
    message = EmailMessage(policy=MAIL_POLICY.clone(utf8=not (to.username + sender.username).isascii()))
    message["From"] = sender
    message["To"] = to
    message["Date"] = now or datetime.now(UTC)
    message["Message-ID"] = f"<{_fingerprint(notice)}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    subject, text, html = _rendered(settings, notice, values)
    message["Subject"] = subject
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    return message


def mailbox(address: str) -> Address:
    """*address* where it is exactly one address, its domain in ASCII; else MailError."""
    found = _MAILBOX.fullmatch(address)
    # Where an encoded word (RFC 2047) begins, Python's header parser would decode it, line ends and all.
    if not found or "=?" in address or any(unicodedata.category(letter)[0] in "CZ" for letter in address):
        raise MailError(f"Mail cannot be sent to {address!r}: it is not one plain e-mail address.")
    return Address(username=found[1], domain=_ascii_domain(found[2]))


def _ascii_domain(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return str(validate_email(f"postmaster@{domain}", check_deliverability=False).ascii_domain)
    except EmailNotValidError as error:
        raise MailError(f"Mail cannot be sent to {domain!r}: {error}") from error


def _sender(text: str) -> Address:
    """The address in *text*, with its name; ours on this host where there is none, as in ``(nobody)``."""
    name, address = parseaddr(text)
    try:
        plain = mailbox(address)
    except MailError:
        return _own_address()
    return Address(name, plain.username, plain.domain)


def _own_address() -> Address:
    try:
        return mailbox(f"ckanpackager@{socket.getfqdn()}")
    except MailError:
        return Address(username="ckanpackager", domain="localhost")


def _fingerprint(notice: Notice) -> str:
    parts = "\0".join((notice.job_id, notice.email, notice.kind))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _rendered(settings: Settings, notice: Notice, values: Mapping[str, str]) -> tuple[str, str, str]:
    """Subject, text and HTML; the HTML is made from the text where its setting is None."""
    subject, text, html = _templates(settings, notice)
    subject = _shortened(_one_line(fill(subject, values)))
    text = _GAP.sub("\n\n", _printable(fill(text, values)))
    if html is None:
        label = _one_line(notice.zip_file_name) or notice.download_url
        return subject, text, from_text(text, title=subject, download_url=notice.download_url, label=label)
    escaped = _escaped(values) | {"doi_body_html": values["doi_body_html"]}
    return subject, text, _printable(fill(html, escaped))


def _templates(settings: Settings, notice: Notice) -> tuple[str, str, str | None]:
    if notice.kind == "failed":
        return settings.FAILURE_SUBJECT, settings.FAILURE_BODY, settings.FAILURE_BODY_HTML
    return settings.EMAIL_SUBJECT, settings.EMAIL_BODY, settings.EMAIL_BODY_HTML


def _values(settings: Settings, notice: Notice) -> dict[str, str]:
    """What each placeholder stands for. ``{error}`` is one only where something failed."""
    values = {
        "resource_id": notice.resource_id,
        "zip_file_name": notice.zip_file_name,
        "ckan_host": notice.ckan_host,
        "doi": notice.doi or "",
        "download_url": notice.download_url,
        "status_url": notice.status_url,
        "rows": figures.count(notice.rows),
        "size": figures.size(notice.size),
        "sha256": notice.sha256 or "",
        "expires": figures.moment(notice.expires),
        "report": notice.report or "",
    }
    if notice.kind == "failed":
        values["error"] = notice.error or ""
    text = fill(settings.DOI_BODY, values) if notice.doi else ""
    html = fill(settings.DOI_BODY_HTML, _escaped(values)) if notice.doi else ""
    return values | {"doi_body": text, "doi_body_html": html}


def _escaped(values: Mapping[str, str]) -> dict[str, str]:
    return {name: escape(value) for name, value in values.items()}


def _printable(text: str) -> str:
    r"""*text* with ``\n`` for every line end and U+FFFD for what no mail may hold."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def _one_line(text: str) -> str:
    """*text* as a header may hold it: one line, and nothing in it that reads as an encoded word."""
    return _printable(" ".join(text.split())).replace("=?", "= ?")


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_SUBJECT else f"{line[: _LONGEST_SUBJECT - 1]}…"
