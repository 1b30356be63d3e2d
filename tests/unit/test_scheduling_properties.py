"""What must be true of every plan, whatever the policy."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import pytest

from oarpy.model.filters import Comparison
from oarpy.model.quotas import Amount, Measure, Rule
from oarpy.model.reach_types import Reach, reach
from oarpy.model.request import ResourceRequest
from oarpy.model.states import DependencyKind, JobId, JobState, ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Grant, Predict, Ranges, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Dependency, HeldJob, QuotaRules, Reservation, Snapshot, WaitingJob
from tests.unit.clusters import asks, random_snapshot, with_reservations, with_spaces
from tests.unit.combined import PARTS, combined
from tests.unit.oracle import AnyJob, Oracle, shares, value

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
def test_no_instant_uses_a_resource_twice_unless_it_is_shared(seed: int) -> None:
    snapshot = with_spaces(random_snapshot(seed, jobs=30), seed)
    running = {
        job.job_id: {i for low, high in job.resources for i in range(low, high)}
        for job in snapshot.held
        if not job.suspended and not job.besteffort and job.killing_until_s is None
    }
    jobs = {job.job_id: job for job in (*snapshot.waiting, *snapshot.held)}
    containers = {job.job_id: job.space for job in snapshot.held}
    uses = [
        (jobs[job_id], containers[job_id], snapshot.now_s, job.end_s, running[job_id])
        for job in snapshot.held
        if (job_id := job.job_id) in running
    ]
    for decision, start_s, resources in placed(snapshot):
        job = jobs[decision.job_id]
        # Where inner jobs are planned is not part of a prediction.
        if not job.besteffort and value(job, "inner") is None:
            uses.append((job, 0, start_s, start_s + decision.walltime_s, resources))

    for i, (job, space, begin, end, resources) in enumerate(uses):
        for other, other_space, other_begin, other_end, others in uses[:i]:
            apart = begin >= other_end or other_begin >= end or not resources & others
            assert apart or space != other_space or may_share(job, other), (job, other)


def may_share(one: AnyJob, other: AnyJob) -> bool:
    placeholders = {value(one, "placeholder"), value(other, "placeholder")}
    allowed = {value(one, "allowed"), value(other, "allowed")}
    return (placeholders & allowed) - {None} != set() or (shares(one) is not None and shares(one) == shares(other))


@pytest.mark.parametrize("seed", SEEDS)
def test_inner_jobs_that_start_lie_in_their_container(seed: int) -> None:
    snapshot = with_spaces(random_snapshot(seed, jobs=30), seed)
    held = {job.job_id: job for job in snapshot.held}
    jobs = {job.job_id: job for job in snapshot.waiting}

    for decision, _, resources in placed(snapshot):
        if isinstance(decision, Start):
            inner = value(jobs[decision.job_id], "inner")
            assert (inner is None) == (decision.space == 0)
            if inner is not None:
                container = held[decision.space]
                assert inner in (str(container.job_id), value(container, "container"))
                assert container.state is JobState.RUNNING
                assert resources <= {i for low, high in container.resources for i in range(low, high)}
                if not jobs[decision.job_id].besteffort:
                    assert snapshot.now_s + decision.walltime_s <= container.end_s


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


@pytest.mark.parametrize("seed", SEEDS)
def test_no_quota_is_exceeded_at_any_instant_of_the_plan(seed: int) -> None:
    most = {"resources": 3, "jobs": 2, "seconds": 6000}
    limits = {
        Measure.RESOURCES: Amount(Fraction(most["resources"])),
        Measure.JOBS: Amount(Fraction(most["jobs"])),
        Measure.HOURS: Amount(Fraction(most["seconds"], 3600)),
    }
    plain = random_snapshot(seed, jobs=30)
    users = {job.job_id: "uvw"[job.job_id % 3] for job in (*plain.waiting, *plain.held)}
    snapshot = replace(
        plain,
        waiting=tuple(replace(job, user=users[job.job_id]) for job in plain.waiting),
        held=tuple(replace(job, user=users[job.job_id]) for job in plain.held),
        quotas=QuotaRules({"default": (Rule("*", "*", "*", "/", limits),)}),
    )
    kind = dict(zip(snapshot.topology.ids, snapshot.topology.properties["type"], strict=True))
    besteffort = {job.job_id for job in (*snapshot.waiting, *snapshot.held) if job.besteffort}

    uses = [
        (users[job.job_id], snapshot.now_s, ends_s(job), job.end_s - (job.started_s or 0), ids(job.resources))
        for job in snapshot.held
        if job.job_id not in besteffort and not job.suspended
    ]
    planned = [
        (users[decision.job_id], start_s, start_s + decision.walltime_s, decision.walltime_s, resources)
        for decision, start_s, resources in placed(snapshot)
        if decision.job_id not in besteffort
    ]
    for user, moment, *_ in planned:
        together = [use for use in uses + planned if use[0] == user and use[1] <= moment < use[2]]
        counts = [sum(kind[i] == "default" for i in resources) for *_, resources in together]
        assert sum(counts) <= most["resources"]
        assert len(together) <= most["jobs"]
        assert sum(n * use[3] for n, use in zip(counts, together, strict=True)) <= most["seconds"]


def ids(ranges: Ranges) -> set[int]:
    return {i for low, high in ranges for i in range(low, high)}


def ends_s(job: HeldJob) -> int:
    return job.end_s if job.killing_until_s is None else min(job.end_s, job.killing_until_s)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_reserved_is_given_to_nobody_else(seed: int) -> None:
    snapshot = with_reservations(random_snapshot(seed, jobs=30), seed)
    besteffort = {job.job_id for job in snapshot.waiting if job.besteffort}
    kept = [(one.job_id, one.start_s, one.end_s, ids(one.resources)) for one in snapshot.reserved]
    others = []
    for decision in decide(snapshot).decisions:
        if isinstance(decision, Grant):
            end_s = decision.start_s + decision.walltime_s
            kept.append((decision.job_id, decision.start_s, end_s, ids(decision.resources)))
        elif isinstance(decision, Start | Predict) and decision.job_id not in besteffort:
            start_s = decision.start_s if isinstance(decision, Predict) else snapshot.now_s
            others.append((decision.job_id, start_s, start_s + decision.walltime_s, ids(decision.resources)))

    for i, (job, begin, end, resources) in enumerate(kept):
        for other, other_begin, other_end, theirs in (*kept[:i], *others):
            met = other != job and max(begin, other_begin, snapshot.now_s) < min(end, other_end)
            assert not (met and resources & theirs), (job, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reservation_that_was_accepted_is_never_moved(seed: int) -> None:
    snapshot = with_reservations(random_snapshot(seed), seed)
    granted = [decision for decision in decide(snapshot).decisions if isinstance(decision, Grant)]
    accepted = tuple(
        Reservation(one.job_id, "equal", one.alternative, one.start_s, one.start_s + one.walltime_s, one.resources)
        for one in granted
    )
    crowd = tuple(replace(job, job_id=JobId(job.job_id + 1000)) for job in random_snapshot(seed + 1, jobs=20).waiting)
    later = replace(
        snapshot, now_s=snapshot.now_s + 37, waiting=crowd, requested=(), reserved=(*snapshot.reserved, *accepted)
    )

    decided = {decision.job_id: decision for decision in decide(later).decisions}

    for one in granted:
        if one.start_s > later.now_s:
            decision = decided[one.job_id]
            assert isinstance(decision, Predict)
            assert (decision.start_s, decision.resources) == (one.start_s, one.resources)


def inner_asked(seed: int) -> Snapshot:
    """Jobs that share nothing, some of which are to be reservations, in containers that run or are reserved."""
    rng = random.Random(f"inner {seed}")
    plain = with_reservations(random_snapshot(seed, jobs=20), seed)
    held = tuple(
        replace(job, types=("container=c",)) if not job.besteffort and not job.suspended else job for job in plain.held
    )
    reserved = tuple(replace(one, types=("container=c",)) for one in plain.reserved)
    names = ["c", *(str(one.job_id) for one in (*held, *reserved))]
    requested = tuple(
        replace(one, job_id=JobId(one.job_id + 400), types=(f"inner={rng.choice(names)}",), not_before_s=start_s)
        for one in (*plain.requested, *plain.waiting)
        if not one.besteffort
        for start_s in [plain.now_s + rng.choice((0, 1, 50, 333, 1000))]
    )
    small = tuple(
        replace(one, request=ResourceRequest((asks(rng.choice(("core=1", "host=1")), rng.choice((30, 60))),)))
        for one in requested
    )
    return replace(plain, held=held, reserved=reserved, requested=small)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reservation_inside_a_container_lies_in_its_resources_and_time(seed: int) -> None:
    snapshot = inner_asked(seed)
    containers = {job.job_id: (snapshot.now_s, ends_s(job), ids(job.resources)) for job in snapshot.held}
    containers |= {one.job_id: (one.start_s, one.end_s, ids(one.resources)) for one in snapshot.reserved}

    granted = [decision for decision in decide(snapshot).decisions if isinstance(decision, Grant)]

    for i, one in enumerate(granted):
        begin, end, within = containers[one.space]
        assert begin <= one.start_s
        assert one.start_s + one.walltime_s <= end
        assert ids(one.resources) <= within
        for other in granted[:i]:
            apart = one.start_s >= other.start_s + other.walltime_s or other.start_s >= one.start_s + one.walltime_s
            assert apart or other.space != one.space or not ids(one.resources) & ids(other.resources)


def test_such_reservations_are_granted_at_all() -> None:
    decided = [decision for seed in SEEDS for decision in decide(inner_asked(seed)).decisions]

    assert sum(isinstance(decision, Grant) for decision in decided) > 50


def everything(seed: int) -> Snapshot:
    """All policies at once, and jobs that wait for others."""
    snapshot = combined(seed, *PARTS, jobs=30)
    rng = random.Random(seed)
    earlier: list[WaitingJob] = []
    waiting = []
    for job in snapshot.waiting:
        if earlier and rng.random() < 0.2:
            required = rng.choice(earlier)
            kind = rng.choice((DependencyKind.AFTER, DependencyKind.AFTERANY))
            window = rng.choice(((None, None), (60, None), (30, 600)))
            job = replace(job, dependencies=(Dependency(required.job_id, kind, JobState.WAITING, window_s=window),))
        earlier.append(job)
        waiting.append(job)
    return replace(snapshot, waiting=tuple(waiting))


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_policies_at_once_every_job_that_asks_gets_one_decision(seed: int) -> None:
    snapshot = everything(seed)

    decided = [decision.job_id for decision in decide(snapshot).decisions]

    asks = [job.job_id for job in (*snapshot.waiting, *snapshot.requested)]
    asks += [one.job_id for one in snapshot.reserved if not one.on_hold or snapshot.now_s >= one.end_s]
    assert sorted(decided) == sorted(asks)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_policies_at_once_no_instant_uses_a_resource_twice_unless_it_is_shared(seed: int) -> None:
    snapshot = everything(seed)
    jobs = {job.job_id: job for job in (*snapshot.waiting, *snapshot.requested)}
    uses: list[tuple[AnyJob, int, int, set[int]]] = [
        (one, one.start_s, one.end_s, ids(one.resources)) for one in snapshot.reserved if one.end_s > snapshot.now_s
    ]
    for job in snapshot.held:
        # A reservation may begin while somebody overruns: then it waits, and is no less reserved.
        if job.space == 0 and not (job.besteffort or job.suspended):
            uses.append((job, snapshot.now_s, snapshot.now_s + 1, ids(job.resources)))
    held = len(uses)
    for decision in decide(snapshot).decisions:
        if isinstance(decision, Start | Predict | Grant) and decision.job_id in jobs:
            job = jobs[decision.job_id]
            start_s = snapshot.now_s if isinstance(decision, Start) else decision.start_s
            if not job.besteffort and value(job, "inner") is None:
                uses.append((job, start_s, start_s + decision.walltime_s, ids(decision.resources)))

    for i, (job, begin, end, resources) in enumerate(uses[held:], held):
        for other, other_begin, other_end, others in uses[:i]:
            apart = begin >= other_end or other_begin >= end or not resources & others
            assert apart or may_share(job, other), (job, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_policies_at_once_nobody_starts_before_those_whom_they_wait_for(seed: int) -> None:
    snapshot = everything(seed)
    decisions = {one.job_id: one for one in decide(snapshot).decisions}

    for job in snapshot.waiting:
        decision = decisions[job.job_id]
        for dependency in job.dependencies:
            assert not isinstance(decision, Start)
            if isinstance(decision, Predict):
                required = decisions[dependency.required]
                assert isinstance(required, Start | Predict)
                begin_s = required.start_s if isinstance(required, Predict) else snapshot.now_s
                happens_s = begin_s + (required.walltime_s if dependency.kind is DependencyKind.AFTERANY else 0)
                assert decision.start_s >= happens_s + (dependency.window_s[0] or 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_policies_at_once_what_was_told_is_kept_or_the_plan_says_that_it_is_not(seed: int) -> None:
    snapshot = everything(seed)
    plan = decide(snapshot)

    later = {
        one.job_id
        for one in plan.decisions
        if isinstance(one, Predict)
        and one.job_id in snapshot.promises
        and one.start_s > max(snapshot.promises[one.job_id].start_s, snapshot.now_s)
    }
    assert later == set(plan.broken)


@pytest.mark.parametrize("seed", SEEDS)
def test_beside_reservations_no_start_that_was_told_moves_later_when_only_time_passes(seed: int) -> None:
    before = with_reservations(random_snapshot(seed, jobs=30), seed)
    before = replace(
        before,
        held=(),
        waiting=tuple(one for one in before.waiting if not one.besteffort and not one.types),
        topology=replace(before.topology, states=[ResourceState.ALIVE] * len(before.topology.ids)),
        reserved=tuple(one for one in before.reserved if one.start_s > before.now_s),
        queues=tuple(replace(queue, active=True, depth=None) for queue in before.queues),
        limits=replace(before.limits, plan_first=None),
    )
    plan = decide(before)
    told = plan.promises()
    grants = [one for one in plan.decisions if isinstance(one, Grant)]
    accepted = tuple(
        Reservation(one.job_id, "equal", one.alternative, one.start_s, one.start_s + one.walltime_s, one.resources)
        for one in grants
    )
    later = replace(
        before,
        now_s=min(
            [before.now_s + 40, *(promise.start_s for promise in told.values()), *(one.start_s for one in grants)]
        ),
        waiting=tuple(one for one in before.waiting if one.job_id in told),
        requested=(),
        reserved=(*before.reserved, *accepted),
        promises=told,
    )

    assert decide(later).broken == ()


@pytest.mark.parametrize("seed", SEEDS)
def test_with_all_policies_at_once_no_quota_is_exceeded_when_a_planned_job_starts(seed: int) -> None:
    snapshot = everything(seed)
    jobs = {job.job_id: job for job in (*snapshot.waiting, *snapshot.requested)}
    oracle = Oracle(replace(snapshot, waiting=(), requested=()))
    oracle.run()
    planned = []
    for decision in decide(snapshot).decisions:
        if isinstance(decision, Start | Predict | Grant) and decision.job_id in jobs:
            start_s = snapshot.now_s if isinstance(decision, Start) else decision.start_s
            planned.append((jobs[decision.job_id], start_s, decision.walltime_s, oracle.positions(decision.resources)))

    # Each of them as the last one: whatever the others take must leave it room.
    for i, (job, start_s, walltime_s, resources) in enumerate(planned):
        before = list(oracle.counted)
        for other, begin_s, length_s, taken in planned[:i]:
            oracle.count(other, begin_s, oracle.up(begin_s + length_s), length_s, taken)
        assert oracle.is_within_quotas(job, start_s, walltime_s, resources), job
        oracle.counted = before
