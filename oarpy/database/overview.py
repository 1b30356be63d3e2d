"""What an instance is doing, for people: who leads, which processes there are, how long the queues are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

_IS_OURS = text("SELECT to_regclass('leadership') IS NOT NULL")
_LEADER = text("SELECT epoch, host, pid, taken_at, renewed_at, now() - renewed_at AS silent_for FROM leadership")
_PROCESSES = text(
    "SELECT name, pid, host, epoch, started_at, restarts, detail FROM processes ORDER BY started_at, name"
)
_QUEUES = text(
    """
    SELECT q.queue_name, q.priority, q.state,
        (SELECT COALESCE(jsonb_object_agg(state, count), '{}') FROM (
            SELECT state, count(*) FROM jobs j
            WHERE j.stopped_at IS NULL AND j.queue_name = q.queue_name GROUP BY state) AS s) AS jobs
    FROM queues q ORDER BY q.priority DESC, q.queue_name
    """
)
_RESOURCES = text("SELECT state, count(*) FROM resources GROUP BY state ORDER BY state")
_UNFINISHED = text(
    """
    SELECT count(*), count(*) FILTER (WHERE state NOT IN ('Waiting', 'Hold', 'toAckReservation', 'toError', 'toLaunch'))
    FROM jobs WHERE stopped_at IS NULL
    """
)
# Whoever reads everything reads no keys: nobody sees them between the two.
_LET_READ = text("GRANT SELECT ON ALL TABLES IN SCHEMA oar TO oar_reader; REVOKE SELECT ON job_keys FROM oar_reader")


@dataclass(frozen=True, slots=True)
class Leader:
    epoch: int
    host: str
    pid: int
    taken_at: datetime
    renewed_at: datetime
    silent_for_s: float


@dataclass(frozen=True, slots=True)
class Process:
    """What belongs to no epoch (the keeper, a private PostgreSQL) does not stand in the tables.

    Without a ``pid`` it rests until it is called.
    """

    name: str
    pid: int | None
    host: str
    epoch: int | None = None
    started_at: datetime | None = None
    restarts: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """``jobs`` counts the unfinished ones by state."""

    name: str
    priority: int
    state: str
    jobs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Overview:
    """``last_pass`` is what the scheduler said of its last pass, or None before the first."""

    leader: Leader | None
    processes: tuple[Process, ...]
    queues: tuple[Queue, ...]
    resources: Mapping[str, int]
    last_pass: Mapping[str, Any] | None


def is_ours(conn: Connection) -> bool:
    """Whether the schema is there at all."""
    return bool(conn.execute(_IS_OURS).scalar_one())


def leader(conn: Connection) -> Leader | None:
    """Who holds the lease, or held it last."""
    row = conn.execute(_LEADER).first()
    if row is None:
        return None
    return Leader(row.epoch, row.host, row.pid, row.taken_at, row.renewed_at, row.silent_for.total_seconds())


def processes(conn: Connection) -> tuple[Process, ...]:
    """The processes that the present or the last almighty started, oldest first."""
    return tuple(Process(*row) for row in conn.execute(_PROCESSES))


def overview(conn: Connection) -> Overview:
    """Everything at once; reads the unfinished jobs."""
    running = processes(conn)
    return Overview(
        leader=leader(conn),
        processes=running,
        queues=tuple(Queue(*row) for row in conn.execute(_QUEUES)),
        resources={row[0]: row[1] for row in conn.execute(_RESOURCES)},
        last_pass=next((process.detail.get("last_pass") for process in running if process.name == "scheduler"), None),
    )


def unfinished(conn: Connection) -> tuple[int, int]:
    """How many jobs are not over, and how many of these are on nodes."""
    live, begun = conn.execute(_UNFINISHED).one()
    return live, begun


def let_readers_read(conn: Connection) -> None:
    """Give the role oar_reader the right to read every table and view but the keys of jobs."""
    conn.execute(_LET_READ)
