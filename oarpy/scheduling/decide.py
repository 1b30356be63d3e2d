"""One pass: each waiting job, in order, gets the earliest place that disturbs none before it.

This is conservative backfilling (Mu'alem and Feitelson, 2001).  A queue may limit
how many of its jobs get a reservation (one makes it EASY); the jobs behind these,
and under overload those behind ``limits.plan_first``, start only where they can
start now.

Normal jobs are placed in a gantt in which running besteffort jobs do not count:
what they need of such jobs' resources is freed by kills.  Waiting besteffort jobs
are placed after all others, in a copy of it in which besteffort jobs do count.

All this holds within each space: the machine, and what each container holds.

Advance reservations come before all: see ``oarpy.scheduling.reservations``.  The places
that jobs were told come next, and each job leaves its own only for an earlier one: see
``oarpy.scheduling.compression``.

Nothing is given away before it is free:

- a job that is being killed holds its resources until its kill deadline, one that
  overruns its planned end for a while more each time it is looked at;
- a job for which others must die is planned for when they are gone;
- from then on it is placed before all others, so what becomes free is for it.

Besteffort jobs are killed so early that a job starts when it is planned to, and no
earlier: those in the way of a start in an hour go on for most of that hour.
"""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import TypeAlias

from oarpy.model.sharing_types import MACHINE, is_placed_apart
from oarpy.model.states import JobId, JobState
from oarpy.scheduling.choice import Choice, Chooser, Demands
from oarpy.scheduling.compression import KeptPlaces
from oarpy.scheduling.containers import Containers
from oarpy.scheduling.dates import lapsed, latest_start_s, within_dates
from oarpy.scheduling.dependencies import Gate, Period, gate
from oarpy.scheduling.energy import energy
from oarpy.scheduling.explain import (
    BEYOND_DEPTH,
    BEYOND_USER,
    BUSY,
    CONTAINER_PENDING,
    DEADLINE_MISSED,
    KILLING,
    NOT_USABLE,
    QUEUE_STOPPED,
    QUEUE_UNKNOWN,
    TOO_LONG,
    WAKING,
    WINDOW_MISSED,
    sentence,
)
from oarpy.scheduling.gantt import NEVER_S, Gantt, Place
from oarpy.scheduling.order import in_order
from oarpy.scheduling.plan import Decision, Doom, Kill, Plan, Postpone, Predict, SetAside, Start, Why
from oarpy.scheduling.platform import Platform
from oarpy.scheduling.promises import Promises, by_priority
from oarpy.scheduling.quotas import Quotas
from oarpy.scheduling.reach import Wider
from oarpy.scheduling.reservations import Bookings
from oarpy.scheduling.resuming import Resuming, resumption
from oarpy.scheduling.sharing import ALONE, sharing
from oarpy.scheduling.snapshot import HeldJob, Queue, Snapshot, WaitingJob
from oarpy.scheduling.space import Holding, Scope, Space, closing
from oarpy.scheduling.tokens import Tokens, needs_tokens
from oarpy.scheduling.victims import Dying, Victim, spare


def decide(snapshot: Snapshot, known: Platform | None = None, *, supposed: Collection[JobId] = ()) -> Plan:
    """One decision for each waiting job, in the order in which they were placed.

    ``known`` saves work when it was made from this version of the topology, and is
    left aside when it was not.  ``supposed`` are jobs that only want to know: each is
    decided on in its turn, and nothing is taken for it.
    """
    if known is None or known.version != snapshot.topology.version:
        known = Platform(snapshot.topology)
    return Pass(snapshot, known, supposed).plan()


Placing: TypeAlias = Callable[[Scope, WaitingJob, Demands, Gate], Decision]


