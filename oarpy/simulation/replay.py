"""A workload of jobs that are known as the scheduler knows jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from oarpy.model.states import Ordering, Replan
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Queue, QuotaRules, Topology
from oarpy.simulation.workload import Submission, Workload

_LARGER = "larger than the machine"


def configured(
    queues: Iterable[Queue], *, depth: int | None = None, conservative: bool = False, replan: Replan | None = None
) -> tuple[Queue, ...]:
    """The queues with another policy; what is not given stays theirs.

    ``conservative`` gives every job a planned start, whatever ``depth`` the queue has.
    Jobs come in the order of their submission: what they would have used before is not known.
    """
    return tuple(
        replace(
            queue,
            depth=None if conservative else depth or queue.depth,
            replan=replan or queue.replan,
            ordering=Ordering.FIFO,
        )
        for queue in queues
    )


def workload(
    topology: Topology,
    queues: tuple[Queue, ...],
    submissions: Iterable[Submission],
    left_out: Mapping[str, int],
    quotas: QuotaRules | None = None,
) -> Workload:
    """Those of the ``submissions`` that fit the machine; the others are counted with ``left_out``."""
    platform = Platform(topology)
    demands = platform.demands(platform.lasting)
    counted = Counter(left_out)
    fitting = []
    for one in submissions:
        if demands.shared(one.job.request_id, one.job.request).refusal is None:
            fitting.append(one)
        else:
            counted[_LARGER] += 1
    return Workload(topology, queues, tuple(fitting), counted, quotas)
