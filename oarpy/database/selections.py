"""Jobs that a user speaks of: whose they are, in which state, and what is wished for them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import EndCause, JobId, JobState, OrderKind


class Named(NamedTuple):
    """A job as it was when it was looked up; ``state`` may have changed since."""

    job_id: JobId
    array_id: JobId
    owner: str
    state: JobState


_NAMED = text(
    """
    SELECT job_id, array_id, job_user, state FROM jobs
    WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    UNION
    SELECT job_id, array_id, job_user, state FROM jobs
    WHERE array_id = ANY(CAST(:arrays AS bigint[]))
    ORDER BY job_id
    """
)
_LOCKED = text(
    """
    SELECT job_id, state FROM jobs WHERE stopped_at IS NULL AND job_id = ANY(CAST(:jobs AS bigint[]))
    ORDER BY job_id FOR NO KEY UPDATE
    """
)
_TYPES = text("SELECT job_id, types FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[]))")
_LENDING = text(
    "SELECT job_id FROM allocations WHERE upper_inf(held) AND suspended AND job_id = ANY(CAST(:jobs AS bigint[]))"
)
_WISH_DEAD = text(
    """
    INSERT INTO frag_jobs (job_id, cause, asked_by)
    SELECT job_id, CAST(:cause AS end_cause), :asked_by FROM unnest(CAST(:jobs AS bigint[])) AS job_id
    -- One that is still given time to save its work has its owner's leave to die.
    ON CONFLICT (job_id) DO UPDATE SET due_at = now(), cause = EXCLUDED.cause, asked_by = EXCLUDED.asked_by
        WHERE frag_jobs.due_at > now()
    RETURNING job_id
    """
)
_NOTE_DELETION = text(
    """
    INSERT INTO frag_jobs (job_id, state, asked_by)
    SELECT job_id, 'FRAGGED', :asked_by FROM jobs
    WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND job_user <> :asked_by ORDER BY job_id
    ON CONFLICT (job_id) DO NOTHING
    """
)
# What is promised to others inside or until a date cannot be taken back.
_TOGGLE = text(
    """
    UPDATE jobs SET types = CASE WHEN 'besteffort' = ANY(types) THEN array_remove(types, 'besteffort')
        ELSE types || '{besteffort}'::text[] END
    WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND state = 'Running'
      AND ('besteffort' = ANY(types) OR reservation = 'None' AND NOT EXISTS (
        SELECT FROM unnest(types) AS t WHERE split_part(t, '=', 1) = 'container'))
    RETURNING job_id, 'besteffort' = ANY(types) AS besteffort
    """
)
_FINISHING_FOR = text(
    """
    SELECT job_id FROM job_state_logs WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND job_state = 'Finishing'
    GROUP BY job_id HAVING max(date_start) < now() - :at_least ORDER BY job_id
    """
)
_ORDER = text(
    """
    INSERT INTO orders (kind, job_id, attempt, signal, deadline)
    SELECT CAST(:kind AS order_kind), job_id, attempt, COALESCE(:signal, checkpoint_signal), now() + :within
    FROM jobs JOIN job_requests USING (job_request_id) WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    ON CONFLICT (job_id, kind) WHERE done_at IS NULL AND job_id IS NOT NULL DO NOTHING RETURNING job_id
    """
)


def named(conn: Connection, job_ids: Collection[JobId], array_ids: Collection[JobId]) -> list[Named]:
    """The jobs with these ids and all elements of these arrays, ascending; nothing is locked."""
    found = conn.execute(_NAMED, {"jobs": list(job_ids), "arrays": list(array_ids)})
    return [Named(job_id, array_id, owner, JobState(state)) for job_id, array_id, owner, state in found]


def locked(conn: Connection, job_ids: Collection[JobId]) -> dict[JobId, JobState]:
    """The states of those that are not over; nobody can change them until the transaction ends."""
    found = conn.execute(_LOCKED, {"jobs": list(job_ids)})
    return {job_id: JobState(state) for job_id, state in found}


def types(conn: Connection, job_ids: Collection[JobId]) -> dict[JobId, tuple[str, ...]]:
    """The types of jobs."""
    return {job_id: tuple(of) for job_id, of in conn.execute(_TYPES, {"jobs": list(job_ids)})}


def lending(conn: Connection, job_ids: Collection[JobId]) -> list[JobId]:
    """Those of these suspended jobs to which nothing has been given back."""
    return list(conn.execute(_LENDING, {"jobs": list(job_ids)}).scalars())


def wish_dead(
    conn: Connection, job_ids: Collection[JobId], asked_by: str, cause: EndCause = EndCause.KILLED
) -> frozenset[JobId]:
    """Ask leon to kill jobs; those of which nobody had asked it before."""
    if not job_ids:
        return frozenset()
    wish = {"jobs": list(job_ids), "cause": cause.value, "asked_by": asked_by}
    return frozenset(conn.execute(_WISH_DEAD, wish).scalars())


def note_deletion(conn: Connection, job_ids: Collection[JobId], asked_by: str) -> None:
    """Keep in mind who deleted jobs that were not launched, where that was not their owner."""
    if job_ids:
        conn.execute(_NOTE_DELETION, {"jobs": list(job_ids), "asked_by": asked_by})


def toggle_besteffort(conn: Connection, job_ids: Collection[JobId]) -> dict[JobId, bool]:
    """Give these running jobs the type besteffort, or take it away; whether those that changed have it now.

    Advance reservations and containers do not get it.
    """
    return {row.job_id: row.besteffort for row in conn.execute(_TOGGLE, {"jobs": list(job_ids)})}


def finishing_for(conn: Connection, job_ids: Collection[JobId], at_least: timedelta) -> list[JobId]:
    """Those of these Finishing jobs that have been so for longer than ``at_least``."""
    return list(conn.execute(_FINISHING_FOR, {"jobs": list(job_ids), "at_least": at_least}).scalars())


def order(
    conn: Connection, job_ids: Collection[JobId], kind: OrderKind, *, signal: int | None, within: timedelta
) -> frozenset[JobId]:
    """Order ``kind`` for jobs on their nodes; those for which no such order is open already.

    Without a ``signal`` it is each job's checkpoint signal.
    """
    if not job_ids:
        return frozenset()
    values = {"jobs": list(job_ids), "kind": kind.value, "signal": signal, "within": within}
    return frozenset(conn.execute(_ORDER, values).scalars())
