"""Planned starts that were told are kept: a job only moves to an earlier one.

All places that were told are put down first, in the order of their starts; then each
job in its turn looks for an earlier one, as if its own were free.  The first jobs of the
order, as long as each takes a number of the same resources, have looked before by number
alone, and resources are chosen for all when that is done.  A place that cannot
be had any more (what it needs is still held when it comes to start) is put off for as
long as that takes; one whose resources are gone, or whose queue is ordered anew, is
given up.  A job without a place (one that was given up, or the job was edited, or held for
a while) gets in its turn one that disturbs none of those that stand.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from oarpy.model.reach_types import Reach, reach
from oarpy.model.sharing_types import is_placed_apart
from oarpy.model.states import JobId, Ordering, Replan
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.counting import Tally, counted
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.plan import Decision, Predict
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Queue, Snapshot, WaitingJob
from oarpy.scheduling.space import Space
from oarpy.scheduling.tokens import needs_tokens

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kept:
    """A place that stands in the gantt until the job's turn comes."""

    job_id: JobId
    alternative: int
    start_s: int
    end_s: int
    bits: Bits


class Promises:
    """What was told of one snapshot's jobs, as far as it still binds."""

    def __init__(self, snapshot: Snapshot, platform: Platform, usable: Bits) -> None:
        self._told = snapshot.promises
        self._now_s = snapshot.now_s
        # A pass that plans only the head of the queue is to be quick.
        self._in_haste = snapshot.limits.plan_first is not None
        self._judged_singly = snapshot.quotas is not None or snapshot.limits.jobs_per_user is not None
        self._grid_s = snapshot.limits.grid_s
        self._security_s = snapshot.limits.security_s
        self._platform = platform
        self._usable = usable
        self._queues = {queue.name: queue for queue in snapshot.queues}
        #: The jobs for which there is no earlier start than the one that was put down.
        self.certain: Collection[JobId] = ()
        #: What was raised over jobs whose places were to be put down.
        self.failed: dict[JobId, str] = {}
        self._ranks = {job_id: rank for rank, job_id in enumerate(self._told)}

    def put_down(self, space: Space, jobs: Sequence[WaitingJob]) -> dict[JobId, Kept]:
        """Occupy the places of these jobs, given in their order; those that stand, by job."""
        binding = self._binding(jobs)
        if not binding:
            return {}
        places = (self._guarded(job, self.place) for job in binding)
        wanted = sorted((kept for kept in places if kept is not None), key=_by_start)
        certain: Collection[JobId] = ()
        if not self._in_haste and not space.victims:
            wanted, certain = self._rearranged(space, wanted, jobs)
        if space.occupy_free([(kept.start_s, kept.end_s, kept.bits) for kept in wanted]):
            self.certain = frozenset(certain)
            return {kept.job_id: kept for kept in wanted}
        standing = {}
        for kept in wanted:
            start_s = space.gantt.first_free(kept.bits, kept.start_s, kept.end_s - kept.start_s)
            if start_s is not None:
                end_s = start_s + kept.end_s - kept.start_s
                space.occupy(start_s, end_s, kept.bits)
                standing[kept.job_id] = Kept(kept.job_id, kept.alternative, start_s, end_s, kept.bits)
        return standing

    def _rearranged(
        self, space: Space, wanted: list[Kept], order: Sequence[WaitingJob]
    ) -> tuple[list[Kept], Collection[JobId]]:
        """The places on resources chosen anew; and of which jobs the starts were looked for by number."""
        jobs = {job.job_id: job for job in order}
        numbers, mask = self._numbers(space, wanted, order)
        moved = _moved(space, wanted, numbers, mask)
        if moved is not None:
            chosen = self._chosen_anew(space, moved, jobs)
            if chosen is not None:
                return chosen, numbers
        if moved != wanted:
            wanted = self._chosen_anew(space, wanted, jobs) or wanted
        return wanted, ()

    def _numbers(
        self, space: Space, wanted: Sequence[Kept], order: Sequence[WaitingJob]
    ) -> tuple[dict[JobId, int], Bits]:
        """How many resources of one set the first jobs take, in their order, up to one that is not so simple.

        One that has no place yet would find less when those behind it have moved.
        """
        numbers: dict[JobId, int] = {}
        mask: Bits = 0
        if self._judged_singly:
            return numbers, mask
        alternatives = {kept.job_id: kept.alternative for kept in wanted}
        for job in order:
            if job.job_id not in alternatives:
                if self._may_be_placed(job):
                    break
                continue
            demand = self._guarded(job, partial(_demand, space, alternatives[job.job_id]))
            number = self._number(job, demand) if demand is not None else None
            if demand is None or number is None or (mask and demand.mask != mask):
                break
            mask, numbers[job.job_id] = demand.mask, number
        return numbers, mask

    def _may_be_placed(self, job: WaitingJob) -> bool:
        """Whether it is to be expected that a job gets a place among these that has none."""
        queue = self._queues.get(job.queue)
        return queue is not None and queue.active and not job.dependencies and not (job.types and _is_apart(job.types))

    def _number(self, job: WaitingJob, demand: Demand) -> int | None:
        """How many resources the job takes, None when it matters which, or something else decides about its start."""
        if len(job.request.alternatives) > 1 or job.dependencies or self._queues[job.queue].depth is not None:
            return None
        if job.expires_s is not None or job.deadline_s is not None or (job.types and needs_tokens(job)):
            return None
        return counted(demand)

    def _chosen_anew(self, space: Space, wanted: Sequence[Kept], jobs: Mapping[JobId, WaitingJob]) -> list[Kept] | None:
        """The same starts on resources chosen in the order of these; None when they do not all fit in this way.

        A start was promised, not the resources.  What jobs that ended early have left is in
        pieces; closing the gaps is worth 3 to 10 % of the mean wait on two real machines.
        """
        trial = space.gantt.copy()
        found = []
        for kept in wanted:
            demand = self._guarded(jobs[kept.job_id], partial(_demand, space, kept.alternative))
            if demand is None:
                continue
            start_s = trial.boundary(kept.start_s)
            place = trial.earliest(demand, kept.end_s - kept.start_s, start_s, start_s)
            if place is None:
                return None
            trial.occupy(start_s, kept.end_s, place.taken)
            found.append(replace(kept, bits=place.taken))
        return found

    def _guarded(self, job: WaitingJob, find: Callable[[WaitingJob], T | None]) -> T | None:
        """What is found of a job; one over which that raises harms no other."""
        try:
            return find(job)
        except Exception:
            self.failed[job.job_id] = traceback.format_exc()
            return None

    def _binding(self, jobs: Sequence[WaitingJob]) -> list[WaitingJob]:
        """The jobs whose place still binds.

        In a queue that is not ordered by submission none behind the first job that came
        to stand before another: else nobody would gain by the order.
        """
        found = []
        reordered = False
        last = -1
        for job in jobs:
            queue = self._queues.get(job.queue)
            if queue is None or not queue.active or queue.replan is not Replan.EARLIER:
                continue
            if queue.ordering is not Ordering.FIFO:
                rank = self._ranks.get(job.job_id)
                if rank is None:
                    reordered = reordered or not job.dependencies
                elif rank < last:
                    reordered = True
                last = last if rank is None else rank
                if reordered:
                    continue
            if job.job_id in self._told and not (job.types and _is_apart(job.types)):
                found.append(job)
        return found

    def place(self, job: WaitingJob) -> Kept | None:
        """The place that the job was told, None when it was told none or some of the resources are gone."""
        told = self._told.get(job.job_id)
        if told is None or told.alternative >= len(job.request.alternatives):
            return None
        bits = self._platform.bits(told.resources)
        if bits & ~self._usable or bits.bit_count() != sum(end - begin for begin, end in told.resources):
            return None
        start_s = self._now_s
        if told.start_s > start_s:
            start_s = -(-told.start_s // self._grid_s) * self._grid_s
        length_s = job.request.alternatives[told.alternative].walltime_s + self._security_s
        return Kept(job.job_id, told.alternative, start_s, start_s + length_s, bits)

    def broken(self, decisions: Iterable[Decision]) -> tuple[JobId, ...]:
        """The jobs that are planned to start later than they were told."""
        found = []
        for decision in decisions:
            if isinstance(decision, Predict):
                told = self._told.get(decision.job_id)
                if told is not None and decision.start_s > max(told.start_s, self._now_s):
                    found.append(decision.job_id)
        return tuple(found)


def by_priority(jobs: Iterable[WaitingJob], queues: Collection[Queue]) -> list[list[WaitingJob]]:
    """The jobs, which are in their order, in groups of equal priority of their queues."""
    priorities: dict[str, int | None] = {queue.name: queue.priority for queue in queues}
    groups: list[list[WaitingJob]] = []
    current: int | None = None
    for job in jobs:
        priority = priorities.get(job.queue)
        if not groups or priority != current:
            groups.append([])
            current = priority
        groups[-1].append(job)
    return groups


def _moved(space: Space, wanted: Sequence[Kept], numbers: Mapping[JobId, int], mask: Bits) -> list[Kept] | None:
    """The places with those jobs as early as numbers allow; None when there is less than is held by these.

    Whether resources can be chosen for these starts is still to be seen: they cannot always
    where something else is to begin later, as an advance reservation is.
    """
    if not numbers:
        return None
    tally = Tally(space.gantt, mask)
    if not tally.take_all(
        (kept.start_s, kept.end_s, numbers.get(kept.job_id) or (kept.bits & mask).bit_count()) for kept in wanted
    ):
        return None
    places = {kept.job_id: kept for kept in wanted}
    for job_id, number in numbers.items():
        kept = places[job_id]
        length_s = kept.end_s - kept.start_s
        start_s = tally.moved(kept.start_s, length_s, number)
        if start_s < kept.start_s:
            places[job_id] = replace(kept, start_s=start_s, end_s=start_s + length_s)
    return sorted(places.values(), key=_by_start)


def _demand(space: Space, alternative: int, job: WaitingJob) -> Demand | None:
    demands = space.demands.shared(job.request_id, job.request).demands
    return next((one for one in demands if one.index == alternative), None)


def _is_apart(types: tuple[str, ...]) -> bool:
    return is_placed_apart(types) or reach(types) is not Reach.ALIVE


def _by_start(kept: Kept) -> int:
    return kept.start_s
