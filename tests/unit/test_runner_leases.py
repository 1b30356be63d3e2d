"""Which clocks of hosts the runner tells back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from oarpy import settings
from oarpy.database.connection import open_engine
from oarpy.modules.context import Context
from oarpy.modules.hosts import Host
from oarpy.modules.runner import Runner
from oarpy.modules.work import Work
from oarpy.ports.executor import Beat


class Session:
    """A link to a host that says what it is let say, and what it was told."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.taken = threading.Event()
        self.says: asyncio.Queue[Beat] = asyncio.Queue()

    async def heard(self) -> AsyncIterator[Sequence[Beat]]:
        while True:
            yield [await self.says.get()]
            self.taken.set()

    async def ping(self, clock: float) -> None:
        self.told.append(clock)


def test_a_clock_that_is_heard_after_a_turn_began_is_told_back_after_the_next_one(monkeypatch):
    """Another runner may have begun meanwhile; the transaction of the next turn would show it."""

    async def turns() -> list[float]:
        engine = open_engine({"host": "/nonexistent", "dbname": "oar"}, application_name="oarpy/0/runner")
        nowhere: Any = None
        running: Any = Runner(Context(engine, settings.Settings()), nowhere)
        session: Any = Session()
        host = running._hosts["c1"] = Host("c1")
        loop = asyncio.get_running_loop()

        async def opened(host: Host) -> Any:
            host.session = session
            return session

        def written(heard: object) -> Work:
            clock = 100.0 * (2 + len(session.told))
            session.taken.clear()
            loop.call_soon_threadsafe(session.says.put_nowait, Beat(clock))
            assert session.taken.wait(20), "the beat is heard while the transaction lasts"
            return Work()

        monkeypatch.setattr(running._sessions, "_open", opened)
        monkeypatch.setattr(running, "_write", written)
        # A lease of no length: the clock is told back after each turn.
        running._leases._out = {"c1": 0.0}
        running._leases._fences.heard("c1", 100.0, time.monotonic())
        keeper = asyncio.create_task(running._sessions._keep(host))
        try:
            await running._turn()
            await running._turn()
        finally:
            keeper.cancel()
        return list(session.told)

    assert asyncio.run(turns()) == [100.0, 200.0]
