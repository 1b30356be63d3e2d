"""A request made ready for the gantt: does it fit a set of free resources, and what does it take there?

Fitting is monotone: resources that become free never make a request stop
fitting.  The gantt's search and the bounds rest on that.  It holds because blocks
of a level do not overlap, so that taking the first that fit is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import reduce
from math import prod
from operator import or_

from oarpy.model.request import Count, Level
from oarpy.scheduling.bits import Bits, first_run, lowest, positions
from oarpy.scheduling.grain import Grain
from oarpy.scheduling.partition import Partition
from oarpy.scheduling.stores import Store


class GroupDemand:
    """One group of a request on the resources that it may use (``mask``)."""

    def __init__(
        self,
        levels: Sequence[Level],
        partitions: Sequence[Partition],
        grain: Grain | None = None,
        stores: Sequence[Sequence[Store]] = (),
    ) -> None:
        """``partitions`` belong to ``levels``: the innermost of resources, each other of the marks of the next.

        So do ``stores``, unless no level asks for anything beside.  With a ``grain`` the
        innermost is of numbers of blocks, and so are all sets here.
        """
        self.levels = tuple(levels)
        self.grain = grain
        self._partitions = tuple(partitions)
        self._full = partitions[-1].full
        self._stores = tuple(stores)
        # From the inside out: a block needs ``count`` blocks of the level below it.
        self._climb = [(partitions[i].having, levels[i + 1].count) for i in reversed(range(len(levels) - 1))]
        self._needed = self._blocks_needed()
        #: No place has fewer resources.
        self.least = partitions[-1].smallest * prod(max(level.count, 1) for level in levels)
        #: To have so many is enough: any of them will do.
        self.counts_alone = (
            len(levels) == 1 and partitions[0].single and levels[0].count != Count.ALL and not self._stores
        )
        #: Whether what it takes in the end is single members: at least ``least`` of them.
        self.single = partitions[-1].single
        #: Whether it takes no more where more is free, and whole blocks alone.
        self.frugal = all(level.count > 0 for level in levels) and not self._stores
        self.members = partitions[-1].members
        #: All that it may use.
        self.mask = reduce(or_, (store.members for level in stores for store in level), self.members)

    def _blocks_needed(self) -> int:
        count = self.levels[0].count
        if count == Count.ALL:
            return max(self._partitions[0].marks.bit_count(), 1)
        return max(count, 1)

    def beside(self) -> Iterator[tuple[Level, Store]]:
        """What it asks for beside the blocks, each with the level that does."""
        for level, stores in zip(self.levels, self._stores, strict=False):
            for store in stores:
                yield level, store

    def fits(self, bits: Bits) -> bool:
        """Whether the group finds its place among these free resources."""
        if bits.bit_count() < self.least:
            return False
        if self.counts_alone:
            return True
        if self._stores:
            return self._candidates(bits)[0].bit_count() >= self._needed
        marks = self._full(bits)
        for having, count in self._climb:
            marks = having(marks, count)
        return marks.bit_count() >= self._needed

    def whole(self, bits: Bits) -> Bits:
        """The members of the innermost blocks that lie wholly in ``bits``."""
        return bits if self.single else self._partitions[-1].union(self._full(bits))

    def filled(self, first: Bits, bits: Bits) -> Bits:
        """Of ``bits``, for one level: all whole blocks of ``first``, which are too few, and the lowest others."""
        if not first or len(self.levels) > 1:
            return bits
        if self.single:
            return first | lowest(bits & ~first, self._needed - first.bit_count())
        marks = self._full(first)
        others = lowest(self._full(bits) & ~marks, self._needed - marks.bit_count())
        return self._partitions[0].union(marks | others)

    def take(self, bits: Bits) -> Bits | None:
        """The resources of its first place among these, None where it has none."""
        candidates = self._candidates(bits)
        if candidates[0].bit_count() < self._needed:
            return None
        return self._pick(0, candidates, candidates[0], bits)

    def blocks(self) -> tuple[int, ...]:
        """How many blocks of each level it may use, the outermost first."""
        return tuple(partition.marks.bit_count() for partition in self._partitions)

    def found(self, bits: Bits) -> tuple[int, ...]:
        """How many blocks of each level would do, the outermost first."""
        return tuple(marks.bit_count() for marks in self._candidates(bits))

    def _candidates(self, bits: Bits) -> list[Bits]:
        """For each level, outermost first, the marks of the blocks that would do."""
        marks = self._full(bits & self.members)
        candidates = [self._supplied(len(self.levels) - 1, marks, bits)]
        for i, (having, count) in enumerate(self._climb):
            marks = having(candidates[-1], count)
            candidates.append(self._supplied(len(self.levels) - 2 - i, marks, bits))
        candidates.reverse()
        return candidates

    def _supplied(self, depth: int, marks: Bits, bits: Bits) -> Bits:
        """Those of the marked blocks that also give what is asked for beside them."""
        for store in self._stores[depth] if self._stores else ():
            marks = store.having(marks, bits)
        return marks

    def _pick(self, depth: int, candidates: Sequence[Bits], inside: Bits, bits: Bits) -> Bits:
        """Resources of the first blocks of level ``depth`` among the marks ``inside``."""
        partition, count = self._partitions[depth], self.levels[depth].count
        innermost = depth + 1 == len(self.levels)
        if count in (Count.ALL, Count.BEST):
            chosen = inside
        else:
            number = count if count != Count.BESTHALF else (inside.bit_count() + 1) // 2
            # An allocation is stored as ranges, and few of them cost the database less.
            single = innermost and partition.single and self.grain is None and not self.levels[depth].beside
            adjacent = first_run(inside, number) if single else 0
            chosen = adjacent or lowest(inside, number)
        taken = 0
        for store in self._stores[depth] if self._stores else ():
            for mark in positions(chosen):
                taken |= store.take(mark, bits)
        if innermost:
            return taken | partition.union(chosen)
        for mark in positions(chosen):
            taken |= self._pick(depth + 1, candidates, candidates[depth + 1] & partition.block(mark), bits)
        return taken


class Demand:
    """One moldable alternative: its groups are placed one after the other, each on what the former left.

    The group that may use the fewest resources goes first, so that no group with more
    choice takes them from it.

    Demands of one ``family`` differ in their sizes at most: the one that is at least
    as large in each of them never starts earlier.  ``sizes`` holds the demand's own in
    its family, and in families of less particular demands those of one that fits
    wherever this one does.  A demand whose groups compete for resources is of no
    family (None): there ``fits`` is necessary, not sufficient.

    ``coarse`` is the same demand in terms of whole blocks, None when it may take less.
    Alternatives of different walltimes are made of one demand by `lasting`.
    """

    #: Its sets are of resources, as those of a group without a grain.
    grain = None
    index = 0
    walltime_s = 0

    def __init__(
        self,
        groups: Sequence[GroupDemand],
        *,
        family: int | None,
        sizes: Mapping[int, tuple[int, ...]],
        coarse: GroupDemand | None = None,
    ) -> None:
        self.groups = tuple(sorted(groups, key=lambda group: group.members.bit_count()))
        self.mask = reduce(or_, (group.mask for group in groups))
        self.family = family
        self.sizes = sizes
        self.coarse = coarse
        #: Whether it takes no more where more is free; asked of demands of one group alone, as are the next two.
        self.frugal = len(groups) == 1 and groups[0].frugal
        self.whole, self.filled = groups[0].whole, groups[0].filled
        #: Whether each group finds its place among these free resources, all of them in ``mask``.
        self.fits: Callable[[Bits], bool] = groups[0].fits if len(groups) == 1 else self._all_fit

    def lasting(self, index: int, walltime_s: int) -> Demand:
        """The same demand as alternative ``index`` of a request, for this long."""
        twin = copy(self)
        twin.index = index
        twin.walltime_s = walltime_s
        return twin

    def _all_fit(self, bits: Bits) -> bool:
        return all(group.fits(bits & group.mask) for group in self.groups)

    def take(self, bits: Bits) -> Bits | None:
        """The resources of its first place among these, None where it has none."""
        taken = 0
        for group in self.groups:
            more = group.take(bits & group.mask & ~taken)
            if more is None:
                return None
            taken |= more
        return taken


def compete(groups: Sequence[GroupDemand]) -> bool:
    """Whether a resource could be taken by more than one of the groups."""
    return reduce(or_, (group.mask for group in groups)).bit_count() != sum(g.mask.bit_count() for g in groups)
