"""A host as the runner sees it, for tests: a session that is asked and listened to step by step."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from oarpy.drivers.local import LocalExecutor
from oarpy.drivers.ssh import SshExecutor
from oarpy.model.states import EndCause, JobId
from oarpy.ports.executor import (
    Answer,
    Attempt,
    Beat,
    Began,
    Ended,
    Executor,
    Launch,
    Order,
    OrderWord,
    Refused,
    Report,
    Session,
    SessionNumber,
)
from tests.support import accounts, box
from tests.support.place import a_place
from tests.support.waiting import wait_until

R = TypeVar("R", bound=Report)
DEADLINE_S = 60.0


class Node:
    """One host and its spool; ``user`` is who runs jobs, ``runs_as`` who runs oarexec."""

    def __init__(
        self,
        root: Path,
        user: pwd.struct_passwd,
        runs_as: pwd.struct_passwd,
        ssh: Sequence[str] | None = None,
        host: str = "c1",
    ) -> None:
        self.instance = uuid.uuid4()
        self.user = user
        self.runs_as = runs_as
        self.work = root / "work"
        self.spool = root / "node" / "spool"
        self.name = "localhost" if ssh is None else host
        self.executor: Executor = (
            LocalExecutor(str(self.spool), carrier=accounts.switched(runs_as, ()), greeting_timeout_s=DEADLINE_S)
            if ssh is None
            else SshExecutor(str(self.spool), ssh=ssh, greeting_timeout_s=DEADLINE_S)
        )
        self.session: Session | None = None
        self.number = SessionNumber(1, 0)
        #: Whether it is to take oarsh in.
        self.oarsh = False
        #: The latest report of each attempt, and every answer.
        self.reports: dict[Attempt, Report] = {}
        self.answers: dict[int, Answer] = {}
        #: What it has told of its clock last.
        self.clock = 0.0
        self._runner = asyncio.Runner()
        self._heard: Any = None
        self._orders = 0

    @property
    def directory(self) -> Path:
        return self.spool / str(self.instance)

    def connect(self, number: SessionNumber | None = None) -> None:
        """Open a session, by default with the next number; its inventory counts as reports."""
        self.number = number or self.number._replace(sequence=self.number.sequence + 1)
        self.session = self._run(self.executor.open(self.name, self.instance, self.number, oarsh=self.oarsh))
        self._heard = self.session.heard()
        self.clock = self.session.greeting.clock
        self.reports.update((report.attempt, report) for report in self.session.greeting.inventory)

    def disconnect(self) -> None:
        if self.session is not None:
            self._run(self._heard.aclose())
            self._run(self.session.close())
            self.session = None

    def renew(self) -> None:
        """Take a higher number on the same link."""
        self.number = self.number._replace(sequence=self.number.sequence + 1)
        assert self.session is not None
        self._run(self.session.renew(self.number))

    def launch(self, command: str, job_id: int = 1, attempt: int = 1, **other: Any) -> Attempt:
        """Send one launch; returns at once."""
        launch = self.a_launch(command, job_id, attempt, **other)
        self.send(launch)
        return launch.attempt

    def a_launch(self, command: str, job_id: int = 1, attempt: int = 1, **other: Any) -> Launch:
        fields: dict[str, Any] = {
            "attempt": Attempt(JobId(job_id), attempt),
            "user": self.user.pw_name,
            "command": command,
            "directory": str(self.work),
            "stdout": f"{job_id}.out",
            "stderr": f"{job_id}.err",
            "environment": {"OAR_JOB_ID": str(job_id)},
            "nodes": "localhost\n",
            "resources": "resource_id = '1'\n",
            "walltime": timedelta(hours=1),
            "grace": timedelta(seconds=60),
            "kill_after": timedelta(seconds=5),
        }
        return Launch(**(fields | other))

    def send(self, *launches: Launch) -> None:
        assert self.session is not None
        self._run(self.session.launch(launches))

    def give(self, *orders: Order) -> None:
        """Send orders, all at once; returns at once."""
        assert self.session is not None
        self._run(self.session.order(orders))

    def order(self, word: OrderWord, attempt: Attempt | None = None, **other: Any) -> Answer:
        """Give an order and wait for its answer."""
        self._orders += 1
        number = self._orders
        self.give(Order(number, word, attempt, **other))
        self._listen(lambda: number in self.answers, f"an answer to {word}")
        return self.answers[number]

    def ping(self) -> None:
        """Tell the host its clock, and wait until it tells another."""
        assert self.session is not None
        before = self.clock
        self._run(self.session.ping(before))
        self._listen(lambda: self.clock > before, "its clock")

    def kill(self, attempt: Attempt, after_s: float = DEADLINE_S) -> Answer:
        return self.order(OrderWord.KILL, attempt, kill_after=timedelta(seconds=after_s), cause=EndCause.KILLED)

    def wait_for(self, attempt: Attempt, kind: type[R]) -> R:
        """The first report of ``kind`` about ``attempt``."""
        self._listen(lambda: isinstance(self.reports.get(attempt), kind), f"{kind.__name__} of {attempt}")
        found = self.reports[attempt]
        assert isinstance(found, kind)
        return found

    def began(self, attempt: Attempt) -> Began:
        return self.wait_for(attempt, Began)

    def ended(self, attempt: Attempt) -> Ended:
        return self.wait_for(attempt, Ended)

    def refused(self, attempt: Attempt) -> Refused:
        return self.wait_for(attempt, Refused)

    def run(self, command: str, job_id: int = 1, **other: Any) -> Ended:
        """Run a job to its end."""
        return self.ended(self.launch(command, job_id, **other))

    def listen_until(self, condition: Callable[[], bool], what: str) -> None:
        """Listen to the host until ``condition`` holds."""
        self._listen(condition, what)

    def hang_up(self) -> None:
        """Listen until the link ends."""
        self._listen(lambda: self.session is None, "the end of the link")

    def read(self, name: str) -> str:
        """A file of the job's directory, empty while it does not exist."""
        with suppress(FileNotFoundError):
            return (self.work / name).read_text()
        return ""

    def wait_for_text(self, name: str, text: str) -> None:
        wait_until(lambda: text in self.read(name), what=f"{text!r} in {name}")

    def guard(self) -> int | None:
        """The pid of the guard, None when there is none."""
        return next(iter(self._processes("guard")), None)

    def watches(self) -> list[int]:
        return self._processes("watch")

    def sessions(self) -> list[int]:
        return self._processes("session")

    def wrapper(self, attempt: Attempt) -> int:
        """The pid of the wrapper of a job."""
        name = f"{attempt.job_id}.{attempt.number}"
        for pid, words in command_lines():
            # Other nodes of this machine, of tests that run beside this one, have jobs of the same number.
            if words[:2] == ["/bin/sh", "-c"] and words[3:5] == ["oarexec", name] and self._is_mine(pid):
                return pid
        raise AssertionError(f"{name} has no wrapper")

    def processes(self) -> list[int]:
        """All living processes of this host's jobs: those that carry its mark."""
        return [pid for pid, _ in command_lines() if self._is_mine(pid)]

    def kill_guard(self) -> None:
        guard = self.guard()
        assert guard is not None
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{guard}") or is_zombie(guard), what="the guard is dead")

    def close(self) -> None:
        """Leave the host alone; what it runs goes on."""
        with suppress(Exception):
            self.disconnect()
        self._runner.close()

    def _listen(self, condition: Callable[[], bool], what: str) -> None:
        async def until() -> None:
            while not condition():
                try:
                    said = await anext(self._heard)
                except StopAsyncIteration:
                    raise AssertionError("the session has ended") from None
                for one in said:
                    if isinstance(one, Answer):
                        self.answers[one.number] = one
                    elif isinstance(one, Beat):
                        self.clock = one.clock
                    else:
                        self.reports[one.attempt] = one

        try:
            self._run(asyncio.wait_for(until(), DEADLINE_S))
        except TimeoutError:
            raise AssertionError(f"not within {DEADLINE_S} s: {what}; reports: {self.reports}") from None

    def _run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine)

    def _is_mine(self, pid: int) -> bool:
        """Whether a process carries the mark of a job of this host's."""
        with suppress(OSError):
            return f"OARPY_JOB={self.instance}:".encode() in Path(f"/proc/{pid}/environ").read_bytes()
        return False

    def _processes(self, life: str) -> list[int]:
        return oarexec_processes(life, str(self.spool), str(self.instance))


