"""What hosts say of themselves, asked through the runner: for a person who looks, not for decisions."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.database.wake import Reader, wake

# A host that is being asked already is asked once.
_ASK = text(
    """
    WITH hosts AS (
        SELECT DISTINCT network_address AS host FROM resources
        WHERE type = 'default' AND state IN ('Alive', 'Suspected')
          AND network_address <> ALL(CAST(:but AS text[]))
    ), asked AS (
        INSERT INTO orders (kind, host, deadline)
        SELECT 'check', host, now() + CAST(:within AS interval) FROM hosts ORDER BY host
        ON CONFLICT (host, kind) WHERE done_at IS NULL AND job_id IS NULL DO NOTHING RETURNING order_id, host
    )
    SELECT order_id, host FROM asked
    UNION SELECT o.order_id, o.host FROM orders o JOIN hosts USING (host)
    WHERE o.kind = 'check' AND o.job_id IS NULL AND o.done_at IS NULL
    ORDER BY host
    """
)
_ANSWERS = text(
    """
    SELECT host, succeeded, result FROM orders
    WHERE done_at IS NOT NULL AND order_id = ANY(CAST(:orders AS bigint[])) ORDER BY host
    """
)


@dataclass(frozen=True, slots=True)
class Examined:
    """One host: its oarexec's own words, or why there are none."""

    host: str
    said: dict[str, Any] | None
    problem: str = ""


def ask(conn: Connection, within: timedelta, but: Collection[str]) -> dict[int, str]:
    """Have all hosts in use but some examined; the orders, by number, with their hosts."""
    found = conn.execute(_ASK, {"within": within, "but": sorted(but)})
    asked = {row.order_id: row.host for row in found}
    if asked:
        wake(conn, Reader.RUNNER)
    return asked


def answers(conn: Connection, orders: Collection[int]) -> list[Examined]:
    """What those of ``orders`` came to that are done, by host."""
    return [
        _examined(row.host, row.succeeded, row.result) for row in conn.execute(_ANSWERS, {"orders": sorted(orders)})
    ]


def _examined(host: str, succeeded: bool, result: str) -> Examined:
    if not succeeded:
        return Examined(host, None, result)
    try:
        said = json.loads(result)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return Examined(host, None, "what it says cannot be understood")
    return Examined(host, said)
