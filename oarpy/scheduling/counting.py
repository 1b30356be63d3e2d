"""How many of some resources are free when, where any of them will do.

For jobs that each take a number of the same resources a plan by numbers alone can be
carried out: chosen in the order of their starts, resources are found for all of them
(the periods are intervals, and intervals can be coloured greedily).  By sets alone, what
jobs that ended early have left lies in pieces that no longer job fits into.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from oarpy.model.request import Count
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.bounds import Frontier
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.gantt import Gantt


def counted(demand: Demand) -> int | None:
    """How many resources of its mask the demand takes, None when it matters which."""
    group = demand.groups[0]
    if len(demand.groups) > 1 or not group.counts_alone or group.levels[0].count in (Count.BEST, Count.BESTHALF):
        return None
    return group.levels[0].count


class Tally:
    """The number of resources of ``mask`` that are free in each slot of a gantt."""

    def __init__(self, gantt: Gantt, mask: Bits) -> None:
        self._on_grid = gantt.on_grid
        self._starts: list[int] = []
        self._free: list[int] = []
        for start_s, free in gantt.rows():
            self._starts.append(start_s)
            self._free.append((free & mask).bit_count())
        self._known = Frontier()

    def take_all(self, periods: Iterable[tuple[int, int, int]]) -> bool:
        """Take numbers for many ``(start_s, end_s, number)``; whether there were enough."""
        changes: dict[int, int] = {}
        for start_s, end_s, number in periods:
            end_s = self._on_grid(end_s)
            changes[start_s] = changes.get(start_s, 0) - number
            changes[end_s] = changes.get(end_s, 0) + number
        known = dict(zip(self._starts, self._free, strict=True))
        self._starts = sorted({*known, *changes})
        taken = accumulate(changes.get(start_s, 0) for start_s in self._starts)
        free, self._free = 0, []
        for start_s, change in zip(self._starts, taken, strict=True):
            free = known.get(start_s, free)
            self._free.append(free + change)
        return min(self._free) >= 0

    def moved(self, start_s: int, length_s: int, number: int) -> int:
        """Move a period that was taken to its earliest start; which that is, ``start_s`` itself if there is none."""
        now_s, own = self._starts[0], (number,)
        bound_s = self._known.lower(length_s, own, now_s)
        # An earlier place that overlaps its own holds the instant before it, at which nothing is its own.
        before = self._free[max(bisect_left(self._starts, start_s) - 1, 0)]
        latest_s = start_s - 1 if before >= number else start_s - length_s
        after_s = max(min(bound_s, start_s - length_s + 1), now_s)
        if after_s > latest_s:
            return start_s
        self._add(start_s, start_s + length_s, number)
        found_s = self._earliest(number, length_s, after_s, latest_s)
        if found_s is None:
            found_s = start_s
        self._add(found_s, found_s + length_s, -number)
        if found_s > bound_s:
            self._known.learn(length_s, own, found_s)
        if found_s < start_s:
            self._known.loosen(max(start_s, self._on_grid(found_s + length_s)))
        return found_s

    def _earliest(self, number: int, length_s: int, after_s: int, latest_s: int) -> int | None:
        starts, free = self._starts, self._free
        first = bisect_left(starts, after_s)
        while first < len(starts) and starts[first] <= latest_s:
            stop = bisect_left(starts, starts[first] + length_s, first + 1)
            # The window is read from its end: behind its last slot with too few is the next one that could do.
            last = next((i for i in range(stop - 1, first - 1, -1) if free[i] < number), None)
            if last is None:
                return starts[first]
            first = last + 1
        return None

    def _add(self, start_s: int, end_s: int, number: int) -> None:
        first, stop = self._boundary(start_s), self._boundary(self._on_grid(end_s))
        self._free[first:stop] = [free + number for free in self._free[first:stop]]

    def _boundary(self, instant_s: int) -> int:
        i = bisect_left(self._starts, instant_s)
        if i == len(self._starts) or self._starts[i] != instant_s:
            self._starts.insert(i, instant_s)
            self._free.insert(i, self._free[i - 1])
        return i
