"""Rows for tests of single modules: resources, jobs, and jobs brought to a state as the server brings them.

All else that a test is not about has a default.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, text
from sqlalchemy.engine import Connection

from oarpy.automata.job import JobEvent as E
from oarpy.database import allocations, jobs
from oarpy.model.states import JobId, JobState

_RESOURCES = text(
    "INSERT INTO resources (network_address, state) "
    "SELECT :host, CAST(:state AS resource_state) FROM generate_series(1, :count) RETURNING resource_id"
)
_REQUEST = text(
    "INSERT INTO job_requests (request, wanted_resources, initial_request, stdout_pattern, stderr_pattern, notify) "
    "VALUES ('[]', '-l /resource_id=1', 'oarsub true', 'OAR.out', 'OAR.err', CAST(:notify AS jsonb)) "
    "RETURNING job_request_id"
)
_IDS = text("SELECT nextval('job_ids') FROM generate_series(1, :count)")
_JOBS = text(
    """
    INSERT INTO jobs (job_id, array_id, array_index, job_request_id, job_name, job_user, queue_name, types, command,
                      launching_directory, stdout_file, stderr_file)
    SELECT id, :array_id, i, :request, :name, :owner, :queue, :types, 'true', '/', 'OAR.out', 'OAR.err'
    FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS element(id, i)
    """
)
_ALLOCATE = text(
    "INSERT INTO allocations (job_id, attempt, space, resources, held, share) "
    "SELECT job_id, attempt, :space, CAST(:resources AS int4multirange), tstzrange(now(), NULL), job_id "
    "FROM jobs WHERE job_id = :job_id"
)

# How each state is reached from Waiting; a job holds resources from ALLOCATED on.
_WAY = {
    JobState.WAITING: [],
    JobState.HOLD: [E.HELD],
    JobState.TO_LAUNCH: [E.ALLOCATED],
    JobState.LAUNCHING: [E.ALLOCATED, E.LAUNCH_BEGUN],
    JobState.RUNNING: [E.ALLOCATED, E.LAUNCH_BEGUN, E.STARTED],
    JobState.SUSPENDED: [E.ALLOCATED, E.LAUNCH_BEGUN, E.STARTED, E.SUSPENDED],
    JobState.FINISHING: [E.ALLOCATED, E.LAUNCH_BEGUN, E.STARTED, E.ENDED],
    JobState.TERMINATED: [E.ALLOCATED, E.LAUNCH_BEGUN, E.STARTED, E.ENDED, E.CLOSED],
    JobState.ERROR: [E.ALLOCATED, E.LAUNCH_BEGUN, E.STARTED, E.ENDED, E.FAILED],
}


def resources(conn: Connection, host: str, count: int = 1, *, state: str = "Alive") -> list[int]:
    """The ids of ``count`` new resources of ``host``."""
    return list(conn.execute(_RESOURCES, {"host": host, "state": state, "count": count}).scalars())


def submitted(
    conn: Connection,
    count: int = 1,
    *,
    owner: str = "alice",
    queue: str = "default",
    types: Sequence[str] = (),
    name: str | None = None,
    notify: Sequence[dict[str, Any]] | None = None,
) -> list[JobId]:
    """The ids of a new array of ``count`` Waiting jobs."""
    ids = list(conn.execute(_IDS, {"count": count}).scalars())
    request = conn.execute(_REQUEST, {"notify": None if notify is None else json.dumps(notify)}).scalar_one()
    conn.execute(
        _JOBS,
        {
            "ids": ids,
            "array_id": ids[0],
            "request": request,
            "name": name,
            "owner": owner,
            "queue": queue,
            "types": list(types),
        },
    )
    return ids


def brought(
    conn: Connection,
    job_ids: Sequence[JobId],
    state: JobState,
    *,
    holds: str = "{[1,2)}",
    space: int = 0,
    **values: Any,
) -> None:
    """Bring Waiting jobs to ``state``, each holding the resources ``holds``; ``values`` come with the last step."""
    for step in _WAY[state]:
        columns: dict[str, Any] = {}
        if step is E.ALLOCATED:
            columns = {"walltime": text("interval '1 h'"), "alternative": 0, "planned_end_at": text("now() + '1 h'")}
            for job_id in job_ids:
                conn.execute(_ALLOCATE, {"job_id": job_id, "resources": holds, "space": space})
        elif step is E.LAUNCH_BEGUN:
            columns = {"head": head_of(conn, holds)}
        elif step is E.STARTED:
            columns = {"started_at": func.now()}
        elif step in (E.CLOSED, E.FAILED):
            columns = {"end_cause": "exit" if step is E.CLOSED else "killed", "exit_code": 0}
            allocations.close(conn, job_ids)
        if step is _WAY[state][-1]:
            columns |= values
        if jobs.transition(conn, job_ids, step, values=columns) != sorted(job_ids):
            raise AssertionError(f"{step} did not happen to all of {job_ids}")


def ended(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Launching or Running jobs become Finishing."""
    jobs.transition(conn, job_ids, E.LAUNCH_FAILED)
    jobs.transition(conn, job_ids, E.ENDED)


def closed(conn: Connection, job_ids: Sequence[JobId], **values: Any) -> None:
    """Finishing jobs become Terminated and give back what they hold."""
    allocations.close(conn, job_ids)
    jobs.transition(conn, job_ids, E.CLOSED, values={"end_cause": "exit"} | values)


def gave_up(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Launching jobs, whose launch is proved not to have begun, become Waiting."""
    allocations.close(conn, job_ids)
    jobs.transition(conn, job_ids, E.NEVER_BEGAN)


def head_of(conn: Connection, held: str) -> str | None:
    """The host of the first resource of ``held``, the text of a multirange."""
    return conn.execute(
        text("SELECT network_address FROM resources WHERE resource_id = lower(CAST(:held AS int4multirange))"),
        {"held": held},
    ).scalar()


def state_of(conn: Connection, job_id: JobId) -> JobState:
    """The state of one job."""
    return JobState(conn.execute(text("SELECT state FROM jobs WHERE job_id = :id"), {"id": job_id}).scalar_one())
