"""Advance reservations, written down: accepted, refused, begun.

Who asked for one waits for the answer on the channel of its request; the channel only
says that there is something to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg2 import errors as pg_errors
from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection

from oarpy.automata.job import JobEvent
from oarpy.database import jobs
from oarpy.database.connection import as_many
from oarpy.database.tables import jobs as jobs_table
from oarpy.database.tables import reservations
from oarpy.database.wake import Reader, wake, wake_channels
from oarpy.model.ranges import parsed_ranges, written_ranges
from oarpy.model.states import EndCause, JobId
from oarpy.scheduling.plan import Begin, Grant
from oarpy.scheduling.snapshot import Reservation

# Rows of jobs that have begun and came back have the resources they began on, and are as good as others.
_RESERVED = text(
    """
    SELECT j.job_id, j.queue_name, r.alternative, floor(extract(epoch FROM lower(r.period)))::bigint,
        ceil(extract(epoch FROM upper(r.period)))::bigint, r.resources::text, j.job_user, j.project,
        COALESCE(j.job_name, ''), j.types, j.state = 'Hold', r.space
    FROM jobs j JOIN reservations r USING (job_id)
    WHERE j.stopped_at IS NULL AND j.reservation = 'Scheduled' AND j.state IN ('Waiting', 'Hold')
    ORDER BY j.job_id
    """
)
_RESERVE = text(
    """
    INSERT INTO reservations (job_id, alternative, space, resources, period)
    SELECT g.job_id, g.alternative, g.space, g.resources::int4multirange,
        tstzrange(to_timestamp(g.start_s), to_timestamp(g.start_s + g.walltime_s))
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:alternatives AS smallint[]), CAST(:resources AS text[]),
                CAST(:starts AS bigint[]), CAST(:walltimes AS bigint[]), CAST(:spaces AS bigint[]))
        AS g(job_id, alternative, resources, start_s, walltime_s, space)
    """
)
# What it does not begin on is anybody's from now on.
_BEGUN = text(
    """
    UPDATE reservations r SET begun = true, resources = b.resources::int4multirange
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:resources AS text[])) AS b(job_id, resources)
    WHERE r.job_id = b.job_id
    """
)
_CHANNELS = text(
    """
    SELECT 'oar_answer_' || replace(q.key::text, '-', '')
    FROM jobs j JOIN job_requests r USING (job_request_id) JOIN requests q USING (request_id)
    WHERE j.job_id = ANY(CAST(:jobs AS bigint[]))
    """
)
_HOOK = text(
    """
    INSERT INTO notifications (job_id, tag, method, target, login, comment)
    SELECT job_id, :tag, 'hook', :program, 'oar', :comment FROM unnest(CAST(:jobs AS bigint[])) AS job_id
    """
)
_WAITING_OF = text(
    "SELECT count(*) FROM jobs WHERE stopped_at IS NULL AND reservation <> 'None' AND job_user = :login "
    "AND state IN ('Waiting', 'Hold', 'toAckReservation')"
)


def _own(expression: Any) -> Any:
    """``expression`` over the reservation of the job of a row."""
    return (
        select(expression).where(reservations.c.job_id == jobs_table.c.job_id).correlate(jobs_table).scalar_subquery()
    )


_PERIOD = reservations.c.period
_GRANTED = {
    "not_before": _own(func.lower(_PERIOD)),
    "alternative": _own(reservations.c.alternative),
    "walltime": _own(func.upper(_PERIOD) - func.lower(_PERIOD)),
    "reservation": "Scheduled",
}


def reserved(conn: Connection) -> tuple[Reservation, ...]:
    """The accepted reservations whose jobs have not started."""
    return tuple(
        Reservation(
            job_id=job_id,
            queue=queue,
            alternative=alternative,
            start_s=start_s,
            end_s=end_s,
            resources=parsed_ranges(resources),
            user=user,
            project=project,
            name=name,
            types=tuple(types),
            besteffort="besteffort" in types,
            on_hold=on_hold,
            space=space,
        )
        for (
            job_id,
            queue,
            alternative,
            start_s,
            end_s,
            resources,
            user,
            project,
            name,
            types,
            on_hold,
            space,
        ) in conn.execute(_RESERVED)
    )


def grant(conn: Connection, grants: Sequence[Grant]) -> list[JobId]:
    """Accept reservations; those that were.

    A job that no longer waits is left out, and so is one whose resources somebody else
    has reserved meanwhile: it is judged again.
    """
    return as_many(conn, grants, _grant_all, (pg_errors.ExclusionViolation,))


def _grant_all(conn: Connection, grants: Sequence[Grant]) -> list[JobId]:
    granted = jobs.transition(conn, [one.job_id for one in grants], JobEvent.RESERVATION_GRANTED)
    waited = set(granted)
    rows = [one for one in grants if one.job_id in waited]
    columns = {
        "jobs": [one.job_id for one in rows],
        "alternatives": [one.alternative for one in rows],
        "resources": [written_ranges(one.resources) for one in rows],
        "starts": [one.start_s for one in rows],
        "walltimes": [one.walltime_s for one in rows],
        "spaces": [one.space for one in rows],
    }
    conn.execute(_RESERVE, columns)
    # The answer is in the tables, so nobody's acknowledgement has to be waited for.
    jobs.transition(conn, granted, JobEvent.ACKNOWLEDGED, values=_GRANTED)
    return granted


def refuse(conn: Connection, job_ids: Sequence[JobId], sentence: str) -> list[JobId]:
    """Refuse reservations for one reason; those that still waited for their answer."""
    refused = jobs.transition(conn, job_ids, JobEvent.RESERVATION_REFUSED)
    values = {"message": sentence, "end_cause": EndCause.RESERVATION}
    return jobs.transition(conn, refused, JobEvent.FAILED, values=values)


def begin(conn: Connection, begins: Sequence[Begin]) -> None:
    """Jobs have been given what was reserved for them, as far as it is there."""
    if begins:
        resources = [written_ranges(one.start.resources) for one in begins]
        conn.execute(_BEGUN, {"jobs": [one.job_id for one in begins], "resources": resources})


def tell(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Wake those who wait for the answer about these jobs."""
    if job_ids:
        wake_channels(conn, list(conn.execute(_CHANNELS, {"jobs": list(job_ids)}).scalars()))


def hook(conn: Connection, program: str, job_ids: Sequence[JobId], *, accepted: bool) -> None:
    """Have judas run ``program`` for each job with its id and 1 or 0, as the account of the server."""
    if job_ids:
        tag = "GRANTED" if accepted else "REFUSED"
        values = {"program": program, "tag": tag, "comment": str(int(accepted)), "jobs": list(job_ids)}
        conn.execute(_HOOK, values)
        wake(conn, Reader.JUDAS)


def waiting_of(conn: Connection, login: str) -> int:
    """How many reservations of ``login`` wait for their answer or their start."""
    return int(conn.execute(_WAITING_OF, {"login": login}).scalar_one())
