"""Hosts as jobs meet them: suspected because of jobs, gone under jobs, declared empty by a person.

The state of a host's resources changes for all of them together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, text
from sqlalchemy.engine import Connection

from oarpy.automata.job import JobEvent
from oarpy.database import allocations, jobs, launches
from oarpy.database import tables as t
from oarpy.database.launches import PartEnd
from oarpy.database.wake import Reader, wake
from oarpy.model.states import EndCause, JobId, JobState

_SUSPECT = text(
    """
    WITH suspected AS (
        UPDATE resources SET state = 'Suspected', finaud_decision = :by_check
        WHERE (state = 'Alive' OR state = 'Suspected' AND finaud_decision AND NOT :by_check)
          AND network_address = ANY(CAST(:hosts AS text[]))
        RETURNING network_address
    )
    SELECT DISTINCT network_address FROM suspected ORDER BY 1
    """
)

_BELIEVED = text("SELECT array_id, array_index, host FROM suspicions WHERE array_id = ANY(CAST(:arrays AS bigint[]))")
_STARTED = text(
    """
    SELECT array_id FROM unnest(CAST(:arrays AS bigint[])) AS array_id
    WHERE EXISTS (SELECT FROM jobs WHERE jobs.array_id = array_id.array_id AND started_at IS NOT NULL)
    """
)
_RECORD = text(
    """
    INSERT INTO suspicions (array_id, array_index, host)
    SELECT * FROM unnest(CAST(:arrays AS bigint[]), CAST(:indices AS int[]), CAST(:hosts AS text[]))
    ON CONFLICT DO NOTHING
    """
)

_EXAMINED = text("UPDATE topology SET examined = :version")
# Jobs of these types have nothing on the nodes, or want them in whatever state.
_INDIFFERENT = """
    EXISTS (SELECT FROM unnest(j.types) AS t
            WHERE split_part(t, '=', 1) IN ('noop', 'cosystem') OR t IN ('state=permissive', 'deploy=standby'))
