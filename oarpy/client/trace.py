"""What ended jobs were, as traces of workloads tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from oarpy.client.connection import Connection


class Traced(NamedTuple):
    """A job that is over; instants are seconds since the epoch, ``cores`` counts resources of type default.

    ``cpu_s`` is the CPU time of its processes on all of them, where it is known.
    """

    job_id: int
    submitted_s: int
    started_s: int | None
    stopped_s: int
    cores: int | None
    walltime_s: int | None
    state: str
    exit_code: int | None
    end_cause: str | None
    user: str
    project: str
    queue: str
    command: str
    after: int | None
    cpu_s: float | None


class Span(NamedTuple):
    """The ids of the first and the last ended job, how many there are, and between which instants they lived."""

    first: int
    last: int
    jobs: int
    begin_s: int
    end_s: int


_OVER = "stopped_at IS NOT NULL AND job_id BETWEEN %s AND %s"


def span(conn: Connection, first: int, last: int) -> Span | None:
    """Of the ended jobs with ids from ``first`` to ``last``; None when there are none."""
    rows = conn.rows(
        f"""
        SELECT min(job_id), max(job_id), count(*), floor(extract(epoch FROM min(submitted_at)))::bigint,
            ceil(extract(epoch FROM max(stopped_at)))::bigint
        FROM oar.visible_jobs WHERE {_OVER}
        """,
        (first, last),
    )
    return Span(*rows[0]) if rows[0][2] else None


def machine(conn: Connection) -> tuple[int, int]:
    """How many hosts, and resources of type default, there are that are not Dead."""
    rows = conn.rows(
        "SELECT count(DISTINCT network_address), count(*) FROM oar.visible_resources"
        " WHERE type = 'default' AND state <> 'Dead'"
    )
    hosts, cores = rows[0]
    return int(hosts), int(cores)


def jobs(conn: Connection, first: int, last: int, chunk: int) -> Iterator[Traced]:
    """The ended jobs with ids from ``first`` to ``last``, ascending, ``chunk`` ids read at a time."""
    for begin in range(first, last + 1, chunk):
        rows = conn.rows(
            f"""
            WITH others AS (
                SELECT COALESCE(range_agg(int4range(resource_id, resource_id + 1)), '{{}}') AS ids
                FROM oar.visible_resources WHERE type <> 'default'
            )
            SELECT job_id, floor(extract(epoch FROM submitted_at))::bigint,
                floor(extract(epoch FROM started_at))::bigint, floor(extract(epoch FROM stopped_at))::bigint,
                (SELECT sum(upper(u.span) - lower(u.span))::integer
                 FROM unnest(assigned_resources - others.ids) AS u(span)),
                ceil(extract(epoch FROM walltime))::integer, state, exit_code, end_cause, job_user, project, queue_name,
                command, (SELECT min(job_id_required) FROM oar.visible_dependencies d WHERE d.job_id = v.job_id),
                extract(epoch FROM cpu_used)::float8
            FROM oar.visible_jobs v, others WHERE {_OVER} ORDER BY job_id
            """,
            (begin, min(last, begin + chunk - 1)),
        )
        yield from (Traced(*row) for row in rows)
