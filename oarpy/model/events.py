"""OAR's event catalogue: the types that have an effect, and what it is.

Effects on nodes apply at once.  Effects on a job apply once its end is proved,
that is, when it was never launched or is Finishing or over; until then the event
waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from oarpy.model.states import EndCause


class Suspects(Enum):
    """Which hosts an event makes Suspected."""

    NONE = "none"
    EVENT_HOSTS = "event hosts"
    HEAD = "head"
    ALL = "all hosts of the job"


class Resubmits(Enum):
    """Which jobs an event submits again."""

    NONE = "none"
    #: Those that failed before their command began, or that may be repeated.
    FAILED = "failed"
    #: Those that may be repeated and made room for another job.
    DISPLACED = "displaced"
    #: Those that may be repeated and ask for it by their exit status.
    ASKING = "asking"
    #: Those that were killed, or are known to have been, since nobody reached their host.
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class Effect:
    """``fails``: a job that was not launched or is Finishing ends in Error, with this cause.

    ``host_at_fault``: the host itself was found to be bad.  Otherwise only what a
    job met there speaks against it, and jobs are believed with reserve.
    ``by_check``: the suspicion is a health check's, which may lift it again.
    ``tells``: the tag under which the job's owner hears of it.  ``alarms``: the
    administrator hears of it.  ``empties``: the jobs of the event's hosts are over.
    """

    suspects: Suspects = Suspects.NONE
    fails: EndCause | None = None
    resubmits: Resubmits = Resubmits.NONE
    kills: bool = False
    host_at_fault: bool = False
    by_check: bool = False
    tells: str | None = None
    alarms: bool = False
    empties: bool = False


_LAUNCH_FAILED = Effect(Suspects.HEAD, fails=EndCause.LAUNCH_ERROR, resubmits=Resubmits.FAILED)

EFFECTS: dict[str, Effect] = {
    "PING_CHECKER_NODE_SUSPECTED": Effect(
        Suspects.EVENT_HOSTS,
        fails=EndCause.LAUNCH_ERROR,
        resubmits=Resubmits.FAILED,
        host_at_fault=True,
        by_check=True,
    ),
    "PING_CHECKER_NODE_SUSPECTED_END_JOB": Effect(Suspects.EVENT_HOSTS, host_at_fault=True, by_check=True),
    "CPUSET_ERROR": Effect(Suspects.EVENT_HOSTS, fails=EndCause.LAUNCH_ERROR, resubmits=Resubmits.FAILED),
    # Processes are left there that nothing removes, whichever job they come from.
    "CPUSET_CLEAN_ERROR": Effect(Suspects.EVENT_HOSTS, host_at_fault=True, alarms=True),
    "SUSPEND_ERROR": Effect(Suspects.EVENT_HOSTS, kills=True),
    "RESUME_ERROR": Effect(Suspects.EVENT_HOSTS, kills=True),
    "PROLOGUE_ERROR": Effect(Suspects.HEAD, fails=EndCause.PROLOGUE, resubmits=Resubmits.FAILED),
    "EPILOGUE_ERROR": Effect(Suspects.HEAD),
    "CANNOT_WRITE_NODE_FILE": _LAUNCH_FAILED,
    "CANNOT_WRITE_PID_FILE": _LAUNCH_FAILED,
    "CANNOT_CREATE_TMP_DIRECTORY": _LAUNCH_FAILED,
    "LAUNCHING_OAREXEC_TIMEOUT": _LAUNCH_FAILED,
    # The account or its shell is the user's matter, not the node's fault.
    "USER_SHELL": Effect(fails=EndCause.LAUNCH_ERROR),
    "SSH_TRANSFER_TIMEOUT": Effect(Suspects.HEAD, fails=EndCause.LAUNCH_ERROR),
    "BAD_HASHTABLE_DUMP": Effect(Suspects.HEAD, fails=EndCause.LAUNCH_ERROR),
    "EXIT_VALUE_OAREXEC": Effect(Suspects.HEAD, fails=EndCause.LAUNCH_ERROR),
    "EXTERMINATE_JOB": Effect(fails=EndCause.EXTERMINATED),
    "FORCE_TERMINATE_FINISHING_JOB": Effect(Suspects.ALL, fails=EndCause.ADMIN, host_at_fault=True),
    "RESERVATION_NO_NODE": Effect(fails=EndCause.LAUNCH_ERROR),
    # These harm the job alone; OAR stops every queue.
    "SERVER_PROLOGUE_TIMEOUT": Effect(fails=EndCause.PROLOGUE, alarms=True),
    "SERVER_PROLOGUE_EXIT_CODE_ERROR": Effect(fails=EndCause.PROLOGUE, alarms=True),
    "SERVER_EPILOGUE_TIMEOUT": Effect(fails=EndCause.EPILOGUE, alarms=True),
    "SERVER_EPILOGUE_EXIT_CODE_ERROR": Effect(fails=EndCause.EPILOGUE, alarms=True),
    "SWITCH_INTO_TERMINATE_STATE": Effect(resubmits=Resubmits.ASKING),
    "SWITCH_INTO_ERROR_STATE": Effect(fails=EndCause.LAUNCH_ERROR),
    "NODE_FENCED": Effect(resubmits=Resubmits.FENCED),
    "BESTEFFORT_KILL": Effect(resubmits=Resubmits.DISPLACED),
    "FRAG_JOB_REQUEST": Effect(tells="INFO"),
    "PART_LOST": Effect(tells="INFO"),
    # The host contradicts the tables: its spool was wiped, or it spoke of jobs that are not its own.  Or its spool
    # cannot be written.
    "LOG_SUSPECTED": Effect(Suspects.EVENT_HOSTS, host_at_fault=True, alarms=True),
    # What made the host Suspected wrote these in the same transaction.
    "NODE_UNREACHABLE": Effect(alarms=True),
    "FINAUD_ERROR": Effect(alarms=True),
    "NODE_QUARANTINED": Effect(alarms=True),
    # A person's word, and as good as a proof.
    "JOBS_ARE_GONE": Effect(empties=True),
    # Faults of the server itself.
    "MODULE_FAILED": Effect(alarms=True),
    "SCHEDULER_JOB_SET_ASIDE": Effect(alarms=True),
    "EVENT_SET_ASIDE": Effect(alarms=True),
}
