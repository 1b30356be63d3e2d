"""How well a workload was served, in the measures of the literature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oarpy.simulation.run import Lived

#: A job shorter than this counts as if it ran so long, else trifles would rule the mean (Feitelson's tau).
TAU_S = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """``utilisation``: how much of the machine was used, from the first submission to the last end (the makespan)."""

    jobs: int
    mean_wait_s: float
    mean_bounded_slowdown: float
    utilisation: float
    makespan_s: int


def figures(lived: Sequence[Lived], size: int) -> Figures:
    """The figures of jobs that ran on a machine of ``size`` resources."""
    if not lived:
        return Figures(0, 0.0, 0.0, 0.0, 0)
    makespan_s = max(job.end_s for job in lived) - min(job.submitted_s for job in lived)
    used = sum((job.end_s - job.start_s) * job.cores for job in lived)
    return Figures(
        jobs=len(lived),
        mean_wait_s=sum(job.start_s - job.submitted_s for job in lived) / len(lived),
        mean_bounded_slowdown=sum(map(_slowdown, lived)) / len(lived),
        utilisation=used / (size * makespan_s) if makespan_s else 0.0,
        makespan_s=makespan_s,
    )


def _slowdown(job: Lived) -> float:
    return max(1.0, (job.end_s - job.submitted_s) / max(job.end_s - job.start_s, TAU_S))
