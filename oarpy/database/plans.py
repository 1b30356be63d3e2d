"""What a pass decided, written down: allocations, wishes to kill, predictions.

Every function looks again at what it writes about: a plan is made of facts that
may have changed since they were read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from psycopg2 import errors as pg_errors
from sqlalchemy import BigInteger, Interval, SmallInteger, cast, func, text
from sqlalchemy.engine import Connection

from oarpy.automata.job import JobEvent
from oarpy.database import jobs, selections, tables
from oarpy.database.connection import as_many
from oarpy.database.jobs import by_job, of_each
from oarpy.model.job_message import size_of
from oarpy.model.ranges import parsed_ranges, written_ranges
from oarpy.model.states import EndCause, JobId, OrderKind
from oarpy.scheduling.plan import Grant, Kill, Start
from oarpy.scheduling.snapshot import Promise

_LOCK_TOPOLOGY = text("SELECT version FROM topology FOR SHARE")
_ALLOCATE = text(
    """
    INSERT INTO allocations (job_id, attempt, resources, held, space, share, placeholder, kin)
    SELECT j.job_id, j.attempt, d.resources::int4multirange, tstzrange(now(), NULL), d.space,
        COALESCE(-1 - (hashtextextended(COALESCE(d.placeholder, d.pool), 0) & 9223372036854775807), j.job_id),
        CASE WHEN d.placeholder IS NOT NULL THEN d.pool IS NOT DISTINCT FROM d.placeholder END,
        CASE WHEN d.placeholder IS NULL THEN NULL
            WHEN d.pool IS NULL OR d.pool = d.placeholder THEN j.job_id
            ELSE -1 - (hashtextextended(d.pool, 0) & 9223372036854775807) END
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:resources AS text[]), CAST(:spaces AS bigint[]),
            CAST(:pools AS text[]), CAST(:placeholders AS text[]))
        AS d(job_id, resources, space, pool, placeholder) JOIN jobs j USING (job_id)
    """
)
# Refused where somebody else has come to use it, it is left to the next pass.
_GIVE_BACK = text(
    """
    WITH resuming AS MATERIALIZED (
        SELECT job_id FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND state = 'Resuming'
        ORDER BY job_id FOR NO KEY UPDATE
    )
    UPDATE allocations a SET suspended = false FROM resuming r
    WHERE a.job_id = r.job_id AND upper_inf(a.held) AND a.suspended
    RETURNING a.job_id
    """
)
_KILL = text(
    """
    WITH wished AS (
        INSERT INTO frag_jobs (job_id, cause, asked_by, for_job, due_at)
        SELECT k.job_id, :cause, 'scheduler', k.for_job,
            -- Beyond its walltime a wish that is not due would keep sarko's from being made.
            CASE WHEN j.state = 'Running' AND r.checkpoint IS NOT NULL
                THEN greatest(now(), least(now() + r.checkpoint, j.planned_end_at + j.suspended_for)) ELSE now() END
        FROM unnest(CAST(:victims AS bigint[]), CAST(:for_jobs AS bigint[])) AS k(job_id, for_job)
        JOIN jobs j USING (job_id) JOIN job_requests r USING (job_request_id) WHERE j.stopped_at IS NULL
        ON CONFLICT (job_id) DO NOTHING RETURNING job_id, for_job, due_at > now() AS saves
    ), told AS (
        INSERT INTO orders (kind, job_id, attempt, signal, deadline)
        SELECT 'checkpoint', w.job_id, j.attempt, r.checkpoint_signal, now() + :within
        FROM wished w JOIN jobs j USING (job_id) JOIN job_requests r USING (job_request_id) WHERE w.saves
        ON CONFLICT (job_id, kind) WHERE done_at IS NULL AND job_id IS NOT NULL DO NOTHING
    )
    SELECT job_id, for_job, saves FROM wished ORDER BY job_id
    """
)
# What was said before is compared here once more: other processes forget predictions too.
_PREDICT = text(
    """
    WITH said AS (
        SELECT p.job_id, to_timestamp(p.start_s) AS start_at, p.alternative, p.resources::int4multirange, p.code,
            p.numbers, p.reason, p.request, j.submitted_at
        FROM jsonb_to_recordset(CAST(:predictions AS jsonb))
            AS p(job_id bigint, start_s bigint, alternative smallint, resources text, code text, numbers jsonb,
                 reason text, request bigint)
        JOIN jobs j USING (job_id) WHERE j.state = 'Waiting'
    ), written AS (
        INSERT INTO predictions (job_id, start_at, alternative, resources, code, numbers, reason, job_request_id)
        SELECT job_id, start_at, alternative, resources, code, numbers, reason, request FROM said
        ON CONFLICT (job_id) DO UPDATE SET start_at = EXCLUDED.start_at, alternative = EXCLUDED.alternative,
            resources = EXCLUDED.resources, code = EXCLUDED.code, numbers = EXCLUDED.numbers,
            reason = EXCLUDED.reason, job_request_id = EXCLUDED.job_request_id, written_at = now()
    )
    INSERT INTO prediction_log (job_id, kind, start_at)
    SELECT job_id, CASE WHEN submitted_at > now() - :at_submission THEN 'told' ELSE 'first' END::prediction_kind,
        start_at
    FROM said
    WHERE start_at IS NOT NULL AND NOT EXISTS (SELECT FROM prediction_log l WHERE l.job_id = said.job_id)
    """
)
_PRIORITIES = text(
    """
    WITH told AS (
        SELECT * FROM unnest(CAST(:jobs AS bigint[]), CAST(:priorities AS double precision[])) AS t(job_id, priority)
    ), changed AS (
        SELECT p.job_id, t.priority FROM predictions p LEFT JOIN told t USING (job_id)
        WHERE p.priority IS DISTINCT FROM t.priority
        ORDER BY p.job_id FOR UPDATE OF p
    )
    UPDATE predictions p SET priority = c.priority FROM changed c WHERE p.job_id = c.job_id
    """
)
_LOG_HOURLY = text(
    """
    INSERT INTO prediction_log (job_id, kind, start_at)
    SELECT job_id, 'hourly', start_at FROM predictions p
    WHERE start_at IS NOT NULL AND NOT EXISTS (
        SELECT FROM prediction_log l WHERE l.job_id = p.job_id AND l.said_at > now() - interval '1 hour')
    """
)
_SAID = text(
    """
    SELECT job_id, floor(extract(epoch FROM start_at))::bigint, alternative, resources::text, code, job_request_id
    FROM predictions
    """
)
_TOLD = text(
    """
    SELECT job_id, floor(extract(epoch FROM start_at))::bigint, alternative, resources::text FROM predictions
    WHERE start_at IS NOT NULL
    """
)
_FORGET = text("DELETE FROM predictions WHERE job_id = ANY(CAST(:jobs AS bigint[]))")
_FORGET_OTHERS = text(
    "DELETE FROM predictions p WHERE NOT EXISTS "
    "(SELECT FROM jobs j WHERE j.job_id = p.job_id AND j.stopped_at IS NULL AND j.state = 'Waiting')"
)
_REPORT = text(
    """
    UPDATE processes SET detail = detail || jsonb_build_object(
        'last_pass', CAST(:figures AS jsonb) || jsonb_build_object('at', now()))
    WHERE name = 'scheduler'
    """
)


_TELL_CHOSEN = text(
    """
    UPDATE jobs SET message = regexp_replace(message, '^R=[0-9]+,W=[0-9]+:[0-9]+:[0-9]+', size)
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:sizes AS text[])) AS chosen(job_id, size)
    WHERE jobs.job_id = chosen.job_id
    """
)

_WALLTIME = cast(of_each("walltimes"), Interval)
_CHOSEN = {
    "alternative": cast(of_each("alternatives"), SmallInteger),
    "walltime": _WALLTIME,
    "planned_end_at": func.now() + _WALLTIME,
}

#: Of a job whose request is still the one that it had in ``unedited``, or that has none there.
UNEDITED = func.coalesce(cast(of_each("requests"), BigInteger), tables.jobs.c.job_request_id) == (
    tables.jobs.c.job_request_id
)

#: Who submits a job and looks at it at once reads what is predicted within this time.
AT_SUBMISSION = timedelta(seconds=10)


class Said(NamedTuple):
    """A prediction as far as a change of it is worth writing; ``request_id`` is what the job asked for then."""

    start_s: int | None
    alternative: int | None
    resources: str | None
    code: str
    request_id: int | None = None


class Prediction(NamedTuple):
    """What is said of a waiting job: ``said`` and its explanation."""

    job_id: JobId
    said: Said
    numbers: Mapping[str, object]
    reason: str


def lock_topology(conn: Connection) -> int:
    """The version of the topology, which stays what it is until the transaction ends."""
    version: int = conn.execute(_LOCK_TOPOLOGY).scalar_one()
    return version


def allocate(conn: Connection, starts: Sequence[Start], asked: Mapping[JobId, int] | None = None) -> list[JobId]:
    """Give jobs the resources that were decided for them; those that got them.

    A job that no longer waits is left out, and one that was edited since: one whose request
    is not the one of ``asked``, where it has one.  So is one that would get what another
    holds: the database refuses its allocation, and it goes on waiting.
    """
    # A container that has ended meanwhile takes nobody in.
    refusals: tuple[type[Exception], ...] = (pg_errors.ExclusionViolation,)
    if any(start.space for start in starts):
        refusals += (pg_errors.CheckViolation,)
    return as_many(conn, starts, partial(_allocate_all, asked=asked or {}), refusals)


def tell_chosen(conn: Connection, chosen: Iterable[Start | Grant]) -> None:
    """Let the messages of these jobs say the size of the alternative that was chosen, where they say one."""
    sizes = {one.job_id: size_of(sum(end - begin for begin, end in one.resources), one.walltime_s) for one in chosen}
    if sizes:
        conn.execute(_TELL_CHOSEN, {"jobs": list(sizes), "sizes": list(sizes.values())})


def resume(conn: Connection, job_ids: Sequence[JobId], within: timedelta) -> list[JobId]:
    """Give suspended jobs back what they had lent and order their nodes to let them go on; those that got it.

    One whose resources somebody else has come to use stays Resuming.
    """
    resumed = as_many(conn, job_ids, _give_back, (pg_errors.ExclusionViolation,))
    selections.order(conn, resumed, OrderKind.RESUME, signal=None, within=within)
    return resumed


def _give_back(conn: Connection, job_ids: Sequence[JobId]) -> list[JobId]:
    return list(conn.execute(_GIVE_BACK, {"jobs": list(job_ids)}).scalars())


def _allocate_all(conn: Connection, starts: Sequence[Start], *, asked: Mapping[JobId, int]) -> list[JobId]:
    chosen = {start.job_id: start for start in starts}
    parameters = {
        "alternatives": by_job({start.job_id: start.alternative for start in starts}),
        "walltimes": by_job({start.job_id: f"{start.walltime_s} s" for start in starts}),
        **unedited(asked, chosen),
    }
    allocated = jobs.transition(
        conn, list(chosen), JobEvent.ALLOCATED, values=_CHOSEN, parameters=parameters, only=UNEDITED
    )
    if allocated:
        given = [chosen[job_id] for job_id in allocated]
        columns = {
            "jobs": allocated,
            "resources": [written_ranges(start.resources) for start in given],
            "spaces": [start.space for start in given],
            "pools": [start.sharing.joins for start in given],
            "placeholders": [start.sharing.placeholder for start in given],
        }
        conn.execute(_ALLOCATE, columns)
        forget(conn, allocated)
    return allocated


def unedited(asked: Mapping[JobId, int], job_ids: Iterable[JobId]) -> dict[str, Any]:
    """What ``UNEDITED`` binds: the requests that were decided on."""
    return {"requests": by_job({job_id: asked[job_id] for job_id in job_ids if job_id in asked})}


class Wished(NamedTuple):
    """That a besteffort job dies for another one; ``saves``: it is told first, and has time to save its work."""

    job_id: JobId
    for_job: JobId
    saves: bool


def kill(conn: Connection, kills: Sequence[Kill], *, within: timedelta) -> list[Wished]:
    """Ask the death of besteffort jobs; those of which nobody had asked it before.

    A node may take ``within`` to send one the signal that it wants before its end.
    """
    if not kills:
        return []
    wishes: dict[str, Any] = {
        "within": within,
        "cause": EndCause.BESTEFFORT.value,
        "victims": [one.job_id for one in kills],
        "for_jobs": [one.for_job for one in kills],
    }
    return [Wished(JobId(job_id), JobId(for_job), saves) for job_id, for_job, saves in conn.execute(_KILL, wishes)]


def said(conn: Connection) -> dict[JobId, Said]:
    """What stands in the tables about jobs that wait."""
    conn.execute(_FORGET_OTHERS)
    return {JobId(job_id): Said(*columns) for job_id, *columns in conn.execute(_SAID)}


def told(conn: Connection) -> dict[JobId, Promise]:
    """The places that were told to jobs; some of these may wait no longer."""
    return {
        JobId(job_id): Promise(start_s, alternative, parsed_ranges(resources))
        for job_id, start_s, alternative, resources in conn.execute(_TOLD).all()
    }


def predict(conn: Connection, predictions: Iterable[Prediction]) -> None:
    """Write what is said of waiting jobs; the first planned start of each also into the log, to be scored one day.

    There it is ``told`` when a person could read it as soon as they had submitted the
    job, and ``first`` when the job had none by then (it was held, waited for another, …).
    """
    rows = [
        {
            "job_id": one.job_id,
            "start_s": one.said.start_s,
            "alternative": one.said.alternative,
            "resources": one.said.resources,
            "code": one.said.code,
            "request": one.said.request_id,
            "numbers": one.numbers,
            "reason": one.reason,
        }
        for one in predictions
    ]
    if rows:
        conn.execute(_PREDICT, {"predictions": json.dumps(rows), "at_submission": AT_SUBMISSION})


def tell_priorities(conn: Connection, priorities: Mapping[JobId, float]) -> None:
    """Let people see these priorities of waiting jobs, and no others."""
    conn.execute(_PRIORITIES, {"jobs": list(priorities), "priorities": list(priorities.values())})


def log_hourly(conn: Connection) -> None:
    """Log the planned starts of which nothing was logged for an hour, whether they have changed or not."""
    conn.execute(_LOG_HOURLY)


def forget(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Jobs that wait no longer have no prediction."""
    if job_ids:
        conn.execute(_FORGET, {"jobs": list(job_ids)})


def report(conn: Connection, figures: Mapping[str, object]) -> None:
    """Tell people, through the table of processes, how the last pass went."""
    conn.execute(_REPORT, {"figures": json.dumps(figures)})
