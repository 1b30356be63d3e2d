"""Planned starts that were told are kept; jobs only move earlier."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oarpy.model.states import JobId, Replan, ResourceState
from oarpy.scheduling.bounds import Bounds, Frontier
from oarpy.scheduling.compression import KeptPlaces
from oarpy.scheduling.counting import Tally
from oarpy.scheduling.decide import Pass, decide
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.plan import Predict, Start
from oarpy.scheduling.promises import Promises
from oarpy.scheduling.snapshot import Promise, Queue, Snapshot
from tests.unit.clusters import NOW_S, held, hosts, job, snapshot
from tests.unit.test_scheduling_oracle import differs_from_the_definition
from tests.unit.told import crowded_snapshot, told_snapshot


def starts(of: Snapshot) -> dict[JobId, int]:
    return {
        one.job_id: one.start_s if isinstance(one, Predict) else of.now_s
        for one in decide(of).decisions
        if isinstance(one, Start | Predict)
    }


def promise(start_s: int, first: int, end: int) -> Promise:
    return Promise(start_s, 0, ((first, end),))


def test_what_was_told_is_kept_as_the_definition_says() -> None:
    different = [seed for seed in range(900) if differs_from_the_definition(told_snapshot(seed, jobs=16))]

    assert different == []


def test_jobs_that_take_a_number_of_the_same_resources_move_as_the_definition_says() -> None:
    different = [seed for seed in range(900) if differs_from_the_definition(crowded_snapshot(seed))]

    assert different == []


@pytest.mark.parametrize(
    ("of", "part", "broken"),
    [
        (Tally, "moved", lambda tally, start_s, *others: start_s),
        (Tally, "_earliest", lambda tally, number, length_s, after_s, latest_s: None),
        (Frontier, "loosen", lambda *told: None),
        (Promises, "_number", lambda self, job, demand: 1),
    ],
)
def test_a_number_that_moves_wrongly_is_caught(
    monkeypatch: pytest.MonkeyPatch, of: object, part: str, broken: object
) -> None:
    monkeypatch.setattr(of, part, broken)

    assert any(differs_from_the_definition(crowded_snapshot(seed)) for seed in range(900))


@pytest.mark.parametrize("plan_first", [None, 10])
def test_a_job_whose_place_was_forgotten_still_comes_before_those_behind_it(plan_first: int | None) -> None:
    # Job 1 was edited, or held and resumed.  Job 2, which could start now, would delay it.
    now = snapshot(hosts(4, 1), job(1, "core=4", 100), job(2, "core=1", 1000), running=[held(9, (1, 2), NOW_S + 110)])
    told = {JobId(2): promise(NOW_S + 300, 1, 2)}
    limits = replace(now.limits, plan_first=plan_first)

    assert starts(replace(now, promises=told, limits=limits)) == {1: NOW_S + 110, 2: NOW_S + 210}


def test_a_job_moves_to_where_enough_are_free_though_the_places_of_others_were_in_the_way() -> None:
    # On cores 1 to 3 and 7; with those of job 2 among them, as they would be chosen, two would be left for job 1.
    cluster = hosts(7, 1)
    told = {JobId(1): promise(NOW_S + 150, 1, 4), JobId(2): promise(NOW_S + 170, 4, 6)}
    now = snapshot(cluster, job(1, "core=3", 200), job(2, "core=2", 100), running=[held(9, (4, 7), NOW_S + 110)])

    assert starts(replace(now, promises=told)) == {1: NOW_S, 2: NOW_S + 110}


@pytest.mark.parametrize(
    ("of", "part", "broken"),
    [
        (KeptPlaces, "_might_move", lambda *told: False),
        (Gantt, "release", lambda *told: None),
        (Pass, "_is_in_use", lambda *told: False),
        (KeptPlaces, "delayed", lambda *told: None),
    ],
)
def test_what_is_kept_wrongly_is_caught(
    monkeypatch: pytest.MonkeyPatch, of: type[object], part: str, broken: object
) -> None:
    monkeypatch.setattr(of, part, broken)

    assert any(differs_from_the_definition(told_snapshot(seed, jobs=16)) for seed in range(250))


@pytest.mark.parametrize("seed", range(5000, 5150))
def test_no_planned_start_moves_later_unless_something_was_lost(seed: int) -> None:
    before = told_snapshot(seed, jobs=20)
    # The first machine again, and nobody who overruns or is in the way for another reason.
    before = replace(
        before,
        held=(),
        topology=replace(before.topology, states=[ResourceState.ALIVE] * len(before.topology.ids)),
        waiting=tuple(one for one in before.waiting if not one.besteffort and not one.types),
        limits=replace(before.limits, plan_first=None, jobs_per_user=None),
        queues=tuple(Queue(queue.name, 1) for queue in before.queues),
        promises={},
    )
    told = decide(before).promises()
    fewer = tuple(one for one in before.waiting if one.job_id in told)
    now_s = min([before.now_s + 40, *(one.start_s for one in told.values())])
    later = replace(before, now_s=now_s, waiting=fewer, promises=told)

    assert {job_id for job_id, start_s in starts(later).items() if start_s > told[job_id].start_s} == set()


def test_a_job_that_ends_early_lets_others_move_earlier_and_nobody_later() -> None:
    # From nothing job 2 takes the free host for so long that job 1, which needs both, comes later than it was told.
    cluster = hosts(2, 1)
    first, second = job(1, "host=2", 600), job(2, "host=1", 1000, submitted_s=NOW_S - 5)
    told = {JobId(2): promise(NOW_S + 900, 1, 2), JobId(1): promise(NOW_S + 300, 1, 3)}
    now = snapshot(cluster, second, first, running=[held(9, (1, 2), NOW_S + 300)])

    assert starts(now) == {2: NOW_S, 1: NOW_S + 1000}
    assert starts(replace(now, promises=told)) == {2: NOW_S + 900, 1: NOW_S + 300}


def test_a_queue_may_plan_from_nothing() -> None:
    cluster = hosts(1, 1)
    now = snapshot(cluster, job(1), job(2), queues=[Queue("default", 1, replan=Replan.NOTHING)])
    told = {JobId(1): promise(NOW_S + 3600, 1, 2), JobId(2): promise(NOW_S, 1, 2)}

    assert starts(replace(now, promises=told)) == {1: NOW_S, 2: NOW_S + 3600}


def test_a_new_job_comes_behind_those_that_were_told() -> None:
    cluster = hosts(1, 1)
    told = {JobId(2): promise(NOW_S + 100, 1, 2)}
    now = snapshot(
        cluster, job(2, submitted_s=NOW_S), job(1, submitted_s=NOW_S - 9), running=[held(9, (1, 2), NOW_S + 100)]
    )

    assert starts(replace(now, promises=told)) == {2: NOW_S + 100, 1: NOW_S + 3700}


def test_a_queue_of_higher_priority_comes_before_what_lower_ones_were_told() -> None:
    cluster = hosts(1, 1)
    queues = [Queue("default", 1), Queue("urgent", 5)]
    now = snapshot(cluster, job(1), job(2, queue="urgent"), queues=queues, running=[held(9, (1, 2), NOW_S + 100)])
    told = replace(now, promises={JobId(1): promise(NOW_S + 100, 1, 2)})

    assert starts(told) == {2: NOW_S + 100, 1: NOW_S + 3700}
    assert decide(told).broken == (1,)


def test_a_start_that_comes_while_its_resources_are_held_is_put_off_with_those_behind_it() -> None:
    cluster = hosts(1, 1)
    now = snapshot(cluster, job(1), job(2), running=[held(9, (1, 2), NOW_S + 50)])
    told = {JobId(1): promise(NOW_S, 1, 2), JobId(2): promise(NOW_S + 3600, 1, 2)}
    plan = decide(replace(now, promises=told))

    assert starts(replace(now, promises=told)) == {1: NOW_S + 50, 2: NOW_S + 3650}
    assert plan.broken == (1, 2)


def test_a_dead_host_costs_only_the_job_that_was_told_it_its_place() -> None:
    cluster = hosts(2, 1)
    cluster = replace(cluster, states=[ResourceState.DEAD, ResourceState.ALIVE])
    now = snapshot(cluster, job(1), job(2), running=[held(9, (2, 3), NOW_S + 50)])
    told = {JobId(1): promise(NOW_S + 50, 1, 2), JobId(2): promise(NOW_S + 50, 2, 3)}

    assert starts(replace(now, promises=told)) == {2: NOW_S + 50, 1: NOW_S + 3650}


def test_a_bound_is_loosened_by_what_becomes_free() -> None:
    demand = next(iter(_demands()))
    bounds = Bounds()
    bounds.learn(demand, 100, NOW_S + 500)

    bounds.loosen(NOW_S + 300)

    assert bounds.lower(demand, 100, NOW_S) == NOW_S + 201


def _demands() -> tuple[object, ...]:
    from oarpy.scheduling.platform import Platform

    platform = Platform(hosts(2, 2))
    return platform.demands(platform.usable(NOW_S)).of(job(1).request).demands
