"""The outbox: what users are to be told, for judas to deliver."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.automata.job import JobEvent
from oarpy.database.wake import Reader, wake

#: OAR's tag for each event that users may be told of.
TAGS = {
    JobEvent.STARTED: "RUNNING",
    JobEvent.SUSPENDED: "SUSPENDED",
    JobEvent.RESUME_ASKED: "RESUMING",
    JobEvent.CLOSED: "END",
    JobEvent.FAILED: "ERROR",
    JobEvent.KILLED: "ERROR",
    JobEvent.DOOMED: "ERROR",
}

# ``notify`` is a list of {"tags": [...], empty for all, "method": "mail"|"exec", "target": text}.
_ENQUEUE = text(
    """
    INSERT INTO notifications (job_id, tag, method, target, login, comment)
    SELECT j.job_id, :tag, n.method, n.target, j.job_user, COALESCE(:comment, j.message)
    FROM jobs j JOIN job_requests r USING (job_request_id),
         jsonb_to_recordset(r.notify) AS n(tags jsonb, method text, target text)
    WHERE r.notify IS NOT NULL AND j.job_id = ANY(CAST(:jobs AS bigint[]))
      AND (COALESCE(n.tags, 'null') IN ('null', '[]') OR n.tags ? :tag)
    """
)

# One mail for all that happens within a minute.
_ALARM = text(
    """
    WITH gathered AS (
        UPDATE notifications SET comment = left(comment || chr(10) || :lines, 20000)
        WHERE method = 'mail' AND login = 'oar' AND tag = 'ADMIN' AND done_at IS NULL AND attempts = 0
        RETURNING notification_id
    )
    INSERT INTO notifications (tag, method, target, login, comment, next_try_at)
    SELECT 'ADMIN', 'mail', :target, 'oar', left(:lines, 20000), now() + interval '60 s'
    WHERE NOT EXISTS (SELECT FROM gathered)
    """
)


def enqueue(conn: Connection, job_ids: Sequence[int], happening: JobEvent) -> None:
    """Put into the outbox what the owners of ``job_ids`` want to hear of ``happening``."""
    tag = TAGS.get(happening)
    if tag is not None:
        tell(conn, job_ids, tag)


def tell(conn: Connection, job_ids: Sequence[int], tag: str, comment: str | None = None) -> None:
    """The same for a tag; ``comment`` instead of the job's message."""
    if not job_ids:
        return
    told = conn.execute(_ENQUEUE, {"tag": tag, "comment": comment, "jobs": list(job_ids)})
    if told.rowcount:
        wake(conn, Reader.JUDAS)


def alarm(conn: Connection, target: str, lines: Sequence[str]) -> None:
    """Put ``lines`` into the next mail to the administrator at ``target``; it goes within a minute or so."""
    if lines:
        conn.execute(_ALARM, {"target": target, "lines": "\n".join(lines)})
