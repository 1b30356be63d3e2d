"""What the end of a job is as an exit status, for a shell that waited for it."""

from __future__ import annotations

from oarpy.model.exit_statuses import ExitStatus

#: A process that died of signal n: 128 + n.
_SIGNALLED = 128
#: The job did what it did and ended by itself.
_OWN = frozenset({"exit", "signal"})
#: Somebody or something else ended it.
_ENDED = frozenset({"killed", "besteffort", "container", "expired", "admin", "out_of_memory"})


def exit_status(exit_code: int | None, end_cause: str | None) -> int:
    """The job's own exit status, or one of those that say why it has none.

    ``exit_code`` is the raw wait status.
    """
    if end_cause == "walltime":
        return ExitStatus.WALLTIME
    if end_cause in _ENDED:
        return ExitStatus.JOB_ENDED
    if end_cause in _OWN and exit_code is not None:
        return exit_code >> 8 if exit_code & 0x7F == 0 else _SIGNALLED + (exit_code & 0x7F)
    return ExitStatus.JOB_FAILED


def worst(statuses: list[int]) -> int:
    """One for many: first what went wrong around the jobs, then the highest of their own."""
    for status in (ExitStatus.JOB_FAILED, ExitStatus.JOB_ENDED, ExitStatus.WALLTIME):
        if status in statuses:
            return status
    return max(statuses, default=ExitStatus.OK)
