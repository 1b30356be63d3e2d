"""What jobs used and asked for, in resource-seconds.

What ended jobs did is added to ``accounting`` once: the sums and the mark on the job are
one transaction.  What is not there yet (running jobs, and those that ended a moment
ago) is added where use is looked at, by the same definition:

- only resources of type default count, and only those that a job took from the
  cluster: what inner jobs use, their container has taken already;
- a job used them from its start until it gave them back, which is its end unless it is
  over on some of its hosts before; the time for which it was suspended is not counted;
  and it asked for them from its start for its walltime.

Windows begin at multiples of their length since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.errors import RequestRefused
from oarpy.model.states import JobId
from oarpy.scheduling.karma import matters
from oarpy.scheduling.snapshot import Limits, Queue
from oarpy.scheduling.usage import NOTHING_USED, Account, Consumption, Usage

#: Ended jobs that one call accounts for.
BATCH = 2000
#: What is asked for beyond so many windows is not counted: ten years by the hour are a lot of rows.
MOST_WINDOWS = 1000

# Of the rows of jobs called `spending`.
_SPENT = """
    SELECT s.job_user, s.project, s.queue_name, held.amount,
        floor(extract(epoch FROM s.started_at))::bigint AS begin_s, k.kind,
        floor(extract(epoch FROM k.until))::bigint AS until_s
    FROM spending s JOIN allocations a ON a.job_id = s.job_id AND a.attempt = s.attempt AND a.space = 0,
        (SELECT COALESCE(range_agg(int4range(resource_id, resource_id, '[]')), '{}') AS ids
         FROM resources WHERE type <> 'default') AS others,
        LATERAL (VALUES (a.resources, NULL::timestamptz), (a.returned, a.returned_at)) AS part(ids, until),
        LATERAL (SELECT sum(upper(u.span) - lower(u.span)) AS amount
                 FROM unnest(part.ids - others.ids) AS u(span)) AS held,
        LATERAL (VALUES
            ('USED'::consumption_type, CASE WHEN a.suspended THEN suspended_since(s.job_id)
             ELSE least(s.used_until, part.until) END - s.suspended_for),
            ('ASKED', s.started_at + s.walltime)
        ) AS k(kind, until)
