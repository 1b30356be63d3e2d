"""What jobs hold: from the decision until their processes are known to be gone."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import JobId

# Inclusive upper bound: a period that is closed at once is still not empty.
_CLOSE = text(
    "UPDATE allocations SET held = tstzrange(lower(held), greatest(lower(held), now()), '[]') "
    "WHERE upper_inf(held) AND job_id = ANY(CAST(:jobs AS bigint[]))"
)
_DROP = text("DELETE FROM allocations WHERE upper_inf(held) AND job_id = ANY(CAST(:jobs AS bigint[]))")


def close(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Give back what ``job_ids`` hold.  Only with the proof that nothing of them runs."""
    if job_ids:
        conn.execute(_CLOSE, {"jobs": list(job_ids)})


def drop(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Forget allocations that nothing was ever launched on."""
    if job_ids:
        conn.execute(_DROP, {"jobs": list(job_ids)})
