"""What the dates of a job allow: it must have started by one and end by another."""

from __future__ import annotations

from dataclasses import replace

from oarpy.model.states import EndCause
from oarpy.scheduling.dependencies import Gate
from oarpy.scheduling.explain import DEADLINE_PASSED, EXPIRED
from oarpy.scheduling.gantt import NEVER_S
from oarpy.scheduling.plan import Doom, Why
from oarpy.scheduling.snapshot import WaitingJob


def latest_start_s(job: WaitingJob) -> int:
    """The last instant at which the job could still start, ``NEVER_S`` without a date."""
    latest_s = NEVER_S if job.expires_s is None else job.expires_s
    if job.deadline_s is not None:
        shortest_s = min(alternative.walltime_s for alternative in job.request.alternatives)
        latest_s = min(latest_s, job.deadline_s - shortest_s)
    return latest_s


def lapsed(job: WaitingJob, now_s: int) -> Doom | None:
    """The end of a job whose last instant to start has passed."""
    if latest_start_s(job) >= now_s:
        return None
    if job.expires_s is not None and job.expires_s < now_s:
        why = Why(EXPIRED, {"expires_s": job.expires_s})
    else:
        why = Why(DEADLINE_PASSED, {"deadline_s": job.deadline_s})
    return Doom(job.job_id, why, EndCause.EXPIRED)


def within_dates(job: WaitingJob, passed: Gate) -> Gate:
    """The gate when the job's own dates are added to it."""
    return replace(
        passed,
        latest_s=passed.latest_s if job.expires_s is None else min(passed.latest_s, job.expires_s),
        ends_by_s=NEVER_S if job.deadline_s is None else job.deadline_s,
    )
