"""Events that are still to have their effect, with what is known of the jobs they speak of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.events import Resubmits
from oarpy.model.states import JobId, JobState


@dataclass(frozen=True, slots=True)
class Subject:
    """The job that an event speaks of.

    ``hosts`` are those it holds resources of; ``has_inner``: jobs live in it;
    ``has_parts``: the runner has hosts cleaned before it closes the job.
    """

    job_id: JobId
    state: JobState
    array_id: int
    array_index: int
    attempt: int
    types: tuple[str, ...]
    head: str | None
    hosts: tuple[str, ...]
    has_inner: bool
    has_parts: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """An event without effect so far, or (``nodes_done``) without that on its job."""

    event_id: int
    type: str
    hosts: tuple[str, ...]
    description: str
    nodes_done: bool
    job: Subject | None


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do.  ``version`` of the resources has not been ``examined`` when it is not None."""

    events: bool
    version: int | None


_WORK = text("SELECT EXISTS (SELECT FROM pending_events), CASE WHEN version <> examined THEN version END FROM topology")
# What waits for the end of a job is looked at again only when the job is no longer under way.
_TAKE = text(
    """
    SELECT p.event_id, p.type, p.hosts, p.description, p.nodes_done,
        j.job_id, j.state, j.array_id, j.array_index, j.attempt, j.types, j.head,
        ARRAY(SELECT DISTINCT r.network_address FROM allocations a
              JOIN resources r ON a.resources + COALESCE(a.returned, '{}') @> r.resource_id
              WHERE a.job_id = j.job_id AND a.attempt = j.attempt AND r.network_address <> '' ORDER BY 1) AS job_hosts,
        EXISTS (SELECT FROM allocations i WHERE i.space = j.job_id AND i.space <> 0 AND upper_inf(i.held)) AS has_inner,
        j.other_hosts IS NOT NULL AS has_parts
    FROM pending_events p LEFT JOIN jobs j USING (job_id)
    WHERE p.event_id > :after
      AND NOT (p.nodes_done AND j.job_id IS NOT NULL AND j.state IN ('Launching', 'Running', 'Suspended', 'Resuming'))
    ORDER BY p.event_id LIMIT :count FOR UPDATE OF p SKIP LOCKED
    """
)
_REMOVE = text("DELETE FROM pending_events WHERE event_id = ANY(CAST(:events AS bigint[]))")
_POSTPONE = text("UPDATE pending_events SET nodes_done = true WHERE event_id = ANY(CAST(:events AS bigint[]))")

_IDEMPOTENT = "'idempotent' = ANY(types)"
_CONDITIONS = {
    Resubmits.FAILED: f"""
        state = 'Error' AND (started_at IS NULL OR {_IDEMPOTENT})
        AND COALESCE(end_cause, 'launch_error') IN ('launch_error', 'prologue', 'node_rebooted', 'vanished', 'fenced',
                                                    'exterminated', 'admin')
    """,
    # Told to make room, it may have saved its work and asked to go on elsewhere.
    Resubmits.DISPLACED: f"""
        stopped_at IS NOT NULL AND {_IDEMPOTENT} AND (end_cause = 'besteffort' OR exit_code = 99 * 256 AND NOT EXISTS (
            SELECT FROM frag_jobs f WHERE f.job_id = jobs.job_id AND f.cause <> 'besteffort'))
    """,
    # What somebody wanted dead is.
    Resubmits.FENCED: """
        state = 'Error' AND end_cause = 'fenced'
        AND NOT EXISTS (SELECT FROM frag_jobs f WHERE f.job_id = jobs.job_id AND f.cause <> 'fenced')
    """,
    # Exit status 99; one that asks for it at once would ask for ever.
    Resubmits.ASKING: f"""
        state = 'Terminated' AND exit_code = 99 * 256 AND stopped_at - started_at > interval '60 s' AND {_IDEMPOTENT}
    """,
}
_ELIGIBLE = {
    kind: text(
        f"""
        SELECT job_id FROM jobs
        WHERE job_id = ANY(CAST(:jobs AS bigint[])) AND job_type = 'PASSIVE' AND reservation = 'None'
          AND NOT EXISTS (SELECT FROM unnest(types) AS t WHERE split_part(t, '=', 1) IN ('deploy', 'cosystem', 'noop'))
          AND NOT EXISTS (SELECT FROM jobs copy WHERE copy.resubmit_job_id = jobs.job_id)
          AND {condition}
        ORDER BY job_id
        """
    )
    for kind, condition in _CONDITIONS.items()
}


def work(conn: Connection) -> Work:
    """Whether events wait, and whether resources changed since ``nodes.examined``."""
    events, version = conn.execute(_WORK).one()
    return Work(events, version)


def take(conn: Connection, *, after: int, count: int) -> list[Pending]:
    """At most ``count`` events with ids above ``after`` that can have an effect now, oldest first, locked."""
    return [
        Pending(
            row.event_id,
            row.type,
            tuple(row.hosts),
            row.description,
            row.nodes_done,
            None
            if row.job_id is None
            else Subject(
                row.job_id,
                JobState(row.state),
                row.array_id,
                row.array_index,
                row.attempt,
                tuple(row.types),
                row.head,
                tuple(row.job_hosts),
                row.has_inner,
                row.has_parts,
            ),
        )
        for row in conn.execute(_TAKE, {"after": after, "count": count})
    ]


def remove(conn: Connection, event_ids: Collection[int]) -> None:
    """These events have had all their effects."""
    if event_ids:
        conn.execute(_REMOVE, {"events": list(event_ids)})


def postpone(conn: Connection, event_ids: Collection[int]) -> None:
    """These events have had their effects on nodes; those on their jobs come when their end is proved."""
    if event_ids:
        conn.execute(_POSTPONE, {"events": list(event_ids)})


def resubmittable(conn: Connection, job_ids: Iterable[JobId], kind: Resubmits) -> list[JobId]:
    """Those of ``job_ids`` that are over and may be submitted again for the reason ``kind``, ascending.

    Never those that have a copy already, nor interactive jobs, reservations, or
    jobs that hold a whole system.
    """
    return list(conn.execute(_ELIGIBLE[kind], {"jobs": list(job_ids)}).scalars())
