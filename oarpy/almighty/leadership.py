"""Taking the lease, and keeping it.

A standby watches the row of ``leadership``.  It takes over when, by its own monotonic
clock, the row has not changed for as long as the lease, or at once when the holder
was a process of this machine that is gone::

    standing by ──row unchanged for a lease──▶ ends the old epoch's sessions ──▶ leads
         ▲                                                                        │
         └────────────── ends its processes ◀── a renewal finds no row ───────────┘

The leader need not know how long its lease lasts still: each of its transactions
begins by asking whether its epoch does, and what it does outside of them either
refuses an ended epoch or, like mail, keeps its message to itself for longer than a
lease.  No two clocks are ever compared.
"""

from __future__ import annotations

import hashlib
import os
import select
import threading
import time
import uuid
from contextlib import suppress
from datetime import timedelta
from logging import getLogger
from types import TracebackType

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy.almighty.service import NOBODY, ServiceManager
from oarpy.database import leadership
from oarpy.database.connection import Epoch, transaction
from oarpy.database.leadership import Reign

logger = getLogger(__name__)

#: Renewals (and looks of a standby) within one lease.
BEATS = 5


def await_lease(engine: Engine, *, length_s: float, stop: int, manager: ServiceManager = NOBODY) -> Epoch | None:
    """Stand by until this process leads; None when ``stop`` could be read before."""
    holder = new_holder()
    seen: Reign | None = None
    since_s = time.monotonic()
    told = False
    while True:
        try:
            with engine.connect() as conn:
                reign = leadership.reign(conn)
            if reign != seen:
                seen, since_s = reign, time.monotonic()
            silent = time.monotonic() - since_s >= length_s
            if reign is None or silent or _is_gone(reign):
                epoch = _take(engine, reign, holder, timedelta(seconds=length_s))
                if epoch is not None:
                    return epoch
            elif not told:
                told = True
                logger.info("standing by: pid %d on %s leads epoch %d", reign.pid, reign.host, reign.epoch.number)
                manager.ready(f"stands by: pid {reign.pid} on {reign.host} leads epoch {reign.epoch.number}")
        except DBAPIError as error:
            logger.warning("database: cannot be asked who leads (%s)", str(error.orig).strip().split("\n")[0])
        if is_readable(stop, length_s / BEATS):
            return None


class Heartbeat:
    """Renews the lease of ``epoch`` until the end of the context, from a thread of its own.

    A module may wait for a lock longer than a lease lasts; the renewal must not.
    """

    def __init__(self, engine: Engine, epoch: Epoch, *, length_s: float) -> None:
        self._engine = engine
        self._epoch = epoch
        self._length_s = length_s
        self._lost_r, self._lost_w = os.pipe2(os.O_CLOEXEC)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def fileno(self) -> int:
        """Can be read when the epoch has ended, or nobody renews its lease any more."""
        return self._lost_r

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join(self._length_s)
        os.close(self._lost_r)

    def _beat(self) -> None:
        try:
            while not self._ends.wait(self._length_s / BEATS):
                if not self._renewed():
                    return
        finally:
            os.close(self._lost_w)

    def _renewed(self) -> bool:
        try:
            with transaction(self._engine, None, durable=True) as conn:
                return leadership.renew(conn, self._epoch)
        except DBAPIError as error:
            # The epoch lasts until somebody else begins another.
            logger.warning("lease: not renewed (%s)", str(error.orig).strip().split("\n")[0])
            return True


def is_readable(descriptor: int, timeout_s: float) -> bool:
    """Whether ``descriptor`` can be read within ``timeout_s``."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def _take(engine: Engine, reign: Reign | None, holder: uuid.UUID, lease: timedelta) -> Epoch | None:
    if reign is not None:
        # First, so that none of them keeps the row locked.
        with transaction(engine, None, durable=False) as conn:
            ended = leadership.end_sessions(conn, reign.epoch.number)
        if ended:
            logger.info("epoch %d: %d session(s) of it ended", reign.epoch.number, ended)
    with transaction(engine, None, durable=True) as conn:
        host, pid = os.uname().nodename, os.getpid()
        epoch = leadership.take(conn, reign, holder=holder, host=host, pid=pid, lease=lease)
    if epoch is not None:
        logger.info("epoch %d: begins", epoch.number, extra={"event": "LEADS", "epoch": epoch.number})
    return epoch


def new_holder() -> uuid.UUID:
    """A name for one who may lead: half of it says where its process ids mean something, half is random."""
    return uuid.UUID(bytes=_place() + os.urandom(8))


def _is_gone(reign: Reign) -> bool:
    """Whether the holder is known to be no more: true only of a process of this machine."""
    if reign.epoch.holder.bytes[:8] != _place():
        return False
    if reign.pid == os.getpid():
        return True  # an earlier term of this very process
    try:
        os.kill(reign.pid, 0)
        with open(f"/proc/{reign.pid}/stat", encoding="ascii", errors="replace") as file:
            # "pid (name) state …", and the name may hold anything.  A dead process whose
            # parent does not ask for it (in many a container) stays for ever.
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another account's, or /proc is hidden


def _place() -> bytes:
    """This boot of this machine, and the namespace of its process ids: a container has another."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{boot} {namespace}".encode()).digest()[:8]
