"""What hosts say of attempts, and what the tables make of it.

A host is believed only about jobs that the tables gave to it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.engine import Connection

from oarpy.database import launches, selections
from oarpy.database.events import Event
from oarpy.database.launches import End, Known, PartEnd
from oarpy.model.states import FINAL, EndCause, JobId, JobState
from oarpy.modules.job_ends import end_of, end_without_a_run, tell_end, tell_memory
from oarpy.modules.parallel_jobs import ParallelJobs
from oarpy.modules.server_programs import ServerPrograms
from oarpy.modules.work import OwnOrders, Work
from oarpy.ports.executor import Began, Ended, Refused, Report, Starting

#: An attempt that never began is blamed on its host from this one on: before, on somebody's death.
BLAMED_ATTEMPT = 3


@dataclass(slots=True)
class _Heard:
    """What the reports of one turn come to."""

    #: How long ago jobs began.
    ages: dict[JobId, timedelta] = field(default_factory=dict)
    ends: dict[JobId, End] = field(default_factory=dict)
    #: Jobs whose launch never began, with their host and attempt.
    unbegun: dict[JobId, tuple[str, int]] = field(default_factory=dict)
    #: Hosts that have a trouble of their own.
    troubled: dict[str, str] = field(default_factory=dict)
    #: Jobs that have lost one of their hosts.
    lost: dict[EndCause, list[JobId]] = field(default_factory=lambda: defaultdict(list))
    #: The ends of parts.
    parts: dict[tuple[JobId, str], Report] = field(default_factory=dict)


class Reports:
    """Takes in what hosts say."""

    def __init__(self, parallel: ParallelJobs, programs: ServerPrograms, orders: OwnOrders) -> None:
        self._parallel = parallel
        self._programs = programs
        self._orders = orders

    def write(self, conn: Connection, reports: Sequence[tuple[str, Report]], work: Work) -> None:
        """Write what has become of jobs."""
        if not reports:
            return
        known = launches.known(conn, {report.attempt.job_id for _, report in reports})
        heard = _Heard()
        # What the head says of the end is heard before what the others say, whoever was first.
        for host, report in sorted(reports, key=lambda said: said[0] in _parts_of(known, said[1])):
            job = known.get(report.attempt.job_id)
            if job is None or job.attempt < report.attempt.number:
                work.distrusted[host] = f"it speaks of job {report.attempt.job_id}, which it was never given"
            else:
                self._take(host, report, job, heard, work)
        self._write(conn, heard, work)

    def _take(self, host: str, report: Report, job: Known, heard: _Heard, work: Work) -> None:
        job_id = report.attempt.job_id
        if job.attempt > report.attempt.number or job.state in FINAL or job.state is JobState.FINISHING:
            if host in job.parts and job.state is JobState.FINISHING and isinstance(report, Ended | Refused):
                heard.parts[job_id, host] = report
                self._parallel.part_is_over(job_id, job, host)
            self._dispose(host, report, work)
        elif host in job.over:
            self._dispose(host, report, work)
        elif host in job.others:
            self._take_of_part(host, report, job, heard, work)
        elif job.head != host:
            work.distrusted[host] = f"it speaks of job {job_id}, which was given to {job.head}"
        else:
            self._take_of_head(host, report, job, heard, work)

    def _take_of_part(self, host: str, report: Report, job: Known, heard: _Heard, work: Work) -> None:
        job_id = report.attempt.job_id
        if job_id in heard.ends and isinstance(report, Ended | Refused):
            heard.parts[job_id, host] = report
            self._parallel.part_is_over(job_id, job, host)
            work.over[host].append(report.attempt)
            return
        if isinstance(report, Ended) and job.state is not JobState.LAUNCHING:
            heard.parts[job_id, host] = report
        cause = self._parallel.hear_of_part(host, report, job, work)
        if cause is not None:
            heard.lost[cause].append(job_id)
        if isinstance(report, Refused) and report.trouble:
            heard.troubled[host] = report.trouble

    def _take_of_head(self, host: str, report: Report, job: Known, heard: _Heard, work: Work) -> None:
        job_id = report.attempt.job_id
        if isinstance(report, Began):
            if job.state is JobState.LAUNCHING:
                heard.ages[job_id] = report.age
            elif job.others:
                # Written by a turn of which that was not known.
                self._parallel.of(job_id, job)
        elif isinstance(report, Ended):
            heard.ends[job_id] = end_of(report)
            work.over[host].append(report.attempt)
            tell_end(job_id, host, report, work)
        elif isinstance(report, Refused):
            if job.state is not JobState.LAUNCHING:
                work.distrusted[host] = f"it says that job {job_id}, which runs, never began"
            else:
                self._take_refusal(host, report, job, heard, work)

    def _take_refusal(self, host: str, report: Refused, job: Known, heard: _Heard, work: Work) -> None:
        job_id = report.attempt.job_id
        work.over[host].append(report.attempt)
        spoilt = self._programs.spoilt(report.attempt)
        if spoilt is not None:
            work.events.append(spoilt)
            heard.ends[job_id] = end_without_a_run(job_id, EndCause.PROLOGUE)
        elif job.others:
            self._parallel.head_refuses(job_id, job)
        else:
            heard.unbegun[job_id] = (host, report.attempt.number)
        if report.trouble:
            heard.troubled[host] = report.trouble

    def _dispose(self, host: str, report: Report, work: Work) -> None:
        """The tables have done with this attempt; let the host have done with it, too."""
        if isinstance(report, Ended | Refused):
            work.over[host].append(report.attempt)
        elif isinstance(report, Began | Starting):
            # Somebody said that nothing of it runs any more.
            work.orders[host].append(self._orders.kill(report.attempt))

    def _write(self, conn: Connection, heard: _Heard, work: Work) -> None:
        started = launches.start(conn, {job_id: age for job_id, age in heard.ages.items() if job_id not in heard.ends})
        for job_id, cause in self._parallel.have_begun(started):
            heard.lost[cause].append(job_id)
        for cause, job_ids in heard.lost.items():
            work.changed += len(selections.wish_dead(conn, job_ids, "oar", cause))
        finished = launches.finish(conn, list(heard.ends.values()))
        _end_parts(conn, heard.parts, work)
        waiting, killed = launches.return_unbegun(conn, list(heard.unbegun))
        work.changed += len(started) + len(finished) + len(waiting) + len(killed)
        work.log += [(job_id, "Running") for job_id in started]
        work.log += [(job_id, f"ended ({heard.ends[job_id].cause.value})") for job_id in finished]
        work.log += [(job_id, "its launch never began; Waiting again") for job_id in waiting]
        work.log += [(job_id, "killed before it began") for job_id in killed]
        for job_id in waiting:
            host, attempt = heard.unbegun[job_id]
            if attempt >= BLAMED_ATTEMPT:
                reason = f"attempt {attempt} never began, as those before it"
                work.events.append(Event("LAUNCHING_OAREXEC_TIMEOUT", job_id, (host,), reason))
        for host, reason in {**heard.troubled, **work.distrusted}.items():
            work.events.append(Event("LOG_SUSPECTED", hosts=(host,), description=reason))


def _end_parts(conn: Connection, parts: Mapping[tuple[JobId, str], Report], work: Work) -> None:
    """Write that parts are over, what they used there, and what is to be told of that."""
    ends = [
        PartEnd(job_id, host, report.cpu, report.peak_mib) if isinstance(report, Ended) else PartEnd(job_id, host)
        for (job_id, host), report in parts.items()
    ]
    for job_id, host in sorted(launches.end_parts(conn, ends)):
        report = parts[job_id, host]
        tell_memory(host, report, work)
        if isinstance(report, Ended) and report.event is not None:
            work.events.append(Event(report.event, job_id, (host,), report.text))


def _parts_of(known: Mapping[JobId, Known], report: Report) -> tuple[str, ...]:
    job = known.get(report.attempt.job_id)
    return () if job is None else job.others
