"""Leases: which jobs have one, which of them are over, and which clocks hosts are told back.

When a host has certainly killed what had a lease there is worked out by
`oarpy.modules.fencing`; here it is acted upon.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf

from sqlalchemy.engine import Connection

from oarpy.database import launches, selections
from oarpy.database.launches import End, PartEnd, ToRun
from oarpy.model.job_types import REASSIGN, has_type
from oarpy.model.states import ON_NODES, EndCause, JobId, JobState
from oarpy.modules.fencing import Fences
from oarpy.modules.hosts import Hosts
from oarpy.modules.job_ends import fenced
from oarpy.modules.job_launch import runs_on_server
from oarpy.modules.machines import Machines
from oarpy.modules.parts import lost_part
from oarpy.modules.work import Work
from oarpy.ports.executor import Launch
from oarpy.settings import Nodes


class Leases:
    """The leases that are out at each host."""

    def __init__(self, nodes: Nodes, hosts: Hosts, machines: Machines) -> None:
        self._length = nodes.lease
        self._hosts = hosts
        self._machines = machines
        self._fences = Fences(nodes.lease_margin.total_seconds(), time.monotonic())
        #: The shortest lease that is out at each host; None until the tables were asked.
        self._out: dict[str, float] | None = None
        #: Clocks of hosts, and when they were heard.  They count from the next turn on, whose transaction shows that no
        #: other runner had begun by then: what is told back must not be later than that one's beginning.
        self._beats: dict[str, tuple[float, float]] = {}
        #: Hosts that must tell their clock before leased jobs are launched there.
        self._stale: set[str] = set()

    @property
    def look_s(self) -> float:
        """How often the shortest lease wants to be looked at."""
        return min((lease_s / 8 for lease_s in (self._out or {}).values()), default=inf)

    def hear(self, host: str, clock: float) -> bool:
        """A host has told its clock; whether a launch waits for that."""
        self._beats[host] = clock, time.monotonic()
        waited_for = host in self._stale
        self._stale.discard(host)
        return waited_for

    def session_begins(self, host: str, clock: float) -> None:
        """From here on none of its launches counts as fenced for a while."""
        self._beats.pop(host, None)
        self._fences.heard(host, clock, time.monotonic())
        self._fences.grant(host)

    def turn_begins(self) -> None:
        """What was heard until now counts, once the turn is written."""
        beats, self._beats = self._beats, {}
        for name, (clock, at) in beats.items():
            self._fences.heard(name, clock, at)

    def granted(self, host: str, launch: Launch) -> Launch:
        """``launch`` with the clock from which its lease counts."""
        return launch if launch.lease is None else replace(launch, since=self._fences.grant(host))

    def choose(self, jobs: Iterable[ToRun], where: Mapping[JobId, Sequence[str]]) -> set[JobId]:
        """The jobs that are to be killed where nobody is heard; only hosts that let nothing escape can do that."""
        return {job.job_id for job in jobs if not runs_on_server(job.types) and self._has_one(job, where[job.job_id])}

    def write(self, conn: Connection, job_ids: Iterable[JobId]) -> None:
        """Write that these jobs, whose launches begin, have a lease."""
        launches.lease(conn, sorted(job_ids), self._length)

    def on(self, job: ToRun) -> ToRun:
        """``job``, which has one."""
        return replace(job, lease=self._length)

    def may_begin(self, host: str) -> bool:
        """Whether a lease may begin on ``host``; if not, it is asked for its clock."""
        lease_s = self._length.total_seconds()
        fresh = self._fences.is_fresh(host, lease_s, time.monotonic())
        if fresh:
            # From now on it counts as told.
            self._fences.grant(host)
            if self._out is not None:
                self._out[host] = min(lease_s, self._out.get(host, lease_s))
        else:
            self._stale.add(host)
        return fresh

    def end_fenced(self, conn: Connection, work: Work) -> None:
        """End the leased jobs of hosts that have certainly killed them."""
        if self._out is not None and not self._out:
            return
        now = time.monotonic()
        out: dict[str, float] = {}
        ends: dict[JobId, tuple[End, str]] = {}
        robbed: dict[JobId, str] = {}
        parts: list[PartEnd] = []
        for job in launches.leased(conn):
            lease_s = job.lease.total_seconds()
            for name in (job.head, *job.others):
                out[name] = min(lease_s, out.get(name, lease_s))
            over = [name for name in (job.head, *job.others) if self._fences.is_over(name, lease_s, now)]
            if job.state is JobState.FINISHING:
                parts += [PartEnd(job.job_id, name) for name in over if name in job.others]
            elif job.state in ON_NODES and job.head in over:
                ran = job.state is not JobState.LAUNCHING
                ends[job.job_id] = End(job.job_id, EndCause.FENCED, None, None, ran=ran), job.head
            elif job.state in ON_NODES and job.state is not JobState.LAUNCHING and over:
                robbed[job.job_id] = over[0]
        self._out = out
        launches.end_parts(conn, parts)
        finished = launches.finish(conn, [end for end, _ in ends.values()])
        work.changed += len(finished)
        work.more = work.more or bool(finished)
        work.events += [fenced(job_id, ends[job_id][1]) for job_id in finished]
        work.log += [(job_id, f"its host {ends[job_id][1]} is fenced") for job_id in finished]
        wished = selections.wish_dead(conn, sorted(robbed), "oar", EndCause.FENCED) if robbed else []
        work.changed += len(wished)
        work.events += [lost_part(job_id, robbed[job_id], EndCause.FENCED) for job_id in wished]

    def due(self) -> set[str]:
        """The hosts that are to be told their clock now."""
        now = time.monotonic()
        due = {name for name, lease_s in (self._out or {}).items() if self._fences.is_due(name, lease_s, now)}
        return due | self._stale

    def grant(self, host: str) -> float:
        """The clock to tell back to a host that has told one: what is told now counts."""
        return self._fences.grant(host)

    def _has_one(self, job: ToRun, names: Sequence[str]) -> bool:
        if not (has_type(job.types, REASSIGN) or any(self._machines.are_fenced(job.resources, n) for n in names)):
            return False
        sessions = [self._hosts.session(name) for name in names]
        return all(session is not None and "kill" in session.greeting.enforces for session in sessions)
