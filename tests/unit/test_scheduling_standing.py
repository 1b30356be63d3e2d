"""A plan that stands is carried on for jobs that come last, as the whole pass would decide on them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from oarpy.model.request import ResourceRequest
from oarpy.model.states import DependencyKind, JobId, JobState, Ordering, ResourceState
from oarpy.scheduling import standing
from oarpy.scheduling.decide import decide
from oarpy.scheduling.gantt import NEVER_S, Gantt
from oarpy.scheduling.order import in_order
from oarpy.scheduling.plan import Plan, Predict, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import (
    Dependency,
    HeldJob,
    Promise,
    Queue,
    QuotaRules,
    Reservation,
    Snapshot,
    TokenCount,
    WaitingJob,
)
from oarpy.scheduling.standing import Standing, decide_and_keep
from tests.unit.clusters import NOW_S, asks, held, hosts, job, random_snapshot, snapshot


def settled(seed: int) -> Snapshot:
    """All that could start has started, and the others were told their places; nothing is out of the ordinary."""
    rng = random.Random(seed)
    of = random_snapshot(seed, jobs=24)
    keeps_besteffort = rng.random() < 0.5
    of = replace(
        of,
        topology=replace(of.topology, available_upto_s=[None] * len(of.topology.ids)),
        waiting=tuple(
            replace(one, types=(), not_before_s=None, deadline_s=None, expires_s=None, dependencies=())
            for one in of.waiting
            if keeps_besteffort or not one.besteffort
        ),
        held=tuple(
            replace(one, besteffort=False, killing_until_s=None, killed_for=None, suspended=False)
            for one in of.held
            if one.end_s + of.limits.security_s > NOW_S
        ),
        limits=replace(of.limits, grid_s=rng.choice((1, 60)), plan_first=rng.choice((None, None, 0, 2, 12))),
    )
    if rng.random() < 0.4:
        # What takes a number of the same resources is moved by number.
        wishes = [asks(f"core={rng.randint(1, 3)}", rng.choice((30, 90, 300, 1000))) for _ in of.waiting]
        of = replace(
            of,
            waiting=tuple(
                replace(one, request=ResourceRequest((wish,))) for one, wish in zip(of.waiting, wishes, strict=True)
            ),
        )
    for _ in range(3):
        plan = decide(replace(of, limits=replace(of.limits, plan_first=None)))
        started = {one.job_id: one for one in plan.decisions if isinstance(one, Start)}
        others = (
            HeldJob(one.job_id, "default", one.resources, NOW_S + one.walltime_s, NOW_S)
            for one in started.values()
            if all(job.job_id != one.job_id or not job.besteffort for job in of.waiting)
        )
        of = replace(
            of,
            waiting=tuple(one for one in of.waiting if one.job_id not in started),
            held=(*of.held, *others),
            promises={} if rng.random() < 0.2 else plan.promises(),
        )
    return of


def last_in_order(of: Snapshot, count: int) -> list[WaitingJob]:
    order = in_order(of, (), Platform(of.topology))
    return [*order.normal, *order.besteffort][len(of.waiting) - count :]


def carried_on(seed: int) -> str:
    """Whether the plan was carried on, and how that differs from the whole pass."""
    rng = random.Random(seed)
    whole = settled(seed)
    count = min(rng.randint(1, 4), len(whole.waiting))
    come = rng.sample(whole.waiting, count) if rng.random() < 0.2 else last_in_order(whole, count)
    new = {one.job_id for one in come}
    told = {job_id: one for job_id, one in whole.promises.items() if job_id not in new}
    before = replace(whole, waiting=tuple(one for one in whole.waiting if one.job_id not in new), promises=told)
    platform = Platform(before.topology)
    plan, base = decide_and_keep(before, platform)
    found = list(plan.decisions)
    now_s = before.now_s
    steps = [come] if rng.random() < 0.5 else [[one] for one in come]
    for step in steps:
        now_s += rng.choice((0, 0, 1, 10, 29))
        more = base.carried_on(replace(whole, now_s=now_s, waiting=tuple(step))) if base is not None else None
        if more is None:
            return "not carried on"
        found += more.decisions
    wanted = decide(replace(whole, now_s=now_s, promises=told)).decisions
    return "the same" if tuple(found) == wanted else "different"


def test_what_is_carried_on_is_what_the_whole_pass_decides() -> None:
    outcomes = [carried_on(seed) for seed in range(500)]

    assert [seed for seed, outcome in enumerate(outcomes) if outcome == "different"] == []
    assert outcomes.count("the same") > 250


@pytest.mark.parametrize(
    ("of", "part", "broken"),
    [
        (Standing, "_come_last", lambda *_: True),
        (standing, "_stands_until_s", lambda *_: NEVER_S),
        (Gantt, "begin_later", lambda *_: None),
    ],
)
def test_what_is_carried_on_wrongly_is_caught(
    monkeypatch: pytest.MonkeyPatch, of: object, part: str, broken: object
) -> None:
    monkeypatch.setattr(of, part, broken)

    assert any(carried_on(seed) == "different" for seed in range(900))


def calm(*more: WaitingJob) -> Snapshot:
    """A host of two cores, on which a job runs for 600 s and another waits."""
    return snapshot(hosts(1, 2), job(1, "core=1"), *more, running=[held(9, (1, 3), NOW_S + 600)])


def carry_on(before: Snapshot, after: Snapshot) -> Plan | None:
    base = decide_and_keep(before, Platform(before.topology))[1]
    assert base is not None
    return base.carried_on(after)


def test_a_job_that_comes_last_is_placed_behind_the_others() -> None:
    more = carry_on(calm(), replace(calm(), now_s=NOW_S + 30, waiting=(job(2, "core=2"),)))

    assert more is not None
    assert [(one.job_id, one.start_s) for one in more.decisions if isinstance(one, Predict)] == [(2, NOW_S + 4200)]
    assert (more.examined, more.look_again_s) == (2, NOW_S + 600)


def test_a_job_that_can_start_at_once_does_so_and_ends_the_matter() -> None:
    before = replace(calm(job(2, "core=2")), held=(held(9, (1, 2), NOW_S + 600),), waiting=(job(2, "core=2"),))
    base = decide_and_keep(before, Platform(before.topology))[1]
    assert base is not None

    first = base.carried_on(replace(before, waiting=(job(3, "core=1", 60),)))
    second = base.carried_on(replace(before, waiting=(job(4, "core=1", 60),)))

    assert first is not None
    assert isinstance(first.decisions[0], Start)
    assert second is None


@pytest.mark.parametrize(
    "changed",
    [
        {"now_s": NOW_S - 1},
        {"now_s": NOW_S + 600},
        {"held": ()},
        {"held": (held(9, (1, 3), NOW_S + 500),)},
        {"queues": (Queue("default", 2),)},
        {"topology": replace(hosts(1, 2), version=2)},
        {"quotas": QuotaRules({})},
        {"put_off": frozenset({JobId(7)})},
        {"tokens": {"matlab": TokenCount(1)}},
        {"requested": (job(7),)},
        {"reserved": (Reservation(JobId(7), "default", 0, NOW_S + 900, NOW_S + 950, ((1, 2),)),)},
        {"waiting": (job(2, submitted_s=NOW_S - 1),)},
        {"waiting": (job(2, not_before_s=NOW_S + 5),)},
        {"waiting": (job(2, deadline_s=NOW_S + 5000),)},
        {"waiting": (job(2, types=("inner=7",)),)},
        {"waiting": (job(2, types=("container",)),)},
        {"waiting": (job(2, types=("noop=standby",)),)},
        {"waiting": (job(2, types=("token:matlab=1",)),)},
        {"waiting": (job(2, dependencies=(Dependency(JobId(1), DependencyKind.AFTER, JobState.WAITING),)),)},
    ],
)
def test_whatever_else_has_changed_asks_for_the_whole_pass(changed: dict[str, object]) -> None:
    usual = {"waiting": (job(2),)}

    assert carry_on(calm(), replace(calm(), **usual)) is not None  # type: ignore[arg-type]
    assert carry_on(calm(), replace(calm(), **(usual | changed))) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unusual",
    [
        {"held": ()},
        {"held": (held(9, (1, 3), NOW_S - 5),)},
        {"held": (held(9, (1, 3), NOW_S + 600, besteffort=True),)},
        {"held": (held(9, (1, 3), NOW_S + 600, killing_until_s=NOW_S + 20),)},
        {"held": (held(9, (1, 3), NOW_S + 600, types=("timesharing",)),)},
        {"queues": (Queue("default", 1, ordering=Ordering.FAIRSHARE),)},
        {"quotas": QuotaRules({"default": ()})},
        {"waiting": (job(1, deadline_s=NOW_S + 5000),)},
        {"topology": replace(hosts(1, 2), states=[ResourceState.ABSENT] * 2, available_upto_s=[NOW_S + 10**6] * 2)},
        {"promises": {JobId(1): Promise(NOW_S - 5, 0, ((1, 2),))}},
    ],
)
def test_a_plan_that_depends_on_more_than_free_resources_is_not_carried_on(unusual: dict[str, object]) -> None:
    of = replace(calm(), **unusual)  # type: ignore[arg-type]

    assert decide_and_keep(of, Platform(of.topology))[1] is None
