"""Which hosts need not be on for a while, and which must be woken by when.

This only reads the plan that was made.  Who switches hosts, how long one must have been
idle before, and how many are kept on all the same is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from oarpy.model.job_types import has_type
from oarpy.model.reach_types import NOT_ON_NODES
from oarpy.scheduling.bits import Bits
from oarpy.scheduling.gantt import Gantt
from oarpy.scheduling.plan import Decision, Energy, Idle, Predict, Start, Wake
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Snapshot


def energy(
    snapshot: Snapshot, platform: Platform, gantt: Gantt, decisions: Iterable[Decision], soonest_s: int
) -> Energy:
    """What the plan lets sleep and what it needs awake.

    ``gantt`` counts besteffort jobs.  A job planned for ``soonest_s``, when a host that
    is woken now is on, waits for nothing else.
    """
    return Energy(
        tuple(_idle(snapshot, platform, gantt)), tuple(_wakes(snapshot, platform, list(decisions), soonest_s))
    )


def _idle(snapshot: Snapshot, platform: Platform, gantt: Gantt) -> Iterable[Idle]:
    hosts = _hosts(platform, platform.on_and_wakeable(snapshot.now_s))
    # A suspended job has lent its resources, and is there all the same.
    for job in snapshot.held:
        for host in _touched(hosts, platform, platform.bits(job.resources)):
            del hosts[host]
    left = 0
    for bits in hosts.values():
        left |= bits
    until: dict[str, int] = {}
    for start_s, free in gantt.rows():
        for host in _touched(hosts, platform, left & ~free):
            until[host] = start_s
            left &= ~hosts[host]
    return (Idle(host, until.get(host)) for host in sorted(hosts) if until.get(host) != snapshot.now_s)


def _wakes(snapshot: Snapshot, platform: Platform, decisions: Iterable[Decision], soonest_s: int) -> Iterable[Wake]:
    asleep = 0
    for bits in platform.wakeable(snapshot.now_s).values():
        asleep |= bits
    if not asleep:
        return ()
    types = {job.job_id: job.types for job in snapshot.waiting} | {job.job_id: job.types for job in snapshot.held}
    types |= {one.job_id: one.types for one in snapshot.reserved}
    needs = [(snapshot.now_s, job.job_id, job.resources) for job in snapshot.held]
    for decision in decisions:
        if isinstance(decision, Start):
            needs.append((snapshot.now_s, decision.job_id, decision.resources))
        elif isinstance(decision, Predict):
            needs.append((decision.start_s, decision.job_id, decision.resources))
    hosts = {host: bits for host, bits in platform.hosts.items() if bits & asleep}
    first: dict[str, Wake] = {}
    for start_s, job_id, resources in sorted(needs):
        if any(has_type(types[job_id], name) for name in NOT_ON_NODES):
            continue
        for host in _touched(hosts, platform, platform.bits(resources) & asleep):
            first[host] = Wake(host, start_s if start_s > soonest_s else None, job_id)
            del hosts[host]
    return [first[host] for host in sorted(first)]


def _hosts(platform: Platform, able: Bits) -> dict[str, Bits]:
    """The hosts that lie wholly in ``able``."""
    return {host: bits for host, bits in platform.hosts.items() if bits & able == bits}


def _touched(hosts: Mapping[str, Bits], platform: Platform, bits: Bits) -> list[str]:
    """Those of ``hosts`` of which ``bits`` has anything."""
    found = []
    while bits:
        host = platform.host_of((bits & -bits).bit_length() - 1)
        if host in hosts:
            found.append(host)
        bits &= ~(platform.hosts[host] if host else bits & -bits)
    return found
