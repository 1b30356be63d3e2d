"""The rules of a pass, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oarpy.model.filters import Comparison
from oarpy.model.states import JobId, ResourceState
from oarpy.scheduling import explain
from oarpy.scheduling.decide import decide
from oarpy.scheduling.demand import GroupDemand
from oarpy.scheduling.plan import Decision, Kill, Postpone, Predict, SetAside, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Queue, Snapshot
from tests.unit.clusters import NOW_S, TO_THE_SECOND, asks, held, hosts, job, snapshot, topology

ALIVE, ABSENT = ResourceState.ALIVE, ResourceState.ABSENT


def by_job(of: Snapshot) -> dict[int, Decision]:
    return {decision.job_id: decision for decision in decide(of).decisions}


def starts(of: Snapshot) -> dict[int, int | None]:
    """Seconds from now, None without a place."""
    found: dict[int, int | None] = {}
    for decision in decide(of).decisions:
        match decision:
            case Start():
                found[decision.job_id] = 0
            case Predict():
                found[decision.job_id] = decision.start_s - of.now_s
            case _:
                found[decision.job_id] = None
    return found


def test_jobs_start_in_the_order_of_their_submission() -> None:
    crowd = snapshot(
        hosts(1, 2), job(1, "core=2", 100, submitted_s=NOW_S - 1), job(2, "core=2", 50, submitted_s=NOW_S - 2)
    )

    assert starts(crowd) == {2: 0, 1: 50}


def test_a_short_job_goes_ahead_where_it_delays_nobody() -> None:
    running = [held(9, (1, 2), NOW_S + 100)]

    filled = snapshot(hosts(1, 2), job(1, "core=2"), job(2, "core=1", 100), job(3, "core=1", 101), running=running)

    assert starts(filled) == {1: 100, 2: 0, 3: 3700}


def test_a_queue_of_higher_priority_goes_first() -> None:
    queues = [Queue("default", 1), Queue("urgent", 5)]

    crowd = snapshot(hosts(1, 1), job(1, walltime_s=60), job(2, walltime_s=60, queue="urgent"), queues=queues)

    assert starts(crowd) == {2: 0, 1: 60}


def test_the_jobs_of_a_stopped_queue_wait_and_are_told_so() -> None:
    stopped = snapshot(hosts(1, 1), job(1), queues=[Queue("default", 1, active=False)])

    decision = by_job(stopped)[1]

    assert isinstance(decision, Postpone)
    assert explain.sentence(decision.why) == "its queue default is not active"


def test_of_moldable_alternatives_the_one_that_ends_first_is_taken() -> None:
    running = [held(9, (1, 3), NOW_S + 50)]
    moldable = job(1, [asks("core=1", 1000), asks("core=4", 100)])

    decision = by_job(snapshot(hosts(1, 4), moldable, running=running))[1]

    assert isinstance(decision, Predict)
    assert (decision.alternative, decision.start_s) == (1, NOW_S + 50)


def test_of_alternatives_that_end_together_the_first_is_taken() -> None:
    decision = by_job(snapshot(hosts(1, 4), job(1, [asks("core=1", 100), asks("core=4", 100)])))[1]

    assert isinstance(decision, Start)
    assert decision.alternative == 0


def test_a_host_is_what_matches_of_it_and_all_of_that() -> None:
    cluster = hosts(2, 2, kind=["a", "b", "a", "b"])
    busy = [held(9, (2, 3), NOW_S + 100)]
    wanted = asks("host=1", 60, Comparison("kind", "=", "a")), asks("host=1", 60, Comparison("kind", "=", "b"))

    decided = by_job(snapshot(cluster, job(1, wanted[0]), job(2, wanted[1]), running=busy))

    assert decided[1] == Start(JobId(1), 0, 60, ((1, 2),))
    assert decided[2] == Start(JobId(2), 0, 60, ((4, 5),))


def test_equal_numbers_below_different_hosts_are_different_blocks() -> None:
    cluster = topology({"host": ["a", "a", "b", "b"], "cpu": [0, 1, 0, 1]})

    decided = by_job(snapshot(cluster, job(1, "host=2/cpu=1", 60), job(2, "cpu=1", 60)))

    assert decided[1] == Start(JobId(1), 0, 60, ((1, 2), (3, 4)))
    assert decided[2] == Start(JobId(2), 0, 60, ((2, 3), (4, 5)))


def test_groups_of_a_request_share_nothing() -> None:
    cluster = topology({"type": ["default", "default", "licence"], "core": [1, 2, None], "lic": [None, None, 7]})

    decided = by_job(snapshot(cluster, job(1, "core=1+lic=1", 60), job(2, "core=1+lic=1", 60)))

    assert decided[1] == Start(JobId(1), 0, 60, ((1, 2), (3, 4)))
    assert isinstance(decided[2], Predict)


@pytest.mark.parametrize(
    ("request_text", "expected"), [("core=ALL", None), ("core=BEST", ((2, 5),)), ("core=BESTHALF", ((2, 4),))]
)
def test_counts_that_depend_on_what_is_free(request_text: str, expected: object) -> None:
    busy = [held(9, (1, 2), NOW_S + 100)]

    decision = by_job(snapshot(hosts(1, 4), job(1, request_text), running=busy))[1]

    assert (decision.resources if isinstance(decision, Start) else None) == expected


def test_adjacent_cores_are_preferred_to_scattered_ones() -> None:
    busy = [held(9, (2, 3), NOW_S + 100)]

    decision = by_job(snapshot(hosts(1, 5), job(1, "core=2"), running=busy))[1]

    assert decision == Start(JobId(1), 0, 3600, ((3, 5),))


def test_sleeping_resources_are_planned_on_and_not_started_on() -> None:
    cluster = replace(hosts(1, 2), states=[ALIVE, ABSENT], available_upto_s=[None, NOW_S + 10_000])

    decided = by_job(snapshot(cluster, job(1, "core=2", 100), job(2, "core=2", 20_000)))

    assert isinstance(decided[1], Predict)
    assert decided[1].start_s == NOW_S + 1
    assert decided[1].why.code == explain.WAKING
    assert isinstance(decided[2], Postpone)
    assert decided[2].why.code == explain.TOO_LONG


@pytest.mark.parametrize("state", [ResourceState.SUSPECTED, ResourceState.DEAD, ResourceState.ABSENT])
def test_resources_out_of_service_are_not_used(state: ResourceState) -> None:
    cluster = replace(hosts(1, 2), states=[ALIVE, state])

    decision = by_job(snapshot(cluster, job(1, "core=2")))[1]

    assert isinstance(decision, Postpone)
    assert decision.why.code == (explain.NEEDS_MORE if state is ResourceState.DEAD else explain.NOT_USABLE)


def test_where_all_are_drained_the_reason_says_so() -> None:
    cluster = replace(hosts(1, 2), drain=[True, True])

    decision = by_job(snapshot(cluster, job(1, "core=1")))[1]

    assert isinstance(decision, Postpone)
    assert explain.sentence(decision.why) == "too many resources are out of service or drained: no resource takes jobs"


def test_drained_resources_get_no_new_jobs() -> None:
    decided = by_job(snapshot(replace(hosts(1, 2), drain=[True, False]), job(1, "core=1")))

    assert decided[1] == Start(JobId(1), 0, 3600, ((2, 3),))


def test_a_job_that_overruns_its_walltime_keeps_its_resources() -> None:
    limits = replace(TO_THE_SECOND, security_s=60)

    late = snapshot(hosts(1, 1), job(1), running=[held(9, (1, 2), NOW_S - 5000)], limits=limits)

    assert starts(late) == {1: 60}


def test_planned_ends_lie_on_the_grid() -> None:
    limits = replace(TO_THE_SECOND, grid_s=60)
    now_s = NOW_S // 60 * 60 + 7

    planned = snapshot(hosts(1, 1), job(1, walltime_s=60), job(2, walltime_s=60), limits=limits, now_s=now_s)

    assert starts(planned) == {1: 0, 2: 113}


def test_with_a_depth_of_one_only_the_first_job_that_waits_is_planned() -> None:
    queues = [Queue("default", 1, depth=1)]
    running = [held(9, (1, 2), NOW_S + 100)]

    easy = snapshot(
        hosts(1, 2), job(1, "core=2"), job(2, "core=2"), job(3, "core=1", 50), queues=queues, running=running
    )

    assert starts(easy) == {1: 100, 2: None, 3: 0}


def test_under_overload_those_behind_the_first_start_now_or_are_not_planned() -> None:
    limits = replace(TO_THE_SECOND, plan_first=1)

    pressed = snapshot(hosts(1, 2), job(1, "core=1"), job(2, "core=2"), job(3, "core=1"), limits=limits)

    assert starts(pressed) == {1: 0, 2: None, 3: 0}


def test_besteffort_jobs_wait_for_all_others() -> None:
    decided = starts(snapshot(hosts(1, 1), job(1, walltime_s=60, besteffort=True), job(2, walltime_s=60)))

    assert decided == {2: 0, 1: 60}


def test_a_besteffort_job_starts_where_a_normal_job_will_need_its_resources_later() -> None:
    running = [held(9, (1, 2), NOW_S + 400)]

    decided = starts(snapshot(hosts(1, 2), job(1, "core=2"), job(2, "core=1", besteffort=True), running=running))

    assert decided == {1: 400, 2: 0}


def test_a_besteffort_job_dies_for_a_normal_one_which_starts_when_it_is_gone() -> None:
    running = [held(9, (1, 3), NOW_S + 5000, besteffort=True)]
    before = snapshot(hosts(1, 2), job(1, "core=1"), running=running)

    plan = decide(before)

    assert plan.kills == (Kill(JobId(9), JobId(1)),)
    assert isinstance(plan.decisions[0], Predict)
    assert plan.decisions[0].start_s == NOW_S + 10
    assert explain.sentence(plan.decisions[0].why) == (
        "its resources are being freed of best-effort jobs (1 of them, job 9 first)"
    )


def test_nobody_dies_for_a_job_that_fits_elsewhere() -> None:
    running = [held(9, (1, 2), NOW_S + 5000, besteffort=True)]

    plan = decide(snapshot(hosts(1, 2), job(1, "core=1"), running=running))

    assert plan.kills == ()
    assert plan.decisions == (Start(JobId(1), 0, 3600, ((2, 3),)),)


def test_the_besteffort_job_with_the_least_to_lose_dies() -> None:
    running = [
        held(8, (1, 2), NOW_S + 5000, started_s=NOW_S - 1000, besteffort=True),
        held(9, (2, 3), NOW_S + 5000, started_s=NOW_S - 10, besteffort=True),
    ]

    plan = decide(snapshot(hosts(1, 2), job(1, "core=1"), running=running))

    assert plan.kills == (Kill(JobId(9), JobId(1)),)


def test_a_victim_that_is_chosen_already_serves_a_second_job() -> None:
    running = [
        held(8, (1, 3), NOW_S + 5000, started_s=NOW_S - 10, besteffort=True),
        held(9, (3, 4), NOW_S + 5000, started_s=NOW_S - 1000, besteffort=True),
    ]

    plan = decide(snapshot(hosts(1, 3), job(1, "core=1"), job(2, "core=1"), running=running))

    assert plan.kills == (Kill(JobId(8), JobId(1)),)
    assert not any(isinstance(decision, Start) for decision in plan.decisions)


def test_what_dies_for_a_job_is_promised_to_it() -> None:
    dying = held(9, (1, 2), NOW_S + 5000, besteffort=True, killing_until_s=NOW_S + 7, killed_for=JobId(1))
    queues = [Queue("default", 1), Queue("urgent", 5)]

    decided = starts(
        snapshot(hosts(1, 1), job(1, walltime_s=60), job(2, queue="urgent"), running=[dying], queues=queues)
    )

    assert decided == {1: 7, 2: 67}


def test_nobody_else_dies_while_a_job_waits_for_its_victims() -> None:
    running = [
        held(8, (1, 2), NOW_S + 5000, besteffort=True, killing_until_s=NOW_S + 7, killed_for=JobId(1)),
        held(9, (2, 3), NOW_S + 5000, besteffort=True),
    ]

    plan = decide(snapshot(hosts(1, 2), job(1, "core=1"), running=running))

    assert plan.kills == ()


def test_a_victim_past_its_kill_deadline_still_holds_its_resources() -> None:
    dying = held(9, (1, 2), NOW_S + 5000, besteffort=True, killing_until_s=NOW_S - 60, killed_for=JobId(1))

    assert starts(snapshot(hosts(1, 1), job(1), running=[dying])) == {1: 1}


def test_a_job_on_which_deciding_fails_is_set_aside_and_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    take = GroupDemand.take

    def broken(self: GroupDemand, bits: int) -> int | None:
        if self.levels[0].count == 2:
            raise RuntimeError("no idea")
        return take(self, bits)

    monkeypatch.setattr(GroupDemand, "take", broken)

    decided = by_job(snapshot(hosts(1, 4), job(1, "core=2"), job(2, "core=1")))

    assert isinstance(decided[1], SetAside)
    assert "no idea" in decided[1].error
    assert isinstance(decided[2], Start)


def test_a_known_platform_of_another_version_is_left_aside() -> None:
    outdated = Platform(replace(hosts(1, 1), version=7))

    plan = decide(snapshot(hosts(1, 2), job(1, "core=2")), outdated)

    assert isinstance(plan.decisions[0], Start)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (asks("gpu=1"), "resources have no property gpu"),
        (asks("core=1", 60, Comparison("host", "=", "h9")), "its filter matches none of the 4 resources"),
        (
            asks("host=5", 60, Comparison("host", "!=", "h1")),
            "host=5 needs 5 of host; among the 2 of 4 resources that its filter matches, 1 would do",
        ),
        (
            asks("host=3+host=1"),
            "host=3 needs 3 of host; among the 4 of 4 resources that its filter matches, 2 would do",
        ),
        (asks("host=2+host=1"), "its 2 groups fit one by one into 4 resources, but not together"),
    ],
)
def test_a_job_that_no_longer_can_fit_is_told_why_in_numbers(wanted: object, sentence: str) -> None:
    decision = by_job(snapshot(hosts(2, 2), job(1, wanted)))[1]  # type: ignore[arg-type]

    assert isinstance(decision, Postpone)
    assert explain.sentence(decision.why) == sentence


def test_for_a_job_that_only_wants_to_know_nothing_is_taken() -> None:
    cluster = hosts(1, 2)
    asking, real = job(1, "core=2"), job(2, "core=2")

    plan = decide(snapshot(cluster, asking, real), supposed={asking.job_id})

    assert [type(decision) for decision in plan.decisions] == [Start, Start]


def test_a_job_that_only_wants_to_know_lets_no_other_die() -> None:
    running = [held(100, (1, 3), NOW_S + 1000, besteffort=True)]
    asking = job(1, "core=2")

    plan = decide(snapshot(hosts(1, 2), asking, running=running), supposed={asking.job_id})

    (told,) = plan.decisions
    assert isinstance(told, Predict)
    assert (told.start_s, told.why.code, plan.kills) == (NOW_S + 10, explain.KILLING, ())
