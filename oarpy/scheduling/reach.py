"""Jobs that may start on resources which are not Alive.

They are placed in a wider space beside the machine's: each of the two is told of what
is given in the other, so nothing is given twice.  It is made only when such a job waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from oarpy.model.reach_types import Reach, reach
from oarpy.model.sharing_types import MACHINE
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Snapshot, WaitingJob
from oarpy.scheduling.space import Holding, Space, closing

_reach = lru_cache(10_000)(reach)


class Wider:
    """The spaces beside the machine's."""

    def __init__(self, snapshot: Snapshot, platform: Platform, machine: Space) -> None:
        self._now_s = snapshot.now_s
        self._platform = platform
        self._machine = machine
        self._spaces: dict[Reach, Space] = {}
        for wanted in {_reach(job.types) for job in snapshot.waiting if job.types} - {Reach.ALIVE}:
            usable = platform.lasting if wanted is Reach.PERMISSIVE else platform.usable(self._now_s)
            gantt = Gantt(self._now_s, usable, snapshot.limits.grid_s)
            self._spaces[wanted] = Space(MACHINE, gantt, platform.demands(usable), usable)
        for space in self._spaces.values():
            machine.stands_beside(space)

    def hold(self, holdings: Iterable[Holding]) -> None:
        """Take what is held of the machine; what is asleep is not, for these jobs."""
        for wanted, space in self._spaces.items():
            space.hold(holdings)
            for victim in self._machine.victims:
                space.add_victim(victim)
            if wanted is Reach.STANDBY:
                for upto_s, bits in self._platform.wakeable(self._now_s).items():
                    closing(space.gantt, upto_s, bits)

    def of(self, job: WaitingJob, space: Space) -> Space:
        """Where a job is placed that was to be placed in ``space``."""
        if not self._spaces or space.number != MACHINE or not job.types:
            return space
        return self._spaces.get(_reach(job.types), space)

    def reaches_further(self, job: WaitingJob) -> bool:
        """Whether the machine may have no room where the job would find some."""
        return bool(self._spaces) and bool(job.types) and _reach(job.types) is not Reach.ALIVE
