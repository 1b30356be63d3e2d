"""The states and causes that stand in the tables, spelled as they stand there."""

from __future__ import annotations

from enum import Enum
from typing import NewType

JobId = NewType("JobId", int)


class JobState(str, Enum):
    """OAR's twelve states of a job."""

    WAITING = "Waiting"
    HOLD = "Hold"
    TO_LAUNCH = "toLaunch"
    TO_ERROR = "toError"
    TO_ACK_RESERVATION = "toAckReservation"
    LAUNCHING = "Launching"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    RESUMING = "Resuming"
    FINISHING = "Finishing"
    TERMINATED = "Terminated"
    ERROR = "Error"


FINAL = frozenset({JobState.TERMINATED, JobState.ERROR})
#: States in which a job holds resources.
HOLDING = frozenset(
    {
        JobState.TO_LAUNCH,
        JobState.LAUNCHING,
        JobState.RUNNING,
        JobState.SUSPENDED,
        JobState.RESUMING,
        JobState.FINISHING,
    }
)
#: States in which processes of a job may be on its hosts; one in Finishing has none left.
ON_NODES = frozenset({JobState.LAUNCHING, JobState.RUNNING, JobState.SUSPENDED, JobState.RESUMING})


class ResourceState(str, Enum):
    """OAR's four states of a resource."""

    ALIVE = "Alive"
    ABSENT = "Absent"
    SUSPECTED = "Suspected"
    DEAD = "Dead"


class QueueState(str, Enum):
    ACTIVE = "Active"
    NOT_ACTIVE = "notActive"


class Ordering(str, Enum):
    """In which order the jobs of a queue are looked at."""

    FIFO = "fifo"
    FAIRSHARE = "fairshare"
    MULTIFACTOR = "multifactor"


class Replan(str, Enum):
    """What becomes of the planned starts that were told: they only move earlier, or count for nothing."""

    EARLIER = "earlier"
    NOTHING = "nothing"


class FragState(str, Enum):
    """How far the wish to kill a job has come."""

    LEON = "LEON"
    TIMER_ARMED = "TIMER_ARMED"
    LEON_EXTERMINATE = "LEON_EXTERMINATE"
    FRAGGED = "FRAGGED"


class EndCause(str, Enum):
    """Why a job is over."""

    EXIT = "exit"
    SIGNAL = "signal"
    WALLTIME = "walltime"
    KILLED = "killed"
    BESTEFFORT = "besteffort"
    LAUNCH_ERROR = "launch_error"
    NODE_REBOOTED = "node_rebooted"
    VANISHED = "vanished"
    OUT_OF_MEMORY = "out_of_memory"
    EXTERMINATED = "exterminated"
    FENCED = "fenced"
    PROLOGUE = "prologue"
    EPILOGUE = "epilogue"
    DEPENDENCY = "dependency"
    NEVER_FITS = "never_fits"
    CONTAINER = "container"
    EXPIRED = "expired"
    RESERVATION = "reservation"
    ADMIN = "admin"


class DependencyKind(str, Enum):
    AFTER = "after"
    AFTEROK = "afterok"
    AFTERNOTOK = "afternotok"
    AFTERANY = "afterany"


class OrderKind(str, Enum):
    """What the runner can be told to do on nodes."""

    KILL = "kill"
    SIGNAL = "signal"
    CHECKPOINT = "checkpoint"
    SUSPEND = "suspend"
    RESUME = "resume"
    CLEAN = "clean"
    CHECK = "check"
    WALLTIME = "walltime"
    ACCESS = "access"
