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
_DROP = text("DELETE FROM allocations WHERE upper_inf(held) AND job_id = ANY(CAST(:jobs AS bigint[]))")


def close(conn: Connection, job_ids: Sequence[JobId]) -> bool:
    """Give back what ``job_ids`` hold; whether any of them lay in a container, which may wait for that.

    Only with the proof that nothing of them runs.
    """
    return bool(job_ids) and any(conn.execute(_CLOSE, {"jobs": list(job_ids)}).scalars().all())


def drop(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Forget allocations that nothing was ever launched on."""
    if job_ids:
        conn.execute(_DROP, {"jobs": list(job_ids)})
