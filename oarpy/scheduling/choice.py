"""Which of a job's alternatives it is given, and where: the first to end, within quotas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from oarpy.scheduling.allowed import Search, first_allowed
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.dependencies import Gate
from oarpy.scheduling.gantt import NEVER_S, Place
from oarpy.scheduling.plan import Why
from oarpy.scheduling.quotas import Quotas, Verdict
from oarpy.scheduling.snapshot import WaitingJob
from oarpy.scheduling.space import Scope, View

Demands: TypeAlias = Sequence[Demand]


class Choice(NamedTuple):
    """An alternative and its place; ``limited`` tells of the quota that allows nothing earlier."""

    demand: Demand
    place: Place
    limited: Why | None = None

    @property
    def end_s(self) -> int:
        return self.place.start_s + self.demand.walltime_s


class Chooser:
    """Looks for places; a job has its resources for its walltime and ``security_s`` more."""

    def __init__(self, quotas: Quotas | None, security_s: int) -> None:
        self._quotas = quotas
        self._security_s = security_s
        #: The quota, if it was one, that refused places of the job that is being decided on.
        self.limited: Why | None = None

    def length_s(self, demand: Demand) -> int:
        return demand.walltime_s + self._security_s

    def choose(
        self, job: WaitingJob, view: View, demands: Demands, passed: Gate, at_most_s: int = NEVER_S
    ) -> Choice | None:
        """The place of the alternative that ends first, the first such one; free for ``at_most_s`` at most."""
        best: Choice | None = None
        for demand in demands:
            latest_s = min(passed.latest_s, passed.ends_by_s - demand.walltime_s)
            if best is not None:
                latest_s = min(latest_s, best.end_s - demand.walltime_s - 1)
            length_s = min(self.length_s(demand), at_most_s)
            limited: Why | None = None
            if self._quotas is None:
                place = view.earliest(demand, length_s, passed.earliest_s, latest_s)
            else:
                search = Search(view, job, demand, length_s, passed.earliest_s, latest_s)
                place, limited = first_allowed(self._quotas, search)
                self.limited = limited or self.limited
            if place is not None:
                best = Choice(demand, place, limited)
        return best

    def verdict(self, job: WaitingJob, demand: Demand, place: Place) -> Verdict | None:
        """What quotas say when they do not allow the job this place."""
        if self._quotas is None:
            return None
        verdict = self._quotas.first(job, place.taken, demand.walltime_s, place.start_s, NEVER_S)
        return verdict if verdict.start_s > place.start_s else None

    def room(self, scope: Scope, choice: Choice) -> Bits:
        """All that the chosen alternative may use at its place, running besteffort jobs not counted."""
        return scope.normal.room(choice.place.start_s, self.length_s(choice.demand)) & choice.demand.mask

    def room_in_time(self, scope: Scope, choice: Choice) -> Bits:
        """The same without what those hold who would not be gone by then."""
        return self.room(scope, choice) & ~scope.space.held_by_slow(choice.place.start_s)
