"""The user's end of a terminal inside a job: keys go there, what it shows comes here."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from oarpy.node.terminal import ENVIRONMENT, READ, Frames, frame

#: After a newline these two keys leave the terminal; its first one twice is typed once.
ESCAPE, LEAVE = b"~", b"."
_USUAL_SIZE = (24, 80)


class Parting(NamedTuple):
    """How a conversation ended: with the status of the shell, or else for a ``reason``, "" when the link was lost."""

    status: int | None
    reason: str = ""
    left: bool = False


def converse(link: socket.socket, *, keep: bool, begun: Callable[[], None]) -> Parting:
    """Join stdin and stdout to the terminal until it ends; with ``keep`` it outlives this link.

    ``begun`` is called when all keys are the job's.
    """
    return _Conversation(link, keep=keep).held(begun)


class _Conversation:
    def __init__(self, link: socket.socket, *, keep: bool) -> None:
        self._link = link
        self._frames = Frames()
        self._keys = _Keys()
        rows, columns = _size()
        hello = {"rows": rows, "columns": columns, "keep": keep}
        known = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        self._to_send = frame(b"h", json.dumps(hello | {"environment": known}).encode())

    def held(self, begun: Callable[[], None]) -> Parting:
        self._link.setblocking(False)
        with _raw(), _resizes() as resized:
            begun()
            ended = False
            while True:
                poll = select.poll()
                poll.register(resized, select.POLLIN)
                poll.register(self._link, select.POLLIN | (select.POLLOUT if self._to_send else 0))
                if not ended and len(self._to_send) < READ:
                    poll.register(0, select.POLLIN)
                for fd, events in poll.poll():
                    if fd == resized:
                        self._heed(os.read(resized, 4096))
                    elif fd == 0:
                        typed = os.read(0, READ)
                        # Without more input an end of file is typed.
                        ended = not typed
                        keys = self._keys.passed(typed) if typed else b"\x04"
                        if self._keys.left:
                            return Parting(None, left=True)
                        self._to_send += frame(b"d", keys) if keys else b""
                    else:
                        parting = self._exchange(events)
                        if parting is not None:
                            return parting

    def _heed(self, numbers: bytes) -> None:
        if signal.SIGCONT in numbers and os.isatty(0):
            # Whoever had the terminal meanwhile left it as shells have it.
            tty.setraw(0, termios.TCSADRAIN)
        self._to_send += frame(b"w", json.dumps(_size()).encode())

    def _exchange(self, events: int) -> Parting | None:
        try:
            if events & select.POLLOUT:
                self._send()
            if events & ~select.POLLOUT:
                data = self._link.recv(READ)
                for kind, content in self._frames.feed(data):
                    if kind == b"d":
                        _write(content)
                    elif kind == b"x":
                        return Parting(int(content))
                    elif kind == b"r":
                        return Parting(None, content.decode(errors="replace"))
                if not data:
                    return Parting(None)
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            return Parting(None)
        return None

    def _send(self) -> None:
        try:
            self._to_send = self._to_send[self._link.send(self._to_send) :]
        except BlockingIOError:
            pass
        except OSError:
            # Nobody hears it any more; what was said last is still to be read.
            self._to_send = b""


class _Keys:
    """Looks for the keys that leave the terminal among all that are typed."""

    def __init__(self) -> None:
        self._before = b"\r"
        self.left = False

    def passed(self, typed: bytes) -> bytes:
        found = b""
        for i in range(len(typed)):
            key = typed[i : i + 1]
            if self._before == ESCAPE:
                self._before = key
                if key == LEAVE:
                    self.left = True
                    return found
                found += key if key == ESCAPE else ESCAPE + key
            elif key == ESCAPE and self._before in (b"\r", b"\n") and os.isatty(0):
                self._before = ESCAPE
            else:
                # A tilde that was typed for itself is no escape for the next key.
                self._before = key if key != ESCAPE else b""
                found += key
        return found


def _size() -> tuple[int, int]:
    """Rows and columns of the terminal that this runs on."""
    try:
        rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(1, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return _USUAL_SIZE
    return (rows, columns) if rows and columns else _USUAL_SIZE


def _write(data: bytes) -> None:
    while data:
        try:
            data = data[os.write(1, data) :]
        except BlockingIOError:
            # Somebody who has the terminal, too, made it so.
            select.select([], [1], [])


@contextmanager
def _raw() -> Iterator[None]:
    """Give every key to the job, ^C among them; whatever ends this, the terminal is as it was."""
    if not os.isatty(0):
        yield
        return
    usual = termios.tcgetattr(0)
    signal.signal(signal.SIGTERM, lambda *told: sys.exit(128 + signal.SIGTERM))
    # What was typed meanwhile is for the shell.
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, usual)


@contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that becomes readable when the window has another size."""
    resized, wake = os.pipe()
    for fd in (resized, wake):
        os.set_blocking(fd, False)
    usual = {number: signal.signal(number, lambda *told: None) for number in (signal.SIGWINCH, signal.SIGCONT)}
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield resized
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in usual.items():
            signal.signal(number, handler)
        os.close(resized)
        os.close(wake)
