"""In which order jobs are placed: karmas and priorities with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.priority_types import check_given, check_given_by_user, number_of
from oarpy.model.states import JobId, Ordering
from oarpy.scheduling.decide import decide
from oarpy.scheduling.explain import BEYOND_USER, sentence
from oarpy.scheduling.karma import Karmas, karmas
from oarpy.scheduling.multifactor import Priorities, karma_factor
from oarpy.scheduling.order import in_order
from oarpy.scheduling.plan import Postpone, Predict, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Queue, Snapshot, WaitingJob
from oarpy.scheduling.usage import Account, Consumption, Factors, Shares, Usage
from tests.unit.clusters import NOW_S, TO_THE_SECOND, asks, held, hosts, job, random_snapshot, snapshot, with_orderings

FAIR, MANY = Ordering.FAIRSHARE, Ordering.MULTIFACTOR
DAY_S = 86_400


def usage(consumed: dict[str, tuple[int, int]], queue: str = "default") -> Usage:
    """``{"p/alice": (used, asked)}``."""
    accounts = {who: Account(queue, *who.split("/")) for who in consumed}
    return Usage(NOW_S, {accounts[who]: Consumption(*amounts) for who, amounts in consumed.items()})


def karma(consumed: dict[str, tuple[int, int]], who: str, **shares: Any) -> float:
    return Karmas(usage(consumed), {"default"}, Shares(**shares)).of(*who.split("/"))


def order(case: Snapshot) -> list[int]:
    ordered = in_order(case, (), Platform(case.topology))
    return [int(one.job_id) for part in ordered for one in part]


def waiting(
    *jobs: WaitingJob, queues: tuple[Queue, ...], consumed: Usage | None = None, shares: Shares | None = None
) -> Snapshot:
    limits = replace(TO_THE_SECOND, shares=shares or Shares())
    return replace(snapshot(hosts(1, 4), *jobs, queues=queues, limits=limits), usage=consumed or Usage(NOW_S, {}))


# Karma.


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        # alice used 300 of 400 and asked for 600 of 1000, her project used all.
        ({}, 2 * 0.75 + 0.6),
        ({"user": 1.0, "asked": 0.0}, 0.75),
        ({"user": 0.0, "asked": 0.0, "project": 1.0}, 1.0),
        ({"user_targets": {"alice": 50}}, 2 * (0.75 - 0.5) + (0.6 - 0.5)),
        ({"user_targets": {"default": 25}}, 2 * (0.75 - 0.25) + (0.6 - 0.25)),
        ({"user_targets": {"bob": 90}}, 2 * 0.75 + 0.6),
        ({"project": 0.5, "project_targets": {"p": 80}}, 0.5 * 0.2 + 2 * 0.75 + 0.6),
    ],
)
def test_a_karma_is_what_was_used_beyond_the_share(shares: dict[str, Any], expected: float) -> None:
    found = karma({"p/alice": (300, 600), "p/bob": (100, 400)}, "p/alice", **shares)

    assert found == round(expected, 3)


def test_who_used_nothing_has_the_share_as_credit() -> None:
    assert karma({"p/alice": (300, 600)}, "p/bob", user_targets={"default": 10}) == -0.3


def test_where_nothing_was_used_nobody_has_a_karma() -> None:
    assert karma({}, "p/alice") == 0.0


def test_a_users_use_counts_in_all_projects() -> None:
    assert karma({"p/alice": (100, 0), "q/alice": (100, 0), "q/bob": (200, 0)}, "r/alice", asked=0.0) == 1.0


def test_what_was_used_in_other_queues_does_not_count() -> None:
    found = Karmas(usage({"p/alice": (300, 600)}, queue="other"), {"default"}, Shares())

    assert found.of("p", "alice") == 0.0


def test_karmas_are_told_where_they_matter() -> None:
    case = waiting(
        job(1, user="alice", project="p"),
        job(2, queue="other", user="alice", project="p"),
        queues=(Queue("default", 1, ordering=FAIR), Queue("other", 1)),
        consumed=usage({"p/alice": (300, 600)}),
    )

    assert karmas(case) == {Account("default", "p", "alice"): 3.0}


# Fairshare.


def test_who_used_least_comes_first_and_equals_by_submission() -> None:
    case = waiting(
        job(1, user="alice"),
        job(2, user="bob"),
        job(3, user="carol", submitted_s=NOW_S - 5),
        job(4, user="bob", submitted_s=NOW_S - 9),
        queues=(Queue("default", 1, ordering=FAIR),),
        consumed=usage({"p/alice": (300, 600), "p/bob": (100, 200), "p/carol": (100, 200)}),
    )

    assert order(case) == [4, 3, 2, 1]


def test_karmas_that_look_equal_are_equal() -> None:
    case = waiting(
        job(1, user="alice"),
        job(2, user="bob"),
        queues=(Queue("default", 1, ordering=FAIR),),
        consumed=usage({"p/alice": (100_010, 0), "p/bob": (100_000, 0)}),
    )

    assert order(case) == [1, 2]


def test_queues_of_equal_priority_share() -> None:
    case = waiting(
        job(1, queue="night", user="alice"),
        job(2, user="bob"),
        queues=(Queue("default", 1, ordering=FAIR), Queue("night", 1, ordering=FAIR)),
        consumed=usage({"p/alice": (100, 0)}),
    )

    assert order(case) == [2, 1]


def test_a_higher_priority_comes_first_whatever_was_used() -> None:
    case = waiting(
        job(1, user="bob"),
        job(2, queue="high", user="alice"),
        queues=(Queue("default", 1, ordering=FAIR), Queue("high", 2, ordering=FAIR)),
        consumed=usage({"p/alice": (100, 0)}, queue="high"),
    )

    assert order(case) == [2, 1]


def test_jobs_of_another_ordering_change_places_among_themselves() -> None:
    case = waiting(
        job(1, user="alice"),
        job(2, queue="plain", user="bob"),
        job(3, user="alice"),
        job(4, queue="plain", user="alice"),
        job(5, user="bob"),
        queues=(Queue("default", 1, ordering=FAIR), Queue("plain", 1)),
        consumed=usage({"p/alice": (100, 0)}),
    )

    assert order(case) == [5, 2, 1, 4, 3]


def test_who_runs_now_yields_to_who_used_nothing() -> None:
    limits = replace(TO_THE_SECOND, shares=Shares())
    case = replace(
        snapshot(
            hosts(1, 2),
            job(1, "core=2", user="alice"),
            job(2, "core=2", user="bob"),
            running=[held(3, (1, 3), NOW_S + 100, user="alice")],
            queues=(Queue("default", 1, ordering=FAIR),),
            limits=limits,
        ),
        usage=usage({"default/alice": (200, 400)}),
    )

    starts = [(one.job_id, one.start_s) for one in decide(case).decisions if isinstance(one, Predict)]

    assert starts == [(2, NOW_S + 100), (1, NOW_S + 3700)]


# Many factors.


def priority(one: WaitingJob, consumed: Usage | None = None, now_s: int = NOW_S, **factors: Any) -> float:
    nothing = dict.fromkeys(("age", "queue", "work", "size", "karma", "qos", "nice"), 0.0)
    limits = replace(TO_THE_SECOND, factors=Factors(**nothing | factors), shares=Shares(refresh_s=1))
    case = replace(snapshot(hosts(4, 4), one, limits=limits, now_s=now_s), usage=consumed or Usage(now_s, {}))
    return Priorities(case, Platform(case.topology), Karmas(case.usage, {"default"}, Shares())).of(one)


@pytest.mark.parametrize(("waited_s", "factor"), [(0, 0.0), (DAY_S, 0.25), (4 * DAY_S, 1.0), (9 * DAY_S, 1.0)])
def test_the_age_grows_up_to_its_limit(waited_s: int, factor: float) -> None:
    found = priority(job(1, submitted_s=NOW_S - waited_s), age=2.0, age_limit_s=4 * DAY_S)

    assert found == 2 * factor


def test_the_queues_factor_is_its_own_or_that_of_the_others() -> None:
    queues = {"default": 0.5, "night": 3.0}

    found = [priority(job(1, queue=name), queue=2.0, queues=queues) for name in ("default", "night", "other")]

    assert found == [1.0, 6.0, 1.0]


@pytest.mark.parametrize(
    ("request_text", "walltime_s", "small"),
    [("core=1", 1800, 1.0), ("core=1", 3600, 1.0), ("core=8", 3600, 0.125), ("host=2", 7200, 1 / 16)],
)
def test_the_work_is_counted_in_resource_hours(request_text: str, walltime_s: int, small: float) -> None:
    one = job(1, request_text, walltime_s)

    assert priority(one, work=1.0) == small
    assert priority(one, work=1.0, work_favours="large") == 1 - small


def test_the_size_is_a_part_of_the_cluster() -> None:
    assert priority(job(1, "host=1"), size=1.0) == 0.75
    assert priority(job(1, "host=1"), size=1.0, size_favours="large") == 0.25


def test_of_a_moldable_job_the_first_alternative_that_fits_counts() -> None:
    assert priority(job(1, (asks("host=9", 60), asks("host=2", 3600), asks("core=1"))), work=1.0) == 0.125


@pytest.mark.parametrize(("of", "factor"), [(0.0, 1.0), (1.0, 0.5), (3.0, 0.25), (-0.5, 1.5), (-3.0, 4.0)])
def test_the_karmas_factor_falls_with_the_karma(of: float, factor: float) -> None:
    assert karma_factor(of) == factor


def test_a_karma_that_oar_3_divides_by_zero_at_has_a_factor_as_well() -> None:
    values = [karma_factor(k / 100) for k in range(-300, 301)]

    assert values == sorted(values, reverse=True)
    assert min(values) > 0


def test_a_quality_of_service_adds_and_niceness_takes_off() -> None:
    one = job(1, types=("besteffort", "qos=1.5", "nice=20", "nicer=99"))

    assert priority(one, qos=2.0, nice=1.0) == 2 * 1.5 - 0.2


def test_a_type_that_is_no_number_counts_nothing() -> None:
    assert number_of(("qos=many", "idempotent"), "qos") == 0.0
    assert number_of(("qos=inf",), "qos") == 0.0


def test_the_highest_priority_comes_first() -> None:
    case = waiting(
        job(1, types=("nice=50",)),
        job(2),
        job(3, types=("qos=1",)),
        job(4),
        queues=(Queue("default", 1, ordering=MANY),),
    )

    assert order(case) == [3, 2, 4, 1]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_stands_still_as_long_as_what_was_used_does(seed: int) -> None:
    case = with_orderings(random_snapshot(seed, jobs=30), seed)
    limits = replace(case.limits, shares=replace(case.limits.shares, refresh_s=60))
    minute = replace(case, limits=limits, now_s=case.now_s // 60 * 60)

    orders = {tuple(order(replace(minute, now_s=minute.now_s + second))) for second in range(0, 60, 7)}

    assert len(orders) == 1


@pytest.mark.parametrize("seed", range(50))
def test_the_order_does_not_depend_on_how_the_jobs_were_read(seed: int) -> None:
    case = with_orderings(random_snapshot(seed, jobs=30), seed)
    mixed = list(case.waiting)
    Random(seed).shuffle(mixed)

    assert order(replace(case, waiting=tuple(mixed))) == order(case)


@pytest.mark.parametrize("seed", range(50))
def test_an_ordering_moves_no_job_of_another_queue(seed: int) -> None:
    case = with_orderings(random_snapshot(seed, jobs=30), seed)
    plain = replace(case, queues=tuple(replace(queue, ordering=Ordering.FIFO) for queue in case.queues))
    fifo = {queue.name for queue in case.queues if queue.ordering is Ordering.FIFO}
    queue_of = {int(one.job_id): one.queue for one in case.waiting}

    pairs = zip(ordered(case), ordered(plain), strict=True)

    assert all(mine == his for mine, his in pairs if queue_of[mine] in fifo or queue_of[his] in fifo)


def ordered(case: Snapshot) -> list[int]:
    """As `order`, besteffort jobs among the others."""
    return order(replace(case, waiting=tuple(replace(one, besteffort=False) for one in case.waiting)))


# The limit of jobs per user.


def limited(most: int | None, *jobs: WaitingJob, cores: int = 1, **others: Any) -> dict[JobId, Any]:
    limits = replace(TO_THE_SECOND, jobs_per_user=most)
    plan = decide(snapshot(hosts(1, cores), *jobs, limits=limits, **others))
    return {one.job_id: one for one in plan.decisions}


def test_jobs_beyond_a_users_limit_have_no_place_and_are_told_why() -> None:
    found = limited(2, *(job(number, user="alice") for number in range(1, 5)), job(5, user="bob"))

    assert [type(one) for one in found.values()] == [Start, Predict, Predict, Postpone, Predict]
    assert found[JobId(4)].why.code == BEYOND_USER
    assert sentence(found[JobId(4)].why) == (
        "its turn comes when one of its user's 2 waiting jobs before it has started"
    )


def test_jobs_that_start_do_not_count() -> None:
    found = limited(1, *(job(number, user="alice") for number in range(1, 6)), cores=3)

    assert [type(one) for one in found.values()] == [Start, Start, Start, Predict, Postpone]


def test_jobs_that_have_no_place_do_not_count() -> None:
    found = limited(1, job(1, "host=9", user="alice"), job(2, user="alice"), job(3, user="alice"))

    assert [type(one) for one in found.values()] == [Postpone, Start, Predict]


def test_a_user_has_a_limit_in_each_priority() -> None:
    queues = (Queue("default", 1), Queue("equal", 1), Queue("high", 2))
    jobs = [job(n, queue=queue) for n, queue in enumerate(("high", "high", "default", "equal"), 1)]

    found = limited(1, *jobs, queues=queues)

    assert [type(one) for one in found.values()] == [Start, Predict, Predict, Postpone]


def test_jobs_beyond_the_limit_leave_the_head_of_the_queue_to_others() -> None:
    jobs = [*(job(number, user="alice") for number in range(1, 8)), job(8, user="bob")]
    limits = replace(TO_THE_SECOND, jobs_per_user=1, plan_first=3)

    plan = decide(snapshot(hosts(1, 1), *jobs, limits=limits))

    assert isinstance(plan.decisions[-1], Predict)


# What may be said of a job.


@pytest.mark.parametrize("types", [["qos=1"], ["qos"], ["nice=-1"], ["nice=101"], ["nice"], ["nice=x"], ["nice=nan"]])
def test_users_may_not_better_their_place(types: list[str]) -> None:
    with pytest.raises(SyntaxRefused):
        check_given_by_user(types)


def test_users_may_be_nice() -> None:
    check_given_by_user(["nice=0", "nicer", "idempotent"])
    check_given_by_user(["nice=100"])


@pytest.mark.parametrize("types", [["qos=high"], ["qos=inf"], ["nice"], ["nice=1", "nice=2"]])
def test_rules_give_numbers_and_one_of_a_kind(types: list[str]) -> None:
    with pytest.raises(SyntaxRefused):
        check_given(types)


def test_rules_may_give_what_users_may_not() -> None:
    check_given(["qos=-2.5", "nice=-200"])
