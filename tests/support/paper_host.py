"""Hosts that do nothing and remember what they were told, for tests of what the runner tells whom and when."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from oarpy.errors import NodeUnreachable
from oarpy.modules import runner
from oarpy.modules.context import Context
from oarpy.ports.executor import Answer, Beat, Greeting, Launch, Order, Report, SessionNumber

Heard = Sequence[Report | Answer | Beat] | NodeUnreachable


class PaperHost:
    """One host, and its own executor and session."""

    def __init__(self) -> None:
        self.greeting = Greeting("boot", "spool", "c1", "paper", enforces=("kill",))
        self.sessions = 0
        self.launched: list[Launch] = []
        self.ordered: list[Order] = []
        self._says: asyncio.Queue[Heard] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self, host: str, instance: UUID, number: SessionNumber, *, oarsh: bool = False) -> PaperHost:
        self._says, self._loop = asyncio.Queue(), asyncio.get_running_loop()
        self.sessions += 1
        return self

    async def launch(self, launches: Sequence[Launch]) -> None:
        self.launched += launches

    async def order(self, orders: Sequence[Order]) -> None:
        self.ordered += orders

    async def renew(self, number: SessionNumber) -> None:
        pass

    def hang_up(self) -> None:
        """End the link, from another thread."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._say(NodeUnreachable("the link ended")), self._loop).result(60)

    async def ping(self, since: float) -> None:
        await self._say([Beat(time.monotonic())])

    async def heard(self) -> AsyncIterator[Sequence[Report | Answer | Beat]]:
        assert self._says is not None
        while True:
            said = await self._says.get()
            if isinstance(said, NodeUnreachable):
                raise said
            yield said

    async def close(self) -> None:
        pass

    async def _say(self, said: Heard) -> None:
        assert self._says is not None
        await self._says.put(said)


@contextmanager
def serving(ctx: Context, host: PaperHost) -> Iterator[list[BaseException]]:
    """A runner of which every host is ``host``, in a thread; why it ended, once it has."""
    stop, stopper = os.pipe()
    ended: list[BaseException] = []

    def serve() -> None:
        try:
            asyncio.run(runner.Runner(ctx, lambda name: host).serve(stop))
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ended
    finally:
        os.write(stopper, b"x")
        thread.join(timeout=60)
        os.close(stop)
        os.close(stopper)
        assert not thread.is_alive()
