"""Which hosts may sleep and which must wake, told from the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from oarpy.model.states import JobId, ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Energy, Idle, Predict, Start, Wake
from oarpy.scheduling.snapshot import HeldJob, Limits, Snapshot, Topology, WaitingJob
from tests.unit.clusters import NOW_S, TO_THE_SECOND, held, hosts, job, random_snapshot, snapshot

ALIVE, ABSENT = ResourceState.ALIVE, ResourceState.ABSENT
FAR_S = NOW_S + 10**6


def cluster(*states: ResourceState, until_s: int | None = FAR_S) -> Topology:
    """A host of two cores for each state: h1, h2, …"""
    found = hosts(len(states), 2)
    return replace(
        found,
        states=[state for state in states for _ in range(2)],
        available_upto_s=[until_s] * len(states) * 2,
        properties={**found.properties, "network_address": found.properties["host"]},
    )


def told(
    topology: Topology, *waiting: WaitingJob, running: Sequence[HeldJob] = (), limits: Limits = TO_THE_SECOND
) -> Energy:
    limits = replace(limits, energy=True)
    found = decide(snapshot(topology, *waiting, running=running, limits=limits)).energy
    assert found is not None
    return found


def test_without_the_setting_nothing_is_told() -> None:
    assert decide(snapshot(cluster(ALIVE))).energy is None


def test_a_host_that_nobody_uses_is_idle_until_its_next_job() -> None:
    running = [held(9, (1, 2), NOW_S + 50)]

    found = told(cluster(ALIVE, ALIVE, ALIVE), job(1, "host=2", 100), job(2, "host=3", 10), running=running)

    assert found.idle == ()
    found = told(cluster(ALIVE, ALIVE, ALIVE), job(1, "host=3", 10), running=running)
    assert found.idle == (Idle("h2", NOW_S + 50), Idle("h3", NOW_S + 50))


def test_with_nothing_planned_it_is_idle_for_good() -> None:
    assert told(cluster(ALIVE)).idle == (Idle("h1", None),)


@pytest.mark.parametrize("until_s", [None, NOW_S - 1])
def test_a_host_that_could_not_be_woken_is_not_spoken_of(until_s: int | None) -> None:
    assert told(cluster(ALIVE, until_s=until_s)) == Energy()


@pytest.mark.parametrize("what", [{"besteffort": True}, {"suspended": True}, {"killing_until_s": NOW_S + 5}])
def test_a_host_with_any_job_is_not_idle(what: dict[str, object]) -> None:
    running = [held(9, (1, 2), NOW_S + 500, **what)]

    assert told(cluster(ALIVE), running=running).idle == ()


def test_a_host_in_part_in_service_is_not_idle() -> None:
    half = replace(cluster(ALIVE), states=[ALIVE, ResourceState.SUSPECTED])

    assert told(half).idle == ()


def test_a_host_is_woken_at_once_for_a_job_that_waits_for_nothing_else() -> None:
    found = told(cluster(ABSENT), job(1, "core=1"), limits=replace(TO_THE_SECOND, wake_s=120))

    assert found.wakes == (Wake("h1", None, JobId(1)),)


def test_nothing_is_planned_on_it_before_it_is_on() -> None:
    limits = replace(TO_THE_SECOND, wake_s=120)

    (decision,) = decide(snapshot(cluster(ABSENT), job(1, "core=1"), limits=limits)).decisions

    assert isinstance(decision, Predict)
    assert (decision.start_s, decision.why.code) == (NOW_S + 120, "WAKING")


def test_a_host_is_woken_by_its_first_planned_start() -> None:
    running = [held(9, (1, 3), NOW_S + 500)]

    found = told(cluster(ALIVE, ABSENT), job(1, "host=2", 100), job(2, "host=2", 100), running=running)

    assert found.wakes == (Wake("h2", NOW_S + 500, JobId(1)),)


def test_jobs_that_do_nothing_on_their_hosts_wake_none() -> None:
    waiting = job(1, "core=1", types=("noop=standby",)), job(2, "core=1", types=("deploy=standby",))

    assert told(cluster(ABSENT, ABSENT), *waiting).wakes == (Wake("h1", None, JobId(2)),)


@pytest.mark.parametrize("seed", range(4000, 4150))
def test_both_are_what_the_decisions_come_to(seed: int) -> None:
    situation = _spoken_of(random_snapshot(seed))
    plan = decide(situation)
    of_host = dict(zip(situation.topology.ids, situation.topology.properties["network_address"], strict=True))
    held_now = {of_host[i] for one in situation.held for low, high in one.resources for i in range(low, high)}
    needed: dict[object, int] = {}
    for decision in plan.decisions:
        if isinstance(decision, Start | Predict):
            start_s = decision.start_s if isinstance(decision, Predict) else situation.now_s
            for host in {of_host[i] for low, high in decision.resources for i in range(low, high)}:
                needed[host] = min(start_s, needed.get(host, start_s))

    expected = []
    for host in sorted(set(of_host.values()) - held_now, key=str):
        rows = [i for i, name in enumerate(of_host.values()) if name == host]
        topology = situation.topology
        managed = all((topology.available_upto_s[i] or 0) > situation.now_s for i in rows)
        on = all(topology.states[i] is ALIVE and not topology.drain[i] for i in rows)
        if managed and on and needed.get(host) != situation.now_s:
            expected.append(Idle(str(host), needed.get(host)))

    assert plan.energy is not None
    assert list(plan.energy.idle) == expected


def _spoken_of(situation: Snapshot) -> Snapshot:
    topology = situation.topology
    properties = {**topology.properties, "network_address": topology.properties["host"]}
    until = [FAR_S if i % 5 else None for i in range(len(topology.ids))]
    return replace(
        situation,
        topology=replace(topology, properties=properties, available_upto_s=until),
        limits=replace(situation.limits, energy=True),
    )
