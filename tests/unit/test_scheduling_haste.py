"""A pass of which only the starts count leaves out what nobody reads, and starts the same jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oarpy.model.states import JobId
from oarpy.scheduling.compression import KeptPlaces
from oarpy.scheduling.decide import Pass, decide
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.plan import Plan, Postpone, Predict
from oarpy.scheduling.snapshot import Promise, Snapshot
from tests.unit.clusters import NOW_S, held, hosts, job, snapshot
from tests.unit.combined import PARTS, combined
from tests.unit.told import some_time_later, told_snapshot


def acts(plan: Plan) -> tuple[object, ...]:
    """What a plan changes, but for what it tells."""
    done = tuple(one for one in plan.decisions if not isinstance(one, Predict | Postpone))
    return done, plan.kills, plan.resumes, plan.examined


def wakes(plan: Plan) -> int | None:
    starts = [one.start_s for one in plan.decisions if isinstance(one, Predict)]
    return min([*starts, *([plan.look_again_s] if plan.look_again_s is not None else [])], default=None)


def in_haste(of: Snapshot, seed: int) -> tuple[Plan, Plan]:
    usual = replace(of, limits=replace(of.limits, plan_first=seed % 4))
    return decide(usual), decide(replace(usual, limits=replace(usual.limits, starts_only=True)))


def differs(of: Snapshot, seed: int) -> bool:
    usual, hasty = in_haste(of, seed)
    return acts(usual) != acts(hasty) or wakes(usual) != wakes(hasty)


def test_the_same_jobs_start_and_the_same_instants_are_waited_for() -> None:
    assert [seed for seed in range(700) if differs(told_snapshot(seed, jobs=24), seed)] == []


@pytest.mark.parametrize("seed", range(40))
def test_the_same_holds_of_all_policies_together(seed: int) -> None:
    assert not differs(some_time_later(combined(seed, *PARTS), seed), seed)


def test_jobs_that_stand_are_left_out() -> None:
    left_out = 0
    for seed in range(100):
        usual, hasty = in_haste(told_snapshot(seed, jobs=24), seed)
        left_out += len(usual.decisions) - len(hasty.decisions)

    assert left_out > 50


@pytest.mark.parametrize(
    ("of", "part", "broken"),
    [
        (KeptPlaces, "_fits_now", lambda *_: False),
        (Pass, "_look_again", lambda *_: None),
        (Gantt, "before", lambda *_: 0),
    ],
)
def test_what_is_left_out_wrongly_is_caught(
    monkeypatch: pytest.MonkeyPatch, of: type[object], part: str, broken: object
) -> None:
    usual = [in_haste(told_snapshot(seed, jobs=24), seed)[0] for seed in range(200)]
    monkeypatch.setattr(of, part, broken)

    hasty = [in_haste(told_snapshot(seed, jobs=24), seed)[1] for seed in range(200)]

    assert any(acts(one) != acts(other) or wakes(one) != wakes(other) for one, other in zip(usual, hasty, strict=True))


def test_a_job_behind_those_that_stand_does_not_take_what_they_were_told() -> None:
    cluster = hosts(1, 2)
    told = {JobId(1): Promise(NOW_S + 600, 0, ((1, 3),))}
    waiting = job(1, "core=2", 1000), job(2, "core=1", 900), job(3, "core=1", 600)
    now = snapshot(cluster, *waiting, running=[held(9, (1, 2), NOW_S + 600)])
    hasty = replace(now.limits, plan_first=0, starts_only=True)

    plan = decide(replace(now, promises=told, limits=hasty))

    assert [type(one).__name__ for one in plan.decisions if one.job_id != 2] == ["Start"]
    assert [one.job_id for one in plan.decisions] == [2, 3]
