"""Jobs that wait for other jobs and for dates."""

from __future__ import annotations

import pytest

from oarpy.model.states import DependencyKind, JobId, JobState
from oarpy.scheduling import explain
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Decision, Doom, Postpone, Predict, Start
from oarpy.scheduling.snapshot import Dependency
from tests.unit.clusters import NOW_S, hosts, job, snapshot

AFTER, OK, NOT_OK, ANY = (
    DependencyKind.AFTER,
    DependencyKind.AFTEROK,
    DependencyKind.AFTERNOTOK,
    DependencyKind.AFTERANY,
)
DONE, FAILED, RUNNING = JobState.TERMINATED, JobState.ERROR, JobState.RUNNING


def decided(kind: DependencyKind, state: JobState | None, **facts: object) -> Decision:
    dependency = Dependency(JobId(7), kind, state, **facts)  # type: ignore[arg-type]
    return decide(snapshot(hosts(1, 2), job(1, dependencies=(dependency,)))).decisions[0]


@pytest.mark.parametrize(
    ("kind", "state", "facts"),
    [
        (AFTER, RUNNING, {"started_s": NOW_S - 50}),
        (AFTER, DONE, {"started_s": NOW_S - 50, "ended_s": NOW_S - 5}),
        (AFTER, None, {}),
        (ANY, DONE, {"ended_s": NOW_S - 5}),
        (ANY, FAILED, {"ended_s": NOW_S - 5}),
        (ANY, None, {}),
        (OK, DONE, {"ended_s": NOW_S - 5, "succeeded": True}),
        (NOT_OK, FAILED, {"ended_s": NOW_S - 5}),
        (ANY, DONE, {"ended_s": NOW_S - 5, "window_s": (0, 10)}),
    ],
)
def test_a_satisfied_dependency_holds_nobody_up(
    kind: DependencyKind, state: JobState | None, facts: dict[str, object]
) -> None:
    assert isinstance(decided(kind, state, **facts), Start)


@pytest.mark.parametrize(
    ("kind", "state", "facts", "sentence"),
    [
        (OK, DONE, {"ended_s": NOW_S}, "job 7, which had to succeed, did not"),
        (OK, None, {}, "how job 7 ended is no longer known"),
        (NOT_OK, DONE, {"ended_s": NOW_S, "succeeded": True}, "job 7, which had to fail, succeeded"),
        (AFTER, FAILED, {"ended_s": NOW_S}, "job 7, which had to start, ended without having started"),
        (
            ANY,
            DONE,
            {"ended_s": NOW_S - 100, "window_s": (None, 40)},
            "it had to start by 2023-11-14 22:12:20 UTC to follow job 7 in time",
        ),
    ],
)
def test_a_job_whose_dependency_can_never_be_satisfied_is_doomed(
    kind: DependencyKind, state: JobState | None, facts: dict[str, object], sentence: str
) -> None:
    decision = decided(kind, state, **facts)

    assert isinstance(decision, Doom)
    assert explain.sentence(decision.why) == sentence


@pytest.mark.parametrize(
    ("kind", "facts", "start_s"),
    [
        (ANY, {"planned_end_s": NOW_S + 100}, NOW_S + 100),
        (OK, {"planned_end_s": NOW_S + 100, "window_s": (50, None)}, NOW_S + 150),
        (ANY, {"planned_end_s": NOW_S - 100}, NOW_S + 1),
        (AFTER, {"started_s": NOW_S - 10, "window_s": (30, 60)}, NOW_S + 20),
    ],
)
def test_a_job_is_planned_for_when_the_required_one_is_expected_to_be_ready(
    kind: DependencyKind, facts: dict[str, object], start_s: int
) -> None:
    decision = decided(kind, RUNNING, **facts)

    assert isinstance(decision, Predict)
    assert decision.start_s == start_s
    assert decision.why.code == explain.AFTER_JOB


@pytest.mark.parametrize(("kind", "start_s"), [(ANY, NOW_S + 200), (AFTER, NOW_S + 100)])
def test_a_job_follows_the_plan_of_a_required_one_that_waits_itself(kind: DependencyKind, start_s: int) -> None:
    follower = job(3, walltime_s=10, dependencies=(Dependency(JobId(2), kind, JobState.WAITING),))

    plan = decide(snapshot(hosts(1, 2), job(1, "core=2", 100), job(2, "core=1", 100), follower))

    predicted = plan.decisions[2]
    assert isinstance(predicted, Predict)
    assert predicted.start_s == start_s


def test_without_a_plan_for_the_required_job_there_is_none_for_the_one_that_waits_for_it() -> None:
    decision = decided(ANY, JobState.HOLD)

    assert isinstance(decision, Postpone)
    assert explain.sentence(decision.why) == "it waits for job 7, of which no start is planned (it is Hold)"


def test_a_job_does_not_start_before_its_date() -> None:
    early = snapshot(hosts(1, 1), job(1, not_before_s=NOW_S + 30), job(2, walltime_s=30))

    first, second = decide(early).decisions

    assert isinstance(first, Predict)
    assert (first.start_s, first.why.code) == (NOW_S + 30, explain.NOT_BEFORE)
    assert isinstance(second, Start)


def test_a_date_far_away_does_not_delay_equal_jobs_without_one() -> None:
    plan = decide(snapshot(hosts(1, 2), job(1, not_before_s=NOW_S + 500), job(2)))

    assert isinstance(plan.decisions[1], Start)
