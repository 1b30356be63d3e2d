"""Waits until the scheduler has accepted or refused an advance reservation.

It listens on the channel of the request that asked for it, which stays open in the
tables: a hint that is lost costs a second.  The reservation does not depend on who
waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from oarpy.client.asking import LOOK_AGAIN_S, NOTICE_S, persistently
from oarpy.client.connection import Connection, ConnectionLost
from oarpy.errors import ServerUnavailable

_LOOK = "SELECT state, reservation, message, why FROM oar.visible_jobs WHERE job_id = %s"


class Verdict(NamedTuple):
    """``message`` says why a reservation was not accepted."""

    accepted: bool
    message: str = ""


class Validation:
    """The wait for the answer about ``job_id``, asked for under ``key``."""

    def __init__(self, connect: Callable[[], Connection], job_id: int, key: str, tell: Callable[[str], None]) -> None:
        self._connect = connect
        self._job_id = job_id
        self._key = key
        self._tell = tell
        self._told: str | None = None

    def verdict(self) -> Verdict:
        """The scheduler's answer.

        Raises:
            ServerUnavailable: the database does not come back; the job is still there.
        """
        conn: Connection | None = None
        notice = time.monotonic() + NOTICE_S
        while True:
            try:
                if conn is None:
                    conn = self._listening()
                verdict, why = self._look(conn)
                if verdict is not None:
                    conn.close()
                    return verdict
                if time.monotonic() > notice and why is not None and why != self._told:
                    self._told = why
                    self._tell(f"no answer yet: {why}")
                conn.wait(LOOK_AGAIN_S)
            except ConnectionLost:
                conn = None

    def _listening(self) -> Connection:
        def listening() -> Connection:
            conn = self._connect()
            conn.rows(f"LISTEN oar_answer_{self._key}")
            return conn

        try:
            return persistently(listening)
        except ServerUnavailable as error:
            raise ServerUnavailable(
                f"the server does not answer; oarstat -f -j {self._job_id} tells what became of the reservation"
            ) from error

    def _look(self, conn: Connection) -> tuple[Verdict | None, str | None]:
        rows = conn.rows(_LOOK, (self._job_id,))
        if not rows:
            return Verdict(False, "it no longer exists"), None
        state, reservation, message, why = rows[0]
        if state == "Error" and reservation != "Scheduled":
            return Verdict(False, message), None
        return Verdict(True) if reservation == "Scheduled" else None, why
