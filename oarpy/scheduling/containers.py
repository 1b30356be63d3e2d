"""Containers: jobs within whose resources and time other jobs, their inner ones, are placed.

A container that holds resources is a space of its own, from the moment it runs until
its planned end.  One that waits becomes a space as soon as it is placed itself, so its
inner jobs are planned inside its planned place; those that come before it in the order
are put behind it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

from oarpy.model.sharing_types import MACHINE, container_name, container_of, is_container_id
from oarpy.model.states import EndCause, JobId, JobState
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.explain import (
    CONTAINER_CLOSED,
    CONTAINER_ENDS,
    CONTAINER_GONE,
    CONTAINER_MISSING,
    CONTAINER_PENDING,
    CONTAINER_PLANNED,
    CONTAINER_TOO_SHORT,
    CONTAINER_TOO_SMALL,
    sentence,
)
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.plan import Doom, Postpone, Why
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import HeldJob, Reservation, Snapshot, WaitingJob
from oarpy.scheduling.space import Space, closing

#: Of one in another state the end is at hand, or it is not there to be worked in.
_OPEN = frozenset({JobState.TO_LAUNCH, JobState.LAUNCHING, JobState.RUNNING})


class _Life(NamedTuple):
    """A container's resources and time; ``end_s`` without what it may need beyond its walltime.

    ``closed``: why no job is placed in it now.
    """

    bits: Bits
    begin_s: int
    end_s: int
    held: bool
    closed: str | None = None


class Containers:
    """The spaces of one pass, the machine's among them."""

    def __init__(self, snapshot: Snapshot, platform: Platform, machine: Space) -> None:
        self._now_s = snapshot.now_s
        self._limits = snapshot.limits
        self._put_off = snapshot.put_off
        self._platform = platform
        self._spaces = {MACHINE: machine}
        self._lives: dict[JobId, _Life] = {}
        self._named: defaultdict[str, list[JobId]] = defaultdict(list)
        #: Waiting containers that nothing has been decided on, with their names.
        self._undecided: dict[JobId, str] = {}
        #: All waiting ones that are decided on and have no place.
        self._placeless: set[JobId] = set()
        for job in snapshot.held:
            name = container_name(job.types) if job.types else None
            if name is not None:
                self._open_held(job, name)
        for waiting in snapshot.waiting:
            name = container_name(waiting.types) if waiting.types else None
            if name is not None:
                self._undecided[waiting.job_id] = name
        for reserved in snapshot.reserved:
            name = container_name(reserved.types) if reserved.types else None
            if name is not None:
                self._undecided[reserved.job_id] = name

    @property
    def spaces(self) -> Iterable[Space]:
        return self._spaces.values()

    def holding(self, job: HeldJob) -> Space | None:
        """The space in which a job holds its resources; None when that is known no more."""
        return self._spaces.get(job.space)

    def space(self, number: JobId) -> Space | None:
        """The machine, or the space of a container that has a place."""
        return self._spaces.get(number)

    def bits(self, number: JobId) -> Bits:
        """All that is in a space, in service or not."""
        return self._platform.everything if number == MACHINE else self._lives[number].bits

    def end_s(self, number: JobId) -> int | None:
        """When a container ends; None for the machine."""
        life = self._lives.get(number)
        return None if life is None else life.end_s

    def is_over(self, number: JobId) -> bool:
        """Whether a container neither holds resources nor may do so one day."""
        return number not in self._spaces and number not in self._undecided and number not in self._put_off

    def not_open(self, number: JobId) -> Why | None:
        """Why nothing can start within a container now; None where it can."""
        if number == MACHINE:
            return None
        life = self._lives.get(number)
        if life is None:
            return Why(CONTAINER_PENDING, {"container": number})
        if life.closed is not None:
            return Why(CONTAINER_CLOSED, {"container": number, "state": life.closed})
        if life.begin_s > self._now_s:
            return Why(CONTAINER_PLANNED, {"container": number, "expected_s": life.begin_s})
        return None

    def awaited(self, job: WaitingJob) -> JobId | None:
        """The container that must be decided on before this inner job is."""
        wanted = container_of(job.types) if job.types and self._undecided else None
        if wanted is None:
            return None
        if is_container_id(wanted):
            container = JobId(int(wanted))
            return container if container in self._undecided and container != job.job_id else None
        if any(self._lives[container].closed is None for container in self._named[wanted]):
            return None
        named = (one for one, name in self._undecided.items() if name == wanted and one != job.job_id)
        return next(named, None)

    def decided(self, job: WaitingJob | Reservation) -> None:
        """A job was decided on; if it is a container that got a place, `open` was called before."""
        if self._undecided and self._undecided.pop(job.job_id, None) is not None and job.job_id not in self._spaces:
            self._placeless.add(job.job_id)

    def open(self, job: WaitingJob | Reservation, start_s: int, walltime_s: int, taken: Bits) -> None:
        """A job was given a place; if it is a container, jobs may be planned inside it from its start on."""
        name = self._undecided.get(job.job_id) if self._undecided else None
        if name is not None:
            # It must be Running before anything starts in it.
            begin_s = max(start_s, self._spaces[MACHINE].gantt.after_now())
            self._open(job.job_id, name, _Life(taken, begin_s, start_s + walltime_s, held=False))

    def of(self, job: WaitingJob) -> Sequence[Space] | Postpone | Doom:
        """Where the job may be placed: any of these spaces, or why it cannot be now."""
        wanted = container_of(job.types) if job.types else None
        if wanted is None:
            return (self._spaces[MACHINE],)
        if not is_container_id(wanted):
            named = [container for container in self._named[wanted] if container != job.job_id]
            found = [self._spaces[container] for container in named if self._lives[container].closed is None]
            if found:
                return found
            why = Why(CONTAINER_MISSING, {"name": wanted})
            return (self._closed(job, named[0]) if named else None) or Postpone(job.job_id, why)
        container = JobId(int(wanted))
        if container in self._lives:
            return self._closed(job, container) or (self._spaces[container],)
        numbers: dict[str, object] = {"container": container}
        if container in self._placeless or container in self._undecided or container in self._put_off:
            return Postpone(job.job_id, Why(CONTAINER_PENDING, numbers))
        return Doom(job.job_id, Why(CONTAINER_GONE, numbers), EndCause.CONTAINER)

    def not_yet(self, space: Space, start_s: int) -> Why | None:
        """The reason when the job starts as soon as its container, which does not run yet."""
        life = self._lives.get(space.number)
        if life is None or life.begin_s <= self._now_s or start_s > space.gantt.on_grid(life.begin_s):
            return None
        return Why(CONTAINER_PLANNED, {"container": space.number, "expected_s": life.begin_s})

    def too_small(self, job: WaitingJob, space: Space) -> Postpone | Doom | None:
        """What is said of a request for more than the container has; None if it has it, out of service perhaps."""
        life = self._lives.get(space.number)
        if life is None:
            return None
        lasting = self._platform.inner_demands(self._platform.lasting & life.bits)
        refusal = lasting.shared(job.request_id, job.request).refusal
        if refusal is None:
            return None
        why = Why(CONTAINER_TOO_SMALL, {"container": space.number, "reason": sentence(refusal)})
        return self._never(job, life, why)

    def too_late(self, job: WaitingJob, space: Space, demands: Iterable[Demand]) -> Postpone | Doom | None:
        """What is said of a job that finds no place before its container ends."""
        life = self._lives.get(space.number)
        if life is None:
            return None
        length_s = min(demand.walltime_s for demand in demands)
        numbers: dict[str, object] = {"container": space.number, "length_s": length_s, "end_s": life.end_s}
        if length_s > life.end_s - max(life.begin_s, self._now_s):
            return self._never(job, life, Why(CONTAINER_TOO_SHORT, numbers))
        return Postpone(job.job_id, Why(CONTAINER_ENDS, numbers))

    def _closed(self, job: WaitingJob, container: JobId) -> Postpone | None:
        state = self._lives[container].closed
        if state is None:
            return None
        return Postpone(job.job_id, Why(CONTAINER_CLOSED, {"container": container, "state": state}))

    def _never(self, job: WaitingJob, life: _Life, why: Why) -> Postpone | Doom:
        """A container that is named by its id is the only one; by name there may come another."""
        by_id = is_container_id(container_of(job.types) or "")
        return Doom(job.job_id, why, EndCause.NEVER_FITS) if by_id and life.held else Postpone(job.job_id, why)

    def _open_held(self, job: HeldJob, name: str) -> None:
        begin_s = self._now_s if job.state is JobState.RUNNING else self._spaces[MACHINE].gantt.after_now()
        closed = None if job.state in _OPEN else job.state.value
        if job.killing_until_s is not None:
            closed = "being killed"
        bits = self._platform.bits(job.resources)
        self._open(job.job_id, name, _Life(bits, begin_s, job.end_s, held=True, closed=closed))

    def _open(self, job_id: JobId, name: str, life: _Life) -> None:
        usable = self._platform.usable(self._now_s) & life.bits
        asleep = reduce(or_, self._platform.wakeable(self._now_s).values(), 0) & usable
        gantt = Gantt(self._now_s, usable, self._limits.grid_s)
        holdings = [(gantt.on_grid(life.begin_s), usable)] if life.begin_s > self._now_s else []
        if asleep:
            holdings.append((gantt.on_grid(self._now_s + max(self._limits.wake_s, 1)), asleep))
        if holdings:
            gantt.hold(holdings)
        for upto_s, bits in self._platform.wakeable(self._now_s).items():
            closing(gantt, upto_s, bits & usable)
        closing(gantt, life.end_s + self._limits.security_s)
        demands = self._platform.inner_demands(usable)
        self._spaces[job_id] = Space(job_id, gantt, demands, usable & ~asleep)
        self._lives[job_id] = life
        if name:
            self._named[name].append(job_id)
