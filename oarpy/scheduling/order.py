"""In which order jobs are placed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection
from math import inf
from typing import NamedTuple, TypeAlias

from oarpy.model.states import JobId, Ordering
from oarpy.scheduling.karma import Karmas, ordered_together
from oarpy.scheduling.multifactor import Priorities
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Snapshot, WaitingJob


class Order(NamedTuple):
    """Jobs for which others are dying, then the other normal ones, then besteffort ones."""

    promised: list[WaitingJob]
    normal: list[WaitingJob]
    besteffort: list[WaitingJob]
    #: What was raised over jobs that could not be ranked; they come last of their group.
    failed: dict[JobId, str]


def in_order(snapshot: Snapshot, promised: Collection[JobId], platform: Platform) -> Order:
    """Queues by descending priority, and the jobs of equal queues in the order of their submission.

    Those of queues with another ordering change places among themselves, so that no
    queue gains or loses by its ordering.  Jobs of unknown queues come last.
    """
    priorities = {queue.name: queue.priority for queue in snapshot.queues}
    lowest = min(priorities.values(), default=0) - 1

    def rank(job: WaitingJob) -> tuple[int, int, JobId]:
        return -priorities.get(job.queue, lowest), job.submitted_s, job.job_id

    ranked = sorted(snapshot.waiting, key=rank)
    failed: dict[JobId, str] = {}
    if any(queue.ordering is not Ordering.FIFO for queue in snapshot.queues):
        _change_places(ranked, snapshot, platform, failed)
    order = Order([], [], [], failed)
    for job in ranked:
        if job.besteffort:
            order.besteffort.append(job)
        elif job.job_id in promised:
            order.promised.append(job)
        else:
            order.normal.append(job)
    return order


_Rank: TypeAlias = Callable[[WaitingJob], float]


def _change_places(ranked: list[WaitingJob], snapshot: Snapshot, platform: Platform, failed: dict[JobId, str]) -> None:
    """Sort the jobs of each group of queues within the places that they have; equals keep theirs."""
    orderings = {queue.name: queue.ordering for queue in snapshot.queues if queue.ordering is not Ordering.FIFO}
    groups = {name: group for name, group in ordered_together(snapshot.queues).items() if name in orderings}
    places: dict[frozenset[str], list[int]] = {}
    for place, job in enumerate(ranked):
        group = groups.get(job.queue)
        if group is not None:
            places.setdefault(group, []).append(place)
    for group, own in places.items():
        rank = _guarded(_rank(orderings[next(iter(group))], group, snapshot, platform), failed)
        for place, job in zip(own, sorted([ranked[place] for place in own], key=rank), strict=True):
            ranked[place] = job


def priorities(snapshot: Snapshot, platform: Platform) -> dict[JobId, float]:
    """The priority of each waiting job whose queue is ordered by many factors."""
    names = {queue.name for queue in snapshot.queues if queue.ordering is Ordering.MULTIFACTOR}
    if not names:
        return {}
    groups = ordered_together(snapshot.queues)
    karmas = {group: Karmas(snapshot.usage, group, snapshot.limits.shares) for group in set(groups.values())}
    failed: dict[JobId, str] = {}
    known = {group: _guarded(Priorities(snapshot, platform, karmas[group]).of, failed) for group in karmas}
    found = {job.job_id: known[groups[job.queue]](job) for job in snapshot.waiting if job.queue in names}
    return {job_id: priority for job_id, priority in found.items() if job_id not in failed}


def _guarded(rank: _Rank, failed: dict[JobId, str]) -> _Rank:
    """One that raises over a job harms no other."""

    def guarded(job: WaitingJob) -> float:
        try:
            return rank(job)
        except Exception:
            failed[job.job_id] = traceback.format_exc()
            return inf

    return guarded


def _rank(ordering: Ordering, group: frozenset[str], snapshot: Snapshot, platform: Platform) -> _Rank:
    karmas = Karmas(snapshot.usage, group, snapshot.limits.shares)
    if ordering is Ordering.FAIRSHARE:
        return lambda job: karmas.of(job.project, job.user)
    priorities = Priorities(snapshot, platform, karmas)
    return lambda job: -priorities.of(job)
