"""Resources within which jobs exclude one another: the machine, or what a container holds.

A job is placed in one space.  What it may take there beside what is free, and who may
take what it was given, is its `Sharing`; together they are the job's scope, and a scope
has two views: one in which running besteffort jobs do not count, as they can be killed,
and a strict one in which they do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

from oarpy.model.states import JobId
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.bounds import Bounds
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.gantt import NEVER_S, Gantt, Place
from oarpy.scheduling.platform import Demands
from oarpy.scheduling.sharing import ALONE, Sharing
from oarpy.scheduling.victims import Victim


class View(NamedTuple):
    """A gantt and what was learnt about it, which is true of no other.

    ``pools`` are those whose resources may be had as if they were free; what is learnt
    of a search among them is true of no other job, so it is not kept.
    """

    gantt: Gantt
    bounds: Bounds
    pools: tuple[str, ...] = ()

    def earliest(self, demand: Demand, length_s: int, after_s: int, latest_s: int) -> Place | None:
        """The first place of one alternative, with what earlier searches in this view have taught."""
        gantt, bounds, pools = self
        start_s = gantt.now_s if pools else bounds.lower(demand, length_s, gantt.now_s)
        if max(start_s, after_s) > latest_s:
            return None
        constrained = after_s > start_s
        if constrained:
            start_s = gantt.boundary(after_s)
        place = gantt.earliest(demand, length_s, start_s, latest_s, pools)
        found_s = place.start_s if place is not None else latest_s + 1
        if not constrained and not pools and found_s > start_s:
            bounds.learn(demand, length_s, found_s)
        return place

    def room(self, start_s: int, length_s: int) -> Bits:
        """What may be had for ``length_s`` from the start of a slot on."""
        return self.gantt.room(start_s, length_s, self.pools)


class Holding(NamedTuple):
    """Resources that are held until ``end_s``, and how they are shared."""

    end_s: int
    bits: Bits
    sharing: Sharing = ALONE


class Space:
    """One space and the plan that is being made for it.

    ``number`` is the container's job, or ``MACHINE``.  ``awake`` is what may be used at once.
    """

    def __init__(self, number: JobId, gantt: Gantt, demands: Demands, awake: Bits) -> None:
        self.number = number
        self.demands = demands
        self.normal = View(gantt, Bounds())
        #: Running besteffort jobs, and all of them that nobody had told to die.
        self.victims: list[Victim] = []
        self.preemptible: Bits = 0
        #: When the slowest of them is dead that is told to die now.
        self.slowest_s = 0
        self._awake = awake
        self._strict: View | None = None
        #: Other spaces of the same resources, which must know of what is given in this one.
        self._beside: list[Space] = []
        #: Who gives up what at an instant of the grid.
        self._ends: defaultdict[int, list[tuple[JobId, Bits]]] = defaultdict(list)

    @property
    def gantt(self) -> Gantt:
        """The plan, running besteffort jobs not counted."""
        return self.normal.gantt

    @property
    def strict(self) -> View:
        """The view in which besteffort jobs count, made when first asked for."""
        if not self.victims:
            return self.normal
        if self._strict is None:
            gantt = self.gantt.copy()
            self._strict = View(gantt, Bounds())
            self._hold(gantt, [Holding(victim.end_s, victim.bits, victim.sharing) for victim in self.victims])
            for pool in gantt.pools:
                others = [(one.end_s, one.bits) for one in self.victims if one.sharing.joins != pool]
                gantt.withdraw(pool, others)
        return self._strict

    def forget_strict(self) -> None:
        """Nobody asks for the strict view for a while, so it need not be told of anything."""
        self._strict = None
        for space in self._beside:
            space._strict = None

    def stands_beside(self, space: Space) -> None:
        """The two are of the same resources; so are all that stand beside either."""
        together = [self, *self._beside, space]
        for one in together:
            one._beside = [other for other in together if other is not one]

    def hold(self, holdings: Iterable[Holding]) -> None:
        """Take what is held from now to its end; the ends lie on the grid."""
        self._hold(self.gantt, list(holdings))

    def add_victim(self, victim: Victim) -> None:
        self.victims.append(victim)
        self.preemptible |= victim.bits
        self.slowest_s = max(self.slowest_s, victim.dead_s)

    @property
    def gone_s(self) -> list[int]:
        """From when on they are counted as gone that are told to die now, ascending."""
        return sorted({victim.gone_s for victim in self.victims})

    def held_by_slow(self, at_s: int) -> Bits:
        """What victims hold that would not be gone by then."""
        slow = (victim.bits for victim in self.victims if victim.gone_s > at_s and victim.end_s > at_s)
        return reduce(or_, slow, 0)

    def note_end(self, job_id: JobId, end_s: int, bits: Bits) -> None:
        """Remember until when a job has resources; the end lies on the grid."""
        self._ends[end_s].append((job_id, bits))

    def freed_by(self, start_s: int, bits: Bits) -> JobId | None:
        """A job that gives up some of these resources at this instant."""
        return next((job_id for job_id, given in self._ends.get(start_s, ()) if given & bits), None)

    def held_by_besteffort(self, at_s: int) -> Bits:
        return reduce(or_, (victim.bits for victim in self.victims if victim.end_s > at_s), 0)

    def occupy(
        self, start_s: int, end_s: int, taken: Bits, sharing: Sharing = ALONE, *, strictly: bool = False
    ) -> None:
        """Take resources for a job; ``strictly`` when only jobs that count besteffort ones need know of it."""
        for space in (self, *self._beside):
            space._occupy(start_s, end_s, taken, sharing, strictly=strictly)

    def reserve(self, start_s: int, end_s: int, taken: Bits, sharing: Sharing) -> None:
        """Take resources, whoever has them: what others share of them they share with nobody new."""
        self.occupy(start_s, end_s, taken, sharing)
        for space in (self, *self._beside):
            _withdraw(space.gantt, start_s, end_s, taken, sharing)

    def occupy_all(self, periods: Sequence[tuple[int, int, Bits]], *, strictly: bool = False) -> None:
        """The same for many at once, each with its start and its end, in one of the views."""
        for space in (self, *self._beside):
            (space.strict if strictly else space.normal).gantt.occupy_all(periods)

    def occupy_free(self, periods: Sequence[tuple[int, int, Bits]]) -> bool:
        """The same if each finds its resources free all the time; else nothing is taken."""
        if not self.gantt.occupy_free(periods):
            return False
        for space in self._beside:
            space.gantt.occupy_all(periods)
        return True

    def release(self, start_s: int, end_s: int, taken: Bits) -> None:
        """Give back what was taken for this time; whoever does not take it again has to `loosen` the bounds."""
        for space in (self, *self._beside):
            space.gantt.release(start_s, end_s, taken)

    def loosen(self, free_s: int) -> None:
        """Something was given back that is free from ``free_s`` on."""
        for space in (self, *self._beside):
            space.normal.bounds.loosen(free_s)

    def _occupy(self, start_s: int, end_s: int, taken: Bits, sharing: Sharing, *, strictly: bool) -> None:
        joins, leaves = sharing.joins, sharing.leaves
        if strictly and self.victims:
            self.strict.gantt.occupy(start_s, end_s, taken, joins=joins, leaves=leaves)
            _withdraw(self.strict.gantt, start_s, end_s, taken, sharing)
            return
        self.gantt.occupy(start_s, end_s, taken, joins=joins, leaves=leaves)
        if strictly:
            # It may have been given what is somebody else's later.
            _withdraw(self.gantt, start_s, end_s, taken, sharing)
        if self._strict is not None:
            # It may get what victims share among themselves.
            gantt = self._strict.gantt
            gantt.occupy(start_s, end_s, taken, joins=joins, leaves=[pool for pool in gantt.pools if pool != joins])

    def _hold(self, gantt: Gantt, holdings: list[Holding]) -> None:
        shared = [one for one in holdings if one.sharing != ALONE]
        # What is shared is put into the pools while it is free; then those in a placeholder take out what they have.
        for pool in dict.fromkeys(one.sharing.joins for one in shared if one.sharing.joins is not None):
            gantt.lend(pool, [(one.end_s, one.bits & self._awake) for one in shared if one.sharing.joins == pool])
        gantt.hold((one.end_s, one.bits) for one in holdings)
        for pool in dict.fromkeys(pool for one in shared for pool in one.sharing.leaves):
            gantt.withdraw(pool, [(one.end_s, one.bits) for one in shared if pool in one.sharing.leaves])


class Scope(NamedTuple):
    """Where a job is placed, and how it shares what it gets there."""

    space: Space
    sharing: Sharing = ALONE

    @property
    def normal(self) -> View:
        return self._joined(self.space.normal)

    @property
    def strict(self) -> View:
        return self._joined(self.space.strict)

    def _joined(self, view: View) -> View:
        return view._replace(pools=self.sharing.uses) if self.sharing.uses else view


def _withdraw(gantt: Gantt, start_s: int, end_s: int, taken: Bits, sharing: Sharing) -> None:
    """Take it out of all pools but that of the job that was given it."""
    others = [pool for pool in gantt.pools if pool != sharing.joins]
    if others:
        gantt.occupy(start_s, end_s, taken, leaves=others)


def closing(gantt: Gantt, end_s: int, gone: Bits = -1) -> None:
    """Let nothing use the resources ``gone``, all without it, from ``end_s`` on, rounded down to the grid."""
    gantt.occupy(gantt.on_grid_before(end_s), NEVER_S, gone)
