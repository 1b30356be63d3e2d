"""Jobs that exist are given another request, or are submitted once more.

Each edit makes a row of ``job_requests`` of its own, so that whoever decided on the old
request sees that it is no longer the job's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.database import submissions
from oarpy.database.submissions import NEXT_RUNS, NewJobs
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import EndCause, JobId, JobState


class Stored(NamedTuple):
    """A job as it was when it was looked up."""

    job_id: JobId
    array_id: JobId
    array_index: int
    owner: str
    state: JobState
    exit_code: int | None
    is_reservation: bool
    is_interactive: bool
    request_id: int


class Asked(NamedTuple):
    """What the jobs of one submission were asked for; ``document`` is None when nobody knows."""

    document: Mapping[str, Any] | None
    initial_request: str


_STORED = text(
    """
    SELECT job_id, array_id, array_index, job_user, state, exit_code, reservation <> 'None',
        job_type = 'INTERACTIVE', job_request_id
    FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    UNION
    SELECT job_id, array_id, array_index, job_user, state, exit_code, reservation <> 'None',
        job_type = 'INTERACTIVE', job_request_id
    FROM jobs WHERE array_id = ANY(CAST(:arrays AS bigint[]))
    ORDER BY job_id
    """
)
_ASKED = text(
    "SELECT job_request_id, asked, initial_request FROM job_requests WHERE job_request_id = ANY(CAST(:ids AS bigint[]))"
)
_LOCKED = text(
    """
    SELECT job_id, state, job_request_id FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    ORDER BY job_id FOR NO KEY UPDATE
    """
)
_QUEUE = text("SELECT FROM queues WHERE queue_name = :queue FOR KEY SHARE")
_SHARED = """
    INSERT INTO job_requests (request_id, request, wanted_resources, properties, initial_request, stdout_pattern,
        stderr_pattern, umask, notify, checkpoint, checkpoint_signal, asked)
    VALUES (:request_id, CAST(:request AS jsonb), :wanted_resources, :properties, :initial_request, :stdout, :stderr,
        :umask, CAST(:notify AS jsonb), :checkpoint, :checkpoint_signal, CAST(:asked AS jsonb))
    RETURNING job_request_id
