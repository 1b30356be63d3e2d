"""In which order jobs are placed."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from oarpy.model.states import JobId
from oarpy.scheduling.snapshot import Snapshot, WaitingJob


class Order(NamedTuple):
    """Jobs for which others are dying, then the other normal ones, then besteffort ones."""

    promised: list[WaitingJob]
    normal: list[WaitingJob]
    besteffort: list[WaitingJob]


def in_order(snapshot: Snapshot, promised: Collection[JobId]) -> Order:
    """Queues by descending priority, and the jobs of equal queues in the order of their submission.

    Jobs of unknown queues come last.
    """
    priorities = {queue.name: queue.priority for queue in snapshot.queues}
    lowest = min(priorities.values(), default=0) - 1

    def rank(job: WaitingJob) -> tuple[int, int, JobId]:
        return -priorities.get(job.queue, lowest), job.submitted_s, job.job_id

    order = Order([], [], [])
    for job in sorted(snapshot.waiting, key=rank):
        if job.besteffort:
            order.besteffort.append(job)
        elif job.job_id in promised:
            order.promised.append(job)
        else:
            order.normal.append(job)
    return order
