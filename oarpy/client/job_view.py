"""What anybody may see of jobs, read from the views of ``oar_user``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from oarpy.client.connection import Connection
from oarpy.model.ranges import parsed_ranges, written_ranges

if TYPE_CHECKING:
    from oarpy.model.filters import Filter

#: What ``--sql`` may name: OAR's columns of its table of jobs.
COLUMNS = {
    "job_id": "job_id",
    "array_id": "array_id",
    "array_index": "array_index",
    "job_name": "job_name",
    "job_user": "job_user",
    "project": "project",
    "queue_name": "queue_name",
    "state": "state",
    "message": "message",
    "exit_code": "exit_code",
    "resubmit_job_id": "resubmit_job_id",
    "job_type": "job_type",
    "reservation": "reservation",
    "launching_directory": "launching_directory",
    "command": "command",
    "properties": "properties",
    "submission_time": "extract(epoch FROM submitted_at)",
    "start_time": "extract(epoch FROM started_at)",
    "stop_time": "extract(epoch FROM stopped_at)",
}


class Selection(NamedTuple):
    """Which jobs: ids and arrays name ended ones too, as ``filter`` does; else the live ones of ``user``, or all.

    ``mine``: those of the one who asks, whom the database knows.
    """

    job_ids: tuple[int, ...] = ()
    array_ids: tuple[int, ...] = ()
    user: str | None = None
    mine: bool = False
    filter: Filter | None = None


class Line(NamedTuple):
    """A job in a table; dates are seconds since the epoch."""

    job_id: int
    array_id: int
    array_index: int
    name: str | None
    user: str
    state: str
    queue: str
    message: str
    why: str | None
    submitted_s: int
    started_s: int | None
    stopped_s: int | None


class Event(NamedTuple):
    """Something that happened to a job."""

    event_id: int
    job_id: int
    type: str
    date_s: int
    hosts: list[str]
    description: str


class Detail(NamedTuple):
    """A job in full; dates are seconds since the epoch, ``walltime_s`` that of the chosen or first alternative."""

    job_id: int
    array_id: int
    array_index: int
    name: str | None
    project: str
    user: str
    state: str
    wanted_resources: str
    types: list[str]
    queue: str
    command: str
    exit_code: int | None
    directory: str
    stdout: str
    stderr: str
    job_type: str
    properties: str | None
    reservation: str
    walltime_s: int | None
    submitted_s: int
    started_s: int | None
    stopped_s: int | None
    initial_request: str | None
    message: str
    predicted_s: int | None
    resubmit_job_id: int | None
    end_cause: str | None
    why: str | None
    last_karma: float | None
    priority: float | None
    resources: tuple[tuple[int, int], ...]
    reserved: tuple[tuple[int, int], ...]


_LINES = """
    SELECT job_id, array_id, array_index, job_name, job_user, state, queue_name, message, why,
        extract(epoch FROM submitted_at)::bigint, extract(epoch FROM started_at)::bigint,
        extract(epoch FROM stopped_at)::bigint
    FROM oar.visible_jobs WHERE {condition} ORDER BY job_id
"""
_DETAILS = """
    SELECT job_id, array_id, array_index, job_name, project, job_user, state, wanted_resources, types, queue_name,
        command, exit_code, launching_directory, stdout_file, stderr_file, job_type, properties, reservation,
        coalesce(extract(epoch FROM walltime)::integer, (request -> coalesce(alternative, 0)::integer ->> 1)::integer),
        extract(epoch FROM submitted_at)::bigint, extract(epoch FROM started_at)::bigint,
        extract(epoch FROM stopped_at)::bigint, initial_request, message,
        extract(epoch FROM coalesce(started_at, predicted_start_at,
            CASE WHEN reservation <> 'None' AND stopped_at IS NULL THEN not_before END))::bigint,
        resubmit_job_id, end_cause, why, last_karma, priority, assigned_resources::text, reserved_resources::text
    FROM oar.visible_jobs WHERE {condition} ORDER BY job_id
"""


def lines(conn: Connection, selection: Selection) -> list[Line]:
    """The jobs of ``selection``, ascending, with what a table shows of them."""
    condition, parameters = _condition(selection)
    return [Line(*row) for row in conn.rows(_LINES.format(condition=condition), parameters)]


def states(conn: Connection, selection: Selection) -> list[tuple[int, str]]:
    """Id and state of the jobs of ``selection``, ascending."""
    condition, parameters = _condition(selection)
    statement = f"SELECT job_id, state FROM oar.visible_jobs WHERE {condition} ORDER BY job_id"
    return [(job_id, state) for job_id, state in conn.rows(statement, parameters)]


def details(conn: Connection, selection: Selection) -> list[Detail]:
    """The jobs of ``selection``, ascending, in full."""
    condition, parameters = _condition(selection)
    rows = conn.rows(_DETAILS.format(condition=condition), parameters)
    return [Detail._make((*row[:-2], *(parsed_ranges(each or "{}") for each in row[-2:]))) for row in rows]


def now_s(conn: Connection) -> int:
    """The server's clock."""
    return int(conn.value("SELECT extract(epoch FROM now())::bigint"))


def events(conn: Connection, job_ids: Sequence[int]) -> list[Event]:
    """What happened to these jobs, oldest first."""
    rows = conn.rows(
        """
        SELECT event_id, job_id, type, extract(epoch FROM date)::bigint, hosts, description
        FROM oar.visible_events WHERE job_id = ANY(%s::bigint[]) ORDER BY date, event_id
        """,
        (list(job_ids),),
    )
    return [Event(*row) for row in rows]


def dependencies(conn: Connection, job_ids: Sequence[int]) -> dict[int, list[int]]:
    """For each job that waits for others, the ids of these."""
    waits: dict[int, list[int]] = {}
    for job_id, required in conn.rows(
        """
        SELECT job_id, job_id_required FROM oar.visible_dependencies
        WHERE job_id = ANY(%s::bigint[]) ORDER BY job_id, job_id_required
        """,
        (list(job_ids),),
    ):
        waits.setdefault(job_id, []).append(required)
    return waits


def hosts(conn: Connection, ranges: Iterable[tuple[int, int]]) -> dict[int, str]:
    """The ``network_address`` of each resource in ``ranges`` that still exists and has one."""
    wanted = written_ranges(ranges)
    if wanted == "{}":
        return {}
    return dict(
        conn.rows(
            "SELECT resource_id, network_address FROM oar.visible_resources"
            " WHERE network_address <> '' AND resource_id <@ %s::int4multirange ORDER BY resource_id",
            (wanted,),
        )
    )


def _condition(selection: Selection) -> tuple[str, list[object]]:
    parts = []
    parameters: list[object] = []
    if selection.job_ids:
        parts.append("job_id = ANY(%s::bigint[])")
        parameters.append(list(selection.job_ids))
    if selection.array_ids:
        parts.append("array_id = ANY(%s::bigint[])")
        parameters.append(list(selection.array_ids))
    if selection.filter is not None:
        from oarpy.client.conditions import condition

        texts: list[str] = []
        parts.append(f"({condition(selection.filter, COLUMNS, texts)})")
        parameters += texts
    if not parts:
        parts.append("stopped_at IS NULL")
    if selection.mine:
        parts.append("job_user = oar.me()")
    elif selection.user is not None:
        parts.append("job_user = %s")
        parameters.append(selection.user)
    return " AND ".join(parts), parameters
