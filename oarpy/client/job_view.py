"""What anybody may see of jobs, read from the views of ``oar_user``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from oarpy.client.connection import Connection
from oarpy.client.selection import Selection, condition
from oarpy.model.job_status import exit_status
from oarpy.model.ranges import parsed_ranges, written_ranges

#: Jobs in full that are read at once where there may be any number of them.
PART = 5000


class Line(NamedTuple):
    """A job in a table; dates are seconds since the epoch.  Of several jobs the id is ``N@ID``."""

    job_id: int | str
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

    @property
    def is_final(self) -> bool:
        return self.stopped_s is not None

    @property
    def exit_status(self) -> int:
        """Of a job that is over: its own, as a shell would have it, or one of those that say why it has none."""
        return exit_status(self.exit_code, self.end_cause)

    @property
    def succeeded(self) -> bool:
        return self.is_final and self.exit_status == 0


_LINES = """
    SELECT job_id, array_id, array_index, job_name, job_user, state, queue_name, message, why,
        extract(epoch FROM submitted_at)::bigint, extract(epoch FROM started_at)::bigint,
        extract(epoch FROM stopped_at)::bigint
    FROM {jobs} WHERE {condition} ORDER BY job_id
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
    FROM {jobs} WHERE {condition} ORDER BY job_id
"""


def lines(conn: Connection, selection: Selection, at_s: int | None = None) -> list[Line]:
    """The jobs of ``selection``, ascending, with what a table shows of them; at ``at_s``, as they were then."""
    return [Line(*row) for row in _rows(conn, _LINES, selection, at_s)]


def states(conn: Connection, selection: Selection, at_s: int | None = None) -> list[tuple[int, str]]:
    """Id and state of the jobs of ``selection``, ascending."""
    statement = "SELECT job_id, state FROM {jobs} WHERE {condition} ORDER BY job_id"
    return [(job_id, state) for job_id, state in _rows(conn, statement, selection, at_s)]


def details(
    conn: Connection, selection: Selection, at_s: int | None = None, *, most: int | None = None
) -> list[Detail]:
    """The jobs of ``selection``, ascending, in full; the first ``most`` of them."""
    statement = _DETAILS if most is None else f"{_DETAILS} LIMIT {most:d}"
    rows = _rows(conn, statement, selection, at_s)
    return [Detail._make((*row[:-2], *(parsed_ranges(each or "{}") for each in row[-2:]))) for row in rows]


def details_in_parts(conn: Connection, selection: Selection, at_s: int | None = None) -> Iterator[list[Detail]]:
    """The same, some thousands at a time, each part as the tables were when it was read."""
    last = 0
    while part := details(conn, selection._replace(after=last), at_s, most=PART):
        yield part
        last = part[-1].job_id


def _rows(conn: Connection, statement: str, selection: Selection, at_s: int | None) -> list[tuple[Any, ...]]:
    where, parameters = condition(selection)
    if at_s is None:
        return conn.rows(statement.format(jobs="oar.visible_jobs", condition=where), parameters)
    from oarpy.client.history import jobs_at

    jobs, bound = jobs_at(at_s, all_ended=selection.names_jobs or selection.filter is not None)
    return conn.rows(statement.format(jobs=jobs, condition=where), [*bound, *parameters])


def now_s(conn: Connection) -> int:
    """The server's clock."""
    return int(conn.value("SELECT extract(epoch FROM now())::bigint"))


def events(conn: Connection, job_ids: Sequence[int], until_s: int | None = None) -> list[Event]:
    """What happened to these jobs, until ``until_s`` if given, oldest first."""
    rows = conn.rows(
        """
        SELECT event_id, job_id, type, extract(epoch FROM date)::bigint, hosts, description
        FROM oar.visible_events WHERE job_id = ANY(%s::bigint[]) AND date <= coalesce(to_timestamp(%s), 'infinity')
        ORDER BY date, event_id
        """,
        (list(job_ids), until_s),
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
