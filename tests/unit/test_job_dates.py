"""Dates among the job types: how they are read, and what the pass makes of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from oarpy.actions.admission import Submission, WantedAlternative
from oarpy.actions.dates import dates_allowed
from oarpy.errors import RequestRefused, SyntaxRefused
from oarpy.model.job_dates import Dates, dates_of, parse_moment, with_offset
from oarpy.model.job_types import check_job_type
from oarpy.model.states import EndCause
from oarpy.scheduling import explain
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Decision, Doom, Postpone, Predict, Start
from oarpy.scheduling.snapshot import Queue, Snapshot
from oarpy.settings import Jobs
from tests.unit.clusters import NOW_S, asks, held, hosts, job, snapshot

NOW = datetime(2026, 1, 30, 12, tzinfo=UTC)


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def only(of: Snapshot) -> Decision:
    (decision,) = decide(of).decisions
    return decision


def submission(*types: str, walltime: timedelta = timedelta(hours=1)) -> Submission:
    return Submission("alice", Jobs(), "true", "/", [WantedAlternative([], walltime)], types=list(types))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", "2026-01-31 00:00:00"),
        ("2026-01-31 08:30", "2026-01-31 08:30:00"),
        ("2026-01-31T08:30:15+02:00", "2026-01-31 08:30:15+02:00"),
        ("1:30", "1:30:00"),
        ("90m", "1:30:00"),
    ],
)
def test_a_moment_is_a_date_or_a_duration(text: str, moment: str) -> None:
    assert str(parse_moment(text)) == moment


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-02-30", "31-01-2026", "0", "-1:0", "9026-01-31", "1:2:3:4"])
def test_what_is_neither_is_refused_with_one_sentence(text: str) -> None:
    with pytest.raises(SyntaxRefused, match="is neither a date such as '2026-01-31 08:00:00' nor a duration"):
        check_job_type(f"postpone={text}")


def test_a_date_that_is_named_twice_is_refused() -> None:
    with pytest.raises(SyntaxRefused, match="the job type expire is given more than once"):
        dates_of(["expire=1", "expire=2"])


def test_the_client_tells_its_offset(far_east: None) -> None:
    assert with_offset("deadline=2026-01-31 08:00", NOW) == "deadline=2026-01-31 08:00:00+09:00"
    assert with_offset("deadline=2026-01-31 08:00+01:00", NOW) == "deadline=2026-01-31 08:00:00+01:00"
    assert with_offset("postpone=2:00", NOW) == "postpone=2:00"
    assert with_offset("postpone=tomorrow 8:00", NOW) == "postpone=2026-01-31 08:00:00+09:00"
    assert with_offset("postpone=nonsense", NOW) == "postpone=nonsense"


def test_the_types_of_a_submission_become_dates() -> None:
    dates = dates_allowed(submission("postpone=1:00", "deadline=2200-01-31 00:00+00:00", "idempotent"))

    assert dates == Dates(timedelta(hours=1), datetime(2200, 1, 31, tzinfo=UTC), None)


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        (["expire=2020-01-01"], "the job could never start with this expire: that is over before it may start"),
        (["postpone=2", "expire=1"], "the job could never start with this expire: that is over before it may start"),
        (["postpone=1", "deadline=1:30"], "with this deadline: its walltime is longer than what is left until then"),
    ],
)
def test_dates_that_leave_no_time_to_start_are_refused(types: list[str], sentence: str) -> None:
    with pytest.raises(RequestRefused) as refusal:
        dates_allowed(submission(*types))

    assert sentence in str(refusal.value)


def test_a_job_that_has_not_started_in_time_ends() -> None:
    decision = only(snapshot(hosts(1, 1), job(1, expires_s=NOW_S - 1)))

    assert isinstance(decision, Doom)
    assert decision.cause is EndCause.EXPIRED
    assert explain.sentence(decision.why).startswith("it had not started by 2023-11-14 22:13:19")


def test_it_ends_in_a_stopped_queue_too() -> None:
    stopped = [Queue("default", 1, active=False)]

    assert isinstance(only(snapshot(hosts(1, 1), job(1, expires_s=NOW_S - 1), queues=stopped)), Doom)


def test_at_its_last_instant_a_job_still_starts() -> None:
    assert isinstance(only(snapshot(hosts(1, 1), job(1, expires_s=NOW_S))), Start)


def test_a_job_that_can_no_longer_end_in_time_ends_now() -> None:
    decision = only(snapshot(hosts(1, 1), job(1, walltime_s=100, deadline_s=NOW_S + 99)))

    assert isinstance(decision, Doom)
    assert explain.sentence(decision.why).startswith("it can no longer end by")


def test_of_its_alternatives_a_job_gets_the_one_that_ends_by_its_deadline() -> None:
    moldable = job(1, [asks("core=1", 500), asks("core=2", 200)], deadline_s=NOW_S + 300)

    decision = only(snapshot(hosts(1, 2), moldable, running=[held(9, (1, 2), NOW_S + 100)]))

    assert isinstance(decision, Predict)
    assert (decision.alternative, decision.start_s) == (1, NOW_S + 100)


def test_a_job_for_which_nothing_is_free_in_time_is_told_so() -> None:
    busy = [held(9, (1, 2), NOW_S + 100)]
    by_end = snapshot(hosts(1, 1), job(1, walltime_s=50, deadline_s=NOW_S + 120), running=busy)
    by_start = snapshot(hosts(1, 1), job(1, expires_s=NOW_S + 99), running=busy)

    decisions = only(by_end), only(by_start)

    assert [one.why.code for one in decisions if isinstance(one, Postpone)] == ["DEADLINE_MISSED", "WINDOW_MISSED"]


def test_another_look_is_asked_for_when_the_last_instant_has_passed() -> None:
    cluster = hosts(1, 1)
    waiting = job(1, expires_s=NOW_S + 70), job(2, walltime_s=10, deadline_s=NOW_S + 40)

    plan = decide(snapshot(cluster, *waiting, running=[held(9, (1, 2), NOW_S + 100)]))

    assert plan.look_again_s == NOW_S + 31
