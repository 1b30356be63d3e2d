"""Waits until the scheduler has accepted or refused an advance reservation.

It listens on the channel of the request that asked for it, which stays open in the
tables: a hint that is lost costs a second.  The reservation does not depend on who
waits: ^C deletes the job, a command that is killed leaves it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from oarpy.client.asking import LOOK_AGAIN_S, NOTICE_S, RECONNECT_S, Request, new_key
from oarpy.client.connection import Connection, ConnectionLost
from oarpy.errors import RequestRefused, ServerUnavailable
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobSelection
from oarpy.model.states import JobId

_LOOK = "SELECT state, reservation, message, why FROM oar.visible_jobs WHERE job_id = %s"


class Verdict(NamedTuple):
    """``message`` says why a reservation was not accepted."""

    accepted: bool
    message: str = ""


class Validation:
    """The wait for the answer about ``job_id``, asked for under ``key``; interrupted, it deletes the job."""

    def __init__(self, connect: Callable[[], Connection], job_id: int, key: str, tell: Callable[[str], None]) -> None:
        self._connect = connect
        self._job_id = job_id
        self._key = key
        self._tell = tell
        self._told: str | None = None

    def __enter__(self) -> Validation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """^C while a reservation is waited for, or told about, deletes it.

        Raises:
            RequestRefused: interrupted; the job was deleted.
        """
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            selection = JobSelection(job_ids=(JobId(self._job_id),))
            Request(self._connect, "delete", selection.to_json(), key=new_key(), tell=self._tell).answer()
            raise RequestRefused(
                f"interrupted; job {self._job_id} was deleted", exit_status=ExitStatus.INTERRUPTED
            ) from None

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
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                conn = self._connect()
                conn.rows(f"LISTEN oar_answer_{self._key}")
                return conn
            except ServerUnavailable as error:
                if time.monotonic() > deadline:
                    raise ServerUnavailable(
                        f"the server does not answer; oarstat -f -j {self._job_id} tells what became of the reservation"
                    ) from error
            time.sleep(0.2)

    def _look(self, conn: Connection) -> tuple[Verdict | None, str | None]:
        rows = conn.rows(_LOOK, (self._job_id,))
        if not rows:
            return Verdict(False, "it no longer exists"), None
        state, reservation, message, why = rows[0]
        if state == "Error" and reservation != "Scheduled":
            return Verdict(False, message), None
        return Verdict(True) if reservation == "Scheduled" else None, why
