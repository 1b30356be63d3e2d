"""The blocks of a hierarchy level, and questions asked of all of them at once.

A block is what is equal on a level and on all levels above it: the cores of a
host, the hosts of a switch.  Each block is stood for by the bit of one of its
members, its *mark*; so the blocks that pass a test are a set of marks, and those
marks are the members about which the next level up asks in turn.

Where each block is a run of its own (whatever lies between its members belongs
to no other block), one addition asks all blocks at once: the carry out of a
block tells whether it is full, or whether it is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Protocol

from oarpy.model.request import Count
from oarpy.scheduling.bits import Bits, from_positions, positions

#: Taking one member out of every block costs about what counting six of them does.
_BLOCKS_PER_ROUND = 6


class Partition(Protocol):
    """Disjoint blocks in the order of their first members.

    ``members`` are all that belong to a block; ``marks`` holds the mark of each
    block; ``smallest`` is the number of members of the smallest one.  Sets that are
    asked about hold members only.  ``single``: every block has one member, which is
    its own mark.
    """

    members: Bits
    marks: Bits
    smallest: int
    single: bool

    def full(self, bits: Bits) -> Bits:
        """The marks of the blocks that lie wholly in ``bits``."""

    def having(self, bits: Bits, count: int) -> Bits:
        """The marks of the blocks of which ``bits`` holds what ``count`` asks for."""

    def block(self, mark: int) -> Bits:
        """The members of the block whose mark is at this position."""

    def union(self, marks: Bits) -> Bits:
        """The members of all these blocks."""

    def within(self, bits: Bits) -> Partition:
        """The partition of those members that are in ``bits``."""

    def renumbered(self, numbers: Mapping[int, int]) -> Partition:
        """The same partition of the numbers of its members, which ascend as the members do."""


def partition(labels: Sequence[object]) -> Partition:
    """Blocks of the positions that have the same label; None is in no block."""
    blocks: dict[object, list[int]] = {}
    for position, label in enumerate(labels):
        if label is not None:
            blocks.setdefault(label, []).append(position)
    members = from_positions(chain.from_iterable(blocks.values()), len(labels))
    if all(len(block) == 1 for block in blocks.values()):
        return Singles(members)
    shifted = [(block[0], sum(1 << (position - block[0]) for position in block)) for block in blocks.values()]
    return Blocks(shifted, members, len(labels))


class Singles:
    """Blocks of one member each."""

    single = True

    def __init__(self, members: Bits) -> None:
        self.members = self.marks = members
        self.smallest = 1

    def full(self, bits: Bits) -> Bits:
        return bits & self.members

    def having(self, bits: Bits, count: int) -> Bits:
        return bits if count <= 1 else 0

    def block(self, mark: int) -> Bits:
        return 1 << mark

    def union(self, marks: Bits) -> Bits:
        return marks

    def within(self, bits: Bits) -> Partition:
        return Singles(self.members & bits)

    def renumbered(self, numbers: Mapping[int, int]) -> Partition:
        return Singles(_renumbered(self.members, numbers))


class Blocks:
    """Blocks of any size."""

    single = False

    def __init__(self, blocks: Sequence[tuple[int, Bits]], members: Bits, size: int) -> None:
        """``blocks`` are pairs (first member, members moved down by it), all below ``size``."""
        self.members = members
        self.smallest = min((bits.bit_count() for _, bits in blocks), default=1)
        self._size = size
        self.blocks = sorted(blocks)
        lows = [low for low, _ in self.blocks]
        ends = [low + bits.bit_length() for low, bits in self.blocks]
        self.are_runs = all(end <= low for end, low in zip(ends, lows[1:], strict=False))
        # A carry arrives at the highest member.  Blocks that are woven into one
        # another are asked one by one; there the first member keeps their order.
        marks = [end - 1 for end in ends] if self.are_runs else lows
        self.marks = from_positions(marks, size)
        self._by_mark = dict(zip(marks, self.blocks, strict=True))
        if self.are_runs:
            inside = from_positions(chain.from_iterable(map(range, lows, ends)), size)
            self._lows = from_positions(lows, size)
            self._below_marks = inside ^ self.marks
            self._strangers = inside ^ members

    def full(self, bits: Bits) -> Bits:
        if not self.are_runs:
            found = [mark for mark, (low, block) in self._by_mark.items() if (bits >> low) & block == block]
            return from_positions(found, self._size)
        bits |= self._strangers
        return ((bits & self._below_marks) + self._lows) & bits & self.marks

    def having(self, bits: Bits, count: int) -> Bits:
        if count == Count.ALL:
            return self.full(bits)
        count = max(count, 1)
        if not self.are_runs or len(self.blocks) < count * _BLOCKS_PER_ROUND:
            counted = self._by_mark.items()
            found = [mark for mark, (low, block) in counted if ((bits >> low) & block).bit_count() >= count]
            return from_positions(found, self._size)
        for _ in range(count - 1):
            # An empty block is lent its mark, so that no subtraction borrows from the block above.
            bits |= self.marks ^ self._touched(bits)
            bits &= bits - self._lows
        return self._touched(bits)

    def _touched(self, bits: Bits) -> Bits:
        below = self._below_marks
        return (((bits & below) + below) | bits) & self.marks

    def block(self, mark: int) -> Bits:
        low, bits = self._by_mark[mark]
        return bits << low

    def union(self, marks: Bits) -> Bits:
        joined = 0
        for mark in positions(marks):
            low, bits = self._by_mark[mark]
            joined |= bits << low
        return joined

    def within(self, bits: Bits) -> Partition:
        blocks = []
        for low, block in self.blocks:
            left = (bits >> low) & block
            if left:
                gap = (left & -left).bit_length() - 1
                blocks.append((low + gap, left >> gap))
        members = self.members & bits
        if all(block == 1 for _, block in blocks):
            return Singles(members)
        return Blocks(blocks, members, self._size)

    def renumbered(self, numbers: Mapping[int, int]) -> Partition:
        blocks = []
        for low, block in self.blocks:
            first = numbers[low]
            blocks.append((first, _renumbered(block << low, numbers) >> first))
        return Blocks(blocks, _renumbered(self.members, numbers), len(numbers))


def _renumbered(bits: Bits, numbers: Mapping[int, int]) -> Bits:
    return from_positions([numbers[position] for position in positions(bits)], len(numbers))
