"""Almighty's turn: listen, do what the automaton says, listen again.

Nothing is decided here; ``automata/almighty.py`` says what follows what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from logging import getLogger
from typing import NoReturn, Protocol

from sqlalchemy.exc import DBAPIError

from oarpy.almighty.calls import Calls
from oarpy.automata.almighty import ALMIGHTY, Event, Step
from oarpy.database import events
from oarpy.database.connection import is_absence
from oarpy.database.listen import Listener
from oarpy.errors import NotLeader, OarError
from oarpy.modules.context import Context
from oarpy.settings import Settings

logger = getLogger(__name__)

#: Finaud looks soon after something has changed, a job's end perhaps, behind the scheduler; not more often than this.
CHECK_AFTER_S = 0.1
CHECK_AGAIN_S = 0.5


class StopAsked(OarError):
    """This almighty is to stop."""


class SupervisorGone(OarError):
    """Nobody forks the processes any more; almighty itself, being connected, cannot."""


class HasDescriptor(Protocol):
    def fileno(self) -> int: ...


def run(listen: Callable[[], Event], modules: Mapping[Step, Callable[[], Event]]) -> NoReturn:
    """Turn for ever; ends by what ``listen`` or a module raises."""
    step = Step.LISTEN
    while True:
        step = turn(step, listen, modules)


def turn(step: Step, listen: Callable[[], Event], modules: Mapping[Step, Callable[[], Event]]) -> Step:
    """Do what ``step`` says and return the step to take after it."""
    event = listen() if step is Step.LISTEN else modules[step]()
    return ALMIGHTY.after(step, event)


class Listening:
    """What almighty waits for: hints, its timers, the scheduler's outcomes, and its own end."""

    def __init__(
        self,
        listener: Listener,
        calls: Calls,
        settings: Settings,
        *,
        stop: int,
        lost: HasDescriptor,
        supervised: HasDescriptor,
    ) -> None:
        self._listener = listener
        self._calls = calls
        self._stop = stop
        self._lost = lost
        self._supervised = supervised
        self._turn_period_s = settings.server.turn_period.total_seconds()
        self._watch_period_s = settings.server.sarko_period.total_seconds()
        self._check_period_s = settings.server.finaud_period.total_seconds()
        self._min_interval_s = settings.scheduler.min_interval.total_seconds()
        self._turn_at = self._watch_at = self._check_at = self._check_from = self._hint_from = 0.0
        self._hinted = False
        self._kill_wanted = False

    def __call__(self) -> Event:
        """The next thing that has to be looked at.

        Hints that come within the scheduler's least interval after a turn are one.
        Raises ``StopAsked``, ``SupervisorGone``, or ``NotLeader`` when the term is over.
        """
        while True:
            if self._kill_wanted:
                self._kill_wanted = False
                return Event.KILL_WANTED
            now = time.monotonic()
            if now >= self._watch_at:
                self._watch_at = now + self._watch_period_s
                return Event.WATCH_DUE
            if now >= self._check_at:
                self._check_at = now + self._check_period_s
                self._check_from = now + min(CHECK_AGAIN_S, self._check_period_s)
                return Event.CHECK_DUE
            if now >= self._turn_at or (self._hinted and now >= self._hint_from):
                event = Event.HINTED if self._hinted else Event.SCHEDULE_DUE
                self._hinted = False
                self._turn_at = now + self._turn_period_s
                self._hint_from = now + self._min_interval_s
                return event
            hint_from = self._hint_from if self._hinted else float("inf")
            self._wait(min(self._watch_at, self._check_at, self._turn_at, hint_from) - now)

    def _wait(self, timeout_s: float) -> None:
        lost, supervised, calls = self._lost.fileno(), self._supervised.fileno(), self._calls.fileno()
        woken = self._listener.wait(timeout_s, self._stop, lost, supervised, calls)
        if self._stop in woken.ready:
            raise StopAsked
        if lost in woken.ready:
            raise NotLeader("the lease is lost")
        if supervised in woken.ready:
            raise SupervisorGone("the supervisor is gone, and its processes with it")
        if calls in woken.ready:
            self._kill_wanted |= Event.JOBS_TO_KILL in self._calls.outcomes()
        if woken.hinted:
            self._hinted = True
            self._check_at = min(self._check_at, max(self._check_from, time.monotonic() + CHECK_AFTER_S))


def isolated(name: str, module: Callable[[Context], Event], ctx: Context) -> Callable[[], Event]:
    """``module`` as a step: what it raises is logged and reported, and never stops the server."""
    failing = False

    def step() -> Event:
        nonlocal failing
        try:
            outcome = module(ctx)
        except NotLeader:
            raise
        except Exception as error:  # the server goes on without this module's turn
            if is_absence(error):
                logger.warning("%s: no turn, the database does not answer", name)
            else:
                logger.exception("%s: failed", name, extra={"event": "MODULE_FAILED", "module_name": name})
                if not failing:
                    _report(ctx, name, error)
                failing = True
            return Event.FAILED
        failing = False
        return outcome

    return step


def _report(ctx: Context, name: str, error: Exception) -> None:
    said = f"{name} failed: {type(error).__name__}: {error}"
    try:
        with ctx.transaction() as conn:
            events.append(conn, [events.Event("MODULE_FAILED", description=said)])
    except DBAPIError:
        logger.warning("%s: its failure is in this log only", name)
