"""Leon acts on the wishes to kill jobs.

A job that was never launched ends here and now; for one that was, the runner is
given an order, and only the node's proof will end it.  One transaction does all of
it, so whoever dies half-way leaves the wishes as they were.
"""

from __future__ import annotations

from collections import defaultdict
from logging import getLogger

from sqlalchemy.engine import Connection

from oarpy.automata.almighty import Event as Outcome
from oarpy.automata.job import JobEvent
from oarpy.database import allocations, events, jobs, kills, plans
from oarpy.database.connection import retrying
from oarpy.database.events import Event
from oarpy.database.kills import Wish
from oarpy.database.wake import Reader, wake
from oarpy.model.states import FINAL, ON_NODES, EndCause, FragState, JobId
from oarpy.modules.context import Context

logger = getLogger(__name__)

_REASON = {
    EndCause.WALLTIME: "its walltime has passed",
    EndCause.BESTEFFORT: "its resources are needed by another job",
    EndCause.ADMIN: "its resources are gone",
    EndCause.CONTAINER: "its container ends",
}


def turn(ctx: Context) -> Outcome:
    """Act on every open wish once."""
    with ctx.snapshot() as conn:
        if not kills.any_open(conn):
            return Outcome.NOTHING
    ended, ordered = retrying(lambda: _act(ctx))
    for job_id in ended:
        logger.info("job %d: killed before its launch", job_id, extra={"event": "KILLED", "job_id": job_id})
    for wish in ordered:
        logger.info(
            "job %d: its nodes are to %s it (%s, asked by %s)",
            wish.job_id,
            "exterminate" if wish.state is FragState.LEON_EXTERMINATE else "kill",
            wish.cause.value,
            wish.asked_by,
            extra={"event": "SEND_KILL_JOB", "job_id": wish.job_id},
        )
    return Outcome.JOBS_CHANGED if ended else Outcome.NOTHING


def _act(ctx: Context) -> tuple[list[JobId], list[Wish]]:
    settings = ctx.settings
    with ctx.transaction(durable=True) as conn:
        followers = kills.follow_containers(conn)
        wishes = kills.open_wishes(conn)
        ended = _end_unlaunched(conn, wishes)
        over = [wish.job_id for wish in wishes if wish.job_state in FINAL]
        kills.close(conn, [*ended, *over])
        lasting = {wish.job_id: wish for wish in wishes if wish.job_id not in {*ended, *over}}
        ordered = [wish for wish in lasting.values() if wish.job_state in ON_NODES]
        kills.order(conn, [wish.job_id for wish in ordered], within=settings.nodes.order_timeout)
        kills.arm(conn, lasting, soft=settings.kill.soft, hard=settings.kill.hard, kill=settings.nodes.order_timeout)
        events.append(conn, (_event(wish) for wish in ordered))
        if ordered or followers:
            wake(conn, Reader.RUNNER)
    ctx.passes("leon: wishes written")
    return ended, ordered


def _end_unlaunched(conn: Connection, wishes: list[Wish]) -> list[JobId]:
    """End the jobs that no node knows; those that it ended."""
    by_cause: defaultdict[EndCause, list[JobId]] = defaultdict(list)
    for wish in wishes:
        by_cause[wish.cause].append(wish.job_id)
    ended: list[JobId] = []
    for cause, job_ids in by_cause.items():
        ended += jobs.transition(conn, job_ids, JobEvent.KILLED, values={"end_cause": cause})
    allocations.drop(conn, ended)
    plans.forget(conn, ended)
    return ended


def _event(wish: Wish) -> Event:
    reason = _REASON.get(wish.cause, f"{wish.asked_by} asked for it")
    if wish.state is FragState.LEON_EXTERMINATE:
        return Event("EXTERMINATE_JOB", wish.job_id, description=f"did not end in time; {reason}")
    return Event("SEND_KILL_JOB", wish.job_id, description=reason)