"""
_UNSETTLED = text("SELECT EXISTS (SELECT FROM jobs WHERE stopped_at IS NOT NULL AND NOT accounted)")
_SETTLE = text(
    f"""
    WITH ended AS (
        SELECT job_id FROM jobs WHERE stopped_at IS NOT NULL AND NOT accounted
        ORDER BY job_id LIMIT :batch FOR NO KEY UPDATE SKIP LOCKED
    ), settled AS (
        UPDATE jobs SET accounted = true WHERE job_id IN (SELECT job_id FROM ended)
        RETURNING job_id, attempt, job_user, project, queue_name, started_at, stopped_at AS used_until, walltime,
            suspended_for
    ), spending AS (
        SELECT * FROM settled WHERE started_at IS NOT NULL
    ), spent AS (
        {_SPENT}
    ), parts AS (
        SELECT w.begin_s, s.job_user, s.project, s.queue_name, s.kind,
            sum(s.amount * (least(s.until_s, w.begin_s + :whole) - greatest(s.begin_s, w.begin_s))) AS consumption
        FROM spent s, generate_series(
            s.begin_s / :whole * :whole,
            least(s.until_s - 1, CASE s.kind WHEN 'ASKED' THEN s.begin_s + :most * :whole END), :whole) AS w(begin_s)
        WHERE s.amount > 0 AND s.until_s > s.begin_s
        GROUP BY w.begin_s, s.job_user, s.project, s.queue_name, s.kind
    ), added AS (
        INSERT INTO accounting AS a (window_start, window_stop, accounting_user, accounting_project, queue_name,
            consumption_type, consumption)
        SELECT to_timestamp(begin_s), to_timestamp(begin_s + :whole), job_user, project, queue_name, kind, consumption
        FROM parts
        ON CONFLICT (window_start, window_stop, accounting_user, accounting_project, queue_name, consumption_type)
            DO UPDATE SET consumption = a.consumption + EXCLUDED.consumption
    )
    SELECT count(*) FROM settled
    """
)
_FORGET = text("DELETE FROM accounting WHERE window_stop <= to_timestamp(:before)")
_NOBODY_ADDS = text("LOCK TABLE accounting IN SHARE ROW EXCLUSIVE MODE")
_OF_JOBS_GONE = text(
    "SELECT count(*) FROM accounting"
    " WHERE window_stop <= COALESCE((SELECT min(started_at) FROM jobs WHERE accounted), 'infinity')"
)
_FORGET_ALL = text(
    """
    WITH forgotten AS (DELETE FROM accounting)
    UPDATE jobs SET accounted = false WHERE accounted AND started_at IS NOT NULL
    """
)
_USAGE = text(
    f"""
    WITH spending AS (
        SELECT job_id, attempt, job_user, project, queue_name, started_at, stopped_at AS used_until, walltime,
            suspended_for
        FROM jobs WHERE stopped_at IS NOT NULL AND NOT accounted AND started_at IS NOT NULL
        UNION ALL
        SELECT job_id, attempt, job_user, project, queue_name, started_at, now(), walltime, suspended_for
        FROM jobs WHERE stopped_at IS NULL AND started_at IS NOT NULL
            AND state NOT IN ('Waiting', 'Hold', 'toAckReservation', 'toError')
    ), spent AS (
        {_SPENT}
    ), consumed AS (
        SELECT queue_name, accounting_project AS project, accounting_user AS job_user, consumption_type AS kind,
            consumption
        FROM accounting WHERE window_stop > to_timestamp(:since) AND window_start < to_timestamp(:until)
        UNION ALL
        SELECT queue_name, project, job_user, kind, amount * (least(until_s, :until) - greatest(begin_s, :since))
        FROM spent WHERE amount > 0 AND least(until_s, :until) > greatest(begin_s, :since)
    )
    SELECT queue_name, project, job_user, COALESCE(sum(consumption) FILTER (WHERE kind = 'USED'), 0)::bigint,
        COALESCE(sum(consumption) FILTER (WHERE kind = 'ASKED'), 0)::bigint
    FROM consumed WHERE queue_name = ANY(:queues) GROUP BY queue_name, project, job_user
    """
)
_TELL = text(
    """
    WITH told AS (
        SELECT * FROM unnest(CAST(:queues AS text[]), CAST(:projects AS text[]), CAST(:users AS text[]),
            CAST(:karmas AS double precision[])) AS t(queue_name, project, job_user, karma)
    ), gone AS (
        DELETE FROM karmas k WHERE NOT EXISTS (SELECT FROM told t
            WHERE (t.queue_name, t.project, t.job_user) = (k.queue_name, k.project, k.job_user))
    )
    INSERT INTO karmas AS k (queue_name, project, job_user, karma) SELECT queue_name, project, job_user, karma FROM told
    ON CONFLICT (queue_name, project, job_user) DO UPDATE SET karma = EXCLUDED.karma WHERE k.karma <> EXCLUDED.karma
    """
)
_KEEP = text(
    """
    UPDATE jobs j SET last_karma = k.karma FROM karmas k
    WHERE j.job_id = ANY(CAST(:jobs AS bigint[])) AND k.queue_name = j.queue_name AND k.project = j.project
      AND k.job_user = j.job_user
    """
)


def settle(conn: Connection, whole_s: int) -> int:
    """Add some ended jobs to the sums, in windows of ``whole_s``, each job once; how many."""
    if not conn.execute(_UNSETTLED).scalar_one():
        return 0
    settled: int = conn.execute(_SETTLE, {"batch": BATCH, "whole": whole_s, "most": MOST_WINDOWS}).scalar_one()
    return settled


def forget(conn: Connection, before_s: int) -> int:
    """Remove the windows that ended before ``before_s``; how many rows they were."""
    return conn.execute(_FORGET, {"before": before_s}).rowcount


def begin_anew(conn: Connection) -> None:
    """Remove all sums, to be made again from the jobs.

    Raises:
        RequestRefused: some are of jobs that are no longer in the tables.
    """
    # Waits for a settling that has begun, which may have read a sum before this removes it.
    conn.execute(_NOBODY_ADDS)
    older = conn.execute(_OF_JOBS_GONE).scalar_one()
    if older:
        raise RequestRefused(
            f"{older} sum(s) are of jobs that are no longer in the tables, and could not be made again;"
            " --delete-before forgets them"
        )
    conn.execute(_FORGET_ALL)


class UsageReader:
    """Reads who has used what, now and then."""

    def __init__(self) -> None:
        self._kept = NOTHING_USED
        self._kept_for: tuple[object, ...] = ()

    def read(self, conn: Connection, queues: Collection[Queue], limits: Limits, now_s: int) -> Usage:
        """What counts for the order in ``queues``; nothing where they are ordered without it."""
        names = sorted(queue.name for queue in queues if matters(queue.ordering, limits.factors))
        if not names:
            return NOTHING_USED
        shares = limits.shares
        key = (names, shares.window_s, shares.whole_s)
        if key != self._kept_for or not 0 <= now_s - self._kept.at_s < shares.refresh_s:
            self._kept = Usage(now_s, _consumed(conn, names, now_s, window_s=shares.window_s, whole_s=shares.whole_s))
            self._kept_for = key
        return self._kept


def _consumed(
    conn: Connection, queues: Sequence[str], now_s: int, *, window_s: int, whole_s: int
) -> dict[Account, Consumption]:
    bounds = {"since": (now_s - window_s) // whole_s * whole_s, "until": (now_s // whole_s + 1) * whole_s}
    return {
        Account(queue, project, user): Consumption(used, asked)
        for queue, project, user, used, asked in conn.execute(_USAGE, {"queues": queues, **bounds})
    }


def tell_karmas(conn: Connection, karmas: Mapping[Account, float]) -> None:
    """Let people see these karmas of waiting jobs' accounts, and no others."""
    columns = {
        "queues": [account.queue for account in karmas],
        "projects": [account.project for account in karmas],
        "users": [account.user for account in karmas],
    }
    conn.execute(_TELL, {**columns, "karmas": list(karmas.values())})


def keep_karmas(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Note in jobs that start the karma of their accounts, as it was told last."""
    conn.execute(_KEEP, {"jobs": list(job_ids)})
