"""Waiting for hints: LISTEN on a connection of its own, which comes back after every break.

A hint may be lost, so whoever waits has a timer besides and reads the tables
whenever ``wait`` returns.  Two floods are kept away: what users' sessions send on
channels that only the server has reason to use, and hints after which, again and
again, nothing was found to do.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection, Set
from dataclasses import dataclass
from logging import getLogger
from typing import Any

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from oarpy.database.wake import Reader

logger = getLogger(__name__)

#: After so many hints in a row that were followed by nothing, only the timer counts until it is due.
FRUITLESS = 20
#: How often the notifications of a flood are taken off the connection.
DRAIN_S = 0.1
LIVENESS_S = 30.0
RETRY_S = 0.05
RETRY_MAX_S = 2.0
#: Sessions change hands and their numbers are given again.
SESSIONS_KNOWN_S = 60.0

_SESSIONS = "SELECT pid, usename <> 'oar_user' FROM pg_stat_activity WHERE pid = ANY(%s)"


@dataclass(frozen=True, slots=True)
class Woken:
    """Why a wait is over: a hint came, some of the descriptors can be read, or (neither) the time is up."""

    hinted: bool = False
    ready: frozenset[int] = frozenset()


class Listener:
    """The hints of one channel; none of those that the sessions of ``engine`` send themselves.

    ``from_users``: whether users' sessions have reason to use the channel.
    ``absent`` is called each time that the database could not be reached.
    """

    def __init__(
        self, engine: Engine, reader: Reader, *, from_users: bool = False, absent: Callable[[], None] | None = None
    ) -> None:
        self._engine = engine
        self._absent = absent
        self._channel = reader.value
        self._from_users = from_users
        self._connection: Any = None
        self._own: set[int] = set()
        self._sessions: dict[int, bool] = {}
        self._sessions_known_until = 0.0
        self._hinted = False
        self._fruitless = 0
        self._retry_at = 0.0
        self._retry_delay = RETRY_S
        self._check_at = 0.0
        event.listen(engine, "checkout", self._remember)

    def wait(self, timeout_s: float, *descriptors: int) -> Woken:
        """Return at a hint, when one of ``descriptors`` can be read, or after ``timeout_s``.

        The first return after every (re)connection is a hint: some may have been missed.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            if self._connection is None and now >= self._retry_at:
                self._connect()
            elif self._connection is not None and now >= self._check_at:
                self._check()
            deaf = self._fruitless >= FRUITLESS
            hinted = self._hinted and not deaf
            ready = self._poll(0.0 if hinted else self._rest(deadline, deaf), descriptors, deaf)
            hinted = self._hinted and not deaf
            late = time.monotonic() >= deadline
            if hinted or ready or late:
                if hinted or late:
                    self._hinted = False
                if late:
                    self._fruitless = 0
                return Woken(hinted, ready)

    def found(self, anything: bool) -> None:
        """Tell whether there was anything to do after a hint; without that, floods of hints are not noticed."""
        self._fruitless = 0 if anything else self._fruitless + 1

    def close(self) -> None:
        """Stop listening."""
        event.remove(self._engine, "checkout", self._remember)
        self._disconnect()

    def _rest(self, deadline: float, deaf: bool) -> float:
        now = time.monotonic()
        until = min(deadline, self._retry_at if self._connection is None else self._check_at)
        return min(max(until - now, 0.0), DRAIN_S if deaf else float("inf"))

    def _poll(self, timeout_s: float, descriptors: Collection[int], deaf: bool) -> frozenset[int]:
        poller = select.poll()
        for descriptor in descriptors:
            poller.register(descriptor, select.POLLIN)
        if self._connection is not None and not deaf:
            poller.register(self._connection.fileno(), select.POLLIN)
        # poll counts in whole milliseconds; a fraction rounded down would spin.
        ready = {descriptor for descriptor, _ in poller.poll(-(-timeout_s * 1000 // 1))}
        if self._connection is not None and (deaf or self._connection.fileno() in ready):
            self._drain()
        return frozenset(ready & set(descriptors))

    def _drain(self) -> None:
        try:
            self._connection.poll()
            if self._heard():
                self._hinted = True
        except psycopg2.Error as error:
            self._lost(error)

    def _heard(self) -> bool:
        """Whether any of the notifications that have come counts."""
        # The look at their senders may bring more, which would not make the connection readable again.
        while self._connection.notifies:
            senders = {notify.pid for notify in self._connection.notifies} - self._own
            self._connection.notifies.clear()
            senders.discard(self._connection.info.backend_pid)
            if senders and (self._from_users or self._any_counts(senders)):
                return True
        return False

    def _any_counts(self, senders: Set[int]) -> bool:
        now = time.monotonic()
        if now >= self._sessions_known_until:
            self._sessions.clear()
            self._sessions_known_until = now + SESSIONS_KNOWN_S
        unknown = senders - self._sessions.keys()
        if unknown:
            with self._connection.cursor() as cursor:
                cursor.execute(_SESSIONS, (list(unknown),))
                self._sessions.update(cursor.fetchall())
        # A session that is gone already may have been an admin's.
        return any(self._sessions.get(sender, True) for sender in senders)

    def _connect(self) -> None:
        try:
            raw = self._engine.raw_connection()
            connection: Any = raw.driver_connection
            raw.detach()
            connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            with connection.cursor() as cursor:
                cursor.execute(f'LISTEN "{self._channel}"')
        except (psycopg2.Error, DBAPIError) as error:
            if self._retry_delay == RETRY_S:
                logger.warning("database: no connection to listen on (%s)", _first_line(error))
            if self._absent is not None:
                self._absent()
            self._retry_at = time.monotonic() + self._retry_delay
            self._retry_delay = min(2 * self._retry_delay, RETRY_MAX_S)
            return
        # The numbers of a server's earlier life mean nothing.
        self._own.clear()
        self._sessions.clear()
        self._connection = connection
        self._retry_delay = RETRY_S
        self._check_at = time.monotonic() + LIVENESS_S
        self._hinted = True

    def _check(self) -> None:
        """Hear oneself: a connection that only seems to be there, or no longer listens, is replaced."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", (self._channel,))
            me = self._connection.info.backend_pid
            alive = any(notify.pid == me for notify in self._connection.notifies)
            if self._heard():
                self._hinted = True
        except psycopg2.Error as error:
            self._lost(error)
            return
        if alive:
            self._check_at = time.monotonic() + LIVENESS_S
        else:
            self._disconnect()

    def _lost(self, error: Exception) -> None:
        logger.warning("database: connection lost (%s)", _first_line(error))
        self._disconnect()
        # The other connections of this process have gone with it; none may be tried first.
        self._engine.dispose()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._retry_at = 0.0

    def _remember(self, connection: Any, record: object, proxy: object) -> None:
        self._own.add(connection.info.backend_pid)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().split("\n")[0]
