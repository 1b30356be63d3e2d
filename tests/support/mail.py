"""A real SMTP server for tests, which keeps what it accepts and can be told to misbehave."""

from __future__ import annotations

import email
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def smtp_server(**options: Any) -> Iterator[Mailbox]:
    """A server on a port of its own; ``options`` are aiosmtpd's."""
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    mailbox.port = controller.port
    try:
        yield mailbox
    finally:
        controller.stop()


@contextmanager
def silent_server(greeting: bytes = b"") -> Iterator[int]:
    """The port of a server that accepts connections and says no more than ``greeting``, a byte each 50 ms, for ever."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

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
            threading.Thread(target=drip, args=[connection], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
