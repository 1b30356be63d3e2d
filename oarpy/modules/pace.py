"""How much each pass does, and when the next one is wanted.

With a crowd waiting, most of a pass serves predictions.  Those are made only so often
that they take a small part of the time; the passes in between plan the head of the
queue and try all others for an immediate start.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from oarpy.settings import Scheduler

#: With more jobs waiting than this, not every pass predicts for all of them.
CROWD = 100
#: How many jobs at the head of the queue keep their planned start in every pass.
HEAD = 32
#: How many times as long as a full pass took the next one is put off.
REST = 9


class Effort(NamedTuple):
    """``full``: predictions are written; ``complete``: for every job, however many wait."""

    full: bool
    complete: bool
    plan_first: int | None

    def plans_for_all(self, waiting: int) -> bool:
        return self.plan_first is None or waiting <= self.plan_first


#: A pass over all jobs.
FOR_ALL = Effort(full=True, complete=True, plan_first=None)


def is_crowd(waiting: int) -> bool:
    """Whether so many are too many to predict for in each pass."""
    return waiting > CROWD


class Pace:
    """``begun`` is always when a turn began, by the monotonic clock."""

    def __init__(self, scheduler: Scheduler) -> None:
        #: How soon another turn is wanted even if nothing happens until then; None when nothing was put off.
        self.due_in_s: float | None = None
        self._scheduler = scheduler
        # When to predict again, to plan for all, and to report.
        self._full_due = 0.0
        self._complete_due = 0.0
        self._report_due = 0.0

    def is_overdue(self, begun: float) -> bool:
        """Whether all are to be planned for again."""
        return begun >= self._complete_due

    def effort(self, waiting: int, begun: float) -> Effort:
        """What a pass is to do with so many jobs waiting."""
        plan_first = self._scheduler.plan_first
        if self.is_overdue(begun):
            return FOR_ALL
        if not is_crowd(waiting) or begun >= self._full_due:
            return Effort(full=True, complete=False, plan_first=plan_first)
        return Effort(full=False, complete=False, plan_first=min(HEAD, HEAD if plan_first is None else plan_first))

    def spent(self, effort: Effort, begun: float) -> None:
        """A pass has done that."""
        now = time.monotonic()
        if effort.complete:
            self._complete_due = begun + self._scheduler.period.total_seconds()
        if effort.full:
            self._full_due = now + max(self._scheduler.predictions_interval.total_seconds(), (now - begun) * REST)
        self.due_in_s = None if effort.full else max(self._full_due - now, 0.0)

    def wait_at_most(self, seconds: float | None) -> None:
        """Another turn is wanted so soon; None: for this no other is."""
        if seconds is not None:
            self.due_in_s = seconds if self.due_in_s is None else min(seconds, self.due_in_s)

    def reports(self, begun: float) -> bool:
        """Whether it is time to report what a pass did; then it is not for a while."""
        if time.monotonic() < self._report_due:
            return False
        self._report_due = begun + self._scheduler.predictions_interval.total_seconds()
        return True
