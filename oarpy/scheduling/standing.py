"""A plan that still stands is carried on when all that has happened is that jobs came behind all others.

They are placed over the gantt that the plan left: what the whole pass would decide on
them, and on nobody else anything new.  That holds as long as no instant passes at which
the plan depends on the clock (the end of a job, a planned start, the end of the gantt's
first slot), and for jobs and plans of the usual kind; of all others nothing is said
here, and the whole pass is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from oarpy.model.reach_types import Reach, reach
from oarpy.model.sharing_types import container_name, is_placed_apart
from oarpy.model.states import Ordering
from oarpy.scheduling.decide import Pass
from oarpy.scheduling.order import in_order
from oarpy.scheduling.plan import Plan, Postpone, Predict
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import HeldJob, Snapshot, WaitingJob
from oarpy.scheduling.tokens import needs_tokens


def decide_and_keep(snapshot: Snapshot, platform: Platform) -> tuple[Plan, Standing | None]:
    """The plan, and what it takes to carry it on; None where that cannot be done.

    ``platform`` was made from this version of the topology.
    """
    done = Pass(snapshot, platform, ())
    plan = done.plan()
    until_s = _stands_until_s(snapshot, platform, done, plan)
    return plan, Standing(snapshot, platform, done, plan, until_s) if until_s is not None else None


class Standing:
    """A pass that was made, as the base for more; once it was carried on by a job that starts, it is used up."""

    def __init__(self, snapshot: Snapshot, platform: Platform, done: Pass, plan: Plan, until_s: int) -> None:
        self._snapshot = snapshot
        self._plan: Plan | None = plan
        self._platform = platform
        self._pass = done
        self._until_s = until_s
        order = in_order(snapshot, (), platform)
        self._last_normal = order.normal[-1:]
        self._last_besteffort = order.besteffort[-1:]

    def again(self, snapshot: Snapshot) -> Plan | None:
        """The same plan, if it was made of the same and has not been carried on."""
        return self._plan if self._plan is not None and self._stands(snapshot) else None

    def carried_on(self, snapshot: Snapshot) -> Plan | None:
        """What is decided on the jobs of this snapshot, which holds of those that wait only the ones that have come.

        None if it tells of anything else that has changed, or if a job must be placed
        before one that waits already, or otherwise than usual: then nothing has been done.
        """
        before, now_s, more = self._snapshot, snapshot.now_s, snapshot.waiting
        if not self._stands(replace(snapshot, waiting=before.waiting, promises=before.promises)):
            return None
        if not all(_is_usual(job, now_s) for job in more):
            return None
        order = in_order(replace(before, waiting=more), (), self._platform)
        if not self._come_last(order.normal, order.besteffort):
            return None
        self._last_normal = order.normal[-1:] or self._last_normal
        self._last_besteffort = order.besteffort[-1:] or self._last_besteffort
        self._plan = None if more else self._plan
        plan = self._pass.append(now_s, order.normal, order.besteffort)
        self._snapshot = replace(before, now_s=now_s)
        starts = [one.start_s for one in plan.decisions if isinstance(one, Predict)]
        self._until_s = min([self._until_s, self._pass.first_slot_end_s, *starts])
        if not all(isinstance(one, Predict | Postpone) for one in plan.decisions):
            self._until_s = now_s
        return replace(plan, look_again_s=self._until_s)

    def _stands(self, snapshot: Snapshot) -> bool:
        before = self._snapshot
        if not before.now_s <= snapshot.now_s < self._until_s:
            return False
        # Of queues ordered by submission nobody asks what was used.
        return replace(snapshot, now_s=before.now_s, limits=before.limits, usage=before.usage) == before

    def _come_last(self, normal: Sequence[WaitingJob], besteffort: Sequence[WaitingJob]) -> bool:
        """Whether these come behind all others in the order in which jobs are placed."""
        if normal and self._last_besteffort:
            return False
        return self._are_ordered((*self._last_normal, *normal)) and self._are_ordered(
            (*self._last_besteffort, *besteffort)
        )

    def _are_ordered(self, jobs: Sequence[WaitingJob]) -> bool:
        order = in_order(replace(self._snapshot, waiting=tuple(jobs)), (), self._platform)
        return (*order.normal, *order.besteffort) == tuple(jobs)


def _stands_until_s(snapshot: Snapshot, platform: Platform, done: Pass, plan: Plan) -> int | None:
    """Until when the same would be decided again if nothing happened; None if that is not known."""
    limits, now_s = snapshot.limits, snapshot.now_s
    unusual = snapshot.quotas is not None or snapshot.tokens or snapshot.requested or snapshot.reserved
    if unusual or limits.energy or platform.wakeable(now_s):
        return None
    if any(queue.ordering is not Ordering.FIFO for queue in snapshot.queues):
        return None
    if plan.kills or plan.resumes or not all(isinstance(one, Predict | Postpone) for one in plan.decisions):
        return None
    if not all(_is_usual(job, now_s) for job in snapshot.waiting) or not all(map(_holds_usually, snapshot.held)):
        return None
    instants = [done.first_slot_end_s]
    instants += [job.end_s + limits.security_s for job in snapshot.held]
    instants += [told.start_s for told in snapshot.promises.values()]
    instants += [one.start_s for one in plan.decisions if isinstance(one, Predict)]
    instants += [plan.look_again_s] if plan.look_again_s is not None else []
    until_s = min(instants)
    return until_s if until_s > now_s else None


def _is_usual(job: WaitingJob, now_s: int) -> bool:
    """Whether the job depends on nothing but free resources of the machine."""
    if job.dependencies or job.deadline_s is not None or job.expires_s is not None:
        return False
    if job.not_before_s is not None and job.not_before_s > now_s:
        return False
    return not job.types or not (_is_apart(job.types) or needs_tokens(job))


def _holds_usually(job: HeldJob) -> bool:
    """Whether the job holds resources of the machine until its end, and nobody can make it go."""
    if job.besteffort or job.suspended or job.killing_until_s is not None or job.space:
        return False
    return not job.types or not _is_apart(job.types)


def _is_apart(types: tuple[str, ...]) -> bool:
    return is_placed_apart(types) or container_name(types) is not None or reach(types) is not Reach.ALIVE
