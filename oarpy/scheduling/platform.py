"""A topology made ready for passes: resources as bits, filters and blocks as sets of them.

Bit i is the topology's i-th resource, so "the first resources that fit" are the
site's preferred ones.  Everything is worked out when first asked for and kept; an
object of this module may serve all passes over one version of the topology.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter

from oarpy.model.filters import Filter
from oarpy.model.request import Count, Group, ResourceRequest
from oarpy.model.resource_grammar import render_level
from oarpy.model.states import ResourceState
from oarpy.scheduling.bits import Bits, from_positions, packed, runs, span
from oarpy.scheduling.demand import Demand, GroupDemand, compete
from oarpy.scheduling.explain import (
    EXCLUDE_EACH_OTHER,
    FILTER_MATCHES_NONE,
    NEEDS_MORE,
    NOTHING_BESIDE,
    PROPERTY_UNKNOWN,
)
from oarpy.scheduling.grain import Grain, grain_of
from oarpy.scheduling.matching import PropertyUnknown, evaluate
from oarpy.scheduling.partition import Partition, partition
from oarpy.scheduling.plan import Ranges, Why
from oarpy.scheduling.snapshot import Topology
from oarpy.scheduling.stores import Store, shelves

#: Users invent filters; those beyond this many are worked out again.
_KEPT_FILTERS = 2000
_KEPT_PARTITIONS = 200
_KEPT_CONTAINERS = 50
_KEPT_REQUESTS = 50_000
#: Most places are the same from pass to pass; not so many that they take more than 32 MiB.
_KEPT_PLACES = 12_000
_KEPT_PLACES_BITS = 1 << 28
#: Each place that is given in a gantt is noted in the rows of every grain.
_MOST_GRAINS = 4


class Platform:
    """One version of the topology."""

    def __init__(self, topology: Topology) -> None:
        self.version = topology.version
        self.size = len(topology.ids)
        self.everything = span(0, self.size)
        self._topology = topology
        self._stretches = list(_stretches(topology.ids))
        self._by_id = sorted((first_id, end - begin, begin) for begin, end, first_id in self._stretches)
        drained = packed(topology.drain)
        self._alive = packed(state is ResourceState.ALIVE for state in topology.states) & ~drained
        absent = packed(state is ResourceState.ABSENT for state in topology.states) & ~drained
        #: Absent resources by the date until which they may be woken, the latest first.
        self._wakeable: dict[int, Bits] = {}
        for upto_s in sorted({upto_s for upto_s in topology.available_upto_s if upto_s is not None}, reverse=True):
            group = absent & packed(upto == upto_s for upto in topology.available_upto_s)
            if group:
                self._wakeable[upto_s] = group
        #: What a request must fit at its submission: all that is not gone for good.
        self.lasting = packed(state is not ResourceState.DEAD for state in topology.states)
        #: What may be in service one day: also what is Absent or Suspected today.
        self.reservable = self.lasting & ~drained
        #: The bits of resource ids, where ids that no longer exist have none, and the ids of bits.
        kept_places = min(_KEPT_PLACES, _KEPT_PLACES_BITS // max(self.size, 1))
        self.bits = lru_cache(kept_places)(self._bits)
        self.ranges = lru_cache(kept_places)(self._ranges)
        self.matching = lru_cache(_KEPT_FILTERS)(self._matching)
        self.partition = lru_cache(_KEPT_PARTITIONS)(self._partition)
        self.demands = lru_cache(4)(self._demands)
        #: The same, of parts of the machine: what containers hold.
        self.inner_demands = lru_cache(_KEPT_CONTAINERS)(self._demands)

    def usable(self, now_s: int) -> Bits:
        """What a job may be planned on: Alive, or Absent and to be woken; not drained."""
        usable = self._alive
        for bits in self.wakeable(now_s).values():
            usable |= bits
        return usable

    def of_types(self, types: Sequence[str]) -> Bits:
        """The resources of these types; all of them where resources have no types."""
        column = self._topology.properties.get("type")
        return self.everything if column is None else packed(value in types for value in column)

    def wakeable(self, now_s: int) -> dict[int, Bits]:
        """Absent resources that can be woken, by the date until which they then stay."""
        return {upto_s: bits for upto_s, bits in self._wakeable.items() if upto_s > now_s}

    def on_and_wakeable(self, now_s: int) -> Bits:
        """What is on, not drained, and could be woken if it were put to sleep."""
        return self._alive & packed(upto is not None and upto > now_s for upto in self._topology.available_upto_s)

    @cached_property
    def hosts(self) -> Mapping[str, Bits]:
        """All that belongs to each host."""
        found: dict[str, list[int]] = {}
        for position in range(self.size):
            host = self.host_of(position)
            if host:
                found.setdefault(host, []).append(position)
        return {host: from_positions(positions, self.size) for host, positions in found.items()}

    def host_of(self, position: int) -> str:
        """The host to which a resource belongs, "" if to none."""
        addresses = self._topology.properties.get("network_address")
        return "" if addresses is None else str(addresses[position] or "")

    def _bits(self, ranges: Ranges) -> Bits:
        bits = 0
        for begin, end in ranges:
            at = max(bisect_right(self._by_id, begin, key=itemgetter(0)) - 1, 0)
            while at < len(self._by_id) and self._by_id[at][0] < end:
                first_id, length, position = self._by_id[at]
                low, high = max(begin, first_id), min(end, first_id + length)
                if low < high:
                    bits |= span(position + low - first_id, position + high - first_id)
                at += 1
        return bits

    def _ranges(self, bits: Bits) -> Ranges:
        found: list[tuple[int, int]] = []
        for begin, end in runs(bits):
            at = bisect_right(self._stretches, begin, key=itemgetter(0)) - 1
            while at < len(self._stretches) and self._stretches[at][0] < end:
                low, high, first_id = self._stretches[at]
                low, high = max(begin, low), min(end, high)
                offset = first_id - self._stretches[at][0]
                found.append((low + offset, high + offset))
                at += 1
        if len(found) == 1:
            return (found[0],)
        return tuple(_joined(sorted(found)))

    def _matching(self, condition: Filter | None) -> Bits:
        if condition is None:
            return self.everything
        return evaluate(condition, self._topology.properties, self.everything).true

    def _partition(self, path: tuple[str, ...]) -> Partition:
        try:
            columns = [self._topology.properties[name] for name in path]
        except KeyError as error:
            raise PropertyUnknown(str(error.args[0])) from None
        return partition([None if None in values else values for values in zip(*columns, strict=True)])

    def of_type(self, type_: str) -> Bits:
        """The resources of a type."""
        return packed(type_ == own for own in self._topology.properties.get("type", ()))

    def store(self, type_: str, amount: int, path: tuple[str, ...], marks: Bits, members: Bits) -> Store:
        """What ``members``, all of this type, give beside the marked blocks of a path's last level."""
        properties = self._topology.properties
        columns = [properties[name] for name in path]
        return Store(type_, amount, shelves(marks, members, columns, properties.get("quantity")))

    def _demands(self, usable: Bits) -> Demands:
        return Demands(self, usable)


