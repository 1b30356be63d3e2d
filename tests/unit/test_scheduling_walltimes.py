"""More walltime for running jobs: as much as nobody else waits for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oarpy.model.states import JobId
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Predict
from oarpy.scheduling.snapshot import Limits, Reservation, Snapshot
from oarpy.scheduling.walltimes import Longer, LongerWish, meet, prolonged
from tests.unit.clusters import NOW_S, held, hosts, job, snapshot
from tests.unit.test_scheduling_quotas import bound, calendar, rule

#: Two hosts of two cores; ids 1 and 2 are the first one's.
CLUSTER = hosts(2, 2)
ENDS_S = NOW_S + 1000


def granted(case: Snapshot, *wishes: LongerWish) -> list[Longer]:
    return prolonged(case, decide(case), wishes, decide)


def test_a_job_behind_which_nobody_is_planned_gets_all() -> None:
    case = snapshot(CLUSTER, running=[held(1, (1, 3), ENDS_S)])

    assert granted(case, LongerWish(1, 5000)) == [Longer(1, 5000)]


def test_a_job_gets_what_is_free_before_the_next_one_and_the_pause_between() -> None:
    case = snapshot(
        CLUSTER,
        job(9, "host=2"),
        running=[held(1, (1, 3), ENDS_S), held(2, (3, 5), ENDS_S + 2000)],
        limits=Limits(grid_s=1, security_s=60),
    )

    assert granted(case, LongerWish(1, 5000)) == [Longer(1, 2000)]
    assert granted(case, LongerWish(1, 5000, step_s=300)) == [Longer(1, 300)]
    assert granted(case, LongerWish(1, 5000, whole=True)) == []
    assert granted(case, LongerWish(1, 2000, whole=True)) == [Longer(1, 2000)]


def test_the_job_in_whose_way_it_is_keeps_its_planned_start() -> None:
    case = snapshot(CLUSTER, job(9, "host=2"), running=[held(1, (1, 3), ENDS_S), held(2, (3, 5), ENDS_S + 2000)])

    (longer,) = granted(case, LongerWish(1, 5000))
    later = snapshot(
        CLUSTER, job(9, "host=2"), running=[held(1, (1, 3), ENDS_S + longer.extra_s), held(2, (3, 5), ENDS_S + 2000)]
    )

    assert [one.start_s for one in decide(later).decisions if isinstance(one, Predict)] == [ENDS_S + 2000]


def test_the_cost_to_others_is_told_where_they_may_be_delayed() -> None:
    case = snapshot(CLUSTER, job(8, "host=1"), job(9, "host=2"), running=[held(1, (1, 5), ENDS_S)])

    assert granted(case, LongerWish(1, 700)) == []
    assert granted(case, LongerWish(1, 700, delays_others=True)) == [Longer(1, 700, delayed=2, delay_s=700)]


def test_besteffort_jobs_are_nobody_to_wait_for() -> None:
    case = snapshot(CLUSTER, job(9, "host=2", besteffort=True), running=[held(1, (1, 5), ENDS_S)])

    assert granted(case, LongerWish(1, 700)) == [Longer(1, 700)]


def test_jobs_that_do_not_run_or_are_being_killed_get_nothing() -> None:
    case = snapshot(CLUSTER, running=[held(1, (1, 3), ENDS_S, killing_until_s=NOW_S + 20)])

    assert granted(case, LongerWish(1, 700), LongerWish(77, 700)) == []


@pytest.mark.parametrize("delays_others", [False, True])
def test_an_inner_job_ends_no_later_than_its_container(delays_others: bool) -> None:
    container = held(1, (1, 5), ENDS_S + 300, types=("container",))
    case = snapshot(CLUSTER, running=[container, held(2, (1, 3), ENDS_S, space=JobId(1))])

    assert granted(case, LongerWish(2, 700, delays_others=delays_others)) == [Longer(2, 300)]


def test_a_job_grows_no_further_than_its_deadline() -> None:
    case = snapshot(CLUSTER, running=[held(1, (1, 3), ENDS_S)])

    assert granted(case, LongerWish(1, 700, deadline_s=ENDS_S + 200)) == [Longer(1, 200)]
    assert granted(case, LongerWish(1, 700, whole=True, deadline_s=ENDS_S + 200)) == []


def test_resource_hours_are_counted_for_all_of_the_longer_walltime() -> None:
    # Of 3600 core-seconds two cores for 1000 s, and two others for 500 s.
    running = [
        held(1, (1, 3), ENDS_S, started_s=NOW_S, user="a"),
        held(2, (3, 5), NOW_S + 500, started_s=NOW_S, user="a"),
    ]
    case = bound(snapshot(CLUSTER, running=running), rule("*,*,*,/", hours="1"))

    assert granted(case, LongerWish(1, 5000)) == [Longer(1, 300)]
    assert granted(case, LongerWish(1, 5000, whole=True)) == []
    assert granted(case, LongerWish(1, 200), LongerWish(2, 400)) == [Longer(1, 200), Longer(2, 100)]
    assert granted(replace(case, quotas=None), LongerWish(1, 5000)) == [Longer(1, 5000)]


@pytest.mark.parametrize("limit", [{"resources": "2"}, {"jobs": "1"}])
def test_a_job_does_not_grow_into_what_is_planned_under_the_same_quota(limit: dict[str, str]) -> None:
    # The next job of the user is to start where this one ends, on other resources.
    running = [held(1, (1, 3), ENDS_S, user="a"), held(2, (3, 5), ENDS_S, user="b")]
    case = bound(snapshot(CLUSTER, job(9, "host=1", user="a"), running=running), rule("*,*,*,a", **limit))
    (planned,) = [one for one in decide(case).decisions if isinstance(one, Predict)]
    elsewhere = replace(planned, resources=((3, 5),))

    def longer(*wishes: LongerWish) -> list[Longer]:
        return prolonged(case, replace(decide(case), decisions=(elsewhere,)), wishes, decide)

    assert planned.start_s == ENDS_S
    assert longer(LongerWish(1, 700)) == []
    assert [one.extra_s for one in longer(LongerWish(1, 700, delays_others=True))] == [700]
    assert prolonged(
        replace(case, quotas=None), replace(decide(case), decisions=(elsewhere,)), [LongerWish(1, 700)], decide
    )


def test_a_reservation_under_the_same_quota_is_moved_by_nobody() -> None:
    reserved = Reservation(JobId(8), "default", 0, ENDS_S + 300, ENDS_S + 900, ((3, 5),), user="a")
    plain = snapshot(CLUSTER, running=[held(1, (1, 3), ENDS_S, user="a")])
    case = replace(bound(plain, rule("*,*,*,a", jobs="1")), reserved=(reserved,))

    for delays_others in (False, True):
        assert [one.extra_s for one in granted(case, LongerWish(1, 700, delays_others=delays_others))] == [300]


def test_nobody_grows_into_a_time_when_less_is_allowed() -> None:
    running = [held(1, (1, 3), ENDS_S, user="a")]
    sets = {"default": (rule("*,*,*,/", resources="2"),), "day": (rule("*,*,*,/", resources="1"),)}
    case = calendar(snapshot(CLUSTER, running=running), (-10, "default"), (1250, "day"), **sets)

    assert granted(case, LongerWish(1, 700)) == [Longer(1, 250)]


spans = st.lists(st.integers(0, 40), max_size=8, unique=True).map(sorted)


@given(spans, spans)
def test_ranges_meet_where_their_members_do(one: list[int], other: list[int]) -> None:
    def ranges(ends: list[int]) -> tuple[tuple[int, int], ...]:
        return tuple(zip(ends[::2], ends[1::2], strict=False))

    def members(ends: list[int]) -> set[int]:
        return {i for low, high in ranges(ends) for i in range(low, high)}

    assert meet(ranges(one), ranges(other)) == bool(members(one) & members(other))
