"""How much longer running jobs may run: as long as nobody is made to wait for it.

A job's resources are its own until somebody else is planned on them.  So its
walltime can grow up to the first planned start of another job there, or, when it
was allowed to delay those, up to the first reservation, which nothing moves.  And
it grows no further than quotas allow, of which it may take more for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from oarpy.model.states import JobId, JobState
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.plan import Grant, Plan, Predict, Ranges, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.quotas import Quotas
from oarpy.scheduling.snapshot import HeldJob, QuotaRules, Reservation, Snapshot


@dataclass(frozen=True, slots=True)
class LongerWish:
    """That a running job gets ``extra_s`` more.

    ``step_s``: no more than this at once (None: no such limit).  ``whole``: all of it or
    nothing.  ``delays_others``: jobs that are planned behind it may start later for it.
    ``deadline_s`` is when the job must have ended in any case.
    """

    job_id: JobId
    extra_s: int
    step_s: int | None = None
    whole: bool = False
    delays_others: bool = False
    deadline_s: int | None = None


@dataclass(frozen=True, slots=True)
class Longer:
    """``extra_s`` more for the job, for which ``delayed`` jobs start later, by ``delay_s`` at most."""

    job_id: JobId
    extra_s: int
    delayed: int = 0
    delay_s: int = 0


_FOREVER_S = 1 << 40
#: A pass over a snapshot that differs from the one that was decided on.
Again = Callable[[Snapshot], Plan]


def prolonged(
    snapshot: Snapshot, plan: Plan, wishes: Iterable[LongerWish], again: Again, known: Platform | None = None
) -> list[Longer]:
    """What each of the ``wishes`` can be granted now, in their order; those that get nothing are left out.

    ``plan`` was decided on ``snapshot``.  ``again`` is called where others are delayed,
    to tell by how much.  ``known`` is as for `oarpy.scheduling.decide.decide`.
    """
    allowance = None
    if snapshot.quotas is not None:
        allowance = _Allowance(snapshot, snapshot.quotas, plan, known or Platform(snapshot.topology))
    held = {job.job_id: job for job in snapshot.held}
    besteffort = {job.job_id for job in snapshot.waiting if job.besteffort}
    starts = [
        (decision.start_s, decision.resources)
        for decision in plan.decisions
        if isinstance(decision, Predict) and decision.job_id not in besteffort
    ]
    reserved: list[Reservation | Grant] = [
        *snapshot.reserved,
        *(one for one in plan.decisions if isinstance(one, Grant)),
    ]
    granted: list[Longer] = []
    for wish in wishes:
        job = held.get(wish.job_id)
        if job is None or job.killing_until_s is not None or job.suspended:
            continue
        extra_s = min(wish.extra_s, wish.step_s or wish.extra_s, _left_in_container_s(job, held))
        if wish.deadline_s is not None:
            extra_s = min(extra_s, wish.deadline_s - job.end_s)
        if reserved:
            apart = [(one.start_s, one.resources) for one in reserved if one.space == job.space]
            extra_s = min(extra_s, _room_s(snapshot, job, apart))
        if not wish.delays_others:
            behind = [(start_s, resources) for start_s, resources in starts if start_s >= job.end_s]
            extra_s = min(extra_s, _room_s(snapshot, job, behind))
        if allowance is not None and extra_s > 0:
            extra_s = allowance.most_s(job, extra_s, alone=wish.delays_others)
        if extra_s <= 0 or (wish.whole and extra_s < wish.extra_s):
            continue
        if allowance is not None:
            allowance.grant(job, extra_s)
        granted.append(Longer(job.job_id, extra_s))
        if wish.delays_others:
            granted[-1] = _with_cost(snapshot, plan, granted[-1], again)
    return granted


class _Allowance:
    """How much longer quotas let jobs run, those that are planned counted and those that are not."""

    def __init__(self, snapshot: Snapshot, rules: QuotaRules, plan: Plan, platform: Platform) -> None:
        self._platform = platform
        self._now_s = snapshot.now_s
        self._gantt = Gantt(snapshot.now_s, 0, snapshot.limits.grid_s)
        self._security_s = snapshot.limits.security_s
        #: What nobody moves, and with it what is planned.
        self._fixed = Quotas(rules, platform, snapshot.now_s)
        self._all = Quotas(rules, platform, snapshot.now_s)
        for job in snapshot.held:
            if not job.suspended or job.state is JobState.RESUMING:
                for quotas in (self._fixed, self._all):
                    self._hold(quotas, job, 1)
        for one in snapshot.reserved:
            end_s = self._gantt.on_grid(one.end_s + self._security_s)
            bits = platform.bits(one.resources)
            for quotas in (self._fixed, self._all):
                quotas.add(one, bits, one.end_s - one.start_s, max(one.start_s, self._now_s), end_s)
        waiting = {job.job_id: job for job in snapshot.waiting}
        for decision in plan.decisions:
            if not isinstance(decision, Start | Predict) or (planned := waiting.get(decision.job_id)) is None:
                continue
            if isinstance(decision, Predict) and planned.besteffort:
                continue
            start_s = decision.start_s if isinstance(decision, Predict) else self._now_s
            end_s = self._gantt.on_grid(start_s + decision.walltime_s + self._security_s)
            bits = platform.bits(decision.resources)
            for quotas in (self._all,) if isinstance(decision, Predict) else (self._fixed, self._all):
                quotas.add(planned, bits, decision.walltime_s, start_s, end_s)

    def most_s(self, job: HeldJob, extra_s: int, *, alone: bool) -> int:
        """As much of ``extra_s`` as quotas allow; what is only planned counts unless it is left ``alone``."""
        quotas = self._fixed if alone else self._all
        self._hold(quotas, job, -1)
        bits = self._platform.bits(job.resources)
        low, high = 0, extra_s
        if quotas.allows(job, bits, job.end_s + extra_s):
            low = extra_s
        while high - low > 1:
            middle = (low + high) // 2
            if quotas.allows(job, bits, job.end_s + middle):
                low = middle
            else:
                high = middle
        self._hold(quotas, job, 1)
        return low

    def grant(self, job: HeldJob, extra_s: int) -> None:
        for quotas in (self._fixed, self._all):
            self._hold(quotas, job, -1)
            self._hold(quotas, replace(job, end_s=job.end_s + extra_s), 1)

    def _hold(self, quotas: Quotas, job: HeldJob, times: int) -> None:
        end_s = max(self._gantt.on_grid(job.end_s + self._security_s), self._now_s + 1)
        quotas.hold(job, self._platform.bits(job.resources), end_s, times=times)


def _room_s(snapshot: Snapshot, job: HeldJob, starts: Sequence[tuple[int, Ranges]]) -> int:
    """How much longer it can be before any of these ``starts`` on what it holds; less than nothing when it is late."""
    firsts = [start_s for start_s, resources in starts if meet(resources, job.resources)]
    if not firsts:
        return _FOREVER_S
    return min(firsts) - job.end_s - snapshot.limits.security_s


def _left_in_container_s(job: HeldJob, held: Mapping[JobId, HeldJob]) -> int:
    """How much longer it can be before its container ends, if it is in one."""
    container = held.get(job.space)
    return _FOREVER_S if container is None else container.end_s - job.end_s


def _with_cost(snapshot: Snapshot, plan: Plan, longer: Longer, again: Again) -> Longer:
    held = tuple(
        replace(job, end_s=job.end_s + longer.extra_s) if job.job_id == longer.job_id else job for job in snapshot.held
    )
    before = {one.job_id: one.start_s for one in plan.decisions if isinstance(one, Predict)}
    after = {
        one.job_id: one.start_s for one in again(replace(snapshot, held=held)).decisions if isinstance(one, Predict)
    }
    delays = [after[job_id] - start_s for job_id, start_s in before.items() if after.get(job_id, start_s) > start_s]
    return replace(longer, delayed=len(delays), delay_s=max(delays, default=0))


def meet(one: Ranges, other: Ranges) -> bool:
    """Whether two ascending sequences of half-open ranges have anything in common."""
    i = j = 0
    while i < len(one) and j < len(other):
        if max(one[i][0], other[j][0]) < min(one[i][1], other[j][1]):
            return True
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return False
