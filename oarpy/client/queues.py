"""What an administrator changes of queues; each function is to be called inside a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg2 import sql

from oarpy.client.connection import Connection
from oarpy.errors import RequestRefused
from oarpy.model.wording import did_you_mean, excerpt


def queues(conn: Connection) -> list[dict[str, Any]]:
    """Every queue, the one of highest priority first."""
    names = ("queue_name", "priority", "state", "policy", "depth", "ordering", "replan")
    rows = conn.rows(f"SELECT {', '.join(names)} FROM oar.visible_queues ORDER BY priority DESC, queue_name")
    return [dict(zip(names, row, strict=True)) for row in rows]


def add_queue(conn: Connection, name: str, priority: int) -> None:
    """Insert an active queue."""
    conn.change("INSERT INTO oar.queues (queue_name, priority) VALUES (%s, %s)", (name, priority))


def change_queue(conn: Connection, name: str, changes: Mapping[str, object]) -> None:
    """Give a queue new values for some columns; raises ``RequestRefused`` when there is no such queue."""
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder()) for column in changes]
    statement = sql.SQL("UPDATE oar.queues SET {} WHERE queue_name = {}").format(
        sql.SQL(", ").join(assignments), sql.Placeholder()
    )
    if not conn.change(statement, [*changes.values(), name]):
        raise _no_queue(conn, name)


def set_every_queue(conn: Connection, state: str) -> None:
    """Start or stop all queues."""
    conn.change("UPDATE oar.queues SET state = %s", (state,))


def remove_queue(conn: Connection, name: str) -> None:
    """Delete a queue; the database refuses one that has jobs."""
    if not conn.change("DELETE FROM oar.queues WHERE queue_name = %s", (name,)):
        raise _no_queue(conn, name)


def _no_queue(conn: Connection, name: str) -> RequestRefused:
    known = [queue for (queue,) in conn.rows("SELECT queue_name FROM oar.queues ORDER BY queue_name")]
    return RequestRefused(f"there is no queue {excerpt(name)}{did_you_mean(name, known) or '; oarqueue lists them'}")
