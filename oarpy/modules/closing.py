"""The closing of jobs that are over on their head: when nothing is left of them anywhere."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from oarpy.database import allocations, launches
from oarpy.model.states import EndCause, JobId
from oarpy.modules.parallel_jobs import ParallelJobs
from oarpy.modules.server_programs import ServerPrograms
from oarpy.modules.work import Work

#: Of these ends a job is Terminated, of all others Error.
WELL = frozenset({EndCause.EXIT, EndCause.SIGNAL})


class Closing:
    """Closes jobs of which nothing is left on any host, and whose server epilogue has ended."""

    def __init__(self, parallel: ParallelJobs, programs: ServerPrograms) -> None:
        self._parallel = parallel
        self._programs = programs

    def close(self, conn: Connection, work: Work) -> None:
        """End the jobs that are over, and give back what others hold of hosts on which they are."""
        well: list[JobId] = []
        badly: list[JobId] = []
        spoilt: list[JobId] = []
        partly: list[JobId] = []
        finishing = launches.finishing(conn)
        for job in finishing:
            if job.others and self._parallel.is_being_cleaned(job, work):
                if job.inner_waits or self._parallel.gives_back_more(job.job_id):
                    partly.append(job.job_id)
                continue
            if job.inner_waits is not None:
                if job.inner_waits:
                    partly.append(job.job_id)
                continue
            if self._programs.epilogue_due(job.job_id):
                work.epilogues.append(job)
                continue
            # Not read before: it may end between the two.
            failure = self._programs.epilogue_failure(job.job_id)
            if failure is not None:
                work.events.append(failure)
                spoilt.append(job.job_id)
            else:
                (well if job.cause in WELL else badly).append(job.job_id)
        returned = allocations.give_back(conn, partly)
        work.changed += len(returned)
        work.log += [(job_id, "some of its hosts are free; it is not over on all of them") for job_id in returned]
        closed = launches.close(conn, well, badly, spoilt)
        self._parallel.forget([*well, *badly, *spoilt], work)
        work.changed += closed.jobs
        work.more = work.more or closed.more
        self._programs.forget_epilogues_but({job.job_id for job in finishing})
