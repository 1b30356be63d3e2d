"""When besteffort jobs die for a planned start: in time, and no sooner than they must."""

from __future__ import annotations

from dataclasses import replace

from oarpy.model.states import JobId
from oarpy.scheduling import explain
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Kill, Plan, Predict
from oarpy.scheduling.snapshot import HeldJob, Snapshot, WaitingJob
from tests.unit.clusters import NOW_S, TO_THE_SECOND, held, hosts, job, snapshot


def guest(number: int, core: int, *, checkpoint_s: int = 0, started_s: int = NOW_S - 100) -> HeldJob:
    """A besteffort job on one core, with hours to go."""
    return held(number, (core, core + 1), NOW_S + 9000, started_s=started_s, besteffort=True, checkpoint_s=checkpoint_s)


def at(of: Snapshot, seconds: int) -> Plan:
    return decide(replace(of, now_s=of.now_s + seconds))


def start_of(plan: Plan) -> int:
    (decision,) = plan.decisions
    assert isinstance(decision, Predict)
    return decision.start_s - NOW_S


def both_cores_in_100_s(*guests: HeldJob, wanted: WaitingJob | None = None) -> Snapshot:
    owner = held(9, (1, 2), NOW_S + 100)
    return snapshot(hosts(1, 2), wanted or job(1, "core=2"), running=[owner, *guests])


def test_nobody_dies_yet_for_a_start_that_is_far_off() -> None:
    plan = decide(both_cores_in_100_s(guest(8, 2)))

    assert (start_of(plan), plan.kills) == (100, ())
    assert plan.look_again_s == NOW_S + 90


def test_it_dies_so_early_that_the_start_is_kept() -> None:
    planned = both_cores_in_100_s(guest(8, 2))

    early, in_time = at(planned, 89), at(planned, 90)

    assert (start_of(early), early.kills) == (100, ())
    assert (start_of(in_time), in_time.kills) == (100, (Kill(JobId(8), JobId(1)),))


def test_one_that_saves_its_work_is_told_so_much_earlier() -> None:
    planned = both_cores_in_100_s(guest(8, 2, checkpoint_s=60))

    early, in_time = at(planned, 29), at(planned, 30)

    assert decide(planned).look_again_s == NOW_S + 30
    assert (start_of(early), early.kills) == (100, ())
    assert (start_of(in_time), in_time.kills) == (100, (Kill(JobId(8), JobId(1)),))


def test_on_a_coarse_grid_nobody_dies_a_minute_early() -> None:
    coarse = replace(TO_THE_SECOND, grid_s=60)
    planned = replace(both_cores_in_100_s(guest(8, 2)), limits=coarse)
    start_s = start_of(decide(planned))

    assert at(planned, start_s - 11).kills == ()
    assert at(planned, start_s - 10).kills == (Kill(JobId(8), JobId(1)),)
    # Nor is it too late for a pass that comes a moment late.
    assert at(planned, start_s - 8).kills == (Kill(JobId(8), JobId(1)),)


def test_who_dies_quickly_is_not_told_before_it_must() -> None:
    slow, quick = guest(7, 1, checkpoint_s=60), guest(8, 2)

    plan = decide(snapshot(hosts(1, 2), job(1, "core=2"), running=[slow, quick]))

    assert (start_of(plan), plan.kills) == (70, (Kill(JobId(7), JobId(1)),))
    assert plan.look_again_s == NOW_S + 60


def test_a_quick_death_is_preferred_where_it_lets_the_job_start_sooner() -> None:
    slow, quick = guest(7, 1, checkpoint_s=60), guest(8, 2, started_s=NOW_S - 8000)

    plan = decide(snapshot(hosts(1, 2), job(1, "core=1"), running=[slow, quick]))

    assert (start_of(plan), plan.kills) == (10, (Kill(JobId(8), JobId(1)),))


def test_a_job_whose_victim_saves_its_work_waits_for_that() -> None:
    saving = replace(
        guest(8, 2), killing_from_s=NOW_S + 60, killing_until_s=NOW_S + 70, killed_for=JobId(1), checkpoint_s=60
    )

    plan = decide(snapshot(hosts(1, 2), job(1, "core=2"), running=[guest(7, 1), saving]))

    assert (start_of(plan), plan.kills) == (70, ())
    assert plan.look_again_s == NOW_S + 60
    (decision,) = plan.decisions
    assert isinstance(decision, Predict)
    assert decision.why.code == explain.KILLING


def test_behind_the_planned_ones_a_job_still_displaces_besteffort_jobs() -> None:
    limits = replace(TO_THE_SECOND, plan_first=1)
    owner = held(9, (1, 2), NOW_S + 500)
    waiting = job(1, "core=3"), job(2, "core=1", 50)

    plan = decide(snapshot(hosts(1, 3), *waiting, running=[owner, guest(8, 2), guest(7, 3)], limits=limits))

    assert plan.kills == (Kill(JobId(8), JobId(2)),)
