"""Which processes the present almighty runs."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.engine import Connection

# A process that registers again under the same epoch has been restarted, unless it rested.
_REGISTER = text(
    """
    INSERT INTO processes (name, pid, host, epoch) VALUES (:name, :pid, :host, :epoch)
    ON CONFLICT (name) DO UPDATE SET pid = EXCLUDED.pid, host = EXCLUDED.host, epoch = EXCLUDED.epoch,
        started_at = now(),
        restarts = CASE WHEN processes.epoch = EXCLUDED.epoch
            THEN processes.restarts + (processes.pid IS NOT NULL)::integer ELSE 0 END,
        detail = CASE WHEN processes.epoch = EXCLUDED.epoch THEN processes.detail ELSE '{}' END
    """
)
_REST = text("UPDATE processes SET pid = NULL WHERE name = :name AND epoch = :epoch AND pid = :pid")
_FORGET = text("DELETE FROM processes WHERE epoch = :epoch")
_FORGET_EARLIER = text("DELETE FROM processes WHERE epoch <> :epoch")


def register(conn: Connection, name: str, *, pid: int | None, host: str, epoch: int) -> None:
    """Say that ``name`` begins to run, or, without a ``pid``, that it waits to be called."""
    conn.execute(_REGISTER, {"name": name, "pid": pid, "host": host, "epoch": epoch})


def rest(conn: Connection, name: str, *, pid: int, epoch: int) -> None:
    """Say that ``name`` ends until it is called again."""
    conn.execute(_REST, {"name": name, "pid": pid, "epoch": epoch})


def forget(conn: Connection, epoch: int) -> None:
    """The processes of ``epoch`` have ended in an orderly way."""
    conn.execute(_FORGET, {"epoch": epoch})


def forget_earlier(conn: Connection, epoch: int) -> None:
    """Whatever belonged to an epoch before ``epoch`` is gone."""
    conn.execute(_FORGET_EARLIER, {"epoch": epoch})
