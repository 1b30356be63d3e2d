"""What hosts are told: launches, orders, and their own clocks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from oarpy.errors import NodeUnreachable
from oarpy.modules.hosts import Host, Hosts
from oarpy.modules.leases import Leases
from oarpy.modules.leftovers import Leftovers
from oarpy.modules.server_programs import Prepared, ServerPrograms
from oarpy.modules.work import OwnOrders, Work
from oarpy.ports.executor import Launch, Session


class Telling:
    """Tells hosts what has been written; what does not reach one is told to its next session."""

    def __init__(
        self, hosts: Hosts, leases: Leases, leftovers: Leftovers, programs: ServerPrograms, orders: OwnOrders
    ) -> None:
        self._hosts = hosts
        self._leases = leases
        self._leftovers = leftovers
        self._programs = programs
        self._orders = orders

    async def tell(self, work: Work) -> None:
        """Tell every host what a turn has decided for it."""
        for name in work.hosts:
            await self._tell(self._hosts[name], work)

    async def send(self, host: Host, session: Session, fresh: Sequence[Launch]) -> None:
        """Send launches, each after its server prologue where there is one.

        Raises:
            NodeUnreachable: whether it has them is not known.
        """
        at_once = [launch for launch in fresh if launch.part] if self._programs.has_prologue else fresh
        await session.launch([self._leases.granted(host.name, launch) for launch in at_once])
        if self._programs.has_prologue:
            for launch in fresh:
                if not launch.part:
                    self._programs.prepare(host.name, launch)

    async def prolong(self) -> None:
        """Prolong leases.  The turn before was of this term, and every clock that is told back was heard before it."""
        for name in self._leases.due():
            session = self._hosts.session(name)
            if session is not None:
                with suppress(NodeUnreachable):
                    await session.ping(self._leases.grant(name))

    async def _tell(self, host: Host, work: Work) -> None:
        orders = work.orders.get(host.name, [])
        self._leftovers.add(host, work.over.get(host.name, []))
        # It may be lost meanwhile: then the next one is told.
        session = host.session
        if session is None:
            return
        host.given.update(order.number for order in orders)
        with suppress(NodeUnreachable):
            await self.send(host, session, work.launches.get(host.name, []))
            await self._send_prepared(host, session, work.prepared.get(host.name, []))
            await session.order(orders)

    async def _send_prepared(self, host: Host, session: Session, due: Sequence[Prepared]) -> None:
        """Send launches whose server prologues have ended; those that failed are given up."""
        for one in due:
            one.told = True
            if one.failure is None:
                await session.launch([self._leases.granted(host.name, one.launch)])
            else:
                await session.order([self._orders.refuse(one.launch.attempt)])
