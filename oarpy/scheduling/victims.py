"""Which besteffort jobs must go so that a normal job can start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import or_

from oarpy.model.states import JobId
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.sharing import ALONE, Sharing


@dataclass(slots=True)
class Victim:
    """A running besteffort job; ``lost_s`` is the work that dies with it, ``chosen`` whether it must die anyway.

    Told to die now it is dead at ``dead_s``, and the gantt counts its resources as free from ``gone_s`` on.
    """

    job_id: JobId
    bits: Bits
    lost_s: int
    end_s: int
    dead_s: int
    gone_s: int
    chosen: bool = False
    sharing: Sharing = ALONE


@dataclass(slots=True)
class Dying:
    """Those who die for one job: when they are gone at the latest, and when probably."""

    job_ids: list[JobId] = field(default_factory=list)
    dead_s: int = 0
    soon_s: int = 0

    def add(self, job_id: JobId, dead_s: int, soon_s: int) -> None:
        self.job_ids.append(job_id)
        self.dead_s = max(self.dead_s, dead_s)
        self.soon_s = max(self.soon_s, soon_s)


def spare(demand: Demand, room: Bits, running: Iterable[Victim]) -> tuple[Bits, list[Victim]]:
    """A place for the demand in ``room``, and those who hold resources of it.

    Nobody is displaced where that can be avoided; then those go who die anyway,
    then the ones with the least work to lose, and none that is not needed.
    ``room`` is large enough when all go.
    """
    in_the_way = [victim for victim in running if victim.bits & room]
    in_the_way.sort(key=lambda victim: (not victim.chosen, victim.lost_s, -victim.job_id))
    going = in_the_way[: _needed(demand, room, in_the_way)]
    # The last of them is needed, those before it may turn out not to be.
    for victim in [victim for victim in going[-2::-1] if not victim.chosen]:
        fewer = [other for other in going if other is not victim]
        if demand.take(_freed(room, in_the_way, fewer)) is not None:
            going = fewer
    taken = demand.take(_freed(room, in_the_way, going))
    if taken is None:
        raise ValueError("the room is too small even when everybody goes")
    return taken, [victim for victim in going if victim.bits & taken]


def _needed(demand: Demand, room: Bits, in_the_way: Sequence[Victim]) -> int:
    """How many from the front must go for the demand to fit; found by bisection, as fitting is monotone."""
    staying = list(accumulate((victim.bits for victim in reversed(in_the_way)), or_, initial=0))[::-1]
    low, high = 0, len(in_the_way)
    while low < high:
        middle = (low + high) // 2
        if demand.take(room & ~staying[middle]) is not None:
            high = middle
        else:
            low = middle + 1
    return low


def _freed(room: Bits, in_the_way: Iterable[Victim], going: Iterable[Victim]) -> Bits:
    """The room when some have gone: what several share is not free before the last of them has."""
    gone = {victim.job_id for victim in going}
    for victim in in_the_way:
        if victim.job_id not in gone:
            room &= ~victim.bits
    return room