class Pass:
    """The state of one pass; `plan` is called once and gives each job to `_add` when its turn comes."""

    def __init__(self, snapshot: Snapshot, platform: Platform, supposed: Collection[JobId]) -> None:
        self._snapshot = snapshot
        self._supposed = supposed
        self._limits = snapshot.limits
        self._now_s = snapshot.now_s
        self._platform = platform
        self._queues = {queue.name: queue for queue in snapshot.queues}
        usable = platform.usable(self._now_s)
        self._wakeable = platform.wakeable(self._now_s)
        self._asleep = reduce(or_, self._wakeable.values(), 0)
        gantt = Gantt(self._now_s, usable, self._limits.grid_s)
        gantt.in_haste = self._limits.starts_only
        #: When a host is on that is woken now.
        self._awake_s = gantt.on_grid(self._now_s + max(self._limits.wake_s, 1))
        self._machine = Space(MACHINE, gantt, platform.demands(usable), usable & ~self._asleep)
        self._containers = Containers(snapshot, platform, self._machine)
        self._tokens = Tokens(snapshot)
        self._wider = Wider(snapshot, platform, self._machine)
        #: Those who are dying, by the job that they die for.
        self._dying: defaultdict[JobId, Dying] = defaultdict(Dying)
        self._kills: list[Kill] = []
        self._resumes: list[JobId] = []
        self._quotas = Quotas(snapshot.quotas, platform, self._now_s) if snapshot.quotas is not None else None
        self._chooser = Chooser(self._quotas, self._limits.security_s)
        self._planned: dict[JobId, Period] = {}
        self._look_again_s: int | None = None
        #: What is decided about advance reservations: no part of the queue.
        self._fixed: list[Decision] = []
        self._hold(snapshot.held)
        self._reserved: Counter[str] = Counter()
        #: How many jobs of each user were looked at and wait on, by the priority of their queue.
        self._of_user: Counter[tuple[int, str]] = Counter()
        self._passed_over = 0
        #: How many jobs stand where they were told, without a decision.
        self._undecided = 0
        #: Requests that were tried for an immediate start in vain, as they will be by other jobs.
        self._not_now: set[int] = set()
        #: Inner jobs that come before their container in the order, put behind it.
        self._behind: defaultdict[JobId, list[tuple[WaitingJob, Placing]]] = defaultdict(list)
        self._decisions: list[Decision] = []
        self._promises = Promises(snapshot, platform, usable)
        self._kept = KeptPlaces(
            self._promises, self._machine, self._chooser, self._not_now.clear, quotas=self._quotas is not None
        )
        #: How many kept places were left for earlier ones.
        self._moves = 0
        #: What was raised over jobs before their turn.
        self._failed: dict[JobId, str] = {}

    def plan(self) -> Plan:
        order = in_order(self._snapshot, self._dying, self._platform)
        self._failed |= order.failed
        for job in order.promised:
            self._add(job, self._place_promised)
        for space in self._containers.spaces:
            space.forget_strict()
        if self._snapshot.promises:
            for group in by_priority(order.normal, self._snapshot.queues):
                self._add_keeping(group)
        else:
            for job in order.normal:
                self._add(job, self._place_normal)
        self._begin_besteffort()
        for job in order.besteffort:
            self._add(job, self._place_besteffort)
        # What is left waits for one another.
        for container, inner in self._behind.items():
            self._decisions += [
                Postpone(job.job_id, Why(CONTAINER_PENDING, {"container": container})) for job, _ in inner
            ]
        decisions, kills, resumes = (*self._fixed, *self._decisions), tuple(self._kills), tuple(self._resumes)
        slots, told = len(self._machine.gantt), None
        if self._limits.energy:
            told = energy(self._snapshot, self._platform, self._machine.strict.gantt, decisions, self._awake_s)
        broken = self._promises.broken(decisions) if self._snapshot.promises else ()
        examined = len(self._decisions) + self._undecided
        return Plan(decisions, kills, examined, slots, self._look_again_s, resumes, told, broken)

    def append(self, now_s: int, normal: Sequence[WaitingJob], besteffort: Sequence[WaitingJob]) -> Plan:
        """What is decided on jobs that come behind all others some time after `plan`; see `Standing`."""
        self._now_s = now_s
        self._machine.gantt.begin_later(now_s)
        before = len(self._decisions)
        for job in normal:
            self._add(job, self._place_normal)
        for job in besteffort:
            self._add(job, self._place_besteffort)
        decisions = tuple(self._decisions[before:])
        return Plan(decisions, examined=len(self._decisions), slots=len(self._machine.gantt))

    @property
    def first_slot_end_s(self) -> int:
        """When something is planned to change on the machine."""
        return self._machine.gantt.first_slot_end_s

    def _begin_besteffort(self) -> None:
        """Only besteffort jobs are left; an inquiry places those before the one that is asked for otherwise now."""

    def _add_keeping(self, jobs: Sequence[WaitingJob]) -> None:
        """Decide on jobs of one priority; places that were told, and still stand, are in nobody else's reach."""
        standing = self._kept.put_down(jobs)
        self._failed |= self._promises.failed
        for job in jobs:
            if job.job_id not in standing:
                self._add(job, self._place_normal)
            elif not self._only_stands(job):
                self._add(job, self._place_kept)
                # The job may have been passed over.
                self._kept.release(job.job_id)

    def _only_stands(self, job: WaitingJob) -> bool:
        """Let the place that a job was told be its own without a decision, where that is all that can come of one."""
        limits, first = self._limits, self._limits.plan_first
        if not limits.starts_only or first is None or len(self._decisions) - self._passed_over < first:
            return False
        judged_singly = self._quotas is not None or limits.jobs_per_user is not None or self._machine.victims
        if judged_singly or self._queues[job.queue].depth is not None or job.job_id in self._supposed:
            return False
        if job.job_id in self._failed or not self._kept.is_its_own(job):
            return False
        kept = self._kept.claim(job.job_id)
        self._planned[job.job_id] = Period(kept.start_s, kept.end_s)
        self._look_again(kept.start_s)
        self._undecided += 1
        return True

    def _hold(self, held: Sequence[HeldJob]) -> None:
        gantt = self._machine.gantt
        holdings: defaultdict[Space, list[Holding]] = defaultdict(list)
        resuming: list[tuple[Space, Resuming]] = []
        for job in held:
            space = self._containers.holding(job)
            if space is None:
                continue
            bits = self._platform.bits(job.resources)
            end_s = gantt.on_grid(self._end_s(job))
            shared = sharing(job.types, job.user, job.name, besteffort=job.besteffort) if job.types else ALONE
            if self._quotas is not None and (not job.suspended or job.state is JobState.RESUMING):
                self._quotas.hold(job, bits, end_s)
            if job.suspended:
                lent = bits & self._platform.of_types(self._limits.lent_types)
                bits &= ~lent
                if job.state is JobState.RESUMING:
                    resuming.append((space, Resuming(job.job_id, lent, end_s - self._now_s, shared)))
            space.note_end(job.job_id, end_s, bits)
            if job.besteffort and job.killing_until_s is None:
                lived_s = self._now_s - job.started_s if job.started_s is not None else 0
                dead_s = self._now_s + max(self._limits.kill_grace_s + job.checkpoint_s, 1)
                lost_s = lived_s * bits.bit_count()
                gone_s = gantt.on_grid(dead_s)
                space.add_victim(Victim(job.job_id, bits, lost_s, end_s, dead_s, gone_s, sharing=shared))
            else:
                holdings[space].append(Holding(end_s, bits, shared))
            if job.killing_until_s is not None and job.killed_for is not None:
                soon_s = (job.killing_from_s or 0) + self._limits.kill_grace_s
                self._dying[job.killed_for].add(job.job_id, end_s, soon_s)
        self._wider.hold(holdings[self._machine])
        if self._asleep:
            holdings[self._machine].append(Holding(self._awake_s, self._asleep))
        for space, held_there in holdings.items():
            space.hold(held_there)
        for upto_s, bits in self._wakeable.items():
            closing(gantt, upto_s, bits)
        if self._snapshot.reserved or self._snapshot.requested:
            self._keep_reservations()
        for space, suspended in resuming:
            resumes, kills = resumption(space, suspended)
            self._kills += kills
            self._resumes += [suspended.job_id] if resumes else []

    def _keep_reservations(self) -> None:
        parts = (self._snapshot, self._platform, self._machine, self._containers, self._quotas)
        bookings = Bookings(*parts, end_s=self._end_s, supposed=self._supposed)
        self._fixed += bookings.decide()
        for reserved in bookings.begun:
            self._tokens.take(reserved)
        self._kills += bookings.kills
        self._planned.update(bookings.planned)
        if bookings.due_s is not None:
            self._look_again(bookings.due_s)

    def _end_s(self, job: HeldJob) -> int:
        """When its resources are expected to be free: later than now, whatever the tables say."""
        end_s = job.end_s + self._limits.security_s
        if job.killing_until_s is not None:
            end_s = min(end_s, job.killing_until_s)
        return end_s if end_s > self._now_s else self._now_s + max(self._limits.security_s, 1)

    def _add(self, job: WaitingJob, placing: Placing) -> None:
        error = self._failed.get(job.job_id)
        try:
            container = self._containers.awaited(job) if error is None else None
            if container is not None:
                self._behind[container].append((job, placing))
                return
            decision = self._decide(job, placing) if error is None else SetAside(job.job_id, error)
        except Exception:
            decision = SetAside(job.job_id, traceback.format_exc())
        if self._limits.jobs_per_user is not None:
            self._count_of_user(job, decision)
        self._decisions.append(decision)
        self._containers.decided(job)
        for inner, its_placing in self._behind.pop(job.job_id, ()):
            self._add(inner, its_placing)

    def _count_of_user(self, job: WaitingJob, decision: Decision) -> None:
        """Count what has a planned start or is only tried for now; not what has no place for other reasons."""
        queue = self._queues.get(job.queue)
        if queue is None or not queue.active or job.job_id in self._supposed:
            return
        if isinstance(decision, Predict) or (isinstance(decision, Postpone) and self._is_beyond_depth(job)):
            self._of_user[queue.priority, job.user] += 1

    def _is_beyond_user(self, job: WaitingJob, queue: Queue) -> bool:
        most = self._limits.jobs_per_user
        return most is not None and self._of_user[queue.priority, job.user] >= most and job.job_id not in self._dying

    def _decide(self, job: WaitingJob, placing: Placing) -> Decision:
        if job.expires_s is not None or job.deadline_s is not None:
            ended = lapsed(job, self._now_s)
            if ended is not None:
                return ended
            self._look_again(latest_start_s(job) + 1)
        queue = self._queues.get(job.queue)
        if queue is None or not queue.active:
            return Postpone(job.job_id, Why(QUEUE_STOPPED if queue else QUEUE_UNKNOWN, {"queue": job.queue}))
        if self._is_beyond_user(job, queue):
            self._passed_over += 1
            return Postpone(job.job_id, Why(BEYOND_USER, {"most": self._limits.jobs_per_user}))
        if self._cannot_start_now(job) and self._is_beyond_depth(job) and job.job_id not in self._kept:
            return self._beyond_depth(job)
        passed = gate(job, self._now_s, self._planned)
        if not isinstance(passed, Gate):
            return passed
        if job.expires_s is not None or job.deadline_s is not None:
            passed = within_dates(job, passed)
        spaces = self._containers.of(job)
        if isinstance(spaces, Postpone | Doom):
            return spaces
        shared = sharing(job.types, job.user, job.name, besteffort=job.besteffort) if job.types else ALONE
        fitting = []
        for space in (self._wider.of(job, one) for one in spaces):
            prepared = space.demands.shared(job.request_id, job.request)
            if prepared.refusal is None:
                fitting.append((Scope(space, shared), prepared.demands))
        if not fitting:
            return self._unfit(job, self._wider.of(job, spaces[0]))
        if job.types and needs_tokens(job):
            lacking = self._tokens.lacking(job)
            if lacking is not None:
                return lacking
        self._chooser.limited = None
        scope, demands = fitting[0] if len(fitting) == 1 else self._soonest(job, fitting, passed)
        return placing(scope, job, demands, passed)

    def _unfit(self, job: WaitingJob, space: Space) -> Postpone | Doom:
        """What is said of a job that does not fit even where nothing is occupied."""
        said = self._containers.too_small(job, space)
        if said is not None:
            return said
        refusal = space.demands.shared(job.request_id, job.request).refusal
        lasting = self._platform.demands(self._platform.lasting).shared(job.request_id, job.request).refusal
        out_of_service = Why(NOT_USABLE, {"reason": sentence(refusal) if refusal is not None else ""})
        return Postpone(job.job_id, out_of_service if space.number != MACHINE or lasting is None else lasting)

    def _soonest(
        self, job: WaitingJob, fitting: Sequence[tuple[Scope, Demands]], passed: Gate
    ) -> tuple[Scope, Demands]:
        """Of several containers of one name the one in which the job ends first."""
        views = [scope.strict if job.besteffort else scope.normal for scope, _ in fitting]
        demands = [demands for _, demands in fitting]
        found = [self._chooser.choose(job, *there, passed) for there in zip(views, demands, strict=True)]
        ends = [(choice.end_s, i) for i, choice in enumerate(found) if choice is not None]
        return fitting[min(ends)[1] if ends else 0]

    def _look_again(self, at_s: int) -> None:
        if self._look_again_s is None or at_s < self._look_again_s:
            self._look_again_s = at_s

    def _cannot_start_now(self, job: WaitingJob) -> bool:
        """Whether that is known without a search.  In a crowd it is of most jobs."""
        if job.dependencies or job.job_id in self._dying:
            return False
        if job.request_id in self._not_now:
            return True
        # In a container, and in what others share, there may be room where the machine has none.
        view = self._machine.strict if job.besteffort else self._machine.normal
        return not view.gantt.free_now and not is_placed_apart(job.types) and not self._wider.reaches_further(job)

    def _is_beyond_queue_depth(self, job: WaitingJob) -> bool:
        depth = self._queues[job.queue].depth
        return depth is not None and self._reserved[job.queue] >= depth

    def _is_beyond_depth(self, job: WaitingJob) -> bool:
        """Whether the job is behind those that get a reservation: it starts now or has no place."""
        if self._is_beyond_queue_depth(job):
            return True
        first = self._limits.plan_first
        return first is not None and len(self._decisions) - self._passed_over >= first

    def _beyond_depth(self, job: WaitingJob) -> Postpone:
        limits = self._queues[job.queue].depth, self._limits.plan_first
        return Postpone(job.job_id, Why(BEYOND_DEPTH, {"planned": min(n for n in limits if n is not None)}))

    def _place_promised(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate) -> Decision:
        """Where it fits without further kills when those who die for it are gone, else with as few as possible."""
        dying = self._dying[job.job_id]
        in_time = replace(passed, latest_s=min(dying.dead_s, passed.latest_s))
        choice = self._kept.delayed(scope, job, demands, passed, dying.dead_s)
        if choice is None:
            choice = self._chooser.choose(job, scope.strict, demands, in_time)
        if choice is not None:
            return self._settle(scope, job, choice, Why(KILLING, _killed(dying.job_ids)))
        afterwards = replace(in_time, earliest_s=max(dying.dead_s, passed.earliest_s))
        choice = self._chooser.choose(job, scope.normal, demands, afterwards)
        if choice is not None and choice.demand.take(self._chooser.room_in_time(scope, choice)) is not None:
            return self._kill_for(scope, job, choice, dying.soon_s, passed)
        return self._place_normal(scope, job, demands, passed)

    def _place_normal(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate) -> Decision:
        within = self._within_depth(job, passed)
        choice = self._chooser.choose(job, scope.normal, demands, within)
        if choice is None:
            return self._without_place(scope, job, demands, passed)
        return self._place_at(scope, job, demands, passed, choice)

    def _place_at(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate, choice: Choice) -> Decision:
        """The chosen place, or the next one that is rid of besteffort jobs in time."""
        if not choice.place.taken & scope.space.preemptible:
            return self._settle(scope, job, choice, self._why(scope, choice, passed))
        if choice.place.start_s > scope.space.slowest_s:
            self._look_again(self._now_s + choice.place.start_s - scope.space.slowest_s)
            return self._settle(scope, job, choice, self._why(scope, choice, passed))
        # Besteffort jobs hold some of it.  Perhaps other resources will do.
        besteffort = scope.space.held_by_besteffort(choice.place.start_s)
        taken = choice.demand.take(self._chooser.room(scope, choice) & ~besteffort)
        untouched = choice._replace(place=Place(choice.place.start_s, taken)) if taken is not None else None
        if untouched is not None and self._chooser.verdict(job, untouched.demand, untouched.place) is None:
            return self._settle(scope, job, untouched, self._why(scope, untouched, passed))
        return self._displace(scope, job, demands, passed, choice.place.start_s)

    def _place_kept(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate) -> Decision:
        """An earlier place than the one that the job was told, which stands, or else that one."""
        told = None if self._is_beyond_queue_depth(job) else self._kept.told(scope, job, demands, passed)
        if told is None:
            self._kept.release(job.job_id)
            return self._place_normal(scope, job, demands, passed)
        told_s = told.place.start_s
        choice = self._kept.left_for(job, demands, passed, told, told_s if self._may_move(job) else self._now_s)
        told = told._replace(limited=self._chooser.limited)
        if choice is not None:
            by_then = replace(passed, latest_s=min(told_s, passed.latest_s))
            decision = self._place_at(scope, job, demands, by_then, choice)
            if isinstance(decision, Start | Predict):
                self._moves += 1
                return decision
        elif not self._is_in_use(scope, told):
            return self._settle(scope, job, told, self._why(scope, told, passed), stands=True)
        self._kept.release(job.job_id)
        return self._place_at(scope, job, demands, passed, told)

    def _may_move(self, job: WaitingJob) -> bool:
        """Whether a kept place may be left for a better one that is not now."""
        if self._is_beyond_depth(job):
            return False
        if self._moves >= self._limits.moves:
            self._look_again(self._now_s + 1)
        return self._moves < self._limits.moves

    def _is_in_use(self, scope: Scope, choice: Choice) -> bool:
        """Whether besteffort jobs hold some of it who might not be gone by then."""
        taken, start_s = choice.place.taken, choice.place.start_s
        if not taken & scope.space.preemptible:
            return False
        if start_s > scope.space.slowest_s:
            self._look_again(self._now_s + start_s - scope.space.slowest_s)
            return False
        return True

    def _displace(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate, wanted_s: int) -> Decision:
        """A place for a job that could start at ``wanted_s`` if there were no besteffort jobs.

        The first that these leave in time; one who saves its work first may take longer than others.
        """
        beyond_depth = self._is_beyond_depth(job)
        for gone_s in scope.space.gone_s:
            earliest_s = max(gone_s, passed.earliest_s)
            latest_s = min(gone_s, passed.latest_s) if beyond_depth else passed.latest_s
            within = replace(passed, earliest_s=earliest_s, latest_s=latest_s)
            choice = self._chooser.choose(job, scope.normal, demands, within)
            if choice is not None and choice.demand.take(self._chooser.room_in_time(scope, choice)) is not None:
                start_s = choice.place.start_s
                return self._kill_for(scope, job, choice, wanted_s if start_s <= earliest_s else start_s, passed)
        return self._without_place(scope, job, demands, passed)

    def _place_besteffort(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate) -> Decision:
        within = self._within_depth(job, passed)
        choice = self._chooser.choose(job, scope.strict, demands, within, self._limits.besteffort_s)
        if choice is None:
            return self._without_place(scope, job, demands, passed)
        return self._settle(scope, job, choice, self._why(scope, choice, passed))

    def _within_depth(self, job: WaitingJob, passed: Gate) -> Gate:
        """The gate for a job that may be beyond those that get a reservation: it starts now or not at all."""
        return replace(passed, latest_s=self._now_s) if self._is_beyond_depth(job) else passed

    def _settle(
        self, scope: Scope, job: WaitingJob, choice: Choice, why: Why, *, stands: bool = False
    ) -> Start | Predict:
        demand, (start_s, taken) = choice.demand, choice.place
        end_s = start_s + self._chooser.length_s(demand)
        resources = self._platform.ranges(taken)
        if job.job_id not in self._supposed:
            if stands:
                self._kept.claim(job.job_id)
            else:
                scope.space.occupy(start_s, end_s, taken, scope.sharing, strictly=job.besteffort)
            scope.space.note_end(job.job_id, scope.space.gantt.on_grid(end_s), taken)
            self._containers.open(job, start_s, demand.walltime_s, taken)
            if self._quotas is not None:
                self._quotas.add(job, taken, demand.walltime_s, start_s, self._machine.gantt.on_grid(end_s))
            self._planned[job.job_id] = Period(start_s, end_s)
            self._reserved[job.queue] += start_s > self._now_s
            if start_s == self._now_s and job.types and needs_tokens(job):
                self._tokens.take(job)
        if start_s == self._now_s:
            return Start(job.job_id, demand.index, demand.walltime_s, resources, scope.space.number, scope.sharing)
        return Predict(job.job_id, demand.index, start_s, demand.walltime_s, resources, why)

    def _kill_for(self, scope: Scope, job: WaitingJob, choice: Choice, wanted_s: int, passed: Gate) -> Start | Predict:
        """Let those die that hold what the job needs, as soon as they must for a start at ``wanted_s``."""
        alive = [victim for victim in scope.space.victims if victim.end_s > choice.place.start_s]
        taken, going = spare(choice.demand, self._chooser.room_in_time(scope, choice), alive)
        place = Place(choice.place.start_s, taken)
        if taken != choice.place.taken and self._chooser.verdict(job, choice.demand, place) is not None:
            # It is more than quotas allow, which what was found before is not.
            taken = choice.place.taken
            going = [victim for victim in alive if victim.bits & taken]
        # Who is quickly gone need not die before the slowest is told.
        needed_s = max([wanted_s, *(victim.dead_s for victim in going)])
        dying = list(self._dying[job.job_id].job_ids) if job.job_id in self._dying else []
        for victim in going:
            if victim.dead_s < needed_s and not victim.chosen:
                self._look_again(self._now_s + needed_s - victim.dead_s)
                continue
            dying.append(victim.job_id)
            if not victim.chosen and job.job_id not in self._supposed:
                victim.chosen = True
                self._kills.append(Kill(victim.job_id, job.job_id))
        settled = choice._replace(place=choice.place._replace(taken=taken))
        why = Why(KILLING, _killed(dying)) if dying else self._why(scope, settled, passed)
        return self._settle(scope, job, settled, why)

    def _why(self, scope: Scope, choice: Choice, passed: Gate) -> Why:
        start_s = choice.place.start_s
        gantt = scope.space.gantt
        not_yet = self._containers.not_yet(scope.space, start_s)
        if not_yet is not None:
            return not_yet
        if passed.why is not None and start_s <= gantt.on_grid(passed.earliest_s):
            return passed.why
        if choice.limited is not None:
            return choice.limited
        asleep = choice.place.taken & self._asleep
        if asleep and start_s == self._awake_s:
            return Why(WAKING, {"asleep": asleep.bit_count()})
        return self._busy(scope, choice)

    def _busy(self, scope: Scope, choice: Choice) -> Why:
        mask = choice.demand.mask
        numbers: dict[str, object] = {
            "free": (scope.space.gantt.free_now & mask).bit_count(),
            "matching": mask.bit_count(),
            "ahead": self._reserved.total(),
        }
        awaited = scope.space.freed_by(choice.place.start_s, choice.place.taken)
        if awaited is not None:
            numbers["awaited"] = awaited
        return Why(BUSY, numbers)

    def _without_place(self, scope: Scope, job: WaitingJob, demands: Demands, passed: Gate) -> Postpone | Doom:
        if self._is_beyond_depth(job):
            if passed.earliest_s <= self._now_s:
                self._not_now.add(job.request_id)
            return self._beyond_depth(job)
        if self._chooser.limited is not None:
            return Postpone(job.job_id, self._chooser.limited)
        if passed.ends_by_s < NEVER_S:
            return Postpone(job.job_id, Why(DEADLINE_MISSED, {"deadline_s": passed.ends_by_s}))
        too_late = self._containers.too_late(job, scope.space, demands)
        if too_late is not None:
            return too_late
        if passed.latest_s < NEVER_S:
            return Postpone(job.job_id, Why(WINDOW_MISSED, {"latest_s": passed.latest_s}))
        shortest_s = min(self._chooser.length_s(demand) for demand in demands)
        return Postpone(job.job_id, Why(TOO_LONG, {"length_s": shortest_s}))


def _killed(victims: Sequence[JobId]) -> dict[str, object]:
    return {"victims": len(victims), "first": victims[0]}
