"""How attempts end, in the words of the tables, and the events about it."""

from __future__ import annotations

from oarpy.database.events import Event
from oarpy.database.launches import End, Known
from oarpy.model.states import EndCause, JobId, JobState
from oarpy.modules.work import Work
from oarpy.ports.executor import Ended, Report

#: OAR's exit status by which an idempotent job asks to be submitted again.
ASKS_AGAIN = 99 << 8
_SAID = {
    EndCause.NODE_REBOOTED: "its host was rebooted",
    EndCause.VANISHED: "the process that watched it was killed",
}


def end_of(report: Ended) -> End:
    """What a host says of the end of a job's command."""
    return End(
        report.attempt.job_id,
        report.cause,
        report.status,
        report.began,
        report.ran,
        report.cpu,
        report.peak_mib,
        _reason(report),
    )


def _reason(report: Ended) -> str | None:
    match report.cause:
        case EndCause.OUT_OF_MEMORY:
            return report.short_of_memory
        case EndCause.LAUNCH_ERROR if not report.ran:
            return report.text
    return None


def end_without_a_run(job_id: JobId, cause: EndCause) -> End:
    """The end of a job whose command never ran."""
    return End(job_id, cause, None, None, ran=False)


def end_of_idle(job_id: JobId, cause: EndCause) -> End:
    """How a job ends that runs nothing: to hold what it has until its walltime is over is all it had to do."""
    if cause is EndCause.WALLTIME:
        return End(job_id, EndCause.EXIT, 0, None, ran=False)
    return end_without_a_run(job_id, cause)


def end_by_reboot(job_id: JobId, job: Known) -> End:
    return End(job_id, EndCause.NODE_REBOOTED, None, None, ran=job.state is not JobState.LAUNCHING)


def fenced(job_id: JobId, host: str) -> Event:
    return Event("NODE_FENCED", job_id, (host,), "nobody reached its host, which has killed it")


def tell_end(job_id: JobId, host: str, report: Ended, work: Work) -> None:
    """OAR's events about an end that was not quite ordinary."""
    tell_memory(host, report, work)
    if report.event is not None:
        work.events.append(Event(report.event, job_id, (host,), report.text))
    elif report.cause is EndCause.FENCED:
        work.events.append(fenced(job_id, host))
    elif report.cause in _SAID:
        work.events.append(Event("SWITCH_INTO_ERROR_STATE", job_id, (host,), _SAID[report.cause]))
    elif report.status == ASKS_AGAIN:
        work.events.append(Event("SWITCH_INTO_TERMINATE_STATE", job_id, (host,), "it ended with 99"))


def tell_memory(host: str, report: Report, work: Work) -> None:
    """The event about a job, or a part of one, that wanted more memory than it may have."""
    if isinstance(report, Ended) and report.short_of_memory:
        work.events.append(Event("OUT_OF_MEMORY", report.attempt.job_id, (host,), report.short_of_memory))
