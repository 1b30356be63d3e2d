"""Tokens: how they are asked for, and what a pass makes of their counts."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from oarpy.drivers.command import output_of
from oarpy.errors import ProgramFailed, SyntaxRefused
from oarpy.model.job_types import check_job_type
from oarpy.model.states import JobId
from oarpy.model.token_types import check_known, tokens_of
from oarpy.scheduling import explain
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Decision, Postpone, Predict, Start
from oarpy.scheduling.snapshot import HeldJob, Snapshot, TokenCount, WaitingJob
from tests.unit.clusters import NOW_S, held, hosts, job, snapshot

TWO = ("token:fluent=2",)


def with_tokens(free: int | None, *waiting: WaitingJob, running: tuple[HeldJob, ...] = ()) -> Snapshot:
    """Four cores, and so many tokens counted twenty seconds ago."""
    counted = {"fluent": TokenCount(free, NOW_S - 20)}
    return replace(snapshot(hosts(1, 4), *waiting, running=running), tokens=counted)


def decisions(of: Snapshot) -> list[Decision]:
    return list(decide(of).decisions)


def test_tokens_of_a_kind_add_up() -> None:
    assert tokens_of(["token:a=1", "besteffort", "token:b.x=20", "token:a=2"]) == {"a": 3, "b.x": 20}


@pytest.mark.parametrize("text", ["token", "token=3", "token:a", "token:a=0", "token:a=-1", "token:a=x", "token:=3"])
def test_what_does_not_say_how_many_of_what_is_refused(text: str) -> None:
    with pytest.raises(SyntaxRefused, match="is not a job type; write token:NAME=N"):
        check_job_type(text)


def test_a_kind_that_the_site_does_not_count_is_refused() -> None:
    check_known(["token:fluent=1"], {"fluent": "x"})
    with pytest.raises(SyntaxRefused, match="'matlab' is no kind of token of this site; these are: fluent"):
        check_known(["token:matlab=1"], {"fluent": "x"})


def test_jobs_start_as_long_as_there_are_tokens() -> None:
    first, second = decisions(with_tokens(3, job(1, types=TWO), job(2, types=TWO)))

    assert isinstance(first, Start)
    assert isinstance(second, Postpone)
    assert explain.sentence(second.why) == "it needs 2 of the token fluent, and 1 are free"


def test_a_job_without_tokens_takes_nothing_from_others() -> None:
    lacking, other = decisions(with_tokens(1, job(1, "core=4", types=TWO), job(2, "core=4")))

    assert isinstance(lacking, Postpone)
    assert isinstance(other, Start)


def test_what_is_not_known_is_not_given() -> None:
    (decision,) = decisions(with_tokens(None, job(1, types=TWO)))

    assert isinstance(decision, Postpone)
    assert decision.why.code == explain.TOKENS_NOT_COUNTED


def test_a_job_that_starts_later_takes_none_now() -> None:
    busy = held(9, (1, 5), NOW_S + 100)

    later, also_later = decisions(
        with_tokens(2, job(1, "core=4", types=TWO), job(2, "core=4", types=TWO), running=(busy,))
    )

    assert isinstance(later, Predict)
    assert isinstance(also_later, Predict)


@pytest.mark.parametrize(
    ("started_s", "starts"), [(NOW_S - 100, True), (NOW_S - 21, True), (NOW_S - 20, False), (None, False)]
)
def test_jobs_that_started_since_the_count_have_their_tokens_taken_off(started_s: int | None, starts: bool) -> None:
    running = replace(held(9, (1, 2), NOW_S + 100, types=TWO), started_s=started_s)

    (decision,) = decisions(with_tokens(3, job(1, types=TWO), running=(running,)))

    assert isinstance(decision, Start) is starts


def test_a_job_that_only_wants_to_know_takes_none() -> None:
    asking = with_tokens(2, job(1, types=TWO), job(2, types=TWO))

    assert all(isinstance(one, Start) for one in decide(asking, supposed={JobId(1)}).decisions)


def test_a_program_tells_its_number() -> None:
    assert output_of([sys.executable, "-c", "print(7)"], timedelta(seconds=60)) == "7"


@pytest.mark.parametrize(
    ("code", "timeout_s", "sentence"),
    [
        ("import sys; sys.exit(3)", 60, "ended with status 3"),
        ("import time; time.sleep(60)", 0.3, "took more than 0.3 s"),
    ],
)
def test_a_program_that_fails_says_how(code: str, timeout_s: float, sentence: str) -> None:
    with pytest.raises(ProgramFailed, match=sentence):
        output_of([sys.executable, "-c", code], timedelta(seconds=timeout_s))


def test_a_program_that_fails_can_be_made_to_tell_why() -> None:
    code = "import sys; print('first', flush=True); sys.exit('no \\x1b[31mkey\\0\\n')"

    with pytest.raises(ProgramFailed) as raised:
        output_of([sys.executable, "-c", code], timedelta(seconds=60), complaints=True)

    assert str(raised.value) == r"ended with status 1: no ?[31mkey\0"


def test_a_program_that_is_not_there_cannot_be_run() -> None:
    with pytest.raises(ProgramFailed, match="could not be run"):
        output_of(["/nowhere/at/all"], timedelta(seconds=60))
