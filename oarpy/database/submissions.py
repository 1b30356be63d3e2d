"""Jobs come into being here: submitted, or submitted again after their nodes failed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from oarpy.errors import RequestRefused
from oarpy.model.dependencies import Dependency
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.job_dates import NO_DATES, Dates, Moment
from oarpy.model.sharing_types import container_of, is_container_id
from oarpy.model.states import JobId, JobState


@dataclass(frozen=True, slots=True)
class NewJobs:
    """The rows of one submission: one job, or the ``count`` elements of an array.

    With ``parameters`` each element's is appended to the command.  ``stdout`` and
    ``stderr`` may hold ``%jobid%`` and ``%jobname%``.  ``request`` and ``notify``
    are JSON documents.  An advance reservation is to start at its ``not_before``.
    ``asked`` is the submission as no rule had seen it.
    """

    request_id: int | None
    user: str
    queue: str
    project: str
    name: str | None
    types: tuple[str, ...]
    command: str
    directory: str
    stdout: str
    stderr: str
    hold: bool
    message: str
    request: Sequence[object]
    wanted_resources: str
    properties: str | None
    initial_request: str
    umask: int
    notify: Sequence[object] | None
    checkpoint: timedelta | None
    checkpoint_signal: int
    dependencies: tuple[Dependency, ...] = ()
    dates: Dates = NO_DATES
    count: int = 1
    parameters: tuple[str, ...] = ()
    is_reservation: bool = False
    is_interactive: bool = False
    asked: Mapping[str, object] | None = None


class Rows(NamedTuple):
    """What judging a submission needs of the tables, besides the resources."""

    now_s: int
    topology_version: int
    queues: frozenset[str]
    rules: tuple[tuple[int, str, str], ...]


_JUDGED_BY = text(
    """
    SELECT floor(extract(epoch FROM now()))::bigint, (SELECT version FROM topology),
        ARRAY(SELECT queue_name FROM queues),
        (SELECT jsonb_agg(jsonb_build_array(priority, name, rule)) FROM admission_rules WHERE enabled)::text
    """
)

# A sequence gives each number once, and rising; only somebody else's turn in between leaves a
# gap, and then nothing is inserted.
_INSERT = text(
    """
    WITH ids AS MATERIALIZED (
        SELECT min(id) AS first, max(id) AS last
        FROM (SELECT nextval('job_ids') AS id FROM generate_series(1, :count)) AS reserved
    ), shared AS (
        INSERT INTO job_requests (request_id, request, wanted_resources, properties, initial_request, stdout_pattern,
            stderr_pattern, umask, notify, checkpoint, checkpoint_signal, asked)
        SELECT :request_id, CAST(:request AS jsonb), :wanted_resources, :properties, :initial_request, :stdout, :stderr,
            :umask, CAST(:notify AS jsonb), :checkpoint, :checkpoint_signal, CAST(:asked AS jsonb)
        FROM ids WHERE last - first + 1 = :count
        RETURNING job_request_id
    ), elements AS (
        SELECT element, first, first + element - 1 AS job_id, parameter
        FROM ids, generate_series(1, :count) AS element
        LEFT JOIN unnest(CAST(:parameters AS text[])) WITH ORDINALITY AS given(parameter, element) USING (element)
    ), written AS (
        INSERT INTO jobs (job_id, array_id, array_index, job_request_id, job_name, job_user, project, queue_name,
            types, job_type, command, launching_directory, stdout_file, stderr_file, state, message, reservation,
            not_before, deadline, expires_at)
        SELECT job_id, first, element, job_request_id, :name, :user, :project, :queue, CAST(:types AS text[]),
            CAST(:kind AS job_kind), concat_ws(' ', CAST(:command AS text), parameter), :directory,
            output_file(:stdout, job_id, :name, 1), output_file(:stderr, job_id, :name, 1),
            CAST(:state AS job_state), :message, CAST(:reservation AS reservation_state),
            COALESCE(:not_before, now() + :not_before_after), COALESCE(:deadline, now() + :deadline_after),
            COALESCE(:expires, now() + :expires_after)
        FROM shared, elements
    ), with_terminal AS (
        INSERT INTO terminals (job_id) SELECT job_id FROM shared, elements WHERE :kind = 'INTERACTIVE'
    )
    SELECT first FROM ids, shared
    """
)

_UNKNOWN = text(
    """
    SELECT min(wanted) FROM unnest(CAST(:required AS bigint[])) AS wanted
    WHERE NOT EXISTS (SELECT FROM jobs WHERE job_id = wanted)
    """
)
_IS_CONTAINER = text(
    """
    SELECT EXISTS (SELECT FROM unnest(types) AS t WHERE split_part(t, '=', 1) = 'container')
    FROM jobs WHERE job_id = :job
    """
)

_DEPEND = text(
    """
    INSERT INTO job_dependencies (job_id, job_id_required, kind, window_min, window_max)
    SELECT element, d.required, d.kind::dependency_kind, d.earliest_s * interval '1 s', d.latest_s * interval '1 s'
    FROM generate_series(:first, :last) AS element,
        jsonb_to_recordset(CAST(:dependencies AS jsonb)) AS d(required bigint, kind text, earliest_s int, latest_s int)
    """
)


def judged_by(conn: Connection) -> Rows:
    """What submissions are judged by now."""
    now_s, version, queues, rules = conn.execute(_JUDGED_BY).one()
    return Rows(now_s, version, frozenset(queues), tuple(map(tuple, json.loads(rules or "[]"))))


def insert(conn: Connection, new: NewJobs) -> tuple[JobId, ...]:
    """Write the jobs; their ids, consecutive.

    The caller wakes almighty.

    Raises:
        RequestRefused: a job that it depends on does not exist, its container is none, or its queue is gone by now.
    """
    check_named(conn, new)
    first = _inserted(conn, values(new))
    if new.dependencies:
        edges = [
            {"required": d.job_id, "kind": d.kind.value, "earliest_s": d.window_s[0], "latest_s": d.window_s[1]}
            for d in new.dependencies
        ]
        conn.execute(_DEPEND, {"first": first, "last": first + new.count - 1, "dependencies": json.dumps(edges)})
    return tuple(map(JobId, range(first, first + new.count)))


def check_named(conn: Connection, new: NewJobs) -> None:
    """Raises ``RequestRefused`` where a job that ``new`` names does not exist, or is not what it is to be."""
    _check_exist(conn, [dependency.job_id for dependency in new.dependencies], "which this one is to wait for")
    container = container_of(new.types)
    if container is not None and is_container_id(container):
        _check_exist(conn, [int(container)], "which is to be its container")
        if not conn.execute(_IS_CONTAINER, {"job": int(container)}).scalar_one():
            raise RequestRefused(
                f"job {int(container)}, which is to be its container, is no container", exit_status=ExitStatus.DENIED
            )


def _check_exist(conn: Connection, job_ids: Collection[int], role: str) -> None:
    if not job_ids:
        return
    unknown = conn.execute(_UNKNOWN, {"required": list(job_ids)}).scalar_one()
    if unknown is not None:
        raise RequestRefused(f"job {unknown}, {role}, does not exist", exit_status=ExitStatus.DENIED)


def _inserted(conn: Connection, values: Mapping[str, Any]) -> int:
    """The first of the ids that the jobs got."""
    try:
        while (first := conn.execute(_INSERT, values).scalar()) is None:
            pass
    except IntegrityError as error:
        # The trigger's sentence: the queue was removed since it was looked up.
        raise RequestRefused(_sentence(error), exit_status=ExitStatus.DENIED) from error
    return int(first)


def values(new: NewJobs) -> dict[str, Any]:
    """What statements bind that write ``new``."""
    return {
        "request_id": new.request_id,
        "request": json.dumps(new.request),
        "wanted_resources": new.wanted_resources,
        "properties": new.properties,
        "initial_request": new.initial_request,
        "umask": new.umask,
        "notify": None if new.notify is None else json.dumps(new.notify),
        "checkpoint": new.checkpoint,
        "checkpoint_signal": new.checkpoint_signal,
        "count": new.count,
        "parameters": list(new.parameters),
        "name": new.name,
        "user": new.user,
        "project": new.project,
        "queue": new.queue,
        "types": list(new.types),
        "command": new.command,
        "directory": new.directory,
        "stdout": new.stdout,
        "stderr": new.stderr,
        "state": (JobState.HOLD if new.hold else JobState.WAITING).value,
        "message": new.message,
        "asked": None if new.asked is None else json.dumps(new.asked),
        "kind": "INTERACTIVE" if new.is_interactive else "PASSIVE",
        "reservation": "toSchedule" if new.is_reservation else "None",
        **_date("not_before", new.dates.not_before),
        **_date("deadline", new.dates.deadline),
        **_date("expires", new.dates.expires),
    }


def _date(name: str, moment: Moment | None) -> dict[str, Any]:
    """A date as it is, and under another name one that counts from the submission."""
    after = isinstance(moment, timedelta)
    return {name: None if after else moment, f"{name}_after": moment if after else None}


def _sentence(error: IntegrityError) -> str:
    diagnosis = getattr(error.orig, "diag", None)
    return str(getattr(diagnosis, "message_primary", None) or error.orig)


# A statement of its own: the next one must see the copies that somebody made while this waited.
_LOCK_PLACES = text(
    """
    SELECT FROM jobs WHERE (array_id, array_index) IN (
        SELECT array_id, array_index FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    ) ORDER BY job_id FOR NO KEY UPDATE
    """
)
#: Which run of its place in an array, after the first, the copy of each of ``:jobs`` is.  They are numbered on,
#: whichever of them a copy is made of, and of several at once: two of one number would write to the same files.
NEXT_RUNS = """
    last AS MATERIALIZED (
        SELECT array_id, array_index, max(resubmissions) AS number FROM jobs
        WHERE array_id IN (SELECT array_id FROM jobs WHERE job_id = ANY(CAST(:jobs AS bigint[])))
        GROUP BY array_id, array_index
    ), runs AS MATERIALIZED (
        SELECT job_id,
            (number + row_number() OVER (PARTITION BY array_id, array_index ORDER BY job_id))::integer AS number
        FROM jobs JOIN last USING (array_id, array_index) WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    )
