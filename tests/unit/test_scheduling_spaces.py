"""Containers, sharing and suspended jobs in a pass, a few lines each."""

from __future__ import annotations

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.sharing_types import check_sharing
from oarpy.model.states import EndCause, JobId, JobState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.explain import (
    CONTAINER_CLOSED,
    CONTAINER_ENDS,
    CONTAINER_GONE,
    CONTAINER_MISSING,
    CONTAINER_PENDING,
    CONTAINER_PLANNED,
    CONTAINER_TOO_SHORT,
    CONTAINER_TOO_SMALL,
)
from oarpy.scheduling.plan import Decision, Doom, Kill, Postpone, Predict, Start
from oarpy.scheduling.sharing import sharing
from oarpy.scheduling.snapshot import HeldJob, WaitingJob
from tests.unit.clusters import NOW_S, held, hosts, job, snapshot

CORES = hosts(1, 4)
CONTAINER = held(1, (1, 3), NOW_S + 1000, types=("container=lab",))


def decisions(*waiting: WaitingJob, running: tuple[HeldJob, ...] = (CONTAINER,)) -> dict[int, Decision]:
    return {one.job_id: one for one in decide(snapshot(CORES, *waiting, running=running)).decisions}


def inner(job_id: int, cores: int = 1, walltime_s: int = 100, *, of: object = 1, **others: object) -> WaitingJob:
    return job(job_id, f"core={cores}", walltime_s, types=(f"inner={of}",), **others)


@pytest.mark.parametrize("of", [1, "lab"])
def test_an_inner_job_starts_in_its_container_and_nowhere_else(of: object) -> None:
    decided = decisions(inner(2, 2, of=of), inner(3, of=of), job(4, "core=3", 100))

    assert decided[2] == Start(JobId(2), 0, 100, ((1, 3),), JobId(1))
    assert isinstance(decided[3], Predict)
    assert (decided[3].start_s, decided[3].resources) == (NOW_S + 100, ((1, 2),))
    assert isinstance(decided[4], Predict)
    assert decided[4].start_s == NOW_S + 1000


def test_all_of_a_container_is_all_that_it_has() -> None:
    assert decisions(job(2, "core=ALL", 100, types=("inner=1",)))[2] == Start(JobId(2), 0, 100, ((1, 3),), JobId(1))


def test_before_its_container_runs_an_inner_job_is_planned_inside_its_place() -> None:
    container = job(5, "core=2", 600, types=("container",))
    decided = decisions(inner(2, of=5), container, running=(held(1, (1, 5), NOW_S + 300),))

    assert isinstance(decided[2], Predict)
    assert (decided[2].start_s, decided[2].resources) == (NOW_S + 300, ((1, 2),))
    assert (decided[2].why.code, decided[2].why.numbers["expected_s"]) == (CONTAINER_PLANNED, NOW_S + 300)


def test_a_container_that_starts_now_takes_jobs_in_when_it_runs() -> None:
    decided = decisions(job(5, "core=2", 600, types=("container",)), inner(6, of=5), running=())

    assert isinstance(decided[5], Start)
    assert isinstance(decided[6], Predict)
    assert decided[6].start_s == NOW_S + 1


@pytest.mark.parametrize(
    ("wanted", "code", "cause"),
    [
        (inner(2, walltime_s=1001), CONTAINER_TOO_SHORT, EndCause.NEVER_FITS),
        (inner(2, 3), CONTAINER_TOO_SMALL, EndCause.NEVER_FITS),
        (inner(2, of=77), CONTAINER_GONE, EndCause.CONTAINER),
        (inner(2, walltime_s=1001, of="lab"), CONTAINER_TOO_SHORT, None),
        (inner(2, of="other"), CONTAINER_MISSING, None),
        (inner(2, of=3), CONTAINER_PENDING, None),
    ],
)
def test_a_job_ends_when_its_container_can_never_have_it_and_waits_when_another_may(
    wanted: WaitingJob, code: str, cause: EndCause | None
) -> None:
    impossible = job(3, "core=9", types=("container",))

    decided = decisions(wanted, impossible)[2]

    assert isinstance(decided, Postpone if cause is None else Doom)
    assert decided.why.code == code
    assert cause is None or (isinstance(decided, Doom) and decided.cause is cause)


def test_a_job_that_others_keep_from_fitting_goes_on_waiting() -> None:
    decided = decisions(inner(2, 2, 900), inner(3, 2, 200))

    assert isinstance(decided[3], Postpone)
    assert decided[3].why.code == CONTAINER_ENDS


@pytest.mark.parametrize("others", [{"state": JobState.FINISHING}, {"killing_until_s": NOW_S + 60}])
def test_a_container_that_ends_takes_nobody_in(others: dict[str, object]) -> None:
    ending = held(1, (1, 3), NOW_S + 1000, types=("container",), **others)

    decided = decisions(inner(2), running=(ending,))[2]

    assert isinstance(decided, Postpone)
    assert decided.why.code == CONTAINER_CLOSED


