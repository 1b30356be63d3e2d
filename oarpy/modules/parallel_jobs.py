"""What is next for jobs on several hosts: their head is told, they are given up, or their hosts clean up.

What a runner has heard of them is kept by `oarpy.modules.parts`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from sqlalchemy.engine import Connection

from oarpy.database import launches
from oarpy.database.events import Event
from oarpy.database.launches import End, Finishing, Known
from oarpy.model.states import EndCause, JobId, JobState
from oarpy.modules.hosts import Hosts
from oarpy.modules.job_ends import end_without_a_run
from oarpy.modules.launching import Launching
from oarpy.modules.parts import Parallel, Parts, late_events, lost_part
from oarpy.modules.work import OwnOrders, Work
from oarpy.ports.executor import Attempt, Began, Ended, Order, Refused, Report


class ParallelJobs:
    """The jobs on several hosts; what hosts are to do has to be done in ``clean_s``."""

    def __init__(self, parts: Parts, hosts: Hosts, launching: Launching, orders: OwnOrders, clean_s: float) -> None:
        self._parts = parts
        self._hosts = hosts
        self._launching = launching
        self._orders = orders
        self._clean_s = clean_s

    def of(self, job_id: JobId, job: Known | Finishing) -> Parallel:
        """What is known of one of them."""
        parallel = self._parts.of(Attempt(job_id, job.attempt), job.head or "", job.others, time.monotonic())
        # Another runner may have heard of it, or a person have said so.
        parallel.doubted |= {*job.over} - parallel.gone
        parallel.gone.update(job.over)
        if isinstance(job, Known) and job.state is not JobState.LAUNCHING:
            parallel.begun = True
        return parallel

    def is_given_up(self, job_id: JobId) -> bool:
        parallel = self._parts.get(job_id)
        return parallel is not None and parallel.given_up

    def forget(self, job_ids: Collection[JobId], work: Work) -> None:
        """These are closed, or wait again: no host need keep anything of them."""
        for parallel in filter(None, map(self._parts.get, job_ids)):
            for host in parallel.kept:
                work.over[host].append(parallel.attempt)
        work.settled_jobs += job_ids

    def part_is_over(self, job_id: JobId, job: Known, host: str) -> None:
        """Nothing of it is on ``host`` any more, and it is over on its head."""
        self.of(job_id, job).gone.add(host)

    def head_refuses(self, job_id: JobId, job: Known) -> None:
        """The head has promised that its command does not begin."""
        parallel = self.of(job_id, job)
        self._give_up(parallel)
        parallel.head_gave_up = True

    def have_begun(self, job_ids: Iterable[JobId]) -> list[tuple[JobId, EndCause]]:
        """The commands of these run; those that lost a host while their head began, and why they are to die."""
        found = []
        for parallel in filter(None, map(self._parts.get, job_ids)):
            parallel.begun = True
            if parallel.given_up:
                found.append((parallel.job_id, parallel.cause or parallel.loss or EndCause.VANISHED))
        return found

    def hear_of_part(self, host: str, report: Report, job: Known, work: Work) -> EndCause | None:
        """Take in what a host says of its part of a job; why the job is to die for it, if it is."""
        parallel = self.of(report.attempt.job_id, job)
        if isinstance(report, Began):
            parallel.made.add(host)
        elif isinstance(report, Ended | Refused):
            parallel.gone.add(host)
            cause = report.cause if isinstance(report, Ended) else EndCause.VANISHED
            if job.state is not JobState.LAUNCHING:
                work.over[host].append(report.attempt)
                work.events.append(lost_part(parallel.job_id, host, cause))
                return cause
            if isinstance(report, Ended) and report.event is not None and host not in parallel.kept:
                work.events.append(Event(report.event, parallel.job_id, (host,), report.text))
            # No row says so, and the next runner is to hear of it again: it would make the part anew.
            parallel.kept.add(host)
            parallel.loss = parallel.loss or cause
            ends = isinstance(report, Ended) and report.event is not None and not report.ran
            self._give_up(parallel, cause if ends else None)
        return None

    def advance(self, conn: Connection, work: Work) -> None:
        """Do what is next for those that have not begun: tell the head, give up, wait no longer."""
        now = time.monotonic()
        to_tell: list[JobId] = []
        back: list[JobId] = []
        ends: list[End] = []
        for parallel in self._parts.unbegun():
            if self._is_ready(parallel, now, work):
                parallel.head_told = True
                to_tell.append(parallel.job_id)
            if not parallel.given_up:
                continue
            self._clean(parallel, work)
            if not parallel.head_gave_up:
                self._tell_head_to_refuse(parallel, work)
            elif parallel.cause is not None:
                ends.append(end_without_a_run(parallel.job_id, parallel.cause))
            elif parallel.gone.issuperset({*parallel.others} - self._lost(parallel)) or now >= parallel.deadline:
                # Nothing that a user started has been on hosts that do not answer.
                back.append(parallel.job_id)
        self._launch_heads(conn, to_tell, work)
        finished = launches.finish(conn, ends)
        waiting, killed = launches.return_unbegun(conn, back)
        self.forget(back, work)
        work.changed += len(finished) + len(waiting) + len(killed)
        work.more = work.more or bool(finished)
        work.log += [(job_id, "ended before it began") for job_id in finished]
        work.log += [(job_id, "its hosts were not ready; Waiting again") for job_id in waiting]
        work.log += [(job_id, "killed before it began") for job_id in killed]

    def is_being_cleaned(self, job: Finishing, work: Work) -> bool:
        """Whether hosts besides the head have something of a job that is over there; they are told to clean up."""
        now = time.monotonic()
        parallel = self.of(job.job_id, job)
        parallel.clean(now + self._clean_s)
        self._clean(parallel, work)
        for host in parallel.newly_late(now):
            said = "its part of the job has not been cleaned up in time"
            work.events.append(Event("CPUSET_CLEAN_ERROR", job.job_id, (host,), said))
        return not parallel.is_left

    def gives_back_more(self, job_id: JobId) -> bool:
        """Whether a job has more to give back, which it then does.

        The hosts that keep the rest must have taken too long, or be such that cannot be asked.
        """
        parallel = self._parts.get(job_id)
        if parallel is None or parallel.returned == len(parallel.gone):
            return False
        for name in set(parallel.others) - parallel.gone - parallel.late:
            host = self._hosts.get(name)
            if host is None or host.session is not None or not host.failures:
                return False
        parallel.returned = len(parallel.gone)
        return True

    def tell_others(self, conn: Connection, job_ids: Collection[JobId], work: Work) -> None:
        """What the heads of these jobs have done now holds for their parts."""
        parallel = [job_id for job_id in job_ids if self._parts.get(job_id) is not None]
        for job_id, job in launches.known(conn, parallel).items() if parallel else ():
            for name in job.parts:
                if name in self._hosts:
                    work.orders[name] += self.likeness(job_id, job)

    def likeness(self, job_id: JobId, job: Known) -> list[Order]:
        """What makes a part of a job like what the tables say of it."""
        rests = job.state in (JobState.SUSPENDED, JobState.RESUMING)
        return self._orders.be_like(Attempt(job_id, job.attempt), rests=rests, walltime=job.walltime)

    def _is_ready(self, parallel: Parallel, now: float, work: Work) -> bool:
        """Whether its head is to be told now; it is given up when its parts were not made in time."""
        if parallel.given_up:
            return False
        late = parallel.newly_late(now, self._lost(parallel))
        if late:
            work.events += late_events(parallel, late)
            self._give_up(parallel)
            return False
        return parallel.is_made and not parallel.head_told and self._hosts.session(parallel.head) is not None

    def _lost(self, parallel: Parallel) -> set[str]:
        """Those of its hosts that could not be reached so often in a row that they are Suspected."""
        hosts = ((name, self._hosts.get(name)) for name in parallel.others)
        return {name for name, host in hosts if host is not None and host.session is None and host.suspected}

    def _give_up(self, parallel: Parallel, cause: EndCause | None = None) -> None:
        parallel.give_up(cause, time.monotonic() + self._clean_s)

    def _clean(self, parallel: Parallel, work: Work) -> None:
        """Tell the others to clean up; one that knows nothing of the job promises to keep it so."""
        for name in parallel.to_clean():
            if name not in self._hosts:
                work.needed |= {name} - parallel.doubted
            elif self._hosts.session(name) is not None:
                parallel.told.add(name)
                work.orders[name].append(self._orders.kill(parallel.attempt))

    def _tell_head_to_refuse(self, parallel: Parallel, work: Work) -> None:
        head = parallel.head
        if self._hosts.session(head) is not None and head not in parallel.told:
            parallel.told.add(head)
            work.orders[head].append(self._orders.refuse(parallel.attempt))

    def _launch_heads(self, conn: Connection, job_ids: Collection[JobId], work: Work) -> None:
        pairs = launches.keys(conn, job_ids)
        for job in launches.launching(conn, list(job_ids)):
            head = job.head or ""
            work.launches[head].append(self._launching.launch(job, head, (head, *job.others), pairs.get(job.job_id)))
