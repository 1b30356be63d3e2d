"""Jobs that may start on resources which are not Alive."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.reach_types import Reach, check_reach, reach
from oarpy.model.states import JobId, ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Kill, Postpone, Predict, Start
from oarpy.scheduling.snapshot import Topology
from tests.unit.clusters import NOW_S, held, hosts, job, snapshot

ALIVE, ABSENT = ResourceState.ALIVE, ResourceState.ABSENT
SUSPECTED, DEAD = ResourceState.SUSPECTED, ResourceState.DEAD
MAINTENANCE = ("noop", "state=permissive")


def with_states(*states: ResourceState, until_s: int | None = None) -> Topology:
    return replace(hosts(1, len(states)), states=states, available_upto_s=[until_s] * len(states))


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((), Reach.ALIVE),
        (("noop",), Reach.ALIVE),
        (("state=permissive",), Reach.ALIVE),
        (MAINTENANCE, Reach.PERMISSIVE),
        (("state=permissive", "cosystem=standby"), Reach.PERMISSIVE),
        (("noop=standby",), Reach.STANDBY),
        (("deploy=standby",), Reach.STANDBY),
    ],
)
def test_what_the_types_let_a_job_start_on(types: tuple[str, ...], expected: Reach) -> None:
    assert reach(types) is expected


@pytest.mark.parametrize(
    ("types", "sentence"),
    [
        (["state=permissive"], "is for jobs that need nothing of their nodes, of type noop or cosystem"),
        (["state=open", "noop"], "'state=open' is not a job type; write state=permissive"),
        (["noop=soon"], "'noop=soon' is not a job type; write noop or noop=standby"),
    ],
)
def test_types_that_say_nothing_of_it_are_refused(types: list[str], sentence: str) -> None:
    with pytest.raises(SyntaxRefused, match=sentence):
        check_reach(types)


def test_a_permissive_job_starts_on_whatever_is_not_dead() -> None:
    cluster = with_states(ALIVE, ABSENT, SUSPECTED, DEAD)

    decisions = decide(snapshot(cluster, job(1, "core=3", types=MAINTENANCE), job(2, "core=4"))).decisions

    assert decisions[0] == Start(JobId(1), 0, 3600, ((1, 4),))
    assert isinstance(decisions[1], Postpone)


def test_a_permissive_job_takes_drained_resources() -> None:
    drained = replace(hosts(1, 2), drain=[True, False])

    decisions = decide(snapshot(drained, job(1, "core=2", types=MAINTENANCE))).decisions

    assert isinstance(decisions[0], Start)


def test_a_standby_job_starts_on_what_is_asleep_while_others_wait_for_it_to_wake() -> None:
    cluster = with_states(ABSENT, ABSENT, ABSENT, until_s=NOW_S + 10_000)

    decisions = decide(snapshot(cluster, job(1, "core=1", types=("noop=standby",)), job(2, "core=1"))).decisions

    assert isinstance(decisions[0], Start)
    assert isinstance(decisions[1], Predict)


def test_what_cannot_be_woken_is_not_for_standby_jobs() -> None:
    decisions = decide(snapshot(with_states(ALIVE, ABSENT), job(1, "core=2", types=("noop=standby",)))).decisions

    assert isinstance(decisions[0], Postpone)


def test_what_one_of_them_gets_nobody_else_does() -> None:
    cluster = with_states(ALIVE, ABSENT, ABSENT, until_s=NOW_S + 10_000)
    waiting = [
        job(1, "core=1", 100, types=("noop=standby",)),
        job(2, "core=2", 100, types=MAINTENANCE),
        job(3, "core=1", 100),
        job(4, "core=3", 100, types=MAINTENANCE),
    ]

    decisions = {one.job_id: one for one in decide(snapshot(cluster, *waiting)).decisions}

    assert decisions[JobId(1)] == Start(JobId(1), 0, 100, ((1, 2),))
    assert decisions[JobId(2)] == Start(JobId(2), 0, 100, ((2, 4),))
    assert [getattr(decisions[JobId(n)], "start_s", None) for n in (3, 4)] == [NOW_S + 100, NOW_S + 200]


def test_besteffort_jobs_die_for_a_permissive_one() -> None:
    guest = held(9, (1, 2), NOW_S + 5000, besteffort=True)

    plan = decide(snapshot(with_states(ALIVE, SUSPECTED), job(1, "core=2", types=MAINTENANCE), running=[guest]))

    assert plan.kills == (Kill(JobId(9), JobId(1)),)
