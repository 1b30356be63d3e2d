"""Sets of whole blocks, for demands that take nothing smaller.

A gantt of ten thousand cores has rows of ten thousand bits.  To a demand for hosts
only those cores matter whose whole host is free, so it reads rows that have one bit
for each such host: thirty times shorter, and counted instead of compared.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from oarpy.scheduling.bits import Bits, from_positions, positions, runs, span
from oarpy.scheduling.partition import Blocks, Partition, Singles

#: With fewer resources in a block, on average, the rows are hardly shorter.
_WORTHWHILE_SIZE = 4


class Grain:
    """The blocks of a partition, numbered in their order; each of them must be a run of its own."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._lows = [low for low, _ in blocks.blocks]
        self._ends = [low + bits.bit_length() for low, bits in blocks.blocks]
        self._known = frozenset(blocks.blocks)
        self._numbers = {mark: number for number, mark in enumerate(positions(blocks.marks))}

    def covers(self, partition: Partition) -> bool:
        """Whether all blocks of ``partition`` are blocks of this one, none of them cut by a filter."""
        return isinstance(partition, Blocks) and self._known.issuperset(partition.blocks)

    def numbered(self, partitions: Sequence[Partition]) -> list[Partition]:
        """The levels of a path, the innermost one covered, with numbers of blocks in place of their marks."""
        outer, blocks = partitions[:-1], Singles(partitions[-1].marks)
        return [partition.renumbered(self._numbers) for partition in (*outer, blocks)]

    def whole(self, resources: Bits) -> Bits:
        """The blocks that lie wholly in ``resources``."""
        numbers = self._numbers
        full = self._blocks.full(resources & self._blocks.members)
        return from_positions([numbers[mark] for mark in positions(full)], len(numbers))

    def whole_in_each(self, rows: Iterable[Bits]) -> list[Bits]:
        """The same for each row of a gantt, where one differs little from the one before: only that is looked at."""
        found = []
        before, whole = 0, 0
        for resources in rows:
            changed = before ^ resources
            if changed:
                blocks = self.touched(changed)
                whole = (whole & ~blocks) | self.whole(resources & self.resources(blocks))
            found.append(whole)
            before = resources
        return found

    def touched(self, resources: Bits) -> Bits:
        """The blocks of which ``resources`` holds anything."""
        blocks = 0
        for begin, end in runs(resources & self._blocks.members):
            blocks |= span(bisect_right(self._lows, begin) - 1, bisect_right(self._lows, end - 1))
        return blocks

    def resources(self, blocks: Bits) -> Bits:
        """All that these blocks consist of."""
        resources = 0
        for begin, end in runs(blocks):
            resources |= span(self._lows[begin], self._ends[end - 1])
        return resources & self._blocks.members


def grain_of(partition: Partition) -> Grain | None:
    """The grain of a partition for which it is worthwhile to keep rows of its own."""
    if not isinstance(partition, Blocks) or not partition.are_runs:
        return None
    return Grain(partition) if partition.members.bit_count() >= _WORTHWHILE_SIZE * len(partition.blocks) else None
