"""Hosts that do nothing and remember what they were told, for tests of what the runner tells whom and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

from oarpy.errors import NodeUnreachable
from oarpy.model.states import EndCause
from oarpy.ports.executor import (
    Answer,
    Beat,
    Began,
    Ended,
    Executor,
    Greeting,
    Launch,
    Order,
    OrderWord,
    Report,
    SessionNumber,
)

Said = Sequence[Report | Answer | Beat]


class PaperSession:
    """A link to one of them."""

    def __init__(self, hosts: PaperHosts, name: str, port: int | None) -> None:
        inventory = tuple(hosts.kept.get(name, ()))
        self.greeting = Greeting("boot", "spool", name, "paper", ("kill",), oarsh_port=port, inventory=inventory)
        self._hosts = hosts
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._says: asyncio.Queue[Said | NodeUnreachable] = asyncio.Queue()

    async def launch(self, launches: Sequence[Launch]) -> None:
        self._hosts.launched += launches
        if self._hosts.oblige:
            for launch in launches:
                began = Began(launch.attempt, timedelta())
                self._becomes(began if launch.part else Ended(launch.attempt, EndCause.EXIT, 0), unless=Ended)

    async def order(self, orders: Sequence[Order]) -> None:
        self._hosts.ordered += orders
        gone = {order.attempt for order in orders if order.word is OrderWord.FORGET}
        kept = self._hosts.kept.get(self._name, [])
        self._hosts.kept[self._name] = [report for report in kept if report.attempt not in gone]
        if self._hosts.oblige:
            for order in orders:
                if order.word is OrderWord.KILL and order.attempt is not None:
                    self._becomes(Ended(order.attempt, EndCause.KILLED), unless=Ended)
        said = [(order.number, self._hosts.refusals.get(order.word, "")) for order in orders]
        await self._says.put([Answer(number, not refusal, refusal) for number, refusal in said])

    async def renew(self, number: SessionNumber) -> None:
        pass

    async def ping(self, since: float) -> None:
        await self._says.put([Beat(time.monotonic())])

    async def heard(self) -> AsyncIterator[Said]:
        while True:
            said = await self._says.get()
            if isinstance(said, NodeUnreachable):
                raise said
            yield said

    async def close(self) -> None:
        self._says.put_nowait(NodeUnreachable(f"host {self._name}: the link ended"))

    def _becomes(self, report: Report, unless: type[Ended]) -> None:
        """Let an attempt be that, unless it is something final already; and say what it is."""
        kept = self._hosts.kept.setdefault(self._name, [])
        known = {one.attempt: one for one in kept}.get(report.attempt)
        if known is None or not isinstance(known, unless):
            self._hosts.kept[self._name] = [one for one in kept if one is not known] + [report]
            known = report
        self._says.put_nowait([known])

    def say(self, said: Said | NodeUnreachable) -> None:
        """Let the host say something, from another thread."""
        asyncio.run_coroutine_threadsafe(self._says.put(said), self._loop).result(60)

    def hang_up(self) -> None:
        """End the link, likewise."""
        self.say(NodeUnreachable(f"host {self._name}: the link ended"))


class PaperHosts:
    """As many as are asked for; ``silent`` ones never answer, ``kept`` is what the others have in their spools.

    Those that ``oblige`` do what they are told, each thing once: commands end at once, parts when they are killed.
    """

    def __init__(
        self,
        kept: dict[str, list[Report]] | None = None,
        silent: Sequence[str] = (),
        port: int | None = 4711,
        *,
        oblige: bool = False,
    ) -> None:
        self.kept = kept or {}
        self.silent = silent
        self.oblige = oblige
        #: Where they take oarsh in that are asked to, and what they say to orders that they do not obey.
        self.port = port
        self.refusals: dict[OrderWord, str] = {}
        #: The hosts to which links were asked for, in that order, and those that there were.
        self.asked: list[str] = []
        self.sessions: list[PaperSession] = []
        self.launched: list[Launch] = []
        self.ordered: list[Order] = []

    def reach(self, host: str) -> Executor:
        return self

    async def open(self, host: str, instance: UUID, number: SessionNumber, *, oarsh: bool = False) -> PaperSession:
        self.asked.append(host)
        if host in self.silent:
            await asyncio.Event().wait()
        session = PaperSession(self, host, self.port if oarsh else None)
        self.sessions.append(session)
        return session
