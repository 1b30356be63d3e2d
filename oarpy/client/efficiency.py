"""What ended jobs used of what they held."""

from __future__ import annotations

from typing import NamedTuple

from oarpy.client.connection import Connection
from oarpy.client.selection import Selection, condition

#: The type of the resources that are memory, one unit of quantity a MiB.
MEMORY = "mem_mib"


class Efficiency(NamedTuple):
    """A job, or an array as one: sums over its ended jobs, and the highest peak among them.

    ``held_s`` is what a job's cores could have given: their number on its first host
    times the time from its start to its end.  What a host did not tell is None, and such
    jobs count neither among the ``measured`` nor in the sums.
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


# Cores are the resources of type default: of their hosts only the first tells what was used.
_EFFICIENCY = """
    WITH chosen AS (
        SELECT * FROM oar.visible_jobs WHERE {condition} AND stopped_at IS NOT NULL AND started_at IS NOT NULL
    ), held AS (
        SELECT c.job_id, count(*) FILTER (WHERE r.type = 'default' AND r.network_address = c.head) AS cores,
            sum(r.quantity) FILTER (WHERE r.type = %s AND r.network_address = c.head) AS memory_mib,
            count(DISTINCT r.network_address) FILTER (WHERE r.type = 'default') AS hosts
        FROM chosen c, unnest(c.assigned_resources) AS u(span),
            generate_series(lower(u.span), upper(u.span) - 1) AS taken(resource_id)
        JOIN oar.visible_resources r USING (resource_id)
        GROUP BY c.job_id
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
