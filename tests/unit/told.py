"""Snapshots of jobs that were told planned starts, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import replace

from oarpy.model.states import Replan, ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Start
from oarpy.scheduling.snapshot import HeldJob, Snapshot
from tests.unit.clusters import random_snapshot


def told_snapshot(seed: int, jobs: int = 12) -> Snapshot:
    """Some time after the plan for `random_snapshot` was told; much has happened meanwhile."""
    rng = random.Random(seed)
    before = random_snapshot(seed, jobs)
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
                    HeldJob(job.job_id, job.queue, decision.resources, end_s, before.now_s, besteffort=job.besteffort)
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
        limits=replace(before.limits, plan_first=rng.choice((None, None, None, 4))),
    )
