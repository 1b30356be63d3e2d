"""What the runner knows of each host that it has to do with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from oarpy.ports.executor import Attempt, Session, SessionNumber


@dataclass(eq=False, slots=True)
class Host:
    """A host.  ``session`` is None until the tables agree with its inventory."""

    name: str
    session: Session | None = None
    number: SessionNumber = field(default_factory=lambda: SessionNumber(0, 0))
    keeper: asyncio.Task[None] | None = None
    #: Set when a job or an order needs it; until then whatever else is to be done goes first.
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    #: Orders that this session has been given.
    given: set[int] = field(default_factory=set)
    #: Attempts whose end is committed and which the host still has.
    over: list[Attempt] = field(default_factory=list)
    forget_at: float = 0.0
    #: Those of them that it was told to forget and has not said that it did, by the numbers of these orders.
    forgetting: dict[int, Attempt] = field(default_factory=dict)
    #: Whether the tables say that it may keep something, and when they are to be asked whether it does.
    has_entries: bool = False
    settle_at: float = 0.0
    #: Sessions in a row that failed, for whatever reason; and those of them of which the host is to blame.
    failures: int = 0
    faults: int = 0
    #: Why the last one did, empty while there is one.
    trouble: str = ""
    #: Whether it has been written that so many faults in a row make the host Suspected.
    suspected: bool = False
    left_alone_until: float = 0.0
    #: Whether it is to take oarsh in, whether its session was opened so, and where it does.
    oarsh: bool = False
    opened_for_oarsh: bool = False
    oarsh_port: int | None = None

    @property
    def is_met(self) -> bool:
        """Whether a first session with it is needed and not open yet."""
        return self.session is None and self.failures == 0 and self.wanted.is_set()


class Hosts(dict[str, Host]):
    """The hosts by name."""

    def session(self, name: str | None) -> Session | None:
        """The session with a host that can be told something."""
        host = self.get(name or "")
        return None if host is None else host.session

    def ready(self) -> set[str]:
        """Those that can be told something."""
        return {name for name, host in self.items() if host.session is not None}

    def oarsh_ports(self, names: Iterable[str]) -> dict[str, int]:
        """Where those of these hosts that take oarsh in do so."""
        found = {name: host.oarsh_port for name in names if (host := self.get(name)) is not None}
        return {name: port for name, port in found.items() if port is not None}
