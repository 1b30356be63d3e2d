"""How almighty calls the scheduler or finaud, which are other processes, and hears what came of it.

A call is an empty message and never waits: calls made while the one who is called works
are one call.  An outcome is a message with its name.  One that dies in its turn
answers nothing; the next one makes a turn without having been called.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from typing import Protocol

from oarpy.automata.almighty import Event

_CALL = b"call"
_LARGEST = 64
#: poll takes no time of more than 24 days, and a reservation may be years ahead.
LONGEST_S = 86_400.0


class Calls:
    """Almighty's end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    def fileno(self) -> int:
        return self._end.fileno()

    def call(self) -> Event:
        """Call it; what comes of it is heard later."""
        # When no more calls fit, it has plenty to begin with.
        with suppress(BlockingIOError):
            self._end.send(_CALL)
        return Event.NOTHING

    def outcomes(self) -> list[Event]:
        """What came of the turns that have ended since the last time."""
        found = []
        with suppress(BlockingIOError):
            while said := self._end.recv(_LARGEST):
                found.append(Event[said.decode("ascii")])
        return found


def pair() -> tuple[Calls, socket.socket]:
    """Almighty's end and that of the one who is called."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Calls(here), there


class Worker(Protocol):
    """Who is called.  ``due_in_s``: after how long another turn is wanted without a call, if at all."""

    @property
    def due_in_s(self) -> float | None: ...

    def turn(self) -> Event: ...


def answer(worker: Worker, end: socket.socket, stop: int) -> None:
    """Let ``worker`` turn at once and then whenever called, until ``stop`` can be read.

    It turns again by itself while it answers JOBS_CHANGED: there is more to do.  A turn that
    is due after more than a day comes after a day.
    """
    poller = select.poll()
    poller.register(stop, select.POLLIN)
    poller.register(end.fileno(), select.POLLIN)
    end.setblocking(False)
    while True:
        outcome = worker.turn()
        # Almighty may be gone, or busy for long: what this says is found in the tables too.
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            end.send(outcome.name.encode("ascii"))
        due_in_s = 0.0 if outcome is Event.JOBS_CHANGED else worker.due_in_s
        rest_ms = None if due_in_s is None else -(-min(due_in_s, LONGEST_S) * 1000 // 1)
        ready = {descriptor for descriptor, _ in poller.poll(rest_ms)}
        if stop in ready:
            return
        with suppress(BlockingIOError):
            while end.recv(_LARGEST):
                pass
