"""The scheduler: reads a snapshot, decides with no transaction open, writes what still holds.

Killed before it has written, nothing has happened; killed after, everything has:
allocations, wishes to kill and predictions are one transaction.  What is kept
from pass to pass (topology, requests, what was said last) is read again by the
next process.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from logging import getLogger

from oarpy.automata.almighty import Event as Outcome
from oarpy.automata.job import JobEvent
from oarpy.database import events, kills, plans, walltimes
from oarpy.database.connection import retrying
from oarpy.database.events import Event
from oarpy.database.plans import Said
from oarpy.database.snapshot import Mark, Reading, SnapshotReader, waiting_mark
from oarpy.errors import Stale
from oarpy.model.states import JobId
from oarpy.modules.context import Context
from oarpy.modules.last_plan import LastPlan, More
from oarpy.modules.pace import FOR_ALL, Effort, Pace, is_crowd
from oarpy.modules.plan_writing import Changes, Written, write
from oarpy.modules.tokens import TokenCounters
from oarpy.modules.told import Told, prediction
from oarpy.scheduling.decide import decide
from oarpy.scheduling.explain import BEYOND_DEPTH, RESERVATION_INCOMPLETE, SET_ASIDE
from oarpy.scheduling.karma import karmas
from oarpy.scheduling.order import priorities
from oarpy.scheduling.plan import Begin, Doom, Grant, Plan, Postpone, Predict, Refuse, SetAside, Start, Why
from oarpy.scheduling.snapshot import Snapshot, WaitingJob
from oarpy.scheduling.walltimes import LongerWish, prolonged
from oarpy.settings import WalltimeChange

logger = getLogger(__name__)

#: How long a job is left alone on which deciding failed, and one whose allocation was refused.
ASIDE_S = 60.0
REFUSED_S = 1.0
#: How often a plan is made again because the resources have changed meanwhile.
ATTEMPTS = 3


def turn(ctx: Context) -> Outcome:
    """One pass, by a scheduler that remembers nothing."""
    return Scheduler(ctx).turn()


class Scheduler:
    """What is kept from one pass to the next."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._pace = Pace(ctx.settings.scheduler)
        self._reader = SnapshotReader()
        self._last = LastPlan(self._reader)
        #: Whether a plan for all that was due was put off for jobs that had just come.
        self._overdue = False
        self._tokens = TokenCounters(ctx)
        self._told = Told()
        self._aside_until: dict[JobId, float] = {}

    @property
    def due_in_s(self) -> float | None:
        """How soon another turn is wanted even if nothing happens until then; None when nothing was put off."""
        return self._pace.due_in_s

    def turn(self) -> Outcome:
        """Decide on all waiting jobs; JOBS_TO_KILL when some must go, JOBS_CHANGED when there is more to decide."""
        for _ in range(ATTEMPTS):
            try:
                return self._pass()
            except Stale as stale:
                self._last.forget()
                logger.debug("pass: %s", stale)
        self._pace.due_in_s = REFUSED_S
        return Outcome.NOTHING

    def _pass(self) -> Outcome:
        begun = time.monotonic()
        more = self._more(begun)
        if more is not None:
            return self._carry_on(more, begun)
        with self._ctx.snapshot() as conn:
            reading = self._reader.read(conn, self._ctx.limits())
            wishes = walltimes.pending(conn)
            mark = waiting_mark(conn) if is_crowd(len(reading.snapshot.waiting)) else None
        self._withdraw_kills(reading.snapshot)
        snapshot = self._without_those_set_aside(reading.snapshot, begun)
        counted_in_s = self._tokens.count(snapshot.tokens) if snapshot.tokens else None
        effort = self._pace.effort(len(snapshot.waiting), begun)
        if effort.complete:
            with self._ctx.transaction() as conn:
                self._told.read(conn)
                plans.log_hourly(conn)
        snapshot = replace(snapshot, promises=self._told.promises(snapshot))
        plan = self._decided(snapshot, reading, effort, mark)
        self._ctx.passes("scheduler: decided")
        changes = self._changes(plan, reading, effort)
        if wishes and effort.full and effort.plans_for_all(len(snapshot.waiting)):
            platform = reading.platform
            changes.longer = prolonged(
                snapshot, plan, self._due(wishes), lambda other: decide(other, platform), platform
            )
        self._to_tell(changes, plan, snapshot, reading, effort)
        written = self._written(changes, snapshot)
        self._remember(changes, written, begun)
        if effort.full:
            self._told.note_places(plan)
        self._pace.spent(effort, begun)
        self._pace.wait_at_most(_until_next_start(plan, snapshot.now_s))
        self._pace.wait_at_most(counted_in_s)
        for early in self._not_due(wishes):
            self._pace.wait_at_most(float(early.left_s))
        self._conclude(plan, changes, written, begun)
        if written.kills:
            return Outcome.JOBS_TO_KILL
        # A reservation may start at once, and one inside another is judged after that.
        judged_again = written.refused and len(snapshot.requested) > len(written.refused)
        again = written.doomed or written.granted or changes.longer or judged_again
        return Outcome.JOBS_CHANGED if again else Outcome.NOTHING

    def _more(self, begun: float) -> More | None:
        """What is decided on jobs that have come, when nothing else has changed since all were planned for."""
        overdue, self._overdue = self._overdue, False
        if not self._last or self._aside_until or overdue:
            return None
        with self._ctx.snapshot() as conn:
            more = self._last.more(conn, self._ctx.limits())
        if more is None:
            return None
        overdue = self._pace.is_overdue(begun)
        if overdue and not more.plan.decisions:
            return None
        self._overdue = overdue
        return more

    def _carry_on(self, more: More, begun: float) -> Outcome:
        plan, snapshot = more.plan, more.reading.snapshot
        self._ctx.passes("scheduler: decided")
        changes = self._changes(plan, more.reading, FOR_ALL)
        written = self._written(changes, snapshot)
        self._last.keep(more)
        self._remember(changes, written, begun)
        self._told.note_more_places(plan)
        self._pace.due_in_s = 0.0 if self._overdue else None
        self._pace.wait_at_most(_until_next_start(plan, snapshot.now_s))
        self._conclude(plan, changes, written, begun)
        return Outcome.NOTHING

    def _conclude(self, plan: Plan, changes: Changes, written: Written, begun: float) -> None:
        """Come again soon where something was refused; and report, when it is time to."""
        if len(written.started) < len(changes.starts) or len(written.granted) < len(changes.grants):
            self._pace.due_in_s = REFUSED_S
        if changes and self._pace.reports(begun):
            self._report(plan, written, begun)

    def _written(self, changes: Changes, snapshot: Snapshot) -> Written:
        if not changes:
            return Written()
        karmas_told = self._told.tells_karmas(changes)
        # Other processes forget predictions, several at once.
        written = retrying(lambda: write(self._ctx, changes, snapshot.topology, karmas_told=karmas_told))
        self._ctx.passes("scheduler: written")
        self._told.note_summaries(changes)
        return written

    def _decided(self, snapshot: Snapshot, reading: Reading, effort: Effort, mark: Mark | None) -> Plan:
        limits = replace(self._ctx.limits(plan_first=effort.plan_first), starts_only=not effort.full)
        limited = replace(snapshot, limits=limits)
        if mark is None or self._aside_until or reading.unreadable:
            self._last.forget()
            return decide(limited, reading.platform)
        return self._last.decide(limited, reading, mark)

    def _withdraw_kills(self, snapshot: Snapshot) -> None:
        """Let besteffort jobs live that still save their work to make room for a job that is gone.

        Raises:
            Stale: there were any.
        """
        dying = {
            job.job_id: job.killed_for
            for job in snapshot.held
            if job.killed_for is not None and (job.killing_from_s or 0) > snapshot.now_s
        }
        if not dying:
            return
        waiting = {job.job_id for job in snapshot.waiting}
        orphans = [job_id for job_id, for_job in dying.items() if for_job not in waiting]
        if not orphans:
            return
        with self._ctx.transaction() as conn:
            withdrawn = kills.withdraw(conn, orphans)
            events.append(
                conn,
                (
                    Event("BESTEFFORT_KILL_WITHDRAWN", job_id, description=f"job {for_job} is gone")
                    for job_id, for_job in withdrawn.items()
                ),
            )
        for job_id, for_job in withdrawn.items():
            logger.info("job %d: need not go, job %d is gone", job_id, for_job)
        if withdrawn:
            raise Stale("jobs that were to go live on")

    def _due(self, wishes: Sequence[walltimes.Pending]) -> list[LongerWish]:
        """The wishes for more walltime that may be granted now."""
        waiting = {one.job_id for one in self._not_due(wishes)}
        return [
            LongerWish(
                one.job_id,
                one.extra_s,
                None if one.force else int(self._rules(one).increment.total_seconds()) or None,
                one.whole,
                one.delays_others,
                one.deadline_s,
            )
            for one in wishes
            if one.job_id not in waiting
        ]

    def _not_due(self, wishes: Sequence[walltimes.Pending]) -> list[walltimes.Pending]:
        """The others, each with the time until it may be."""
        found = []
        for one in wishes:
            apply_s = int(self._rules(one).apply_time.total_seconds())
            if apply_s and not one.force and one.left_s > apply_s:
                found.append(one._replace(left_s=one.left_s - apply_s))
        return found

    def _rules(self, wish: walltimes.Pending) -> WalltimeChange:
        return self._ctx.settings.walltime_change.of(wish.queue)

    def _to_tell(self, changes: Changes, plan: Plan, snapshot: Snapshot, reading: Reading, effort: Effort) -> None:
        """Add what people are told of karmas, priorities and hosts' sleep, where that has changed."""
        self._told.add_karmas(changes, karmas(snapshot))
        if effort.full:
            self._told.add_priorities(changes, priorities(snapshot, reading.platform))
        if effort.plans_for_all(len(snapshot.waiting)):
            self._told.add_energy(changes, plan.energy)

    def _without_those_set_aside(self, snapshot: Snapshot, begun: float) -> Snapshot:
        self._aside_until = {job_id: until for job_id, until in self._aside_until.items() if until > begun}
        if not self._aside_until:
            return snapshot

        def left(jobs: tuple[WaitingJob, ...]) -> tuple[WaitingJob, ...]:
            return tuple(job for job in jobs if job.job_id not in self._aside_until)

        return replace(snapshot, waiting=left(snapshot.waiting), requested=left(snapshot.requested))

    def _changes(self, plan: Plan, reading: Reading, effort: Effort) -> Changes:
        asked = {job.job_id: job.request_id for job in reading.snapshot.waiting}
        changes = Changes(kills=plan.kills, resumes=plan.resumes, asked=asked)
        # Under overload a job that is not planned for keeps what was said of it when it last was.
        keeps = effort.plan_first is not None
        for decision in plan.decisions:
            match decision:
                case Start():
                    changes.starts.append(decision)
                case Doom():
                    changes.dooms.append(decision)
                case SetAside():
                    # What was reserved is looked at in every pass, but complained of once.
                    if decision.job_id not in self._aside_until:
                        changes.set_aside.append(decision)
                case Grant():
                    changes.grants.append(decision)
                case Refuse():
                    changes.refusals.append(decision)
                case Begin():
                    changes.begins.append(decision)
                    told = self._told.of(decision.job_id)
                    if told is not None and told.code == RESERVATION_INCOMPLETE:
                        changes.incomplete.add(decision.job_id)
                    changes.starts.append(decision.start)
                case Postpone(job_id, why) if keeps and why.code == BEYOND_DEPTH and self._told.of(job_id) is not None:
                    pass
                case _ if effort.full:
                    news = self._told.news(decision, asked)
                    if news is not None:
                        changes.predictions.append(news)
        changes.moldable = _moldable(changes, reading.snapshot)
        if effort.full:
            changes.put_off = self._told.put_off(plan.broken)
        changes.set_aside += [
            SetAside(job_id, error) for job_id, error in reading.unreadable.items() if job_id not in self._aside_until
        ]
        for aside in changes.set_aside:
            why = Why(SET_ASIDE, {"every_s": int(ASIDE_S)})
            changes.predictions.append(prediction(aside.job_id, Said(None, None, None, SET_ASIDE), why))
        return changes

    def _remember(self, changes: Changes, written: Written, begun: float) -> None:
        self._told.note(changes.predictions, (*written.started, *written.doomed))
        for aside in changes.set_aside:
            self._aside_until[aside.job_id] = begun + ASIDE_S
            logger.error(
                "job %d: deciding on it failed; the event SCHEDULER_JOB_SET_ASIDE has the details", aside.job_id
            )
        for job_id in written.started:
            logger.info("job %d: allocated", job_id, extra={"event": JobEvent.ALLOCATED.name, "job_id": job_id})
        for job_id in written.granted:
            logger.info("job %d: its reservation is accepted", job_id)
        for job_id in written.refused:
            logger.info("job %d: its reservation is refused", job_id)
        for job_id in written.doomed:
            logger.info("job %d: can never start", job_id, extra={"event": JobEvent.DOOMED.name, "job_id": job_id})
        for job_id in written.resumed:
            logger.info("job %d: is to go on", job_id, extra={"event": "RESUMES", "job_id": job_id})
        for one in written.kills:
            logger.info("job %d: must go for job %d", one.job_id, one.for_job)

    def _report(self, plan: Plan, written: Written, begun: float) -> None:
        took_s = time.monotonic() - begun
        with self._ctx.transaction() as conn:
            plans.report(
                conn,
                {
                    "took_s": round(took_s, 4),
                    "waiting": plan.examined,
                    "started": len(written.started),
                    "slots": plan.slots,
                },
            )


def _moldable(changes: Changes, snapshot: Snapshot) -> frozenset[JobId]:
    """The jobs of which one of several alternatives was chosen."""
    chosen = {one.job_id for one in changes.starts} | {one.job_id for one in changes.grants}
    if not chosen:
        return frozenset()
    asking = chain(snapshot.waiting, snapshot.requested)
    return frozenset(job.job_id for job in asking if job.job_id in chosen and len(job.request.alternatives) > 1)


def _until_next_start(plan: Plan, now_s: int) -> float | None:
    """How soon the first planned start comes, or another moment at which nothing else need happen."""
    starts = [decision.start_s for decision in plan.decisions if isinstance(decision, Predict)]
    if plan.look_again_s is not None:
        starts.append(plan.look_again_s)
    return float(max(min(starts) - now_s, 1)) if starts else None