@dataclass(frozen=True, slots=True)
class _Division:
    """The blocks of each level of a path, and the same in numbers of the blocks of ``grain``.

    The innermost blocks are of resources, the others of marks.
    """

    partitions: Sequence[Partition]
    grain: Grain | None = None
    numbered: Sequence[Partition] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """The alternatives of a request that fit when nothing is occupied; ``refusal`` when there is none."""

    demands: tuple[Demand, ...]
    refusal: Why | None = None


class Demands:
    """What requests come to on the ``usable`` resources of a platform."""

    def __init__(self, platform: Platform, usable: Bits) -> None:
        self._platform = platform
        self._usable = usable
        self._families: dict[object, int] = {}
        #: The most that any demand of a kind may use, of those that were seen.
        self._widest: dict[object, tuple[Bits, ...]] = {}
        self._kept: dict[int, tuple[ResourceRequest, Prepared]] = {}
        self._kept_divisions: dict[tuple[Bits, tuple[str, ...]], _Division] = {}
        self._grains: list[Grain] = []
        self._judged = lru_cache(_KEPT_FILTERS)(self._judge)

    def shared(self, request_id: int, request: ResourceRequest) -> Prepared:
        """As `of`, worked out once for all jobs that share the request."""
        kept = self._kept.get(request_id)
        if kept is not None and (kept[0] is request or kept[0] == request):
            return kept[1]
        if len(self._kept) >= _KEPT_REQUESTS:
            self._kept.clear()
        prepared = self.of(request)
        self._kept[request_id] = request, prepared
        return prepared

    def of(self, request: ResourceRequest) -> Prepared:
        """The request's alternatives as demands; why the first of them fails when all do."""
        demands: list[Demand] = []
        refusals: list[Why] = []
        for index, alternative in enumerate(request.alternatives):
            judged = self._judged(alternative.groups)
            if isinstance(judged, Demand):
                demands.append(judged.lasting(index, alternative.walltime_s))
            else:
                refusals.append(judged)
        return Prepared(tuple(demands), refusals[0] if refusals and not demands else None)

    @property
    def usable(self) -> Bits:
        """What they are made of."""
        return self._usable

    def groups(self, wanted: Sequence[Group]) -> list[GroupDemand]:
        """The groups of an alternative, whether they fit or not; raises ``PropertyUnknown``."""
        divided = [(group, self._division(group).partitions) for group in wanted]
        return [GroupDemand(group.levels, parts, stores=self._stores(group, parts)) for group, parts in divided]

    def _judge(self, wanted: tuple[Group, ...]) -> Demand | Why:
        """The groups as a demand, or why they do not fit even when nothing is occupied."""
        try:
            divided = [(group.levels, self._division(group)) for group in wanted]
        except PropertyUnknown as unknown:
            return Why(PROPERTY_UNKNOWN, {"property": unknown.name})
        groups = self.groups(wanted)
        coarse = None
        if len(divided) == 1 and not any(level.beside for level in wanted[0].levels):
            levels, division = divided[0]
            if division.grain is not None:
                coarse = GroupDemand(levels, division.numbered, division.grain)
        sizes = {} if compete(groups) else self._sizes(groups, coarse)
        demand = Demand(groups, family=next(iter(sizes), None), sizes=sizes, coarse=coarse)
        return demand if demand.take(demand.mask) is not None else self._shortfall(demand)

    def _sizes(self, groups: Sequence[GroupDemand], coarse: GroupDemand | None) -> dict[int, tuple[int, ...]]:
        """The sizes of a demand in the families that tell about it, its own family first."""
        # Counts that depend on what exists are part of what the family is, not of how large its members are.
        kind = tuple(
            tuple(
                (level.property, min(level.count, 0), tuple(beside.type for beside in level.beside))
                for level in group.levels
            )
            for group in groups
        )
        levels = [level for group in groups for level in group.levels]
        amounts = [beside.amount for level in levels for beside in level.beside]
        own = (*(max(level.count, 0) for level in levels), *amounts)
        masks = tuple(group.mask for group in groups)
        counted = coarse or groups[0]
        if len(groups) > 1 or amounts or not counted.single:
            return {self._family(kind, masks): own}
        # A filter that cuts no block leaves fewer of them, and outer levels make it harder to find so many.
        # Only where a level asks for all does a demand with a filter ask for less.
        kinds: dict[object, tuple[int, ...]] = {} if counted.counts_alone else {kind: own}
        kinds[counted.grain] = (counted.least,)
        sizes = {self._family(one, masks): numbers for one, numbers in kinds.items()}
        if all(level.count != Count.ALL for level in counted.levels):
            for one, numbers in kinds.items():
                sizes.setdefault(self._family(one, self._widened(one, masks)), numbers)
        return sizes

    def _widened(self, kind: object, masks: tuple[Bits, ...]) -> tuple[Bits, ...]:
        """The most that a demand of this kind may use, of those seen that may use all these."""
        widest = self._widest.setdefault(kind, masks)
        if all(mask | wide == wide for mask, wide in zip(masks, widest, strict=True)):
            return widest
        self._widest[kind] = masks
        return masks

    def _family(self, kind: object, masks: tuple[Bits, ...]) -> int:
        return self._families.setdefault((kind, masks), len(self._families))

    def _stores(self, group: Group, partitions: Sequence[Partition]) -> Sequence[Sequence[Store]]:
        """For each level what it asks for beside its blocks; empty when no level does."""
        if not any(level.beside for level in group.levels):
            return ()
        path = tuple(level.property for level in group.levels)
        # Nothing is both a member of a block and beside it.
        others = self._usable & ~self._platform.matching(group.filter)
        return [
            [
                self._platform.store(
                    beside.type,
                    beside.amount,
                    path[: depth + 1],
                    partitions[depth].marks,
                    others & self._platform.of_type(beside.type),
                )
                for beside in level.beside
            ]
            for depth, level in enumerate(group.levels)
        ]

    def _division(self, group: Group) -> _Division:
        allowed = self._platform.matching(group.filter) & self._usable
        path = tuple(level.property for level in group.levels)
        division = self._kept_divisions.get((allowed, path))
        if division is None:
            division = self._divide(allowed, path)
            if len(self._kept_divisions) >= _KEPT_FILTERS:
                self._kept_divisions.clear()
            self._kept_divisions[allowed, path] = division
        return division

    def _divide(self, allowed: Bits, path: tuple[str, ...]) -> _Division:
        partitions = [self._platform.partition(path).within(allowed)]
        for depth in reversed(range(1, len(path))):
            partitions.append(self._platform.partition(path[:depth]).within(partitions[-1].marks))
        partitions.reverse()
        innermost = partitions[-1]
        grain = next((known for known in self._grains if known.covers(innermost)), None)
        if grain is None and len(self._grains) < _MOST_GRAINS:
            grain = grain_of(self._platform.partition(path).within(self._usable))
            if grain is None or not grain.covers(innermost):
                return _Division(partitions)
            self._grains.append(grain)
        return _Division(partitions, grain, grain.numbered(partitions) if grain is not None else ())

    def _shortfall(self, demand: Demand) -> Why:
        total = self._usable.bit_count()
        for group in demand.groups:
            if not group.members:
                return Why(FILTER_MATCHES_NONE, {"total": total})
            for level, store in group.beside():
                if not store.members:
                    return Why(NOTHING_BESIDE, {"type": store.type, "property": level.property})
            if not group.fits(group.mask):
                numbers: dict[str, object] = {
                    "matched": group.members.bit_count(),
                    "total": total,
                    "request": "".join(map(render_level, group.levels))[1:],
                    "property": group.levels[0].property,
                    "needed": group.levels[0].count,
                    "found": group.found(group.mask)[0],
                }
                return Why(NEEDS_MORE, numbers)
        return Why(EXCLUDE_EACH_OTHER, {"groups": len(demand.groups), "total": total})


def _stretches(ids: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """(begin, end, first id) of runs of positions whose ids count up."""
    begin = 0
    for position in range(1, len(ids) + 1):
        if position == len(ids) or ids[position] != ids[position - 1] + 1:
            yield begin, position, ids[begin]
            begin = position


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted ranges with those that touch made one."""
    current: tuple[int, int] | None = None
    for begin, end in ranges:
        if current is not None and current[1] == begin:
            current = current[0], end
            continue
        if current is not None:
            yield current
        current = begin, end
    if current is not None:
        yield current
