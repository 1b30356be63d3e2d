"""The plan is compressed: each job leaves the place that it was told for an earlier one, if there is one.

So is conservative backfilling carried on from plan to plan (Mu'alem and Feitelson, 2001).
All places stand in the gantt of the machine from the beginning (see
``oarpy.scheduling.promises``).  When the turn of its job comes, a place is its own, or is
given back for another one, or stands in the way of nobody any more because it will not do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from oarpy.model.states import JobId
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.choice import Choice, Chooser, Demands
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.dependencies import Gate
from oarpy.scheduling.gantt import Place
from oarpy.scheduling.grain import Grain
from oarpy.scheduling.promises import Kept, Promises
from oarpy.scheduling.sharing import ALONE
from oarpy.scheduling.snapshot import WaitingJob
from oarpy.scheduling.space import Scope, Space


class KeptPlaces:
    """The places on ``machine`` that jobs were told, until the turns of these jobs.

    ``loosened`` is called when something is free again.  With ``quotas`` what was told has to be allowed anew.
    """

    def __init__(
        self, promises: Promises, machine: Space, chooser: Chooser, loosened: Callable[[], None], *, quotas: bool
    ) -> None:
        self._promises = promises
        self._machine = machine
        self._chooser = chooser
        self._loosened = loosened
        self._quotas = quotas
        self._places: dict[JobId, Kept] = {}
        #: What is free now, and whole of each grain.
        self._known_now: tuple[Bits, dict[Grain, Bits]] = 0, {}

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._places

    def put_down(self, jobs: Sequence[WaitingJob]) -> frozenset[JobId]:
        """Let the places of these jobs stand, given in their order; those whose place does."""
        self._places = self._promises.put_down(self._machine, jobs)
        return frozenset(self._places)

    def claim(self, job_id: JobId) -> Kept:
        """The place is its job's own now."""
        return self._places.pop(job_id)

    def release(self, job_id: JobId) -> None:
        """Give the place back, if it stands; then nothing that was known of the machine holds."""
        if job_id in self._places:
            kept = self._give_back(job_id)
            self._loosen(kept)

    def is_its_own(self, job: WaitingJob) -> bool:
        """Whether nothing but its place can come of a usual job: what is free now will not do for it."""
        kept = self._places[job.job_id]
        now_s = self._machine.gantt.now_s
        if job.types or job.dependencies or job.expires_s is not None or job.deadline_s is not None:
            return False
        if kept.start_s <= now_s or (job.not_before_s or 0) > now_s:
            return False
        demands = self._machine.demands.shared(job.request_id, job.request).demands
        return any(one.index == kept.alternative for one in demands) and not any(map(self._fits_now, demands))

    def told(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate) -> Choice | None:
        """What a job was told whose place stands, None when that will not do any more."""
        kept = self._places[job.job_id]
        demand = self._demand(scope, demands, passed, kept)
        if demand is None:
            return None
        told = Choice(demand, Place(kept.start_s, kept.bits))
        return told if self._chooser.verdict(job, demand, told.place) is None else None

    def delayed(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate, until_s: int) -> Choice | None:
        """What a job was told for which others are dying, as soon as these are gone, which they are at ``until_s``.

        None when it may not have it then.
        """
        kept = self._promises.place(job)
        demand = self._demand(scope, demands, passed, kept) if kept is not None else None
        if kept is None or demand is None:
            return None
        start_s = scope.strict.gantt.first_free(kept.bits, kept.start_s, self._chooser.length_s(demand))
        latest_s = min(passed.latest_s, passed.ends_by_s - demand.walltime_s, max(until_s, kept.start_s))
        if start_s is None or start_s > latest_s:
            return None
        place = Place(start_s, kept.bits)
        return Choice(demand, place) if self._chooser.verdict(job, demand, place) is None else None

    def left_for(self, job: WaitingJob, demands: Demands, passed: Gate, told: Choice, latest_s: int) -> Choice | None:
        """A place that starts by ``latest_s`` and ends before the one that was told, and ends first.

        When there is one, what was told is given back; else it stands.
        """
        if self._quotas:
            return self._allowed_earlier(job, demands, passed, told, latest_s)
        none_now = latest_s < told.place.start_s and not any(map(self._fits_now, demands))
        if none_now or job.job_id in self._promises.certain:
            return None
        if not self._might_move(demands, told, latest_s):
            choice = self._earlier(demands, passed, told, latest_s, released=False)
            if choice is not None:
                self.release(job.job_id)
            return choice
        kept = self._give_back(job.job_id)
        choice = self._earlier(demands, passed, told, latest_s, released=True)
        if choice is not None:
            self._loosen(kept)
        else:
            self._put_back(kept)
        return choice

    def _allowed_earlier(
        self, job: WaitingJob, demands: Demands, passed: Gate, told: Choice, latest_s: int
    ) -> Choice | None:
        kept = self._places[job.job_id]
        self.release(job.job_id)
        in_time = replace(passed, latest_s=min(latest_s, passed.latest_s))
        choice = self._chooser.choose(job, self._machine.normal, demands, in_time)
        if choice is not None and choice.end_s < told.end_s:
            return choice
        self._put_back(kept)
        return None

    def _give_back(self, job_id: JobId) -> Kept:
        kept = self._places.pop(job_id)
        self._machine.release(kept.start_s, kept.end_s, kept.bits)
        return kept

    def _put_back(self, kept: Kept) -> None:
        self._machine.occupy(kept.start_s, kept.end_s, kept.bits)
        self._places[kept.job_id] = kept

    def _loosen(self, kept: Kept) -> None:
        self._machine.loosen(kept.start_s)
        self._loosened()

    def _demand(self, scope: Scope, demands: Demands, passed: Gate, kept: Kept) -> Demand | None:
        """The demand of the alternative that the job was told, None when its place will not do any more."""
        if scope.space is not self._machine or scope.sharing != ALONE:
            return None
        own = next((demand for demand in demands if demand.index == kept.alternative), None)
        if own is None or not passed.earliest_s <= kept.start_s <= min(
            passed.latest_s, passed.ends_by_s - own.walltime_s
        ):
            return None
        return own

    def _might_move(self, demands: Demands, told: Choice, latest_s: int) -> bool:
        """Whether there could be an earlier place that uses some of what the job has been told.

        Such a place would hold the instant before the start, at which nothing of that is its own.
        """
        if len(demands) > 1:
            return True
        start_s, gantt = told.place.start_s, self._machine.gantt
        if start_s <= gantt.now_s or latest_s + self._chooser.length_s(told.demand) <= start_s:
            return False
        wanted = told.demand.coarse or told.demand
        return wanted.fits(gantt.before(start_s, wanted.grain) & wanted.mask)

    def _fits_now(self, demand: Demand) -> bool:
        """Whether what is free now would do; a quick look before a search."""
        wanted = demand.coarse or demand
        return wanted.fits(self._whole_now(wanted.grain) & wanted.mask)

    def _whole_now(self, grain: Grain | None) -> Bits:
        free, known = self._known_now
        if free is not self._machine.gantt.free_now:
            free, known = self._known_now = self._machine.gantt.free_now, {}
        if grain is None:
            return free
        found = known.get(grain)
        if found is None:
            found = known[grain] = grain.whole(free)
        return found

    def _earlier(self, demands: Demands, passed: Gate, told: Choice, latest_s: int, *, released: bool) -> Choice | None:
        view = self._machine.normal
        best: Choice | None = None
        for demand in demands:
            length_s = self._chooser.length_s(demand)
            end_s = (best or told).end_s
            until_s = min(
                latest_s, passed.latest_s, passed.ends_by_s - demand.walltime_s, end_s - demand.walltime_s - 1
            )
            before_s = told.place.start_s - length_s
            place = view.earliest(demand, length_s, passed.earliest_s, min(until_s, before_s) if released else until_s)
            if place is None and released and until_s > before_s:
                # What it has been told is free for it, so what is known does not hold.
                after_s = max(before_s + 1, view.gantt.now_s)
                if passed.earliest_s >= after_s:
                    after_s = view.gantt.boundary(passed.earliest_s)
                after_s = view.gantt.fitting_until(demand, told.place.start_s, after_s)
                place = view.gantt.earliest(demand, length_s, after_s, until_s)
            if place is not None:
                best = Choice(demand, place)
        return best
