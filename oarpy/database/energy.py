"""What the plan says of hosts that may sleep and hosts that must wake, for whoever switches them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.scheduling.plan import Energy

# A host that is needed at once keeps the date at which that was first said.
_WRITE = text(
    """
    WITH wanted AS (
        SELECT w.host, w.wish, w.job_id, w.wish = 'wake' AND w.needed_s IS NULL AS at_once,
            CASE WHEN w.wish = 'wake' THEN COALESCE(to_timestamp(w.needed_s), now())
                ELSE to_timestamp(w.needed_s) END AS needed_at
        FROM jsonb_to_recordset(CAST(:hosts AS jsonb)) AS w(host text, wish energy_wish, needed_s bigint, job_id bigint)
    ), gone AS (
        DELETE FROM energy_plan e WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.host = e.network_address)
    )
    INSERT INTO energy_plan AS e (network_address, wish, needed_at, job_id)
    SELECT w.host, w.wish, CASE WHEN w.at_once THEN least(now(), old.needed_at) ELSE w.needed_at END, w.job_id
    FROM wanted w LEFT JOIN energy_plan old ON old.network_address = w.host AND old.wish = w.wish
    ON CONFLICT (network_address) DO UPDATE
        SET wish = EXCLUDED.wish, needed_at = EXCLUDED.needed_at, job_id = EXCLUDED.job_id,
            since = CASE WHEN e.wish = EXCLUDED.wish THEN e.since ELSE now() END,
            sleep_from = CASE WHEN EXCLUDED.wish = 'sleep' THEN e.sleep_from END
        WHERE (e.wish, e.needed_at, e.job_id) IS DISTINCT FROM (EXCLUDED.wish, EXCLUDED.needed_at, EXCLUDED.job_id)
    """
)
_SLEEP = text(
    """
    UPDATE energy_plan e SET sleep_from = d.sleep_from FROM (
        SELECT network_address, since + :idle AS sleep_from FROM energy_plan
        WHERE wish = 'sleep' AND COALESCE(needed_at >= since + :idle + :least, true)
        UNION ALL SELECT network_address, NULL FROM energy_plan
        WHERE wish = 'wake' OR needed_at < since + :idle + :least) d
    WHERE e.network_address = d.network_address AND e.sleep_from IS DISTINCT FROM d.sleep_from
    """
)
_FORGET = text("DELETE FROM energy_plan")


def write(conn: Connection, plan: Energy, *, idle: timedelta, least: timedelta) -> None:
    """Write what has changed.

    A host may sleep when it has been idle for ``idle``, unless it could not do so for ``least``.
    """
    rows: list[Mapping[str, object]] = [
        *({"host": one.host, "wish": "sleep", "needed_s": one.until_s} for one in plan.idle),
        *({"host": one.host, "wish": "wake", "needed_s": one.by_s, "job_id": one.job_id} for one in plan.wakes),
    ]
    conn.execute(_WRITE, {"hosts": json.dumps(rows)})
    conn.execute(_SLEEP, {"idle": idle, "least": least})


def forget(conn: Connection) -> None:
    """Nobody is to switch anything."""
    conn.execute(_FORGET)
