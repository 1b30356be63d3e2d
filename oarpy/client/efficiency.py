"""What ended jobs used of what they held."""

from __future__ import annotations

from typing import NamedTuple

from oarpy.client.connection import Connection
from oarpy.client.selection import Selection, condition

#: The type of the resources that are memory, one unit of quantity a MiB.
MEMORY = "mem_mib"


class Efficiency(NamedTuple):
    """A job, or an array as one: sums over its ended jobs, and the highest peak among them.

    ``cpu_s`` is what its processes used on all its hosts, ``held_s`` what its cores could
    have given: their number times the time from its start to its end.  It is None where one
    of the hosts did not tell, and such jobs count neither among the ``measured`` nor in the
    sums.  ``peak_mib`` is the highest among its hosts, ``memory_mib`` what was asked for on
    the host where that was most.
    """

    array_id: int
    jobs: int
    measured: int
    user: str
    name: str | None
    cpu_s: float | None
    held_s: float | None
    elapsed_s: float
    walltime_s: float
    peak_mib: int | None
    memory_mib: int | None
    hosts: int


# Cores are the resources of type default.  A command that ran on the server used none of them.
_EFFICIENCY = """
    WITH chosen AS (
        SELECT * FROM oar.visible_jobs WHERE {condition} AND stopped_at IS NOT NULL AND started_at IS NOT NULL
    ), on_hosts AS (
        SELECT c.job_id, r.network_address = c.head AS is_head, count(*) FILTER (WHERE r.type = 'default') AS cores,
            sum(r.quantity) FILTER (WHERE r.type = %s) AS memory_mib
        FROM chosen c, unnest(c.assigned_resources) AS u(span),
            generate_series(lower(u.span), upper(u.span) - 1) AS taken(resource_id)
        JOIN oar.visible_resources r USING (resource_id)
        GROUP BY c.job_id, c.head, r.network_address
    ), held AS (
        SELECT job_id, CASE WHEN bool_or(is_head) THEN sum(cores) END AS cores,
            CASE WHEN bool_or(is_head) THEN max(memory_mib) END AS memory_mib,
            count(*) FILTER (WHERE cores > 0) AS hosts
        FROM on_hosts GROUP BY job_id
    )
    SELECT c.array_id, count(*), count(c.cpu_used), min(c.job_user), min(c.job_name),
        extract(epoch FROM sum(c.cpu_used))::float8,
        sum(extract(epoch FROM c.stopped_at - c.started_at - c.suspended_for) * h.cores)
            FILTER (WHERE c.cpu_used IS NOT NULL)::float8,
        sum(extract(epoch FROM c.stopped_at - c.started_at))::float8, sum(extract(epoch FROM c.walltime))::float8,
        max(c.peak_memory_mib), max(h.memory_mib)::bigint, coalesce(max(h.hosts), 0)
    FROM chosen c LEFT JOIN held h USING (job_id) GROUP BY c.array_id ORDER BY c.array_id
"""


def efficiency(conn: Connection, selection: Selection) -> list[Efficiency]:
    """For each array, or job that is alone, what its ended jobs used; of those that ran at all."""
    where, parameters = condition(selection)
    return [Efficiency(*row) for row in conn.rows(_EFFICIENCY.format(condition=where), [*parameters, MEMORY])]
