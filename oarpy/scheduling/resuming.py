"""Suspended jobs that are to go on: they get back what they had lent, and nothing else.

They come before all that waits.  Nobody is given what they wait for beyond the moment at
which it is free; running besteffort jobs that use it are killed.
"""

from __future__ import annotations

from typing import NamedTuple

from oarpy.model.states import JobId
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.plan import Kill
from oarpy.scheduling.sharing import ALONE, Sharing
from oarpy.scheduling.space import Space


class Resuming(NamedTuple):
    """A job in state Resuming: the resources that it had lent and for how long it needs them again."""

    job_id: JobId
    lent: Bits
    length_s: int
    sharing: Sharing = ALONE


def resumption(space: Space, job: Resuming) -> tuple[bool, list[Kill]]:
    """Keep its place for the job: whether it can go on now, and who must die for it."""
    gantt, pools = space.gantt, job.sharing.uses
    # What ends before the job would have, as a container may, is had for as long as it lasts.
    start_s = gantt.earliest_of(job.lent, job.length_s, pools) or gantt.earliest_of(job.lent, 1, pools)
    if start_s is None:
        return False, []
    space.occupy(start_s, start_s + job.length_s, job.lent, job.sharing)
    in_the_way = [victim for victim in space.victims if victim.bits & job.lent and victim.end_s > start_s]
    kills = []
    for victim in in_the_way:
        if victim.dead_s >= start_s and not victim.chosen:
            victim.chosen = True
            kills.append(Kill(victim.job_id, job.job_id))
    return start_s == gantt.now_s and not in_the_way, kills
