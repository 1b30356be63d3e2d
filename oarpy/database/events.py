"""The event log that modules and people read.

Events whose type has an effect on nodes or jobs are queued for
node_change_state as well, in ``pending_events``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.events import EFFECTS
from oarpy.model.states import JobId


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job, to hosts, or to a job on hosts."""

    type: str
    job_id: JobId | None = None
    hosts: tuple[str, ...] = ()
    description: str = ""


_APPEND = text(
    """
    WITH happened AS (
        INSERT INTO events (type, job_id, hosts, description)
        SELECT e.type, e.job_id, ARRAY(SELECT jsonb_array_elements_text(e.hosts)), e.description
        FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS e(type text, job_id bigint, hosts jsonb, description text)
        RETURNING event_id, type, job_id, hosts, date, description
    )
    INSERT INTO pending_events (event_id, type, job_id, hosts, date, description)
    SELECT event_id, type, job_id, hosts, date, description FROM happened WHERE type = ANY(:effective)
    """
)


def append(conn: Connection, events: Iterable[Event]) -> None:
    """Log ``events``; the caller wakes almighty where one of them has an effect."""
    rows = [
        {"type": e.type, "job_id": e.job_id, "hosts": list(e.hosts), "description": _printable(e.description)}
        for e in events
    ]
    if rows:
        conn.execute(_APPEND, {"events": json.dumps(rows), "effective": sorted(EFFECTS)})


def _printable(description: str) -> str:
    # PostgreSQL's text holds no NUL.
    return description.replace("\0", "\\0")
