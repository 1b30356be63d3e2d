"""What hosts keep of jobs that are over: they are told to forget it, and it is written when one keeps nothing.

A runner that takes over finds there which hosts may keep something, and opens sessions with
them, so that what its predecessor had not told every host is forgotten all the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf

from sqlalchemy.engine import Connection

from oarpy.database import node_sessions
from oarpy.errors import NodeUnreachable
from oarpy.modules.hosts import Host, Hosts
from oarpy.modules.work import OwnOrders, Work
from oarpy.ports.executor import Answer, Attempt

#: What is over is forgotten by hosts so often, or when there is so much of it.
FORGET_S = 5.0
FORGET_COUNT = 200
#: When nothing was launched on a host for so long, it is written that it keeps nothing.
SETTLE_S = 60.0


class Leftovers:
    """What is known of that in this process, which is noted with each host."""

    def __init__(self, hosts: Hosts, orders: OwnOrders) -> None:
        self._hosts = hosts
        self._orders = orders

    @property
    def rest_s(self) -> float:
        """How soon a host is to forget something."""
        due = [host.forget_at for host in self._hosts.values() if host.over and host.session is not None]
        return min(due, default=inf) - time.monotonic()

    def add(self, host: Host, over: Sequence[Attempt]) -> None:
        """The ends of these attempts are committed; the host is to forget them before long."""
        if over and not host.over:
            host.forget_at = time.monotonic() + FORGET_S
        host.over += over

    def may_keep(self, name: str, *, something: bool) -> None:
        """It has been written whether a host may keep something."""
        self._hosts[name].has_entries = something
        self._hosts[name].settle_at = time.monotonic() + SETTLE_S

    def note(self, work: Work) -> None:
        """What a turn has written of hosts is so."""
        for name in work.taken_in:
            self.may_keep(name, something=True)
        for name in work.settled:
            self._hosts[name].has_entries = False

    async def forget(self) -> None:
        """Let hosts forget what is over; that needs a number above that of the launch."""
        for host in self._hosts.values():
            due = len(host.over) >= FORGET_COUNT or time.monotonic() >= host.forget_at
            session = host.session
            if session is None or not host.over or not due:
                continue
            over, host.over = host.over, []
            host.number = host.number._replace(sequence=host.number.sequence + 1)
            with suppress(NodeUnreachable):
                await session.renew(host.number)
                if host.session is not session:
                    # Lost meanwhile; the next one says what the host still has.
                    continue
                orders = [self._orders.forget(attempt) for attempt in over]
                host.forgetting.update((order.number, attempt) for order, attempt in zip(orders, over, strict=True))
                await session.order(orders)

    def hear(self, host: Host, answer: Answer) -> bool:
        """Take in what became of an order to forget, if it is one; what could not be is tried again."""
        attempt = host.forgetting.pop(answer.number, None)
        if attempt is not None and not answer.done:
            host.over.append(attempt)
            host.forget_at = time.monotonic() + FORGET_S
        return attempt is not None

    def settle(self, conn: Connection, work: Work) -> None:
        """Write of hosts that have been quiet for a while that they keep nothing of any job."""
        now = time.monotonic()
        quiet = [host for host in self._hosts.values() if host.has_entries and now >= host.settle_at]
        busy = {*work.over, *work.orders, *(host.name for host in quiet if host.over or host.forgetting)}
        done = {host.name for host in quiet if host.session is not None} - busy
        if done:
            work.settled = node_sessions.settle(conn, done)
            for host in quiet:
                host.settle_at = now + SETTLE_S
