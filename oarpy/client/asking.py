"""How a command asks and waits.

The request is stored under a fresh key, and the answer is waited for.  Whatever
happens on the way, what the user is told is true:

- the server cannot be reached: nothing was stored;
- it does not answer, or the user presses ^C: the request is withdrawn, durably,
  and only when it was still untouched; else its answer is told;
- the connection breaks: the same request is asked again under the same key, which
  never does a thing twice; while that fails, the outcome is unknown, and the key
  is told.

A command that dies leaves a request that is dead after its minute.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from oarpy.client.connection import Connection, ConnectionLost
from oarpy.errors import OutcomeUnknown, RequestRefused, ServerUnavailable, SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import refusal_in
from oarpy.model.wording import excerpt

#: Longer than a request lives untaken; one that was taken is answered within seconds.
PATIENCE_S = 90.0
#: When the user is told that there is something to wait for, and a leader is looked for.
NOTICE_S = 5.0
RECONNECT_S = 20.0
#: How long an earlier request is given to be answered before it is withdrawn.
EARLIER_S = 2.0
#: A lost notification costs this much.
LOOK_AGAIN_S = 1.0

#: Half a lease longer than another almighty would wait: that one would have taken over by then.
LEADER_IS_SILENT = """
    SELECT coalesce(max(renewed_at + 1.5 * lease) < clock_timestamp(), true) FROM oar.visible_processes
"""

Answer = Mapping[str, Any]


def new_key() -> str:
    """A key that nobody used."""
    return os.urandom(16).hex()


def check_key(text: str) -> str:
    """The key in ``text``, its dashes removed; raises ``SyntaxRefused``."""
    key = text.replace("-", "").lower()
    if len(key) != 32 or not set(key) <= set("0123456789abcdef"):
        sentence = f"{excerpt(text)} is not a key, which has 32 hexadecimal digits"
        raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
    return key


def granted(answer: Answer) -> Answer:
    """``answer``, unless it is a refusal, which is raised."""
    refusal = refusal_in(answer)
    if refusal is not None:
        raise RequestRefused(refusal.message, exit_status=refusal.exit_status)
    return answer


class Request:
    """One request under one key; ``connect`` is called again after the connection broke.

    ``answered`` is called as soon as there is an answer, before a ^C could lose it.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        verb: str,
        payload: Mapping[str, Any],
        *,
        key: str,
        tell: Callable[[str], object],
        answered: Callable[[], object] | None = None,
    ) -> None:
        self._connect = connect
        self._statement = f"LISTEN oar_answer_{key}; SELECT oar.ask(%s, %s, %s)"
        self._parameters = (key, verb, json.dumps(payload))
        self._key = key
        self._tell = tell
        self._answered = answered
        self._conn: Connection | None = None
        self._sent = False

    def answer(self) -> Answer:
        """The server's answer, a refusal among them.

        Raises:
            ServerUnavailable: there is none, and there will be none.
            OutcomeUnknown: the connection broke and does not come back.
            RequestRefused: ``ask`` itself refused; or interrupted, and withdrawn.
        """
        try:
            return self._waited()
        except KeyboardInterrupt:
            withdrawn = RequestRefused("interrupted; nothing was done", exit_status=ExitStatus.INTERRUPTED)
            return self._answered_or(withdrawn)
        finally:
            if self._conn is not None:
                self._conn.close()

    def _waited(self) -> Answer:
        give_up = time.monotonic() + PATIENCE_S
        notice = time.monotonic() + NOTICE_S
        while time.monotonic() < give_up:
            try:
                conn = self._asked()
                conn.wait(LOOK_AGAIN_S)
                if (answer := self._look(conn)) is not None:
                    return answer
                if time.monotonic() > notice:
                    notice = give_up
                    if conn.value(LEADER_IS_SILENT):
                        break
                    self._tell("waiting for the server's answer")
            except ConnectionLost:
                self._conn = None
        return self._answered_or(ServerUnavailable("the server takes no requests at the moment; nothing was done"))

    def _asked(self) -> Connection:
        """A session that listens, on which the request has been stored; asking twice does nothing twice."""
        if self._conn is None:
            conn = self._reconnected() if self._sent else self._connect()
            self._sent = True
            conn.rows(self._statement, self._parameters)
            self._conn = conn
        return self._conn

    def _look(self, conn: Connection) -> Answer | None:
        answer: Answer | None = conn.value("SELECT oar.answer(%s)", (self._key,))
        if answer is not None and self._answered is not None:
            self._answered()
        return answer

    def _reconnected(self) -> Connection:
        try:
            return persistently(self._connect)
        except ServerUnavailable as error:
            raise OutcomeUnknown(self._key) from error

    def _answered_or(self, withdrawn: Exception) -> Answer:
        """Raise ``withdrawn`` when nothing has happened yet and now nothing will; else the answer."""
        if not self._sent:
            raise withdrawn
        try:
            if self._conn is None:
                self._conn = self._connect()
            answer = None if withdraw(self._conn, self._key) else self._look(self._conn)
        except (ServerUnavailable, KeyboardInterrupt) as error:
            raise OutcomeUnknown(self._key) from error
        if answer is None:
            raise withdrawn
        return answer


def persistently(connect: Callable[[], Connection]) -> Connection:
    """What ``connect`` gives, asked for again while the server is away.

    Raises:
        ServerUnavailable: it is away for longer than ``RECONNECT_S``.
    """
    deadline = time.monotonic() + RECONNECT_S
    while True:
        try:
            return connect()
        except ServerUnavailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def withdraw(conn: Connection, key: str) -> bool:
    """Whether the request was untouched, and is dead now."""
    return bool(conn.value("SET synchronous_commit = on; SELECT oar.withdraw(%s)", (key,)))


def earlier_answer(conn: Connection, key: str) -> Answer:
    """What was answered to the request under ``key``, which is withdrawn when nobody has touched it.

    Raises:
        ServerUnavailable: nothing was done, and nothing will be.
    """
    deadline = time.monotonic() + EARLIER_S
    conn.rows(f"LISTEN oar_answer_{check_key(key)}")
    while True:
        answer: Answer | None = conn.value("SELECT oar.answer(%s)", (key,))
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            break
        conn.wait(LOOK_AGAIN_S)
    if not withdraw(conn, key):
        answer = conn.value("SELECT oar.answer(%s)", (key,))
        if answer is not None:
            return answer
    raise ServerUnavailable(f"no request has been stored under the key {key}, or it was withdrawn; nothing was done")
