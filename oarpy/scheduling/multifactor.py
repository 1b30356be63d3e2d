"""The priority of a job as a weighted sum of factors; those with more come first.

======  ==================================================================================
age     how long it has waited, as a part of the age limit; 1 from then on
queue   what the site says of its queue
work    1 / (resources * hours) asked for, 1 below one; where large is favoured, 1 minus it
size    its part of the cluster where large is favoured, else 1 minus it
karma   1 / (1 + karma); 1 - karma below zero, where that would have no meaning
qos     the job's own
nice    minus the job's own, as a part of the greatest
======  ==================================================================================

OAR 3 measures work in resource-seconds, by which all jobs but the tiniest are alike.
"""

from __future__ import annotations

from oarpy.model.priority_types import MAX_NICE, NICE, QOS, number_of
from oarpy.scheduling.demand import GroupDemand
from oarpy.scheduling.karma import Karmas
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Snapshot, WaitingJob
from oarpy.scheduling.usage import Favoured

#: Differences below are no difference.
DECIMALS = 6


class Priorities:
    """The priorities of jobs of queues that are ordered together, which have ``karmas``."""

    def __init__(self, snapshot: Snapshot, platform: Platform, karmas: Karmas) -> None:
        self._factors = snapshot.limits.factors
        self._karmas = karmas
        # All grow old together, so nothing is lost by looking at the clock now and then.
        refresh_s = max(snapshot.limits.shares.refresh_s, 1)
        self._now_s = snapshot.now_s // refresh_s * refresh_s
        self._demands = platform.demands(platform.usable(snapshot.now_s))
        self._all = max(platform.lasting.bit_count(), 1)
        self._taken: dict[tuple[GroupDemand, ...], int] = {}

    def of(self, job: WaitingJob) -> float:
        """The priority of one job."""
        factors = self._factors
        priority = factors.age * self._age(job)
        priority += factors.queue * factors.queues.get(job.queue, factors.queues.get("default", 0.0))
        if factors.karma:
            priority += factors.karma * karma_factor(self._karmas.of(job.project, job.user))
        if factors.work or factors.size:
            resources, walltime_s = self._asked(job)
            work = 1 / max(1.0, resources * walltime_s / 3600)
            priority += factors.work * _favouring(factors.work_favours, work)
            priority += factors.size * _favouring(factors.size_favours, 1 - resources / self._all)
        if job.types:
            priority += factors.qos * number_of(job.types, QOS)
            priority -= factors.nice * number_of(job.types, NICE) / MAX_NICE
        return round(priority, DECIMALS)

    def _age(self, job: WaitingJob) -> float:
        limit_s = max(self._factors.age_limit_s, 1)
        return min(max(self._now_s - job.submitted_s, 0) / limit_s, 1.0)

    def _asked(self, job: WaitingJob) -> tuple[int, int]:
        """Resources and walltime of the first alternative that fits; nothing where none does."""
        demands = self._demands.shared(job.request_id, job.request).demands
        if not demands:
            return 0, 0
        demand = demands[0]
        taken = self._taken.get(demand.groups)
        if taken is None:
            taken = self._taken[demand.groups] = (demand.take(demand.mask) or 0).bit_count()
        return taken, demand.walltime_s


def karma_factor(karma: float) -> float:
    """More than 1 for those who used less than their share, towards 0 the more they used beyond it."""
    return 1 / (1 + karma) if karma > 0 else 1 - karma


def _favouring(favoured: Favoured, small: float) -> float:
    return small if favoured == "small" else 1 - small
