"""The outbox as judas reads it: what is due, and what became of it.

``notifications`` writes it.  Who takes a message counts the try and puts its next
one off to when this one is certainly over, in the same transaction: so nobody else
takes it meanwhile, in whatever epoch, and a message whose judas died is due again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import JobId

#: How often the delay before the next try is doubled; then it stays: an interval ends somewhere.
DOUBLINGS = 10


@dataclass(frozen=True, slots=True)
class Notice:
    """One message, with its job as it is now; of a job that is gone only the id is known."""

    notification_id: int
    target: str
    login: str
    tag: str
    comment: str
    created_at: datetime
    attempts: int
    job_id: JobId | None
    job_name: str | None = None
    queue_name: str | None = None
    state: str | None = None
    command: str | None = None
    launching_directory: str | None = None
    stdout_file: str | None = None
    stderr_file: str | None = None
    head: str | None = None
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    exit_code: int | None = None
    end_cause: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one try.  ``succeeded`` is None when it was not begun; ``again``: another may succeed."""

    notification_id: int
    succeeded: bool | None
    again: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A message that nobody will try again."""

    notification_id: int
    job_id: JobId | None
    method: str
    target: str
    tag: str
    succeeded: bool
    detail: str


# Each login's first messages, found by skipping from login to login in notifications_due_idx:
# what one user has waiting costs the others nothing.
_DUE = text(
    """
    WITH RECURSIVE logins AS (
        (SELECT login FROM notifications WHERE method = :method AND done_at IS NULL ORDER BY login LIMIT 1)
        UNION ALL
        SELECT (SELECT n.login FROM notifications n
                WHERE n.method = :method AND n.done_at IS NULL AND n.login > l.login ORDER BY n.login LIMIT 1)
        FROM logins l WHERE l.login IS NOT NULL
    ), due AS (
        SELECT n.notification_id, row_number() OVER (PARTITION BY l.login ORDER BY n.next_try_at) AS turn, n.next_try_at
        FROM logins l CROSS JOIN LATERAL (
            SELECT notification_id, next_try_at FROM notifications
            WHERE method = :method AND done_at IS NULL AND login = l.login AND next_try_at <= now()
            ORDER BY next_try_at, notification_id LIMIT :per_login
        ) n
        WHERE l.login <> ALL(CAST(:busy AS text[]))
    )
    SELECT notification_id FROM notifications
    WHERE notification_id IN (SELECT notification_id FROM due ORDER BY turn, next_try_at LIMIT :count)
      AND done_at IS NULL AND next_try_at <= now()
    ORDER BY notification_id FOR UPDATE SKIP LOCKED
    """
)
_TAKE = text(
    """
    WITH taken AS (
        UPDATE notifications SET attempts = attempts + 1, next_try_at = now() + :hold
        WHERE notification_id = ANY(CAST(:ids AS bigint[])) RETURNING *
    )
    SELECT n.notification_id, n.target, n.login, n.tag, n.comment, n.created_at, n.attempts, n.job_id,
        j.job_name, j.queue_name, j.state, j.command, j.launching_directory, j.stdout_file, j.stderr_file, j.head,
        j.submitted_at, j.started_at, j.stopped_at, j.exit_code, j.end_cause
    FROM taken n LEFT JOIN jobs j USING (job_id) ORDER BY n.notification_id
    """
)
_GIVE_UP = text(
    """
    UPDATE notifications SET done_at = now(), succeeded = false,
        result = COALESCE(result || '; ', '') || 'given up: the server died at each try'
    WHERE done_at IS NULL AND next_try_at <= now() AND attempts >= :attempts
    RETURNING notification_id, job_id, method, target, tag, succeeded, result
    """
)
_RECORD = text(
    """
    WITH results AS (
        SELECT * FROM jsonb_to_recordset(CAST(:results AS jsonb))
            AS r(notification_id bigint, succeeded boolean, again boolean, detail text)
    ), recorded AS (
        UPDATE notifications n SET
            result = r.detail,
            attempts = n.attempts - (r.succeeded IS NULL)::int::smallint,
            done_at = CASE WHEN r.succeeded OR NOT r.again OR (NOT r.succeeded AND n.attempts >= :attempts)
                           THEN now() END,
            succeeded = CASE WHEN r.succeeded THEN true
                             WHEN NOT r.again OR (NOT r.succeeded AND n.attempts >= :attempts) THEN false END,
            next_try_at = now() + CASE WHEN r.succeeded IS NULL THEN :delay
                                       ELSE :delay * power(2, least(n.attempts - 1, :doublings)) END
        FROM results r WHERE n.notification_id = r.notification_id AND n.done_at IS NULL
        RETURNING n.notification_id, n.job_id, n.method, n.target, n.tag, n.succeeded, n.result
    )
    SELECT * FROM recorded WHERE succeeded IS NOT NULL ORDER BY notification_id
    """
)


def take(
    conn: Connection, method: str, *, count: int, per_login: int, busy: Collection[str], hold: timedelta
) -> list[Notice]:
    """At most ``count`` messages that are due by ``method``, to be tried now; nobody else takes them during ``hold``.

    Users take turns: no more than ``per_login`` are one user's, and none is of a ``busy`` login.
    """
    ids = list(
        conn.execute(_DUE, {"method": method, "count": count, "per_login": per_login, "busy": sorted(busy)}).scalars()
    )
    if not ids:
        return []
    return [Notice(**row) for row in conn.execute(_TAKE, {"ids": ids, "hold": hold}).mappings()]


def record(conn: Connection, results: Sequence[Result], *, attempts: int, retry_delay: timedelta) -> list[Closed]:
    """Write what became of messages; those that are closed by it.

    After a failure the next try is ``retry_delay`` later, doubled with each up to a thousandfold;
    after ``attempts`` of them there is none.  One that was not begun does not count.
    """
    if not results:
        return []
    rows = [asdict(result) for result in results]
    values = {"results": json.dumps(rows), "attempts": attempts, "delay": retry_delay, "doublings": DOUBLINGS}
    found = conn.execute(_RECORD, values)
    return _closed(found)


def give_up(conn: Connection, *, attempts: int) -> list[Closed]:
    """Close messages at each of whose tries the server died."""
    return _closed(conn.execute(_GIVE_UP, {"attempts": attempts}))


def _closed(rows: Any) -> list[Closed]:
    return [
        Closed(row.notification_id, row.job_id, row.method, row.target, row.tag, row.succeeded, row.result)
        for row in rows
    ]
