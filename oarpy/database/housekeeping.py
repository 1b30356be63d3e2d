"""What grows with time or stays behind: partitions of events, old rows, sessions that keep a transaction open.

Every removal takes a bounded number of rows by an index, so that it can be done at
any time, a little each time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.engine import Connection

#: Rows that one call removes from one table.
BATCH = 5000

_LOCK_TIMEOUT = text("SELECT set_config('lock_timeout', '1s', true)")
# The names are made here and read again here: events_2026_11 holds November 2026.
_PARTITIONS = text(
    r"""
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'events'::regclass AND relname ~ '^events_\d{4}_\d{2}$' ORDER BY relname
    """
)
_REST_EVENTS = text(
    """
    DELETE FROM events_rest WHERE (date, event_id) IN
        (SELECT date, event_id FROM events_rest WHERE date < :before ORDER BY date, event_id LIMIT :batch)
    """
)
_REQUESTS = text(
    """
    DELETE FROM requests WHERE request_id IN (
        SELECT request_id FROM requests WHERE asked_at < :before AND state <> 'pending'
        ORDER BY asked_at LIMIT :batch FOR UPDATE SKIP LOCKED)
    """
)
# Ids ascend with time, near enough: the oldest are looked at and no others.
_NOTIFICATIONS = text(
    """
    DELETE FROM notifications WHERE done_at < :before AND notification_id IN (
        SELECT notification_id FROM notifications ORDER BY notification_id LIMIT :batch)
    """
)
# Those of unfinished jobs say what these were told already.
_ORDERS = text(
    """
    DELETE FROM orders o WHERE done_at < :before
      AND order_id IN (SELECT order_id FROM orders ORDER BY order_id LIMIT :batch)
      AND NOT EXISTS (SELECT FROM jobs j WHERE j.job_id = o.job_id AND j.stopped_at IS NULL)
    """
)
_PREDICTIONS = text(
    """
    DELETE FROM prediction_log WHERE said_at < :before AND ctid = ANY (ARRAY(
        SELECT ctid FROM prediction_log ORDER BY job_id, said_at LIMIT :batch))
    """
)
# A copy of the job bears the same numbers.
_SUSPICIONS = text(
    """
    DELETE FROM suspicions s WHERE date < :before AND (array_id, array_index) IN (
        SELECT array_id, array_index FROM suspicions ORDER BY array_id, array_index LIMIT :batch)
      AND NOT EXISTS (SELECT FROM jobs j WHERE j.array_id = s.array_id AND j.array_index = s.array_index
                      AND j.stopped_at IS NULL)
    """
)
_OLD_JOBS = text(
    """
    SELECT j.job_id FROM jobs j JOIN removable_jobs o USING (job_id)
    WHERE o.stopped_at < :before ORDER BY o.stopped_at LIMIT :batch FOR UPDATE OF j SKIP LOCKED
    """
)
_REMOVE_JOBS = text("SELECT remove_jobs(CAST(:jobs AS bigint[]))")
_ACCOUNTING = text(
    """
    DELETE FROM accounting WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM accounting WHERE window_start < :before AND window_stop < :before
        ORDER BY window_start LIMIT :batch))
    """
)
_KEYS = text("DELETE FROM job_keys k USING jobs j WHERE j.job_id = k.job_id AND j.stopped_at IS NOT NULL")
_END_LONG_TRANSACTIONS = text(
    """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = 'oar_user' AND xact_start < clock_timestamp() - :longest
    """
)
# A command that waits for its answer asks again each second, so it never counts as idle.
_MAKE_ROOM = text(
    """
    WITH users AS (
        SELECT pid, state, state_change, count(*) OVER () AS connected
        FROM pg_stat_activity WHERE usename = 'oar_user'
    )
    SELECT pid, pg_terminate_backend(pid) FROM users
    WHERE connected > (SELECT rolconnlimit * :share FROM pg_roles WHERE rolname = 'oar_user' AND rolconnlimit > 0)
      AND state = 'idle' AND state_change < clock_timestamp() - :idle
    """
)
_RESTORE_USERS = text("SELECT public.restore_oar_user()")
_DIE = text(
    """
    WITH dying AS (
        SELECT resource_id FROM resources WHERE state = 'Suspected' AND state_since < now() - :after
        ORDER BY resource_id FOR NO KEY UPDATE
    ), dead AS (
        UPDATE resources SET state = 'Dead' FROM dying WHERE resources.resource_id = dying.resource_id
        RETURNING network_address
    )
    SELECT DISTINCT network_address FROM dead ORDER BY network_address
    """
)


def prepare_events(conn: Connection, now: datetime) -> bool:
    """Make the partition of events for the month after ``now``; tell whether it was missing.

    Locks all events for a moment; fails after a second where that is not granted.
    """
    first = _month_after(now)
    if _partition(first) in _partitions(conn):
        return False
    conn.execute(_LOCK_TIMEOUT)
    conn.exec_driver_sql(
        f"CREATE TABLE {_partition(first)} PARTITION OF events "
        f"FOR VALUES FROM ('{first.isoformat()}') TO ('{_month_after(first).isoformat()}')"
    )
    return True


def drop_events(conn: Connection, before: datetime) -> list[str]:
    """Remove events older than ``before``, by whole months; the names of the partitions that went.

    Locks like ``prepare_events``.
    """
    conn.execute(_REST_EVENTS, {"before": before, "batch": BATCH})
    old = [name for name in _partitions(conn) if _month_after(_begin(name)) <= before]
    if old:
        conn.execute(_LOCK_TIMEOUT)
    for name in old:
        conn.exec_driver_sql(f"DROP TABLE {name}")
    return old


def forget_requests(conn: Connection, before: datetime) -> int:
    """Remove requests asked before ``before`` that will get no other answer; how many."""
    return conn.execute(_REQUESTS, {"before": before, "batch": BATCH}).rowcount


def forget_keys(conn: Connection) -> None:
    """Drop the keys of jobs that are over."""
    conn.execute(_KEYS)


def forget_notifications(conn: Connection, before: datetime) -> int:
    """Remove notifications whose last try was before ``before``; how many."""
    return conn.execute(_NOTIFICATIONS, {"before": before, "batch": BATCH}).rowcount


def forget_orders(conn: Connection, before: datetime) -> int:
    """Remove orders that were done before ``before``, but those of unfinished jobs; how many."""
    return conn.execute(_ORDERS, {"before": before, "batch": BATCH}).rowcount


def forget_predictions(conn: Connection, before: datetime) -> int:
    """Remove what was predicted before ``before``; how many rows."""
    return conn.execute(_PREDICTIONS, {"before": before, "batch": BATCH}).rowcount


def forget_suspicions(conn: Connection, before: datetime) -> int:
    """Remove older suspicions but those by jobs that may fail again; how many."""
    return conn.execute(_SUSPICIONS, {"before": before, "batch": BATCH}).rowcount


def forget_jobs(conn: Connection, before: datetime) -> int:
    """Remove jobs that ended before ``before`` and are needed by nothing, with all but their events; how many."""
    found = conn.execute(_OLD_JOBS, {"before": before, "batch": BATCH}).scalars().all()
    if found:
        conn.execute(_REMOVE_JOBS, {"jobs": list(found)})
    return len(found)


def forget_accounting(conn: Connection, before: datetime) -> int:
    """Remove sums of windows that ended before ``before``; how many rows."""
    return conn.execute(_ACCOUNTING, {"before": before, "batch": BATCH}).rowcount


def end_long_transactions(conn: Connection, longest: timedelta) -> list[int]:
    """End users' sessions whose transaction is open for more than ``longest``; their process ids.

    What they see keeps dead rows from being removed, for everybody.
    """
    return [pid for pid, _ in conn.execute(_END_LONG_TRANSACTIONS, {"longest": longest})]


def make_room(conn: Connection, *, share: float, idle: timedelta) -> list[int]:
    """End users' sessions idle for more than ``idle`` when they fill ``share`` of the places; their process ids.

    All users are one role with one limit, so without this one of them could keep the others out.
    """
    return [pid for pid, _ in conn.execute(_MAKE_ROOM, {"share": share, "idle": idle})]


def restore_users(conn: Connection) -> bool:
    """Remove the defaults that a user set for all users' sessions; tell whether there were any."""
    return bool(conn.execute(_RESTORE_USERS).scalar_one())


def give_up_suspected(conn: Connection, after: timedelta) -> list[str]:
    """Resources that are Suspected for longer than ``after`` become Dead; their hosts.

    It frees nothing: a job there holds them until its end is proved.
    """
    return list(conn.execute(_DIE, {"after": after}).scalars())


def _partitions(conn: Connection) -> list[str]:
    return list(conn.execute(_PARTITIONS).scalars())


def _partition(month: datetime) -> str:
    return f"events_{month:%Y_%m}"


def _begin(partition: str) -> datetime:
    return datetime.strptime(partition, "events_%Y_%m").replace(tzinfo=UTC)


def _month_after(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    year, month = divmod(moment.year * 12 + moment.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC)
