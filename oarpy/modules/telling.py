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
from oarpy.ports.executor import Launch


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
        for name in {*work.launches, *work.prepared, *work.orders, *work.over}:
            await self._tell(self._hosts[name], work)

    async def send(self, host: Host, fresh: Sequence[Launch]) -> None:
        """Send launches, each after its server prologue where there is one.

        Raises:
            NodeUnreachable: whether it has them is not known.
        """
        if not self._programs.has_prologue:
            if host.session is not None:
                await host.session.launch([self._leases.granted(host.name, launch) for launch in fresh])
            return
        if host.session is not None:
            await host.session.launch([launch for launch in fresh if launch.part])
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
        if host.session is None:
            return
        host.given.update(order.number for order in orders)
        with suppress(NodeUnreachable):
            await self.send(host, work.launches.get(host.name, []))
            await self._send_prepared(host, work.prepared.get(host.name, []))
            await host.session.order(orders)

    async def _send_prepared(self, host: Host, due: Sequence[Prepared]) -> None:
        """Send launches whose server prologues have ended; those that failed are given up."""
        for one in due:
            if host.session is None:
                return
            one.told = True
            if one.failure is None:
                await host.session.launch([self._leases.granted(host.name, one.launch)])
            else:
                await host.session.order([self._orders.refuse(one.launch.attempt)])