"""
# A date that counts from the submission does so still: the job keeps its age.
_REWRITE = text(
    f"""
    WITH shared AS ({_SHARED})
    UPDATE jobs SET job_request_id = shared.job_request_id, job_name = :name, project = :project, queue_name = :queue,
        types = CAST(:types AS text[]), command = given.command, launching_directory = :directory,
        stdout_file = output_file(:stdout, jobs.job_id, :name, resubmissions + 1),
        stderr_file = output_file(:stderr, jobs.job_id, :name, resubmissions + 1),
        message = :message,
        not_before = COALESCE(:not_before, submitted_at + :not_before_after),
        deadline = COALESCE(:deadline, submitted_at + :deadline_after),
        expires_at = COALESCE(:expires, submitted_at + :expires_after)
    FROM shared, unnest(CAST(:jobs AS bigint[]), CAST(:commands AS text[])) AS given(job_id, command)
    WHERE jobs.job_id = given.job_id
    """
)
_REPEAT = text(
    f"""
    WITH shared AS ({_SHARED}), {NEXT_RUNS}, given AS (
        SELECT nextval('job_ids') AS new_id, job_id, command
        FROM unnest(CAST(:jobs AS bigint[]), CAST(:commands AS text[])) AS ordered(job_id, command)
    )
    INSERT INTO jobs (job_id, array_id, array_index, job_request_id, job_name, job_user, project, queue_name,
        types, command, launching_directory, stdout_file, stderr_file, state, message, not_before,
        deadline, expires_at, resubmit_job_id, resubmissions)
    SELECT new_id, old.array_id, old.array_index, shared.job_request_id, :name, old.job_user, :project, :queue,
        CAST(:types AS text[]), given.command, :directory,
        output_file(:stdout, new_id, :name, number + 1),
        output_file(:stderr, new_id, :name, number + 1),
        CAST(:state AS job_state), :message,
        COALESCE(:not_before, now() + :not_before_after), COALESCE(:deadline, now() + :deadline_after),
        COALESCE(:expires, now() + :expires_after), old.job_id, number
    FROM shared, given JOIN jobs old USING (job_id) JOIN runs USING (job_id)
    RETURNING resubmit_job_id, job_id
    """
)
_FORGET_REQUESTS = text(
    """
    DELETE FROM job_requests r WHERE job_request_id = ANY(CAST(:ids AS bigint[]))
        AND NOT EXISTS (SELECT FROM jobs j WHERE j.job_request_id = r.job_request_id)
    """
)
_FORGET_DEPENDENCIES = text("DELETE FROM job_dependencies WHERE job_id = ANY(CAST(:jobs AS bigint[]))")
_DEPEND = text(
    """
    INSERT INTO job_dependencies (job_id, job_id_required, kind, window_min, window_max)
    SELECT element, d.required, d.kind::dependency_kind, d.earliest_s * interval '1 s', d.latest_s * interval '1 s'
    FROM unnest(CAST(:jobs AS bigint[])) AS element,
        unnest(CAST(:required AS bigint[]), CAST(:kinds AS text[]), CAST(:earliest AS int[]), CAST(:latest AS int[]))
            AS d(required, kind, earliest_s, latest_s)
    """
)
# Two edits at once could each close half of a ring.
_NOBODY_ELSE_DEPENDS = text("LOCK TABLE job_dependencies IN SHARE ROW EXCLUSIVE MODE")
_RING = text(
    """
    WITH RECURSIVE before AS (
        SELECT unnest(CAST(:required AS bigint[])) AS job_id
        UNION
        SELECT d.job_id_required FROM before JOIN job_dependencies d USING (job_id)
    )
    SELECT min(job_id) FROM before WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    """
)


def stored(conn: Connection, job_ids: Collection[JobId], array_ids: Collection[JobId]) -> list[Stored]:
    """The jobs with these ids and all elements of these arrays, ascending; nothing is locked."""
    found = conn.execute(_STORED, {"jobs": list(job_ids), "arrays": list(array_ids)})
    return [
        Stored(JobId(job_id), JobId(array_id), index, owner, JobState(state), *rest)
        for job_id, array_id, index, owner, state, *rest in found
    ]


def asked(conn: Connection, request_ids: Collection[int]) -> dict[int, Asked]:
    """What these submissions asked for, before any rule saw it."""
    found = conn.execute(_ASKED, {"ids": list(request_ids)})
    return {request_id: Asked(document, initial) for request_id, document, initial in found}


def locked(conn: Connection, job_ids: Collection[JobId]) -> dict[JobId, tuple[JobState, int]]:
    """State and request of each; nobody can change them until the transaction ends."""
    found = conn.execute(_LOCKED, {"jobs": list(job_ids)})
    return {JobId(job_id): (JobState(state), request_id) for job_id, state, request_id in found}


def rewrite(
    conn: Connection, new: NewJobs, job_ids: Sequence[JobId], commands: Sequence[str], *, depends: bool
) -> None:
    """Let jobs, which the caller has locked and which wait, ask for ``new`` from now on; their age is kept.

    ``depends``: they wait for what ``new`` says, and for nothing else.

    Raises:
        RequestRefused: what is named does not exist, or a job would wait for itself.
    """
    _check(conn, new)
    if depends:
        _check_rings(conn, new, job_ids)
    values = {**submissions.values(new), "jobs": list(job_ids), "commands": list(commands)}
    conn.execute(_REWRITE, values)
    if depends:
        conn.execute(_FORGET_DEPENDENCIES, {"jobs": list(job_ids)})
        _depend(conn, new, job_ids)


def forget_requests(conn: Connection, request_ids: Collection[int]) -> None:
    """Remove those of these requests that no job has any more."""
    conn.execute(_FORGET_REQUESTS, {"ids": list(request_ids)})


def repeat(
    conn: Connection, new: NewJobs, job_ids: Sequence[JobId], commands: Sequence[str], *, depends: bool
) -> dict[JobId, JobId]:
    """Submit jobs that are over once more, as ``new``; each with its copy, which keeps the place in the array.

    Raises:
        RequestRefused: what is named does not exist.
    """
    _check(conn, new)
    submissions.lock_places(conn, job_ids)
    values = {**submissions.values(new), "jobs": list(job_ids), "commands": list(commands)}
    copies = {JobId(old): JobId(copy) for old, copy in conn.execute(_REPEAT, values)}
    submissions.move_dependencies(conn, copies)
    if depends:
        _depend(conn, new, list(copies.values()))
    return copies


def _check(conn: Connection, new: NewJobs) -> None:
    if conn.execute(_QUEUE, {"queue": new.queue}).first() is None:
        raise RequestRefused(f"queue {new.queue} does not exist", exit_status=ExitStatus.DENIED)
    submissions.check_named(conn, new)


def _check_rings(conn: Connection, new: NewJobs, job_ids: Sequence[JobId]) -> None:
    if not new.dependencies:
        return
    conn.execute(_NOBODY_ELSE_DEPENDS)
    required = [dependency.job_id for dependency in new.dependencies]
    ring = conn.execute(_RING, {"required": required, "jobs": list(job_ids)}).scalar_one()
    if ring is not None:
        raise RequestRefused(f"job {ring} would wait for itself", exit_status=ExitStatus.DENIED)


def _depend(conn: Connection, new: NewJobs, job_ids: Sequence[JobId]) -> None:
    if new.dependencies and job_ids:
        conn.execute(
            _DEPEND,
            {
                "jobs": list(job_ids),
                "required": [one.job_id for one in new.dependencies],
                "kinds": [one.kind.value for one in new.dependencies],
                "earliest": [one.window_s[0] for one in new.dependencies],
                "latest": [one.window_s[1] for one in new.dependencies],
            },
        )


class Deleted(NamedTuple):
    """A job that may have been deleted; ``before`` is the state that it was in last.

    ``copy`` is the job that has its place by now; ``deleted_by`` is known when it was not
    its owner.  ``in_time``: not longer ago than may be undone.
    """

    job_id: JobId
    array_id: JobId
    owner: str
    state: JobState
    end_cause: EndCause | None
    started: bool
    is_reservation: bool
    is_interactive: bool
    before: JobState | None
    copy: JobId | None
    deleted_by: str | None
    in_time: bool


_LOCK = text("SELECT FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[])) ORDER BY job_id FOR NO KEY UPDATE")
# Joined, not looked up one by one: without statistics, each look-up would read the whole table.
_DELETED = text(
    """
    WITH before AS MATERIALIZED (
        SELECT DISTINCT ON (job_id) job_id, job_state FROM job_state_logs
        WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND job_state <> 'Error'
        ORDER BY job_id, date_start DESC
    ), copies AS MATERIALIZED (
        SELECT resubmit_job_id AS job_id, max(job_id) AS copy FROM jobs
        WHERE resubmit_job_id = ANY(CAST(:jobs AS bigint[])) GROUP BY resubmit_job_id
    )
    SELECT j.job_id, j.array_id, j.job_user, j.state, j.end_cause, j.started_at IS NOT NULL,
        j.reservation <> 'None', j.job_type = 'INTERACTIVE',
        b.job_state, c.copy, f.asked_by, COALESCE(j.stopped_at > now() - CAST(:grace AS interval), false)
    FROM jobs j LEFT JOIN before b USING (job_id) LEFT JOIN copies c USING (job_id) LEFT JOIN frag_jobs f USING (job_id)
    WHERE j.job_id = ANY(CAST(:jobs AS bigint[])) ORDER BY j.job_id
    """
)
_GIVE_BACK = text(
    """
    WITH given AS (
        SELECT nextval('job_ids') AS new_id, job_id, before
        FROM unnest(CAST(:jobs AS bigint[]), CAST(:states AS job_state[])) AS ordered(job_id, before)
    )
    INSERT INTO jobs (job_id, array_id, array_index, job_request_id, job_name, job_user, project, queue_name,
        types, job_type, command, launching_directory, stdout_file, stderr_file, state, message, submitted_at,
        not_before, deadline, expires_at, resubmit_job_id, resubmissions)
    SELECT new_id, array_id, array_index, job_request_id, job_name, job_user, project, queue_name, types, job_type,
        command, launching_directory, output_file(stdout_pattern, new_id, job_name, resubmissions + 1),
        output_file(stderr_pattern, new_id, job_name, resubmissions + 1), before, message, submitted_at,
        not_before, deadline, expires_at, job_id, resubmissions
    FROM given JOIN jobs USING (job_id) JOIN job_requests USING (job_request_id)
    RETURNING resubmit_job_id, job_id
    """
)
_TAKE_DEPENDENCIES = text(
    """
    WITH taken AS MATERIALIZED (
        SELECT moved.new_id, d.job_id_required, d.kind, d.window_min, d.window_max
        FROM unnest(CAST(:old AS bigint[]), CAST(:new AS bigint[])) AS moved(old_id, new_id)
        JOIN job_dependencies d ON d.job_id = moved.old_id
    ), copies AS MATERIALIZED (
        SELECT resubmit_job_id AS job_id_required, max(job_id) AS copy FROM jobs
        WHERE resubmit_job_id IN (SELECT job_id_required FROM taken) GROUP BY resubmit_job_id
    )
    INSERT INTO job_dependencies (job_id, job_id_required, kind, window_min, window_max)
    SELECT new_id, COALESCE(copy, job_id_required), kind, window_min, window_max
    FROM taken LEFT JOIN copies USING (job_id_required)
    """
)


def deleted(conn: Connection, job_ids: Sequence[JobId], grace: timedelta) -> list[Deleted]:
    """What is known of the end of these jobs, which stay locked: of two who give one back only one does."""
    conn.execute(_LOCK, {"jobs": list(job_ids)})
    return [
        Deleted(
            job_id=JobId(row[0]),
            array_id=JobId(row[1]),
            owner=row[2],
            state=JobState(row[3]),
            end_cause=None if row[4] is None else EndCause(row[4]),
            started=row[5],
            is_reservation=row[6],
            is_interactive=row[7],
            before=None if row[8] is None else JobState(row[8]),
            copy=None if row[9] is None else JobId(row[9]),
            deleted_by=row[10],
            in_time=row[11],
        )
        for row in conn.execute(_DELETED, {"jobs": list(job_ids), "grace": grace})
    ]


def give_back(conn: Connection, states: Mapping[JobId, JobState]) -> dict[JobId, JobId]:
    """New jobs in the places of deleted ones: with their requests, their age and what they waited for.

    What waited for the old one, and waits still, waits for the new one.
    """
    if not states:
        return {}
    values = {"jobs": list(states), "states": [state.value for state in states.values()]}
    copies = {JobId(old): JobId(new) for old, new in conn.execute(_GIVE_BACK, values)}
    submissions.move_dependencies(conn, copies)
    conn.execute(_TAKE_DEPENDENCIES, {"old": list(copies), "new": list(copies.values())})
    return copies
