"""What must never stand in the tables, whatever died and whatever was lost on the way.

``broken`` may be asked at any instant, also of a running system: what takes the
server a moment (closing a wish to kill, sending a notification) is wrong only
after a while.  Dates written by different transactions are compared only where
one of them had to wait for the other's commit.
"""

from __future__ import annotations

from sqlalchemy import Engine, text

#: How long the server may take for what is not done in the same transaction.
PATIENCE = "60 s"

_HOLDING = "('toLaunch', 'Launching', 'Running', 'Suspended', 'Resuming', 'Finishing')"
_FINAL = "('Terminated', 'Error')"

# Each statement finds what contradicts its sentence; its columns fill the sentence's fields.
_IMPOSSIBLE = {
    "resource {resource} is held by jobs {jobs} at once": """
        WITH held AS (
            SELECT a.space, a.share, a.job_id, r AS resource
            FROM allocations a, unnest(a.resources) u, generate_series(lower(u), upper(u) - 1) r
            WHERE upper_inf(a.held) AND NOT a.suspended
        )
        SELECT resource, array_agg(job_id ORDER BY job_id)::text AS jobs
        FROM held GROUP BY space, resource HAVING count(DISTINCT share) > 1
    """,
    "resource {resource} is held by jobs {jobs} at once, beside or as a placeholder": """
        WITH held AS (
            SELECT a.space, a.placeholder, a.kin, a.job_id, r AS resource
            FROM allocations a, unnest(a.resources) u, generate_series(lower(u), upper(u) - 1) r
            WHERE upper_inf(a.held) AND NOT a.suspended AND a.placeholder IS NOT NULL
        )
        SELECT resource, array_agg(job_id ORDER BY job_id)::text AS jobs
        FROM held GROUP BY space, placeholder, resource HAVING count(DISTINCT kin) > 1
    """,
    "job {job_id} runs in container {space}, which is {state}": """
        SELECT a.job_id, a.space, c.state FROM allocations a LEFT JOIN jobs c ON c.job_id = a.space
        WHERE upper_inf(a.held) AND a.space <> 0
          AND COALESCE(c.state NOT IN ('Running', 'Suspended', 'Resuming', 'Finishing'), true)
    """,
    # A launch needs the commit of its allocation, which waits for the commit that ends the
    # other's: the order of these two dates is certain, that of their allocations is not.
    "resource {resource} was used by job {job_id} before job {other} had left it": """
        WITH suspended AS (
            SELECT DISTINCT job_id FROM job_state_logs WHERE job_state = 'Suspended'
        ), used AS (
            SELECT a.space, r AS resource, a.job_id, l.date_start AS begun,
                COALESCE((SELECT min(e.date_start) FROM job_state_logs e WHERE e.job_id = l.job_id
                          AND e.date_start > l.date_start AND e.job_state IN ('Waiting', 'Finishing', 'Error')),
                         'infinity') AS left_at
            FROM job_state_logs l JOIN allocations a USING (job_id, attempt),
                 unnest(a.resources) u, generate_series(lower(u), upper(u) - 1) r
            WHERE l.job_state = 'Launching' AND a.share = a.job_id AND l.job_id NOT IN (SELECT job_id FROM suspended)
        ), ordered AS (
            SELECT *, lag(left_at) OVER w AS left_before, lag(job_id) OVER w AS other
            FROM used WINDOW w AS (PARTITION BY space, resource ORDER BY begun)
        )
        SELECT resource, job_id, other FROM ordered WHERE begun < left_before
    """,
    "job {job_id} is {state} and still holds resources": f"""
        SELECT job_id, state FROM allocations JOIN jobs USING (job_id)
        WHERE upper_inf(held) AND state NOT IN {_HOLDING}
    """,
    "job {job_id} is {state} and holds nothing": f"""
        SELECT job_id, state FROM jobs j WHERE stopped_at IS NULL AND state IN {_HOLDING}
          AND NOT EXISTS (SELECT FROM allocations a WHERE a.job_id = j.job_id AND upper_inf(a.held))
    """,
    "job {job_id} is at attempt {attempt} and holds resources for attempt {held_for}": """
        SELECT j.job_id, j.attempt, a.attempt AS held_for FROM allocations a JOIN jobs j USING (job_id)
        WHERE upper_inf(a.held) AND a.attempt <> j.attempt
    """,
    "job {job_id} is {state} and has not given up its reservation": """
        SELECT job_id, state FROM reservations JOIN jobs USING (job_id) WHERE stopped_at IS NOT NULL
    """,
    "job {job_id} is {state}, which no transaction should leave": """
        SELECT job_id, state FROM jobs WHERE stopped_at IS NULL AND state IN ('toAckReservation', 'toError')
    """,
    "job {job_id} is {state} and has given something back already": """
        SELECT job_id, state FROM allocations JOIN jobs USING (job_id, attempt)
        WHERE returned IS NOT NULL AND state NOT IN ('Finishing', 'Terminated', 'Error')
    """,
    "job {job_id} holds resources that do not exist: {missing}": """
        SELECT a.job_id, (a.resources - known.ids)::text AS missing
        FROM allocations a, (SELECT range_agg(int4range(resource_id, resource_id + 1)) AS ids FROM resources) known
        WHERE upper_inf(a.held) AND NOT known.ids @> a.resources
    """,
    "job {job_id} holds resources outside its container {space}": """
        SELECT i.job_id, i.space FROM allocations i
        WHERE upper_inf(i.held) AND i.space <> 0 AND NOT EXISTS (
            SELECT FROM allocations c WHERE c.job_id = i.space AND upper_inf(c.held) AND c.resources @> i.resources)
    """,
    "job {job_id} is {state}, but its history ends with {logged}": """
        SELECT j.job_id, j.state, l.job_state AS logged
        FROM jobs j LEFT JOIN LATERAL (
            SELECT job_state FROM job_state_logs WHERE job_id = j.job_id ORDER BY date_start DESC LIMIT 1
        ) l ON true
        WHERE l.job_state IS DISTINCT FROM j.state
    """,
    "job {job_id} went from {before} to {after}": """
        SELECT job_id, COALESCE(before::text, 'nothing') AS before, after FROM (
            SELECT job_id, job_state AS after,
                lag(job_state) OVER (PARTITION BY job_id ORDER BY date_start) AS before
            FROM job_state_logs) changes
        WHERE CASE WHEN before IS NULL THEN after NOT IN ('Waiting', 'Hold')
              ELSE NOT EXISTS (SELECT FROM job_edges e WHERE e.before = changes.before AND e.after = changes.after) END
    """,
    "job {job_id} was launched {times} times as attempt {attempt}": """
        SELECT job_id, attempt, count(*) AS times FROM job_state_logs WHERE job_state = 'Launching'
        GROUP BY job_id, attempt HAVING count(*) > 1
    """,
    "job {job_id} started {times} times": """
        SELECT job_id, count(*) AS times FROM (
            SELECT job_id, job_state, lag(job_state) OVER (PARTITION BY job_id ORDER BY date_start) AS before
            FROM job_state_logs) changes
        WHERE before = 'Launching' AND job_state = 'Running' GROUP BY job_id HAVING count(*) > 1
    """,
    "job {job_id} is {state} without a start or a planned end": """
        SELECT job_id, state FROM jobs
        WHERE (state IN ('toLaunch', 'Launching') AND planned_end_at IS NULL)
           OR (state IN ('Running', 'Suspended', 'Resuming') AND (started_at IS NULL OR planned_end_at IS NULL))
    """,
    "job {job_id} ran and is {state}, and nothing says how it ended": f"""
        SELECT job_id, state FROM jobs
        WHERE state IN {_FINAL} AND started_at IS NOT NULL AND end_cause IS NULL
    """,
    "job {job_id} was submitted again as {copies}": """
        SELECT resubmit_job_id AS job_id, array_agg(job_id ORDER BY job_id)::text AS copies
        FROM jobs WHERE resubmit_job_id IS NOT NULL GROUP BY resubmit_job_id HAVING count(*) > 1
    """,
    "job {job_id} is over, but the wish to kill it is {state}": f"""
        SELECT f.job_id, f.state FROM frag_jobs f JOIN jobs j USING (job_id)
        WHERE f.state <> 'FRAGGED' AND j.stopped_at < now() - interval '{PATIENCE}'
    """,
    "order {order_id} ({kind}) for job {job_id} is open, but the job is over": f"""
        SELECT o.order_id, o.kind, o.job_id FROM orders o JOIN jobs j USING (job_id)
        WHERE o.done_at IS NULL AND j.stopped_at < now() - interval '{PATIENCE}'
    """,
    "order {order_id} ({kind}) is open long after its deadline": f"""
        SELECT order_id, kind FROM orders WHERE done_at IS NULL AND deadline < now() - interval '{PATIENCE}'
    """,
    "notification {notification_id} of job {job_id} is due and nobody sends it": f"""
        SELECT notification_id, job_id FROM notifications
        WHERE done_at IS NULL AND next_try_at < now() - interval '{PATIENCE}'
    """,
    "job {job_id} is {state} and its owner was never to be told": f"""
        SELECT j.job_id, j.state FROM jobs j JOIN job_requests r USING (job_request_id),
            jsonb_to_recordset(r.notify) AS n(tags jsonb, method text, target text)
        WHERE r.notify IS NOT NULL AND j.state IN {_FINAL}
          AND (COALESCE(n.tags, 'null') IN ('null', '[]')
               OR n.tags ? CASE j.state WHEN 'Terminated' THEN 'END' ELSE 'ERROR' END)
          AND NOT EXISTS (SELECT FROM notifications t WHERE t.job_id = j.job_id AND t.tag IN ('END', 'ERROR'))
    """,
    "event {event_id} ({type}) is old and has had no effect": f"""
        SELECT event_id, type FROM pending_events LEFT JOIN jobs j USING (job_id)
        WHERE greatest(date, COALESCE(j.stopped_at, CASE WHEN j.job_id IS NOT NULL THEN 'infinity'::timestamptz END))
              < now() - interval '{PATIENCE}'
    """,
    "request {request_id} has had no answer and is not dead": f"""
        SELECT request_id FROM requests
        WHERE state = 'pending' AND expires_at < now() - interval '{PATIENCE}'
    """,
    "{count} processes may believe that they lead": """
        SELECT count(*) FROM leadership HAVING count(*) > 1
    """,
}


def broken(engine: Engine) -> list[str]:
    """One sentence for each impossible thing that the tables say; none, when all is well."""
    with engine.connect() as conn:
        conn.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        return [
            sentence.format(**row)
            for sentence, statement in _IMPOSSIBLE.items()
            for row in conn.execute(text(statement)).mappings()
        ]
