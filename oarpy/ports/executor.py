"""What the runner needs of a host: to start jobs there and to learn what became of them.

An ``Executor`` opens sessions.  A ``Session`` belongs to one host, carries many
launches, orders and reports at a time, and ends when its link or its guard does;
then another is opened, with a higher number, and begins with the host's whole
inventory.  What a session was asked and has not reported is unknown until then.

The fields mirror the protocol of ``oarpy.node.oarexec``, which documents them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import NamedTuple, Protocol
from uuid import UUID

from oarpy.model.states import EndCause, JobId


class Attempt(NamedTuple):
    """The identity of a launch within an instance."""

    job_id: JobId
    number: int


class SessionNumber(NamedTuple):
    """A host executes nothing any more for a number below the highest it has heard."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Access:
    """How oarsh comes to a job: the job's own key pair, other public keys that are let in, and ports by host."""

    private: str = field(repr=False)
    public: str
    authorized: tuple[str, ...]
    hosts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt to run a job.  ``user`` None means the account that the host's oarexec runs as."""

    attempt: Attempt
    user: str | None
    command: str
    directory: str
    stdout: str
    stderr: str
    environment: Mapping[str, str]
    nodes: str
    resources: str
    walltime: timedelta | None
    grace: timedelta
    kill_after: timedelta
    cpus: str | None = None
    memory_mib: int | None = None
    #: Paths of the host's devices that the job must not use; its own by their places among all, "0,2".
    denied_devices: tuple[str, ...] = ()
    visible_devices: str | None = None
    umask: int = 0o022
    append: bool = True
    #: No command runs: the containment is made for what comes from the job's head, and kept until it is killed.
    part: bool = False
    #: What to remove of its user when no other job of his is there: "processes", "ipc", directories.
    sweep: tuple[str, ...] = ()
    #: The administrator's programs on the host.
    prologue: str | None = None
    epilogue: str | None = None
    program_timeout: timedelta = timedelta(seconds=60)
    #: The host kills it when the server has not been heard of for so long, counted from ``since`` and what is
    #: told by ``Session.ping``: clocks that the host has told.
    lease: timedelta | None = None
    since: float = 0.0
    access: Access | None = None


@dataclass(frozen=True, slots=True)
class Starting:
    """The host has accepted the launch; the command has not begun."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Began:
    """The command runs, since ``age`` ago."""

    attempt: Attempt
    age: timedelta
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The command did not begin and never will: the proof that the job may be launched again.

    ``trouble``: what keeps the host from taking any launch, empty when nothing does.
    """

    attempt: Attempt
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the attempt is left.

    ``status`` is wait(2)'s, None when it is unknown; ``began`` is how long ago
    the command began, None when it did not or when the host has been rebooted.
    ``short_of_memory``: a sentence, where processes of it were killed for using
    too much memory, whatever it ended with.
    """

    attempt: Attempt
    cause: EndCause
    status: int | None = None
    ran: bool = True
    began: timedelta | None = None
    ended: timedelta | None = None
    event: str | None = None
    text: str = ""
    cpu: timedelta | None = None
    peak_mib: int | None = None
    short_of_memory: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """What the host's own clock says, in seconds; means something to that host alone, and in this boot."""

    clock: float


Report = Starting | Began | Refused | Ended


class OrderWord(str, Enum):
    """What a host can be told to do with an attempt."""

    KILL = "kill"
    SIGNAL = "signal"
    SUSPEND = "suspend"
    RESUME = "resume"
    WALLTIME = "walltime"
    ACCESS = "access"
    REFUSE = "refuse"
    FORGET = "forget"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to do; doing it twice is doing it once.

    ``number`` comes back in the answer.  ``attempt`` is None for CHECK alone.
    KILL takes ``kill_after`` (zero: at once) and ``cause``, SIGNAL takes
    ``signal``, WALLTIME takes ``walltime``.  ACCESS lets oarsh come to what was launched without:
    it takes ``access``, and ``environment`` and ``visible_devices`` as the launch had them.
    """

    number: int
    word: OrderWord
    attempt: Attempt | None = None
    kill_after: timedelta | None = None
    cause: EndCause | None = None
    signal: int | None = None
    walltime: timedelta | None = None
    access: Access | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    visible_devices: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the order ``number``; ``text`` says why it was not done, or what CHECK found.

    ``over``: it was not done because there is nothing to do it to any more: the attempt
    is over, or being killed, or was resumed before it could be suspended.
    """

    number: int
    done: bool
    text: str = ""
    over: bool = False


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a host says of itself when a session opens.

    ``memory_mib`` is what it has, None when it does not know; ``oarsh_port`` where
    it takes oarsh in, None when it does not.
    """

    boot_id: str
    spool_id: str
    host: str
    containment: str
    enforces: tuple[str, ...] = ()
    memory_mib: int | None = None
    clock: float = 0.0
    oarsh_port: int | None = None
    inventory: tuple[Report, ...] = field(default=(), repr=False)


class Session(Protocol):
    """A link to one host."""

    @property
    def greeting(self) -> Greeting: ...

    async def launch(self, launches: Sequence[Launch]) -> None:
        """Send launches.  A launch that the host knows already is answered with what became of it.

        Raises ``NodeUnreachable`` when the link is gone.
        """

    async def order(self, orders: Sequence[Order]) -> None:
        """Send orders, likewise."""

    async def renew(self, number: SessionNumber) -> None:
        """Take a higher number: only entries of lower ones can be forgotten."""

    async def ping(self, since: float) -> None:
        """Prolong the leases of this host's launches, counted from a clock that it has told.

        It answers with a ``Beat``.
        """

    def heard(self) -> AsyncIterator[Sequence[Report | Answer | Beat]]:
        """What the host says, in its order, as many at a time as there are.

        Raises ``NodeUnreachable`` when the link ends, ``NodeMisbehaves`` when
        what comes is not the protocol.
        """

    async def close(self) -> None:
        """End the link; the host's jobs go on."""


class Executor(Protocol):
    """A way to reach hosts."""

    async def open(self, host: str, instance: UUID, number: SessionNumber, *, oarsh: bool = False) -> Session:
        """A session whose inventory has been read.  ``oarsh``: let the host take oarsh in.

        Raises ``NodeUnreachable``, or ``Stale`` when the host has heard a higher number.
        """
