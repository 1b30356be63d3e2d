"""Quotas as an administrator changes them: all at once, from a file.

Single rules are for psql; the constraints and the wake-up are the tables' own.
Each function is to be called inside a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from oarpy.client.connection import Connection
from oarpy.model.quota_file import PeriodRow, RuleRow


def replace(conn: Connection, rules: Sequence[RuleRow], periods: Sequence[PeriodRow]) -> None:
    """Let these be all the quotas there are."""
    conn.change("DELETE FROM oar.quotas")
    conn.change("DELETE FROM oar.quota_periods")
    for table, rows in (("quotas", rules), ("quota_periods", periods)):
        for row in rows:
            columns, places = ", ".join(row._fields), ", ".join(["%s"] * len(row))
            conn.change(f"INSERT INTO oar.{table} ({columns}) VALUES ({places})", list(row))


def listed(conn: Connection) -> tuple[list[RuleRow], list[PeriodRow]]:
    """The rules and the periods, in the order of the latter's precedence."""
    rules = conn.rows(
        f"SELECT {', '.join(RuleRow._fields)} FROM oar.visible_quotas"
        " ORDER BY ruleset <> 'default', ruleset, queue_name, project, job_type, job_user"
    )
    periods = conn.rows(
        f"SELECT {', '.join(PeriodRow._fields)} FROM oar.visible_quota_periods ORDER BY begins_at IS NULL, period_id"
    )
    return [RuleRow(*row) for row in rules], [PeriodRow(*row) for row in periods]


def unknown_queues(conn: Connection, rules: Sequence[RuleRow]) -> list[str]:
    """The names of queues that there are not."""
    known = {name for (name,) in conn.rows("SELECT queue_name FROM oar.visible_queues")} | {"*", "/"}
    return sorted({rule.queue_name for rule in rules} - known)
