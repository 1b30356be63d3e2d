"""Why one waiting job does not start now, and the smallest changes with which it would start earlier.

A pass up to the job's turn, in which the jobs before it are not searched a place for:
they get the one that they were told.  So it costs a fraction of a pass, and the
answer speaks of the plan that people see.  At the job's turn the same core is asked
about the job and about variants of it; nothing is taken for any of them.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from heapq import nlargest
from operator import or_

from oarpy.model.request import Alternative, ResourceRequest
from oarpy.model.sharing_types import container_name, is_placed_apart
from oarpy.model.states import JobId
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.decide import Pass, Placing
from oarpy.scheduling.demand import GroupDemand
from oarpy.scheduling.dependencies import Period
from oarpy.scheduling.explain import CONTAINER_PENDING
from oarpy.scheduling.findings import AlternativeFacts, Change, Findings, InTheWay, LevelFacts
from oarpy.scheduling.gantt import NEVER_S, Gantt
from oarpy.scheduling.matching import PropertyUnknown
from oarpy.scheduling.plan import Decision, Doom, Postpone, Predict, SetAside, Start, Why
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Promise, Snapshot, WaitingJob
from oarpy.scheduling.space import Space
from oarpy.scheduling.variants import Variants, largest, variants

#: How many jobs are named of those that are in the way.
MOST_NAMED = 5
#: How many alternatives are told of, and how often the core is asked about variants.
MOST_ALTERNATIVES = 8
MOST_PROBES = 100
#: Of the jobs before it that were told no place, how many are planned.
MOST_SEARCHED = 2000


def inquire(
    snapshot: Snapshot, platform: Platform, asked: JobId, told: Mapping[JobId, Promise], go_on: Callable[[], bool]
) -> Findings | None:
    """What is in the way of ``asked``; None when it does not wait.

    ``told`` are the places of the waiting jobs.  Nothing more is tried once ``go_on`` is
    false.  Linear in the jobs before it.
    """
    inquiry = _Inquiry(snapshot, platform, asked, told, go_on)
    try:
        inquiry.plan()
    except _Reached as reached:
        return inquiry.findings(reached.job, reached.placing)
    job = next((one for one in snapshot.waiting if one.job_id == asked), None)
    return None if job is None else inquiry.never_reached(job)


class _Reached(Exception):
    """The job's turn has come."""

    def __init__(self, job: WaitingJob, placing: Placing) -> None:
        self.job = job
        self.placing = placing