def test_containers_that_wait_for_each_other_harm_nobody_else() -> None:
    first = job(2, types=("container", "inner=3"))
    second = job(3, types=("container", "inner=2"))

    decided = decisions(first, second, job(4))

    assert isinstance(decided[4], Start)
    assert {type(decided[2]), type(decided[3])} == {Postpone}


def test_besteffort_jobs_in_a_container_die_for_its_inner_jobs_alone() -> None:
    guest = held(7, (1, 3), NOW_S + 900, besteffort=True, space=JobId(1))
    plan = decide(snapshot(CORES, inner(2), job(3, "core=2"), running=(CONTAINER, guest)))

    assert plan.kills == (Kill(JobId(7), JobId(2)),)


def test_those_who_share_have_the_same_resources_for_as_long_as_they_last() -> None:
    types = ("timesharing=user,*",)
    running = held(1, (1, 5), NOW_S + 500, user="alice", types=types)
    waiting = [job(n, "core=2", 100, user=user, types=types) for n, user in ((2, "alice"), (3, "alice"), (4, "bob"))]

    decided = decisions(*waiting, running=(running,))

    assert [decided[n].resources for n in (2, 3) if isinstance(decided[n], Start)] == [((1, 3),), ((1, 3),)]
    assert isinstance(decided[4], Predict)
    assert decided[4].start_s == NOW_S + 500


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("user,*", "alice", "x"), ("user,*", "alice", "y"), True),
        (("user,name", "alice", "x"), ("user,name", "alice", "y"), False),
        (("*,name", "alice", "x"), ("*,name", "bob", "x"), True),
        (("*,*", "alice", "x"), ("*,*", "bob", "y"), True),
        (("*,*", "alice", "x"), ("user,*", "alice", "x"), False),
        (("user,*", "*", "x"), ("*,*", "*", "x"), False),
    ],
)
def test_who_shares_with_whom(one: tuple[str, str, str], other: tuple[str, str, str], same: bool) -> None:
    first, second = (
        sharing((f"timesharing={by}",), user, name, besteffort=False).joins for by, user, name in (one, other)
    )

    assert (first == second) is same


def test_a_placeholder_is_free_for_those_who_are_allowed_one_after_the_other() -> None:
    keeper = held(1, (1, 4), NOW_S + 500, types=("placeholder=p",))
    allowed = [job(n, "core=2", 100, types=("allowed=p",)) for n in (2, 3, 4)]

    decided = decisions(*allowed, job(5, "core=1", 100), running=(keeper,))

    assert [decided[n].resources for n in (2, 3) if isinstance(decided[n], Start)] == [((1, 3),), ((3, 5),)]
    starts = [decided[n].start_s for n in (4, 5) if isinstance(decided[n], Predict)]
    assert starts == [NOW_S + 100, NOW_S + 100]


def test_a_job_that_is_to_go_on_comes_before_those_that_wait() -> None:
    resting = held(1, (1, 3), NOW_S + 500, suspended=True, state=JobState.RESUMING)
    borrower = held(2, (1, 2), NOW_S + 50)

    waits = decide(snapshot(CORES, job(3, "core=4"), running=(resting, borrower)))
    goes_on = decide(snapshot(CORES, job(3, "core=4"), running=(resting,)))

    assert (waits.resumes, goes_on.resumes) == ((), (1,))
    starts = [plan.decisions[0].start_s for plan in (waits, goes_on) if isinstance(plan.decisions[0], Predict)]
    # It lasts for the 500 seconds that were left of it, from the moment at which it goes on.
    assert starts == [NOW_S + 550, NOW_S + 500]


def test_while_it_is_suspended_others_have_what_it_lends() -> None:
    resting = held(1, (1, 5), NOW_S + 500, suspended=True, state=JobState.SUSPENDED)

    assert isinstance(decisions(job(2, "core=4"), running=(resting,))[2], Start)


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        (["inner"], "the type inner needs a value, as in inner=NAME"),
        (["placeholder="], "the type placeholder needs a value, as in placeholder=NAME"),
        (["timesharing=alice,*"], "'timesharing=alice,*' is not a job type; write timesharing=user,name"),
        (["timesharing=user"], "'timesharing=user' is not a job type"),
        (["inner=1", "inner=2"], "a job has one type inner at most"),
        (["placeholder=p", "allowed=q"], "a job is either of type placeholder or of type allowed"),
        (["placeholder=p", "besteffort"], "a job is either of type placeholder or of type besteffort"),
    ],
)
def test_types_that_say_nothing_or_two_things_are_refused(types: list[str], sentence: str) -> None:
    with pytest.raises(SyntaxRefused) as refused:
        check_sharing(types)

    assert str(refused.value).startswith(sentence)


def test_types_that_make_sense_pass() -> None:
    check_sharing(["container", "inner=3", "timesharing=user,name"])
    check_sharing(["container=lab", "allowed=p", "timesharing"])
    check_sharing(["placeholder=p", "inner=lab", "idempotent"])
