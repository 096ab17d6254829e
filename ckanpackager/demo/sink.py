"""A mail server that delivers nowhere: it takes what it is sent, and hands it to whoever waits."""

import asyncio
import email
import email.message
import email.policy
import queue
import threading
from typing import Any, Self

from aiosmtpd.smtp import SMTP, Envelope, Session


class MailSink:
    """Listens on a port of its own once it is made; closed by `close` or by leaving it as a context.

    ``messages`` are those that have come, ``recipients`` the addresses that each was sent to.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.messages: list[email.message.EmailMessage] = []
        self.recipients: list[list[str]] = []
        self._waiting: queue.SimpleQueue[email.message.EmailMessage] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mail sink")
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def wait(self, timeout: float) -> email.message.EmailMessage:
        """The next message that nobody has waited for yet. Raises TimeoutError after *timeout* seconds."""
        try:
            return self._waiting.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no e-mail came within {timeout:g} s") from None

    def close(self) -> None:
        """Stop listening, and cut the connections that are open."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content
        assert isinstance(content, bytes), "aiosmtpd decodes only what it is told to"
        self.messages.append(email.message_from_bytes(content, policy=email.policy.default))
        self.recipients.append(list(envelope.rcpt_tos))
        self._waiting.put(self.messages[-1])
        return "250 OK"

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._serve, self.host, 0)

    def _serve(self) -> Any:
        return SMTP(self, hostname="localhost", enable_SMTPUTF8=True, loop=self._loop)

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()
