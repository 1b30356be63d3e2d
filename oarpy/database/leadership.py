"""The one row that says which almighty leads, and for which epoch.

Transactions of a server process lock it FOR KEY SHARE (``connection.transaction``).
A renewal changes no key and waits for none of them; a takeover changes the key, so
it waits for those that are open and leaves later ones without their row.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.database.connection import LEASE, Epoch


@dataclass(frozen=True, slots=True)
class Reign:
    """The row as somebody saw it; two that are equal show that no renewal lies between them."""

    epoch: Epoch
    host: str
    pid: int
    renewed_at: datetime


_SEEN = text("SELECT epoch, holder, host, pid, renewed_at FROM leadership")
_FOUND = text(
    """
    INSERT INTO leadership (epoch, holder, host, pid, lease)
    SELECT 1, :holder, :host, :pid, :lease WHERE NOT EXISTS (SELECT FROM leadership)
    ON CONFLICT DO NOTHING RETURNING epoch
    """
)
_TAKE_OVER = text(
    """
    UPDATE leadership SET epoch = epoch + 1, holder = :holder, host = :host, pid = :pid, lease = :lease,
        taken_at = now(), renewed_at = now()
    WHERE epoch = :epoch AND holder = :before AND renewed_at = :renewed_at RETURNING epoch
    """
)
_RENEW = text(
    "UPDATE leadership SET renewed_at = clock_timestamp() WHERE epoch = :epoch AND holder = :holder RETURNING epoch"
)
_END_SESSIONS = text(
    """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
      AND starts_with(application_name, :prefix)
    """
)


def application_name(epoch: int, process: str) -> str:
    """How the sessions of ``process`` are named, so that a later epoch can end them."""
    return f"oarpy/{epoch}/{process}"


def reign(conn: Connection) -> Reign | None:
    """Who leads, or led last; None in a database that never had a leader."""
    row = conn.execute(_SEEN).first()
    return None if row is None else Reign(Epoch(row.epoch, row.holder), row.host, row.pid, row.renewed_at)


def take(
    conn: Connection, before: Reign | None, *, holder: uuid.UUID, host: str, pid: int, lease: timedelta = LEASE
) -> Epoch | None:
    """Begin the epoch after ``before``, if nothing has changed since that was seen; None otherwise.

    Waits for the open transactions of the epoch that ends.  The commit must be durable.
    """
    mine = {"holder": holder, "host": host, "pid": pid, "lease": lease}
    if before is None:
        number = conn.execute(_FOUND, mine).scalar()
    else:
        seen = {"epoch": before.epoch.number, "before": before.epoch.holder, "renewed_at": before.renewed_at}
        number = conn.execute(_TAKE_OVER, mine | seen).scalar()
    return None if number is None else Epoch(number, holder)


def renew(conn: Connection, epoch: Epoch) -> bool:
    """Show that the leader of ``epoch`` lives; False when the epoch has ended."""
    return conn.execute(_RENEW, {"epoch": epoch.number, "holder": epoch.holder}).first() is not None


def end_sessions(conn: Connection, epoch: int) -> int:
    """End what the processes of ``epoch`` have still open in the database; how many sessions that were."""
    ended: int = conn.execute(_END_SESSIONS, {"prefix": application_name(epoch, "")}).scalar_one()
    return ended
