"""What a link makes of a host that does not do its part."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from oarpy.drivers import oarexec_link
from oarpy.drivers.oarexec_link import OarexecSession, read_answer, read_report
from oarpy.errors import NodeMisbehaves, NodeUnreachable
from oarpy.model.states import JobId
from oarpy.node.oarexec.launches import MAX_COMMAND
from oarpy.ports.executor import Attempt, Launch, Order, OrderWord
from tests.support.reports import ENDED

DEADLINE_S = 60.0
#: As text some 6 MB: far more than a pipe takes.
ORDERS = [Order(number, OrderWord.RESUME, Attempt(JobId(number), 1)) for number in range(1, 100_001)]


def with_one_that_reads_nothing(do: Callable[[OarexecSession], Awaitable[None]]) -> None:
    async def done() -> None:
        process = await asyncio.create_subprocess_exec(
            *("sleep", "600"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        session = OarexecSession("c1", process)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await do(session)
        finally:
            if process.returncode is None:
                process.kill()
            await session.close()

    asyncio.run(done())


def test_who_tells_a_host_that_stands_still_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oarexec_link, "UNREAD_S", 2 * DEADLINE_S)

    with_one_that_reads_nothing(lambda session: session.order(ORDERS))


def test_a_host_that_takes_in_nothing_for_long_loses_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oarexec_link, "UNREAD_S", 0.1)
    monkeypatch.setattr(oarexec_link, "MAX_UNREAD", 1 << 20)

    async def tell(session: OarexecSession) -> None:
        with pytest.raises(NodeUnreachable, match="takes in nothing"):
            await session.order(ORDERS)
        with pytest.raises(NodeUnreachable, match="the link ended"):
            await anext(session.heard())

    with_one_that_reads_nothing(tell)


def test_a_link_that_breaks_while_it_is_told_something_is_nobodys_news() -> None:
    news: list[dict[str, Any]] = []

    async def tell() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: news.append(context))
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", "read line; kill -9 $$"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        session = OarexecSession("c1", process)
        await session.order(ORDERS[:20_000])
        with pytest.raises(NodeUnreachable):
            await anext(session.heard())
        async with asyncio.timeout(DEADLINE_S):
            await session.close()
        del session, process
        gc.collect()

    asyncio.run(tell())
    gc.collect()

    assert news == []


@pytest.mark.parametrize(
    "odd",
    [
        *({"job": 1 << 63}, {"job": -1}, {"job": float("inf")}, {"attempt": 1 << 31}),
        *({"status": 1 << 16}, {"status": "well"}, {"age_s": 1e11}, {"ended_age_s": float("nan")}, {"cpu_s": -1e11}),
    ],
    ids=str,
)
def test_a_report_with_a_number_that_no_table_holds_is_not_believed(odd: dict[str, Any]) -> None:
    assert read_report(ENDED)
    with pytest.raises(NodeMisbehaves):
        read_report({**ENDED, **odd})


@pytest.mark.parametrize("number", [1 << 63, float("inf"), None])
def test_an_answer_to_an_order_that_no_table_holds_is_not_believed(number: object) -> None:
    with pytest.raises(NodeMisbehaves):
        read_answer({"order": number, "done": True})


def test_no_line_is_longer_than_the_protocol_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the lengths: 0 to 200 commands that fill the rest of a line, and one that fills more than one."""
    lines: list[bytes] = []

    async def write(session: OarexecSession, line: bytes) -> None:
        lines.append(line)

    monkeypatch.setattr(OarexecSession, "_write", write)
    monkeypatch.setattr(oarexec_link, "MAX_LINE", 1 << 18)
    lengths = [*range(40_000, 40_200), 1 << 18, 7]

    with_one_that_reads_nothing(
        lambda session: session.launch([a_launch(number, "x" * length) for number, length in enumerate(lengths)])
    )

    assert max(map(len, lines)) <= 1 << 18
    told = {one["job"]: len(one["command"]) for line in lines for one in json.loads(line)["launches"]}
    assert told == dict(enumerate(lengths)) | {200: 1 << 17}
    # What every host refuses.
    assert told[200] > MAX_COMMAND


def a_launch(number: int, command: str) -> Launch:
    return Launch(
        attempt=Attempt(JobId(number), 1),
        user="alice",
        command=command,
        directory="/",
        stdout="out",
        stderr="err",
        environment={},
        nodes="",
        resources="",
        walltime=None,
        grace=timedelta(),
        kill_after=timedelta(),
    )
