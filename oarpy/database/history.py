"""What a site's users submitted in the past, as far as it can be done again.

For the simulator: the jobs with the time that they really took, the resources and the
queues as they are now.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.database import resources
from oarpy.database.quotas import QuotaReader
from oarpy.database.snapshot import queues
from oarpy.errors import OarError
from oarpy.model.job_types import has_type
from oarpy.model.request import ResourceRequest
from oarpy.model.resource_grammar import request_from_json
from oarpy.model.sharing_types import ALLOWED, CONTAINER, INNER, PLACEHOLDER
from oarpy.model.states import JobId, ResourceState
from oarpy.scheduling.snapshot import Limits, Queue, QuotaRules, Topology, WaitingJob
from oarpy.scheduling.tokens import needs_tokens

_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
# The walltime is what the job had in the end, of the alternative that was chosen.
_JOBS = text(
    """
    SELECT j.job_id, j.job_request_id, r.request::text, j.queue_name, j.job_user, j.project,
        COALESCE(j.job_name, ''), j.types, floor(extract(epoch FROM j.submitted_at))::bigint AS submitted_s,
        ceil(extract(epoch FROM j.not_before))::bigint, floor(extract(epoch FROM j.deadline))::bigint,
        floor(extract(epoch FROM j.expires_at))::bigint, j.alternative, extract(epoch FROM j.walltime)::bigint,
        greatest(ceil(extract(epoch FROM j.stopped_at - j.started_at - j.suspended_for)), 1)::bigint,
        CASE WHEN j.stopped_at IS NULL THEN 'not over yet'
            WHEN j.reservation <> 'None' THEN 'advance reservations'
            WHEN EXISTS (SELECT FROM job_dependencies d WHERE d.job_id = j.job_id) THEN 'that depended on others'
            WHEN j.started_at IS NULL THEN 'never ran' END
    FROM jobs j JOIN job_requests r USING (job_request_id)
    WHERE j.submitted_at >= COALESCE(CAST(:begin AS timestamptz), '-infinity')
      AND j.submitted_at < COALESCE(CAST(:stop AS timestamptz), 'infinity')
    ORDER BY j.submitted_at, j.job_id
    """
)
#: Jobs of these types are where others are, or let others be where they are.
_TIED = (CONTAINER, INNER, PLACEHOLDER, ALLOWED)


class Finished(NamedTuple):
    """A job as it was submitted, and how long it ran, suspensions not counted."""

    job: WaitingJob
    ran_s: int


@dataclass(frozen=True, slots=True)
class History:
    """``left_out`` tells how many jobs of the period are not among these, by the reason."""

    topology: Topology
    queues: tuple[Queue, ...]
    jobs: tuple[Finished, ...]
    left_out: Mapping[str, int]
    quotas: QuotaRules | None


def history(conn: Connection, begin: datetime | None, stop: datetime | None, limits: Limits) -> History:
    """What was submitted from ``begin`` to before ``stop``, None for all there is; begins the transaction.

    All resources are taken as Alive, all queues as active.  Requests are those that users made, but
    a walltime that grew while the job ran is what it grew to.
    """
    conn.execute(_SNAPSHOT)
    every_queue = tuple(replace(queue, active=True) for queue in queues(conn))
    jobs, left_out = _jobs(conn, begin, stop, frozenset(queue.name for queue in every_queue))
    quotas = None
    if jobs:
        first_s, last_s = (at.job.submitted_s for at in (jobs[0], jobs[-1]))
        # What was submitted last may wait as long again as the first did, and longer.
        ahead = replace(limits, quota_horizon_s=2 * (last_s - first_s) + 4 * limits.quota_horizon_s)
        quotas = QuotaReader().read(conn, ahead, first_s)
    return History(_in_service(resources.topology(conn)), every_queue, jobs, left_out, quotas)


def _jobs(
    conn: Connection, begin: datetime | None, stop: datetime | None, known_queues: frozenset[str]
) -> tuple[tuple[Finished, ...], Counter[str]]:
    found = []
    left_out: Counter[str] = Counter()
    requests: dict[int, ResourceRequest | None] = {}
    for job_id, request_id, document, queue, user, project, name, types, *rest in conn.execute(
        _JOBS, {"begin": begin, "stop": stop}
    ):
        submitted_s, not_before_s, deadline_s, expires_s, alternative, walltime_s, ran_s, reason = rest
        if request_id not in requests:
            requests[request_id] = _parsed(document)
        request = requests[request_id]
        if reason is None and any(has_type(types, each) for each in _TIED):
            reason = "in or beside containers and placeholders"
        elif reason is None and queue not in known_queues:
            reason = "of queues that are gone"
        if reason is not None or request is None:
            left_out[reason or "whose requests cannot be read"] += 1
            continue
        longer = _prolonged(request, alternative, walltime_s)
        job = WaitingJob(
            job_id=JobId(job_id),
            queue=queue,
            # One that grew shares its request with no other.
            request_id=request_id if longer is request else -job_id,
            request=longer,
            submitted_s=submitted_s,
            user=user,
            project=project,
            name=name,
            types=tuple(types),
            besteffort="besteffort" in types,
            not_before_s=not_before_s,
            deadline_s=deadline_s,
            expires_s=expires_s,
        )
        if job.types and needs_tokens(job):
            left_out["that needed tokens"] += 1
            continue
        found.append(Finished(job, ran_s))
    return tuple(found), left_out


def _parsed(document: str) -> ResourceRequest | None:
    try:
        return request_from_json(json.loads(document))
    except OarError:
        return None


def _prolonged(request: ResourceRequest, chosen: int | None, walltime_s: int | None) -> ResourceRequest:
    """The request with the walltime that the job had in the end, if that is more than it asked for."""
    if chosen is None or walltime_s is None or not 0 <= chosen < len(request.alternatives):
        return request
    if walltime_s <= request.alternatives[chosen].walltime_s:
        return request
    alternatives = list(request.alternatives)
    alternatives[chosen] = replace(alternatives[chosen], walltime_s=walltime_s)
    return replace(request, alternatives=tuple(alternatives))


def _in_service(topology: Topology) -> Topology:
    size = len(topology.ids)
    states: Sequence[ResourceState] = [ResourceState.ALIVE] * size
    spelled: dict[str, Sequence[Any]] = {
        "state": [ResourceState.ALIVE.value] * size,
        "available_upto": [None] * size,
        "drain": [False] * size,
    }
    properties = {name: spelled.get(name, column) for name, column in topology.properties.items()}
    return replace(topology, states=states, available_upto_s=[None] * size, drain=[False] * size, properties=properties)
