"""Everything a pass may know, as immutable data.

``oarpy.database.snapshot`` reads it from the tables, the simulator and the tests
build it by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from oarpy.model.quotas import Rule
from oarpy.model.request import ResourceRequest
from oarpy.model.sharing_types import MACHINE
from oarpy.model.states import DependencyKind, JobId, JobState, Ordering, Replan, ResourceState
from oarpy.scheduling.usage import NOTHING_USED, USUAL_FACTORS, USUAL_SHARES, Factors, Shares, Usage


@dataclass(frozen=True, slots=True)
class Topology:
    """The resources, one column per property, in the site's order of preference.

    ``ids[i]``, ``states[i]``, ``available_upto_s[i]`` and every
    ``properties[name][i]`` speak of the same resource.  ``version`` changes when
    anything here does, so whatever is derived from a topology (blocks, filters'
    bitsets) may be kept for as long as the version stays.

    ``properties`` holds every column that a filter or a level may name,
    ``resource_id``, ``type``, ``network_address`` and ``state`` among them; a
    value is an int, float, str, bool or None (unknown).

    Alive resources can be used now, unless ``drain`` is set.  Absent ones can be
    planned on only with an ``available_upto_s`` in the future (they can be
    woken, none of them now).  Suspected and Dead ones are never used.
    """

    version: int
    ids: Sequence[int]
    states: Sequence[ResourceState]
    available_upto_s: Sequence[int | None]
    drain: Sequence[bool]
    properties: Mapping[str, Sequence[object]]


@dataclass(frozen=True, slots=True)
class Queue:
    """``depth``: how many jobs get a reservation; None is all (conservative), 1 is EASY.

    ``replan``: whether the planned starts that jobs were told are kept, or made again from nothing.
    """

    name: str
    priority: int
    active: bool = True
    depth: int | None = None
    ordering: Ordering = Ordering.FIFO
    replan: Replan = Replan.EARLIER


@dataclass(frozen=True, slots=True)
class Dependency:
    """``job_id`` waits for ``required``, whose state is given as it is now.

    ``state`` is None when no such job exists any more; ``succeeded`` is whether
    a finished job ended with status 0; ``planned_end_s`` is that of a job that
    holds resources.  The window bounds the start relative to the required
    job's start (after) or end (the others).
    """

    required: JobId
    kind: DependencyKind
    state: JobState | None
    succeeded: bool = False
    started_s: int | None = None
    ended_s: int | None = None
    planned_end_s: int | None = None
    window_s: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job in state Waiting.

    ``request_id`` is the same for all jobs that share one ``request`` object
    (the elements of an array), so work on requests can be shared.  The job must end
    by ``deadline_s`` and is given up when it has not started by ``expires_s``.
    """

    job_id: JobId
    queue: str
    request_id: int
    request: ResourceRequest
    submitted_s: int
    user: str = ""
    project: str = ""
    name: str = ""
    types: tuple[str, ...] = ()
    besteffort: bool = False
    not_before_s: int | None = None
    dependencies: tuple[Dependency, ...] = ()
    deadline_s: int | None = None
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that holds resources: toLaunch to Finishing.

    ``end_s`` is its planned end; one that lies in the past means that the job
    overruns: it is assumed to hold its resources a little longer, and nobody
    gets them before they are free.  ``killing_until_s`` is the kill deadline of
    a job that is being killed, ``killed_for`` the job it dies for; until
    ``killing_from_s`` it is left alone to save its work.  ``checkpoint_s`` is how
    long before its death it wants to be told.
    ``resources`` are half-open ranges of resource ids, ascending.  ``space`` is the
    job's container, 0 if it is in none.  One that is ``suspended`` lends what it can
    (see `Limits`) to others; in state Resuming it wants that back.
    """

    job_id: JobId
    queue: str
    resources: tuple[tuple[int, int], ...]
    end_s: int
    started_s: int | None = None
    user: str = ""
    project: str = ""
    name: str = ""
    types: tuple[str, ...] = ()
    besteffort: bool = False
    killing_until_s: int | None = None
    killed_for: JobId | None = None
    suspended: bool = False
    state: JobState = JobState.RUNNING
    space: JobId = MACHINE
    killing_from_s: int | None = None
    checkpoint_s: int = 0


class TokenCount(NamedTuple):
    """How many tokens of a kind are free, None when that is not known.

    Those of a job that started at ``seen_s`` or later are counted as free still.
    """

    free: int | None
    seen_s: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """An accepted advance reservation whose job has not started: ``resources`` are its own for ``[start_s, end_s)``.

    ``on_hold``: somebody keeps the job from starting; nobody else gets what it reserved.
    ``space`` is the container in which it lies, 0 if in none.
    """

    job_id: JobId
    queue: str
    alternative: int
    start_s: int
    end_s: int
    resources: tuple[tuple[int, int], ...]
    user: str = ""
    project: str = ""
    name: str = ""
    types: tuple[str, ...] = ()
    besteffort: bool = False
    on_hold: bool = False
    space: JobId = MACHINE


@dataclass(frozen=True, slots=True)
class Limits:
    """What the site configured for a pass.

    ``grid_s``: planned lengths are rounded up to it.  ``plan_first``: how many
    jobs are fully planned; those behind are only tested for now (None: all are
    planned).  ``starts_only``: nobody is told of later starts, so a job behind those
    that stands where it was told, and cannot start now, need not be decided on.
    ``moves``: how many planned starts that were told may move earlier, other than to now;
    the turn of the others comes with the next pass.
    ``security_s`` is what a job may need beyond its walltime to be gone,
    ``kill_grace_s`` what one that is being killed may need.  A besteffort job starts
    where its resources are free for ``besteffort_s``, even if that is less than its
    walltime: it may be killed at any time.  Suspended jobs lend their resources of the
    types ``lent_types`` and keep the others.
    ``jobs_per_user``: how many waiting jobs of one user are looked at in queues of one
    priority (None: all).  ``shares`` and ``factors`` are for queues that are not ordered
    by submission.
    A host that is woken is on after ``wake_s``; with ``energy`` the plan tells which
    hosts may sleep.
    A count of tokens is believed for ``token_valid_s``, and a job may take
    ``token_settle_s`` to fetch its own.

    A reservation waits for ``reservation_wait_s`` for those of its resources that are not
    there at its start; besteffort jobs on them are killed ``reservation_kill_s`` before it.
    """

    grid_s: int = 60
    security_s: int = 60
    kill_grace_s: int = 20
    besteffort_s: int = 300
    plan_first: int | None = None
    starts_only: bool = False
    moves: int = 2000
    lent_types: tuple[str, ...] = ("default",)
    quota_types: tuple[str, ...] = ("default",)
    quota_horizon_s: int = 60 * 86_400
    quota_zone: str | None = None
    jobs_per_user: int | None = None
    shares: Shares = USUAL_SHARES
    factors: Factors = USUAL_FACTORS
    token_settle_s: int = 30
    token_valid_s: int = 30
    energy: bool = False
    wake_s: int = 0
    reservation_wait_s: int = 300
    reservation_kill_s: int = 60


@dataclass(frozen=True, slots=True)
class QuotaRules:
    """``sets`` of rules by name; ``calendar`` says from when on which of them holds, in order of time.

    Without a calendar the set ``default`` always holds.  With one nothing is known from
    ``until_s`` on.  Resources of other ``types`` are not counted.
    """

    sets: Mapping[str, tuple[Rule, ...]]
    calendar: tuple[tuple[int, str], ...] = ()
    until_s: int = 1 << 62
    types: tuple[str, ...] = ("default",)


class Promise(NamedTuple):
    """The place that a waiting job was told."""

    start_s: int
    alternative: int
    resources: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent view: queues in any order, jobs of a queue in submission order.

    ``put_off`` are containers that jobs are to lie in and that neither wait nor hold
    resources: they are on hold, or their reservation is being settled.  ``tokens`` has
    every kind that a waiting job needs.

    ``requested`` are advance reservations to be accepted or refused; each is to start at its
    ``not_before_s``.  ``reserved`` are those that were accepted.
    ``promises`` are the places that waiting jobs were told, in the order of that plan.
    """

    now_s: int
    topology: Topology
    queues: tuple[Queue, ...]
    waiting: tuple[WaitingJob, ...]
    held: tuple[HeldJob, ...] = ()
    limits: Limits = Limits()
    put_off: frozenset[JobId] = frozenset()
    usage: Usage = NOTHING_USED
    quotas: QuotaRules | None = None
    tokens: Mapping[str, TokenCount] = field(default_factory=dict)
    requested: tuple[WaitingJob, ...] = ()
    reserved: tuple[Reservation, ...] = ()
    promises: Mapping[JobId, Promise] = field(default_factory=dict)
