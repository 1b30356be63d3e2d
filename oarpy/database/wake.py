"""Hints to the processes that read the tables.

A hint says only "look again": it carries no payload, is sent inside the
transaction of the change, at most once for each reader, and may be lost; every
reader has a timer besides.
"""

from __future__ import annotations

from enum import Enum

from sqlalchemy import text
from sqlalchemy.engine import Connection


class Reader(str, Enum):
    """The channels of the processes that wait for hints."""

    ALMIGHTY = "oar_almighty"
    APPENDICE = "oar_appendice"
    RUNNER = "oar_runner"
    JUDAS = "oar_judas"


# PostgreSQL fails the whole commit when its notification queue is full; well
# before that no hint is sent at all, and the readers' timers do the work.
_NOTIFY = text(
    "SELECT pg_notify(channel, '') FROM unnest(CAST(:channels AS text[])) AS channel "
    "WHERE pg_notification_queue_usage() < 0.5"
)


def wake(conn: Connection, *readers: Reader) -> None:
    """Tell ``readers``, once the transaction of ``conn`` commits, to look again."""
    told: set[Reader] = conn.info.setdefault("oarpy.woken", set())
    new = [reader for reader in dict.fromkeys(readers) if reader not in told]
    if new:
        told.update(new)
        conn.execute(_NOTIFY, {"channels": [reader.value for reader in new]})


def wake_channels(conn: Connection, channels: list[str]) -> None:
    """The same for channels of clients, each of which waits for one answer."""
    if channels:
        conn.execute(_NOTIFY, {"channels": channels})
