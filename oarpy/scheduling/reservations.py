"""Advance reservations: accepted or refused once, then kept whatever else is decided.

A reservation is placed against what is held and what is reserved, and never against
what is only planned: jobs that wait give way to it.  Besteffort jobs do not count, they
are killed in time.  From then on its resources are taken before any job is placed.

At its start it waits for a while for those of its resources that are not Alive or that
somebody still holds, and then starts on the others.  However late, it ends when it was
promised to.

One that is to lie in a container is judged within the container's resources and time,
which must be certain: the container runs, or is an accepted reservation.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial, reduce
from operator import or_
from typing import TypeVar

from oarpy.model.reach_types import Reach, reach
from oarpy.model.sharing_types import MACHINE, container_name, container_of
from oarpy.model.states import EndCause, JobId
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.containers import Containers
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.dependencies import Period
from oarpy.scheduling.explain import (
    CONTAINER_CLOSED,
    CONTAINER_GONE,
    CONTAINER_NOT_RESERVED,
    CONTAINER_TOO_SMALL,
    QUEUE_STOPPED,
    QUEUE_UNKNOWN,
    RESERVATION_BEYOND_CONTAINER,
    RESERVATION_EXPIRED,
    RESERVATION_INCOMPLETE,
    RESERVATION_NO_NODE,
    RESERVATION_TAKEN,
    RESERVED,
    sentence,
)
from oarpy.scheduling.gantt import NEVER_S, Gantt
from oarpy.scheduling.plan import Begin, Decision, Doom, Grant, Kill, Postpone, Predict, Refuse, SetAside, Start, Why
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.quotas import Quotas
from oarpy.scheduling.sharing import sharing
from oarpy.scheduling.snapshot import HeldJob, Queue, Reservation, Snapshot, WaitingJob
from oarpy.scheduling.space import Space, closing

D = TypeVar("D")


class Bookings:
    """The advance reservations of one pass; `decide` is called once, before any other job is placed."""

    def __init__(
        self,
        snapshot: Snapshot,
        platform: Platform,
        machine: Space,
        containers: Containers,
        quotas: Quotas | None,
        *,
        end_s: Callable[[HeldJob], int],
        supposed: Collection[JobId],
    ) -> None:
        """``end_s`` tells when a job's resources are expected to be free."""
        self.kills: list[Kill] = []
        self.planned: dict[JobId, Period] = {}
        self.begun: list[Reservation] = []
        #: When besteffort jobs have next to be looked for.
        self.due_s: int | None = None
        self._snapshot = snapshot
        self._now_s = snapshot.now_s
        self._limits = snapshot.limits
        self._platform = platform
        self._machine = machine
        self._containers = containers
        self._quotas = quotas
        self._end_s = end_s
        self._supposed = supposed
        self._queues = {queue.name: queue for queue in snapshot.queues}
        #: What is held and reserved in each space, to the second, on all that may be in service one day.
        self._calendars: dict[JobId, Gantt] = {}

    def decide(self) -> list[Decision]:
        """Take what is reserved, let those begin whose time has come, and judge those that are asked for."""
        decisions: list[Decision] = []
        for one in _containers_first(self._snapshot.reserved):
            taken = self._platform.bits(one.resources)
            decided = _guarded(one.job_id, partial(self._displace_and_follow, one, taken))
            # What is reserved is kept whatever was raised.
            failed = _guarded(one.job_id, partial(self._reserve, one, taken))
            said = failed or decided
            if said is not None:
                decisions.append(said)
            if isinstance(said, Begin):
                self.begun.append(one)
        for job in self._snapshot.requested:
            decisions.append(_guarded(job.job_id, partial(self._judge_and_reserve, job)))
        return decisions

    def _judge_and_reserve(self, job: WaitingJob) -> Grant | Refuse | Postpone:
        judged = self._judge(job)
        if isinstance(judged, Grant) and job.job_id not in self._supposed:
            self._reserve(_accepted(job, judged), self._platform.bits(judged.resources))
        return judged

    # What was accepted.

    def _reserve(self, one: Reservation, taken: Bits) -> None:
        """Keep it in the plan, and in the calendar where there is one already."""
        space = self._containers.space(one.space)
        free_s = one.end_s + self._limits.security_s
        if free_s <= self._now_s or space is None:
            return
        gantt = space.gantt
        begin_s = max(gantt.on_grid_before(one.start_s), self._now_s)
        shared = sharing(one.types, one.user, one.name, besteffort=one.besteffort)
        space.reserve(begin_s, free_s, taken, shared)
        space.note_end(one.job_id, gantt.on_grid(free_s), taken)
        if self._quotas is not None:
            self._quotas.add(one, taken, one.end_s - one.start_s, begin_s, gantt.on_grid(free_s))
        self._containers.open(one, one.start_s, one.end_s - one.start_s, taken)
        self._containers.decided(one)
        self.planned[one.job_id] = Period(one.start_s, free_s)
        if one.space in self._calendars:
            self._calendars[one.space].occupy(one.start_s, free_s, taken)

    def _displace(self, one: Reservation, taken: Bits) -> None:
        """Tell the besteffort jobs to die that would be in the way at the start."""
        space = self._containers.space(one.space)
        if one.on_hold or space is None:
            return
        for victim in space.victims:
            if victim.chosen or not victim.bits & taken or victim.end_s <= one.start_s:
                continue
            # One that saves its work first needs more time.
            last_s = one.start_s - max(self._limits.reservation_kill_s, victim.dead_s - self._now_s)
            if last_s <= self._now_s:
                victim.chosen = True
                self.kills.append(Kill(victim.job_id, one.job_id))
            elif self.due_s is None or last_s < self.due_s:
                self.due_s = last_s

    def _displace_and_follow(self, one: Reservation, taken: Bits) -> Begin | Predict | Postpone | Doom | None:
        self._displace(one, taken)
        return self._follow(one, taken)

    def _follow(self, one: Reservation, taken: Bits) -> Begin | Predict | Postpone | Doom | None:
        """What becomes of an accepted reservation; None when nothing does."""
        now_s = self._now_s
        if now_s >= one.end_s:
            return Doom(one.job_id, Why(RESERVATION_EXPIRED, {"end_s": one.end_s}), EndCause.RESERVATION)
        if one.on_hold:
            return None
        if self._containers.is_over(one.space):
            return Doom(one.job_id, Why(CONTAINER_GONE, {"container": one.space}), EndCause.CONTAINER)
        if now_s < one.start_s:
            why = Why(RESERVED, {"start_s": one.start_s})
            return Predict(one.job_id, one.alternative, one.start_s, one.end_s - one.start_s, one.resources, why)
        stopped = not_served(one.queue, self._queues)
        if stopped is not None:
            return Postpone(one.job_id, stopped)
        not_open = self._containers.not_open(one.space)
        if not_open is not None:
            return Postpone(one.job_id, not_open)
        there = taken & self._ready(one)
        reserved = sum(end - begin for begin, end in one.resources)
        # Waiting longer than for half of it would spoil more than it could save.
        until_s = one.start_s + min(self._limits.reservation_wait_s, (one.end_s - one.start_s) // 2)
        if there.bit_count() < reserved and now_s < until_s:
            numbers: dict[str, object] = {
                "missing": reserved - there.bit_count(),
                "reserved": reserved,
                "until_s": until_s,
            }
            why = Why(RESERVATION_INCOMPLETE, numbers)
            return Predict(one.job_id, one.alternative, until_s, one.end_s - until_s, one.resources, why)
        if not there:
            return Doom(one.job_id, Why(RESERVATION_NO_NODE, {"reserved": reserved}), EndCause.RESERVATION)
        shared = sharing(one.types, one.user, one.name, besteffort=one.besteffort)
        resources = self._platform.ranges(there)
        start = Start(one.job_id, one.alternative, one.end_s - now_s, resources, one.space, shared)
        # Of two that were accepted for the same, as after a launch that failed, one gets it.
        self._held[one.space] = self._held.get(one.space, 0) | there
        return Begin(start, self._platform.ranges(taken & ~there), now_s - one.start_s)

    def _ready(self, one: Reservation) -> Bits:
        """What a job of its types may start on now."""
        wanted = reach(one.types)
        free = self._containers.bits(one.space) & ~self._held.get(one.space, 0)
        if wanted is Reach.PERMISSIVE:
            return self._platform.lasting & free
        usable = self._platform.usable(self._now_s)
        return (usable if wanted is Reach.STANDBY else usable & ~self._asleep) & free

    @cached_property
    def _asleep(self) -> Bits:
        return reduce(or_, self._platform.wakeable(self._now_s).values(), 0)

    @cached_property
    def _held(self) -> dict[JobId, Bits]:
        """What jobs hold now in each space, besteffort ones too."""
        held: dict[JobId, Bits] = {}
        for job, bits in self._holdings():
            held[job.space] = held.get(job.space, 0) | bits
        return held

    def _holdings(self) -> Iterable[tuple[HeldJob, Bits]]:
        lent = self._platform.of_types(self._limits.lent_types)
        for job in self._snapshot.held:
            bits = self._platform.bits(job.resources)
            yield job, bits & ~lent if job.suspended else bits

    # What is asked for.

    def _calendar(self, space: JobId) -> Gantt:
        known = self._calendars.get(space)
        if known is not None:
            return known
        bits = self._containers.bits(space)
        gantt = self._calendars[space] = Gantt(self._now_s, self._platform.reservable & bits, grid_s=1)
        holdings = [
            (self._end_s(job), held)
            for job, held in self._holdings()
            if job.space == space and (not job.besteffort or job.killing_until_s is not None)
        ]
        holdings += [
            (one.start_s, bits) for one in self._snapshot.reserved if one.job_id == space and one.start_s > self._now_s
        ]
        gantt.hold(holdings)
        for one in self._snapshot.reserved:
            if one.space == space:
                gantt.occupy(one.start_s, one.end_s + self._limits.security_s, self._platform.bits(one.resources))
        end_s = self._containers.end_s(space)
        if end_s is not None:
            closing(gantt, end_s + self._limits.security_s)
        return gantt

    def _judge(self, job: WaitingJob) -> Grant | Refuse | Postpone:
        """The first alternative that can be had at the start that was asked for; one in the past is now."""
        stopped = not_served(job.queue, self._queues)
        if stopped is not None:
            return Postpone(job.job_id, stopped)
        spaces = self._containers.of(job)
        if isinstance(spaces, Postpone | Doom):
            return self._without_container(job, spaces.why)
        refusals: list[Refuse] = []
        for space in spaces:
            judged = self._judge_in(space, job)
            if isinstance(judged, Grant):
                return judged
            refusals.append(judged)
        return min(refusals, key=_earliest_s)

    def _without_container(self, job: WaitingJob, why: Why) -> Refuse | Postpone:
        """What is said of an inner job whose container takes nobody in, or is not certain to be there."""
        wanted = container_of(job.types)
        for one in self._snapshot.requested:
            if one.job_id != job.job_id and wanted in (str(one.job_id), container_name(one.types)):
                return Postpone(job.job_id, why)
        if why.code not in (CONTAINER_CLOSED, CONTAINER_GONE):
            why = Why(CONTAINER_NOT_RESERVED, {"container": wanted})
        return Refuse(job.job_id, why)

    def _judge_in(self, space: Space, job: WaitingJob) -> Grant | Refuse:
        demands = self._demands_in(space, job)
        if isinstance(demands, Refuse):
            return demands
        gantt, security_s = self._calendar(space.number), self._limits.security_s
        start_s = gantt.boundary(max(job.not_before_s or 0, self._now_s))
        limited: Why | None = None
        # The less can go wrong until the start, the better.
        usable = self._platform.usable(self._now_s)
        awake = usable & ~self._asleep
        preferences = (awake & ~space.preemptible, awake, usable, self._platform.everything)
        for demand in demands:
            room = gantt.room(start_s, demand.walltime_s + security_s) & demand.mask
            taken = next(filter(None, (demand.take(room & preferred) for preferred in preferences)), None)
            if taken is None:
                continue
            if self._quotas is not None:
                verdict = self._quotas.first(job, taken, demand.walltime_s, start_s, start_s)
                if verdict.start_s > start_s:
                    limited = limited or verdict.why
                    continue
            resources = self._platform.ranges(taken)
            return Grant(job.job_id, demand.index, start_s, demand.walltime_s, resources, space.number)
        if limited is not None:
            return Refuse(job.job_id, limited)
        places = [gantt.earliest(demand, demand.walltime_s + security_s, start_s) for demand in demands]
        numbers: dict[str, object] = {"start_s": start_s, "length_s": min(demand.walltime_s for demand in demands)}
        starts = [place.start_s for place in places if place is not None]
        if starts:
            return Refuse(job.job_id, Why(RESERVATION_TAKEN, numbers | {"earliest_s": min(starts)}))
        numbers |= {"container": space.number, "end_s": self._containers.end_s(space.number)}
        return Refuse(job.job_id, Why(RESERVATION_BEYOND_CONTAINER, numbers))

    def _demands_in(self, space: Space, job: WaitingJob) -> Sequence[Demand] | Refuse:
        if space.number == MACHINE:
            prepared = self._platform.demands(self._platform.reservable).shared(job.request_id, job.request)
            return prepared.demands if prepared.refusal is None else Refuse(job.job_id, prepared.refusal)
        within = self._platform.inner_demands(self._platform.reservable & self._containers.bits(space.number))
        prepared = within.shared(job.request_id, job.request)
        if prepared.refusal is None:
            return prepared.demands
        numbers: dict[str, object] = {"container": space.number, "reason": sentence(prepared.refusal)}
        return Refuse(job.job_id, Why(CONTAINER_TOO_SMALL, numbers))


def _earliest_s(refused: Refuse) -> int:
    earliest_s = refused.why.numbers.get("earliest_s")
    return earliest_s if isinstance(earliest_s, int) else NEVER_S


def _containers_first(reserved: Sequence[Reservation]) -> Sequence[Reservation]:
    """The reservations, each behind the container in which it lies."""
    spaces = {one.job_id: one.space for one in reserved}

    def depth(one: Reservation) -> int:
        found, space = 0, one.space
        while space in spaces and found <= len(spaces):
            found, space = found + 1, spaces[space]
        return found

    return sorted(reserved, key=depth)


def not_served(name: str, queues: Mapping[str, Queue]) -> Why | None:
    """Why nothing is decided for jobs of this queue, None for one that is served."""
    queue = queues.get(name)
    if queue is not None and queue.active:
        return None
    return Why(QUEUE_STOPPED if queue else QUEUE_UNKNOWN, {"queue": name})


def _accepted(job: WaitingJob, grant: Grant) -> Reservation:
    end_s = grant.start_s + grant.walltime_s
    who = (job.user, job.project, job.name, job.types, job.besteffort)
    what = (job.queue, grant.alternative, grant.start_s, end_s, grant.resources)
    return Reservation(job.job_id, *what, *who, space=grant.space)


def _guarded(job_id: JobId, decide_on_it: Callable[[], D]) -> D | SetAside:
    """What is decided on a job; one that raises harms no other."""
    try:
        return decide_on_it()
    except Exception:
        return SetAside(job_id, traceback.format_exc())
