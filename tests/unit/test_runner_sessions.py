"""What holds the sessions of a runner: it goes on whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from oarpy import settings
from oarpy.database.connection import open_engine
from oarpy.model.states import EndCause, JobId
from oarpy.modules import sessions
from oarpy.modules.context import Context
from oarpy.modules.hosts import Host
from oarpy.modules.runner import Runner
from oarpy.modules.work import Work
from oarpy.ports.executor import Attempt, Ended, Order, OrderWord, Report

DEADLINE_S = 30.0
ATTEMPT = Attempt(JobId(1), 1)


class Session:
    """A link that says what it is let say, and ends when it is let."""

    def __init__(self) -> None:
        self.told: list[Order] = []
        self.says: asyncio.Queue[Sequence[Report]] = asyncio.Queue()
        self.closing = asyncio.Event()
        self.may_end = asyncio.Event()

    async def heard(self) -> AsyncIterator[Sequence[Report]]:
        while True:
            yield await self.says.get()

    async def launch(self, launches: object) -> None:
        pass

    async def order(self, orders: Sequence[Order]) -> None:
        self.told += orders

    async def close(self) -> None:
        self.closing.set()
        await self.may_end.wait()


def a_runner(monkeypatch: pytest.MonkeyPatch, work: Work | None = None) -> Any:
    """One without a database, whose turns decide ``work``."""
    monkeypatch.setattr(sessions, "RETRY_MAX_S", 0.0)
    engine = open_engine({"host": "/nonexistent", "dbname": "oar"}, application_name="oarpy/0/runner")
    nowhere: Any = None
    running: Any = Runner(Context(engine, settings.Settings()), nowhere)
    monkeypatch.setattr(running, "_write", lambda heard: work or Work())
    monkeypatch.setattr(running._sessions, "_write_loss", lambda host: False)
    return running


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("where", ["_open", "_note_failure", "_lose"])
def test_what_holds_a_session_begins_again_when_it_fails_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    async def held() -> None:
        running = a_runner(monkeypatch)
        real = getattr(running._sessions, where)
        session: Any = Session()
        session.may_end.set()
        failures = []

        async def open_(host: Host) -> Any:
            if where == "_note_failure" and not failures:
                raise OSError("this is noted")
            if where == "_lose" and not failures:
                raise OSError("and then lost")
            host.session = session
            return session

        def fails_once(*arguments: Any) -> Any:
            if not failures:
                failures.append(where)
                # Not an Exception: nothing in between expects it.
                raise asyncio.CancelledError if where == "_open" else ZeroDivisionError
            return real(*arguments)

        monkeypatch.setattr(running._sessions, "_open", open_)
        real = getattr(running._sessions, where)
        monkeypatch.setattr(running._sessions, where, fails_once)
        running._sessions.keep("c1", wanted=True)
        await until(lambda: running._hosts.session("c1") is session)
        assert failures == [where]
        await running._close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(held())

    assert "host c1: what holds its session failed, and begins again" in caplog.text


def test_a_host_whose_session_ends_slowly_delays_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def turns() -> None:
        work = Work(reopened={"c1"}, distrusted={"c2": "it contradicts"})
        running = a_runner(monkeypatch, work)
        slow: list[Any] = [Session(), Session()]
        for name, session in zip(("c1", "c2"), slow, strict=True):
            running._hosts[name] = Host(name, session)

        async with asyncio.timeout(DEADLINE_S):
            await running._turn()
            # Nothing more is told in a session that ends.
            work.orders["c1"] = [Order(1, OrderWord.RESUME, ATTEMPT)]
            await running._turn()
            await asyncio.gather(*(session.closing.wait() for session in slow))
        assert [session.told for session in slow] == [[], []]
        for session in slow:
            session.may_end.set()
        async with asyncio.timeout(DEADLINE_S):
            await running._close()

    asyncio.run(turns())


def test_nothing_more_is_heard_in_a_session_that_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def heard() -> list[Any]:
        running = a_runner(monkeypatch, Work(distrusted={"c1": "it contradicts"}))
        session: Any = Session()
        session.may_end.set()

        async def opened(host: Host) -> Any:
            host.session = session
            return session

        monkeypatch.setattr(running._sessions, "_open", opened)
        running._sessions.keep("c1", wanted=True)
        await until(lambda: running._hosts.session("c1") is session)
        await running._turn()
        session.says.put_nowait([Ended(ATTEMPT, EndCause.EXIT, 0)])
        await until(session.says.empty)
        await until(lambda: running._hosts["c1"].left_alone_until)
        found = list(running._sessions.heard)
        await running._close()
        return found

    assert asyncio.run(heard()) == []


def test_a_session_that_is_lost_while_it_is_told_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> list[Order]:
        order = Order(1, OrderWord.RESUME, ATTEMPT)
        running = a_runner(monkeypatch, Work(orders={"c1": [order], "c2": [order]}))
        lost: Any = Session()
        other: Any = Session()
        running._hosts["c1"], running._hosts["c2"] = Host("c1", lost), Host("c2", other)
        lost.may_end.set()

        async def launch(launches: object) -> None:
            await running._sessions._lose(running._hosts["c1"])

        lost.launch = launch
        await running._turn()
        return list(other.told)

    assert len(asyncio.run(told())) == 1
