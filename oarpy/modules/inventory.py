"""What a host has when a session begins, compared with what the tables say it was given.

* Another boot: the processes of before are gone; a status that was left is taken, else
  the cause is ``node_rebooted``.
* The same boot with another spool, or a running job that the host knows nothing of:
  nothing is proved; the host becomes Suspected and its jobs keep what they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy.engine import Connection

from oarpy.database import events, health, launches, node_sessions, selections
from oarpy.database.events import Event
from oarpy.database.launches import Known, PartEnd
from oarpy.database.node_sessions import Identity
from oarpy.database.wake import Reader, wake
from oarpy.errors import NodeMisbehaves
from oarpy.model.states import EndCause, JobId, JobState
from oarpy.modules.context import Context
from oarpy.modules.job_ends import end_by_reboot
from oarpy.modules.launching import Launching
from oarpy.modules.leftovers import Leftovers
from oarpy.modules.machines import Machines
from oarpy.modules.parallel_jobs import ParallelJobs
from oarpy.modules.parts import lost_part
from oarpy.ports.executor import Attempt, Greeting, Launch, Order


class Again(NamedTuple):
    """What a host has to be told of again."""

    launches: list[Launch]
    orders: list[Order]


class Inventory:
    """Makes the tables and hosts agree."""

    def __init__(
        self, ctx: Context, machines: Machines, launching: Launching, parallel: ParallelJobs, leftovers: Leftovers
    ) -> None:
        self._ctx = ctx
        self._machines = machines
        self._launching = launching
        self._parallel = parallel
        self._leftovers = leftovers

    def reconcile(self, name: str, greeting: Greeting, before: Identity) -> Again:
        """Compare what a host says of itself with the tables; ``before`` is what it was at its last session.

        Raises:
            NodeMisbehaves: they contradict each other, which has been written.
        """
        rebooted = before.boot_id not in (None, greeting.boot_id)
        wiped = before.spool_id not in (None, greeting.spool_id)
        there = {report.attempt for report in greeting.inventory}
        with self._ctx.transaction(durable=True) as conn:
            self._machines.refresh(conn)
            live = {job_id: job for job_id, job in launches.live(conn).items() if name in (job.head, *job.parts)}
            missing = {job_id: job for job_id, job in live.items() if Attempt(job_id, job.attempt) not in there}
            running = {job_id: job for job_id, job in missing.items() if job.state is not JobState.LAUNCHING}
            contradiction = None
            if not rebooted and missing and (wiped or running):
                contradiction = (
                    "its spool is not the one it was" if wiped else f"it knows nothing of job {next(iter(running))}"
                )
                sentence = f"{contradiction}; it was not rebooted"
                events.append(conn, [Event("LOG_SUSPECTED", hosts=(name,), description=sentence)])
                wake(conn, Reader.ALMIGHTY)
            else:
                # A launch of which the spool of before knows nothing has not begun; in another spool it may have.
                _write_gone(conn, name, missing if wiped else running, running)
                self._write_session(conn, name, greeting, entries=bool(there or live))
                again = self._launches(conn, name, greeting, missing)
        if contradiction is not None:
            raise NodeMisbehaves(f"host {name}: {contradiction}")
        self._leftovers.may_keep(name, something=bool(there or live))
        for job_id, job in live.items():
            if job.others:
                # From now on it is waited for, if that was not known here.
                self._parallel.of(job_id, job)
        parts = {job_id: job for job_id, job in live.items() if job.head != name and job_id not in missing}
        return Again(again, [order for job_id, job in parts.items() for order in self._parallel.likeness(job_id, job)])

    def _write_session(self, conn: Connection, name: str, greeting: Greeting, *, entries: bool) -> None:
        facts = {
            "containment": greeting.containment,
            "enforces": greeting.enforces,
            "oarsh_port": greeting.oarsh_port,
        }
        identity = Identity(greeting.boot_id, greeting.spool_id)
        node_sessions.met(conn, name, identity, facts, entries=entries)
        health.recover(conn, self._ctx.settings.health.tries, name)

    def _launches(
        self, conn: Connection, name: str, greeting: Greeting, missing: Mapping[JobId, Known]
    ) -> list[Launch]:
        """The launches of which the host knows nothing, and is told at once."""
        unknown = launches.launching(
            conn, [job_id for job_id, job in missing.items() if self._is_told(name, job_id, job)]
        )
        where = {job.job_id: (job.head or name, *job.others) for job in unknown}
        keyed = [job.job_id for job in unknown if self._launching.has_key(job, where[job.job_id])]
        pairs = launches.keys(conn, keyed)
        return [
            self._launching.launch(job, name, where[job.job_id], pairs.get(job.job_id), greeting=greeting)
            for job in unknown
        ]

    def _is_told(self, name: str, job_id: JobId, job: Known) -> bool:
        """Whether the host is told at once: all are but heads that wait for others."""
        return not (job.others and job.head == name) and not self._parallel.is_given_up(job_id)


def _write_gone(conn: Connection, name: str, gone: Mapping[JobId, Known], running: Mapping[JobId, Known]) -> None:
    """Write that these are on the host no more; of those that ran there a part, the whole is to die."""
    ended = launches.finish(conn, [end_by_reboot(job_id, job) for job_id, job in gone.items() if job.head == name])
    lost = [job_id for job_id, job in running.items() if job.head != name]
    launches.end_parts(conn, [PartEnd(job_id, name) for job_id in lost])
    events.append(conn, [lost_part(job_id, name, EndCause.NODE_REBOOTED) for job_id in lost])
    if selections.wish_dead(conn, lost, "oar", EndCause.NODE_REBOOTED) or ended:
        wake(conn, Reader.ALMIGHTY)
