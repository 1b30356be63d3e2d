"""The scheduler: reads a snapshot, decides with no transaction open, writes what still holds.

Killed before it has written, nothing has happened; killed after, everything has:
allocations, wishes to kill and predictions are one transaction.  What is kept
from pass to pass (topology, requests, what was said last) is read again by the
next process.

With a crowd waiting, most of a pass serves predictions.  Those are made only so
often that they take a small part of the time; the passes in between plan the
head of the queue and try all others for an immediate start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from logging import getLogger
from typing import NamedTuple

from oarpy.automata.almighty import Event as Outcome
from oarpy.automata.job import JobEvent
from oarpy.database import events, kills, plans, walltimes
from oarpy.database.connection import retrying
from oarpy.database.events import Event
from oarpy.database.plans import Prediction, Said
from oarpy.database.snapshot import Mark, Reading, SnapshotReader, waiting_mark
from oarpy.errors import Stale
from oarpy.model.ranges import parsed_ranges, written_ranges
from oarpy.model.states import JobId, Replan
from oarpy.modules.context import Context
from oarpy.modules.last_plan import LastPlan, More
from oarpy.modules.plan_writing import Changes, EnergyTold, Written, write
from oarpy.modules.tokens import TokenCounters
from oarpy.scheduling.decide import decide
from oarpy.scheduling.explain import BEYOND_DEPTH, RESERVATION_INCOMPLETE, SET_ASIDE, sentence
from oarpy.scheduling.karma import karmas
from oarpy.scheduling.order import priorities
from oarpy.scheduling.plan import Begin, Doom, Energy, Grant, Plan, Postpone, Predict, Refuse, SetAside, Start, Why
from oarpy.scheduling.snapshot import Promise, Snapshot, WaitingJob
from oarpy.scheduling.usage import Account
from oarpy.scheduling.walltimes import LongerWish, prolonged
from oarpy.settings import WalltimeChange

logger = getLogger(__name__)

#: With more jobs waiting than this, not every pass predicts for all of them.
CROWD = 100
#: How many jobs at the head of the queue keep their planned start in every pass.
HEAD = 32
#: How many times as long as a full pass took the next one is put off.
REST = 9
#: How long a job is left alone on which deciding failed, and one whose allocation was refused.
ASIDE_S = 60.0
REFUSED_S = 1.0
#: How often a plan is made again because the resources have changed meanwhile.
ATTEMPTS = 3


def turn(ctx: Context) -> Outcome:
    """One pass, by a scheduler that remembers nothing."""
    return Scheduler(ctx).turn()


class _Effort(NamedTuple):
    """``full``: predictions are written; ``complete``: for every job, however many wait."""

    full: bool
    complete: bool
    plan_first: int | None


class Scheduler:
    """What is kept from one pass to the next.

    ``due_in_s`` is how soon another turn is wanted even if nothing happens until
    then; None when nothing was put off.
    """

    def __init__(self, ctx: Context) -> None:
        self.due_in_s: float | None = None
        self._ctx = ctx
        self._reader = SnapshotReader()
        self._last = LastPlan(self._reader)
        #: Whether a plan for all that was due was put off for jobs that had just come.
        self._overdue = False
        self._tokens = TokenCounters(ctx)
        #: What was said of hosts' sleep, once this process has said anything.
        self._energy: Energy | None = None
        self._energy_told = False
        self._said: dict[JobId, Said] = {}
        #: The places that jobs were told in the last plan that was written, in its order.
        self._told: dict[JobId, Promise] = {}
        self._aside_until: dict[JobId, float] = {}
        #: What people are told; None as long as this process has told nothing.
        self._karmas: Mapping[Account, float] | None = None
        self._priorities: Mapping[JobId, float] | None = None
        # By the monotonic clock: when to predict again, to plan for all, and to report.
        self._full_due = 0.0
        self._complete_due = 0.0
        self._report_due = 0.0

    def turn(self) -> Outcome:
        """Decide on all waiting jobs; JOBS_TO_KILL when some must go, JOBS_CHANGED when there is more to decide."""
        for _ in range(ATTEMPTS):
            try:
                return self._pass()
            except Stale as stale:
                self._last.forget()
                logger.debug("pass: %s", stale)
        self.due_in_s = REFUSED_S
        return Outcome.NOTHING

    def _pass(self) -> Outcome:
        begun = time.monotonic()
        more = self._more(begun)
        if more is not None:
            return self._carry_on(more, begun)
        with self._ctx.snapshot() as conn:
            reading = self._reader.read(conn, self._ctx.limits())
            wishes = walltimes.pending(conn)
            mark = waiting_mark(conn) if len(reading.snapshot.waiting) > CROWD else None
        self._withdraw_kills(reading.snapshot)
        snapshot = self._without_those_set_aside(reading.snapshot, begun)
        counted_in_s = self._tokens.count(snapshot.tokens) if snapshot.tokens else None
        effort = self._effort(len(snapshot.waiting), begun)
        if effort.complete:
            with self._ctx.transaction() as conn:
                self._said = plans.said(conn)
                plans.log_hourly(conn)
            # What is told of a job goes with its prediction, and that may have been made anew.
            if self._priorities:
                self._priorities = None
        snapshot = replace(snapshot, promises=self._promises(snapshot))
        plan = self._decided(snapshot, reading, effort, mark)
        self._ctx.passes("scheduler: decided")
        changes = self._changes(plan, reading, effort)
        if wishes and effort.full and len(snapshot.waiting) <= (effort.plan_first or len(snapshot.waiting)):
            platform = reading.platform
            longer = prolonged(snapshot, plan, self._due(wishes), lambda other: decide(other, platform), platform)
            changes.longer = longer
        self._to_tell(changes, plan, snapshot, reading, effort)
        written = self._written(changes, snapshot)
        self._remember(changes, written, begun)
        if effort.full:
            self._remember_places(plan)
        self._put_off(effort, begun)
        self._wait_at_most(_until_next_start(plan, snapshot.now_s))
        self._wait_at_most(counted_in_s)
        for early in self._not_due(wishes):
            self._wait_at_most(float(early.left_s))
        if len(written.started) < len(changes.starts) or len(written.granted) < len(changes.grants):
            self.due_in_s = REFUSED_S
        if time.monotonic() >= self._report_due and changes:
            self._report(plan, written, begun)
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
        overdue = begun >= self._complete_due
        if overdue and not more.plan.decisions:
            return None
        self._overdue = overdue
        return more

    def _carry_on(self, more: More, begun: float) -> Outcome:
        plan, snapshot = more.plan, more.reading.snapshot
        self._ctx.passes("scheduler: decided")
        changes = self._changes(plan, more.reading, _Effort(full=True, complete=True, plan_first=None))
        written = self._written(changes, snapshot)
        self._last.keep(more)
        self._remember(changes, written, begun)
        self._told |= plan.promises()
        self.due_in_s = 0.0 if self._overdue else None
        self._wait_at_most(_until_next_start(plan, snapshot.now_s))
        if len(written.started) < len(changes.starts):
            self.due_in_s = REFUSED_S
        if time.monotonic() >= self._report_due and changes:
            self._report(plan, written, begun)
        return Outcome.NOTHING

    def _written(self, changes: Changes, snapshot: Snapshot) -> Written:
        if not changes:
            return Written()
        karmas_told = bool(self._karmas if changes.karmas is None else changes.karmas)
        # Other processes forget predictions, several at once.
        written = retrying(lambda: write(self._ctx, changes, snapshot.topology, karmas_told=karmas_told))
        self._ctx.passes("scheduler: written")
        self._remember_told(changes)
        return written

    def _decided(self, snapshot: Snapshot, reading: Reading, effort: _Effort, mark: Mark | None) -> Plan:
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

    def _to_tell(self, changes: Changes, plan: Plan, snapshot: Snapshot, reading: Reading, effort: _Effort) -> None:
        """Add what people are told of karmas, priorities and hosts' sleep, where that has changed."""
        known = karmas(snapshot)
        if known != self._karmas:
            changes.karmas = known
        if effort.full:
            ranked = priorities(snapshot, reading.platform)
            if ranked != self._priorities:
                changes.priorities = ranked
        planned_for_all = effort.plan_first is None or len(snapshot.waiting) <= effort.plan_first
        if planned_for_all and not (self._energy_told and plan.energy == self._energy):
            changes.energy = EnergyTold(plan.energy)

    def _remember_told(self, changes: Changes) -> None:
        if changes.karmas is not None:
            self._karmas = changes.karmas
        if changes.priorities is not None:
            self._priorities = changes.priorities
        if changes.energy is not None:
            self._energy, self._energy_told = changes.energy.plan, True

    def _without_those_set_aside(self, snapshot: Snapshot, begun: float) -> Snapshot:
        self._aside_until = {job_id: until for job_id, until in self._aside_until.items() if until > begun}
        if not self._aside_until:
            return snapshot

        def left(jobs: tuple[WaitingJob, ...]) -> tuple[WaitingJob, ...]:
            return tuple(job for job in jobs if job.job_id not in self._aside_until)

        return replace(snapshot, waiting=left(snapshot.waiting), requested=left(snapshot.requested))

    def _promises(self, snapshot: Snapshot) -> dict[JobId, Promise]:
        """What binds the next plan: what was told to jobs of queues that keep it, in the order of the last plan."""
        keeping = {queue.name for queue in snapshot.queues if queue.replan is Replan.EARLIER}
        waiting = {
            job.job_id: job.request_id for job in snapshot.waiting if job.queue in keeping and not job.besteffort
        }
        found = {}
        for job_id in dict.fromkeys((*self._told, *self._said)):
            said = self._said.get(job_id)
            if said is None or said.start_s is None or job_id not in waiting:
                continue
            if said.request_id != waiting[job_id]:
                # It was edited: what it was told was told of something else.
                continue
            told = self._told.get(job_id)
            if told is None or told.start_s != said.start_s:
                told = Promise(said.start_s, said.alternative or 0, parsed_ranges(said.resources or "{}"))
            found[job_id] = told
        return found

    def _remember_places(self, plan: Plan) -> None:
        placed = plan.promises()
        self._told = placed | {job_id: told for job_id, told in self._told.items() if job_id not in placed}
        self._told = {job_id: told for job_id, told in self._told.items() if job_id in self._said}

    def _effort(self, waiting: int, begun: float) -> _Effort:
        plan_first = self._ctx.settings.scheduler.plan_first
        if begun >= self._complete_due:
            return _Effort(full=True, complete=True, plan_first=None)
        if waiting <= CROWD or begun >= self._full_due:
            return _Effort(full=True, complete=False, plan_first=plan_first)
        return _Effort(full=False, complete=False, plan_first=min(HEAD, HEAD if plan_first is None else plan_first))

    def _put_off(self, effort: _Effort, begun: float) -> None:
        scheduler = self._ctx.settings.scheduler
        now = time.monotonic()
        if effort.complete:
            self._complete_due = begun + scheduler.period.total_seconds()
        if effort.full:
            self._full_due = now + max(scheduler.predictions_interval.total_seconds(), (now - begun) * REST)
        self.due_in_s = None if effort.full else max(self._full_due - now, 0.0)

    def _wait_at_most(self, seconds: float | None) -> None:
        if seconds is not None:
            self.due_in_s = seconds if self.due_in_s is None else min(seconds, self.due_in_s)

    def _changes(self, plan: Plan, reading: Reading, effort: _Effort) -> Changes:
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
                    told = self._said.get(decision.job_id)
                    if told is not None and told.code == RESERVATION_INCOMPLETE:
                        changes.incomplete.add(decision.job_id)
                    changes.starts.append(decision.start)
                case Postpone(job_id, why) if keeps and why.code == BEYOND_DEPTH and job_id in self._said:
                    pass
                case _ if effort.full:
                    said = _said(decision, asked)
                    if self._said.get(decision.job_id) != said:
                        changes.predictions.append(_prediction(decision.job_id, said, decision.why))
        if effort.full:
            changes.put_off = [(job_id, self._said[job_id]) for job_id in plan.broken if job_id in self._said]
        changes.set_aside += [
            SetAside(job_id, error) for job_id, error in reading.unreadable.items() if job_id not in self._aside_until
        ]
        for aside in changes.set_aside:
            why = Why(SET_ASIDE, {"every_s": int(ASIDE_S)})
            changes.predictions.append(_prediction(aside.job_id, Said(None, None, None, SET_ASIDE), why))
        return changes

    def _remember(self, changes: Changes, written: Written, begun: float) -> None:
        for prediction in changes.predictions:
            self._said[prediction.job_id] = prediction.said
        for job_id in (*written.started, *written.doomed):
            self._said.pop(job_id, None)
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
        self._report_due = begun + self._ctx.settings.scheduler.predictions_interval.total_seconds()
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


def _said(decision: Predict | Postpone, asked: Mapping[JobId, int]) -> Said:
    request_id = asked.get(decision.job_id)
    if isinstance(decision, Postpone):
        return Said(None, None, None, decision.why.code, request_id)
    resources = written_ranges(decision.resources)
    return Said(decision.start_s, decision.alternative, resources, decision.why.code, request_id)


def _prediction(job_id: JobId, said: Said, why: Why) -> Prediction:
    return Prediction(job_id, said, why.numbers, sentence(why))


def _until_next_start(plan: Plan, now_s: int) -> float | None:
    """How soon the first planned start comes, or another moment at which nothing else need happen."""
    starts = [decision.start_s for decision in plan.decisions if isinstance(decision, Predict)]
    if plan.look_again_s is not None:
        starts.append(plan.look_again_s)
    return float(max(min(starts) - now_s, 1)) if starts else None
