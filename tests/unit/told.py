"""Snapshots of jobs that were told planned starts, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import replace

from oarpy.model.filters import Comparison
from oarpy.model.sharing_types import MACHINE
from oarpy.model.states import Replan, ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Grant, Start
from oarpy.scheduling.snapshot import HeldJob, Queue, Reservation, Snapshot, WaitingJob
from tests.unit.clusters import NOW_S, TO_THE_SECOND, asks, hosts, job, random_snapshot


def told_snapshot(seed: int, jobs: int = 12) -> Snapshot:
    """Some time after the plan for `random_snapshot` was told."""
    return some_time_later(random_snapshot(seed, jobs), seed)


def some_time_later(before: Snapshot, seed: int) -> Snapshot:
    """The plan for this was told, and much has happened since."""
    rng = random.Random(seed)
    before = replace(before, limits=replace(before.limits, plan_first=None))
    plan = decide(before)
    promises = {job_id: told for job_id, told in plan.promises().items() if rng.random() < 0.9}
    now_s = before.now_s + rng.choice((0, 1, 30, 90, 400))
    held = [one for one in before.held if rng.random() < 0.7]
    asked = {job.job_id: job for job in before.waiting}
    for decision in plan.decisions:
        if isinstance(decision, Start) and rng.random() < 0.8:
            job = asked.pop(decision.job_id)
            if rng.random() < 0.7 and not plan.kills:
                end_s = before.now_s + decision.walltime_s + rng.choice((0, 0, 0, 120))
                held.append(
                    HeldJob(
                        job.job_id,
                        job.queue,
                        decision.resources,
                        end_s,
                        before.now_s,
                        user=job.user,
                        project=job.project,
                        name=job.name,
                        types=job.types,
                        besteffort=job.besteffort,
                        space=decision.space,
                    )
                )
    # A container lives as long as what is in it.
    held = [one for one in held if one.space == MACHINE or any(other.job_id == one.space for other in held)]
    granted = {one.job_id: one for one in plan.decisions if isinstance(one, Grant)}
    accepted = tuple(
        Reservation(
            job.job_id,
            job.queue,
            grant.alternative,
            grant.start_s,
            grant.start_s + grant.walltime_s,
            grant.resources,
            user=job.user,
            project=job.project,
            name=job.name,
            types=job.types,
            besteffort=job.besteffort,
        )
        for job in before.requested
        if (grant := granted.get(job.job_id)) is not None
    )
    cluster = before.topology
    if rng.random() < 0.2:
        states = [ResourceState.DEAD if rng.random() < 0.15 else state for state in cluster.states]
        cluster = replace(cluster, version=2, states=states)
    queues = tuple(replace(queue, replan=Replan.NOTHING) if rng.random() < 0.1 else queue for queue in before.queues)
    return replace(
        before,
        now_s=now_s,
        topology=cluster,
        queues=queues,
        waiting=tuple(asked.values()),
        held=tuple(held),
        promises=promises,
        requested=tuple(one for one in before.requested if one.job_id not in granted),
        reserved=(*before.reserved, *accepted),
        limits=replace(
            before.limits, plan_first=rng.choice((None, None, None, 4)), moves=rng.choice((1000, 1000, 0, 2))
        ),
    )


def crowded_snapshot(seed: int) -> Snapshot:
    """Jobs of some cores each on a machine that has been full for a while: who ended early left it in pieces."""
    rng = random.Random(seed)
    cores = rng.randrange(4, 12)
    cluster = replace(hosts(cores, 1), version=seed)
    waiting = [_crowding(rng, number, cores) for number in range(1, rng.randrange(8, 20))]
    limits = replace(TO_THE_SECOND, grid_s=rng.choice((1, 1, 10)), security_s=rng.choice((0, 0, 7)))
    now = Snapshot(NOW_S, cluster, (Queue("default", 1),), tuple(waiting), (), limits)
    for _ in range(rng.randrange(1, 5)):
        now = _a_while_later(rng, now)
    return now


def _crowding(rng: random.Random, number: int, cores: int) -> WaitingJob:
    walltime_s = rng.choice((40, 70, 100, 110, 200, 330))
    condition = Comparison("host", "=", "h1") if rng.random() < 0.01 else None
    ways = [asks(f"core={rng.randrange(1, cores // 2 + 1) if condition is None else 1}", walltime_s, condition)]
    if rng.random() < 0.02:
        ways.append(asks("core=1", 2 * walltime_s))
    deadline_s = NOW_S + 900 if rng.random() < 0.02 else None
    return job(number, ways, submitted_s=NOW_S + number, deadline_s=deadline_s)


def _a_while_later(rng: random.Random, before: Snapshot) -> Snapshot:
    """What is planned for now has started; some of what runs has ended before its time, and some has not."""
    plan = decide(before)
    asked = {one.job_id: one for one in before.waiting}
    begun = [one for one in plan.decisions if isinstance(one, Start)]
    held = [
        *before.held,
        *(
            HeldJob(one.job_id, asked[one.job_id].queue, one.resources, before.now_s + one.walltime_s, before.now_s)
            for one in begun
        ),
    ]
    for one in begun:
        del asked[one.job_id]
    now_s = min([before.now_s + rng.choice((10, 30, 60)), *(one.end_s for one in held)])
    held = [one for one in held if one.end_s > now_s and rng.random() < 0.75]
    limits = replace(before.limits, jobs_per_user=30 if rng.random() < 0.05 else None)
    return replace(
        before,
        now_s=now_s,
        waiting=tuple(asked.values()),
        held=tuple(held),
        promises=plan.promises(),
        limits=limits,
    )
