"""Mail through an SMTP server.

A batch shares one connection, so a thousand mails do not make a thousand of them,
and a server that does not answer costs the batch one time-out, not one for each.
"""

from __future__ import annotations

import os
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from threading import Timer

from oarpy.errors import ConfigurationError
from oarpy.ports.messenger import Delivery, Fate, Message
from oarpy.settings import Mail


class SmtpMessenger:
    """Sends mail as ``settings`` say; ``instance`` is the name of the batch system in its subject."""

    def __init__(self, settings: Mail, instance: str) -> None:
        self._settings = settings
        self._instance = instance
        self._timeout_s = settings.timeout.total_seconds()

    @property
    def limit_s(self) -> float:
        """Twice the time-out: a mail that is begun just before the first has passed gets its own."""
        return 2 * self._timeout_s

    def deliver(self, messages: Sequence[Message]) -> list[Delivery]:
        """Send them one after the other; those that remain when the time-out has passed are not begun."""
        if self._settings.host is None:
            return [Delivery(m.number, Fate.REFUSED, "no mail is sent here: [mail] host is not set") for m in messages]
        fates: list[Delivery] = []
        begun_s = time.monotonic()
        try:
            with self._connection() as server:
                for message in messages:
                    if time.monotonic() - begun_s > self._timeout_s:
                        break
                    with _deadline(server, self._timeout_s):
                        fates.append(self._send(server, message))
        except (OSError, smtplib.SMTPException, ConfigurationError) as error:
            # Without a connection every one has failed; when it broke, the one that was on its way.
            failed = messages[len(fates) : len(fates) + 1] if fates else messages
            fates += [Delivery(message.number, Fate.FAILED, _words(error)) for message in failed]
        return fates + [Delivery(m.number, Fate.UNTRIED, "not begun in time") for m in messages[len(fates) :]]

    @contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        # smtplib would ask the resolver for this host's full name, which may take minutes.
        server = smtplib.SMTP(local_hostname=socket.gethostname(), timeout=self._timeout_s)
        try:
            with _deadline(server, self._timeout_s):
                server.connect(self._settings.host or "", self._settings.port)
                if self._settings.starttls:
                    server.starttls(context=ssl.create_default_context())
                if self._settings.username is not None:
                    server.login(self._settings.username, self._password())
            yield server
            with suppress(OSError, smtplib.SMTPException), _deadline(server, self._timeout_s):
                server.quit()
        finally:
            server.close()

    def _send(self, server: smtplib.SMTP, message: Message) -> Delivery:
        try:
            server.send_message(self._mail(message), self._sender(), [message.target])
        except smtplib.SMTPRecipientsRefused as error:
            code, words = error.recipients[message.target]
            return Delivery(message.number, _fate(code), _said(code, words))
        except smtplib.SMTPServerDisconnected:
            raise
        except smtplib.SMTPResponseException as error:
            return Delivery(message.number, _fate(error.smtp_code), _said(error.smtp_code, error.smtp_error))
        return Delivery(message.number, Fate.DELIVERED, f"accepted by {self._settings.host}")

    def _mail(self, message: Message) -> EmailMessage:
        name = f" ({message.job_name})" if message.job_name else ""
        job = f"{message.job_id}{name} " if message.job_id is not None else ""
        mail = EmailMessage(policy=SMTP)
        mail["Subject"] = _one_line(f"*OAR* [{message.tag}]: {job}on {self._instance}")
        mail["From"] = self._sender()
        mail["To"] = message.target
        mail["Date"] = format_datetime(localtime())
        # The same at each try: who gets a mail twice can tell.
        mail["Message-ID"] = f"<oar.{message.number}.{message.job_id or 0}@{_domain(self._sender())}>"
        mail["Auto-Submitted"] = "auto-generated"
        width = max((len(name) for name, _ in message.facts), default=0)
        lines = [f"{name:>{width}}: {value}" for name, value in message.facts]
        mail.set_content("\n".join([message.comment, "", *lines]).strip() + "\n")
        return mail

    def _sender(self) -> str:
        return self._settings.sender or f"oar@{socket.gethostname()}"

    def _password(self) -> str:
        path = self._settings.password_file
        if path is None:
            raise ConfigurationError("[mail] has a username and no password_file")
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigurationError(f"{path} can be read by others; its mode must be 0600")
            return file.readline().rstrip("\n")


@contextmanager
def _deadline(server: smtplib.SMTP, seconds: float) -> Iterator[None]:
    """Break the connection after ``seconds``: the socket's own time-out begins anew with each byte that comes."""

    def break_off() -> None:
        if server.sock is not None:
            with suppress(OSError):
                server.sock.shutdown(socket.SHUT_RDWR)

    timer = Timer(seconds, break_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _fate(code: int) -> Fate:
    return Fate.REFUSED if code >= 500 else Fate.FAILED


def _said(code: int, words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return _one_line(f"the mail server said {code} {text}")


def _words(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return _said(error.smtp_code, error.smtp_error)
    return _one_line(f"no mail server: {error}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _domain(address: str) -> str:
    return address.rpartition("@")[2]
