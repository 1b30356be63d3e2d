"""What a turn of the runner has decided: what hosts are to do, and what is to be told of jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

from oarpy.database.events import Event
from oarpy.database.launches import Finishing
from oarpy.model.states import EndCause, JobId
from oarpy.modules.server_programs import Prepared
from oarpy.ports.executor import Attempt, Launch, Order, OrderWord


@dataclass(slots=True)
class Work:
    """What is to be done on hosts once the transaction that says so is committed."""

    launches: dict[str, list[Launch]] = field(default_factory=lambda: defaultdict(list))
    #: Those whose server prologues have ended, and those that are not to follow theirs any more.
    prepared: dict[str, list[Prepared]] = field(default_factory=lambda: defaultdict(list))
    past: list[Attempt] = field(default_factory=list)
    orders: dict[str, list[Order]] = field(default_factory=lambda: defaultdict(list))
    #: Attempts that hosts may forget.
    over: dict[str, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    #: Jobs of which nothing need be known any more.
    settled_jobs: list[JobId] = field(default_factory=list)
    #: Hosts with which a session is needed, and those with which there should be one when nothing else is to be done.
    needed: set[str] = field(default_factory=set)
    unsettled: Sequence[str] = ()
    #: Hosts whose session is to be opened anew.
    reopened: set[str] = field(default_factory=set)
    keys_wanted: bool = False
    distrusted: dict[str, str] = field(default_factory=dict)
    epilogues: list[Finishing] = field(default_factory=list)
    #: Hosts of which it was written that they may keep something, and that they do not.
    taken_in: set[str] = field(default_factory=set)
    settled: list[str] = field(default_factory=list)
    log: list[tuple[JobId, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    #: How many jobs changed, and whether the next turn is to follow at once.
    changed: int = 0
    more: bool = False
    #: Nothing is missing but that it is committed.
    whole: bool = False

    @property
    def hosts(self) -> set[str]:
        """Those that are to be told something."""
        return {*self.launches, *self.prepared, *self.orders, *self.over}


class OwnOrders:
    """Orders that no row stands for: nobody asks what became of them, but by what hosts say of the attempt."""

    def __init__(self) -> None:
        # Sessions begin while a turn is written, in another thread: no number twice.
        self._numbers = count(-1, -1)

    def kill(self, attempt: Attempt) -> Order:
        """Have killed what is left of it at once; a host that knows nothing of it promises to keep it so."""
        return Order(self._number(), OrderWord.KILL, attempt, timedelta(), EndCause.ADMIN)

    def refuse(self, attempt: Attempt) -> Order:
        """Have the command not begin, unless it has."""
        return Order(self._number(), OrderWord.REFUSE, attempt)

    def forget(self, attempt: Attempt) -> Order:
        return Order(self._number(), OrderWord.FORGET, attempt)

    def be_like(self, attempt: Attempt, *, rests: bool, walltime: timedelta | None) -> list[Order]:
        """Have it be so; nothing that matters was done already."""
        orders = [Order(self._number(), OrderWord.SUSPEND if rests else OrderWord.RESUME, attempt)]
        if walltime is not None:
            orders.append(Order(self._number(), OrderWord.WALLTIME, attempt, walltime=walltime))
        return orders

    def _number(self) -> int:
        return next(self._numbers)
