"""What the runner reads and writes of jobs: launches, and what became of them.

Everything is done to many jobs at once, and only to those whose attempt is still
the one that is spoken of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, Integer, Interval, Text, case, cast, func, text
from sqlalchemy.engine import Connection

from oarpy.automata.job import JobEvent
from oarpy.database import allocations, jobs
from oarpy.database.jobs import by_job, of_each
from oarpy.database.tables import END_CAUSE
from oarpy.database.tables import jobs as jobs_table
from oarpy.model.ranges import parsed_ranges
from oarpy.model.states import EndCause, JobId, JobState


@dataclass(frozen=True, slots=True)
class ToRun:
    """A job that holds resources, with all that its launch needs.  ``resources`` are their ids, ascending."""

    job_id: JobId
    attempt: int
    array_id: int
    array_index: int
    name: str | None
    user: str
    project: str
    types: tuple[str, ...]
    command: str
    directory: str
    stdout: str
    stderr: str
    walltime: timedelta
    umask: int
    resources: tuple[int, ...]
    head: str | None
    others: tuple[str, ...]
    #: The public key of -i or -e, ``OWN_KEY`` for -k; None without any of them.
    key: str | None
    #: The name of its terminal, if it is interactive.
    terminal: str | None = None
    lease: timedelta | None = None


class Known(NamedTuple):
    """What the tables say of a job that a host speaks of.

    ``others`` are its hosts besides the head, ``over`` those of them on which it is known to be over.
    """

    attempt: int
    state: JobState
    head: str | None
    others: tuple[str, ...]
    walltime: timedelta | None
    over: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The hosts besides the head on which there may be something of it."""
        return tuple(host for host in self.others if host not in self.over)


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended.  ``ran`` is how long ago it began, None when its command never did."""

    job_id: JobId
    cause: EndCause
    status: int | None
    began: timedelta | None
    ran: bool
    #: What it used on its head; None where that is unknown.
    cpu: timedelta | None = None
    peak_mib: int | None = None
    #: What the job's message becomes, if anything.
    message: str | None = None


_COLUMNS = """
    SELECT j.job_id, j.attempt, j.array_id, j.array_index, j.job_name, j.job_user, j.project, j.types, j.command,
        j.launching_directory, j.stdout_file, j.stderr_file, j.walltime, r.umask, a.resources::text AS resources,
        j.head, j.other_hosts, j.lease, r.asked->>'job_key' AS job_key, t.token::text AS terminal
    FROM jobs j JOIN job_requests r USING (job_request_id) JOIN allocations a ON a.job_id = j.job_id
        LEFT JOIN terminals t ON t.job_id = j.job_id
