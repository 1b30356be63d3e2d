"""The quotas as the scheduler sees them, their calendar worked out for some time ahead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.quota_calendar import parse_period, unrolled
from oarpy.model.quotas import Measure, Rule, parse_amount
from oarpy.scheduling.snapshot import Limits, QuotaRules

_RULES = text(
    """
    SELECT ruleset, queue_name, project, job_type, job_user, resources, running_jobs, resource_hours
    FROM quotas ORDER BY quota_id
    """
)
_PERIODS = text(
    """
    SELECT ruleset, hours, weekdays, days, months, floor(extract(epoch FROM begins_at))::bigint,
        floor(extract(epoch FROM ends_at))::bigint
    FROM quota_periods ORDER BY period_id
    """
)
#: A calendar serves all passes that begin within so many seconds.
_KEPT_S = 3600


class QuotaReader:
    """Reads quotas; what it made of them is kept as long as they stay."""

    def __init__(self) -> None:
        self._key: object = None
        self._made: QuotaRules | None = None

    def read(self, conn: Connection, limits: Limits, now_s: int) -> QuotaRules | None:
        rules = [tuple(row) for row in conn.execute(_RULES)]
        if not rules:
            return None
        periods = [tuple(row) for row in conn.execute(_PERIODS)]
        begin_s = now_s // _KEPT_S * _KEPT_S
        key = rules, periods, begin_s, limits.quota_types, limits.quota_horizon_s, limits.quota_zone
        if self._key != key:
            self._made = _made(rules, periods, begin_s, limits)
            self._key = key
        return self._made


def _made(
    rules: Sequence[tuple[Any, ...]], periods: Sequence[tuple[Any, ...]], begin_s: int, limits: Limits
) -> QuotaRules:
    sets: defaultdict[str, tuple[Rule, ...]] = defaultdict(tuple)
    for name, queue, project, type_, user, *amounts in rules:
        given = {
            measure: parse_amount(amount, measure)
            for measure, amount in zip(Measure, amounts, strict=True)
            if amount is not None
        }
        sets[name] += (Rule(queue, project, type_, user, given),)
    if not periods:
        return QuotaRules(dict(sets), types=limits.quota_types)
    zone = ZoneInfo(limits.quota_zone) if limits.quota_zone is not None else None
    until_s = begin_s + limits.quota_horizon_s
    calendar = unrolled([parse_period(*period) for period in periods], begin_s, until_s, zone)
    return QuotaRules(dict(sets), calendar, until_s, limits.quota_types)
