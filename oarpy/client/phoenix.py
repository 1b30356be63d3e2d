"""Suspected hosts, and what was done to bring them back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from oarpy.client.connection import Connection

SOFT = "PHOENIX_SOFT_REBOOT"
HARD = "PHOENIX_HARD_REBOOT"
ERROR = "PHOENIX_ERROR"


class Suspect(NamedTuple):
    """``soft_s`` and ``hard_s``: so long ago it was tried, since the host became Suspected; ``jobs`` are on it."""

    host: str
    jobs: int
    soft_s: float | None
    hard_s: float | None


def suspects(conn: Connection) -> list[Suspect]:
    """The hosts with a Suspected resource, the one that is so for longest first; their rows stay locked."""
    # First: another run has written what it begins with before this one reads it.
    conn.rows("SELECT FROM oar.resources WHERE state = 'Suspected' ORDER BY resource_id FOR NO KEY UPDATE")
    rows = conn.rows(
        """
        WITH suspected AS (
            SELECT network_address AS host, max(state_since) AS since,
                range_agg(int4range(resource_id, resource_id + 1)) AS ids
            FROM oar.resources WHERE network_address IN (
                SELECT network_address FROM oar.resources WHERE state = 'Suspected' AND network_address <> '')
            GROUP BY network_address
        ), tried AS (
            SELECT type, date, unnest(hosts) AS host FROM oar.events
            WHERE type = ANY(%s) AND date >= (SELECT min(since) FROM suspected)
        )
        SELECT s.host,
            (SELECT count(*) FROM oar.jobs j JOIN oar.allocations a USING (job_id)
             WHERE j.stopped_at IS NULL AND upper_inf(a.held) AND a.resources && s.ids
               AND j.state NOT IN ('Waiting', 'Hold', 'toAckReservation', 'toError')),
            extract(epoch FROM clock_timestamp() - max(t.date) FILTER (WHERE t.type = %s))::float8,
            extract(epoch FROM clock_timestamp() - max(t.date) FILTER (WHERE t.type = %s))::float8
        FROM suspected s LEFT JOIN tried t ON t.host = s.host AND t.date >= s.since
        GROUP BY s.host, s.since, s.ids ORDER BY s.since, s.host
        """,
        ([SOFT, HARD], SOFT, HARD),
    )
    return [Suspect(*row) for row in rows]


def note(conn: Connection, type_: str, hosts: Iterable[str], description: str) -> None:
    """Log an event about hosts."""
    names = sorted(hosts)
    if names:
        conn.change(
            "INSERT INTO oar.events (type, hosts, description) VALUES (%s, %s, %s)", (type_, names, description)
        )
