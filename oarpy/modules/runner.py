"""The runner: what happens on hosts, and what hosts say happened.

It holds one session with each host that it needs and is the only asynchronous
process.  A turn writes, in one durable transaction, everything that was heard
since the last one and everything that is about to be done; then it is done.
Recovery is the next ordinary turn: a launch or an order that was written and not
sent, or sent and not answered, is sent again, and hosts do each once.

What is written is said by those who know it: `oarpy.modules.reports` of what hosts say of
attempts, `launching`, `leases`, `node_orders`, `parallel_jobs`, `closing` and `leftovers`;
`sessions` opens the links, `inventory` compares hosts with the tables when one begins, and
`telling` says to hosts what was written.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from logging import getLogger
from typing import TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from oarpy.database import events, launches, node_sessions
from oarpy.database.connection import is_absence, retrying
from oarpy.database.listen import Listener
from oarpy.database.wake import Reader, wake
from oarpy.drivers.local import LocalExecutor
from oarpy.drivers.ssh import SshExecutor
from oarpy.drivers.ssh_keys import KeyStock
from oarpy.errors import NodeUnreachable, NotLeader
from oarpy.instance import find_instance, names_of_this_machine
from oarpy.modules.accesses import Accesses
from oarpy.modules.closing import Closing
from oarpy.modules.context import Context
from oarpy.modules.hosts import Hosts
from oarpy.modules.inventory import Inventory
from oarpy.modules.launching import Launching
from oarpy.modules.leases import Leases
from oarpy.modules.leftovers import Leftovers
from oarpy.modules.machines import Machines
from oarpy.modules.node_orders import NodeOrders
from oarpy.modules.parallel_jobs import ParallelJobs
from oarpy.modules.parts import Parts
from oarpy.modules.reports import Reports
from oarpy.modules.server_programs import ServerPrograms
from oarpy.modules.sessions import Heard, Sessions, retry_after_s
from oarpy.modules.telling import Telling
from oarpy.modules.work import OwnOrders, Work
from oarpy.ports.executor import Answer, Executor
from oarpy.settings import Settings

logger = getLogger(__name__)
T = TypeVar("T")

#: Without hints and reports the tables are read this often.
PERIOD_S = 5.0
#: After a turn that changed jobs the next one begins so much later.
GATHER_S = 0.02
#: A turn by hand ends when hosts were silent for so long, or after so long.
QUIET_S = 0.5
ALONE_S = 15.0
#: While the database is away it is asked at least so often.
OUTAGE_RETRY_MAX_S = 1.0
#: Where hosts other than the server's keep what they know of their jobs.
SPOOL = "/var/spool/oarpy"


def serve(ctx: Context, stop: int) -> None:
    """Serve until ``stop`` can be read.  Raises ``NotLeader`` when the epoch has ended."""
    asyncio.run(Runner(ctx, ways(ctx)).serve(stop))


def turn(ctx: Context) -> int:
    """Launch what is due and take in what the hosts say meanwhile; how many jobs changed."""
    return asyncio.run(Runner(ctx, ways(ctx)).turn_alone())


def ways(ctx: Context) -> Callable[[str], Executor]:
    """How each host is reached: this machine directly, others over ssh."""
    nodes = ctx.settings.nodes
    mine, ssh = names_of_this_machine(), nodes.ssh_words
    here = LocalExecutor(
        nodes.spool_dir or find_instance().spool_dir, min_uid=nodes.min_uid, oarsh_ports=nodes.oarsh_span
    )
    there = SshExecutor(
        nodes.spool_dir or SPOOL,
        ssh=ssh,
        python=nodes.python,
        min_uid=nodes.min_uid,
        oarsh_ports=nodes.oarsh_span,
    )

    def reach(host: str) -> Executor:
        if host not in mine and not ssh:
            raise NodeUnreachable(f"host {host}: jobs are launched on {os.uname().nodename} only")
        return here if host in mine else there

    return reach


class Runner:
    """The sessions, and the turns that connect them with the tables."""

    def __init__(self, ctx: Context, reach: Callable[[str], Executor]) -> None:
        self._ctx = ctx
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        #: Turns in a row to which the database did not answer.
        self._absences = 0
        #: Hosts that turns were about of which nobody knows whether they are written.
        self._in_doubt: set[str] = set()
        settings, orders = ctx.settings, OwnOrders()
        prepare, clean = _times(settings)
        self._hosts = Hosts()
        self._machines = Machines()
        self._programs = ServerPrograms(settings.prologue, self.wake)
        self._keys = KeyStock(self.wake)
        self._parts = Parts(prepare.total_seconds())
        self._leases = Leases(settings.nodes, self._hosts, self._machines)
        self._launching = Launching(
            settings, self._hosts, self._machines, self._parts, self._leases, self._programs, self._keys
        )
        self._parallel = ParallelJobs(self._parts, self._hosts, self._launching, orders, clean.total_seconds())
        accesses = Accesses(self._hosts, self._launching, self._keys)
        self._orders = NodeOrders(settings.kill, settings.nodes.order_timeout, self._hosts, self._parallel, accesses)
        self._reports = Reports(self._parallel, self._programs, orders)
        self._closing = Closing(self._parallel, self._programs)
        self._leftovers = Leftovers(self._hosts, orders)
        self._telling = Telling(self._hosts, self._leases, self._leftovers, self._programs, orders)
        inventory = Inventory(ctx, self._machines, self._launching, self._parallel, self._leftovers)
        self._sessions = Sessions(
            ctx,
            reach,
            self._hosts,
            leases=self._leases,
            parts=self._parts,
            inventory=inventory,
            leftovers=self._leftovers,
            telling=self._telling,
            around=self,
        )

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
                    await asyncio.wait_for(self._awake.wait(), self._rest_s())
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
                if not (work.changed or self._sessions.heard or self._sessions.are_beginning):
                    break
        finally:
            await self._close()
        return changed

    async def in_database(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, done by the one thread that speaks with the database."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: retrying(action))

    def wake(self) -> None:
        """There is something for a turn to do."""
        self._awake.set()

    def fail(self, error: BaseException) -> None:
        """Nothing goes on; ``serve`` raises this."""
        self._failure = error
        self._stop()

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
            self.fail(error)
        except DBAPIError as error:
            if not is_absence(error):
                raise
            if not self._absences:
                logger.warning("runner: no turn, the database does not answer (%s)", str(error.orig).split("\n")[0])
            await self._pause(retry_after_s(self._absences, OUTAGE_RETRY_MAX_S))
            self._absences += 1
            self.wake()
        return changed

    async def _turn(self) -> Work:
        """Write what was heard and what is to be done, and then do it."""
        heard, self._sessions.heard = self._sessions.heard, []
        self._leases.turn_begins()
        try:
            work = await self.in_database(lambda: self._write(heard))
        except BaseException:
            # Not written, so not heard.
            self._sessions.heard = heard + self._sessions.heard
            raise
        for job_id, sentence in work.log:
            logger.info("job %d: %s", job_id, sentence, extra={"event": "JOB", "job_id": job_id})
        self._ctx.passes("runner: launches written" if work.launches else "runner: turn written")
        self._leftovers.note(work)
        # Not before it is written: without this nobody would look after a job that waits for its hosts.
        self._parts.forget(work.settled_jobs)
        for name in work.needed:
            self._sessions.keep(name, wanted=True)
        for name in work.unsettled:
            self._sessions.keep(name, wanted=False)
        if work.keys_wanted:
            self._keys.refill()
        # What stands in the tables and was not told is told when a session begins.
        for name in work.reopened | self._in_doubt:
            self._sessions.reopen(name)
        self._in_doubt.clear()
        for name, reason in work.distrusted.items():
            self._sessions.distrust(name, reason)
        self._programs.forget_launches(work.past)
        await self._telling.tell(work)
        for job in work.epilogues:
            self._programs.begin_epilogue(job)
        await self._telling.prolong()
        await self._leftovers.forget()
        if work.launches:
            self._ctx.passes("runner: launches sent")
        return work

    def _write(self, heard: Sequence[Heard]) -> Work:
        work = Work()
        try:
            with self._parts.as_written():
                self._write_turn(heard, work)
        except DBAPIError as error:
            if work.whole and is_absence(error):
                # Perhaps it is written all the same.
                self._in_doubt |= work.hosts
            raise
        return work

    def _write_turn(self, heard: Sequence[Heard], work: Work) -> None:
        with self._ctx.transaction(durable=True) as conn:
            self._machines.refresh(conn)
            # A job that was resumed may have ended at once.
            self._orders.write_answers(conn, [(host, one) for host, one in heard if isinstance(one, Answer)], work)
            self._reports.write(conn, [(host, one) for host, one in heard if not isinstance(one, Answer)], work)
            self._launching.begin(conn, work)
            self._leases.end_fenced(conn, work)
            self._launching.follow_prologues(conn, work)
            self._orders.begin(conn, work)
            self._closing.close(conn, work)
            if not self._hosts:
                self._find_hosts(conn, work)
            self._parallel.advance(conn, work)
            self._leftovers.settle(conn, work)
            events.append(conn, work.events)
            if work.changed or work.events:
                wake(conn, Reader.ALMIGHTY)
            work.whole = True

    def _find_hosts(self, conn: Connection, work: Work) -> None:
        """Take over from a runner that is dead."""
        for job_id, known in launches.live(conn).items():
            if known.head is not None:
                work.needed |= {known.head, *known.others}
            if known.others:
                self._parallel.of(job_id, known)
        # Whether they can be reached again, and what they keep, is for nobody else to find out.
        work.unsettled = node_sessions.unsettled(conn, names_of_this_machine())

    def _rest_s(self) -> float:
        return max(0.0, min(PERIOD_S, self._leases.look_s, self._leftovers.rest_s))

    async def _pause(self, duration_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, duration_s))

    def _listen(self, loop: asyncio.AbstractEventLoop, stop: int) -> None:
        """Pass hints on until ``stop`` can be read; without them turns come late, but they come."""
        while True:
            try:
                self._pass_hints_on(loop, stop)
                return
            except Exception:
                logger.exception("runner: hints cannot be heard; they are again in %d s", PERIOD_S)
                if select.select([stop], [], [], PERIOD_S)[0]:
                    return

    def _pass_hints_on(self, loop: asyncio.AbstractEventLoop, stop: int) -> None:
        listener = Listener(self._ctx.engine, Reader.RUNNER)
        try:
            while True:
                woken = listener.wait(PERIOD_S, stop)
                if stop in woken.ready:
                    return
                loop.call_soon_threadsafe(self.wake)
        finally:
            listener.close()

    def _stop(self) -> None:
        self._stopping.set()
        self._sessions.stop()
        self.wake()

    async def _close(self) -> None:
        """End the sessions; the hosts' jobs go on."""
        self._stopping.set()
        await self._sessions.close()
        await self._programs.close()
        await self._keys.close()
        self._thread.shutdown()


def _times(settings: Settings) -> tuple[timedelta, timedelta]:
    """How long a host may take to prepare its part of a job, and to clean up, programs included."""
    nodes, programs = settings.nodes, settings.prologue
    prepare = nodes.prepare_timeout + (timedelta() if programs.node_prologue is None else programs.timeout)
    clean = nodes.order_timeout + (timedelta() if programs.node_epilogue is None else programs.timeout)
    return prepare, clean
