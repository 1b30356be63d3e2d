"""The last plan for all waiting jobs, as long as it may be used again.

With a crowd waiting most turns of the scheduler find that nothing has happened but that
a few jobs were submitted.  Which rows of waiting jobs are still what they were is told
by the numbers of the transactions that wrote them; all else is few rows, and read again.
Kept in memory only: without it the whole pass is made.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.engine import Connection

from oarpy.database import walltimes
from oarpy.database.snapshot import Mark, Reading, SnapshotReader
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Plan
from oarpy.scheduling.snapshot import Limits, Snapshot
from oarpy.scheduling.standing import Standing, decide_and_keep


class More(NamedTuple):
    """What is decided on jobs that have come behind all others; `LastPlan.keep` it once it is written."""

    plan: Plan
    reading: Reading
    mark: Mark


class LastPlan:
    """The plan and the jobs that it is for, if there is one that may be used again."""

    def __init__(self, reader: SnapshotReader) -> None:
        self._reader = reader
        self._standing: Standing | None = None
        self._mark: Mark | None = None

    def __bool__(self) -> bool:
        return self._mark is not None

    def forget(self) -> None:
        self._standing = self._mark = None

    def decide(self, snapshot: Snapshot, reading: Reading, mark: Mark) -> Plan:
        """The plan for this snapshot, kept with the ``mark`` of its waiting jobs if it is for all of them."""
        plan = self._standing.again(snapshot) if self._standing is not None else None
        if plan is None:
            self._standing = None
            first = snapshot.limits.plan_first
            if first is not None and len(snapshot.waiting) > first:
                plan = decide(snapshot, reading.platform)
            else:
                plan, self._standing = decide_and_keep(snapshot, reading.platform)
        self._mark = mark if self._standing is not None else None
        return plan

    def more(self, conn: Connection, limits: Limits) -> More | None:
        """What is decided on the jobs that have come since, of whom there may be none.

        None if anything else has changed.  Until it is kept nothing may be decided on others.
        """
        standing, mark = self._standing, self._mark
        self._mark = None
        if standing is None or mark is None:
            return None
        found = self._reader.read_behind(conn, limits, mark)
        if found is None or found[0].unreadable or walltimes.pending(conn):
            return None
        plan = standing.carried_on(found[0].snapshot)
        return More(plan, *found) if plan is not None else None

    def keep(self, more: More) -> None:
        """What was decided has been written."""
        self._mark = more.mark