def command_lines() -> Iterator[tuple[int, list[str]]]:
    """The processes of this machine, and the words of their command lines."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if words != [""]:
                    yield int(entry.name), words


def oarexec_processes(life: str, place: str, *words: str) -> list[int]:
    """The processes of oarexec that live this life, whose spool is at or below ``place``."""
    found = {
        pid: parent_of(pid)
        for pid, said in command_lines()
        if {life, *words} <= {*said} and any(word.startswith(place) for word in said)
    }
    # What one has just begun to start still shows the words of its parent; the next moment it is a job, perhaps.
    return [pid for pid, parent in found.items() if parent not in found]


def parent_of(pid: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def is_zombie(pid: int) -> bool:
    """Whether a process is over, reaped (which some machines' init takes its time for) or not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


@contextmanager
def a_node(kind: str) -> Iterator[Node]:
    """A host of its own: ``as root`` (skips without root), ``as its user``, or ``over ssh`` as root.

    ``over ssh, v2`` is such a host with control groups of version 2.
    """
    user = accounts.submitter()
    runs_as = user if kind == "as its user" else accounts.root()
    with a_place() as root:
        ssh = box.a_box().patient_ssh if kind.startswith("over ssh") else None
        node = Node(root, user, runs_as, ssh, box.V2_HOST if kind.endswith("v2") else "c1")
        for path, owner in ((node.work, user), (node.spool.parent, runs_as)):
            path.mkdir()
            os.chown(path, owner.pw_uid, owner.pw_gid)
        try:
            node.connect()
            yield node
        finally:
            node.close()
