"""What events do to hosts and jobs, and what becomes of jobs whose resources are gone.

A turn reads the events that still have to have their effect, decides what that is
(``decide``, which touches no table), and writes it in one transaction for each
batch; killed half-way, the next turn begins the batch anew.

**Whom to believe.**  A host that was itself found to be bad is Suspected at once.
An event that says only that a job met an error there may as well be the job's own
doing: a command that no launch survives would make one host after the other
Suspected, each time as a fresh copy.  So a job is believed with reserve: one event
of it makes one host Suspected; its copies are believed of that host alone; and of an array,
until one of its jobs has started somewhere, only one element is believed at all.

**Effects on jobs** wait until their end is proved.  A job whose launch never began
is Waiting again and needs no copy, but only so often as a failed one would be
copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from logging import ERROR, INFO, WARNING, getLogger

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from oarpy.automata.almighty import Event as Outcome
from oarpy.database import effects, events, nodes, notifications, selections, submissions
from oarpy.database.connection import retrying, savepoint
from oarpy.database.effects import Pending, Subject
from oarpy.database.events import Event
from oarpy.database.nodes import Credit
from oarpy.model.events import EFFECTS, Effect, Resubmits, Suspects
from oarpy.model.job_types import IDEMPOTENT, has_type
from oarpy.model.states import FINAL, ON_NODES, EndCause, JobId, JobState
from oarpy.modules.context import Context

logger = getLogger(__name__)

BATCH = 500
#: What the counter of a chain of copies can count.
MOST_COPIES = 32_000


@dataclass(frozen=True, slots=True)
class Site:
    """How often a job is copied, in a chain, and the address of who is told of what a person must look at."""

    max_resubmissions: int
    max_reruns: int
    admin: str | None


@dataclass(slots=True)
class Consequences:
    """What a batch of events brings about."""

    #: Hosts to suspect, by whether a check said so.
    suspected: dict[bool, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: (array id, index, host): each takes away the credit of one element.
    suspicions: list[tuple[int, int, str]] = field(default_factory=list)
    #: Hosts on which nothing runs any more.
    emptied: set[str] = field(default_factory=set)
    failed: dict[EndCause, list[JobId]] = field(default_factory=lambda: defaultdict(list))
    killed: list[JobId] = field(default_factory=list)
    resubmitted: dict[Resubmits, list[JobId]] = field(default_factory=lambda: defaultdict(list))
    #: Jobs to tell of, by tag and comment.
    told: dict[tuple[str, str], list[JobId]] = field(default_factory=lambda: defaultdict(list))
    #: Lines for the administrator.
    alarms: list[str] = field(default_factory=list)
    logged: list[Event] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    postponed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Applied:
    """What a transaction has changed, and what is to be logged of it once it is committed."""

    outcomes: set[Outcome] = field(default_factory=set)
    #: (level, sentence, its subject).
    said: list[tuple[int, str, object]] = field(default_factory=list)


def turn(ctx: Context) -> Outcome:
    """Apply all pending events and look after jobs on resources that are gone; what almighty should do then."""
    with ctx.transaction() as conn:
        work = effects.work(conn)
    outcomes = {Outcome.NOTHING}
    if (version := work.version) is not None:
        outcomes |= retrying(lambda: _leave_gone_resources(ctx, version))
    if work.events or Outcome.JOBS_TO_KILL in outcomes:
        outcomes |= _apply_events(ctx)
    # The step after a new pass is this one again, and then the killing: nothing is missed.
    return next(o for o in (Outcome.JOBS_CHANGED, Outcome.JOBS_TO_KILL, Outcome.NOTHING) if o in outcomes)


def decide(pending: Sequence[Pending], credit: Credit, max_attempts: int) -> Consequences:
    """What ``pending`` events bring about; a job may be launched ``max_attempts`` times."""
    consequences = Consequences()
    believed = dict(credit.believed)
    for event in pending:
        effect = EFFECTS.get(event.type, Effect())
        if not event.nodes_done:
            _suspect(event, effect, believed, credit.started, consequences)
            if effect.tells is not None and event.job is not None:
                consequences.told[effect.tells, event.description].append(event.job.job_id)
            if effect.empties:
                consequences.emptied.update(event.hosts)
            if effect.alarms:
                consequences.alarms.append(_alarm(event))
        if event.job is None or _settled(event.job, effect, max_attempts, consequences):
            consequences.done.append(event.event_id)
        elif not event.nodes_done:
            consequences.postponed.append(event.event_id)
    return consequences


def _suspect(
    event: Pending,
    effect: Effect,
    believed: dict[tuple[int, int], str],
    started: frozenset[int],
    consequences: Consequences,
) -> None:
    hosts = _accused(event, effect)
    if not hosts:
        return
    job = event.job
    if effect.host_at_fault or job is None:
        consequences.suspected[effect.by_check].update(hosts)
        return
    # Of several hosts one: what all of them have in common is the job.
    host = hosts[0]
    element = (job.array_id, job.array_index)
    if believed.get(element) == host:
        # It was brought back, and nothing has been mended.
        consequences.suspected[effect.by_check].add(host)
        return
    known = {array_id for array_id, _ in believed}
    if element in believed or (job.array_id in known and job.array_id not in started):
        reason = f"not suspected for {event.type}: this job, or one of its array, has made another host Suspected"
        consequences.logged.append(Event("HOST_NOT_SUSPECTED", job.job_id, (host,), reason))
        return
    believed[element] = host
    consequences.suspicions.append((job.array_id, job.array_index, host))
    consequences.suspected[effect.by_check].add(host)


def _accused(event: Pending, effect: Effect) -> tuple[str, ...]:
    job = event.job
    if effect.suspects is Suspects.EVENT_HOSTS:
        return event.hosts
    if job is None or effect.suspects is Suspects.NONE:
        return ()
    if effect.suspects is Suspects.ALL:
        return job.hosts
    # What these begin with runs on a front end, not on the host that they hold.
    if has_type(job.types, "deploy") or has_type(job.types, "cosystem"):
        return ()
    # Of a job on several hosts it may be another one where its launch failed.
    return event.hosts[:1] or ((job.head,) if job.head is not None else ())


def _settled(job: Subject, effect: Effect, max_attempts: int, consequences: Consequences) -> bool:
    """Decide what becomes of the job; False when that has to wait for its end."""
    resubmits = effect.resubmits
    if resubmits in (Resubmits.DISPLACED, Resubmits.ASKING) and not has_type(job.types, IDEMPOTENT):
        resubmits = Resubmits.NONE
    if job.state in FINAL:
        if resubmits is not Resubmits.NONE:
            consequences.resubmitted[resubmits].append(job.job_id)
        return True
    if job.state in ON_NODES:
        if effect.kills:
            consequences.killed.append(job.job_id)
        return effect.fails is None and resubmits is Resubmits.NONE
    if job.state is JobState.FINISHING:
        if effect.fails is None:
            return resubmits is Resubmits.NONE
        # A person's word is as good as what the hosts would say.
        if job.has_inner or (job.has_parts and effect.fails is not EndCause.ADMIN):
            return False
        consequences.failed[effect.fails].append(job.job_id)
        if resubmits is not Resubmits.NONE:
            consequences.resubmitted[resubmits].append(job.job_id)
        return True
    # Never launched, or no launch of it began.
    if effect.fails is not None and (resubmits is Resubmits.NONE or job.attempt > max_attempts):
        consequences.failed[effect.fails].append(job.job_id)
    return resubmits is not Resubmits.DISPLACED


def _alarm(event: Pending) -> str:
    about = [f"job {event.job.job_id}"] if event.job is not None else []
    return f"{' '.join([event.type, *about, *event.hosts])}: {event.description}"


def _apply_events(ctx: Context) -> set[Outcome]:
    outcomes: set[Outcome] = set()
    last = 0
    while (taken := retrying(partial(_apply_batch, ctx, last))) is not None:
        last, applied = taken
        outcomes |= applied.outcomes
        for level, sentence, subject in applied.said:
            logger.log(level, sentence, subject)
    return outcomes


def _apply_batch(ctx: Context, after: int) -> tuple[int, Applied] | None:
    """The id of the last event of the batch, and what came of it; None when no event was left."""
    site = Site(ctx.settings.jobs.max_resubmissions, ctx.settings.jobs.max_reruns, ctx.settings.mail.admin)
    with ctx.transaction(durable=True) as conn:
        pending = effects.take(conn, after=after, count=BATCH)
        if not pending:
            return None
        try:
            with savepoint(conn):
                applied = _apply(conn, pending, site)
        except IntegrityError:
            applied = _apply_one_by_one(conn, pending, site)
        ctx.passes("node_change_state: effects written")
    return pending[-1].event_id, applied


def _apply_one_by_one(conn: Connection, pending: Sequence[Pending], site: Site) -> Applied:
    """The same, but an event whose effect the database refuses is set aside with what it said."""
    applied = Applied()
    for event in pending:
        try:
            with savepoint(conn):
                one = _apply(conn, [event], site)
        except IntegrityError as error:
            sentence = str(error.orig).strip().split("\n")[0]
            job_id = None if event.job is None else event.job.job_id
            events.append(conn, [Event("EVENT_SET_ASIDE", job_id, event.hosts, f"{event.type}: {sentence}")])
            effects.remove(conn, [event.event_id])
            applied.said.append((ERROR, "event %d: set aside; EVENT_SET_ASIDE says why", event.event_id))
        else:
            applied.outcomes |= one.outcomes
            applied.said += one.said
    return applied


def _apply(conn: Connection, pending: Sequence[Pending], site: Site) -> Applied:
    arrays = [event.job.array_id for event in pending if event.job is not None and not event.nodes_done]
    consequences = decide(pending, nodes.credit(conn, arrays), site.max_resubmissions + 1)
    suspected = [
        host
        for by_check, hosts in consequences.suspected.items()
        for host in nodes.suspect(conn, hosts, by_check=by_check)
    ]
    nodes.record_suspicions(conn, consequences.suspicions)
    ended, parted = _empty(conn, consequences.emptied)
    for cause, job_ids in consequences.failed.items():
        ended += nodes.fail(conn, job_ids, cause)
    copies: dict[JobId, JobId] = {}
    for kind, job_ids in consequences.resubmitted.items():
        copies |= _resubmit(conn, effects.resubmittable(conn, job_ids, kind), kind, site)
    for (tag, comment), job_ids in consequences.told.items():
        notifications.tell(conn, job_ids, tag, comment)
    if site.admin is not None:
        notifications.alarm(conn, site.admin, consequences.alarms)
    killed = parted | selections.wish_dead(conn, consequences.killed, "oar")
    events.append(conn, consequences.logged)
    effects.remove(conn, consequences.done)
    effects.postpone(conn, consequences.postponed)
    applied = Applied()
    if suspected or ended or copies:
        applied.outcomes.add(Outcome.JOBS_CHANGED)
    if killed:
        applied.outcomes.add(Outcome.JOBS_TO_KILL)
    applied.said += [(WARNING, "host %s: Suspected", host) for host in suspected]
    applied.said += [(INFO, "job %d: Error", job_id) for job_id in ended]
    applied.said += [(INFO, "job %d: submitted again", job_id) for job_id in copies]
    return applied


def _empty(conn: Connection, hosts: Collection[str]) -> tuple[list[JobId], frozenset[JobId]]:
    """The jobs that end because a person says that nothing runs on ``hosts``, and those that are to be killed."""
    if not hosts:
        return [], frozenset()
    gone = nodes.declare_jobs_gone(conn, hosts)
    names = tuple(sorted(hosts))
    lost = "a person said that nothing of it is left there; it ends on its other hosts, too"
    events.append(conn, [Event("PART_LOST", job_id, names, lost) for job_id in (*gone.headless, *gone.parted)])
    said = "it holds resources of other hosts besides, so the word about these does not end it"
    events.append(conn, [Event("JOB_NOT_GONE", job_id, names, said) for job_id in gone.elsewhere])
    return list(gone.ended), selections.wish_dead(conn, gone.parted, "oar", EndCause.ADMIN)


def _resubmit(conn: Connection, job_ids: Sequence[JobId], kind: Resubmits, site: Site) -> dict[JobId, JobId]:
    failed = kind in (Resubmits.FAILED, Resubmits.FENCED)
    limit = min(site.max_resubmissions if failed else site.max_reruns, MOST_COPIES)
    had = "have failed" if failed else "have been made"
    copies = submissions.resubmit(conn, job_ids, max_resubmissions=limit)
    resubmitted = [
        Event("RESUBMIT_JOB_AUTOMATICALLY", old, description=f"submitted again as job {new}")
        for old, new in copies.items()
    ]
    limited = [
        Event("RESUBMISSION_LIMIT", job_id, description=f"not submitted again: {limit} copies {had} already")
        for job_id in job_ids
        if job_id not in copies
    ]
    events.append(conn, resubmitted + limited)
    return copies


def _leave_gone_resources(ctx: Context, version: int) -> set[Outcome]:
    """Act on the fact: live jobs on resources that cannot be used any more."""
    with ctx.transaction(durable=True) as conn:
        # First, as the scheduler does: it locks this row before those of jobs.
        nodes.examined(conn, version)
        withdrawn = nodes.withdraw_from_unusable(conn)
        killed = nodes.kill_on_gone(conn)
        events.append(
            conn,
            [
                Event("FRAG_JOB_REQUEST", job_id, tuple(hosts), "it holds resources that are Absent, Dead or removed")
                for job_id, hosts in killed.items()
            ],
        )
    for job_id in withdrawn:
        logger.info("job %d: Waiting again, its resources are not Alive", job_id)
    for job_id in killed:
        logger.info("job %d: to be killed, its resources are gone", job_id)
    return ({Outcome.JOBS_CHANGED} if withdrawn else set()) | ({Outcome.JOBS_TO_KILL} if killed else set())
