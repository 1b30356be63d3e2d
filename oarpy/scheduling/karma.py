"""Karma: how much more than their share a project and a user have used.

::

    karma = project * (used by the project / used by all - target of the project / 100)
          + user    * (used by the user    / used by all - target of the user    / 100)
          + asked   * (asked by the user   / asked by all - target of the user   / 100)

over a sliding window, in queues that are ordered together.  Those with less come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from oarpy.model.states import Ordering
from oarpy.scheduling.snapshot import Queue, Snapshot
from oarpy.scheduling.usage import Account, Factors, Shares, Usage

#: As many decimals as people are shown, so that the order is the one that they see.
DECIMALS = 3


class Karmas:
    """The karmas of those who use ``queues``."""

    def __init__(self, usage: Usage, queues: Collection[str], shares: Shares) -> None:
        self._shares = shares
        self._by_project: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        for account, consumption in usage.consumed.items():
            if account.queue in queues:
                self._by_project[account.project] += consumption.used
                self._by_user[account.user] += consumption.used
                self._asked[account.user] += consumption.asked
        self._all_used = self._by_user.total()
        self._all_asked = self._asked.total()
        self._known: dict[tuple[str, str], float] = {}

    def of(self, project: str, user: str) -> float:
        """The karma of a job of ``user`` for ``project``."""
        known = self._known.get((project, user))
        if known is None:
            known = self._known[project, user] = self._work_out(project, user)
        return known

    def _work_out(self, project: str, user: str) -> float:
        shares = self._shares
        target = _target(shares.user_targets, user)
        karma = (
            shares.project
            * (_part(self._by_project[project], self._all_used) - _target(shares.project_targets, project))
            + shares.user * (_part(self._by_user[user], self._all_used) - target)
            + shares.asked * (_part(self._asked[user], self._all_asked) - target)
        )
        # Adding 0 makes of -0.0 what people expect.
        return round(karma, DECIMALS) + 0.0


def _part(one: int, all_of_them: int) -> float:
    return one / all_of_them if all_of_them else 0.0


def _target(targets: Mapping[str, float], name: str) -> float:
    return targets.get(name, targets.get("default", 0.0)) / 100


def matters(ordering: Ordering, factors: Factors) -> bool:
    """Whether the place of a job in a queue of this ordering depends on its karma."""
    return ordering is Ordering.FAIRSHARE or (ordering is Ordering.MULTIFACTOR and factors.karma != 0)


def ordered_together(queues: Collection[Queue]) -> dict[str, frozenset[str]]:
    """For each queue the names of those that are ordered together with it: of its priority and its ordering."""
    groups: dict[tuple[int, Ordering], set[str]] = {}
    for queue in queues:
        groups.setdefault((queue.priority, queue.ordering), set()).add(queue.name)
    return {queue.name: frozenset(groups[queue.priority, queue.ordering]) for queue in queues}


def karmas(snapshot: Snapshot) -> dict[Account, float]:
    """The karma of each account with waiting jobs in a queue where it matters."""
    limits = snapshot.limits
    where = {queue.name for queue in snapshot.queues if matters(queue.ordering, limits.factors)}
    if not where:
        return {}
    groups = {name: group for name, group in ordered_together(snapshot.queues).items() if name in where}
    known = {group: Karmas(snapshot.usage, group, limits.shares) for group in set(groups.values())}
    accounts = {Account(job.queue, job.project, job.user) for job in snapshot.waiting if job.queue in where}
    return {one: known[groups[one.queue]].of(one.project, one.user) for one in accounts}
