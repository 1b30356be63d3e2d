"""What clients asked for, until it is answered.

Clients write these rows through ``ask`` and ``withdraw`` only; a request is
pending, then answered, withdrawn or expired, and stays so.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.database.wake import wake_channels


class Pending(NamedTuple):
    """One request as it stands in the table; ``payload`` is JSON text that somebody else wrote.

    ``takings`` counts how often a process began to work on it before.
    """

    request_id: int
    key: str
    verb: str
    payload: str
    login: str
    takings: int


# Everybody's first request comes before anybody's second.  The sizes are those on disk,
# compressed; they only keep fifty of the largest from being in memory together.
_NEXT = text(
    """
    WITH turns AS (
        SELECT request_id, row_number() OVER (PARTITION BY requested_by ORDER BY request_id) AS turn
        FROM requests WHERE state = 'pending' AND expires_at > clock_timestamp()
    ), chosen AS (
        SELECT request_id, turn FROM turns ORDER BY turn, request_id LIMIT :most
    ), sized AS (
        SELECT r.*, c.turn, sum(pg_column_size(r.payload)) OVER (ORDER BY c.turn, r.request_id) AS bytes
        FROM chosen c JOIN requests r USING (request_id)
    )
    SELECT request_id, replace(key::text, '-', ''), verb, payload::text, login, takings
    FROM sized WHERE bytes - pg_column_size(payload) < :most_bytes
    ORDER BY turn, request_id
    """
)
_TAKE = text("UPDATE requests SET takings = takings + 1 WHERE request_id = ANY(CAST(:ids AS bigint[]))")
_LOCK = text(
    """
    SELECT request_id FROM requests
    WHERE request_id = ANY(CAST(:ids AS bigint[])) AND state = 'pending' AND expires_at > clock_timestamp()
    ORDER BY request_id FOR NO KEY UPDATE SKIP LOCKED
    """
)
_ANSWER = text(
    """
    UPDATE requests r SET state = 'answered', answered_at = clock_timestamp(), answer = a.answer
    FROM jsonb_to_recordset(CAST(:answers AS jsonb)) AS a(id bigint, answer jsonb) WHERE r.request_id = a.id
    RETURNING replace(r.key::text, '-', '')
    """
)
_EXPIRE = text(
    """
    UPDATE requests SET state = 'expired' WHERE state = 'pending' AND expires_at <= clock_timestamp()
    RETURNING replace(key::text, '-', '')
    """
)
_LIMIT = text(
    """
    UPDATE request_limits SET max_bytes = :max_bytes, max_pending = :max_pending, lifetime = :lifetime
    WHERE (max_bytes, max_pending, lifetime) IS DISTINCT FROM (:max_bytes, :max_pending, CAST(:lifetime AS interval))
    """
)
MOST_BYTES = 8 * 1024 * 1024


def pending(conn: Connection, most: int) -> list[Pending]:
    """At most ``most`` requests that wait for an answer; those who asked take turns."""
    found = conn.execute(_NEXT, {"most": most, "most_bytes": MOST_BYTES})
    return [Pending(*row) for row in found]


def take(conn: Connection, request_ids: Collection[int]) -> None:
    """Note that somebody begins to work on the requests: until they are answered, each note may be a death."""
    conn.execute(_TAKE, {"ids": list(request_ids)})


def lock(conn: Connection, request_ids: Collection[int]) -> frozenset[int]:
    """Those that can still be answered; nobody can withdraw them until the transaction ends."""
    return frozenset(conn.execute(_LOCK, {"ids": list(request_ids)}).scalars())


def answer(conn: Connection, answers: Mapping[int, Mapping[str, Any]]) -> None:
    """Answer locked requests and tell those who wait for it."""
    if answers:
        rows = [{"id": request_id, "answer": document} for request_id, document in answers.items()]
        _tell(conn, list(conn.execute(_ANSWER, {"answers": json.dumps(rows)}).scalars()))


def limit(conn: Connection, *, max_bytes: int, max_pending: int, lifetime: timedelta) -> None:
    """Let clients ask no more than this from now on."""
    conn.execute(_LIMIT, {"max_bytes": max_bytes, "max_pending": max_pending, "lifetime": lifetime})


def expire(conn: Connection) -> int:
    """Close the requests that were not answered in time; how many they were."""
    keys = list(conn.execute(_EXPIRE).scalars())
    _tell(conn, keys)
    return len(keys)


def _tell(conn: Connection, keys: Collection[str]) -> None:
    wake_channels(conn, [f"oar_answer_{key}" for key in keys])
