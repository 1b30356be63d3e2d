"""What a pass decides: at most one decision for each waiting job, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from oarpy.model.sharing_types import MACHINE
from oarpy.model.states import EndCause, JobId
from oarpy.scheduling.sharing import ALONE, Sharing
from oarpy.scheduling.snapshot import Promise

#: Half-open ranges of resource ids, ascending, not touching.
Ranges: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job does not start now, as data.

    ``code`` is one of the constants of ``oarpy.scheduling.explain``; ``numbers``
    what its sentence is filled with.
    """

    code: str
    numbers: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """Give the job these resources now, within its container (``space``) if that is not 0."""

    job_id: JobId
    alternative: int
    walltime_s: int
    resources: Ranges
    space: JobId = MACHINE
    sharing: Sharing = ALONE


@dataclass(frozen=True, slots=True)
class Predict:
    """The job is planned to start later, on these resources."""

    job_id: JobId
    alternative: int
    start_s: int
    walltime_s: int
    resources: Ranges
    why: Why


@dataclass(frozen=True, slots=True)
class Postpone:
    """The job has no planned start: something else must change first."""

    job_id: JobId
    why: Why


@dataclass(frozen=True, slots=True)
class Doom:
    """The job can never start (its dependency can no longer be satisfied, …)."""

    job_id: JobId
    why: Why
    cause: EndCause = EndCause.DEPENDENCY


@dataclass(frozen=True, slots=True)
class SetAside:
    """Deciding on this job raised; ``error`` is the traceback."""

    job_id: JobId
    error: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The advance reservation is accepted: the resources are its own from ``start_s`` on for ``walltime_s``.

    They are its container's (``space``) if that is not 0.
    """

    job_id: JobId
    alternative: int
    start_s: int
    walltime_s: int
    resources: Ranges
    space: JobId = MACHINE


@dataclass(frozen=True, slots=True)
class Refuse:
    """The advance reservation cannot be had as it was asked for."""

    job_id: JobId
    why: Why


@dataclass(frozen=True, slots=True)
class Begin:
    """An accepted reservation starts, on what there is of its resources, until the end that was promised.

    ``missing`` are the others, ``late_s`` is by how much the start was missed.
    """

    start: Start
    missing: Ranges = ()
    late_s: int = 0

    @property
    def job_id(self) -> JobId:
        return self.start.job_id


Decision: TypeAlias = Start | Predict | Postpone | Doom | SetAside | Grant | Refuse | Begin


@dataclass(frozen=True, slots=True)
class Kill:
    """A besteffort job that must go so that ``for_job`` can start, or go on."""

    job_id: JobId
    for_job: JobId


@dataclass(frozen=True, slots=True)
class Idle:
    """A host that is on, can be woken again, and is used by nobody until ``until_s`` (None: no use is planned)."""

    host: str
    until_s: int | None


@dataclass(frozen=True, slots=True)
class Wake:
    """A host that is asleep and that ``job_id`` needs by ``by_s`` (None: at once)."""

    host: str
    by_s: int | None
    job_id: JobId


@dataclass(frozen=True, slots=True)
class Energy:
    """Both sorted by host."""

    idle: tuple[Idle, ...] = ()
    wakes: tuple[Wake, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """``examined`` counts the jobs that were looked at, ``slots`` the gantt's slots.

    ``look_again_s`` is when time alone asks for another decision, other than at a planned start.
    ``resumes`` are the suspended jobs that get back what they had lent, ``broken`` those whose
    planned start is later than the one they were told.
    """

    decisions: tuple[Decision, ...]
    kills: tuple[Kill, ...] = ()
    examined: int = 0
    slots: int = 0
    look_again_s: int | None = None
    resumes: tuple[JobId, ...] = ()
    energy: Energy | None = None
    broken: tuple[JobId, ...] = ()

    def promises(self) -> dict[JobId, Promise]:
        """The planned starts, as the next plan is to know them: in the order of this one."""
        return {
            one.job_id: Promise(one.start_s, one.alternative, one.resources)
            for one in self.decisions
            if isinstance(one, Predict)
        }
