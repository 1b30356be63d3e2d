"""Smaller requests: of an alternative, the same with a shorter walltime or a lesser count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from oarpy.model.request import Alternative, Level
from oarpy.scheduling.findings import Change


class Variants(NamedTuple):
    """What comes of changing one number of an alternative to 1, 2, … ``most``."""

    most: int
    made: Callable[[int], Alternative]
    group: int | None = None
    level: int | None = None
    beside: int | None = None

    def change(self, found: Found, index: int, wanted: Alternative) -> Change:
        kind = "walltime" if self.group is None else "count"
        return Change(found.start_s, kind, index, wanted, self.made(found.value), self.group, self.level, self.beside)


def variants(alternative: Alternative, grid_s: int) -> Iterator[Variants]:
    """The walltime in steps of the grid, then each count."""
    yield Variants(
        (alternative.walltime_s - 1) // grid_s, lambda steps: replace(alternative, walltime_s=steps * grid_s)
    )
    for number, group in enumerate(alternative.groups):
        for depth, level in enumerate(group.levels):
            place = partial(_with_level, alternative, number, depth)
            if level.count > 1:
                yield Variants(level.count - 1, partial(_with_count, place, level), number, depth)
            for which, beside in enumerate(level.beside):
                made = partial(_with_amount, place, level, which)
                yield Variants(beside.amount - 1, made, number, depth, which)


def _with_level(alternative: Alternative, group: int, depth: int, level: Level) -> Alternative:
    groups = list(alternative.groups)
    levels = list(groups[group].levels)
    levels[depth] = level
    groups[group] = replace(groups[group], levels=tuple(levels))
    return replace(alternative, groups=tuple(groups))


def _with_count(place: Callable[[Level], Alternative], level: Level, count: int) -> Alternative:
    return place(replace(level, count=count))


def _with_amount(place: Callable[[Level], Alternative], level: Level, which: int, amount: int) -> Alternative:
    beside = list(level.beside)
    beside[which] = replace(beside[which], amount=amount)
    return place(replace(level, beside=tuple(beside)))


class Found(NamedTuple):
    """The number, and when the job starts with it."""

    value: int
    start_s: int


def largest(most: int, start_s: Callable[[int], int | None], before_s: int | None) -> Found | None:
    """The largest value of 1 to ``most`` with which the job starts before ``before_s``, or at all.

    Asking for less never starts a job later, so bisection finds it.
    """
    if most < 1:
        return None

    def tried(value: int) -> Found | None:
        start = start_s(value)
        return None if start is None or (before_s is not None and start >= before_s) else Found(value, start)

    best = tried(1)
    if best is None:
        return None
    low, high = 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        found = tried(middle)
        if found is None:
            high = middle
        else:
            low, best = middle, found
    return best
