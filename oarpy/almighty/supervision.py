"""The supervisor: a process that forks the server's others, and forks them again when they die.

It is itself forked from almighty when everything is imported and nothing is
connected yet, and it never connects: so each process that it forks, now or after a
death, begins with all of oarpy in memory that it shares with the others, and with no
descriptor that belongs to somebody else.

Each process holds the reading end of a pipe whose writing end only the supervisor
has.  When that closes, because its term is over or the supervisor is no more, the
process ends.  The supervisor does the same when almighty's socket closes.

One that is called (``calls``) and need not always be there is forked by its first call,
and again by the next one after it has ended well.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from logging import getLogger
from typing import NoReturn

from oarpy.almighty import log
from oarpy.database.connection import Epoch

logger = getLogger(__name__)

#: Of an orderly end; after it processes are killed.
PATIENCE_S = 10.0
POLL_S = 0.02
_LARGEST = 256
_END = b"end"


@dataclass(frozen=True, slots=True)
class Process:
    """One that the supervisor keeps running.

    ``live`` gets the epoch and a descriptor that becomes readable when the process
    shall end; what it returns is the exit status.  ``keeps`` are descriptors that it needs.
    ``called``: the one where calls come in, of a process that rests between them.
    """

    name: str
    live: Callable[[Epoch, int], int]
    keeps: tuple[int, ...] = ()
    called: int | None = None

    @property
    def needs(self) -> tuple[int, ...]:
        return self.keeps if self.called is None else (*self.keeps, self.called)


@dataclass(slots=True)
class _Running:
    pid: int
    stop: int
    since_s: float


class Supervised:
    """Almighty's view of the supervisor, which it is the parent of."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self._control = control

    def fileno(self) -> int:
        """Can be read when the supervisor is no more."""
        return self._control.fileno()

    def begin(self, epoch: Epoch) -> None:
        """Let the processes run for ``epoch``."""
        self._control.send(f"{epoch.number} {epoch.holder}".encode())

    def end_term(self) -> None:
        """End the processes of the epoch in an orderly way; returns when they are gone."""
        with suppress(OSError):  # a supervisor that is no more has left none
            self._control.send(_END)
            self._control.recv(_LARGEST)

    def end(self) -> None:
        """End the processes in an orderly way, and with them the supervisor."""
        self._control.close()
        os.waitpid(self.pid, 0)


