"""What the server consists of: its modules, its processes, and what each is given.

Whoever needs oarpy in memory before forking imports this.
"""

from __future__ import annotations

import gc
import os
import pwd
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from logging import getLogger

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy.almighty import calls
from oarpy.almighty.calls import Calls
from oarpy.almighty.leadership import is_readable
from oarpy.almighty.loop import isolated
from oarpy.almighty.supervision import Process
from oarpy.automata.almighty import Event, Step
from oarpy.database import health, processes
from oarpy.database.connection import Epoch, is_absence, rename_sessions
from oarpy.database.leadership import application_name
from oarpy.drivers.postgresql import Account
from oarpy.errors import NotLeader
from oarpy.instance import Instance, names_of_this_machine
from oarpy.modules import appendice, fan_out, judas, leon, node_change_state, runner, sarko
from oarpy.modules.context import Context
from oarpy.modules.fan_out import FanOut
from oarpy.modules.finaud import Finaud
from oarpy.modules.scheduler import Scheduler
from oarpy.settings import Settings

logger = getLogger(__name__)

#: Until the next try of a process that finds no database, and of a pass that failed.
RETRY_S = 1.0
#: After so many of its periods without a call finaud ends: 12 MiB where there is nothing to check.
CALLS_MISSED = 3
#: The modules that almighty runs itself.
MODULES: Mapping[Step, Callable[[Context], Event]] = {
    Step.CHANGE_NODES: node_change_state.turn,
    Step.KILL: leon.turn,
    Step.WATCH: sarko.turn,
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for all processes of one almighty.

    ``engine`` was made, and has learnt what there is to know of the server, before
    they were forked, which saves each of them 2 MiB; it has no connection at that time.
    ``account`` is whom those become that need no root; None where there is nothing to give up.
    """

    instance: Instance
    settings: Settings
    engine: Engine
    account: Account | None

    def context(self, process: str, epoch: Epoch) -> Context:
        """What ``process`` needs in ``epoch``; its sessions bear its name."""
        rename_sessions(self.engine, application_name(epoch.number, process))
        return Context(self.engine, self.settings, epoch)


def children(around: Surroundings, scheduler_end: socket.socket, finaud_end: socket.socket) -> Sequence[Process]:
    """The processes for the supervisor; the scheduler and finaud are called through their ends."""
    unprivileged = partial(_live, around, account=around.account)
    return (
        Process("appendice", partial(_live_appendice, around)),
        Process(
            "scheduler",
            partial(unprivileged, "scheduler", partial(_serve_scheduler, end=scheduler_end)),
            keeps=(scheduler_end.fileno(),),
        ),
        # Root's keys open the hosts.
        Process(
            "finaud",
            partial(_live, around, "finaud", partial(_serve_finaud, end=finaud_end)),
            called=finaud_end.fileno(),
        ),
        # Both act as the users whose jobs they serve.
        Process("runner", partial(_live, around, "runner", runner.serve)),
        Process("judas", partial(_live, around, "judas", judas.serve)),
    )


def steps(ctx: Context, scheduler: Calls, finaud: Calls) -> Mapping[Step, Callable[[], Event]]:
    """What almighty does in each step but LISTEN."""
    modules = {step: isolated(step.value, module, ctx) for step, module in MODULES.items()}

    def check(ctx: Context) -> Event:
        # What finaud changes it hints at; its answers only have to be out of the way.
        finaud.outcomes()
        with ctx.transaction() as conn:
            wanted = health.is_wanted(conn, but=names_of_this_machine())
        return finaud.call() if wanted else Event.NOTHING

    return {Step.SCHEDULE: scheduler.call, Step.CHECK: isolated(Step.CHECK.value, check, ctx), **modules}


def registered(ctx: Context, epoch: Epoch, pids: Mapping[str, int | None], stop: int) -> bool:
    """Say in the tables which processes run, as soon as the database is there; False when ``stop`` comes first.

    Those without a process id rest.
    """
    wait_s = 0.0
    while not is_readable(stop, wait_s):
        try:
            with ctx.transaction() as conn:
                processes.forget_earlier(conn, epoch.number)
                for name, pid in pids.items():
                    processes.register(conn, name, pid=pid, host=os.uname().nodename, epoch=epoch.number)
        except DBAPIError as error:
            if not is_absence(error):
                raise
            wait_s = RETRY_S
        else:
            return True
    return False


def _live_appendice(around: Surroundings, epoch: Epoch, stop: int) -> int:
    """The life of appendice; where its watchers connect is opened with the rights that it gives up."""
    instance = around.instance
    watched: FanOut | None = None
    try:
        listening = fan_out.listen(instance.watch_socket, everybody=instance.serves_everybody)
    except OSError as error:
        logger.warning("%s: %s; who watches jobs asks the database", instance.watch_socket, error.strerror)
    else:
        trusted = frozenset((0, instance.owner))
        watched = FanOut(around.engine, listening, lambda uid: instance.serves_everybody or uid in trusted)
    return _live(around, "appendice", partial(appendice.serve, fan_out=watched), epoch, stop, account=around.account)


def _live(
    around: Surroundings,
    name: str,
    serve: Callable[[Context, int], None],
    epoch: Epoch,
    stop: int,
    account: Account | None = None,
) -> int:
    """The life of one process; its exit status."""
    try:
        if account is not None:
            _become(account)
        ctx = around.context(name, epoch)
        if registered(ctx, epoch, {name: os.getpid()}, stop):
            serve(ctx, stop)
    except NotLeader:
        logger.info("epoch %d has ended", epoch.number)
    except Exception as error:  # the supervisor starts it again
        if is_absence(error):
            logger.warning("the database went away")
        else:
            logger.exception("failed", extra={"event": "PROCESS_FAILED"})
        return 1
    return 0


def _become(account: Account) -> None:
    """Give up root for good."""
    os.initgroups(account.name, account.gid)
    os.setgid(account.gid)
    os.setuid(account.uid)
    # Where libpq looks for passwords.
    os.environ["HOME"] = pwd.getpwuid(account.uid).pw_dir


class _Passes:
    """The scheduler as it is called; one that failed begins anew, remembering nothing."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._scheduler = Scheduler(ctx)
        self._failed = False
        self._step = isolated("scheduler", lambda _: self._scheduler.turn(), ctx)

    @property
    def due_in_s(self) -> float | None:
        return RETRY_S if self._failed else self._scheduler.due_in_s

    def turn(self) -> Event:
        outcome = self._step()
        self._failed = outcome is Event.FAILED
        if self._failed:
            self._scheduler = Scheduler(self._ctx)
        return outcome


def _serve_scheduler(ctx: Context, stop: int, *, end: socket.socket) -> None:
    # What a pass reads and keeps are tens of thousands of objects without cycles; by
    # default they would all be searched for cycles several times in each pass.
    gc.set_threshold(50_000, 20, 50)
    calls.answer(_Passes(ctx), end, stop)


class _Checks:
    """Finaud as it is called: a whole turn in each of its periods, else a glance, if these take a tenth of the time."""

    def __init__(self, ctx: Context) -> None:
        self._finaud = Finaud(ctx)
        self._whole = isolated("finaud", lambda _: self._finaud.turn(), ctx)
        self._glance = isolated("finaud", lambda _: self._finaud.glance(), ctx)
        self._period_s = ctx.settings.server.finaud_period.total_seconds()
        self._whole_at = self._glance_at = 0.0

    @property
    def due_in_s(self) -> float | None:
        return self._finaud.due_in_s

    def turn(self) -> Event:
        begun = time.monotonic()
        if self.due_in_s is not None or begun >= self._whole_at:
            # Almighty's calls come a little early or late.
            self._whole_at = begun + 0.9 * self._period_s
            outcome = self._whole()
        elif begun >= self._glance_at:
            outcome = self._glance()
        else:
            return Event.NOTHING
        ended = time.monotonic()
        self._glance_at = ended + 9 * (ended - begun)
        return outcome


def _serve_finaud(ctx: Context, stop: int, *, end: socket.socket) -> None:
    period_s = ctx.settings.server.finaud_period.total_seconds()
    rests = calls.answer(_Checks(ctx), end, stop, rests_after_s=CALLS_MISSED * period_s)
    if rests and ctx.epoch is not None:
        with ctx.transaction() as conn:
            processes.rest(conn, "finaud", pid=os.getpid(), epoch=ctx.epoch.number)
