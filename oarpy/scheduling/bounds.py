"""What the jobs placed so far tell about those to come.

While a pass lasts, resources only get scarcer.  So where a demand was found to
start at t at the earliest, none starts before t that is at least as long and, in
the same family, at least as large.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable
from operator import itemgetter, le

from oarpy.scheduling.demand import Demand


class Frontier:
    """Lower bounds of one family: those that no other implies."""

    def __init__(self) -> None:
        #: (minus the bound, length, sizes), so that the first one that applies is the best.
        self._known: list[tuple[int, int, tuple[int, ...]]] = []

    def lower(self, length_s: int, own: tuple[int, ...], start_s: int) -> int:
        """The latest known bound for this length and these sizes, at least ``start_s``."""
        for minus_bound_s, length, sizes in self._known:
            if -minus_bound_s <= start_s:
                break
            if length <= length_s and all(map(le, sizes, own)):
                return -minus_bound_s
        return start_s

    def learn(self, length_s: int, own: tuple[int, ...], bound_s: int) -> None:
        """Nothing of these sizes can start for this length before ``bound_s``, which is later than its lower bound."""
        known = self._known
        at = bisect_left(known, -bound_s, key=itemgetter(0))
        known[at:] = [
            (-bound_s, length_s, own),
            *(entry for entry in known[at:] if entry[1] < length_s or not all(map(le, own, entry[2]))),
        ]

    def loosen(self, free_s: int) -> None:
        """See `Bounds.loosen`."""
        known = self._known
        known[:] = [(max(minus_s, length_s - free_s - 1), length_s, sizes) for minus_s, length_s, sizes in known]
        known.sort(key=itemgetter(0))


class Bounds:
    """Lower bounds on starts in one gantt, by family of demands."""

    def __init__(self) -> None:
        self._families: dict[Hashable, Frontier] = {}

    def lower(self, demand: Demand, length_s: int, start_s: int) -> int:
        """The latest known bound of the demand's start, at least ``start_s``."""
        for family, own in demand.sizes.items():
            frontier = self._families.get(family)
            if frontier is not None:
                start_s = frontier.lower(length_s, own, start_s)
        return start_s

    def learn(self, demand: Demand, length_s: int, bound_s: int) -> None:
        """The demand for this length cannot start before ``bound_s``, which is later than its lower bound."""
        if demand.family is None:
            return
        frontier = self._families.setdefault(demand.family, Frontier())
        frontier.learn(length_s, demand.sizes[demand.family], bound_s)

    def lower_of(self, bound_by: Hashable, demand: Demand, length_s: int, others: tuple[int, ...], start_s: int) -> int:
        """As `lower`, of jobs that are all bound by the same; they take at least so much of what it is about."""
        for family, own in demand.sizes.items():
            frontier = self._families.get((bound_by, family))
            if frontier is not None:
                start_s = frontier.lower(length_s, (*others, *own), start_s)
        return start_s

    def learn_of(
        self, bound_by: Hashable, demand: Demand, length_s: int, others: tuple[int, ...], bound_s: int
    ) -> None:
        """As `learn`, of such jobs."""
        if demand.family is not None:
            frontier = self._families.setdefault((bound_by, demand.family), Frontier())
            frontier.learn(length_s, (*others, *demand.sizes[demand.family]), bound_s)

    def loosen(self, free_s: int) -> None:
        """Something has become free from ``free_s`` on: starts whose time reaches into it are possible again."""
        for frontier in self._families.values():
            frontier.loosen(free_s)
