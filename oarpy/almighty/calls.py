"""How almighty calls the scheduler or finaud, which are other processes, and hears what came of it.

A call is an empty message and never waits: calls made while the one who is called works
are one call.  An outcome is a message with its name.  One that dies in its turn
answers nothing; the next one makes a turn without having been called.  One that may
rest is started by a call, and ends when nobody has called for a while.
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
    there.setblocking(False)
    return Calls(here), there


class Worker(Protocol):
    """Who is called.  ``due_in_s``: after how long another turn is wanted without a call, if at all."""

    @property
    def due_in_s(self) -> float | None: ...

    def turn(self) -> Event: ...


def answer(worker: Worker, end: socket.socket, stop: int, *, rests_after_s: float | None = None) -> bool:
    """Let ``worker`` turn at once and then whenever called, until ``stop`` can be read or it may rest; whether it may.

    It may when no turn is due and it has not been called for ``rests_after_s``.

    It turns again by itself while it answers JOBS_CHANGED: there is more to do.  A turn that
    is due after more than a day comes after a day.
    """
    poller = select.poll()
    poller.register(stop, select.POLLIN)
    poller.register(end.fileno(), select.POLLIN)
    while True:
        outcome = worker.turn()
        # Almighty may be gone, or busy for long: what this says is found in the tables too.
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            end.send(outcome.name.encode("ascii"))
        due_in_s = 0.0 if outcome is Event.JOBS_CHANGED else worker.due_in_s
        wait_s = rests_after_s if due_in_s is None else min(due_in_s, LONGEST_S)
        ready = {descriptor for descriptor, _ in poller.poll(None if wait_s is None else -(-wait_s * 1000 // 1))}
        if stop in ready or (not ready and due_in_s is None):
            return stop not in ready
        with suppress(BlockingIOError):
            while end.recv(_LARGEST):
                pass
