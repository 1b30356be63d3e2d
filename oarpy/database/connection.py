"""Engines, and the transactions of server processes.

A server process belongs to an epoch.  Each of its transactions begins by
locking the row of that epoch FOR KEY SHARE: the heartbeat, which changes no key,
does not wait for it; a takeover, which does, waits for open transactions and
leaves later ones without a row.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import psycopg2
from psycopg2 import errors as pg_errors
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from oarpy.errors import NotLeader

T = TypeVar("T")
R = TypeVar("R")
#: What the settings say when nobody changed them.
LEASE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One term of leadership."""

    number: int
    holder: uuid.UUID


def open_engine(parameters: dict[str, str], *, application_name: str, lease: timedelta = LEASE) -> Engine:
    """An engine on libpq ``parameters`` that keeps one connection and opens two more while they are needed.

    Sessions end by themselves when their client is gone, or idles inside a
    transaction so long that it might keep the next leader waiting.
    """
    engine = create_engine(
        URL.create("postgresql+psycopg2"),
        connect_args=parameters
        | {
            "application_name": application_name,
            "keepalives_idle": str(max(2, int(lease.total_seconds() / 2))),
            "keepalives_interval": "2",
            "keepalives_count": "2",
            "options": f"-c idle_in_transaction_session_timeout={int(lease.total_seconds() * 800)}ms -c timezone=UTC",
        },
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=2,
        # A restart of PostgreSQL is an ordinary event: the next turn simply reconnects.
        pool_pre_ping=False,
    )

    @event.listens_for(engine, "checkin")
    def _forget_hints(dbapi_connection: object, record: object) -> None:
        getattr(record, "info", {}).pop("oarpy.woken", None)

    return engine


def rename_sessions(engine: Engine, application_name: str) -> None:
    """Let the sessions that ``engine`` opens from now on bear another name; those that it has are closed."""
    engine.dispose()

    @event.listens_for(engine, "do_connect")
    def _name(dialect: object, record: object, arguments: object, parameters: dict[str, str]) -> None:
        parameters["application_name"] = application_name


_BEGIN = text(
    "SELECT set_config('synchronous_commit', :mode, true) FROM leadership "
    "WHERE epoch = :epoch AND holder = :holder FOR KEY SHARE"
)
_BEGIN_UNLED = text("SELECT set_config('synchronous_commit', :mode, true)")


@contextmanager
def transaction(engine: Engine, epoch: Epoch | None, *, durable: bool) -> Iterator[Connection]:
    """A transaction of ``epoch``; commits at the end, rolls back on any error.

    ``durable``: the commit waits for the disk (something is promised by it).
    Without an epoch nothing is checked: tests, and commands of admins.
    Raises ``NotLeader`` when the epoch has ended.
    """
    mode = "on" if durable else "off"
    with engine.begin() as conn:
        conn.info.pop("oarpy.woken", None)
        if epoch is None:
            conn.execute(_BEGIN_UNLED, {"mode": mode})
        elif conn.execute(_BEGIN, {"mode": mode, "epoch": epoch.number, "holder": epoch.holder}).first() is None:
            raise NotLeader(f"epoch {epoch.number} has ended")
        yield conn


@contextmanager
def savepoint(conn: Connection) -> Iterator[None]:
    """A part of the transaction of ``conn`` that an error undoes, hints that it sent included."""
    told = set(conn.info.get("oarpy.woken", ()))
    try:
        with conn.begin_nested():
            yield
    except BaseException:
        conn.info["oarpy.woken"] = told
        raise


def as_many(
    conn: Connection,
    wanted: Sequence[T],
    write: Callable[[Connection, Sequence[T]], list[R]],
    refusals: tuple[type[Exception], ...],
) -> list[R]:
    """What ``write`` returns of as many as possible: those that the database refuses are left out.

    ``write`` is called once when none is refused; for each that is, about as often as
    their number can be halved.
    """
    if not wanted:
        return []
    try:
        with savepoint(conn):
            return write(conn, wanted)
    except DBAPIError as error:
        if not isinstance(error.orig, refusals):
            raise
    if len(wanted) == 1:
        return []
    middle = len(wanted) // 2
    return [one for part in (wanted[:middle], wanted[middle:]) for one in as_many(conn, part, write, refusals)]


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A read-only REPEATABLE READ transaction: every statement sees the same instant."""
    with engine.connect() as conn, conn.begin():
        conn.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield conn


#: Of two that deadlocked one is chosen to fail; it has only to be done again.
RETRIED = (pg_errors.DeadlockDetected, pg_errors.SerializationFailure)


def retrying(attempt: Callable[[], T], *, times: int = 5) -> T:
    """What ``attempt`` returns, tried again after a deadlock or a serialisation failure."""
    for _ in range(times - 1):
        try:
            return attempt()
        except DBAPIError as error:
            if not isinstance(error.orig, RETRIED):
                raise
    return attempt()


def is_absence(error: Exception) -> bool:
    """Whether ``error`` only says that the database is away for now: the same will succeed later."""
    return isinstance(error, DBAPIError) and (error.connection_invalidated or _cannot_connect(error.orig))


def keeps_out(error: DBAPIError) -> bool:
    """Whether PostgreSQL lets this account not be the role that it wants to be."""
    # libpq tells no SQLSTATE of a connection that was refused.
    said = str(error.orig)
    return any(phrase in said for phrase in ("authentication failed", "no pg_hba.conf entry", "Permission denied"))


def _cannot_connect(error: BaseException | None) -> bool:
    # libpq's own words have no SQLSTATE; the server's about its start and stop are class 57P.
    code = getattr(error, "pgcode", None)
    return isinstance(error, psycopg2.OperationalError) and (code is None or code.startswith("57P"))