"""
# The planner takes a third of all allocations for open, so these statements begin with the jobs
# that are not over.
_TO_WITHDRAW = text(
    f"""
    WITH alive AS MATERIALIZED (
        SELECT COALESCE(range_agg(int4range(resource_id, resource_id + 1)), '{{}}') AS ids
        FROM resources WHERE state = 'Alive'
    )
    SELECT a.job_id FROM allocations a JOIN jobs j USING (job_id), alive
    WHERE upper_inf(a.held) AND j.stopped_at IS NULL AND j.state = 'toLaunch'
      AND NOT alive.ids @> a.resources AND NOT {_INDIFFERENT}
    ORDER BY a.job_id
    """
)
_KILL = text(
    f"""
    WITH usable AS MATERIALIZED (
        SELECT COALESCE(range_agg(int4range(resource_id, resource_id + 1)), '{{}}') AS ids
        FROM resources WHERE state IN ('Alive', 'Suspected')
    ), wishes AS (
        INSERT INTO frag_jobs (job_id, cause, asked_by)
        SELECT a.job_id, 'admin', 'oar' FROM allocations a JOIN jobs j USING (job_id), usable
        WHERE upper_inf(a.held) AND j.stopped_at IS NULL
          AND j.state IN ('Launching', 'Running', 'Suspended', 'Resuming')
          AND NOT usable.ids @> a.resources AND NOT {_INDIFFERENT}
        ORDER BY a.job_id
        ON CONFLICT (job_id) DO NOTHING RETURNING job_id
    )
    SELECT w.job_id, ARRAY(
        SELECT DISTINCT r.network_address FROM allocations a JOIN resources r ON a.resources @> r.resource_id
        WHERE a.job_id = w.job_id AND upper_inf(a.held) AND r.state IN ('Absent', 'Dead') ORDER BY 1) AS hosts
    FROM wishes w ORDER BY w.job_id
    """
)

_JOBS_OF = text(
    """
    WITH gone AS MATERIALIZED (
        SELECT COALESCE(range_agg(int4range(resource_id, resource_id + 1)), '{}') AS ids
        FROM resources WHERE network_address = ANY(CAST(:hosts AS text[]))
    )
    SELECT j.job_id, j.state, gone.ids @> a.resources AS wholly, j.head = ANY(CAST(:hosts AS text[])) AS headless,
        remaining_hosts(j.other_hosts, j.over_hosts) && CAST(:hosts AS text[]) AS partly,
        j.other_hosts IS NOT NULL AS parallel
    FROM allocations a JOIN jobs j USING (job_id), gone
    WHERE upper_inf(a.held) AND a.resources && gone.ids AND j.stopped_at IS NULL
      AND j.state IN ('Launching', 'Running', 'Suspended', 'Resuming', 'Finishing')
    ORDER BY j.job_id FOR UPDATE OF j
    """
)


def suspect(conn: Connection, hosts: Collection[str], *, by_check: bool) -> list[str]:
    """Make the Alive resources of ``hosts`` Suspected; the hosts that had any.

    ``by_check``: a health check said so, and may take it back; unless something else
    makes them Suspected as well.
    """
    if not hosts:
        return []
    return list(conn.execute(_SUSPECT, {"hosts": sorted(hosts), "by_check": by_check}).scalars())


@dataclass(frozen=True, slots=True)
class Credit:
    """Whose word against which host has been taken: of elements of arrays; and which arrays had a job start."""

    believed: Mapping[tuple[int, int], str] = field(default_factory=dict)
    started: frozenset[int] = frozenset()


def credit(conn: Connection, array_ids: Iterable[int]) -> Credit:
    """What is known of the submissions ``array_ids``.  Copies of a job share its array and index."""
    arrays = {"arrays": sorted(set(array_ids))}
    if not arrays["arrays"]:
        return Credit()
    return Credit(
        {(row.array_id, row.array_index): row.host for row in conn.execute(_BELIEVED, arrays)},
        frozenset(conn.execute(_STARTED, arrays).scalars()),
    )


def record_suspicions(conn: Connection, suspicions: Sequence[tuple[int, int, str]]) -> None:
    """Remember which element (array id, index) has made which host Suspected."""
    if suspicions:
        arrays, indices, hosts = map(list, zip(*suspicions, strict=True))
        conn.execute(_RECORD, {"arrays": arrays, "indices": indices, "hosts": hosts})


def withdraw_from_unusable(conn: Connection) -> list[JobId]:
    """Send jobs that were to be launched on resources not Alive back to their place in the queue."""
    withdrawn = jobs.transition(
        conn,
        list(conn.execute(_TO_WITHDRAW).scalars()),
        JobEvent.WITHDRAWN,
        values={"walltime": None, "alternative": None, "planned_end_at": None, "head": None},
    )
    allocations.drop(conn, withdrawn)
    return withdrawn


def kill_on_gone(conn: Connection) -> dict[JobId, list[str]]:
    """Wish dead what was launched and holds a resource that is Absent, Dead or vanished; with the hosts that are gone.

    It keeps what it holds: that its node cannot be used, or not be reached, does
    not prove that it has ended.
    """
    return {row.job_id: row.hosts for row in conn.execute(_KILL)}


def examined(conn: Connection, version: int) -> None:
    """Jobs on resources as they were at ``version`` have been dealt with."""
    conn.execute(_EXAMINED, {"version": version})


def fail(conn: Connection, job_ids: Sequence[JobId], cause: EndCause) -> list[JobId]:
    """End in Error those of ``job_ids`` that were never launched or are Finishing, and free what they hold.

    A cause that is known already is kept.
    """
    values = {"end_cause": func.coalesce(t.jobs.c.end_cause, cause.value)}
    unlaunched = jobs.transition(conn, job_ids, JobEvent.KILLED, values=values)
    allocations.drop(conn, unlaunched)
    finishing = jobs.transition(conn, job_ids, JobEvent.FAILED, values=values)
    allocations.close(conn, finishing)
    return sorted(unlaunched + finishing)


@dataclass(frozen=True, slots=True)
class Gone:
    """What a person's word brings about.

    ``ended``: jobs that are over.  Of jobs on several hosts, ``headless``: over but for
    what is left on other hosts; ``parted``: those that run and have lost a part.
    ``elsewhere``: jobs that hold resources of other hosts as well.
    """

    ended: tuple[JobId, ...] = ()
    headless: tuple[JobId, ...] = ()
    parted: tuple[JobId, ...] = ()
    elsewhere: tuple[JobId, ...] = ()


def declare_jobs_gone(conn: Connection, hosts: Collection[str]) -> Gone:
    """End the launched jobs of ``hosts``, on the word of a person that nothing of them runs there.

    Of a job on several hosts no part on ``hosts`` is waited for any more.  With its
    head its command is gone, and what is left of it elsewhere is cleaned up; without a
    part it is to be killed, which is the caller's to ask for.  A job that also holds
    other resources is not proved to be over.  The caller commits durably.
    """
    found = conn.execute(_JOBS_OF, {"hosts": sorted(hosts)}).all()
    admin = {"end_cause": EndCause.ADMIN.value}
    # The runner closes what is Finishing on several hosts, and knows how it ended.
    finishing = {row.job_id for row in found if row.state == JobState.FINISHING and row.parallel}
    wholly = [row.job_id for row in found if row.wholly and row.job_id not in finishing]
    headless = {row.job_id for row in found if row.headless and row.parallel} - {*wholly, *finishing}
    left = {row.job_id for row in found if row.partly and row.state != JobState.LAUNCHING} - set(wholly) | headless
    launches.end_parts(conn, [PartEnd(job_id, host) for job_id in sorted(left) for host in sorted(hosts)])
    for over in (wholly, sorted(headless)):
        jobs.transition(conn, over, JobEvent.LAUNCH_FAILED, values=admin)
        jobs.transition(conn, over, JobEvent.ENDED, values=admin)
    allocations.close(conn, wholly)
    ended = jobs.transition(conn, wholly, JobEvent.FAILED, values=admin)
    if ended or left:
        wake(conn, Reader.ALMIGHTY, Reader.RUNNER)
    known = left | finishing | set(wholly)
    return Gone(
        ended=tuple(ended),
        headless=tuple(sorted(headless)),
        parted=tuple(sorted(left - headless - finishing)),
        elsewhere=tuple(row.job_id for row in found if row.job_id not in known),
    )
