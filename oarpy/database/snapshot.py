"""The scheduler's view of the tables, read at one instant with a few statements.

Elements of an array differ in nothing that matters here but their ids, so the
waiting jobs are read in groups.  What does not change between passes is kept: the
topology until its version changes, requests and waiting jobs while they wait.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.database import reservations, resources, tokens
from oarpy.database.accounting import UsageReader
from oarpy.database.quotas import QuotaReader
from oarpy.errors import OarError
from oarpy.model.ranges import parsed_ranges
from oarpy.model.request import ResourceRequest
from oarpy.model.resource_grammar import request_from_json
from oarpy.model.sharing_types import MACHINE, container_of, is_container_id
from oarpy.model.states import DependencyKind, JobId, JobState, Ordering, QueueState, Replan
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.snapshot import Dependency, HeldJob, Limits, Queue, Snapshot, Topology, WaitingJob

_INSTANT = text(
    """
    SELECT floor(extract(epoch FROM now()))::bigint, version, EXISTS (SELECT FROM job_dependencies),
        EXISTS (SELECT FROM quotas)
    FROM topology
    """
)
_QUEUES = text(
    "SELECT queue_name, priority, state, CASE policy WHEN 'easy' THEN 1 ELSE depth END, ordering, replan FROM queues"
)
_WAITING = """
    SELECT job_request_id, queue_name, floor(extract(epoch FROM submitted_at))::bigint, job_user, project, job_name,
        array_to_json(types)::text, ceil(extract(epoch FROM not_before))::bigint,
        floor(extract(epoch FROM deadline))::bigint, floor(extract(epoch FROM expires_at))::bigint,
        array_agg(job_id ORDER BY job_id)
    FROM jobs WHERE stopped_at IS NULL AND state = 'Waiting' AND reservation = 'None' {more}
    GROUP BY job_request_id, queue_name, submitted_at, job_user, project, job_name, types, not_before, deadline,
        expires_at
    """
_ALL_WAITING = text(_WAITING.format(more=""))
_WAITING_BEHIND = text(_WAITING.format(more="AND job_id > :last"))
# Whatever writes a row, psql included, makes a version of it that bears the number of its transaction.
_MARK = text(
    """
    SELECT COALESCE(max(job_id), 0), count(*), COALESCE(bit_xor(hashint8extended(job_id, xmin::text::bigint)), 0)
    FROM jobs WHERE stopped_at IS NULL AND state = 'Waiting' AND job_id > :after AND job_id <= :last
    """
)
# A reservation that is to start now has the instant of its submission, so it is not late.
_REQUESTED = text(
    """
    SELECT job_id, job_request_id AS request_id, queue_name AS queue,
        floor(extract(epoch FROM submitted_at))::bigint AS submitted_s, job_user AS user, project, job_name AS name,
        array_to_json(types)::text AS types, floor(extract(epoch FROM not_before))::bigint AS not_before_s
    FROM jobs WHERE stopped_at IS NULL AND reservation = 'toSchedule' AND state = 'Waiting'
    ORDER BY job_id
    """
)
_REQUESTS = text("SELECT job_request_id, request FROM job_requests WHERE job_request_id = ANY(CAST(:ids AS bigint[]))")
_DEPENDENCIES = text(
    """
    SELECT d.job_id, d.job_id_required, d.kind, r.state, COALESCE(r.state = 'Terminated' AND r.exit_code = 0, false),
        floor(extract(epoch FROM r.started_at))::bigint, floor(extract(epoch FROM r.stopped_at))::bigint,
        CASE WHEN a.job_id IS NOT NULL THEN ceil(extract(epoch FROM r.planned_end_at + r.suspended_for))::bigint END,
        extract(epoch FROM d.window_min)::bigint, extract(epoch FROM d.window_max)::bigint
    FROM jobs j JOIN job_dependencies d USING (job_id)
    LEFT JOIN jobs r ON r.job_id = d.job_id_required
    LEFT JOIN allocations a ON a.job_id = d.job_id_required AND upper_inf(a.held)
    WHERE j.stopped_at IS NULL AND j.state = 'Waiting'
    ORDER BY d.job_id, d.job_id_required
    """
)
_DEPENDENCIES_MATTER = text(
    """
    SELECT EXISTS (SELECT FROM job_dependencies) AND EXISTS (
        SELECT FROM jobs j JOIN job_dependencies USING (job_id) WHERE j.stopped_at IS NULL AND j.state = 'Waiting')
    """
)
# A job that is ending needs nobody to kill it, so it is nobody's victim.  The planner takes a third
# of all allocations for open; what it is told of the jobs keeps it from reading all that ever were.
_HELD = text(
    """
    SELECT a.job_id, j.queue_name, a.resources::text,
        ceil(extract(epoch FROM COALESCE(j.planned_end_at, lower(a.held)) + j.suspended_for
            + CASE WHEN a.suspended THEN now() - suspended_since(j.job_id) ELSE interval '0' END))::bigint,
        floor(extract(epoch FROM j.started_at))::bigint, j.job_user, j.project, COALESCE(j.job_name, ''), j.types,
        'besteffort' = ANY(j.types) AND j.state <> 'Finishing',
        ceil(extract(epoch FROM COALESCE(f.deadline, f.due_at + :grace)))::bigint, f.for_job, a.suspended,
        ceil(extract(epoch FROM f.due_at))::bigint, COALESCE(ceil(extract(epoch FROM r.checkpoint))::integer, 0),
        j.state, a.space
    FROM allocations a JOIN jobs j USING (job_id)
    LEFT JOIN job_requests r
        ON r.job_request_id = j.job_request_id AND 'besteffort' = ANY(j.types) AND j.state = 'Running'
    LEFT JOIN frag_jobs f ON f.job_id = a.job_id AND f.state <> 'FRAGGED'
    WHERE upper_inf(a.held) AND j.stopped_at IS NULL
      AND j.state NOT IN ('Waiting', 'Hold', 'toAckReservation', 'toError')
    ORDER BY a.job_id
    """
)


_CONTAINERS = text(
    """
    SELECT job_id FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND stopped_at IS NULL
        AND EXISTS (SELECT FROM unnest(types) AS t WHERE split_part(t, '=', 1) = 'container')
    """
)


_LAST_ID = JobId((1 << 63) - 1)


class Reading(NamedTuple):
    """A snapshot, what is kept about its topology, and the jobs whose request cannot be read."""

    snapshot: Snapshot
    platform: Platform
    unreadable: Mapping[JobId, str]


class Mark(NamedTuple):
    """The jobs that wait, up to the ``last`` id, each in one version of its row.

    Of two marks up to one id that are equal nothing about these jobs has changed in between:
    ``versions`` tells apart what the same number of jobs has in any other versions.
    """

    last: JobId = JobId(0)
    jobs: int = 0
    versions: int = 0

    def joined(self, behind: Mark) -> Mark:
        """The mark of these and of those behind them."""
        return Mark(max(self.last, behind.last), self.jobs + behind.jobs, self.versions ^ behind.versions)


class _Group(NamedTuple):
    """What the waiting elements of an array have in common; ``types`` is a list in JSON."""

    request_id: int
    queue: str
    submitted_s: int
    user: str
    project: str
    name: str | None
    types: str
    not_before_s: int | None
    deadline_s: int | None = None
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class _Cluster:
    topology: Topology
    platform: Platform


def queues(conn: Connection) -> tuple[Queue, ...]:
    """All queues."""
    return tuple(
        Queue(name, priority, QueueState(state) is QueueState.ACTIVE, depth, Ordering(ordering), Replan(replan))
        for name, priority, state, depth, ordering, replan in conn.execute(_QUEUES)
    )


class SnapshotReader:
    """Reads snapshots, each with what was kept from the one before."""

    def __init__(self) -> None:
        self._cluster: _Cluster | None = None
        self._usage = UsageReader()
        self._quotas = QuotaReader()
        self._requests: dict[int, ResourceRequest | str] = {}
        self._waiting: dict[_Group, dict[JobId, WaitingJob]] = {}

    def read(self, conn: Connection, limits: Limits, *, supposed: Sequence[str] = ()) -> Reading:
        """The tables as the transaction of ``conn``, a snapshot, sees them.

        ``supposed`` are the types of a job that nobody submitted and that is to be decided on, too.
        """
        return self._read(conn, limits, supposed, None)

    def read_behind(self, conn: Connection, limits: Limits, mark: Mark) -> tuple[Reading, Mark] | None:
        """The same with those waiting jobs only that are not in the mark, and the mark with them.

        None if what the mark is of has changed, or where jobs wait for others.
        """
        if _mark(conn, last=mark.last) != mark or conn.execute(_DEPENDENCIES_MATTER).scalar_one():
            return None
        return self._read(conn, limits, (), mark), mark.joined(_mark(conn, after=mark.last))

    def _read(self, conn: Connection, limits: Limits, supposed: Sequence[str], mark: Mark | None) -> Reading:
        now_s, version, dependencies_exist, quotas_exist = conn.execute(_INSTANT).one()
        if self._cluster is None or self._cluster.topology.version != version:
            topology = resources.topology(conn)
            self._cluster = _Cluster(topology, Platform(topology))
        every_queue = queues(conn)
        requested = {JobId(row.pop("job_id")): _Group(**row) for row in map(dict, conn.execute(_REQUESTED).mappings())}
        found = conn.execute(_ALL_WAITING) if mark is None else conn.execute(_WAITING_BEHIND, {"last": mark.last})
        groups = {_Group(*shared): job_ids for *shared, job_ids in found.all()}
        self._read_requests(conn, {group.request_id for group in (*groups, *requested.values())}, forget=mark is None)
        dependencies = _dependencies(conn) if dependencies_exist and groups else {}
        waiting, unreadable = self._waiting_jobs(groups, dependencies, forget=mark is None)
        usage = self._usage.read(conn, every_queue, limits, now_s)
        held = _held(conn, limits)
        reserved = reservations.reserved(conn)
        containers = _containers([supposed, *(json.loads(group.types) for group in requested.values())])
        containers |= _containers(job.types for job in waiting if job.types) | {one.space for one in reserved}
        snapshot = Snapshot(
            *(now_s, self._cluster.topology, every_queue, waiting, held, limits),
            put_off=_put_off(conn, containers, (*waiting, *held)),
            usage=usage,
            tokens=tokens.counts(conn, {json.dumps(supposed), *(group.types for group in groups)}, limits),
            quotas=self._quotas.read(conn, limits, now_s) if quotas_exist else None,
            requested=self._requested(requested, unreadable),
            reserved=reserved,
        )
        return Reading(snapshot, self._cluster.platform, unreadable)

    def _requested(self, groups: Mapping[JobId, _Group], unreadable: dict[JobId, str]) -> tuple[WaitingJob, ...]:
        """The reservations that are asked for; those whose request cannot be read go to ``unreadable``."""
        found: list[WaitingJob] = []
        for job_id, group in groups.items():
            request = self._requests[group.request_id]
            if isinstance(request, str):
                unreadable[job_id] = request
            else:
                found.append(_waiting_job(job_id, group, request, ()))
        return tuple(found)

    def _waiting_jobs(
        self,
        groups: Mapping[_Group, Sequence[JobId]],
        dependencies: Mapping[JobId, tuple[Dependency, ...]],
        *,
        forget: bool,
    ) -> tuple[tuple[WaitingJob, ...], dict[JobId, str]]:
        """The jobs of these groups, and why the requests of others cannot be read; ``forget``: there are no more."""
        kept: dict[_Group, dict[JobId, WaitingJob]] = {}
        found: list[WaitingJob] = []
        unreadable: dict[JobId, str] = {}
        for group, job_ids in groups.items():
            request = self._requests[group.request_id]
            if isinstance(request, str):
                unreadable.update(dict.fromkeys(job_ids, request))
                continue
            known = self._waiting.get(group, {})
            elements = {}
            for job_id in job_ids:
                job = known.get(job_id)
                required = dependencies.get(job_id, ())
                if job is None or job.dependencies != required:
                    job = _waiting_job(job_id, group, request, required)
                elements[job_id] = job
            kept[group] = elements
            found += elements.values()
        if forget:
            self._waiting = kept
        else:
            self._waiting.update(kept)
        return tuple(found), unreadable

    def _read_requests(self, conn: Connection, wanted: set[int], *, forget: bool) -> None:
        missing = wanted - self._requests.keys()
        if forget:
            self._requests = {number: request for number, request in self._requests.items() if number in wanted}
        if missing:
            for request_id, document in conn.execute(_REQUESTS, {"ids": list(missing)}).all():
                try:
                    self._requests[request_id] = request_from_json(document)
                except OarError as error:
                    self._requests[request_id] = str(error)


def _waiting_job(
    job_id: JobId, group: _Group, request: ResourceRequest, dependencies: tuple[Dependency, ...]
) -> WaitingJob:
    types = tuple(json.loads(group.types))
    return WaitingJob(
        job_id=job_id,
        queue=group.queue,
        request_id=group.request_id,
        request=request,
        submitted_s=group.submitted_s,
        user=group.user,
        project=group.project,
        name=group.name or "",
        types=types,
        besteffort="besteffort" in types,
        not_before_s=group.not_before_s,
        deadline_s=group.deadline_s,
        expires_s=group.expires_s,
        dependencies=dependencies,
    )


def waiting_mark(conn: Connection) -> Mark:
    """All jobs that wait, those whose reservation is asked for among them."""
    return _mark(conn)


def _mark(conn: Connection, *, after: int = 0, last: JobId | None = None) -> Mark:
    found = conn.execute(_MARK, {"after": after, "last": _LAST_ID if last is None else last}).one()
    return Mark(*found) if last is None else Mark(last, *found[1:])


def _dependencies(conn: Connection) -> dict[JobId, tuple[Dependency, ...]]:
    found: dict[JobId, tuple[Dependency, ...]] = {}
    for job_id, required, kind, state, succeeded, started_s, ended_s, end_s, soonest, latest in conn.execute(
        _DEPENDENCIES
    ).all():
        dependency = Dependency(
            required=JobId(required),
            kind=DependencyKind(kind),
            state=JobState(state) if state is not None else None,
            succeeded=succeeded,
            started_s=started_s,
            ended_s=ended_s,
            planned_end_s=end_s,
            window_s=(soonest, latest),
        )
        found[JobId(job_id)] = (*found.get(JobId(job_id), ()), dependency)
    return found


def _containers(types: Iterable[Sequence[str]]) -> set[JobId]:
    """The containers that are meant by their id."""
    named = (container_of(each) for each in types)
    return {JobId(int(name)) for name in named if name and is_container_id(name)}


def _put_off(
    conn: Connection, containers: AbstractSet[JobId], present: Iterable[WaitingJob | HeldJob]
) -> frozenset[JobId]:
    """Those of the ``containers`` that neither wait nor hold resources, and are not over."""
    wanted = containers - {MACHINE}
    if not wanted:
        return frozenset()
    wanted -= {job.job_id for job in present}
    return frozenset(conn.execute(_CONTAINERS, {"jobs": list(wanted)}).scalars()) if wanted else frozenset()


def _held(conn: Connection, limits: Limits) -> tuple[HeldJob, ...]:
    found = conn.execute(_HELD, {"grace": timedelta(seconds=limits.kill_grace_s)})
    return tuple(
        HeldJob(
            job_id=job_id,
            queue=queue,
            resources=parsed_ranges(held),
            end_s=end_s,
            started_s=started_s,
            user=user,
            project=project,
            name=name,
            types=tuple(types),
            besteffort=besteffort,
            killing_until_s=killing_until_s,
            killed_for=killed_for,
            suspended=suspended,
            killing_from_s=killing_from_s,
            checkpoint_s=checkpoint_s,
            state=JobState(state),
            space=space,
        )
        for (
            job_id,
            queue,
            held,
            end_s,
            started_s,
            user,
            project,
            name,
            types,
            besteffort,
            killing_until_s,
            killed_for,
            suspended,
            killing_from_s,
            checkpoint_s,
            state,
            space,
        ) in found.all()
    )
