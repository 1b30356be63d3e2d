"""Reads the feed of events and changes of state, for all watchers at once."""

from __future__ import annotations

from typing import Any, NamedTuple

from oarpy.model.feed import FeedEvent, Position

_HORIZON = "SELECT complete, next FROM oar.feed_horizon"
AFTER = "SELECT * FROM oar.feed_after(%s, %s, %s) LIMIT %s"
_LATEST = """
    SELECT xid::text::bigint, event_id FROM oar.job_state_logs WHERE xid < %s::text::xid8
    ORDER BY xid DESC, event_id DESC OFFSET %s LIMIT 1
"""


class Horizon(NamedTuple):
    """All that transactions before ``complete`` did can be seen, or will never be; ``next`` is to come."""

    complete: int
    next: int


def horizon(cursor: Any) -> Horizon:
    """How far the feed can be read now."""
    cursor.execute(_HORIZON)
    return Horizon(*cursor.fetchone())


def after(cursor: Any, position: Position, complete: int, most: int) -> list[FeedEvent]:
    """The first ``most`` lines after ``position`` of transactions before ``complete``.

    A complete answer of fewer lines has been read up to ``Position(complete, 0)``.
    """
    cursor.execute(AFTER, (*position, complete, most))
    return [FeedEvent(*row) for row in cursor.fetchall()]


def back(cursor: Any, complete: int, changes: int) -> Position:
    """The position so many changes of state before the end; the beginning where there are fewer."""
    cursor.execute(_LATEST, (str(complete), changes))
    row = cursor.fetchone()
    return Position(*row) if row else Position(0, 0)
