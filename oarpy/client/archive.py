"""Jobs that ended long ago: told in full, and removed."""

from __future__ import annotations

from collections.abc import Sequence

from oarpy.client.connection import Connection


def count(conn: Connection, days: int) -> int:
    """How many jobs ended more than ``days`` ago, and are needed by nothing."""
    return int(
        conn.value(
            "SELECT count(*) FROM oar.removable_jobs WHERE stopped_at < now() - make_interval(days => %s)", (days,)
        )
    )


def take(conn: Connection, days: int, after: int, most: int) -> list[tuple[int, str]]:
    """Id of, and JSON with all that is known of, some of these jobs with ids above ``after``, ascending; locked."""
    rows = conn.rows(
        """
        WITH old AS (
            SELECT j.job_id FROM oar.jobs j JOIN oar.removable_jobs o USING (job_id)
            WHERE j.job_id > %s AND o.stopped_at < now() - make_interval(days => %s)
            ORDER BY j.job_id LIMIT %s FOR UPDATE OF j SKIP LOCKED
        )
        SELECT j.job_id, jsonb_build_object(
            'job', to_jsonb(j),
            'request', to_jsonb(r),
            'states', (SELECT jsonb_agg(to_jsonb(l) - 'job_id' ORDER BY l.date_start)
                       FROM oar.job_state_logs l WHERE l.job_id = j.job_id),
            'allocations', (SELECT jsonb_agg(to_jsonb(a) - 'job_id' ORDER BY a.attempt)
                            FROM oar.allocations a WHERE a.job_id = j.job_id),
            'dependencies', (SELECT jsonb_agg(to_jsonb(d) - 'job_id') FROM oar.job_dependencies d
                             WHERE d.job_id = j.job_id),
            'walltime_change', (SELECT to_jsonb(w) - 'job_id' FROM oar.walltime_changes w WHERE w.job_id = j.job_id),
            'predictions', (SELECT jsonb_agg(to_jsonb(p) - 'job_id' ORDER BY p.said_at)
                            FROM oar.prediction_log p WHERE p.job_id = j.job_id),
            'events', (SELECT jsonb_agg(to_jsonb(e) - 'job_id' - 'xid' ORDER BY e.date, e.event_id)
                       FROM oar.events e WHERE e.job_id = j.job_id)
        )::text
        FROM old JOIN oar.jobs j USING (job_id) JOIN oar.job_requests r USING (job_request_id) ORDER BY j.job_id
        """,
        (after, days, most),
    )
    return [(job_id, text) for job_id, text in rows]


def remove(conn: Connection, job_ids: Sequence[int]) -> None:
    """Remove jobs that were taken in this transaction; their events stay as long as ``retention.events`` says."""
    conn.rows("SELECT oar.remove_jobs(%s)", (list(job_ids),))
