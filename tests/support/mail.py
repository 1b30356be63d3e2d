"""A real SMTP server for tests, which keeps what it accepts and can be told to misbehave."""

from __future__ import annotations

import email
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller


class Mailbox:
    """The mail that was accepted.  ``refusals`` are answers to recipients, by address."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refusals: dict[str, str] = {}
        self.connections = 0
        self.port = 0

    async def handle_EHLO(  # noqa: N802, the name is aiosmtpd's
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802, the name is aiosmtpd's
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, the name is aiosmtpd's
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 accepted"


class _Listening(Controller):
    """A controller whose port nobody can take before it listens there."""

    def __init__(self, mailbox: Mailbox, **options: Any) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        super().__init__(mailbox, hostname="127.0.0.1", port=self._socket.getsockname()[1], **options)

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._socket, ssl=self.ssl_context)


@contextmanager
def smtp_server(**options: Any) -> Iterator[Mailbox]:
    """A server on a port of its own; ``options`` are aiosmtpd's."""
    mailbox = Mailbox()
    controller = _Listening(mailbox, **options)
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()


@dataclass
class Silent:
    """A server that does not come to the point."""

    port: int
    connections: int = 0


@contextmanager
def silent_server(greeting: bytes = b"") -> Iterator[Silent]:
    """A server that accepts connections and says no more than ``greeting``, a byte each 50 ms, for ever."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    server = Silent(listening.getsockname()[1])

    def drip(connection: socket.socket) -> None:
        with connection:
            while not over.wait(0.05):
                try:
                    connection.send(greeting)
                except OSError:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            server.connections += 1
            threading.Thread(target=drip, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


#: What keeps their ports from everybody else.
_bound: list[socket.socket] = []


def free_port() -> int:
    """A port on which nobody listens, nor will in this run."""
    _bound.append(socket.socket())
    _bound[-1].bind(("127.0.0.1", 0))
    port: int = _bound[-1].getsockname()[1]
    return port