def start(processes: Sequence[Process], *, delay: timedelta, delay_max: timedelta) -> Supervised:
    """Fork the supervisor of ``processes``; none runs before there is an epoch."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = fork(
        "supervisor",
        lambda: _Supervisor(processes, there, delay.total_seconds(), delay_max.total_seconds()).run(),
        keeps=(there.fileno(), *(needed for process in processes for needed in process.needs)),
    )
    there.close()
    return Supervised(pid, here)


def fork(name: str, live: Callable[[], int], *, keeps: Sequence[int] = ()) -> int:
    """The process id of a copy of this process that does ``live``, ends with its status, and has no other descriptors.

    ``live`` must not let an exception pass.
    """
    # What is buffered would come twice.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become(name, keeps, live)
    return pid


def _become(name: str, keeps: Sequence[int], live: Callable[[], int]) -> NoReturn:
    status = 70  # EX_SOFTWARE of sysexits.h
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # ^C in the terminal of almighty reaches all of them; almighty alone decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _close_all_but(keeps)
        rename(name)
        log.rename(name)
        status = live()
        sys.stderr.flush()
    finally:
        # Nothing of the parent's may run here: no handler at exit, no frame further up.
        os._exit(status)


def rename(name: str) -> None:
    """Let ps show this process as ``name``."""
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(f"oar-{name}"[:15])


def _close_all_but(kept: Sequence[int]) -> None:
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor not in kept:
            # The one that the list was read through is closed already.
            with suppress(OSError):
                os.close(descriptor)


class _Supervisor:
    def __init__(
        self, processes: Sequence[Process], control: socket.socket, delay_s: float, delay_max_s: float
    ) -> None:
        self._processes = {process.name: process for process in processes}
        self._control = control
        self._delay_s = delay_s
        self._delay_max_s = delay_max_s
        self._running: dict[str, _Running] = {}
        self._due: dict[str, float] = {}
        self._delays: dict[str, float] = {}
        self._epoch: Epoch | None = None
        #: Where those who rest are called, and their names.
        self._resting: dict[int, str] = {}
        self._poller = select.poll()

    def run(self) -> int:
        # A terminal's or systemd's TERM to the whole group is almighty's to act on.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        died_r, died_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: _poke(died_w))
        self._poller.register(died_r, select.POLLIN)
        self._poller.register(self._control.fileno(), select.POLLIN)
        while True:
            self._start_due()
            ready = {descriptor for descriptor, _ in self._poller.poll(self._until_due_ms())}
            for called in ready & self._resting.keys():
                self._wake(called)
            if died_r in ready:
                with suppress(BlockingIOError):
                    os.read(died_r, 4096)
                self._reap()
            if self._control.fileno() in ready:
                said = self._control.recv(_LARGEST)
                self._end()
                if not said:
                    return 0
                if said == _END:
                    self._control.send(_END)
                else:
                    self._begin(said)

    def _begin(self, said: bytes) -> None:
        number, holder = said.decode("ascii").split()
        self._epoch = Epoch(int(number), uuid.UUID(holder))
        self._delays.clear()
        self._due = {name: 0.0 for name, process in self._processes.items() if process.called is None}
        for process in self._processes.values():
            self._let_rest(process)

    def _let_rest(self, process: Process) -> None:
        if process.called is not None:
            self._resting[process.called] = process.name
            self._poller.register(process.called, select.POLLIN)

    def _wake(self, called: int) -> None:
        # Taken here, or one that ended without having taken it would be forked without end.
        with suppress(OSError):
            if os.read(called, _LARGEST):
                self._due[self._resting[called]] = 0.0
        self._poller.unregister(called)
        del self._resting[called]

    def _until_due_ms(self) -> float | None:
        if not self._due:
            return None
        return max(0.0, -((time.monotonic() - min(self._due.values())) * 1000 // 1))

    def _start_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            self._start(self._processes[name])

    def _start(self, process: Process) -> None:
        epoch = self._epoch
        if epoch is None:
            return
        stop_r, stop_w = os.pipe2(os.O_CLOEXEC)
        pid = fork(process.name, lambda: process.live(epoch, stop_r), keeps=(stop_r, *process.needs))
        os.close(stop_r)
        self._running[process.name] = _Running(pid, stop_w, time.monotonic())

    def _reap(self) -> None:
        for name, running in list(self._running.items()):
            pid, status = os.waitpid(running.pid, os.WNOHANG)
            if pid == 0:
                continue
            os.close(running.stop)
            del self._running[name]
            code = os.waitstatus_to_exitcode(status)
            if code == 0 and self._processes[name].called is not None:
                self._let_rest(self._processes[name])
                continue
            delay = self._delay(name, time.monotonic() - running.since_s)
            self._due[name] = time.monotonic() + delay
            logger.error(
                "%s: pid %d ended with %d, started again in %.1f s",
                name,
                pid,
                code,
                delay,
                extra={"event": "PROCESS_DIED", "process_name": name},
            )

    def _delay(self, name: str, lived_s: float) -> float:
        """How long to wait; twice as long each time, until a process has lived for long again."""
        last = self._delays.get(name)
        fresh = last is None or lived_s > self._delay_max_s
        delay = self._delay_s if fresh or last is None else min(2 * last, self._delay_max_s)
        self._delays[name] = delay
        return delay

    def _end(self) -> None:
        """End all processes, the impatient way where they take too long."""
        self._due.clear()
        for called in self._resting:
            self._poller.unregister(called)
        self._resting.clear()
        for running in self._running.values():
            os.close(running.stop)
        deadline = time.monotonic() + PATIENCE_S
        while self._running:
            if time.monotonic() > deadline:
                for name, running in self._running.items():
                    logger.error("%s: pid %d does not end and is killed", name, running.pid)
                    os.kill(running.pid, signal.SIGKILL)
                deadline = float("inf")
            for name, running in list(self._running.items()):
                if os.waitpid(running.pid, os.WNOHANG)[0]:
                    del self._running[name]
            if self._running:
                time.sleep(POLL_S)


def _poke(descriptor: int) -> None:
    with suppress(BlockingIOError):
        os.write(descriptor, b"\0")