"""
_RESUBMIT = text(
    f"""
    WITH {NEXT_RUNS}, old AS (
        SELECT *, nextval('job_ids') AS new_id
        FROM jobs JOIN job_requests USING (job_request_id)
        WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND resubmissions < :limit
          AND NOT EXISTS (SELECT FROM jobs copy WHERE copy.resubmit_job_id = jobs.job_id)
    )
    INSERT INTO jobs (job_id, array_id, array_index, job_request_id, job_name, job_user, project, queue_name, types,
        job_type, command, launching_directory, stdout_file, stderr_file, message, not_before, deadline,
        expires_at, resubmit_job_id, resubmissions)
    SELECT new_id, array_id, array_index, job_request_id, job_name, job_user, project, queue_name, types, job_type,
        command, launching_directory,
        output_file(stdout_pattern, new_id, job_name, number + 1),
        output_file(stderr_pattern, new_id, job_name, number + 1),
        message, not_before, deadline, CASE WHEN started_at IS NULL THEN expires_at END, job_id, number
    FROM old JOIN runs USING (job_id)
    RETURNING resubmit_job_id, job_id
    """
)

_MOVE_DEPENDENCIES = text(
    """
    UPDATE job_dependencies d SET job_id_required = moved.new_id
    FROM unnest(CAST(:old AS bigint[]), CAST(:new AS bigint[])) AS moved(old_id, new_id), jobs waiting
    WHERE d.job_id_required = moved.old_id AND waiting.job_id = d.job_id AND waiting.stopped_at IS NULL
    """
)


def resubmit(conn: Connection, job_ids: Sequence[JobId], *, max_resubmissions: int) -> dict[JobId, JobId]:
    """Submit copies of jobs; each job that got one, with its copy.

    A job gets one copy at most, however often this is asked, and none when it is
    itself the ``max_resubmissions``-th of its chain.  What waits for the old job
    waits for the copy from now on.  The copy waits for nothing: the old job had
    its turn, so what it waited for has happened.  It keeps its place in the
    array.  Its output files have names of their own: with its id for ``%jobid%``, or
    with the number of the run, 2 for the first copy.  The caller wakes almighty.
    """
    if not job_ids:
        return {}
    lock_places(conn, job_ids)
    copies = {
        JobId(old): JobId(new)
        for old, new in conn.execute(_RESUBMIT, {"jobs": list(job_ids), "limit": max_resubmissions})
    }
    move_dependencies(conn, copies)
    return copies


def lock_places(conn: Connection, job_ids: Sequence[JobId]) -> None:
    """Let nobody else number the runs of these jobs' places in their arrays until the transaction ends."""
    conn.execute(_LOCK_PLACES, {"jobs": list(job_ids)})


def move_dependencies(conn: Connection, copies: Mapping[JobId, JobId]) -> None:
    """Let what waits for an old job wait for its copy."""
    if copies:
        conn.execute(_MOVE_DEPENDENCIES, {"old": list(copies), "new": list(copies.values())})
