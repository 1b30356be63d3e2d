"""One session with each host that is needed, opened again whenever it ends.

A session works once the tables agree with the inventory of its host.  A host that is not
reached is tried again, less and less often, and after some times is Suspected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from logging import DEBUG, WARNING, getLogger
from typing import Protocol, TypeAlias, TypeVar
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from oarpy.database import events, node_sessions, nodes
from oarpy.database.connection import is_absence
from oarpy.database.events import Event
from oarpy.database.node_sessions import Identity
from oarpy.database.wake import Reader, wake
from oarpy.drivers.ssh import SshExecutor
from oarpy.errors import NodeMisbehaves, NodeUnreachable, NotLeader, Stale
from oarpy.instance import names_of_this_machine
from oarpy.model.wording import last_line
from oarpy.modules.context import Context
from oarpy.modules.hosts import Host, Hosts
from oarpy.modules.inventory import Inventory
from oarpy.modules.leases import Leases
from oarpy.modules.leftovers import Leftovers
from oarpy.modules.parts import Parts
from oarpy.modules.telling import Telling
from oarpy.ports.executor import Answer, Beat, Executor, Report, Session, SessionNumber

logger = getLogger(__name__)
T = TypeVar("T")

RETRY_S = 0.1
RETRY_MAX_S = 5.0
#: A host that cannot be reached so often in a row is Suspected.
FAILURES = 4
#: After contradicting the tables a host is left alone for a while.
DISTRUST_S = 30.0

#: What a host has said.
Heard: TypeAlias = tuple[str, Report | Answer]


class Surroundings(Protocol):
    """What sessions need of the runner that they are part of."""

    async def in_database(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, done by the one thread that speaks with the database."""
        ...

    def wake(self) -> None:
        """There is something for a turn to do."""
        ...

    def fail(self, error: BaseException) -> None:
        """Nothing goes on."""
        ...


