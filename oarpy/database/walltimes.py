"""Wishes of running jobs for another walltime, and what became of them (``walltime_changes``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import JobId

_FOUND = text(
    """
    SELECT j.job_user, j.queue_name, j.state, j.types, j.walltime, now() - j.started_at - j.suspended_for AS age,
        COALESCE(c.granted, '0'), COALESCE(c.pending, '0'), COALESCE(c.granted_with_force, '0'),
        COALESCE(c.granted_with_delay_next_jobs, '0'), COALESCE(c.granted_with_whole, '0')
    FROM jobs j LEFT JOIN walltime_changes c USING (job_id) WHERE j.job_id = :job FOR NO KEY UPDATE OF j
    """
)
_WISH = text(
    """
    INSERT INTO walltime_changes (job_id, pending, force, delay_next_jobs, whole, asked_by, expires_at)
    VALUES (:job, :pending, :force, :delay, :whole, :asked_by, now() + :timeout)
    ON CONFLICT (job_id) DO UPDATE SET pending = EXCLUDED.pending, force = EXCLUDED.force,
        delay_next_jobs = EXCLUDED.delay_next_jobs, whole = EXCLUDED.whole, asked_by = EXCLUDED.asked_by,
        asked_at = now(), expires_at = EXCLUDED.expires_at
    """
)
_WITHDRAW = text(
    """
    UPDATE walltime_changes SET pending = '0', expires_at = NULL
    WHERE job_id = :job AND pending <> '0' RETURNING pending
    """
)
_EXPIRE = text(
    """
    UPDATE walltime_changes SET pending = '0', expires_at = NULL
    WHERE pending <> '0' AND expires_at <= now() RETURNING job_id
    """
)
# With force nothing but other jobs stands in the way.
_PENDING = text(
    """
    SELECT c.job_id, extract(epoch FROM c.pending)::bigint, c.force, c.whole, c.delay_next_jobs,
        extract(epoch FROM j.planned_end_at + j.suspended_for - now())::bigint, j.queue_name,
        floor(extract(epoch FROM j.deadline))::bigint
    FROM walltime_changes c JOIN jobs j USING (job_id)
    WHERE c.pending > '0' AND (c.expires_at > now()) IS NOT FALSE AND j.stopped_at IS NULL AND j.state = 'Running'
    ORDER BY c.asked_at, c.job_id
    """
)
_GRANT = text(
    """
    WITH given AS (
        -- Of seconds alone: a negative interval of Python's has days and hours that go different ways.
        SELECT job_id, make_interval(secs => extra_s) AS extra
        FROM unnest(CAST(:jobs AS bigint[]), CAST(:extras AS bigint[])) AS g(job_id, extra_s)
    ), longer AS (
        UPDATE jobs j SET walltime = j.walltime + g.extra, planned_end_at = j.planned_end_at + g.extra
        FROM given g WHERE j.job_id = g.job_id AND j.state = 'Running' AND j.walltime + g.extra > interval '0'
        RETURNING j.job_id, j.attempt, j.walltime, g.extra
    ), told AS (
        INSERT INTO orders (kind, job_id, attempt, walltime, deadline)
        SELECT 'walltime', job_id, attempt, walltime, now() + :within FROM longer
        ON CONFLICT (job_id, kind) WHERE done_at IS NULL AND job_id IS NOT NULL
        DO UPDATE SET walltime = EXCLUDED.walltime, attempt = EXCLUDED.attempt, deadline = EXCLUDED.deadline,
            begun_at = NULL
    )
    INSERT INTO walltime_changes AS c (job_id, granted, asked_by)
    SELECT job_id, extra, :asked_by FROM longer
    ON CONFLICT (job_id) DO UPDATE SET granted = c.granted + EXCLUDED.granted,
        pending = greatest(c.pending - greatest(EXCLUDED.granted, '0'), '0'),
        granted_with_force = c.granted_with_force + CASE WHEN c.force THEN EXCLUDED.granted ELSE '0' END,
        granted_with_delay_next_jobs = c.granted_with_delay_next_jobs
            + CASE WHEN c.delay_next_jobs THEN EXCLUDED.granted ELSE '0' END,
        granted_with_whole = c.granted_with_whole + CASE WHEN c.whole THEN EXCLUDED.granted ELSE '0' END
    RETURNING c.job_id
    """
)


class Running(NamedTuple):
    """A job and what was changed of its walltime."""

    user: str
    queue: str
    state: str
    types: tuple[str, ...]
    walltime: timedelta | None
    age: timedelta | None
    granted: timedelta
    pending: timedelta
    granted_with_force: timedelta
    granted_with_delay: timedelta
    granted_with_whole: timedelta


class Pending(NamedTuple):
    """A wish for ``extra_s`` more; the job ends in ``left_s`` as things are."""

    job_id: JobId
    extra_s: int
    force: bool
    whole: bool
    delays_others: bool
    left_s: int
    queue: str
    deadline_s: int | None


def look(conn: Connection, job_id: JobId) -> Running | None:
    """What is known of a job, which nobody else changes until the transaction ends; None when there is none."""
    row = conn.execute(_FOUND, {"job": job_id}).one_or_none()
    if row is None:
        return None
    user, queue, state, types, *rest = row
    return Running(user, queue, state, tuple(types), *rest)


def wish(
    conn: Connection,
    job_id: JobId,
    pending: timedelta,
    asked_by: str,
    *,
    force: bool,
    delay: bool,
    whole: bool,
    timeout: timedelta | None,
) -> None:
    """Let a job wait for more walltime, in place of what it waited for before."""
    values = {"job": job_id, "pending": pending, "asked_by": asked_by, "timeout": timeout}
    conn.execute(_WISH, values | {"force": force, "delay": delay, "whole": whole})


def withdraw(conn: Connection, job_id: JobId) -> bool:
    """Take back what a job waits for; whether there was anything."""
    return conn.execute(_WITHDRAW, {"job": job_id}).one_or_none() is not None


def expire(conn: Connection) -> list[JobId]:
    """Take back what was not granted in time; whose it was."""
    return list(conn.execute(_EXPIRE).scalars())


def pending(conn: Connection) -> list[Pending]:
    """What running jobs wait for, the first that asked first."""
    return [Pending(*row) for row in conn.execute(_PENDING)]


def grant(
    conn: Connection, extras: Iterable[tuple[JobId, timedelta]], asked_by: str, within: timedelta
) -> Sequence[JobId]:
    """Change the walltimes of running jobs, and order their nodes to heed it; the jobs that ran still."""
    given = list(extras)
    if not given:
        return []
    values = {"jobs": [job_id for job_id, _ in given], "extras": [int(extra.total_seconds()) for _, extra in given]}
    return list(conn.execute(_GRANT, values | {"asked_by": asked_by, "within": within}).scalars())
