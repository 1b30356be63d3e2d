"""The runner: what happens on hosts, and what hosts say happened.

It holds one session with each host that it needs and is the only asynchronous
process.  A turn writes, in one durable transaction, everything that was heard
since the last one and everything that is about to be done; then it is done.
Recovery is the next ordinary turn: a launch or an order that was written and not
sent, or sent and not answered, is sent again, and hosts do each once.

Whatever opens a session compares the host's inventory with the tables first:

* another boot: the processes of before are gone; a status that was left is
  taken, else the cause is ``node_rebooted``;
* the same boot with another spool, or a running job that the host knows nothing
  of: nothing is proved; the host becomes Suspected and its jobs keep what they hold.

A host is believed only about jobs that the tables gave to it.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from logging import getLogger
from typing import TypeVar
from uuid import UUID

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from oarpy.database import allocations, events, health, launches, node_sessions, nodes, selections
from oarpy.database.connection import is_absence, retrying
from oarpy.database.events import Event
from oarpy.database.launches import Done, End, Finishing, Known, OpenOrder, PartEnd, ToRun
from oarpy.database.listen import Listener
from oarpy.database.node_sessions import Identity
from oarpy.database.wake import Reader, wake
from oarpy.drivers.local import LocalExecutor
from oarpy.drivers.ssh import SshExecutor
from oarpy.drivers.ssh_keys import KeyStock
from oarpy.errors import NodeMisbehaves, NodeUnreachable, NotLeader, Stale
from oarpy.instance import find_instance, names_of_this_machine
from oarpy.model.job_types import NOOP, REASSIGN, has_type
from oarpy.model.states import FINAL, ON_NODES, EndCause, JobId, JobState, OrderKind
from oarpy.modules.context import Context
from oarpy.modules.fencing import Fences
from oarpy.modules.job_launch import Machines, access_of, launch_of, part_of, runs_on_server, sweep_of
from oarpy.modules.parts import Parallel, Parts, late_events, lost_part
from oarpy.modules.server_programs import Prepared, ServerPrograms
from oarpy.ports.executor import (
    Answer,
    Attempt,
    Beat,
    Began,
    Ended,
    Executor,
    Greeting,
    Launch,
    Order,
    OrderWord,
    Refused,
    Report,
    Session,
    SessionNumber,
    Starting,
)

logger = getLogger(__name__)
T = TypeVar("T")

#: Launches that one transaction begins; the next follows at once.
MOST_LAUNCHES = 500
#: Without hints and reports the tables are read this often.
PERIOD_S = 5.0
#: After a turn that changed jobs the next one begins so much later.
GATHER_S = 0.02
#: What is over is forgotten by hosts so often, or when there is so much of it.
FORGET_S = 5.0
FORGET_COUNT = 200
#: When nothing was launched on a host for so long, it is written that it keeps nothing.
SETTLE_S = 60.0
RETRY_S = 0.1
#: A turn by hand ends when hosts were silent for so long, or after so long.
QUIET_S = 0.5
ALONE_S = 15.0
RETRY_MAX_S = 5.0
#: While the database is away it is asked at least so often.
OUTAGE_RETRY_MAX_S = 1.0
#: An attempt that never began is blamed on its host from this one on: before, on somebody's death.
BLAMED_ATTEMPT = 3
#: A host that cannot be reached so often in a row is Suspected.
FAILURES = 4
#: After contradicting the tables a host is left alone for a while.
DISTRUST_S = 30.0
#: Of these ends a job is Terminated, of all others Error.
WELL = frozenset({EndCause.EXIT, EndCause.SIGNAL})
#: OAR's exit status by which an idempotent job asks to be submitted again.
ASKS_AGAIN = 99 << 8

#: Where hosts other than the server's keep what they know of their jobs.
SPOOL = "/var/spool/oarpy"
_SUCCEEDED = {OrderKind.CHECKPOINT: "CHECKPOINT_SUCCESS", OrderKind.SIGNAL: "SIG_SUCCESS"}
_FAILED = {
    OrderKind.KILL: "KILL_ERROR",
    OrderKind.SIGNAL: "SIG_FAILED",
    OrderKind.CHECKPOINT: "CHECKPOINT_ERROR",
    OrderKind.SUSPEND: "SUSPEND_ERROR",
    OrderKind.RESUME: "RESUME_ERROR",
    OrderKind.CLEAN: "CPUSET_CLEAN_ERROR",
    OrderKind.WALLTIME: "WALLTIME_ERROR",
}
#: A host that was cut off is told of these when it is back, however late: its jobs have gone on.  That one which
#: is over cannot do so is nobody's fault.
_LASTING = frozenset({OrderKind.SUSPEND, OrderKind.RESUME, OrderKind.WALLTIME})
_SAID = {
    EndCause.NODE_REBOOTED: "its host was rebooted",
    EndCause.VANISHED: "the process that watched it was killed",
}


def serve(ctx: Context, stop: int) -> None:
    """Serve until ``stop`` can be read.  Raises ``NotLeader`` when the epoch has ended."""
    asyncio.run(Runner(ctx, ways(ctx)).serve(stop))


def turn(ctx: Context) -> int:
    """Launch what is due and take in what the hosts say meanwhile; how many jobs changed."""
    return asyncio.run(Runner(ctx, ways(ctx)).turn_alone())


def ways(ctx: Context) -> Callable[[str], Executor]:
    """How each host is reached: this machine directly, others over ssh."""
    nodes = ctx.settings.nodes
    mine = names_of_this_machine()
    here = LocalExecutor(
        nodes.spool_dir or find_instance().spool_dir, min_uid=nodes.min_uid, oarsh_ports=nodes.oarsh_span
    )
    there = SshExecutor(
        nodes.spool_dir or SPOOL,
        ssh=shlex.split(nodes.ssh),
        python=nodes.python,
        min_uid=nodes.min_uid,
        oarsh_ports=nodes.oarsh_span,
    )

    def reach(host: str) -> Executor:
        if host not in mine and not nodes.ssh.strip():
            raise NodeUnreachable(f"host {host}: jobs are launched on {os.uname().nodename} only")
        return here if host in mine else there

    return reach


@dataclass(eq=False, slots=True)
class Host:
    """What the runner knows of a host.  ``session`` is None until the tables agree with its inventory."""

    name: str
    session: Session | None = None
    number: SessionNumber = field(default_factory=lambda: SessionNumber(0, 0))
    keeper: asyncio.Task[None] | None = None
    #: Set when a job or an order needs it; until then whatever else is to be done goes first.
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    #: Orders that this session has been given.
    given: set[int] = field(default_factory=set)
    #: Attempts whose end is committed and which the host still has.
    over: list[Attempt] = field(default_factory=list)
    forget_at: float = 0.0
    #: Those of them that it was told to forget and has not said that it did, by the numbers of these orders.
    forgetting: dict[int, Attempt] = field(default_factory=dict)
    #: Whether the tables say that it may keep something, and when they are to be asked whether it does.
    has_entries: bool = False
    settle_at: float = 0.0
    #: Sessions in a row that failed, for whatever reason; and those of them of which the host is to blame.
    failures: int = 0
    faults: int = 0
    #: Whether it has been written that so many faults in a row make the host Suspected.
    suspected: bool = False
    left_alone_until: float = 0.0
    #: Whether it is to take oarsh in, whether its session was opened so, and where it does.
    oarsh: bool = False
    opened_for_oarsh: bool = False
    oarsh_port: int | None = None


@dataclass(slots=True)
class Work:
    """What is to be done on hosts once the transaction that says so is committed."""

    launches: dict[str, list[Launch]] = field(default_factory=lambda: defaultdict(list))
    #: Those whose server prologues have ended, and those that are not to follow theirs any more.
    prepared: dict[str, list[Prepared]] = field(default_factory=lambda: defaultdict(list))
    past: list[Attempt] = field(default_factory=list)
    orders: dict[str, list[Order]] = field(default_factory=lambda: defaultdict(list))
    over: dict[str, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    #: Hosts with which a session is needed, and those with which there should be one when nothing else is to be done.
    needed: set[str] = field(default_factory=set)
    unsettled: Sequence[str] = ()
    #: Hosts whose session is to be opened anew.
    reopened: set[str] = field(default_factory=set)
    keys_wanted: bool = False
    distrusted: dict[str, str] = field(default_factory=dict)
    epilogues: list[Finishing] = field(default_factory=list)
    #: Hosts of which it was written that they may keep something, and that they do not.
    taken_in: set[str] = field(default_factory=set)
    settled: list[str] = field(default_factory=list)
    log: list[tuple[JobId, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    changed: int = 0
    more: bool = False


Heard = tuple[str, Report | Answer]


class Runner:
    """The sessions, and the turns that connect them with the tables."""

    def __init__(self, ctx: Context, reach: Callable[[str], Executor]) -> None:
        self._ctx = ctx
        self._reach = reach
        self._mine = names_of_this_machine()
        self._machines = Machines()
        self._hosts: dict[str, Host] = {}
        self._heard: list[Heard] = []
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._instance: UUID | None = None
        self._programs = ServerPrograms(ctx.settings.prologue, self._awake.set)
        nodes = ctx.settings.nodes
        self._clean_s = nodes.order_timeout.total_seconds()
        if ctx.settings.prologue.node_epilogue is not None:
            self._clean_s += ctx.settings.prologue.timeout.total_seconds()
        prepare_s = nodes.prepare_timeout.total_seconds()
        if ctx.settings.prologue.node_prologue is not None:
            prepare_s += ctx.settings.prologue.timeout.total_seconds()
        self._parts = Parts(prepare_s)
        self._keys = KeyStock(self._awake.set)
        # Hosts that failed wait for one another, never those that are met first.
        self._window = asyncio.Semaphore(nodes.window)
        self._window_of_failed = asyncio.Semaphore(nodes.window)
        self._fences = Fences(ctx.settings.nodes.lease_margin.total_seconds(), time.monotonic())
        #: The shortest lease that is out at each host; None until the tables were asked.
        self._leases: dict[str, float] | None = None
        #: Clocks of hosts, and when they were heard.  They count from the next turn on, whose transaction shows that no
        #: other runner had begun by then: what is told back must not be later than that one's beginning.
        self._beats: dict[str, tuple[float, float]] = {}
        #: Hosts that must tell their clock before leased jobs are launched there.
        self._stale: set[str] = set()
        self._own_orders = 0
        #: Turns in a row to which the database did not answer.
        self._absences = 0

    async def serve(self, stop: int) -> None:
        """Turn whenever there is something to do, until ``stop`` can be read."""
        loop = asyncio.get_running_loop()
        loop.add_reader(stop, self._stop)
        listening = threading.Thread(target=self._listen, args=(loop, stop), daemon=True)
        listening.start()
        try:
            while not self._stopping.is_set():
                self._awake.clear()
                began = time.monotonic()
                changed = await self._turn_or_wait()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), self._rest())
                if changed:
                    # An idle runner acts at once; a busy one lets reports gather, since a turn costs
                    # the more statements and commits a job the fewer jobs it is about.
                    await self._pause(began + GATHER_S - time.monotonic())
            if self._failure is not None:
                raise self._failure
        finally:
            loop.remove_reader(stop)
            await self._close()

    async def turn_alone(self) -> int:
        """Turns until hosts have nothing more to say for a moment; how many jobs changed."""
        changed = 0
        deadline = time.monotonic() + ALONE_S
        try:
            while time.monotonic() < deadline:
                self._awake.clear()
                work = await self._turn()
                changed += work.changed
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._awake.wait(), QUIET_S)
                connecting = any(_is_met(host) for host in self._hosts.values())
                if not (work.changed or self._heard or connecting):
                    break
        finally:
            await self._close()
        return changed

    def _stop(self) -> None:
        self._stopping.set()
        self._awake.set()

    def _listen(self, loop: asyncio.AbstractEventLoop, stop: int) -> None:
        listener = Listener(self._ctx.engine, Reader.RUNNER)
        try:
            while True:
                woken = listener.wait(PERIOD_S, stop)
                if stop in woken.ready:
                    return
                loop.call_soon_threadsafe(self._awake.set)
        finally:
            listener.close()

    def _rest(self) -> float:
        due = [host.forget_at for host in self._hosts.values() if host.over and host.session is not None]
        leases = (lease_s / 8 for lease_s in (self._leases or {}).values())
        return max(0.0, min([PERIOD_S, *leases, *(at - time.monotonic() for at in due)]))

    async def _pause(self, duration_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, duration_s))

    async def _turn_or_wait(self) -> bool:
        """Turn until there is no more to launch; whether anything changed."""
        changed = False
        try:
            more = True
            while more:
                work = await self._turn()
                changed, more = changed or work.changed > 0, work.more
                if self._absences:
                    logger.info("runner: the database answers again")
                self._absences = 0
        except NotLeader as error:
            self._failure = error
            self._stop()
        except DBAPIError as error:
            if not is_absence(error):
                raise
            if not self._absences:
                logger.warning("runner: no turn, the database does not answer (%s)", str(error.orig).split("\n")[0])
            await self._pause(retry_after_s(self._absences, OUTAGE_RETRY_MAX_S))
            self._absences += 1
            self._awake.set()
        return changed

    async def _turn(self) -> Work:
        heard, self._heard = self._heard, []
        beats, self._beats = self._beats, {}
        for name, (clock, at) in beats.items():
            self._fences.heard(name, clock, at)
        try:
            work = await self._in_database(lambda: self._write(heard))
        except BaseException:
            # Not written, so not heard.
            self._heard = heard + self._heard
            raise
        for job_id, sentence in work.log:
            logger.info("job %d: %s", job_id, sentence, extra={"event": "JOB", "job_id": job_id})
        self._ctx.passes("runner: launches written" if work.launches else "runner: turn written")
        for name in work.taken_in:
            self._hosts[name].has_entries = True
            self._hosts[name].settle_at = time.monotonic() + SETTLE_S
        for name in work.settled:
            self._hosts[name].has_entries = False
        for name in work.needed:
            self._keep(name).wanted.set()
        for name in work.unsettled:
            self._keep(name)
        if work.keys_wanted:
            self._keys.refill()
        for name in work.reopened:
            if (open_now := self._hosts[name].session) is not None:
                await open_now.close()
        for name, reason in work.distrusted.items():
            await self._distrust(self._hosts[name], reason)
        self._programs.forget_launches(work.past)
        for name in {*work.launches, *work.prepared, *work.orders, *work.over}:
            await self._tell(self._hosts[name], work)
        for job in work.epilogues:
            self._programs.begin_epilogue(job)
        await self._prolong()
        await self._forget()
        if work.launches:
            self._ctx.passes("runner: launches sent")
        return work

    async def _in_database(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, done by the one thread that speaks with the database."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: retrying(action))

    def _write(self, heard: Sequence[Heard]) -> Work:
        try:
            return self._written(heard)
        except BaseException:
            # What was to be told was not.
            self._parts.untell()
            raise

    def _written(self, heard: Sequence[Heard]) -> Work:
        work = Work()
        with self._ctx.transaction(durable=True) as conn:
            self._machines.refresh(conn)
            # A job that was resumed may have ended at once.
            self._write_answers(conn, [(host, one) for host, one in heard if isinstance(one, Answer)], work)
            self._write_reports(conn, [(host, one) for host, one in heard if not isinstance(one, Answer)], work)
            self._begin_launches(conn, work)
            self._fence(conn, work)
            self._follow_prologues(conn, work)
            self._take_orders(conn, work)
            self._close_finishing(conn, work)
            for job_id, known in launches.live(conn).items() if not self._hosts else ():
                if known.head is not None:
                    work.needed |= {known.head, *known.others}
                if known.others:
                    self._parallel(job_id, known)
            if not self._hosts:
                # Whether they can be reached again, and what they keep, is for nobody else to find out.
                work.unsettled = node_sessions.unsettled(conn, self._mine)
            self._settle(conn, work)
            self._advance(conn, work)
            events.append(conn, work.events)
            if work.changed or work.events:
                wake(conn, Reader.ALMIGHTY)
        return work

    def _write_reports(self, conn: Connection, reports: Sequence[tuple[str, Report]], work: Work) -> None:
        """Take in what hosts say of jobs that are theirs."""
        if not reports:
            return
        known = launches.known(conn, {report.attempt.job_id for _, report in reports})
        ages: dict[JobId, timedelta] = {}
        ends: dict[JobId, End] = {}
        unbegun: dict[JobId, tuple[str, int]] = {}
        troubled: dict[str, str] = {}
        lost: dict[EndCause, list[JobId]] = defaultdict(list)
        parts: dict[tuple[JobId, str], Report] = {}
        # What the head says of the end is heard before what the others say, whoever was first.
        for host, report in sorted(reports, key=lambda said: said[0] in _parts_of(known, said[1])):
            job = known.get(report.attempt.job_id)
            job_id = report.attempt.job_id
            if job is None or job.attempt < report.attempt.number:
                work.distrusted[host] = f"it speaks of job {job_id}, which it was never given"
            elif job.attempt > report.attempt.number or job.state in FINAL or job.state is JobState.FINISHING:
                if host in job.parts and job.state is JobState.FINISHING and isinstance(report, Ended | Refused):
                    parts[job_id, host] = report
                    self._parallel(job_id, job).gone.add(host)
                self._dispose(host, report, work)
            elif host in job.over:
                self._dispose(host, report, work)
            elif host in job.others and job_id in ends and isinstance(report, Ended | Refused):
                parts[job_id, host] = report
                self._parallel(job_id, job).gone.add(host)
                work.over[host].append(report.attempt)
            elif host in job.others:
                if isinstance(report, Ended) and job.state is not JobState.LAUNCHING:
                    parts[job_id, host] = report
                cause = self._hear_of_part(host, report, job, work)
                if cause is not None:
                    lost[cause].append(job_id)
                if isinstance(report, Refused) and report.trouble:
                    troubled[host] = report.trouble
            elif job.head != host:
                work.distrusted[host] = f"it speaks of job {job_id}, which was given to {job.head}"
            elif isinstance(report, Began):
                if job.state is JobState.LAUNCHING:
                    ages[job_id] = report.age
            elif isinstance(report, Ended):
                ends[job_id] = _end(report)
                work.over[host].append(report.attempt)
                _tell_end(job_id, host, report, work)
            elif isinstance(report, Refused):
                if job.state is not JobState.LAUNCHING:
                    work.distrusted[host] = f"it says that job {job_id}, which runs, never began"
                    continue
                work.over[host].append(report.attempt)
                spoilt = self._programs.spoilt(report.attempt)
                if spoilt is not None:
                    work.events.append(spoilt)
                    ends[job_id] = End(job_id, EndCause.PROLOGUE, None, None, ran=False)
                elif job.others:
                    parallel = self._parallel(job_id, job)
                    parallel.give_up(None, time.monotonic() + self._clean_s)
                    parallel.head_gave_up = True
                else:
                    unbegun[job_id] = (host, report.attempt.number)
                if report.trouble:
                    troubled[host] = report.trouble
        started = launches.start(conn, {job_id: age for job_id, age in ages.items() if job_id not in ends})
        for begun in filter(None, map(self._parts.get, started)):
            begun.begun = True
            if begun.given_up:
                # It lost a host while its head began.
                lost[begun.cause or EndCause.VANISHED].append(begun.job_id)
        for cause, job_ids in lost.items():
            work.changed += len(selections.wish_dead(conn, job_ids, "oar", cause))
        finished = launches.finish(conn, list(ends.values()))
        self._end_parts(conn, parts, work)
        waiting, killed = launches.return_unbegun(conn, list(unbegun))
        work.changed += len(started) + len(finished) + len(waiting) + len(killed)
        work.log += [(job_id, "Running") for job_id in started]
        work.log += [(job_id, f"ended ({ends[job_id].cause.value})") for job_id in finished]
        work.log += [(job_id, "its launch never began; Waiting again") for job_id in waiting]
        work.log += [(job_id, "killed before it began") for job_id in killed]
        for job_id in waiting:
            host, attempt = unbegun[job_id]
            if attempt >= BLAMED_ATTEMPT:
                reason = f"attempt {attempt} never began, as those before it"
                work.events.append(Event("LAUNCHING_OAREXEC_TIMEOUT", job_id, (host,), reason))
        for host, reason in {**troubled, **work.distrusted}.items():
            work.events.append(Event("LOG_SUSPECTED", hosts=(host,), description=reason))

    def _end_parts(self, conn: Connection, parts: Mapping[tuple[JobId, str], Report], work: Work) -> None:
        """Write that parts are over, what they used there, and what is to be told of that."""
        ends = [
            PartEnd(job_id, host, report.cpu, report.peak_mib) if isinstance(report, Ended) else PartEnd(job_id, host)
            for (job_id, host), report in parts.items()
        ]
        for job_id, host in sorted(launches.end_parts(conn, ends)):
            report = parts[job_id, host]
            _tell_memory(host, report, work)
            if isinstance(report, Ended) and report.event is not None:
                work.events.append(Event(report.event, job_id, (host,), report.text))

    def _parallel(self, job_id: JobId, job: Known | Finishing) -> Parallel:
        """What is known of a job on several hosts."""
        parallel = self._parts.of(Attempt(job_id, job.attempt), job.head or "", job.others, time.monotonic())
        # Another runner may have heard of it, or a person have said so.
        parallel.doubted |= {*job.over} - parallel.gone
        parallel.gone.update(job.over)
        if isinstance(job, Known) and job.state is not JobState.LAUNCHING:
            parallel.begun = True
        return parallel

    def _hear_of_part(self, host: str, report: Report, job: Known, work: Work) -> EndCause | None:
        """Take in what a host says of its part of a job; why the job is to die for it, if it is."""
        parallel = self._parallel(report.attempt.job_id, job)
        if isinstance(report, Began):
            parallel.made.add(host)
        elif isinstance(report, Ended | Refused):
            parallel.gone.add(host)
            work.over[host].append(report.attempt)
            cause = report.cause if isinstance(report, Ended) else EndCause.VANISHED
            if job.state is not JobState.LAUNCHING:
                work.events.append(lost_part(parallel.job_id, host, cause))
                return cause
            if isinstance(report, Ended) and report.event is not None:
                work.events.append(Event(report.event, parallel.job_id, (host,), report.text))
            ends = isinstance(report, Ended) and report.event is not None and not report.ran
            parallel.give_up(cause if ends else None, time.monotonic() + self._clean_s)
        return None

    def _advance(self, conn: Connection, work: Work) -> None:
        """Do what is next for jobs on several hosts: tell the head, give up, wait no longer."""
        now = time.monotonic()
        to_tell: list[Parallel] = []
        back: list[JobId] = []
        ends: list[End] = []
        for parallel in self._parts:
            if parallel.begun or parallel.cleaning:
                continue
            head = self._hosts.get(parallel.head)
            if not parallel.given_up:
                late = parallel.newly_late(now)
                if late:
                    work.events += late_events(parallel, late)
                    parallel.give_up(None, now + self._clean_s)
                elif parallel.is_made and not parallel.head_told and head is not None and head.session is not None:
                    parallel.head_told = True
                    to_tell.append(parallel)
            if not parallel.given_up:
                continue
            self._clean(parallel, work)
            if not parallel.head_gave_up:
                if head is not None and head.session is not None and parallel.head not in parallel.told:
                    parallel.told.add(parallel.head)
                    refusal = Order(self._own_number(), OrderWord.REFUSE, parallel.attempt)
                    work.orders[parallel.head].append(refusal)
            elif parallel.cause is not None:
                ends.append(End(parallel.job_id, parallel.cause, None, None, ran=False))
            elif parallel.is_left or now >= parallel.deadline:
                # Nothing that a user started has been on hosts that do not answer.
                back.append(parallel.job_id)
        told = [parallel.job_id for parallel in to_tell]
        pairs = launches.keys(conn, told)
        for job in launches.launching(conn, told):
            name = job.head or ""
            session = self._hosts[name].session
            launch = self._launch_of(job, name, None if session is None else session.greeting)
            access = access_of(job, pairs.get(job.job_id), self._ports([name, *job.others]))
            work.launches[name].append(replace(launch, access=access))
        finished = launches.finish(conn, ends)
        waiting, killed = launches.return_unbegun(conn, back)
        self._parts.forget(back)
        work.changed += len(finished) + len(waiting) + len(killed)
        work.more = work.more or bool(finished)
        work.log += [(job_id, "ended before it began") for job_id in finished]
        work.log += [(job_id, "its hosts were not ready; Waiting again") for job_id in waiting]
        work.log += [(job_id, "killed before it began") for job_id in killed]

    def _clean(self, parallel: Parallel, work: Work) -> None:
        """Tell the others to clean up; one that knows nothing of the job promises to keep it so."""
        for name in parallel.to_clean():
            host = self._hosts.get(name)
            if host is None:
                work.needed |= {name} - parallel.doubted
            elif host.session is not None:
                parallel.told.add(name)
                kill = Order(self._own_number(), OrderWord.KILL, parallel.attempt, timedelta(), EndCause.ADMIN)
                work.orders[name].append(kill)

    def _dispose(self, host: str, report: Report, work: Work) -> None:
        """The tables have done with this attempt; let the host have done with it, too."""
        if isinstance(report, Ended | Refused):
            work.over[host].append(report.attempt)
        elif isinstance(report, Began | Starting):
            # Somebody said that nothing of it runs any more.
            kill = Order(self._own_number(), OrderWord.KILL, report.attempt, timedelta(), EndCause.ADMIN)
            work.orders[host].append(kill)

    def _write_answers(self, conn: Connection, answers: Sequence[tuple[str, Answer]], work: Work) -> None:
        """Write what became of orders."""
        given = {answer.number: (host, answer) for host, answer in answers if answer.number > 0}
        done = launches.finish_orders(conn, [Done(a.number, a.done, a.text) for _, a in given.values()])
        for order_id, kind, job_id in done:
            host, answer = given[order_id]
            if job_id is not None and answer.done and kind is OrderKind.SUSPEND:
                work.changed += len(launches.suspend(conn, [job_id]))
            elif job_id is not None and answer.done and kind is OrderKind.RESUME:
                work.changed += len(launches.resume(conn, [job_id]))
            if not (answer.over and kind in _LASTING):
                self._tell_order(kind, job_id, host, answer.done, answer.text, work)
        self._tell_others(conn, [job_id for order, _, job_id in done if job_id and given[order][1].done], work)

    def _tell_others(self, conn: Connection, job_ids: Collection[JobId], work: Work) -> None:
        """What the heads of these jobs have done now holds for their parts."""
        parallel = [job_id for job_id in job_ids if self._parts.get(job_id) is not None]
        for job_id, job in launches.known(conn, parallel).items() if parallel else ():
            for name in job.parts:
                if name in self._hosts:
                    work.orders[name] += self._likeness(job_id, job)

    def _likeness(self, job_id: JobId, job: Known) -> list[Order]:
        """What makes a part of a job like what the tables say of it; nothing that matters was done already."""
        attempt = Attempt(job_id, job.attempt)
        rests = job.state in (JobState.SUSPENDED, JobState.RESUMING)
        orders = [Order(self._own_number(), OrderWord.SUSPEND if rests else OrderWord.RESUME, attempt)]
        if job.walltime is not None:
            orders.append(Order(self._own_number(), OrderWord.WALLTIME, attempt, walltime=job.walltime))
        return orders

    def _tell_order(
        self, kind: OrderKind, job_id: JobId | None, host: str | None, done: bool, text: str, work: Work
    ) -> None:
        name = (_SUCCEEDED if done else _FAILED).get(kind)
        if name is not None:
            work.events.append(Event(name, job_id, () if host is None else (host,), text))

    def _begin_launches(self, conn: Connection, work: Work) -> None:
        """Write that the launches begin which a host can be told of."""
        waiting = launches.to_launch(conn, MOST_LAUNCHES)
        heads = {job.job_id: self._head(job) for job in waiting}
        others = {job.job_id: self._others(job, heads[job.job_id]) for job in waiting}
        ready = {name for name, host in self._hosts.items() if host.session is not None}
        idle = {job.job_id for job in waiting if has_type(job.types, NOOP)}
        work.needed |= {*heads.values(), *chain.from_iterable(others.values())} - ready
        can_begin = {
            job: head for job, head in heads.items() if job in idle or (head in ready and ready.issuperset(others[job]))
        }
        leased = self._leased([job for job in waiting if job.job_id in can_begin.keys() - idle], heads, others)
        for job_id in leased:
            fresh = {self._has_fresh_clock(name) for name in (heads[job_id], *others[job_id])}
            if fresh != {True}:
                # It is launched when its hosts have told their clocks.
                del can_begin[job_id]
        keyed = self._provide_keys(
            conn, [job for job in waiting if job.job_id in can_begin.keys() - idle], can_begin, others, work
        )
        begun = set(launches.begin(conn, can_begin, others))
        pairs = launches.keys(conn, [job_id for job_id in keyed if job_id in begun])
        work.changed += len(launches.start(conn, dict.fromkeys(sorted(begun & idle), timedelta())))
        for job in waiting:
            if job.job_id not in begun or job.job_id in idle:
                continue
            head, *parts = heads[job.job_id], *others[job.job_id]
            if parts:
                # The head is told when all of them are made.
                self._parts.of(Attempt(job.job_id, job.attempt), head, parts, time.monotonic())
            length = self._ctx.settings.nodes.lease if job.job_id in leased else None
            to_run = replace(job, lease=length)
            for name in parts or [head]:
                session = self._hosts[name].session
                launch = self._launch_of(to_run, name, None if session is None else session.greeting, part=bool(parts))
                access = access_of(job, pairs.get(job.job_id), self._ports([head, *parts]))
                work.launches[name].append(replace(launch, access=access))
        work.taken_in = {*chain.from_iterable((heads[job], *others[job]) for job in begun - idle)}
        news = {name for name in work.taken_in if not self._hosts[name].has_entries}
        if news:
            node_sessions.take_in(conn, news)
        launches.lease(conn, sorted(begun & leased), self._ctx.settings.nodes.lease)
        work.log += [(job_id, f"Launching on {heads[job_id]}") for job_id in sorted(begun)]
        work.more = len(begun) == MOST_LAUNCHES

    def _follow_prologues(self, conn: Connection, work: Work) -> None:
        """Let launches follow their server prologues, if they are still to be made.

        A prologue may take its time.  Meanwhile the job may have been killed, or fenced and run
        elsewhere, and another runner may lead, which this transaction shows.
        """
        prepared = self._programs.prepared()
        known = launches.known(conn, {attempt.job_id for attempt in prepared}) if prepared else {}
        for attempt, one in prepared.items():
            job, parallel = known.get(attempt.job_id), self._parts.get(attempt.job_id)
            is_due = job is not None and (job.attempt, job.state) == (attempt.number, JobState.LAUNCHING)
            if not is_due or (parallel is not None and parallel.given_up):
                work.past.append(attempt)
                continue
            host = self._hosts.get(one.host)
            if not one.prologue_ended or one.told or host is None or host.session is None:
                continue
            if one.failure is None and one.launch.lease is not None and not self._has_fresh_clock(one.host):
                # When the host has told its clock.
                continue
            work.prepared[one.host].append(one)

    def _head(self, job: ToRun) -> str:
        if runs_on_server(job.types) or has_type(job.types, NOOP):
            return self._server()
        return next(iter(self._machines.hosts(job.resources)), "") or self._server()

    def _server(self) -> str:
        """What the tables call the server's machine: by two names it would have two sessions, one fencing the other."""
        return self._machines.called(self._mine) or os.uname().nodename

    def _provide_keys(
        self,
        conn: Connection,
        waiting: Sequence[ToRun],
        heads: dict[JobId, str],
        others: Mapping[JobId, Sequence[str]],
        work: Work,
    ) -> list[JobId]:
        """See to it that oarsh comes to the jobs that are to have it, which these are.

        Those that wait for that leave ``heads``.
        """
        keyed = [job.job_id for job in waiting if self._has_key(job, heads[job.job_id], others[job.job_id])]
        if not keyed:
            return []
        work.keys_wanted = True
        had = launches.keys(conn, keyed)
        made: dict[JobId, tuple[str, str]] = {}
        for job_id in keyed:
            deaf = [name for name in (heads[job_id], *others[job_id]) if not self._hosts[name].opened_for_oarsh]
            for name in deaf:
                self._hosts[name].oarsh = True
            work.reopened.update(deaf)
            pair = had.get(job_id) or (None if deaf else self._keys.take())
            if deaf or (pair is None and self._keys.broken is None):
                del heads[job_id]
            elif pair is not None:
                made[job_id] = pair
        launches.give_keys(conn, made)
        return keyed

    def _has_key(self, job: ToRun, head: str, others: Sequence[str]) -> bool:
        """Whether oarsh comes to a job: from another of its hosts, to its terminal, or as was asked for."""
        if runs_on_server(job.types):
            return bool(others)
        return bool(others) or job.key is not None or (job.terminal is not None and head not in self._mine)

    def _ports(self, names: Collection[str]) -> dict[str, int]:
        """Where hosts take oarsh in."""
        found = {name: host.oarsh_port for name in names if (host := self._hosts.get(name)) is not None}
        return {name: port for name, port in found.items() if port is not None}

    def _others(self, job: ToRun, head: str) -> tuple[str, ...]:
        """The hosts of ``job`` besides ``head``, which are to make parts of it."""
        if runs_on_server(job.types) or has_type(job.types, NOOP):
            return ()
        return tuple(sorted({*self._machines.hosts(job.resources)} - {head}))

    def _take_orders(self, conn: Connection, work: Work) -> None:
        """Write that the orders begin which a host can be told of, and what became of those that none need be told."""
        begun: list[int] = []
        prolonged: list[int] = []
        done: list[Done] = []
        past: set[int] = set()
        hosts: dict[int, str | None] = {}
        idle_ends: list[End] = []
        for order in launches.open_orders(conn):
            hosts[order.order_id] = order.host or order.head
            host = self._hosts.get(order.host or order.head or "")
            if order.job_id is not None and _is_past(order):
                done.append(Done(order.order_id, order.kind is OrderKind.KILL, "the job is not on its hosts"))
                past.add(order.order_id)
            elif order.job_id is not None and has_type(order.types, NOOP):
                if order.kind is OrderKind.KILL:
                    idle_ends.append(_idle_end(order.job_id, order.cause))
                done.append(Done(order.order_id, True, "nothing runs for this job"))
            elif host is not None and host.session is not None:
                if order.order_id not in host.given or not order.begun:
                    begun.append(order.order_id)
                    work.orders[host.name].append(self._order(order))
                    if order.late:
                        prolonged.append(order.order_id)
                elif order.late:
                    done.append(Done(order.order_id, False, "the host has not done it in time"))
            elif order.late:
                if order.kind in _LASTING:
                    prolonged.append(order.order_id)
                else:
                    done.append(Done(order.order_id, False, "the host cannot be reached"))
            else:
                work.needed |= {name for name in (order.host, order.head) if name}
        launches.begin_orders(conn, begun)
        launches.prolong_orders(conn, prolonged, within=self._ctx.settings.nodes.order_timeout)
        reasons = {one.order_id: one for one in done}
        for order_id, kind, job_id in launches.finish_orders(conn, done):
            if not (reasons[order_id].succeeded or (order_id in past and kind in _LASTING)):
                self._tell_order(kind, job_id, hosts[order_id], False, reasons[order_id].result, work)
        work.changed += len(launches.finish(conn, idle_ends))

    def _order(self, order: OpenOrder) -> Order:
        attempt = None if order.job_id is None or order.attempt is None else Attempt(order.job_id, order.attempt)
        limits = self._ctx.settings.kill
        match order.kind:
            case OrderKind.KILL:
                # TERM; what does not end in time is the server's decision, unless the server is gone.
                after = timedelta() if order.exterminate else limits.soft + limits.hard
                return Order(order.order_id, OrderWord.KILL, attempt, after, order.cause)
            case OrderKind.SIGNAL | OrderKind.CHECKPOINT:
                return Order(order.order_id, OrderWord.SIGNAL, attempt, signal=order.signal)
            case OrderKind.SUSPEND:
                return Order(order.order_id, OrderWord.SUSPEND, attempt)
            case OrderKind.RESUME:
                return Order(order.order_id, OrderWord.RESUME, attempt)
            case OrderKind.WALLTIME:
                return Order(order.order_id, OrderWord.WALLTIME, attempt, walltime=order.walltime)
            case OrderKind.CLEAN if attempt is not None:
                return Order(order.order_id, OrderWord.KILL, attempt, timedelta(), EndCause.ADMIN)
            case OrderKind.CLEAN | OrderKind.CHECK:
                return Order(order.order_id, OrderWord.CHECK)

    def _close_finishing(self, conn: Connection, work: Work) -> None:
        """End the jobs of which nothing is left, their server epilogue included."""
        well: list[JobId] = []
        badly: list[JobId] = []
        spoilt: list[JobId] = []
        finishing = launches.finishing(conn)
        partly: list[JobId] = []
        now = time.monotonic()
        for job in finishing:
            if job.others:
                parallel = self._parallel(job.job_id, job)
                parallel.clean(now + self._clean_s)
                self._clean(parallel, work)
                for host in parallel.newly_late(now):
                    said = "its part of the job has not been cleaned up in time"
                    work.events.append(Event("CPUSET_CLEAN_ERROR", job.job_id, (host,), said))
                if not parallel.is_left:
                    if self._is_kept(parallel):
                        parallel.returned = len(parallel.gone)
                        partly.append(job.job_id)
                    continue
            failure = self._programs.epilogue_failure(job.job_id)
            if self._programs.epilogue_due(job.job_id):
                work.epilogues.append(job)
            elif failure is not None:
                work.events.append(failure)
                spoilt.append(job.job_id)
            else:
                (well if job.cause in WELL else badly).append(job.job_id)
        returned = allocations.give_back(conn, partly)
        work.changed += len(returned)
        work.log += [(job_id, "some of its hosts are free; it is not over on all of them") for job_id in returned]
        closed = launches.close(conn, well, badly, spoilt)
        self._parts.forget([*well, *badly, *spoilt])
        work.changed += closed.jobs
        work.more = work.more or closed.more
        self._programs.forget_epilogues_but({job.job_id for job in finishing})

    def _is_kept(self, parallel: Parallel) -> bool:
        """Whether a job has more to give back, and the hosts that keep it have taken too long or cannot be asked."""
        if parallel.returned == len(parallel.gone):
            return False
        for name in set(parallel.others) - parallel.gone - parallel.late:
            host = self._hosts.get(name)
            if host is None or host.session is not None or not host.failures:
                return False
        return True

    def _reconcile(self, name: str, greeting: Greeting, before: Identity) -> tuple[list[Launch], list[Order]]:
        """Compare what a host says of itself with the tables; the launches and orders that it has to be told of again.

        Raises ``NodeMisbehaves`` when they contradict each other.
        """
        rebooted = before.boot_id not in (None, greeting.boot_id)
        wiped = before.spool_id not in (None, greeting.spool_id)
        there = {report.attempt for report in greeting.inventory}
        with self._ctx.transaction(durable=True) as conn:
            self._machines.refresh(conn)
            live = {job_id: job for job_id, job in launches.live(conn).items() if name in (job.head, *job.parts)}
            missing = {job_id: job for job_id, job in live.items() if Attempt(job_id, job.attempt) not in there}
            running = [job_id for job_id, job in missing.items() if job.state is not JobState.LAUNCHING]
            if not rebooted and missing and (wiped or running):
                what = "its spool is not the one it was" if wiped else f"it knows nothing of job {running[0]}"
                events.append(conn, [Event("LOG_SUSPECTED", hosts=(name,), description=f"{what}; it was not rebooted")])
                wake(conn, Reader.ALMIGHTY)
                contradiction = what
            else:
                contradiction = None
                # A launch of which the spool of before knows nothing has not begun; in another spool it may have.
                gone = missing if wiped else {job_id: missing[job_id] for job_id in running}
                ends = [_rebooted(job_id, job) for job_id, job in gone.items() if job.head == name]
                ended = launches.finish(conn, ends)
                lost = [job_id for job_id in running if missing[job_id].head != name]
                launches.end_parts(conn, [PartEnd(job_id, name) for job_id in lost])
                events.append(conn, [lost_part(job_id, name, EndCause.NODE_REBOOTED) for job_id in lost])
                if selections.wish_dead(conn, lost, "oar", EndCause.NODE_REBOOTED) or ended:
                    wake(conn, Reader.ALMIGHTY)
                facts = {
                    "containment": greeting.containment,
                    "enforces": greeting.enforces,
                    "oarsh_port": greeting.oarsh_port,
                }
                identity = Identity(greeting.boot_id, greeting.spool_id)
                node_sessions.met(conn, name, identity, facts, entries=bool(there or live))
                health.recover(conn, self._ctx.settings.health.tries, name)
                unknown = launches.launching(
                    conn, [job_id for job_id, job in missing.items() if self._is_told(name, job_id, job)]
                )
                pairs = launches.keys(
                    conn, [job.job_id for job in unknown if self._has_key(job, job.head or name, job.others)]
                )
        if contradiction is None:
            self._hosts[name].has_entries = bool(there or live)
            self._hosts[name].settle_at = time.monotonic() + SETTLE_S
        else:
            raise NodeMisbehaves(f"host {name}: {contradiction}")
        parts = {job_id: job for job_id, job in live.items() if job.head != name and job_id not in missing}
        orders = [order for job_id, job in parts.items() for order in self._likeness(job_id, job)]
        again = []
        for job in unknown:
            launch = self._launch_of(job, name, greeting, part=job.head != name)
            access = access_of(job, pairs.get(job.job_id), self._ports([job.head or "", *job.others]))
            again.append(replace(launch, access=access))
        return again, orders

    def _is_told(self, name: str, job_id: JobId, job: Known) -> bool:
        """Whether a host that knows nothing of a launch is told of it at once: all but heads that wait for others."""
        parallel = self._parts.get(job_id)
        given_up = parallel is not None and parallel.given_up
        return not (job.others and job.head == name) and not given_up

    def _launch_of(self, job: ToRun, head: str, greeting: Greeting | None, *, part: bool = False) -> Launch:
        memory_mib = None
        if greeting is not None and self._ctx.settings.nodes.memory_share:
            memory_mib = greeting.memory_mib
        launch = (part_of if part else launch_of)(job, head, self._machines, self._ctx.settings, memory_mib)
        sweep = () if head in self._mine else sweep_of(self._ctx.settings.nodes)
        return replace(launch, lease=job.lease, sweep=sweep)

    async def _tell(self, host: Host, work: Work) -> None:
        """Tell a host what was written; what does not reach it is told to its next session."""
        fresh = work.launches.get(host.name, [])
        orders = work.orders.get(host.name, [])
        if work.over.get(host.name):
            if not host.over:
                host.forget_at = time.monotonic() + FORGET_S
            host.over += work.over[host.name]
        if host.session is None:
            return
        host.given.update(order.number for order in orders)
        with suppress(NodeUnreachable):
            await self._send(host, fresh)
            await self._send_prepared(host, work.prepared.get(host.name, []))
            await host.session.order(orders)

    async def _send(self, host: Host, fresh: Sequence[Launch]) -> None:
        """Send launches, each after its server prologue where there is one."""
        if not self._programs.has_prologue:
            if host.session is not None:
                await host.session.launch([self._granted(host, launch) for launch in fresh])
            return
        if host.session is not None:
            await host.session.launch([launch for launch in fresh if launch.part])
        for launch in fresh:
            if not launch.part:
                self._programs.prepare(host.name, launch)

    async def _send_prepared(self, host: Host, due: Sequence[Prepared]) -> None:
        """Send launches whose server prologues have ended; those that failed are given up."""
        for one in due:
            if host.session is None:
                return
            one.told = True
            if one.failure is None:
                await host.session.launch([self._granted(host, one.launch)])
            else:
                await host.session.order([Order(self._own_number(), OrderWord.REFUSE, one.launch.attempt)])

    def _granted(self, host: Host, launch: Launch) -> Launch:
        """``launch`` with the clock from which its lease counts."""
        return launch if launch.lease is None else replace(launch, since=self._fences.grant(host.name))

    def _leased(
        self, jobs: Sequence[ToRun], heads: Mapping[JobId, str], others: Mapping[JobId, Sequence[str]]
    ) -> set[JobId]:
        """The jobs that are to be killed where nobody is heard; only hosts that let nothing escape can do that."""
        found = set()
        for job in jobs:
            names = (heads[job.job_id], *others[job.job_id])
            if not (has_type(job.types, REASSIGN) or any(self._machines.are_fenced(job.resources, n) for n in names)):
                continue
            sessions = [self._hosts[name].session for name in names]
            if all(session is not None and "kill" in session.greeting.enforces for session in sessions):
                found.add(job.job_id)
        return {job.job_id for job in jobs if job.job_id in found and not runs_on_server(job.types)}

    def _has_fresh_clock(self, host: str) -> bool:
        """Whether a lease may begin on ``host``; if not, it is asked for its clock."""
        lease_s = self._ctx.settings.nodes.lease.total_seconds()
        fresh = self._fences.is_fresh(host, lease_s, time.monotonic())
        if fresh:
            # From now on it counts as told.
            self._fences.grant(host)
            if self._leases is not None:
                self._leases[host] = min(lease_s, self._leases.get(host, lease_s))
        else:
            self._stale.add(host)
        return fresh

    def _fence(self, conn: Connection, work: Work) -> None:
        """End the leased jobs of hosts that have certainly killed them."""
        if self._leases is not None and not self._leases:
            return
        now = time.monotonic()
        leases: dict[str, float] = {}
        ends: dict[JobId, tuple[End, str]] = {}
        robbed: dict[JobId, str] = {}
        parts: list[PartEnd] = []
        for job in launches.leased(conn):
            lease_s = job.lease.total_seconds()
            for name in (job.head, *job.others):
                leases[name] = min(lease_s, leases.get(name, lease_s))
            over = [name for name in (job.head, *job.others) if self._fences.is_over(name, lease_s, now)]
            parallel = self._parts.get(job.job_id)
            if job.state is JobState.FINISHING and parallel is not None:
                parts += [PartEnd(job.job_id, name) for name in over if name in job.others]
            elif job.state in ON_NODES and job.head in over:
                ran = job.state is not JobState.LAUNCHING
                ends[job.job_id] = End(job.job_id, EndCause.FENCED, None, None, ran=ran), job.head
            elif job.state in ON_NODES and job.state is not JobState.LAUNCHING and over:
                robbed[job.job_id] = over[0]
        self._leases = leases
        launches.end_parts(conn, parts)
        finished = launches.finish(conn, [end for end, _ in ends.values()])
        work.changed += len(finished)
        work.more = work.more or bool(finished)
        work.events += [_fenced(job_id, ends[job_id][1]) for job_id in finished]
        work.log += [(job_id, f"its host {ends[job_id][1]} is fenced") for job_id in finished]
        wished = selections.wish_dead(conn, sorted(robbed), "oar", EndCause.FENCED) if robbed else []
        work.changed += len(wished)
        work.events += [lost_part(job_id, robbed[job_id], EndCause.FENCED) for job_id in wished]

    async def _prolong(self) -> None:
        """Prolong leases.  The turn before was of this term, and every clock that is told back was heard before it."""
        now = time.monotonic()
        due = [name for name, lease_s in (self._leases or {}).items() if self._fences.is_due(name, lease_s, now)]
        for name in {*due, *self._stale}:
            host = self._hosts.get(name)
            if host is None or host.session is None:
                continue
            with suppress(NodeUnreachable):
                await host.session.ping(self._fences.grant(name))

    async def _forget(self) -> None:
        """Let hosts forget what is over; that needs a number above that of the launch."""
        for host in self._hosts.values():
            due = len(host.over) >= FORGET_COUNT or time.monotonic() >= host.forget_at
            if host.session is None or not host.over or not due:
                continue
            over, host.over = host.over, []
            host.number = host.number._replace(sequence=host.number.sequence + 1)
            with suppress(NodeUnreachable):
                await host.session.renew(host.number)
                orders = [Order(self._own_number(), OrderWord.FORGET, attempt) for attempt in over]
                host.forgetting.update((order.number, attempt) for order, attempt in zip(orders, over, strict=True))
                await host.session.order(orders)

    def _hear_forgotten(self, host: Host, answer: Answer) -> None:
        """Take in what became of an order to forget; what could not be is tried again."""
        attempt = host.forgetting.pop(answer.number)
        if not answer.done:
            host.over.append(attempt)
            host.forget_at = time.monotonic() + FORGET_S

    def _settle(self, conn: Connection, work: Work) -> None:
        """Write of hosts that have been quiet for a while that they keep nothing of any job."""
        now = time.monotonic()
        quiet = [host for host in self._hosts.values() if host.has_entries and now >= host.settle_at]
        done = [host.name for host in quiet if host.session is not None and not (host.over or host.forgetting)]
        if done:
            work.settled = node_sessions.settle(conn, done)
            for host in quiet:
                host.settle_at = now + SETTLE_S

    async def _distrust(self, host: Host, reason: str) -> None:
        logger.error("host %s: %s; no more is heard of it for %d s", host.name, reason, DISTRUST_S)
        host.left_alone_until = time.monotonic() + DISTRUST_S
        if host.session is not None:
            await host.session.close()

    def _own_number(self) -> int:
        """The number of an order that no row stands for."""
        self._own_orders -= 1
        return self._own_orders

    def _keep(self, name: str) -> Host:
        """Hold sessions with a host from now on."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(name)
            host.keeper = asyncio.create_task(self._keep_session(host))
        return host

    async def _keep_session(self, host: Host) -> None:
        """Hold a session with ``host``, and another one after each that ends."""
        while not self._stopping.is_set():
            try:
                await self._open(host)
                assert host.session is not None
                async for said in host.session.heard():
                    for one in said:
                        if isinstance(one, Beat):
                            self._beats[host.name] = one.clock, time.monotonic()
                            if host.name in self._stale:
                                self._stale.discard(host.name)
                                self._awake.set()
                        elif isinstance(one, Answer) and one.number in host.forgetting:
                            self._hear_forgotten(host, one)
                        else:
                            self._heard.append((host.name, one))
                            self._awake.set()
            except Exception as error:  # one host's session is no other's business
                self._note_failure(host, error)
            await self._lose(host)
            await asyncio.sleep(max(retry_after_s(host.failures), host.left_alone_until - time.monotonic()))

    async def _open(self, host: Host) -> None:
        """Begin a session, and let it work once the tables agree with the host's inventory."""
        executor = self._reach(host.name)
        epoch = 0 if self._ctx.epoch is None else self._ctx.epoch.number
        instance, sequence, before = await self._in_database(lambda: self._next_number(host.name, epoch))
        host.number = SessionNumber(epoch, sequence)
        window = await self._window_for(host)
        try:
            # Only hosts of a cluster listen unasked.
            oarsh = host.oarsh or isinstance(executor, SshExecutor)
            session = await executor.open(host.name, instance, host.number, oarsh=oarsh)
        finally:
            window.release()
        # Before its launches are looked at: from here on none of them counts as fenced for a while.
        self._beats.pop(host.name, None)
        self._fences.heard(host.name, session.greeting.clock, time.monotonic())
        self._fences.grant(host.name)
        host.opened_for_oarsh, host.oarsh_port = oarsh, session.greeting.oarsh_port
        if oarsh and host.oarsh_port is None:
            logger.warning("host %s: takes in no oarsh; of nodes.oarsh_ports it has none free", host.name)
        try:
            unknown, orders = await self._in_database(lambda: self._reconcile(host.name, session.greeting, before))
        except BaseException:
            await session.close()
            raise
        host.session = session
        host.failures = host.faults = 0
        host.suspected = False
        logger.info("host %s: session %d.%d", host.name, *host.number)
        self._heard += [(host.name, report) for report in session.greeting.inventory]
        self._awake.set()
        await self._send(host, unknown)
        if host.session is not None:
            await host.session.order(orders)

    async def _window_for(self, host: Host) -> asyncio.Semaphore:
        """The window in which a session with ``host`` may be opened now, entered.

        Hosts that are needed wait for none that failed, or that nobody needs yet.
        """
        if host.failures == 0 and not host.wanted.is_set():
            getting = asyncio.create_task(self._window_of_failed.acquire())
            wanting = asyncio.create_task(host.wanted.wait())
            try:
                await asyncio.wait({getting, wanting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wanting.cancel()
                getting.cancel()
            if True in await asyncio.gather(getting, return_exceptions=True):
                return self._window_of_failed
        window = self._window_of_failed if host.failures else self._window
        await window.acquire()
        return window

    def _next_number(self, name: str, epoch: int) -> tuple[UUID, int, Identity]:
        with self._ctx.transaction(durable=True) as conn:
            return node_sessions.instance(conn), *node_sessions.next_number(conn, name, epoch)

    def _note_failure(self, host: Host, error: Exception) -> None:
        host.failures += 1
        if isinstance(error, NodeUnreachable | NodeMisbehaves):
            host.faults += 1
        if isinstance(error, NodeMisbehaves):
            host.left_alone_until = time.monotonic() + DISTRUST_S
        if isinstance(error, NotLeader):
            self._failure = error
            self._stop()
        elif is_absence(error):
            # Said once, by the turns.
            logger.debug("host %s: no session, the database does not answer", host.name)
        elif isinstance(error, NodeUnreachable | NodeMisbehaves | Stale | DBAPIError):
            logger.warning("%s", str(error).split("\n")[0], extra={"event": "SESSION_LOST", "host": host.name})
        else:
            logger.exception("host %s: its session failed", host.name)

    async def _lose(self, host: Host) -> None:
        """The session has ended; what it was told and has not answered is told to the next one."""
        session, host.session = host.session, None
        host.given.clear()
        host.over.clear()
        host.forgetting.clear()
        self._parts.session_ended(host.name)
        if session is not None:
            await session.close()
        # The database may be what was lost.
        with suppress(DBAPIError, NotLeader):
            host.suspected = await self._in_database(lambda: self._write_loss(host))
        self._awake.set()

    def _write_loss(self, host: Host) -> bool:
        """Write that there is no session; whether the host is Suspected for its faults, now or before."""
        suspect = host.faults >= FAILURES
        with self._ctx.transaction() as conn:
            node_sessions.lost(conn, host.name)
            if suspect:
                node_sessions.unreachable(conn, host.name)
                # Here and not by an event's effect, which might come after the link is back.  Each time, for a
                # person may have made it Alive; one that is Absent is in nobody's way.
                news = nodes.suspect(conn, [host.name], by_check=True)
                if news or (host.name in self._mine and not host.suspected):
                    reason = f"no session could be opened, {FAILURES} times in a row"
                    events.append(conn, [Event("NODE_UNREACHABLE", hosts=(host.name,), description=reason)])
                    wake(conn, Reader.ALMIGHTY)
        return suspect

    async def _close(self) -> None:
        """End the sessions; the hosts' jobs go on."""
        self._stopping.set()
        keepers = [host.keeper for host in self._hosts.values() if host.keeper is not None]
        for task in keepers:
            task.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await self._programs.close()
        await self._keys.close()
        for host in self._hosts.values():
            if host.session is not None:
                await host.session.close()
        self._thread.shutdown()


def _is_met(host: Host) -> bool:
    """Whether a first session with it is needed and not open yet."""
    return host.session is None and host.failures == 0 and host.wanted.is_set()


def retry_after_s(failures: int, at_most_s: float = RETRY_MAX_S) -> float:
    """How long a host, or the database, is left alone that has failed so often in a row."""
    # The limit of the exponent is for hosts that fail for hours: 2.0**1024 is no number.
    return min(RETRY_S * 2.0 ** min(failures, 16), at_most_s)


def _parts_of(known: Mapping[JobId, Known], report: Report) -> tuple[str, ...]:
    job = known.get(report.attempt.job_id)
    return () if job is None else job.others


def _end(report: Ended) -> End:
    return End(
        report.attempt.job_id,
        report.cause,
        report.status,
        report.began,
        report.ran,
        report.cpu,
        report.peak_mib,
        report.short_of_memory if report.cause is EndCause.OUT_OF_MEMORY else None,
    )


def _fenced(job_id: JobId, host: str) -> Event:
    return Event("NODE_FENCED", job_id, (host,), "nobody reached its host, which has killed it")


def _idle_end(job_id: JobId, cause: EndCause) -> End:
    """How a job ends that runs nothing: to hold what it has until its walltime is over is all it had to do."""
    if cause is EndCause.WALLTIME:
        return End(job_id, EndCause.EXIT, 0, None, ran=False)
    return End(job_id, cause, None, None, ran=False)


def _rebooted(job_id: JobId, job: Known) -> End:
    return End(job_id, EndCause.NODE_REBOOTED, None, None, ran=job.state is not JobState.LAUNCHING)


def _tell_end(job_id: JobId, host: str, report: Ended, work: Work) -> None:
    """OAR's events about an end that was not quite ordinary."""
    _tell_memory(host, report, work)
    if report.event is not None:
        work.events.append(Event(report.event, job_id, (host,), report.text))
    elif report.cause is EndCause.FENCED:
        work.events.append(_fenced(job_id, host))
    elif report.cause in _SAID:
        work.events.append(Event("SWITCH_INTO_ERROR_STATE", job_id, (host,), _SAID[report.cause]))
    elif report.status == ASKS_AGAIN:
        work.events.append(Event("SWITCH_INTO_TERMINATE_STATE", job_id, (host,), "it ended with 99"))


def _tell_memory(host: str, report: Report, work: Work) -> None:
    if isinstance(report, Ended) and report.short_of_memory:
        work.events.append(Event("OUT_OF_MEMORY", report.attempt.job_id, (host,), report.short_of_memory))


def _is_past(order: OpenOrder) -> bool:
    """Whether the attempt that an order is for is on no host any more."""
    return order.attempt != order.current_attempt or order.state not in ON_NODES
