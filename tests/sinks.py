"""A mail server that keeps what it is sent, and misbehaves on demand.

It listens on a free port of the loopback interface, in a thread of its own. What a client sees of it
is SMTP over a real socket, with real certificates.

    with smtp_sink() as sink:
        sink.answers["RCPT"] = "550 5.1.1 no such user"
        ...
        [mail] = sink.wait_for(1)
"""

import asyncio
import contextlib
import dataclasses
import email
import email.policy
import enum
import re
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HOST = "127.0.0.1"


class Behaviour(enum.Enum):
    """What to do instead of an answer."""

    DROP = "cut the connection"
    HANG = "say nothing more"


DROP, HANG = Behaviour.DROP, Behaviour.HANG


@dataclasses.dataclass(frozen=True)
class Mail:
    """A message as it came, with its envelope. ``login`` is who sent it, if anyone logged in."""

    sender: str
    recipients: tuple[str, ...]
    options: tuple[str, ...]
    raw: bytes
    encrypted: bool
    login: str | None

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.raw, policy=email.policy.default)

    @property
    def text(self) -> str:
        return self._body("plain")

    @property
    def html(self) -> str:
        return self._body("html")

    @property
    def link(self) -> str:
        """The address of the package."""
        found = re.search(r"https?://\S+/download/\S+", self.text)
        assert found is not None, self.text
        return found[0]

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return part.get_content().replace("\r\n", "\n") if part else ""


class Sink:
    """A context manager. ``tls`` is None, "starttls" (which it then insists on) or "tls" from the first byte.

    ``login`` is the one (user, password) it lets in, if any. ``certificate_for`` is the host its certificate
    names. ``answers`` may be changed at any time: it leads from a command in upper case (or CONNECT for the
    greeting, MESSAGE for the end of the data) to a reply, DROP or HANG, where that is not to be the usual.
    """

    def __init__(
        self,
        *,
        tls: str | None = None,
        login: tuple[str, str] | None = None,
        smtputf8: bool = True,
        certificate_for: str = HOST,
        authority: trustme.CA | None = None,
        port: int = 0,
    ) -> None:
        self.host = HOST
        self.port = port
        self.answers: dict[str, str | Behaviour] = {}
        self.commands: list[str] = []
        self.tls = tls
        self.login = login
        self.smtputf8 = smtputf8
        self.authority = authority or (trustme.CA() if tls else None)
        self._context = self._server_context(certificate_for) if tls else None
        self._mails: list[Mail] = []
        self._arrival = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="smtp-sink")
        self._listening = threading.Event()
        self._stop = asyncio.Event()
        self.connections: set[_Connection] = set()

    # What a test does with it.

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a service that sends here."""
        settings = {"SMTP_HOST": self.host, "SMTP_PORT": self.port, "SMTP_SECURITY": self.tls or "none"}
        if self.login:
            settings |= {"SMTP_LOGIN": self.login[0], "SMTP_PASSWORD": self.login[1]}
        return settings

    @property
    def mails(self) -> list[Mail]:
        with self._arrival:
            return list(self._mails)

    def wait_for(self, count: int, timeout: float = 20) -> list[Mail]:
        """The mails, once there are *count*; AssertionError if that takes longer than *timeout* seconds."""
        with self._arrival:
            arrived = self._arrival.wait_for(lambda: len(self._mails) >= count, timeout)
            assert arrived, f"{len(self._mails)} of {count} mails came within {timeout} s"
            return list(self._mails)

    def write_authority(self, path: Path) -> Path:
        """The certificate of who signed the sink's, for SSL_CERT_FILE."""
        assert self.authority
        self.authority.cert_pem.write_to_path(str(path))
        return path

    def __enter__(self) -> "Sink":
        self._thread.start()
        assert self._listening.wait(10), "the sink does not listen"
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._loop
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # What the server does, in its thread.

    def keep(self, mail: Mail) -> None:
        with self._arrival:
            self._mails.append(mail)
            self._arrival.notify_all()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        context = self._context if self.tls == "tls" else None
        server = await self._loop.create_server(lambda: _Connection(self), HOST, self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        for connection in list(self.connections):
            connection.cut()
        while self.connections:
            await asyncio.sleep(0)

    def _server_context(self, host: str) -> ssl.SSLContext:
        assert self.authority
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(host).configure_cert(context)
        return context

    @property
    def starttls_context(self) -> ssl.SSLContext | None:
        return self._context if self.tls == "starttls" else None


smtp_sink = Sink


class _Connection(SMTP):
    """One client's."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(
            _Handler(sink),
            enable_SMTPUTF8=sink.smtputf8,
            hostname="sink.example.org",
            ident="sink",
            tls_context=sink.starttls_context,
            require_starttls=sink.tls == "starttls",
            auth_require_tls=False,
            authenticator=self._let_in if sink.login else None,
            loop=asyncio.get_running_loop(),
        )
        self._sink = sink
        self._auth_required = sink.login is not None
        self._smtp_methods = {verb: self._guarded(verb, act) for verb, act in self._smtp_methods.items()}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sink.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sink.connections.discard(self)
        super().connection_lost(error)

    def cut(self) -> None:
        transport = self._original_transport or self.transport
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()

    async def behave(self, answer: str | Behaviour) -> None:
        if isinstance(answer, str):
            await self.push(answer)
        elif answer is DROP:
            self.cut()
        else:
            await asyncio.get_running_loop().create_future()

    def _guarded(self, verb: str, usual: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Any]:
        async def act(argument: str | None) -> None:
            self._sink.commands.append(verb)
            answer = self._sink.answers.get(verb)
            await (usual(argument) if answer is None else self.behave(answer))

        return act

    async def _handle_client(self) -> None:
        answer = self._sink.answers.get("CONNECT")
        if answer is None:
            await super()._handle_client()
        else:
            await self.behave(answer)
            if self.transport is not None:
                self.transport.close()

    def _let_in(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object
    ) -> AuthResult:
        assert isinstance(given, LoginPassword)
        names = (given.login.decode(), given.password.decode())
        return AuthResult(success=names == self._sink.login, handled=False, auth_data=names[0])


class _Handler:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, name: str, replies: list[str]
    ) -> list[str]:
        session.host_name = name
        return [reply for reply in replies if self._sink.login or not reply.startswith("250-AUTH")]

    async def handle_DATA(self, server: _Connection, session: Session, envelope: Envelope) -> str:
        answer = self._sink.answers.get("MESSAGE")
        if isinstance(answer, str):
            return answer
        if answer is not None:
            await server.behave(answer)
            return "421 gone"
        assert isinstance(envelope.content, bytes)
        login = session.auth_data if session.authenticated else None
        self._sink.keep(
            Mail(
                sender=envelope.mail_from or "",
                recipients=tuple(envelope.rcpt_tos),
                options=tuple(envelope.mail_options),
                raw=envelope.content,
                encrypted=bool(session.ssl) or self._sink.tls == "tls",
                login=login if isinstance(login, str) else None,
            )
        )
        return "250 2.0.0 taken"


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A port on which nothing listens, and nothing will: it is bound and not listened on."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        yield taken.getsockname()[1]
