"""How many tokens of each kind are free, as the site's programs last said."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.token_types import PREFIX, tokens_of
from oarpy.scheduling.snapshot import Limits, TokenCount

_COUNTS = text(
    """
    SELECT token, free, floor(extract(epoch FROM counted_at))::bigint FROM token_counts
    WHERE token = ANY(CAST(:names AS text[])) AND counted_at > now() - CAST(:valid AS interval)
    """
)
_BEFORE = text("SELECT free, problem FROM token_counts WHERE token = :token")
_WRITE = text(
    """
    INSERT INTO token_counts (token, free, problem, counted_at)
    VALUES (:token, :free, :problem, now() - CAST(:age AS interval))
    ON CONFLICT (token) DO UPDATE
        SET free = EXCLUDED.free, problem = EXCLUDED.problem, counted_at = EXCLUDED.counted_at
    """
)


def counts(conn: Connection, types: Iterable[str], limits: Limits) -> dict[str, TokenCount]:
    """The counts of all kinds that are named in ``types``, lists in JSON; no statement where none is."""
    names = {name for each in types if PREFIX in each for name in tokens_of(json.loads(each))}
    if not names:
        return {}
    found = dict.fromkeys(sorted(names), TokenCount(None))
    valid = timedelta(seconds=limits.token_valid_s)
    for name, free, counted_s in conn.execute(_COUNTS, {"names": list(names), "valid": valid}):
        found[name] = TokenCount(free, counted_s - limits.token_settle_s)
    return found


def write(conn: Connection, token: str, free: int | None, problem: str | None, age: timedelta) -> tuple[bool, bool]:
    """Write what a program said so long ago: (whether that is another number, whether it is another problem)."""
    before = conn.execute(_BEFORE, {"token": token}).one_or_none()
    conn.execute(_WRITE, {"token": token, "free": free, "problem": problem, "age": age})
    known_free, known_problem = before if before is not None else (None, None)
    return before is None or free != known_free, problem is not None and problem != known_problem
