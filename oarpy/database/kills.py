"""The wishes to kill jobs (``frag_jobs``), and how far each has come.

A wish is LEON until it is due and somebody acts on it, TIMER_ARMED while the job is given time to
end, and FRAGGED when the job is over.  A job that lets its time pass is asked again,
and then exterminated, again and again: only proof ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import EndCause, FragState, JobId, JobState
from oarpy.model.terminals import CLIENT_LOCKS


class Wish(NamedTuple):
    """That a job dies, as it stood when it was locked."""

    job_id: JobId
    state: FragState
    cause: EndCause
    asked_by: str
    job_state: JobState


# Inner jobs that nobody wants dead yet, of containers that end or are to end.
_LEFT_BEHIND = """
    SELECT i.job_id FROM allocations i JOIN jobs c ON c.job_id = i.space
    WHERE i.space <> 0 AND upper_inf(i.held)
      AND (c.state = 'Finishing' OR EXISTS (
          SELECT FROM frag_jobs f WHERE f.job_id = c.job_id AND f.state <> 'FRAGGED' AND f.due_at <= now()))
      AND NOT EXISTS (SELECT FROM frag_jobs f WHERE f.job_id = i.job_id)
"""
_ANY_OPEN = text(
    "SELECT EXISTS (SELECT FROM frag_jobs WHERE state IN ('LEON', 'LEON_EXTERMINATE') AND due_at <= now()) "
    f"OR EXISTS ({_LEFT_BEHIND})"
)
_ANY_CAME_DUE = text(
    "SELECT EXISTS (SELECT FROM frag_jobs WHERE state = 'LEON' AND due_at > asked_at AND due_at <= now())"
)
_FOLLOW = text(
    f"""
    INSERT INTO frag_jobs (job_id, cause, asked_by)
    SELECT job_id, 'container', 'oar' FROM ({_LEFT_BEHIND}) AS left_behind ORDER BY job_id
    ON CONFLICT DO NOTHING RETURNING job_id
    """
)
_WITHDRAW = text(
    """
    DELETE FROM frag_jobs f
    WHERE f.job_id = ANY(CAST(:jobs AS bigint[])) AND f.state = 'LEON' AND f.cause = 'besteffort' AND f.due_at > now()
      AND f.for_job IS NOT NULL AND NOT EXISTS (SELECT FROM jobs j WHERE j.job_id = f.for_job AND j.stopped_at IS NULL)
    RETURNING f.job_id, f.for_job
    """
)
# Jobs first and in the order of their ids, as everybody locks them.
_LOCK_JOBS = text(
    """
    SELECT job_id FROM jobs
    WHERE job_id IN (SELECT job_id FROM frag_jobs WHERE state IN ('LEON', 'LEON_EXTERMINATE') AND due_at <= now())
    ORDER BY job_id FOR NO KEY UPDATE
    """
)
_OPEN = text(
    """
    SELECT f.job_id, f.state, f.cause, f.asked_by, j.state FROM frag_jobs f JOIN jobs j USING (job_id)
    WHERE f.state IN ('LEON', 'LEON_EXTERMINATE') AND f.due_at <= now() AND f.job_id = ANY(CAST(:jobs AS bigint[]))
    ORDER BY f.job_id FOR NO KEY UPDATE OF f
    """
)
_ARM = text(
    """
    UPDATE frag_jobs SET state = 'TIMER_ARMED', armed_at = now(), rounds = rounds + 1,
        deadline = now() + CASE
            WHEN state = 'LEON_EXTERMINATE' THEN CAST(:kill AS interval)
            WHEN rounds = 0 THEN CAST(:soft AS interval) + CAST(:hard AS interval)
            ELSE CAST(:hard AS interval) END
    WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    """
)
# A kill that the node has been sent and not done yet is not asked for twice, unless to make it stronger.
_ORDER = text(
    """
    INSERT INTO orders (kind, job_id, attempt, exterminate, deadline)
    SELECT 'kill', j.job_id, j.attempt, f.state = 'LEON_EXTERMINATE', now() + :within
    FROM jobs j JOIN frag_jobs f USING (job_id) WHERE j.job_id = ANY(CAST(:jobs AS bigint[]))
    ORDER BY j.job_id
    ON CONFLICT (job_id, kind) WHERE done_at IS NULL AND job_id IS NOT NULL DO UPDATE
        SET exterminate = true, begun_at = NULL, deadline = EXCLUDED.deadline
        WHERE EXCLUDED.exterminate AND NOT orders.exterminate
    """
)
_CLOSE = text("UPDATE frag_jobs SET state = 'FRAGGED' WHERE job_id = ANY(CAST(:jobs AS bigint[]))")
_CLOSE_ENDED = text(
    """
    UPDATE frag_jobs f SET state = 'FRAGGED' FROM jobs j
    WHERE f.state <> 'FRAGGED' AND j.job_id = f.job_id AND j.stopped_at IS NOT NULL
    """
)
# The first round is TERM, the second TERM again, whatever follows the end of everything.
_REPEAT = text(
    """
    UPDATE frag_jobs f SET state = CASE WHEN f.rounds < 2 THEN 'LEON' ELSE 'LEON_EXTERMINATE' END::frag_state
    FROM jobs j
    WHERE f.state = 'TIMER_ARMED' AND j.job_id = f.job_id AND j.stopped_at IS NULL AND j.state <> 'Finishing'
      AND f.armed_at + CASE WHEN f.rounds < 2 THEN CAST(:soft AS interval) ELSE CAST(:hard AS interval) END <= now()
    RETURNING f.job_id
    """
)
# Of a suspended job the clock stands; one in Resuming is suspended still.
_OVERRUN = text(
    """
    INSERT INTO frag_jobs (job_id, cause, asked_by)
    SELECT job_id, 'walltime', 'sarko' FROM jobs
    WHERE stopped_at IS NULL AND state = 'Running' AND planned_end_at + suspended_for <= now()
    ORDER BY job_id
    ON CONFLICT DO NOTHING RETURNING job_id
    """
)
# Who waits for an interactive job holds the lock that is named by it.  Only rows of which that has changed are written.
_SEE_CLIENTS = text(
    """
    UPDATE terminals t SET unattended_since = CASE WHEN t.unattended_since IS NULL THEN now() END
    FROM jobs j LEFT JOIN (
        SELECT DISTINCT (classid::bigint << 32 | objid::bigint) - :base AS job_id FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) attended USING (job_id)
    WHERE j.job_id = t.job_id AND j.stopped_at IS NULL AND j.state IN ('Waiting', 'Hold', 'toLaunch', 'Launching')
      AND (attended.job_id IS NULL) = (t.unattended_since IS NULL)
    """
)
_DESERTED = text(
    """
    INSERT INTO frag_jobs (job_id, cause, asked_by)
    SELECT j.job_id, 'killed', 'sarko' FROM terminals t JOIN jobs j USING (job_id)
    WHERE j.stopped_at IS NULL AND j.state IN ('Waiting', 'Hold') AND t.unattended_since + :within <= now()
    ORDER BY j.job_id
    ON CONFLICT DO NOTHING RETURNING job_id
    """
)
_CHECKPOINT = text(
    """
    INSERT INTO orders (kind, job_id, attempt, signal, deadline)
    SELECT 'checkpoint', j.job_id, j.attempt, r.checkpoint_signal, now() + :within
    FROM jobs j JOIN job_requests r USING (job_request_id)
    WHERE j.stopped_at IS NULL AND j.state = 'Running'
      AND j.planned_end_at + j.suspended_for - r.checkpoint <= now()
      AND NOT EXISTS (SELECT FROM frag_jobs f WHERE f.job_id = j.job_id)
      -- One that its owner asked for earlier does not stand for this one.
      AND NOT EXISTS (SELECT FROM orders o WHERE o.job_id = j.job_id AND o.kind = 'checkpoint'
                      AND o.asked_at >= j.planned_end_at + j.suspended_for - r.checkpoint)
    ORDER BY j.job_id
    ON CONFLICT (job_id, kind) WHERE done_at IS NULL AND job_id IS NOT NULL DO NOTHING RETURNING job_id
    """
)


def any_open(conn: Connection) -> bool:
    """Whether a wish is due that nobody has acted on, or a job must follow its container."""
    return bool(conn.execute(_ANY_OPEN).scalar_one())


def any_came_due(conn: Connection) -> bool:
    """Whether a wish is due that was left alone for a while, so that nobody was told of it."""
    return bool(conn.execute(_ANY_CAME_DUE).scalar_one())


def follow_containers(conn: Connection) -> list[JobId]:
    """Wish the end of the jobs inside containers that end or are to end; those of which nobody had wished it."""
    followed: list[JobId] = []
    # A container may lie in another.
    while found := conn.execute(_FOLLOW).scalars().all():
        followed += found
    return _ids(followed)


def withdraw(conn: Connection, job_ids: Collection[JobId]) -> dict[JobId, JobId]:
    """Let those of the jobs live that were to make room, but not yet, for jobs that are over; which these were."""
    found = conn.execute(_WITHDRAW, {"jobs": list(job_ids)}).all()
    return {JobId(job_id): JobId(for_job) for job_id, for_job in found}


def open_wishes(conn: Connection) -> list[Wish]:
    """The wishes to act on, with their jobs; both stay locked until the transaction ends."""
    job_ids = list(conn.execute(_LOCK_JOBS).scalars())
    found = conn.execute(_OPEN, {"jobs": job_ids})
    return [Wish(job, FragState(state), EndCause(cause), by, JobState(of)) for job, state, cause, by, of in found]


def order(conn: Connection, job_ids: Collection[JobId], *, within: timedelta) -> None:
    """Order the nodes of the jobs to kill them, as strongly as each wish says."""
    if job_ids:
        conn.execute(_ORDER, {"jobs": list(job_ids), "within": within})


def arm(conn: Connection, job_ids: Collection[JobId], *, soft: timedelta, hard: timedelta, kill: timedelta) -> None:
    """Give the jobs their time to end: another round of each wish has begun.

    ``deadline`` becomes the date by which the last means will have been used.
    """
    if job_ids:
        conn.execute(_ARM, {"jobs": list(job_ids), "soft": soft, "hard": hard, "kill": kill})


def close(conn: Connection, job_ids: Collection[JobId]) -> None:
    """The wishes are fulfilled."""
    if job_ids:
        conn.execute(_CLOSE, {"jobs": list(job_ids)})


def close_ended(conn: Connection) -> int:
    """Close the wishes whose jobs are over; how many they were."""
    return conn.execute(_CLOSE_ENDED).rowcount


def repeat(conn: Connection, *, soft: timedelta, hard: timedelta) -> list[JobId]:
    """Open the wishes again whose jobs have let their time pass."""
    return _ids(conn.execute(_REPEAT, {"soft": soft, "hard": hard}).scalars().all())


def overrun(conn: Connection) -> list[JobId]:
    """Wish the end of the jobs whose walltime has passed; those that were not to die already."""
    return _ids(conn.execute(_OVERRUN).scalars().all())


def deserted(conn: Connection, *, within: timedelta) -> list[JobId]:
    """Wish the end of interactive jobs for which nobody has waited for so long; those that were not to die already."""
    conn.execute(_SEE_CLIENTS, {"base": CLIENT_LOCKS})
    return _ids(conn.execute(_DESERTED, {"within": within}).scalars().all())


def checkpoint_due(conn: Connection, *, within: timedelta) -> list[JobId]:
    """Order the checkpoints that jobs wanted before their end, each once."""
    return _ids(conn.execute(_CHECKPOINT, {"within": within}).scalars().all())


def _ids(found: Sequence[int]) -> list[JobId]:
    return [JobId(job_id) for job_id in sorted(found)]
