"""What is to be simulated: the machine, and jobs of which it is known how long they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oarpy.model.states import ResourceState
from oarpy.scheduling.snapshot import Queue, QuotaRules, Topology, WaitingJob

MOST_CORES = 1_000_000
#: The types of resources of which the figures tell.
COUNTED = ("default",)


@dataclass(frozen=True, slots=True)
class Submission:
    """``job`` is submitted at its ``submitted_s`` and would run for ``runs_s`` if its walltime let it."""

    job: WaitingJob
    runs_s: int


@dataclass(frozen=True, slots=True)
class Workload:
    """``left_out`` tells how many jobs are not among the submissions, by the reason."""

    topology: Topology
    queues: tuple[Queue, ...]
    submissions: tuple[Submission, ...]
    left_out: Mapping[str, int]
    quotas: QuotaRules | None = None


def machine(columns: Mapping[str, Sequence[object]]) -> Topology:
    """A topology of Alive resources of which these are the properties."""
    size = len(next(iter(columns.values())))
    ids = range(1, size + 1)
    return Topology(
        version=1,
        ids=ids,
        states=[ResourceState.ALIVE] * size,
        available_upto_s=[None] * size,
        drain=[False] * size,
        properties={"resource_id": ids, "type": ["default"] * size, **columns},
    )


def cores(count: int) -> Topology:
    """``count`` cores that differ in nothing but their number."""
    return machine({"core": range(1, count + 1)})
