"""A synthetic cluster and a crowd of jobs on it, the same each time.

Half of the cores are in 64-core hosts, a quarter each in 32- and 16-core hosts, 16 hosts
to a switch, each kind a cluster; 95 % of the hosts are busy.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

from oarpy.model.filters import Comparison, Filter
from oarpy.model.request import Alternative, Group, Level, ResourceRequest
from oarpy.model.states import JobId, ResourceState
from oarpy.scheduling.decide import decide
from oarpy.scheduling.plan import Start
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import HeldJob, Snapshot, Topology, WaitingJob

NOW_S = 1_700_000_000
FILTERS: dict[str, Filter] = {
    "fat": Comparison("host_cores", "=", 64),
    "disk": Comparison("disk", "=", "YES"),
    "gpu": Comparison("gpu", "=", "YES"),
}


def cluster(cores: int) -> tuple[Topology, list[range]]:
    """The topology, and for each host the ids of its cores."""
    rng = random.Random(1)
    columns: dict[str, list[object]] = {
        name: [] for name in ("cluster", "switch", "host", "core", "host_cores", "disk", "gpu", "type")
    }
    hosts: list[range] = []
    for number, (size, share) in enumerate(((64, 0.5), (32, 0.25), (16, 0.25))):
        for index in range(max(1, round(cores * share / size))):
            first = len(columns["core"]) + 1
            hosts.append(range(first, first + size))
            disk = "YES" if rng.random() < 0.5 else "NO"
            values: dict[str, object] = {
                "cluster": number,
                "switch": f"{number}.{index // 16}",
                "host": f"c{len(hosts)}",
                "host_cores": size,
                "disk": disk,
                "gpu": "YES" if len(hosts) % 8 == 4 else "NO",
                "type": "default",
            }
            for name, value in values.items():
                columns[name] += [value] * size
            columns["core"] += range(first, first + size)
    total = len(columns["core"])
    states = [ResourceState.ALIVE] * total
    return Topology(1, range(1, total + 1), states, [None] * total, [False] * total, columns), hosts


def mixed(count: int, hosts: list[range]) -> tuple[WaitingJob, ...]:
    rng = random.Random(2)
    widest = max(0, int(math.log2(len(hosts) / 4)))
    in_cluster = min(Counter(len(host) for host in hosts).values())
    jobs = []
    for number in range(1, count + 1):
        walltime_s = int(math.exp(rng.uniform(math.log(300), math.log(86_400)))) // 60 * 60
        wide = rng.choices(range(widest + 1), [0.75**k for k in range(widest + 1)])[0]
        name = rng.choice(sorted(FILTERS)) if rng.random() < 0.2 else None
        kind = rng.random()
        if kind < 0.5:
            levels = [("host", 2**wide)]
        elif kind < 0.7:
            levels = [("core", 1)]
        elif kind < 0.8:
            levels = [("core", 2 ** rng.randint(1, 5))]
        elif kind < 0.9:
            levels = [("host", 2 ** rng.randint(0, min(3, widest))), ("core", rng.choice((2, 4, 8)))]
        elif kind < 0.95:
            levels = [("cluster", 1), ("host", min(2**wide, max(1, in_cluster // 2)))]
        else:
            levels = [("switch", 1), ("host", min(2 ** rng.randint(0, 2), max(1, in_cluster // 2)))]
        if name == "gpu":
            levels = [(level, min(n, max(1, len(hosts) // 16)) if level == "host" else n) for level, n in levels]
            if levels[0][0] in ("cluster", "switch"):
                levels = [levels[0], ("host", 1)]
        group = Group(tuple(Level(*level) for level in levels), FILTERS[name] if name else None)
        request = ResourceRequest((Alternative((group,), max(walltime_s, 300)),))
        jobs.append(WaitingJob(JobId(number), "default", number, request, NOW_S - count + number))
    return tuple(jobs)


def running(hosts: list[range]) -> tuple[HeldJob, ...]:
    """Groups of one to eight hosts, one in five jobs on half a host, ends within twelve hours."""
    rng = random.Random(3)
    jobs: list[HeldJob] = []
    at = 0
    while at < len(hosts):
        width = min(rng.choice((1, 1, 2, 4, 8)), len(hosts) - at)
        if rng.random() < 0.95:
            first, end = hosts[at].start, hosts[at + width - 1].stop
            if rng.random() < 0.2:
                width, end = 1, first + len(hosts[at]) // 2
            job_id, end_s = JobId(-1 - len(jobs)), NOW_S + rng.randint(1, 43_200)
            jobs.append(HeldJob(job_id, "default", ((first, end),), end_s, NOW_S - 60))
        at += width
    return tuple(jobs)


def told_all(snapshot: Snapshot, complete: Snapshot, platform: Platform) -> Snapshot:
    """The snapshot after what starts has started and all others were told their places."""
    plan = decide(complete, platform)
    started = {one.job_id: one for one in plan.decisions if isinstance(one, Start)}
    return replace(
        snapshot,
        waiting=tuple(job for job in snapshot.waiting if job.job_id not in started),
        held=(
            *snapshot.held,
            *(HeldJob(one.job_id, "default", one.resources, NOW_S + one.walltime_s, NOW_S) for one in started.values()),
        ),
        promises=plan.promises(),
    )
