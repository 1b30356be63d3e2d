"""What blocks have beside their own members: the gpus of a host, its memory, the licences of a site.

These are resources too, each in the block whose values it shares, and each may
stand for several of what is asked for (its quantity: a row of memory for some
MiB).  Whether a block gives enough depends on nothing but what is free in it, so a
demand with brackets stays monotone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

from oarpy.scheduling.bits import Bits, from_positions, lowest, positions


class Store:
    """The resources of one type in the blocks of one level, by the blocks' marks."""

    def __init__(self, type_: str, amount: int, shelves: Mapping[int, Mapping[int, Bits]]) -> None:
        """``shelves``: for the mark of a block, its resources of the type by their quantity."""
        self.type = type_
        self.amount = amount
        self._shelves = shelves
        self.members: Bits = reduce(or_, (bits for shelf in shelves.values() for bits in shelf.values()), 0)

    def having(self, marks: Bits, free: Bits) -> Bits:
        """Those of the marked blocks of which enough is free."""
        found = [mark for mark in positions(marks) if self._free(mark, free) >= self.amount]
        return from_positions(found, marks.bit_length())

    def take(self, mark: int, free: Bits) -> Bits:
        """The first of what is free in a block, the largest quantities first, until it is enough."""
        taken, missing = 0, self.amount
        for quantity, bits in self._shelves[mark].items():
            here = bits & free
            number = min(here.bit_count(), -(-missing // quantity))
            if number > 0:
                taken |= lowest(here, number)
                missing -= number * quantity
        return taken

    def _free(self, mark: int, free: Bits) -> int:
        shelf = self._shelves.get(mark, {})
        return sum(quantity * (bits & free).bit_count() for quantity, bits in shelf.items())


def shelves(
    marks: Bits, members: Bits, columns: Sequence[Sequence[object]], quantities: Sequence[object] | None
) -> dict[int, dict[int, Bits]]:
    """For each marked block the ``members`` that have its values in ``columns``, by quantity, the largest first."""
    of_label: dict[tuple[object, ...], dict[int, list[int]]] = {}
    for position in positions(members):
        label = tuple(column[position] for column in columns)
        quantity = quantities[position] if quantities is not None else 1
        if isinstance(quantity, int) and quantity > 0:
            of_label.setdefault(label, {}).setdefault(quantity, []).append(position)
    size = members.bit_length()
    found = {}
    for mark in positions(marks):
        shelf = of_label.get(tuple(column[mark] for column in columns), {})
        found[mark] = {quantity: from_positions(shelf[quantity], size) for quantity in sorted(shelf, reverse=True)}
    return found
