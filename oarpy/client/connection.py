"""A command's session with the database, on psycopg2 alone.

Commands are started thousands of times, so SQLAlchemy (130 ms) stays out of
their way.  What the driver raises is translated here.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import psycopg2

from oarpy.errors import NotAllowed, OarError, RequestRefused, ServerUnavailable
from oarpy.instance import Instance
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import excerpt

T = TypeVar("T")

USER = "oar_user"
ADMIN = "oar"
#: How long a server that is starting, or has no connection left, is waited for.
PATIENCE_S = 10.0
_BUSY = (
    "starting up",
    "shutting down",
    "recovery mode",
    "too many clients",
    "too many connections",
    "remaining connection",
)
_FORBIDDEN = ("authentication failed", "no pg_hba.conf entry", "Permission denied", "permission denied")


class ConnectionLost(ServerUnavailable):
    """The session ended under a statement, whose effect is unknown."""


class LockedOut(ServerUnavailable):
    """Somebody else's transaction is in the way; trying again is right."""


class Connection:
    """One session, each statement a transaction of its own unless ``transaction`` is used."""

    def __init__(self, parameters: Mapping[str, str], program: str) -> None:
        self._conn = _connected({**parameters, "application_name": program, "connect_timeout": "10"})
        self._conn.autocommit = True

    @classmethod
    def open(cls, instance: Instance, program: str, role: str = USER) -> Connection:
        """A session as ``role``.

        Raises:
            ServerUnavailable: nobody answers.
            NotAllowed: the account that runs the command may not be ``role``.
        """
        try:
            # Nothing is promised to a user before the server's own commit.
            return cls(instance.dsn(role) | {"options": "-c synchronous_commit=off"}, program)
        except ServerUnavailable as error:
            if instance.database_url is not None or os.path.exists(instance.home):
                raise
            sentence = f"there is no instance in {instance.home}; OARPY_HOME names another one, oarpy up makes it"
            raise ServerUnavailable(sentence) from error
        except _Forbidden as refusal:
            if role == ADMIN:
                sentence, status = "only root and the owner of the instance may do this", ExitStatus.DENIED
            else:
                sentence, status = f"this account may not use {instance.home} ({refusal})", ExitStatus.REFUSED
            raise NotAllowed(sentence, exit_status=status) from refusal

    def rows(self, statement: Any, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """What ``statement`` returns, all of it."""
        with self._conn.cursor() as cursor:
            try:
                cursor.execute(statement, parameters)
                return list(cursor.fetchall()) if cursor.description else []
            except psycopg2.Error as error:
                raise self._translated(error) from error
            except UnicodeEncodeError as error:
                raise _no_text(error) from error

    def value(self, statement: Any, parameters: Sequence[object] | Mapping[str, object] = ()) -> Any:
        """The first column of the first row."""
        return self.rows(statement, parameters)[0][0]

    def change(self, statement: Any, parameters: Sequence[object] | Mapping[str, object] = ()) -> int:
        """Run ``statement``; the number of rows it touched."""
        with self._conn.cursor() as cursor:
            try:
                cursor.execute(statement, parameters)
            except psycopg2.Error as error:
                raise self._translated(error) from error
            except UnicodeEncodeError as error:
                raise _no_text(error) from error
            return int(cursor.rowcount)

    def transaction(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, its statements committed together and durably, or not at all."""
        self.rows("BEGIN; SET LOCAL synchronous_commit = on")
        try:
            result = work(self)
            self.rows("COMMIT")
        except BaseException:
            # Closing ends the transaction, whatever state it is in.
            self.close()
            raise
        return result

    def rehearsal(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, whose statements are checked like any others and then taken back."""
        self.rows("BEGIN")
        try:
            result = work(self)
            self.rows("ROLLBACK")
        except BaseException:
            self.close()
            raise
        return result

    def wait(self, seconds: float) -> None:
        """Return when a notification arrives, or after ``seconds``."""
        try:
            # A quick answer may have come together with the result of the statement that asked.
            if not self._conn.notifies and select.select([self._conn], [], [], seconds)[0]:
                self._conn.poll()
            self._conn.notifies.clear()
        except psycopg2.Error as error:
            raise self._translated(error) from error

    def close(self) -> None:
        self._conn.close()

    def _translated(self, error: psycopg2.Error) -> OarError:
        sqlstate = error.pgcode or ""
        sentence = _sentence(error)
        if self._conn.closed or not sqlstate or sqlstate.startswith(("08", "57P")):
            return ConnectionLost(f"the connection to the server broke ({sentence})")
        if sqlstate == "OA001":
            return NotAllowed(sentence)
        if sqlstate == "OA003":
            return RequestRefused(sentence, exit_status=ExitStatus.TRY_LATER)
        if sqlstate in ("55P03", "40P01", "40001"):
            return LockedOut(f"another session is in the way ({sentence}); nothing was done")
        if sqlstate in ("3F000", "42P01", "42883"):
            return ServerUnavailable(f"the database is not (yet) oarpy's: {sentence}")
        if sqlstate.startswith("23"):
            from oarpy.client.constraints import in_words

            return RequestRefused(in_words(sqlstate, error.diag) or sentence, exit_status=ExitStatus.DENIED)
        if sqlstate.startswith(("OA", "22", "42", "P0", "2B", "55")):
            return RequestRefused(sentence, exit_status=ExitStatus.DENIED)
        return ServerUnavailable(f"the database cannot do this now: {sentence}")


def _no_text(error: UnicodeEncodeError) -> RequestRefused:
    """What somebody typed is no text in any encoding, as Python tells of bytes by lone surrogates."""
    around = error.object[max(0, error.start - 10) : error.end + 10]
    return RequestRefused(f"{excerpt(around)} has bytes that are no characters")


class _Forbidden(OarError):
    """PostgreSQL or the file system keeps this account out."""


def _connected(parameters: Mapping[str, str]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    pause = 0.05
    while True:
        try:
            return psycopg2.connect(**parameters)
        except psycopg2.Error as error:
            sentence = _sentence(error)
            if any(phrase in sentence for phrase in _FORBIDDEN):
                raise _Forbidden(sentence) from error
            if time.monotonic() > deadline or not any(phrase in sentence for phrase in _BUSY):
                raise ServerUnavailable(f"the server does not answer ({sentence}); nothing was done") from error
        time.sleep(pause)
        pause = min(1.0, 2 * pause)


def _sentence(error: psycopg2.Error) -> str:
    """The driver's message on one line, without its level, detail and context."""
    message = error.diag.message_primary or next(iter(str(error).strip().splitlines()), type(error).__name__)
    hint = error.diag.message_hint
    return " ".join(f"{message} ({hint})".split()) if hint else message


def wake_almighty(conn: Connection) -> None:
    """Let almighty look at the tables now; inside a transaction, once it is committed."""
    conn.rows("SELECT pg_notify('oar_almighty', '') WHERE pg_notification_queue_usage() < 0.5")