class Sessions:
    """Keeps the sessions with ``hosts``; what these say is ``heard``."""

    def __init__(
        self,
        ctx: Context,
        reach: Callable[[str], Executor],
        hosts: Hosts,
        *,
        leases: Leases,
        parts: Parts,
        inventory: Inventory,
        leftovers: Leftovers,
        telling: Telling,
        around: Surroundings,
    ) -> None:
        self.heard: list[Heard] = []
        self._ctx = ctx
        self._reach = reach
        self._hosts = hosts
        self._leases = leases
        self._parts = parts
        self._inventory = inventory
        self._leftovers = leftovers
        self._telling = telling
        self._around = around
        self._mine = names_of_this_machine()
        self._closing = False
        #: Sessions that are being closed.
        self._ending: set[asyncio.Task[None]] = set()
        # Hosts that failed wait for one another, never those that are met first.
        self._window = asyncio.Semaphore(ctx.settings.nodes.window)
        self._window_of_failed = asyncio.Semaphore(ctx.settings.nodes.window)

    @property
    def are_beginning(self) -> bool:
        """Whether there is a host that is needed and may answer yet for the first time."""
        return any(host.is_met for host in self._hosts.values())

    def keep(self, name: str, *, wanted: bool) -> None:
        """Hold sessions with a host from now on; one that is not ``wanted`` waits for those that are."""
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(name)
            self._begin_keeping(host, self._keep(host))
        if wanted:
            host.wanted.set()

    def reopen(self, name: str) -> None:
        """Have the next session begin."""
        self._hang_up(self._hosts[name])

    def distrust(self, name: str, reason: str) -> None:
        """End the session, and hear no more of the host for a while."""
        logger.error("host %s: %s; no more is heard of it for %d s", name, reason, DISTRUST_S)
        self._hosts[name].left_alone_until = time.monotonic() + DISTRUST_S
        self._hang_up(self._hosts[name])

    def stop(self) -> None:
        """Open no more of them."""
        self._closing = True

    async def close(self) -> None:
        """End all of them; the hosts' jobs go on."""
        self.stop()
        keepers = [host.keeper for host in self._hosts.values() if host.keeper is not None]
        for task in keepers:
            task.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        # All at once: one that does not end takes its time.
        for host in self._hosts.values():
            self._hang_up(host)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _begin_keeping(self, host: Host, keeping: Coroutine[None, None, None]) -> None:
        host.keeper = asyncio.create_task(keeping)
        host.keeper.add_done_callback(lambda keeper: self._keeper_ended(host, keeper))

    def _keeper_ended(self, host: Host, keeper: asyncio.Task[None]) -> None:
        """It ends with all others; else nobody would hear of the host any more."""
        if self._closing:
            return
        error = asyncio.CancelledError() if keeper.cancelled() else keeper.exception()
        logger.error("host %s: what holds its session failed, and begins again", host.name, exc_info=error)
        self._hang_up(host)
        self._begin_keeping(host, self._keep_again(host))

    async def _keep_again(self, host: Host) -> None:
        await asyncio.sleep(RETRY_MAX_S)
        await self._lose(host)
        await self._keep(host)

    async def _keep(self, host: Host) -> None:
        """Hold a session with ``host``, and another one after each that ends."""
        while not self._closing:
            try:
                session = await self._open(host)
                async for said in session.heard():
                    if host.session is not session:
                        break
                    for one in said:
                        self._hear(host, one)
            except Exception as error:  # one host's session is no other's business
                self._note_failure(host, error)
            await self._lose(host)
            await asyncio.sleep(max(retry_after_s(host.failures), host.left_alone_until - time.monotonic()))

    def _hang_up(self, host: Host) -> None:
        """Tell and hear no more in the present session, which takes its time to end."""
        session, host.session = host.session, None
        if session is not None:
            ending = asyncio.create_task(session.close())
            self._ending.add(ending)
            ending.add_done_callback(self._ended)

    def _ended(self, ending: asyncio.Task[None]) -> None:
        self._ending.discard(ending)
        if not ending.cancelled() and ending.exception() is not None:
            logger.error("a session could not be closed", exc_info=ending.exception())

    def _hear(self, host: Host, said: Report | Answer | Beat) -> None:
        if isinstance(said, Beat):
            if self._leases.hear(host.name, said.clock):
                self._around.wake()
        elif not (isinstance(said, Answer) and self._leftovers.hear(host, said)):
            self.heard.append((host.name, said))
            self._around.wake()

    async def _open(self, host: Host) -> Session:
        """Begin a session, and let it work once the tables agree with the host's inventory."""
        executor = self._reach(host.name)
        epoch = 0 if self._ctx.epoch is None else self._ctx.epoch.number
        instance, sequence, before = await self._around.in_database(lambda: self._next_number(host.name, epoch))
        host.number = SessionNumber(epoch, sequence)
        window = await self._window_for(host)
        try:
            # Only hosts of a cluster listen unasked.
            oarsh = host.oarsh or isinstance(executor, SshExecutor)
            session = await executor.open(host.name, instance, host.number, oarsh=oarsh)
        finally:
            window.release()
        # Before its launches are looked at.
        self._leases.session_begins(host.name, session.greeting.clock)
        host.opened_for_oarsh, host.oarsh_port = oarsh, session.greeting.oarsh_port
        if oarsh and host.oarsh_port is None:
            logger.warning("host %s: takes in no oarsh; of nodes.oarsh_ports it has none free", host.name)
        try:
            again = await self._around.in_database(
                lambda: self._inventory.reconcile(host.name, session.greeting, before)
            )
        except BaseException:
            await session.close()
            raise
        host.session = session
        host.failures = host.faults = 0
        host.trouble = ""
        host.suspected = False
        logger.info("host %s: session %d.%d", host.name, *host.number)
        self.heard += [(host.name, report) for report in session.greeting.inventory]
        self._around.wake()
        await self._telling.send(host, session, again.launches)
        await session.order(again.orders)
        return session

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
        news = True
        if isinstance(error, NodeUnreachable | NodeMisbehaves):
            host.faults += 1
            said = last_line(str(error).removeprefix(f"host {host.name}: "))
            news, host.trouble = said != host.trouble, said
        if isinstance(error, NodeMisbehaves):
            host.left_alone_until = time.monotonic() + DISTRUST_S
        if isinstance(error, NotLeader):
            self._around.fail(error)
        elif is_absence(error):
            # Said once, by the turns.
            logger.debug("host %s: no session, the database does not answer", host.name)
        elif isinstance(error, NodeUnreachable | NodeMisbehaves | Stale | DBAPIError):
            # A host that stays away is tried every few seconds, for days.
            level = WARNING if news else DEBUG
            logger.log(level, "%s", str(error).split("\n")[0], extra={"event": "SESSION_LOST", "host": host.name})
        else:
            logger.exception("host %s: its session failed", host.name)

    async def _lose(self, host: Host) -> None:
        """The session has ended; what it was told and has not answered is told to the next one."""
        session, host.session = host.session, None
        host.given.clear()
        host.over.clear()
        host.forgetting.clear()
        if session is not None:
            await session.close()
        # The database may be what was lost.
        with suppress(DBAPIError, NotLeader):
            host.suspected = await self._around.in_database(lambda: self._write_loss(host))
        self._around.wake()

    def _write_loss(self, host: Host) -> bool:
        """Write that there is no session; whether the host is Suspected for its faults, now or before."""
        # Here, where turns are written, and not beside one that has seen the session yet.
        self._parts.session_ended(host.name)
        suspect = host.faults >= FAILURES
        with self._ctx.transaction() as conn:
            node_sessions.lost(conn, host.name)
            if suspect:
                node_sessions.unreachable(conn, host.name)
                # Here and not by an event's effect, which might come after the link is back.  Each time, for a
                # person may have made it Alive; one that is Absent is in nobody's way.
                news = nodes.suspect(conn, [host.name], by_check=True)
                if news or (host.name in self._mine and not host.suspected):
                    reason = f"no session could be opened, {FAILURES} times in a row: {host.trouble}"
                    events.append(conn, [Event("NODE_UNREACHABLE", hosts=(host.name,), description=reason)])
                    wake(conn, Reader.ALMIGHTY)
        return suspect


def retry_after_s(failures: int, at_most_s: float = RETRY_MAX_S) -> float:
    """How long a host, or the database, is left alone that has failed so often in a row."""
    # The limit of the exponent is for hosts that fail for hours: 2.0**1024 is no number.
    return min(RETRY_S * 2.0 ** min(failures, 16), at_most_s)
