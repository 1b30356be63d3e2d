"""Advance reservations inside containers, a few lines each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oarpy.model.states import EndCause, JobId, JobState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.explain import (
    CONTAINER_CLOSED,
    CONTAINER_GONE,
    CONTAINER_NOT_RESERVED,
    CONTAINER_PENDING,
    CONTAINER_PLANNED,
    CONTAINER_TOO_SMALL,
    RESERVATION_BEYOND_CONTAINER,
    RESERVATION_TAKEN,
    RESERVED,
)
from oarpy.scheduling.plan import Begin, Decision, Doom, Grant, Postpone, Predict, Refuse, Start
from oarpy.scheduling.snapshot import HeldJob, Reservation, WaitingJob
from tests.unit.clusters import NOW_S, held, hosts, job, snapshot

CORES = hosts(1, 4)
RUNNING = held(1, (1, 3), NOW_S + 1000, types=("container=lab",))
#: The cores 3 and 4, from 500 to 1500.
RESERVED_CONTAINER = Reservation(
    JobId(2), "default", 0, NOW_S + 500, NOW_S + 1500, ((3, 5),), types=("container=lab2",)
)


def asked(
    job_id: int, cores: int = 1, walltime_s: int = 100, *, of: object = 1, in_s: int = 200, types: tuple[str, ...] = ()
) -> WaitingJob:
    types = (*types, *(() if of is None else (f"inner={of}",)))
    return job(job_id, f"core={cores}", walltime_s, types=types, not_before_s=NOW_S + in_s)


def inside(job_id: int, container: int, start_s: int, end_s: int, resources: tuple[int, int]) -> Reservation:
    dates = (NOW_S + start_s, NOW_S + end_s)
    return Reservation(
        JobId(job_id), "default", 0, *dates, (resources,), types=(f"inner={container}",), space=JobId(container)
    )


def decisions(
    *requested: WaitingJob,
    waiting: tuple[WaitingJob, ...] = (),
    running: tuple[HeldJob, ...] = (RUNNING,),
    reserved: tuple[Reservation, ...] = (RESERVED_CONTAINER,),
    put_off: frozenset[JobId] = frozenset(),
) -> dict[int, Decision]:
    looked = replace(
        snapshot(CORES, *waiting, running=running), requested=requested, reserved=reserved, put_off=put_off
    )
    return {one.job_id: one for one in decide(looked).decisions}


@pytest.mark.parametrize("of", [1, "lab"])
def test_it_is_accepted_within_what_a_running_container_has(of: object) -> None:
    assert decisions(asked(5, 2, of=of))[5] == Grant(JobId(5), 0, NOW_S + 200, 100, ((1, 3),), JobId(1))


@pytest.mark.parametrize("of", [2, "lab2"])
def test_it_is_accepted_within_a_reserved_container(of: object) -> None:
    assert decisions(asked(5, 2, of=of, in_s=600))[5] == Grant(JobId(5), 0, NOW_S + 600, 100, ((3, 5),), JobId(2))


@pytest.mark.parametrize(
    ("wanted", "code", "numbers"),
    [
        (asked(5, in_s=950), RESERVATION_BEYOND_CONTAINER, {"container": 1, "end_s": NOW_S + 1000}),
        (asked(5, walltime_s=1100), RESERVATION_BEYOND_CONTAINER, {"length_s": 1100}),
        (asked(5, 3), CONTAINER_TOO_SMALL, {"container": 1}),
        (asked(5, of=2, in_s=400), RESERVATION_TAKEN, {"earliest_s": NOW_S + 500}),
        (asked(5, of=2, in_s=1450), RESERVATION_BEYOND_CONTAINER, {"container": 2}),
        (asked(5, of=77), CONTAINER_GONE, {"container": 77}),
        (asked(5, of="other"), CONTAINER_NOT_RESERVED, {"container": "other"}),
        (asked(5, of=9), CONTAINER_NOT_RESERVED, {"container": "9"}),
        (asked(5, of="waits"), CONTAINER_NOT_RESERVED, {"container": "waits"}),
    ],
)
def test_it_is_refused_where_its_container_is_not_certain_to_have_room(
    wanted: WaitingJob, code: str, numbers: dict[str, object]
) -> None:
    waits = job(9, "core=4", 100, types=("container=waits",))

    decision = decisions(wanted, waiting=(waits,))[5]

    assert isinstance(decision, Refuse)
    assert decision.why.code == code
    assert decision.why.numbers.items() >= numbers.items()


def test_it_is_refused_in_a_container_that_is_suspended() -> None:
    decision = decisions(asked(5), running=(replace(RUNNING, state=JobState.SUSPENDED, suspended=True),))[5]

    assert isinstance(decision, Refuse)
    assert decision.why.code == CONTAINER_CLOSED


def test_it_is_judged_after_its_container_is() -> None:
    container = asked(4, 2, 300, of=None, in_s=100, types=("container",))

    decided = decisions(container, asked(5, of=4), running=(), put_off=frozenset({JobId(4)}))

    assert isinstance(decided[4], Grant)
    assert isinstance(decided[5], Postpone)
    assert decided[5].why.code == CONTAINER_PENDING


def test_two_in_one_container_do_not_get_the_same() -> None:
    kept = inside(4, 1, 150, 400, (1, 2))

    decided = decisions(asked(5, 2), asked(6), asked(7), reserved=(kept,))

    assert isinstance(decided[5], Refuse)
    assert decided[5].why.numbers["earliest_s"] == NOW_S + 400
    assert decided[6] == Grant(JobId(6), 0, NOW_S + 200, 100, ((2, 3),), JobId(1))
    assert isinstance(decided[7], Refuse)


def test_what_inner_jobs_hold_is_not_free_and_what_others_hold_does_not_matter() -> None:
    within = held(3, (1, 2), NOW_S + 300, space=JobId(1), types=("inner=1",))
    decided = decisions(asked(5, 2), asked(6), running=(RUNNING, within, held(4, (3, 5), NOW_S + 400)), reserved=())

    assert isinstance(decided[5], Refuse)
    assert decided[6] == Grant(JobId(6), 0, NOW_S + 200, 100, ((2, 3),), JobId(1))


def test_inner_jobs_that_wait_give_way_to_it_and_others_take_no_notice() -> None:
    kept = inside(4, 1, 50, 400, (1, 3))
    queued = job(5, "core=1", 100, types=("inner=1",))
    outside = job(6, "core=2", 100)

    decided = decisions(waiting=(queued, outside), reserved=(kept,))

    assert isinstance(decided[5], Predict)
    assert decided[5].start_s == NOW_S + 400
    assert isinstance(decided[6], Start)


def test_it_starts_in_its_container() -> None:
    decision = decisions(reserved=(inside(4, 1, 0, 400, (1, 3)),))[4]

    assert decision == Begin(Start(JobId(4), 0, 400, ((1, 3),), JobId(1)))


def test_what_its_container_did_not_get_it_does_not_get() -> None:
    decision = decisions(reserved=(inside(4, 1, -300, 400, (2, 4)),))[4]

    assert decision == Begin(Start(JobId(4), 0, 400, ((2, 3),), JobId(1)), ((3, 4),), 300)


def test_until_its_start_it_is_planned_for_it() -> None:
    decision = decisions(reserved=(inside(4, 2, 600, 900, (3, 4)), RESERVED_CONTAINER))[4]

    assert isinstance(decision, Predict)
    assert (decision.start_s, decision.why.code) == (NOW_S + 600, RESERVED)


@pytest.mark.parametrize("state", [JobState.TO_LAUNCH, JobState.LAUNCHING])
def test_it_waits_until_its_container_runs(state: JobState) -> None:
    decision = decisions(running=(replace(RUNNING, state=state),), reserved=(inside(4, 1, 0, 400, (1, 3)),))[4]

    assert isinstance(decision, Postpone)
    assert decision.why.code == CONTAINER_PLANNED


def test_it_waits_for_a_container_that_is_back_in_the_queue() -> None:
    container = job(1, "core=4", 600, types=("container",))

    decision = decisions(running=(), waiting=(container,), reserved=(inside(4, 1, 0, 400, (1, 3)),))[4]

    assert isinstance(decision, Postpone)
    assert decision.why.code == CONTAINER_PENDING


@pytest.mark.parametrize("start_s", [-10, 0, 300])
def test_it_ends_with_its_container(start_s: int) -> None:
    decision = decisions(running=(), reserved=(inside(4, 1, start_s, 400, (1, 3)),))[4]

    assert isinstance(decision, Doom)
    assert (decision.why.code, decision.cause) == (CONTAINER_GONE, EndCause.CONTAINER)
