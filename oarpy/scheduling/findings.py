"""What is in the way of a waiting job, and what would start it earlier: the answer of an inquiry."""

from __future__ import annotations

from dataclasses import dataclass

from oarpy.model.request import Alternative
from oarpy.model.states import JobId
from oarpy.scheduling.plan import Decision, Why


@dataclass(frozen=True, slots=True)
class LevelFacts:
    """Blocks of one level of a request: hosts, or cores.

    ``existing`` are in service, for an inner job those of its container.  Of these are
    ``matching`` those with a resource that the filter matches, ``able`` those that hold
    all that is asked of them when everything is free, ``free`` the same now, and
    ``staying`` those that stay so for the walltime.
    """

    property: str
    needed: int
    existing: int
    matching: int
    able: int
    free: int
    staying: int


@dataclass(frozen=True, slots=True)
class AlternativeFacts:
    """What is true of one ``-l`` were it the only one.

    ``start_s`` is its planned start, ``enough_s`` when as much as it needs is first free, if
    only for a moment; both None where there is none, ``refusal`` then says why.
    """

    alternative: Alternative
    start_s: int | None
    enough_s: int | None
    refusal: Why | None
    groups: tuple[tuple[LevelFacts, ...], ...]


@dataclass(frozen=True, slots=True)
class InTheWay:
    """A job that has ``resources`` of those in question, running (no start) or planned."""

    job_id: JobId
    user: str
    start_s: int | None
    end_s: int
    resources: int


@dataclass(frozen=True, slots=True)
class Change:
    """What would start the job at ``start_s``: ``wanted``, one of its alternatives, changed in one thing.

    ``kind`` is what was changed: alternative (nothing, but there is no other), walltime or
    count; of a count ``group`` and ``level`` say which one, ``beside`` which amount there.
    """

    start_s: int
    kind: str
    index: int
    wanted: Alternative
    alternative: Alternative
    group: int | None = None
    level: int | None = None
    beside: int | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What is in the way of a job.

    ``holders`` hold resources that it is planned on (that it may use, when it has no
    plan), ``takers`` wait, come before it and get them first, ``reservations`` have them
    before its start: the last ones to end, and how many there are.  ``before`` counts all
    jobs before it, ``unplanned`` those among them that were left out.  ``complete``:
    nothing was left out for lack of time.
    """

    decision: Decision
    alternatives: tuple[AlternativeFacts, ...]
    in_question: int
    holders: tuple[InTheWay, ...]
    holding_jobs: int
    holding_resources: int
    takers: tuple[InTheWay, ...]
    taking_jobs: int
    reservations: tuple[InTheWay, ...]
    reserved_jobs: int
    before: int
    unplanned: int
    changes: tuple[Change, ...]
    complete: bool
