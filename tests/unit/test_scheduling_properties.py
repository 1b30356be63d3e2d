"""What must be true of every plan, whatever the policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oarpy.model.filters import Comparison
from oarpy.model.reach_types import Reach, reach
from oarpy.model.states import ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Predict, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Snapshot
from tests.unit.clusters import random_snapshot

SEEDS = range(3000, 3100)


def placed(snapshot: Snapshot) -> Iterator[tuple[Start | Predict, int, set[int]]]:
    for decision in decide(snapshot).decisions:
        if isinstance(decision, Start | Predict):
            start_s = decision.start_s if isinstance(decision, Predict) else snapshot.now_s
            yield decision, start_s, {i for low, high in decision.resources for i in range(low, high)}


@pytest.mark.parametrize("seed", SEEDS)
def test_no_instant_uses_a_resource_twice(seed: int) -> None:
    snapshot = random_snapshot(seed, jobs=30)
    besteffort = {job.job_id for job in snapshot.waiting if job.besteffort}
    uses = [
        (start_s, start_s + decision.walltime_s, resources)
        for decision, start_s, resources in placed(snapshot)
        # A besteffort job may be planned into what a normal job will take from it.
        if decision.job_id not in besteffort
    ]

    for i, (begin, end, resources) in enumerate(uses):
        for other_begin, other_end, others in uses[:i]:
            assert begin >= other_end or other_begin >= end or not resources & others


@pytest.mark.parametrize("seed", SEEDS)
def test_what_starts_now_is_alive_and_held_by_nobody(seed: int) -> None:
    snapshot = random_snapshot(seed)
    free = {
        number
        for number, state, drained in zip(
            snapshot.topology.ids, snapshot.topology.states, snapshot.topology.drain, strict=True
        )
        if state is ResourceState.ALIVE and not drained
    }
    holding = set()
    for job in snapshot.held:
        if not job.suspended:
            holding |= {i for low, high in job.resources for i in range(low, high)}
    free -= holding

    reached = {job.job_id for job in snapshot.waiting if reach(job.types) is not Reach.ALIVE}
    for decision, _, resources in placed(snapshot):
        if isinstance(decision, Start):
            assert resources <= free or (decision.job_id in reached and not resources & holding)
            free -= resources
            holding |= resources


@pytest.mark.parametrize("seed", SEEDS)
def test_a_job_of_one_group_gets_what_its_filter_matches_and_no_other(seed: int) -> None:
    snapshot = random_snapshot(seed)
    requests = {job.job_id: job.request for job in snapshot.waiting}
    row = {number: i for i, number in enumerate(snapshot.topology.ids)}

    for decision, _, resources in placed(snapshot):
        groups = requests[decision.job_id].alternatives[decision.alternative].groups
        condition = groups[0].filter
        beside = any(level.beside for level in groups[0].levels)
        if len(groups) == 1 and isinstance(condition, Comparison) and not beside:
            column = snapshot.topology.properties[condition.property]
            assert {column[row[i]] for i in resources} == {condition.value}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_waiting_job_gets_one_decision(seed: int) -> None:
    snapshot = random_snapshot(seed)

    decided = [decision.job_id for decision in decide(snapshot).decisions]

    assert sorted(decided) == sorted(job.job_id for job in snapshot.waiting)


@pytest.mark.parametrize("seed", SEEDS[:50])
def test_what_is_kept_from_an_earlier_pass_changes_nothing(seed: int) -> None:
    snapshot = random_snapshot(seed)
    known = Platform(snapshot.topology)
    decide(random_snapshot(seed, jobs=20), known)

    assert decide(snapshot, known) == decide(snapshot)