class _Inquiry(Pass):
    def __init__(
        self,
        snapshot: Snapshot,
        platform: Platform,
        asked: JobId,
        told: Mapping[JobId, Promise],
        go_on: Callable[[], bool],
    ) -> None:
        super().__init__(snapshot, platform, {asked})
        self._asked = asked
        self._places = told
        self._go_on = go_on
        self._complete = True
        self._strictly = False
        self._before = 0
        self._unplanned = 0
        self._users = {job.job_id: job.user for job in snapshot.waiting}
        #: Jobs before it, planned as they were told; with `_late` those that no gantt knows yet.
        self._placed: list[tuple[JobId, int, int, Bits]] = []
        self._late: list[tuple[int, int, Bits]] = []
        #: Those that were told none, in order among them, where users have a limit, those that were.
        self._untold: list[tuple[WaitingJob, Placing | None]] = []
        self._probes = 0

    def _add(self, job: WaitingJob, placing: Placing) -> None:
        if job.job_id == self._asked and self._containers.awaited(job) is None:
            self._place_those_before()
            raise _Reached(job, placing)
        self._before += 1
        if container_name(job.types) is not None:
            # Jobs that wait for it come next.
            self._place_those_before()
            super()._add(job, placing)
        elif job.job_id in self._dying and not job.besteffort:
            # It is placed in two gantts at once, those behind it in one.
            super()._add(job, placing)
        elif not self._place_as_told(job):
            self._untold.append((job, placing))

    def _begin_besteffort(self) -> None:
        self._place_those_before()
        self._strictly = True

    def _place_as_told(self, job: WaitingJob) -> bool:
        told = self._places.get(job.job_id)
        if is_placed_apart(job.types):
            return False
        if told is None or told.start_s <= self._now_s or told.alternative >= len(job.request.alternatives):
            return False
        end_s, bits = self._occupy_late(job, told)
        self._machine.note_end(job.job_id, self._gantt.on_grid(end_s), bits)
        self._placed.append((job.job_id, told.start_s, end_s, bits))
        self._planned[job.job_id] = Period(told.start_s, end_s)
        self._reserved[job.queue] += 1
        if self._limits.jobs_per_user is not None:
            self._untold.append((job, None))
        return True

    def _occupy_late(self, job: WaitingJob, told: Promise) -> tuple[int, Bits]:
        """Let the job have its place when those that are `_late` are placed; its end, and what it takes."""
        walltime_s = job.request.alternatives[told.alternative].walltime_s
        end_s = told.start_s + walltime_s + self._limits.security_s
        bits = self._platform.bits(told.resources)
        if self._quotas is not None:
            self._quotas.add(job, bits, walltime_s, told.start_s, self._gantt.on_grid(end_s))
        self._late.append((told.start_s, end_s, bits))
        return end_s, bits

    def _place_those_behind(self, job: WaitingJob) -> None:
        """Let all others have their places, so that no change is told that would put one of them off."""
        for other in self._snapshot.waiting:
            told = self._places.get(other.job_id)
            if told is None or other.job_id in self._planned or other.job_id == job.job_id:
                continue
            behind = other.besteffort == job.besteffort and not is_placed_apart(other.types)
            if behind and told.start_s > self._now_s and told.alternative < len(other.request.alternatives):
                self._occupy_late(other, told)
        self._machine.occupy_all(self._late, strictly=self._strictly)
        self._late = []

    def _place_those_before(self) -> None:
        self._machine.occupy_all(self._late, strictly=self._strictly)
        self._late = []
        for job, placing in self._untold:
            if placing is None:
                queue = self._queues.get(job.queue)
                self._of_user[queue.priority if queue is not None else 0, job.user] += 1
            elif len(self._decisions) < MOST_SEARCHED and self._has_time():
                super()._add(job, placing)
            else:
                self._unplanned += 1
        self._untold = []

    @property
    def _gantt(self) -> Gantt:
        """The one that the jobs whose turn it is are placed in."""
        return self._machine.strict.gantt if self._strictly else self._machine.gantt

    def _has_time(self) -> bool:
        self._complete = self._complete and self._go_on()
        return self._complete

    def findings(self, job: WaitingJob, placing: Placing) -> Findings:
        """What is true at the job's turn."""
        try:
            decision = self._decide(job, placing)
        except Exception:
            # The job is set aside by every pass; there is nothing else to tell of it.
            decision = SetAside(job.job_id, traceback.format_exc())
        space = self._space(job)
        facts: list[AlternativeFacts] = []
        mask, changes = 0, []
        if not isinstance(decision, SetAside):
            mask = reduce(or_, (self._mask(space, each) for each in job.request.alternatives), 0)
            facts = [self._facts(job, placing, each) for each in job.request.alternatives[:MOST_ALTERNATIVES]]
            self._place_those_behind(job)
            changes = list(self._changes(job, placing, decision))
        in_question = self._platform.bits(decision.resources) if isinstance(decision, Predict) else mask
        holders = self._holders(space, in_question)
        planned_s = decision.start_s if isinstance(decision, Predict) else NEVER_S
        takers = self._takers(in_question, planned_s)
        reservations = self._reservations(space, in_question, planned_s)
        return Findings(
            decision=decision,
            alternatives=tuple(facts),
            in_question=in_question.bit_count(),
            holders=_last(holders),
            holding_jobs=len(holders),
            holding_resources=sum(each.resources for each in holders),
            takers=_last(takers),
            taking_jobs=len(takers),
            reservations=_last(reservations),
            reserved_jobs=len(reservations),
            before=self._before,
            unplanned=self._unplanned,
            changes=tuple(changes),
            complete=self._complete,
        )

    def never_reached(self, job: WaitingJob) -> Findings:
        """What is said of a job whose turn does not come, as what it waits for in turn waits for it."""
        decision = Postpone(job.job_id, Why(CONTAINER_PENDING, {"container": self._containers.awaited(job)}))
        return Findings(decision, (), 0, (), 0, 0, (), 0, (), 0, self._before, self._unplanned, (), self._complete)

    def _space(self, job: WaitingJob) -> Space:
        """Where the job is placed; the machine when that is not known."""
        found = self._containers.of(job)
        return self._wider.of(job, self._machine if isinstance(found, Postpone | Doom) else found[0])

    def _groups(self, space: Space, alternative: Alternative) -> Sequence[GroupDemand]:
        try:
            return space.demands.groups(alternative.groups)
        except PropertyUnknown:
            return ()

    def _mask(self, space: Space, alternative: Alternative) -> Bits:
        return reduce(or_, (group.mask for group in self._groups(space, alternative)), 0)

    def _facts(self, job: WaitingJob, placing: Placing, alternative: Alternative) -> AlternativeFacts:
        space = self._space(job)
        gantt = (space.strict if job.besteffort else space.normal).gantt
        free = gantt.free_now
        staying = gantt.room(self._now_s, alternative.walltime_s + self._limits.security_s)
        groups = []
        for group in self._groups(space, alternative):
            path = tuple(level.property for level in group.levels)
            existing = [
                self._platform.partition(path[: depth + 1]).within(space.demands.usable).marks.bit_count()
                for depth in range(len(path))
            ]
            groups.append(
                tuple(
                    LevelFacts(level.property, level.count, *numbers)
                    for level, *numbers in zip(
                        group.levels,
                        existing,
                        group.blocks(),
                        group.found(group.mask),
                        group.found(free & group.mask),
                        group.found(staying & group.mask),
                        strict=True,
                    )
                )
            )
        decision = self._probe(job, placing, alternative)
        shortest = self._probe(job, placing, replace(alternative, walltime_s=1))
        return AlternativeFacts(
            alternative,
            self._start(decision),
            self._start(shortest),
            decision.why if isinstance(decision, Postpone | Doom) else None,
            tuple(groups),
        )

    def _probe(self, job: WaitingJob, placing: Placing, alternative: Alternative) -> Decision | None:
        """What would be decided on the job with this request; None when there is no time to ask."""
        if self._probes >= MOST_PROBES or not self._has_time():
            self._complete = False
            return None
        self._probes += 1
        variant = replace(job, request_id=-self._probes, request=ResourceRequest((alternative,)))
        return self._decide(variant, placing)

    def _start(self, decision: Decision | None) -> int | None:
        if isinstance(decision, Start):
            return self._now_s
        return decision.start_s if isinstance(decision, Predict) else None

    def _changes(self, job: WaitingJob, placing: Placing, decision: Decision) -> Iterator[Change]:
        """For each thing that can be changed: the least change with which it starts earlier, and starts now."""
        planned_s = self._start(decision)
        if planned_s == self._now_s:
            return
        chosen = decision.alternative if isinstance(decision, Predict) else 0
        alternatives = job.request.alternatives
        for index in sorted(range(min(len(alternatives), MOST_ALTERNATIVES)), key=lambda index: index != chosen):
            wanted = alternatives[index]
            start_s = self._start(self._probe(job, placing, wanted)) if index != chosen else None
            if start_s is not None and (planned_s is None or start_s < planned_s):
                yield Change(start_s, "alternative", index, wanted, wanted)
            else:
                for smaller in variants(wanted, self._limits.grid_s):
                    yield from self._smaller(job, placing, planned_s, index, wanted, smaller)

    def _smaller(
        self,
        job: WaitingJob,
        placing: Placing,
        planned_s: int | None,
        index: int,
        wanted: Alternative,
        variants: Variants,
    ) -> Iterator[Change]:
        def start_s(value: int) -> int | None:
            return self._start(self._probe(job, placing, variants.made(value)))

        found = largest(variants.most, start_s, before_s=planned_s)
        if found is None:
            return
        yield variants.change(found, index, wanted)
        if found.start_s > self._now_s:
            at_once = largest(found.value - 1, start_s, before_s=self._now_s + 1)
            if at_once is not None:
                yield variants.change(at_once, index, wanted)

    def _holders(self, space: Space, in_question: Bits) -> list[InTheWay]:
        found = []
        for held in self._snapshot.held:
            if not held.suspended and held.space == space.number:
                common = self._platform.bits(held.resources) & in_question
                if common:
                    found.append(InTheWay(held.job_id, held.user, None, self._end_s(held), common.bit_count()))
        return found

    def _reservations(self, space: Space, in_question: Bits, before_s: int) -> list[InTheWay]:
        found = []
        for one in self._snapshot.reserved:
            common = self._platform.bits(one.resources) & in_question
            if common and one.space == space.number and one.start_s < before_s:
                found.append(InTheWay(one.job_id, one.user, one.start_s, one.end_s, common.bit_count()))
        return found

    def _takers(self, in_question: Bits, before_s: int) -> list[InTheWay]:
        return [
            InTheWay(job_id, self._users.get(job_id, ""), start_s, end_s, (bits & in_question).bit_count())
            for job_id, start_s, end_s, bits in [*self._placed, *self._newly_placed()]
            if bits & in_question and start_s < before_s
        ]

    def _newly_placed(self) -> Iterator[tuple[JobId, int, int, Bits]]:
        for decision in self._decisions:
            if isinstance(decision, Start | Predict):
                start_s = self._now_s if isinstance(decision, Start) else decision.start_s
                end_s = start_s + decision.walltime_s + self._limits.security_s
                yield decision.job_id, start_s, end_s, self._platform.bits(decision.resources)


def _last(found: Iterable[InTheWay]) -> tuple[InTheWay, ...]:
    """Those of them that end last, in the order of their ends."""
    return tuple(reversed(nlargest(MOST_NAMED, found, key=lambda each: (each.end_s, each.job_id))))