"""
_TO_LAUNCH = text(
    _COLUMNS + "WHERE j.stopped_at IS NULL AND j.state = 'toLaunch' AND upper_inf(a.held) ORDER BY j.job_id LIMIT :most"
)
_LAUNCHING = text(
    _COLUMNS + "WHERE j.stopped_at IS NULL AND j.state = 'Launching' AND j.job_id = ANY(CAST(:jobs AS bigint[])) "
    "AND upper_inf(a.held) ORDER BY j.job_id"
)
_ON_HOSTS = text(
    _COLUMNS + "WHERE j.stopped_at IS NULL AND j.state IN ('Running', 'Suspended', 'Resuming') "
    "AND j.job_id = ANY(CAST(:jobs AS bigint[])) AND upper_inf(a.held) ORDER BY j.job_id"
)
_LIVE = text(
    "SELECT job_id, attempt, state, head, other_hosts, walltime, over_hosts FROM jobs WHERE stopped_at IS NULL "
    "AND state IN ('Launching', 'Running', 'Suspended', 'Resuming') "
    "AND NOT EXISTS (SELECT FROM unnest(types) AS t WHERE split_part(t, '=', 1) = 'noop') ORDER BY job_id"
)
_KNOWN = text(
    "SELECT job_id, attempt, state, head, other_hosts, walltime, over_hosts FROM jobs "
    "WHERE job_id = ANY(CAST(:jobs AS bigint[]))"
)
_WISHED_DEAD = text(
    "SELECT job_id, cause FROM frag_jobs WHERE state <> 'FRAGGED' AND job_id = ANY(CAST(:jobs AS bigint[]))"
)
_FINISHING = text(
    """
    SELECT j.job_id, j.attempt, j.end_cause, j.job_user, j.head, j.other_hosts, j.over_hosts,
        (SELECT bool_or(i.returned IS NOT NULL) FROM allocations i
         WHERE i.space = j.job_id AND i.space <> 0 AND upper_inf(i.held)) AS inner_waits
    FROM jobs j WHERE j.stopped_at IS NULL AND j.state = 'Finishing'
    ORDER BY j.job_id
    """
)
_LEASE = text("UPDATE jobs SET lease = :lease WHERE job_id = ANY(CAST(:jobs AS bigint[]))")
_LEASED = text(
    """
    SELECT job_id, state, head, remaining_hosts(other_hosts, over_hosts) AS other_hosts, lease FROM jobs
    WHERE stopped_at IS NULL AND lease IS NOT NULL AND head IS NOT NULL
      AND (state IN ('Launching', 'Running', 'Suspended', 'Resuming')
           OR state = 'Finishing' AND other_hosts IS NOT NULL)
    ORDER BY job_id
    """
)
_SET_SUSPENDED = text(
    "UPDATE allocations SET suspended = true WHERE upper_inf(held) AND job_id = ANY(CAST(:jobs AS bigint[]))"
)
_COUNT_SUSPENSION = text(
    """
    UPDATE jobs SET suspended_for = suspended_for + (now() - suspended_since(job_id))
    WHERE job_id = ANY(CAST(:jobs AS bigint[]))
    """
)
_GIVE_KEYS = text(
    """
    INSERT INTO job_keys (job_id, private_key, public_key, pending)
    SELECT *, :pending FROM unnest(CAST(:jobs AS bigint[]), CAST(:private AS text[]), CAST(:public AS text[]))
    ON CONFLICT (job_id) DO NOTHING
    """
)
_CONFIRM_KEYS = text("UPDATE job_keys SET pending = false WHERE pending AND job_id = ANY(CAST(:jobs AS bigint[]))")
_KEYS = text(
    "SELECT job_id, private_key, public_key FROM job_keys WHERE job_id = ANY(CAST(:jobs AS bigint[])) ORDER BY job_id"
)


_SINCE = func.now() - cast(of_each("ages"), Interval)
# What hosts say of their parts, once for each: what was heard before is not added again.
_END_PARTS = text(
    """
    WITH said AS (
        SELECT DISTINCT ON (job_id, host) * FROM unnest(CAST(:jobs AS bigint[]), CAST(:hosts AS text[]),
            CAST(:cpus AS interval[]), CAST(:peaks AS integer[])) AS s(job_id, host, cpu, peak)
        ORDER BY job_id, host, cpu NULLS LAST
    ), locked AS (
        SELECT job_id, remaining_hosts(other_hosts, over_hosts) AS hosts FROM jobs
        WHERE stopped_at IS NULL AND job_id IN (SELECT job_id FROM said) ORDER BY job_id FOR NO KEY UPDATE
    ), news AS (
        SELECT job_id, array_agg(s.host) AS hosts, sum(s.cpu) AS cpu, count(s.cpu) AS told, max(s.peak) AS peak
        FROM said s JOIN locked l USING (job_id) WHERE s.host = ANY(l.hosts) GROUP BY job_id
    )
    UPDATE jobs j SET over_hosts = COALESCE(j.over_hosts, '{}') || n.hosts,
        cpu_used = COALESCE(j.cpu_used + n.cpu, n.cpu, j.cpu_used), cpu_hosts = j.cpu_hosts + n.told,
        peak_memory_mib = greatest(j.peak_memory_mib, n.peak)
    FROM news n WHERE j.job_id = n.job_id RETURNING j.job_id, n.hosts
    """
)


_HEADS = {"head": of_each("heads"), "other_hosts": cast(of_each("others"), ARRAY(Text))}
_STARTS = {"started_at": _SINCE, "planned_end_at": _SINCE + jobs_table.c.walltime}
_CAUSES = {"end_cause": cast(of_each("causes"), END_CAUSE)}
_CPU = cast(of_each("cpus"), Interval)
# Parts may have ended before the head.
_ENDS = {
    "exit_code": cast(of_each("statuses"), Integer),
    "cpu_used": func.coalesce(jobs_table.c.cpu_used + _CPU, _CPU, jobs_table.c.cpu_used),
    "cpu_hosts": jobs_table.c.cpu_hosts + case((_CPU.is_(None), 0), else_=1),
    "peak_memory_mib": func.greatest(jobs_table.c.peak_memory_mib, cast(of_each("peaks"), Integer)),
    "message": func.coalesce(of_each("messages"), jobs_table.c.message),
} | _CAUSES


def to_launch(conn: Connection, most: int) -> list[ToRun]:
    """Jobs to which resources were given and nothing has happened since, at most ``most`` of them."""
    return [_to_run(row) for row in conn.execute(_TO_LAUNCH, {"most": most})]


def launching(conn: Connection, job_ids: Collection[JobId]) -> list[ToRun]:
    """Those of ``job_ids`` whose launch was begun and of which no start has been heard."""
    if not job_ids:
        return []
    return [_to_run(row) for row in conn.execute(_LAUNCHING, {"jobs": list(job_ids)})]


def on_hosts(conn: Connection, job_ids: Collection[JobId]) -> list[ToRun]:
    """Those of ``job_ids`` whose commands run, or rest, as they would be launched now."""
    if not job_ids:
        return []
    return [_to_run(row) for row in conn.execute(_ON_HOSTS, {"jobs": list(job_ids)})]


def live(conn: Connection) -> dict[JobId, Known]:
    """The jobs that may be on their hosts."""
    return {row.job_id: _known(row) for row in conn.execute(_LIVE)}


def known(conn: Connection, job_ids: Collection[JobId]) -> dict[JobId, Known]:
    """What the tables say of ``job_ids``; those that do not exist are left out."""
    return {row.job_id: _known(row) for row in conn.execute(_KNOWN, {"jobs": list(job_ids)})}


def begin(
    conn: Connection, heads: Mapping[JobId, str], others: Mapping[JobId, Sequence[str]] = MappingProxyType({})
) -> list[JobId]:
    """Write that the launch of jobs on their heads begins; those that were still to be launched.

    ``others`` are the other hosts of those that have any.
    """
    lists = {job_id: _array(hosts) for job_id, hosts in others.items() if hosts}
    parameters = {"heads": by_job(heads), "others": by_job(lists)}
    return jobs.transition(conn, list(heads), JobEvent.LAUNCH_BEGUN, values=_HEADS, parameters=parameters)


def lease(conn: Connection, job_ids: Sequence[JobId], length: timedelta) -> None:
    """Write that the hosts of ``job_ids``, whose launches begin, kill them when nothing is heard for ``length``."""
    if job_ids:
        conn.execute(_LEASE, {"jobs": list(job_ids), "lease": length})


class Leased(NamedTuple):
    """A job that its hosts kill when they do not hear of the server."""

    job_id: JobId
    state: JobState
    head: str
    others: tuple[str, ...]
    lease: timedelta


def leased(conn: Connection) -> list[Leased]:
    """The jobs that have a lease: those on hosts, and those of which something may be left on others than the head."""
    return [
        Leased(row.job_id, JobState(row.state), row.head, tuple(row.other_hosts or ()), row.lease)
        for row in conn.execute(_LEASED)
    ]


def start(conn: Connection, ages: Mapping[JobId, timedelta]) -> list[JobId]:
    """Let jobs be Running since as long as their hosts say; those that were Launching.

    The walltime counts from there, however late the report came.
    """
    spoken = by_job({job_id: f"{age.total_seconds()} s" for job_id, age in ages.items()})
    return jobs.transition(conn, list(ages), JobEvent.STARTED, values=_STARTS, parameters={"ages": spoken})


def finish(conn: Connection, ends: Sequence[End]) -> list[JobId]:
    """Write how attempts ended; those that were not yet over.  Their resources are held until ``close``."""
    start(conn, {end.job_id: end.began or timedelta() for end in ends if end.ran})
    parameters = {
        "statuses": by_job({end.job_id: end.status for end in ends}),
        "causes": by_job({end.job_id: end.cause.value for end in ends}),
        "cpus": by_job({end.job_id: _interval(end.cpu) for end in ends}),
        "peaks": by_job({end.job_id: _mebibytes(end.peak_mib) for end in ends}),
        "messages": by_job({end.job_id: end.message for end in ends if end.message}),
    }
    finished = jobs.transition(conn, [end.job_id for end in ends], JobEvent.ENDED, values=_ENDS, parameters=parameters)
    # After a reboot nobody knows whether what was Launching had begun.
    unbegun = [end.job_id for end in ends if not end.ran]
    return sorted(
        finished + jobs.transition(conn, unbegun, JobEvent.LAUNCH_FAILED, values=_ENDS, parameters=parameters)
    )


class PartEnd(NamedTuple):
    """A part of a job is over on ``host``, and what it used there; None where that is unknown."""

    job_id: JobId
    host: str
    cpu: timedelta | None = None
    peak_mib: int | None = None


def end_parts(conn: Connection, ends: Collection[PartEnd]) -> set[tuple[JobId, str]]:
    """Write that parts are over, and add what they used to their jobs; those of which it was not known."""
    if not ends:
        return set()
    parameters = {
        "jobs": [end.job_id for end in ends],
        "hosts": [end.host for end in ends],
        "cpus": [_interval(end.cpu) for end in ends],
        "peaks": [_mebibytes(end.peak_mib) for end in ends],
    }
    return {(JobId(job_id), host) for job_id, hosts in conn.execute(_END_PARTS, parameters) for host in hosts}


def _interval(used: timedelta | None) -> str | None:
    """What a host says of a job is told, however odd it is; what cannot be is not."""
    return None if used is None or used < timedelta() else f"{used.total_seconds()} s"


def _mebibytes(peak: object) -> int | None:
    return peak if isinstance(peak, int) and 0 <= peak < 2**31 else None


def give_keys(conn: Connection, pairs: Mapping[JobId, tuple[str, str]], *, pending: bool = False) -> None:
    """Give jobs key pairs of their own (private, public); they keep those that they have.

    What is ``pending`` opens nothing until ``confirm_keys``.
    """
    if pairs:
        jobs_, private, public = zip(*((job_id, *pair) for job_id, pair in pairs.items()), strict=True)
        values = {"jobs": list(jobs_), "private": list(private), "public": list(public), "pending": pending}
        conn.execute(_GIVE_KEYS, values)


def confirm_keys(conn: Connection, job_ids: Collection[JobId]) -> None:
    """The hosts of these know their key pairs."""
    if job_ids:
        conn.execute(_CONFIRM_KEYS, {"jobs": list(job_ids)})


def keys(conn: Connection, job_ids: Collection[JobId]) -> dict[JobId, tuple[str, str]]:
    """The key pairs that jobs have."""
    if not job_ids:
        return {}
    found = conn.execute(_KEYS, {"jobs": list(job_ids)})
    return {job_id: (private, public) for job_id, private, public in found}


class Finishing(NamedTuple):
    """A job of which nothing is left on its head."""

    job_id: JobId
    attempt: int
    cause: EndCause | None
    user: str
    head: str | None
    others: tuple[str, ...]
    over: tuple[str, ...]
    #: Of a container in which jobs are still: whether one of them waits for a lost host.
    inner_waits: bool | None


def finishing(conn: Connection) -> list[Finishing]:
    """The jobs that have only to be closed; a container when nothing is left in it."""
    return [
        Finishing(
            *(job_id, attempt, None if cause is None else EndCause(cause), user),
            *(head, tuple(others or ()), tuple(over or ()), inner_waits),
        )
        for job_id, attempt, cause, user, head, others, over, inner_waits in conn.execute(_FINISHING)
    ]


class Closed(NamedTuple):
    """How many jobs were closed; ``more`` when a container may be closed now that they are."""

    jobs: int
    more: bool


def close(conn: Connection, well: Sequence[JobId], badly: Sequence[JobId], spoilt: Sequence[JobId] = ()) -> Closed:
    """Give back what jobs in Finishing hold, and end them.

    As Terminated (``well``) or Error (``badly``); ``spoilt`` are those that end in
    Error because of what was done after them.
    """
    more = allocations.close(conn, [*well, *badly, *spoilt])
    closed = [
        *jobs.transition(conn, well, JobEvent.CLOSED),
        *jobs.transition(conn, badly, JobEvent.FAILED),
        *jobs.transition(conn, spoilt, JobEvent.FAILED, values={"end_cause": EndCause.EPILOGUE}),
    ]
    return Closed(len(closed), more)


def return_unbegun(conn: Connection, job_ids: Sequence[JobId]) -> tuple[list[JobId], list[JobId]]:
    """Send jobs whose attempt never began back to their place in the queue: (waiting, killed).

    Those that somebody wants dead end here and now: they are on no host.
    """
    names = ("walltime", "alternative", "planned_end_at", "head", "other_hosts", "over_hosts", "lease")
    forgotten = dict.fromkeys(names)
    waiting = jobs.transition(conn, job_ids, JobEvent.NEVER_BEGAN, values=forgotten)
    allocations.close(conn, waiting)
    wished = {JobId(job_id): cause for job_id, cause in conn.execute(_WISHED_DEAD, {"jobs": waiting})}
    killed = jobs.transition(conn, list(wished), JobEvent.KILLED, values=_CAUSES, parameters={"causes": by_job(wished)})
    return sorted(set(waiting) - set(killed)), killed


def suspend(conn: Connection, job_ids: Sequence[JobId]) -> list[JobId]:
    """Jobs rest on their hosts: others may have what they hold."""
    suspended = jobs.transition(conn, job_ids, JobEvent.SUSPENDED)
    conn.execute(_SET_SUSPENDED, {"jobs": suspended})
    return suspended


def resume(conn: Connection, job_ids: Sequence[JobId]) -> list[JobId]:
    """Jobs that rested run again."""
    resumed = jobs.transition(conn, job_ids, JobEvent.RESUMED)
    conn.execute(_COUNT_SUSPENSION, {"jobs": resumed})
    return resumed


def _to_run(row: Any) -> ToRun:
    return ToRun(
        job_id=row.job_id,
        attempt=row.attempt,
        array_id=row.array_id,
        array_index=row.array_index,
        name=row.job_name,
        user=row.job_user,
        project=row.project,
        types=tuple(row.types),
        command=row.command,
        directory=row.launching_directory,
        stdout=row.stdout_file,
        stderr=row.stderr_file,
        walltime=row.walltime,
        umask=row.umask,
        resources=tuple(chain.from_iterable(range(*ids) for ids in parsed_ranges(row.resources))),
        head=row.head,
        others=tuple(row.other_hosts or ()),
        key=row.job_key,
        terminal=row.terminal,
        lease=row.lease,
    )


def _known(row: Any) -> Known:
    others, over = tuple(row.other_hosts or ()), tuple(row.over_hosts or ())
    return Known(row.attempt, JobState(row.state), row.head, others, row.walltime, over)


def _array(words: Sequence[str]) -> str:
    """How PostgreSQL writes an array of texts."""
    quoted = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
    return "{" + ",".join(f'"{word}"' for word in quoted) + "}"
