"""Sessions that speak the protocol of oarexec with a subprocess, whatever carries it.

On the local machine the subprocess is oarexec itself, elsewhere what carries
its stdin and stdout there.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from oarpy import node
from oarpy.errors import NodeMisbehaves, NodeUnreachable, Stale
from oarpy.model.states import EndCause, JobId
from oarpy.ports.executor import (
    Access,
    Answer,
    Attempt,
    Beat,
    Began,
    Ended,
    Greeting,
    Launch,
    Order,
    Refused,
    Report,
    SessionNumber,
    Starting,
)

PROTOCOL = 1
MAX_LINE = 1 << 20
#: Files longer than this are deflated: lists of resources repeat themselves.
LONG_FILE = 16_384
#: What a host may say of one thing.
MAX_SENTENCE = 400
#: Numbers that the tables can hold: of jobs and orders, of attempts, of wait(2), and of seconds, three centuries.
MAX_ID, MAX_ATTEMPT, MAX_STATUS, MAX_S = 2**63, 2**31, 0x10000, 1e10
MAX_MEMORY_MIB, MAX_PORT = 2**31, 0x10000
#: What comes of reading what is not like what was expected.
UNLIKE = (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError)
#: What a host need not have taken in before more is sent; above that it has so long.
MAX_UNREAD = 16 << 20
UNREAD_S = 5.0
#: How long the other end may take to end when the link is closed.
CLOSE_S = 2.0


class OarexecSession:
    """One subprocess that carries lines to a host and back."""

    def __init__(self, host: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._host = host
        self._process = process
        self._to = process.stdin
        self._to.transport.set_write_buffer_limits(high=MAX_UNREAD)
        self._from = process.stdout
        self._greeting: Greeting | None = None
        self._hearing = False

    @property
    def greeting(self) -> Greeting:
        assert self._greeting is not None
        return self._greeting

    async def greet(
        self,
        instance: UUID,
        number: SessionNumber,
        *,
        oarsh: bool = False,
        oarsh_ports: tuple[int, int] | None = None,
    ) -> None:
        """Say hello and read the inventory."""
        hello = {"protocol": PROTOCOL, "instance": str(instance), "session": number}
        await self._say({"hello": {**hello, "oarsh": oarsh, "oarsh_ports": oarsh_ports, "programs": _programs()}})
        message = await self._hear()
        if "fenced" in message:
            raise Stale(f"host {self._host}: a session with a higher number was here ({_shown(message['fenced'])})")
        if "refused" in message:
            raise NodeUnreachable(f"host {self._host}: {_sentence(message['refused'])}")
        inventory: list[Report] = []
        try:
            hello = message["hello"]
            more = True
            while more:
                part = await self._hear()
                inventory.extend(read_report(report) for report in part["inventory"])
                more = part["more"]
            self._greeting = Greeting(
                boot_id=_sentence(hello["boot_id"]),
                spool_id=_sentence(hello["spool_id"]),
                host=_sentence(hello["host"]),
                containment=_sentence(hello["containment"]["by"]),
                enforces=tuple(map(_sentence, hello["containment"]["enforces"])),
                memory_mib=_number_or_none(hello.get("memory_mib"), MAX_MEMORY_MIB),
                clock=_clock(hello["clock"]),
                oarsh_port=_number_or_none(hello.get("oarsh_port"), MAX_PORT),
                inventory=tuple(inventory),
            )
        except UNLIKE as error:
            raise NodeMisbehaves(f"host {self._host}: its greeting cannot be understood") from error

    async def launch(self, launches: Sequence[Launch]) -> None:
        await self._say_parts("launches", (write_launch(launch) for launch in launches))

    async def order(self, orders: Sequence[Order]) -> None:
        await self._say_parts("orders", [write_order(order) for order in orders])

    async def renew(self, number: SessionNumber) -> None:
        await self._say({"renew": {"session": number}})

    async def ping(self, since: float) -> None:
        await self._say({"ping": None, "since": since})

    async def heard(self) -> AsyncIterator[Sequence[Report | Answer | Beat]]:
        while True:
            message = await self._hear()
            if "reports" in message:
                yield [read_report(report) for report in _listed(message["reports"])]
            elif "answers" in message:
                yield [read_answer(answer) for answer in _listed(message["answers"])]
            elif "pong" in message:
                yield [_read_beat(self._host, message)]
            elif "fenced" in message:
                raise NodeUnreachable(f"host {self._host}: another session took over")
            elif "refused" in message:
                raise NodeUnreachable(f"host {self._host}: {_sentence(message['refused'])}")

    async def close(self) -> None:
        self._to.close()
        try:
            await asyncio.wait_for(self._process.wait(), timeout=CLOSE_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        closed = asyncio.ensure_future(self._to.wait_closed())
        await asyncio.wait({closed}, timeout=CLOSE_S)
        if not closed.done():
            # Another process has its end of the pipe and does not read.
            self._to.transport.abort()
        # That it took in less than it was told is no news; asyncio tells everybody unless it is asked.
        with suppress(ConnectionError):
            await closed
        if not self._hearing:
            # To the end of the pipe, whose transport closes only then.
            await self._from.read()

    async def _say(self, message: Mapping[str, Any]) -> None:
        await self._write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def _say_parts(self, word: str, items: Iterable[Mapping[str, Any]]) -> None:
        """As few lines as the protocol's limit allows."""
        start, end = f'{{"{word}":['.encode(), b"]}\n"
        line = bytearray(start)
        for item in items:
            text = _item(item)
            if len(start) + len(text) + len(end) > MAX_LINE:
                # Else nothing behind it would be told, and the next session would stumble over it, too.
                text = _item({**item, "environment": {}, "command": _TOO_LONG})
            if len(line) + len(b",") + len(text) + len(end) > MAX_LINE and len(line) > len(start):
                await self._write(bytes(line) + end)
                line = bytearray(start)
            if len(line) > len(start):
                line += b","
            line += text
        if len(line) > len(start):
            await self._write(bytes(line) + end)

    async def _write(self, line: bytes) -> None:
        if len(line) > MAX_LINE:
            raise NodeUnreachable(f"host {self._host}: a message of {len(line)} bytes is more than its line carries")
        try:
            self._to.write(line)
            # All hosts are told by one turn, and one that stands still must not keep the others waiting.
            async with asyncio.timeout(UNREAD_S):
                await self._to.drain()
        except TimeoutError as error:
            self._process.kill()
            raise NodeUnreachable(f"host {self._host}: it takes in nothing of what it is told") from error
        except (ConnectionError, RuntimeError) as error:
            raise NodeUnreachable(f"host {self._host}: the link is closed") from error

    async def _hear(self) -> dict[str, Any]:
        self._hearing = True
        try:
            line = await self._from.readline()
        except (ConnectionError, ValueError) as error:
            raise NodeMisbehaves(f"host {self._host}: {error}") from error
        finally:
            self._hearing = False
        if not line.endswith(b"\n"):
            raise NodeUnreachable(f"host {self._host}: the link ended")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise NodeMisbehaves(f"host {self._host} said {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise NodeMisbehaves(f"host {self._host} said {line[:80]!r}")
        return message


def session_arguments(spool: str, instance: UUID, min_uid: int | None) -> list[str]:
    """What follows the program's name where oarexec is to carry lines."""
    arguments = ["session", "--spool", spool, "--instance", str(instance)]
    return arguments if min_uid is None else [*arguments, "--min-uid", str(min_uid)]


@asynccontextmanager
async def opening(host: str, session: OarexecSession, timeout_s: float) -> AsyncIterator[None]:
    """Within it ``session`` is greeted; whatever hinders that ends it.

    Raises ``NodeUnreachable`` when the link ends or the host says nothing for ``timeout_s``.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        await session.close()
        raise NodeUnreachable(f"host {host}: oarexec does not answer") from error
    except (ConnectionError, ValueError) as error:
        await session.close()
        raise NodeUnreachable(f"host {host}: the link ended") from error
    except BaseException:
        await session.close()
        raise


def _read_beat(host: str, message: Mapping[str, Any]) -> Beat:
    try:
        return Beat(_clock(message["clock"]))
    except UNLIKE as error:
        raise NodeMisbehaves(f"host {host}: it tells no clock") from error


def _item(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


#: A command that every host refuses, with a sentence for its user.
_TOO_LONG = "#" * (1 << 17)


def write_launch(launch: Launch) -> dict[str, Any]:
    """The message that asks for ``launch``."""
    return {
        "job": launch.attempt.job_id,
        "attempt": launch.attempt.number,
        "user": launch.user,
        "command": launch.command,
        "directory": launch.directory,
        "stdout": launch.stdout,
        "stderr": launch.stderr,
        "append": launch.append,
        "umask": launch.umask,
        "environment": dict(launch.environment),
        "nodes": _deflated(launch.nodes),
        "resources": _deflated(launch.resources),
        "walltime_s": None if launch.walltime is None else launch.walltime.total_seconds(),
        "grace_s": launch.grace.total_seconds(),
        "kill_after_s": launch.kill_after.total_seconds(),
        "cpus": launch.cpus,
        "memory_mib": launch.memory_mib,
        "devices": None
        if launch.visible_devices is None
        else {"denied": launch.denied_devices, "visible": launch.visible_devices},
        "part": launch.part,
        "sweep": list(launch.sweep),
        "prologue": launch.prologue,
        "epilogue": launch.epilogue,
        "program_timeout_s": launch.program_timeout.total_seconds(),
        "lease_s": None if launch.lease is None else launch.lease.total_seconds(),
        "since": launch.since,
        "access": None if launch.access is None else _access(launch.access),
    }


def _access(access: Access) -> dict[str, Any]:
    return {
        "private": access.private,
        "public": access.public,
        "authorized": list(access.authorized),
        "hosts": dict(access.hosts),
        # As oarpy.node.oarsh has it.
        "proof": hashlib.sha256(access.public.encode()).hexdigest(),
    }


@cache
def _programs() -> dict[str, str]:
    """What jobs find in their PATH, as Python sources: hosts have nothing installed."""
    sources = {name: node.text(name).decode() for name in ("oarsh", "oarprint")}
    return sources | {"oarcp": sources["oarsh"]}


def write_order(order: Order) -> dict[str, Any]:
    """The message that gives ``order``."""
    message: dict[str, Any] = {"order": order.number, "kind": order.word.value}
    if order.attempt is not None:
        message |= {"job": order.attempt.job_id, "attempt": order.attempt.number}
    if order.kill_after is not None:
        message["kill_after_s"] = order.kill_after.total_seconds()
    if order.cause is not None:
        message["cause"] = order.cause.value
    if order.signal is not None:
        message["signal"] = order.signal
    if order.walltime is not None:
        message["walltime_s"] = order.walltime.total_seconds()
    if order.access is not None:
        message |= {"access": _access(order.access), "environment": dict(order.environment)}
        message["visible"] = order.visible_devices
    return message


def read_report(message: Mapping[str, Any]) -> Report:
    """What a report says.  Raises ``NodeMisbehaves`` when it says nothing."""
    try:
        attempt = Attempt(JobId(_number(message["job"], MAX_ID)), _number(message["attempt"], MAX_ATTEMPT))
        match message["is"]:
            case "starting":
                return Starting(attempt)
            case "began":
                return Began(attempt, _age(message["age_s"]), bool(message.get("suspended")))
            case "refused":
                return Refused(attempt, _sentence(message.get("text")))
            case "ended":
                return Ended(
                    attempt,
                    EndCause(message["cause"]),
                    status=_number_or_none(message["status"], MAX_STATUS),
                    ran=bool(message["ran"]),
                    began=_seconds(message["age_s"]),
                    ended=_seconds(message["ended_age_s"]),
                    event=_sentence(message["event"]) or None,
                    text=_sentence(message["text"]),
                    cpu=_seconds(message["cpu_s"]),
                    peak_mib=message["peak_mib"],
                    short_of_memory=_sentence(message.get("short_of_memory")),
                )
    except UNLIKE as error:
        raise NodeMisbehaves(f"a report cannot be understood: {_shown(message)}") from error
    raise NodeMisbehaves(f"a report cannot be understood: {_shown(message)}")


def read_answer(message: Mapping[str, Any]) -> Answer:
    try:
        done, over = bool(message["done"]), bool(message.get("over"))
        number = _number(message["order"], MAX_ID, least=-MAX_ID)
        return Answer(number, done, _sentence(message.get("text"), MAX_LINE), over)
    except UNLIKE as error:
        raise NodeMisbehaves(f"an answer cannot be understood: {_shown(message)}") from error


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else _age(value)


def _age(value: float) -> timedelta:
    # Not "greater", which nan is not.
    if not abs(value) <= MAX_S:
        raise ValueError(value)
    return timedelta(seconds=value)


def _clock(value: Any) -> float:
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(value)
    return found


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise NodeMisbehaves(f"a list cannot be understood: {_shown(value)}")
    return value


def _shown(message: object) -> str:
    """The beginning of what cannot be understood."""
    return _sentence(str(message), 200)


def _number(value: Any, below: int, *, least: int = 0) -> int:
    found = int(value)
    if not least <= found < below:
        raise ValueError(value)
    return found


def _number_or_none(value: Any, below: int) -> int | None:
    return None if value is None else _number(value, below)


def _sentence(value: object, longest: int = MAX_SENTENCE) -> str:
    """What a host says in words.  There may be a user's in it, in bytes that are no text; no table holds those."""
    text = str(value or "")[:longest]
    return text.encode(errors="replace").decode().replace("\0", "\\0")


def _deflated(text: str) -> str | dict[str, str]:
    if len(text) < LONG_FILE:
        return text
    return {"deflated": base64.b64encode(zlib.compress(text.encode())).decode()}
