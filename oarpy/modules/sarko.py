"""Sarko looks for what time alone brings about.

Walltimes that have passed, checkpoints that are due, jobs that did not end when they
were told, resources that nobody hears of; then what grows old: rows, sessions.
Nothing is remembered between two turns: each asks the tables anew, with the
database's clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from logging import getLogger

from sqlalchemy.exc import DBAPIError

from oarpy.automata.almighty import Event as Outcome
from oarpy.database import accounting, events, housekeeping, kills, walltimes
from oarpy.database.connection import is_absence, retrying
from oarpy.database.events import Event
from oarpy.database.wake import Reader, wake
from oarpy.modules.context import Context, now, whole_seconds

logger = getLogger(__name__)

#: Users' sessions read views and call functions that take milliseconds.
LONGEST_TRANSACTION = timedelta(seconds=60)
#: When users' sessions fill this share of their places, those that idle for so long are ended.
CROWDED = 0.5
LONGEST_IDLENESS = timedelta(seconds=5)


def turn(ctx: Context) -> Outcome:
    """Look once; the jobs that must die come before everything else."""
    to_kill = retrying(lambda: _watch_jobs(ctx))
    changed = _give_up_suspected(ctx)
    retrying(lambda: _account(ctx))
    _end_sessions(ctx)
    _forget(ctx)
    if to_kill:
        return Outcome.JOBS_TO_KILL
    return Outcome.JOBS_CHANGED if changed else Outcome.NOTHING


def _watch_jobs(ctx: Context) -> bool:
    """Wish the end of jobs whose time is up, repeat wishes; whether leon has something to do."""
    settings = ctx.settings
    with ctx.transaction() as conn:
        kills.close_ended(conn)
        repeated = kills.repeat(conn, soft=settings.kill.soft, hard=settings.kill.hard)
        overrun = kills.overrun(conn)
        deserted = kills.deserted(conn, within=settings.jobs.client_timeout)
        checkpoints = kills.checkpoint_due(conn, within=settings.nodes.order_timeout)
        events.append(conn, (Event("WALLTIME", job_id, description="its walltime has passed") for job_id in overrun))
        gone = "whoever waited for its terminal is gone"
        events.append(conn, (Event("CLIENT_GONE", job_id, description=gone) for job_id in deserted))
        events.append(conn, (Event("WALLTIME_REQUEST_TIMEOUT", job_id) for job_id in walltimes.expire(conn)))
        events.append(conn, (Event("CHECKPOINT", job_id, description="its end is near") for job_id in checkpoints))
        if checkpoints:
            wake(conn, Reader.RUNNER)
        due = kills.any_came_due(conn)
    for job_id in overrun:
        logger.info("job %d: its walltime has passed", job_id, extra={"event": "WALLTIME", "job_id": job_id})
    for job_id in deserted:
        logger.info("job %d: %s", job_id, gone, extra={"event": "CLIENT_GONE", "job_id": job_id})
    for job_id in checkpoints:
        logger.info("job %d: is to checkpoint", job_id, extra={"event": "CHECKPOINT", "job_id": job_id})
    for job_id in repeated:
        logger.warning("job %d: did not end when it was told", job_id, extra={"event": "REPEATED", "job_id": job_id})
    return bool(repeated or overrun or deserted or due)


def _give_up_suspected(ctx: Context) -> bool:
    after = ctx.settings.nodes.suspected_to_dead
    if after is None:
        return False
    with ctx.transaction() as conn:
        hosts = housekeeping.give_up_suspected(conn, after)
    for host in hosts:
        logger.warning("host %s: Dead, after %s as Suspected", host, after, extra={"event": "DIED", "host": host})
    return bool(hosts)


def _account(ctx: Context) -> None:
    with ctx.transaction() as conn:
        accounting.settle(conn, whole_seconds(ctx.settings.accounting.window))
        ctx.passes("sarko: accounted")


def _end_sessions(ctx: Context) -> None:
    with ctx.transaction() as conn:
        ended = housekeeping.end_long_transactions(conn, LONGEST_TRANSACTION)
        crowding = housekeeping.make_room(conn, share=CROWDED, idle=LONGEST_IDLENESS)
        restored = housekeeping.restore_users(conn)
        housekeeping.forget_keys(conn)
    for pid in ended:
        logger.warning("session %d: ended, a user's transaction was open for over %s", pid, LONGEST_TRANSACTION)
    if crowding:
        logger.warning("%d idle session(s) of users: ended, users had over half of their places in use", len(crowding))
    if restored:
        logger.warning("role oar_user: somebody had set defaults for all users; they are gone")


def _forget_past(ctx: Context, today: datetime) -> None:
    kept = ctx.settings.retention
    with ctx.transaction() as conn:
        if kept.accounting is not None:
            # What the order of jobs is made of stays.
            housekeeping.forget_accounting(conn, today - max(kept.accounting, ctx.settings.fairshare.window))
        forgotten = housekeeping.forget_jobs(conn, today - kept.jobs) if kept.jobs is not None else 0
    if forgotten:
        logger.info("%d job(s): removed, they ended over %s ago", forgotten, kept.jobs)


def _forget(ctx: Context) -> None:
    """Remove what is old and prepare the next month; another turn does what is not possible now."""
    kept = ctx.settings.retention
    try:
        with ctx.transaction() as conn:
            today = now(conn)
            housekeeping.forget_requests(conn, today - kept.requests)
            housekeeping.forget_notifications(conn, today - kept.notifications)
            if kept.events is not None:
                housekeeping.forget_orders(conn, today - kept.events)
                housekeeping.forget_predictions(conn, today - kept.events)
                housekeeping.forget_suspicions(conn, today - kept.events)
        if kept.jobs is not None or kept.accounting is not None:
            _forget_past(ctx, today)
        with ctx.transaction() as conn:
            housekeeping.prepare_events(conn, today)
            dropped = housekeeping.drop_events(conn, today - kept.events) if kept.events is not None else []
    except DBAPIError as error:
        if is_absence(error):
            raise
        logger.warning("events: their partitions are left for the next time (%s)", str(error.orig).strip())
        return
    for name in dropped:
        logger.info("%s: dropped, older than %s", name, kept.events)
