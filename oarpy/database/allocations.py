"""What jobs hold: from the decision until their processes are known to be gone."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import JobId

# Inclusive upper bound: a period that is closed at once is still not empty.
_CLOSE = text(
    "UPDATE allocations SET held = tstzrange(lower(held), greatest(lower(held), now()), '[]') "
    "WHERE upper_inf(held) AND job_id = ANY(CAST(:jobs AS bigint[])) RETURNING space"
)
# What belongs to no host is held for those that remain, as somebody may use it from there; what jobs in a
# container hold, it holds, too.
_GIVE_BACK = text(
    """
    UPDATE allocations a SET resources = a.resources - done.ids, returned = COALESCE(a.returned, '{}') + done.ids,
        returned_at = COALESCE(a.returned_at, now())
    FROM (SELECT j.job_id, range_agg(int4range(r.resource_id, r.resource_id, '[]')) - COALESCE((
              SELECT range_agg(i.resources) FROM allocations i
              WHERE i.space = j.job_id AND i.space <> 0 AND upper_inf(i.held)), '{}') AS ids
          FROM jobs j JOIN allocations h ON h.job_id = j.job_id AND upper_inf(h.held)
              JOIN resources r ON h.resources @> r.resource_id
                  AND (r.network_address = j.head OR r.network_address = ANY(j.over_hosts))
          WHERE j.job_id = ANY(CAST(:jobs AS bigint[])) AND j.state = 'Finishing' GROUP BY j.job_id) AS done
    WHERE a.job_id = done.job_id AND upper_inf(a.held) AND a.resources && done.ids
        AND NOT isempty(a.resources - done.ids)
    RETURNING a.job_id
    """
)
_DROP = text("DELETE FROM allocations WHERE upper_inf(held) AND job_id = ANY(CAST(:jobs AS bigint[]))")


def close(conn: Connection, job_ids: Sequence[JobId]) -> bool:
    """Give back what ``job_ids`` hold; whether any of them lay in a container, which may wait for that.

    Only with the proof that nothing of them runs.
    """
    return bool(job_ids) and any(conn.execute(_CLOSE, {"jobs": list(job_ids)}).scalars().all())


def give_back(conn: Connection, job_ids: Sequence[JobId]) -> list[JobId]:
    """Give back what jobs in Finishing hold of hosts on which they are over; those that held any.

    Of their other hosts one at least remains.
    """
    return list(conn.execute(_GIVE_BACK, {"jobs": list(job_ids)}).scalars()) if job_ids else []


def drop(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Forget allocations that nothing was ever launched on."""
    if job_ids:
        conn.execute(_DROP, {"jobs": list(job_ids)})
