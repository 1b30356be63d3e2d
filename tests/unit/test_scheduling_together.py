"""What two policies mean where they meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from oarpy.model.quotas import Amount, Measure, Rule
from oarpy.model.states import JobId
from oarpy.scheduling.containers import Containers
from oarpy.scheduling.decide import Pass, decide
from oarpy.scheduling.multifactor import Priorities
from oarpy.scheduling.plan import Begin, Postpone, Predict, SetAside, Start
from oarpy.scheduling.promises import Promises
from oarpy.scheduling.quotas import Quotas
from oarpy.scheduling.reach import Wider
from oarpy.scheduling.reservations import Bookings
from oarpy.scheduling.snapshot import Promise, QuotaRules, Reservation, TokenCount, WaitingJob
from oarpy.scheduling.tokens import Tokens
from tests.unit.clusters import NOW_S, TO_THE_SECOND, held, hosts, job, snapshot
from tests.unit.combined import PARTS, combined

ONE_JOB_EACH = QuotaRules({"default": (Rule("*", "*", "*", "/", {Measure.JOBS: Amount(Fraction(1))}),)})


def test_what_a_job_was_told_stands_under_overload_with_quotas_too() -> None:
    running = [held(9, (1, 3), NOW_S + 100)]
    now = snapshot(
        hosts(2, 1),
        job(1, user="u"),
        job(2, user="v"),
        running=running,
        limits=replace(TO_THE_SECOND, plan_first=1),
    )
    told = {JobId(1): Promise(NOW_S + 100, 0, ((1, 2),)), JobId(2): Promise(NOW_S + 100, 0, ((2, 3),))}

    decided = decide(replace(now, promises=told, quotas=ONE_JOB_EACH)).decisions

    assert [one.start_s for one in decided if isinstance(one, Predict)] == [NOW_S + 100, NOW_S + 100]


def test_a_start_that_was_told_gives_way_to_a_quota() -> None:
    now = snapshot(hosts(2, 1), job(1, user="u"), running=[held(9, (1, 2), NOW_S + 500, user="u")])
    told = {JobId(1): Promise(NOW_S + 100, 0, ((2, 3),))}

    (decision,) = decide(replace(now, promises=told, quotas=ONE_JOB_EACH)).decisions

    assert isinstance(decision, Predict)
    assert decision.start_s == NOW_S + 500


def test_a_place_for_which_others_die_is_not_taken_against_a_quota() -> None:
    dying = held(9, (1, 2), NOW_S + 900, besteffort=True, killing_until_s=NOW_S + 10, killed_for=JobId(1))
    own = held(8, (2, 3), NOW_S + 500, user="u")
    now = snapshot(hosts(2, 1), job(1, user="u"), running=[dying, own])
    told = {JobId(1): Promise(NOW_S + 10, 0, ((1, 2),))}

    (decision,) = decide(replace(now, promises=told, quotas=ONE_JOB_EACH)).decisions

    assert isinstance(decision, Predict)
    assert decision.start_s == NOW_S + 500


def test_a_place_for_which_others_die_is_not_taken_after_a_deadline() -> None:
    dying = held(9, (1, 2), NOW_S + 900, besteffort=True, killing_until_s=NOW_S + 50, killed_for=JobId(1))
    now = snapshot(hosts(1, 1), job(1, walltime_s=100, deadline_s=NOW_S + 120), running=[dying])
    told = {JobId(1): Promise(NOW_S + 10, 0, ((1, 2),))}

    (decision,) = decide(replace(now, promises=told)).decisions

    assert isinstance(decision, Postpone)


def test_a_reservation_that_starts_has_taken_its_tokens() -> None:
    reserved = Reservation(JobId(7), "default", 0, NOW_S, NOW_S + 600, ((1, 2),), types=("token:a=2",))
    now = snapshot(hosts(2, 1), job(1, types=("token:a=1",)))

    decided = decide(replace(now, reserved=(reserved,), tokens={"a": TokenCount(2)})).decisions

    assert [type(one) for one in decided] == [Begin, Postpone]


def test_a_reservation_starts_when_nobody_has_counted_its_tokens() -> None:
    reserved = Reservation(JobId(7), "default", 0, NOW_S, NOW_S + 600, ((1, 2),), types=("token:a=2",))

    decided = decide(replace(snapshot(hosts(1, 1)), reserved=(reserved,), tokens={"a": TokenCount(None)})).decisions

    assert [type(one) for one in decided] == [Begin]


def test_nobody_comes_to_share_what_is_reserved_with_a_job_that_overruns_into_it() -> None:
    sharing = ("timesharing=user,*",)
    overrunning = held(9, (1, 2), NOW_S + 300, user="u", types=sharing)
    reserved = Reservation(JobId(7), "default", 0, NOW_S + 100, NOW_S + 600, ((1, 2),), user="v")
    now = snapshot(hosts(1, 1), job(1, walltime_s=200, user="u", types=sharing), running=[overrunning])

    alone = decide(now).decisions
    beside = decide(replace(now, reserved=(reserved,))).decisions

    assert [type(one) for one in alone] == [Start]
    assert [one.start_s for one in beside if isinstance(one, Predict)] == [NOW_S + 100, NOW_S + 600]


@pytest.mark.parametrize(
    ("of", "part"),
    [
        (Containers, "awaited"),
        (Containers, "of"),
        (Priorities, "of"),
        (Promises, "place"),
        (Tokens, "lacking"),
        (Quotas, "first"),
        (Quotas, "add"),
        (Bookings, "_displace"),
        (Bookings, "_judge"),
        (Bookings, "_reserve"),
        (Wider, "of"),
        (Pass, "_place_kept"),
    ],
)
def test_what_fails_in_any_part_sets_the_job_aside_over_which_it_fails_and_no_other(
    monkeypatch: pytest.MonkeyPatch, of: type[object], part: str
) -> None:
    whole: Callable[..., object] = getattr(of, part)
    failed: set[JobId] = set()

    def fails_for_some(self: object, *args: object) -> object:
        for one in args:
            if isinstance(one, WaitingJob | Reservation) and one.job_id % 3 == 0:
                failed.add(one.job_id)
                raise RuntimeError("no idea")
        return whole(self, *args)

    monkeypatch.setattr(of, part, fails_for_some)
    ever: set[JobId] = set()
    for seed in range(60):
        snapshot = combined(seed, *PARTS)
        failed.clear()
        decided = decide(snapshot).decisions
        assert {one.job_id for one in decided if isinstance(one, SetAside)} == failed
        assert len({one.job_id for one in decided}) == len(decided)
        ever |= failed

    assert ever
