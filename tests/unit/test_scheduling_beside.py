"""``/host=2[gpu=1,mem_mib=8192]/core=4``: what blocks give beside their own members."""

from __future__ import annotations

import pytest

from oarpy.errors import NeverFits
from oarpy.model.filters import Comparison
from oarpy.model.states import JobId
from oarpy.scheduling.decide import decide
from oarpy.scheduling.feasible import feasible
from oarpy.scheduling.plan import Predict, Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Topology, WaitingJob
from oarpy.scheduling.stores import Store
from tests.unit.clusters import NOW_S, asks, held, job, snapshot, topology

ORDINARY = Comparison("type", "=", "default")
#: Two hosts of 4 cores (ids 1-4 and 11-14), 1 gpu (5, 15) and 4 times 1024 MiB (6-9, 16-19); a licence (30) is nowhere.
IDS = [*range(1, 10), *range(11, 20), 30]


def cluster() -> Topology:
    kinds = ["default"] * 4 + ["gpu"] + ["mem_mib"] * 4
    return topology(
        {
            "type": [*kinds, *kinds, "licence"],
            "host": ["h1"] * 9 + ["h2"] * 9 + [None],
            "core": [1, 2, 3, 4, *[None] * 5, 5, 6, 7, 8, *[None] * 5, None],
            "quantity": [*[1024 if kind == "mem_mib" else 1 for kind in kinds] * 2, 5],
        },
        ids=IDS,
    )


def wants(text: str, job_id: int = 1, walltime_s: int = 600) -> WaitingJob:
    return job(job_id, asks(text, walltime_s, ORDINARY))


def given(*jobs: WaitingJob, running: tuple[tuple[int, int], ...] = ()) -> dict[JobId, tuple[int, set[int]]]:
    holding = [held(100 + i, ids, NOW_S + 1000) for i, ids in enumerate(running)]
    plan = decide(snapshot(cluster(), *jobs, running=holding))
    found = {}
    for decision in plan.decisions:
        assert isinstance(decision, Start | Predict), decision
        start_s = decision.start_s if isinstance(decision, Predict) else NOW_S
        found[decision.job_id] = start_s - NOW_S, {i for low, high in decision.resources for i in range(low, high)}
    return found


def test_each_host_gives_its_own_gpu_and_as_much_memory_as_was_asked_for() -> None:
    assert given(wants("host=2[gpu=1,mem_mib=1500]/core=2")) == {
        1: (0, {1, 2, 5, 6, 7, 11, 12, 15, 16, 17}),
    }


def test_a_host_whose_gpu_is_taken_is_passed_over() -> None:
    assert given(wants("host=1[gpu=1]/core=1"), running=((5, 6),)) == {1: (0, {11, 15})}


def test_jobs_share_a_host_until_its_memory_is_given_away() -> None:
    jobs = [wants("host=1[mem_mib=2048]/core=1", number) for number in (1, 2, 3, 4, 5)]

    found = given(*jobs)

    assert [found[JobId(number)] for number in (1, 2, 3, 4)] == [
        (0, {1, 6, 7}),
        (0, {2, 8, 9}),
        (0, {11, 16, 17}),
        (0, {12, 18, 19}),
    ]
    assert found[JobId(5)][0] == 600


def test_a_larger_amount_waits_for_memory_though_cores_are_free() -> None:
    found = given(wants("host=1[mem_mib=4096]/core=1"), running=((6, 7), (16, 17)))

    assert found == {1: (1000, {1, 6, 7, 8, 9})}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("host=1[fpga=1]", "no resource of type fpga belongs to a host"),
        ("host=1[licence=1]", "no resource of type licence belongs to a host"),
        (
            "host=1[mem_mib=5000]/core=1",
            r"^host=1\[mem_mib=5000\]/core=1 needs 1 of host; among the 8 .*, none would do",
        ),
        ("host=2[gpu=2]", r"^host=2\[gpu=2\] needs 2 of host; .*, none would do"),
    ],
)
def test_what_no_block_has_is_refused_at_the_door(text: str, sentence: str) -> None:
    with pytest.raises(NeverFits, match=sentence):
        feasible(Platform(cluster()), wants(text).request)


def test_large_quantities_are_given_before_small_ones() -> None:
    store = Store("mem", 5, {0: {4: 0b0110, 1: 0b1001}})

    assert store.take(0, 0b1111) == 0b0110
    assert store.take(0, 0b1101) == 0b0101
    assert store.having(0b1, 0b1010) == 0b1
    assert store.having(0b1, 0b0100) == 0
