"""Places that quotas allow.

The gantt says where a job fits, the quotas when it may: each is asked in turn from where
the other left off, until they agree.  Both only get scarcer while a pass lasts.  So what
is found is a bound for all later jobs that the same quotas bind, and that are at least as
large, as long and as many resources: they begin their search there.
"""

from __future__ import annotations

from typing import NamedTuple

from oarpy.scheduling.demand import Demand
from oarpy.scheduling.gantt import NEVER_S, Place
from oarpy.scheduling.plan import Why
from oarpy.scheduling.quotas import Quotas
from oarpy.scheduling.snapshot import WaitingJob
from oarpy.scheduling.space import View


class Search(NamedTuple):
    """What one alternative of a job looks for: ``length_s`` free, from within ``[earliest_s, latest_s]`` on."""

    view: View
    job: WaitingJob
    demand: Demand
    length_s: int
    earliest_s: int
    latest_s: int


def first_allowed(quotas: Quotas, search: Search) -> tuple[Place | None, Why | None]:
    """The first place that quotas allow, and the quota that allows nothing earlier, if it is one."""
    view, job, demand, length_s, earliest_s, latest_s = search
    fitting = view.earliest(demand, length_s, earliest_s, latest_s)
    if fitting is None:
        return None, None
    verdict = quotas.first(job, fitting.taken, demand.walltime_s, fitting.start_s, fitting.start_s)
    if verdict.start_s == fitting.start_s:
        return fitting, None
    place = _after(quotas, search, fitting)
    if place is None:
        verdict = quotas.first(job, fitting.taken, demand.walltime_s, fitting.start_s, latest_s)
    return place, verdict.why


def _after(quotas: Quotas, search: Search, refused: Place) -> Place | None:
    """The first place that quotas allow, later than the first of all, which they do not."""
    view, job, demand, length_s, earliest_s, latest_s = search
    least = quotas.least(demand)
    kind, others = quotas.kind(job), (demand.walltime_s, least)
    known_s = view.bounds.lower_of(kind, demand, length_s, others, view.gantt.now_s)
    place = _agreed(quotas, search, least, max(known_s, refused.start_s), refused)
    if place is None:
        return None
    if earliest_s <= known_s < place.start_s and not view.pools:
        view.bounds.learn_of(kind, demand, length_s, others, place.start_s)
    # Blocks may differ in size: it may be more than the least.
    taken = quotas.counted(place.taken)
    while taken > least:
        allowed_s = quotas.start_s(job, taken, demand.walltime_s, place.start_s, latest_s)
        if allowed_s == place.start_s:
            break
        later = view.earliest(demand, length_s, allowed_s, latest_s) if allowed_s != NEVER_S else None
        if later is None:
            return None
        place, taken = later, quotas.counted(later.taken)
    return place


def _agreed(quotas: Quotas, search: Search, resources: int, start_s: int, place: Place) -> Place | None:
    """The first place from ``start_s`` on at a time when so many resources are allowed; ``place`` is not later."""
    view, job, demand, length_s, _, latest_s = search
    while True:
        allowed_s = quotas.start_s(job, resources, demand.walltime_s, start_s, latest_s)
        if allowed_s > latest_s or allowed_s == NEVER_S:
            return None
        if allowed_s > place.start_s:
            later = view.earliest(demand, length_s, allowed_s, latest_s)
            if later is None:
                return None
            place = later
        if place.start_s == allowed_s:
            return place
        start_s = place.start_s
