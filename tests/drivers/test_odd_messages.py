"""Messages that are not quite what they should be, at both ends of a link."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from oarpy.drivers.oarexec_link import MAX_LINE, OarexecSession, write_launch, write_order
from oarpy.errors import NodeMisbehaves, NodeUnreachable, Stale
from oarpy.model.states import EndCause, JobId
from oarpy.ports.executor import Access, Attempt, Launch, Order, OrderWord, SessionNumber
from tests.support.mutations import mutated_line
from tests.support.node import Node, a_node
from tests.support.reports import ENDED

CASES = 700
DEADLINE_S = 60.0
W = OrderWord


class Caller:
    """Speaks with a guard as sessions do; one that is hung up on calls again."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._socket: socket.socket | None = None
        self._answers: Any = None
        self.number = [2, 0]
        self.refusals = 0

    def hello(self) -> dict[str, Any]:
        self.number = [self.number[0], self.number[1] + 1]
        return {
            "hello": {
                "protocol": 1,
                "instance": str(self._node.instance),
                "session": self.number,
                "oarsh": False,
                "oarsh_ports": None,
                "programs": {"oarprint": "pass\n"},
            }
        }

    def say(self, line: bytes) -> None:
        """Say something and wait until it was taken in, or refused."""
        while self._socket is None:
            self._call()
        try:
            self._socket.sendall(line + b'{"ping": "taken in"}\n')
            for answer in self._answers:
                message = json.loads(answer)
                if "fenced" in message:
                    self.number = message["fenced"]["by"]
                if message.get("pong") == "taken in":
                    return
        except ConnectionError:
            pass
        self.refusals += 1
        self.hang_up()

    def hang_up(self) -> None:
        if self._socket is not None:
            self._answers.close()
            self._socket.close()
            self._socket = None

    def _call(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(str(self._node.directory / "guard.sock"))
        self._answers = self._socket.makefile("rb")
        self._socket.sendall(json.dumps(self.hello()).encode() + b"\n")
        first = json.loads(self._answers.readline())
        if "fenced" in first:
            self.number = first["fenced"]["by"]
            self.hang_up()


def everything(launch: Launch) -> Launch:
    """A launch with all that there may be."""
    return replace(
        launch,
        cpus="0",
        memory_mib=64,
        denied_devices=("/dev/null",),
        visible_devices="0",
        sweep=("ipc",),
        prologue="/bin/true",
        epilogue="/bin/true",
        lease=timedelta(hours=1),
        access=Access("private", "public", ("other",), {"c1": 1}),
    )


def orders(attempt: Attempt) -> list[Order]:
    return [
        Order(1, W.KILL, attempt, timedelta(seconds=1), EndCause.KILLED),
        Order(2, W.SIGNAL, attempt, signal=12),
        Order(3, W.SUSPEND, attempt),
        Order(4, W.RESUME, attempt),
        Order(5, W.WALLTIME, attempt, walltime=timedelta(hours=1)),
        Order(6, W.REFUSE, attempt),
        Order(7, W.FORGET, attempt),
        Order(8, W.CHECK),
        Order(9, W.ACCESS, attempt, access=Access("private", "public", (), {"c1": 1}), environment={"OAR_JOB_ID": "1"}),
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_guard_takes_in_or_refuses_whatever_a_session_says(seed: int) -> None:
    random = Random(seed)
    with a_node("as its user") as node:
        guard = node.guard()
        caller = Caller(node)
        job_id = 1

        for _ in range(CASES):
            job_id += 1
            attempt = Attempt(JobId(random.choice((job_id, job_id, job_id - 1, 1))), 1)
            launch = node.a_launch("true", attempt.job_id, user=None)
            messages: list[Callable[[], Any]] = [
                caller.hello,
                lambda launch=launch: {"launches": [write_launch(launch), write_launch(everything(launch))]},
                lambda attempt=attempt: {"orders": [write_order(one) for one in random.sample(orders(attempt), 2)]},
                lambda attempt=attempt: {"orders": [write_order(one) for one in random.sample(orders(attempt), 2)]},
                lambda: {"renew": {"session": [caller.number[0], caller.number[1] + 1]}},
                lambda: {"ping": 1, "since": 1.0},
            ]
            caller.say(mutated_line(random.choice(messages)(), random))
        caller.hang_up()

        assert CASES / 10 < caller.refusals < CASES
        assert node.guard() == guard
        node.disconnect()
        epoch, sequence = caller.number
        node.connect(SessionNumber(epoch, sequence + 10))
        assert node.run("echo well", job_id=job_id + 1).cause is EndCause.EXIT
        assert node.read(f"{job_id + 1}.out") == "well\n"


def test_a_guard_waits_for_walltimes_that_are_longer_than_epoll_waits() -> None:
    with a_node("as its user") as node:
        guard = node.guard()
        attempt = node.launch("sleep 1000", walltime=timedelta(days=400))
        node.began(attempt)

        assert node.order(W.CHECK).done
        assert node.guard() == guard
        node.kill(attempt, after_s=0)
        node.ended(attempt)


ATTEMPT = {"job": 1, "attempt": 1}
SAID: list[dict[str, Any]] = [
    {
        "hello": {
            "protocol": 1,
            "session": [1, 1],
            "boot_id": "boot",
            "spool_id": "spool",
            "host": "c1",
            "containment": {"by": "cgroup v2", "enforces": ["kill"]},
            "memory_mib": 4096,
            "clock": 1.5,
            "oarsh_port": 6667,
        }
    },
    {"inventory": [ENDED, {**ATTEMPT, "is": "refused", "text": None}], "more": True},
    {"inventory": [{**ATTEMPT, "is": "starting"}], "more": False},
    {"reports": [{**ATTEMPT, "is": "began", "age_s": 1.0, "suspended": False}, ENDED]},
    {"answers": [{"order": 1, "done": True, "text": "", "over": False}]},
    {"pong": None, "clock": 2.5},
    {"refused": "the spool cannot be written"},
    {"fenced": {"by": [1, 2]}},
]


def test_a_runner_understands_what_a_host_says_or_knows_that_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but these errors comes out, and nothing is taken in that is not what it should be."""
    random = Random(1)
    understood = 0

    async def unheard(session: OarexecSession, line: bytes) -> None:
        pass

    async def hear(lines: list[bytes]) -> int:
        said = asyncio.StreamReader(limit=2 * MAX_LINE)
        transport = SimpleNamespace(set_write_buffer_limits=lambda high: None)
        process: Any = SimpleNamespace(stdin=SimpleNamespace(transport=transport), stdout=said)
        for line in lines:
            said.feed_data(line)
        said.feed_eof()
        session = OarexecSession("c1", process)
        count = 0
        try:
            await session.greet(UUID(int=1), SessionNumber(1, 1))
            async for heard in session.heard():
                count += len(heard)
        except (NodeMisbehaves, NodeUnreachable, Stale) as error:
            # It is told, and written.
            str(error).encode()
        return count

    async def hear_all() -> int:
        total = 0
        for _ in range(3000):
            lines = [json.dumps(message).encode() + b"\n" for message in SAID]
            at = random.randrange(len(SAID))
            lines[at] = mutated_line(SAID[at], random)
            total += await hear(lines)
        return total

    monkeypatch.setattr(OarexecSession, "_write", unheard)
    understood = asyncio.run(hear_all())

    assert understood > 3000
