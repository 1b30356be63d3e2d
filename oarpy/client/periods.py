"""What held resources, and what was out of order, between two dates, past or planned."""

from __future__ import annotations

from typing import Any, NamedTuple

from oarpy.client.connection import Connection
from oarpy.model.columns import Column, Kind
from oarpy.model.ranges import parsed_ranges


class Bar(NamedTuple):
    """A job and what it holds from ``start_s`` to ``stop_s``, which is planned where it has not come."""

    job_id: int
    name: str | None
    user: str
    project: str
    queue: str
    state: str
    types: list[str]
    job_type: str
    command: str
    properties: str
    directory: str
    submitted_s: int
    walltime_s: int | None
    start_s: int
    stop_s: int
    resources: tuple[tuple[int, int], ...]


# Jobs that ended before the period are kept out by their index; a plan has its walltime in the request.
# There is one bar for a job.  Of one that gave something back before its end it is what it still holds, and
# afterwards what it held until then: the rest of it was on hosts that took no other job.
_BARS = """
    SELECT j.job_id, j.job_name, j.job_user, j.project, j.queue_name, j.state, j.types, j.job_type, j.command,
        coalesce(j.properties, ''), j.launching_directory, extract(epoch FROM j.submitted_at)::bigint,
        extract(epoch FROM j.walltime)::integer, extract(epoch FROM lower(a.held))::bigint,
        extract(epoch FROM CASE WHEN upper_inf(a.held) THEN greatest(j.planned_end_at, now())
            ELSE coalesce(a.returned_at, upper(a.held)) END)::bigint,
        (CASE WHEN upper_inf(a.held) AND a.returned IS NOT NULL THEN a.resources - a.returned
            ELSE a.resources END)::text
    FROM oar.visible_jobs j JOIN oar.visible_allocations a USING (job_id)
    WHERE (j.stopped_at IS NULL OR j.stopped_at > to_timestamp(%(begin)s))
      AND a.held && tstzrange(to_timestamp(%(begin)s), to_timestamp(%(end)s))
      AND coalesce(upper(a.held), greatest(j.planned_end_at, now())) > to_timestamp(%(begin)s)
    UNION ALL
    SELECT job_id, job_name, job_user, project, queue_name, state, types, job_type, command, coalesce(properties, ''),
        launching_directory, extract(epoch FROM submitted_at)::bigint, length_s, extract(epoch FROM start_at)::bigint,
        extract(epoch FROM start_at)::bigint + length_s, resources::text
    FROM (SELECT v.*, coalesce(predicted_start_at, not_before) AS start_at,
            coalesce(reserved_resources, predicted_resources) AS resources,
            coalesce(extract(epoch FROM walltime)::integer,
                (request -> coalesce(alternative, 0)::integer ->> 1)::integer) AS length_s
        FROM oar.visible_jobs v
        WHERE stopped_at IS NULL AND state = 'Waiting'
          AND (predicted_start_at IS NOT NULL OR reserved_resources IS NOT NULL)) AS planned
    WHERE resources IS NOT NULL AND start_at < to_timestamp(%(end)s)
      AND start_at + make_interval(secs => length_s) > to_timestamp(%(begin)s)
    ORDER BY 1
"""
_OUTAGES = """
    SELECT resource_id, extract(epoch FROM date_start)::bigint, extract(epoch FROM date_stop)::bigint, value
    FROM oar.visible_resource_logs
    WHERE attribute = 'state' AND value <> 'Alive' AND date_start < to_timestamp(%(end)s)
      AND (date_stop IS NULL OR date_stop > to_timestamp(%(begin)s))
    ORDER BY resource_id, date_start
"""
_USED = """
    SELECT {key}, consumption_type, sum(consumption)::bigint, extract(epoch FROM min(window_start))::bigint,
        extract(epoch FROM max(window_stop))::bigint
    FROM oar.visible_accounting
    WHERE window_start < to_timestamp(%s) AND window_stop > to_timestamp(%s) AND {condition}
    GROUP BY 1, 2 ORDER BY 1, 2
"""
_LAST_KARMA = """
    SELECT DISTINCT ON (project) project, last_karma FROM oar.visible_jobs
    WHERE job_user = %s AND last_karma IS NOT NULL AND started_at < to_timestamp(%s)
    ORDER BY project, started_at DESC
"""
#: What ``--sql`` may name beside ``--accounting``.
ACCOUNTING_COLUMNS = {
    "accounting_user": Column("accounting_user"),
    "user": Column("accounting_user"),
    "accounting_project": Column("accounting_project"),
    "project": Column("accounting_project"),
    "queue_name": Column("queue_name"),
    "queue": Column("queue_name"),
    "consumption_type": Column("consumption_type", Kind.WORD, ("ASKED", "USED")),
}


class Use(NamedTuple):
    """Resource-seconds, and the windows that they were counted in."""

    asked: int = 0
    used: int = 0
    begin_s: int | None = None
    end_s: int | None = None


def bars(conn: Connection, begin_s: int, end_s: int) -> list[Bar]:
    """What jobs held, hold and are planned to hold within the period, ascending by job."""
    rows = conn.rows(_BARS, {"begin": begin_s, "end": end_s})
    return [Bar._make((*row[:-1], parsed_ranges(row[-1]))) for row in rows]


def outages(conn: Connection, begin_s: int, end_s: int) -> dict[str, list[list[Any]]]:
    """For each resource that was not Alive all the time: from when, until when (None: still), in which state."""
    found: dict[str, list[list[Any]]] = {}
    for resource_id, *outage in conn.rows(_OUTAGES, {"begin": begin_s, "end": end_s}):
        found.setdefault(str(resource_id), []).append(outage)
    return found


def used(
    conn: Connection, key: str, begin_s: int, end_s: int, user: str | None, where: str, texts: list[str]
) -> dict[str, Use]:
    """What was asked for and used in windows that touch the period, by ``key``: a column; ``where`` is a condition."""
    condition = where if user is None else f"accounting_user = %s AND ({where})"
    parameters = [end_s, begin_s, *([] if user is None else [user]), *texts]
    found: dict[str, Use] = {}
    for name, kind, amount, first_s, last_s in conn.rows(_USED.format(key=key, condition=condition), parameters):
        use = found.get(name, Use(begin_s=first_s, end_s=last_s))
        use = use._replace(begin_s=min(use.begin_s or first_s, first_s), end_s=max(use.end_s or last_s, last_s))
        found[name] = use._replace(asked=amount) if kind == "ASKED" else use._replace(used=amount)
    return found


def last_karmas(conn: Connection, user: str, until_s: int) -> dict[str, float]:
    """By project, the karma with which the last job of ``user`` started."""
    return dict(conn.rows(_LAST_KARMA, (user, until_s)))
