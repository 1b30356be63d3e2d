"""Finaud: are the hosts well, and do jobs live on them?

Almighty calls it now and then.  A turn begins the checks that are due, each in a
thread, at most one on a host and so many at a time, and takes in those that have
ended; none is waited for.  A host whose checks have failed several times in a row is
Suspected, and is Alive again when one has passed and its link holds; what anybody else
suspected is left alone.  Then it looks how jobs fared lately: a host where they die at
once while they live elsewhere is quarantined, which only a person ends.

Killed at any time it loses the checks under way; their claims become void.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from logging import getLogger

from oarpy.automata.almighty import Event as Outcome
from oarpy.database import events, health, nodes
from oarpy.database.connection import retrying
from oarpy.database.events import Event
from oarpy.database.wake import Reader, wake
from oarpy.drivers import health_check
from oarpy.instance import names_of_this_machine
from oarpy.model.node_health import Checked, Patience, to_quarantine, to_suspect
from oarpy.modules.context import Context

logger = getLogger(__name__)

#: What a check may take beyond its time-out before nobody believes in its end.
MARGIN = timedelta(seconds=60)
#: While checks run, their ends are looked for so often.
LOOK_S = 0.5
#: Of all hosts at most this share is quarantined within the window, and one at least.
MOST_QUARANTINED = 0.1


class Finaud:
    """The checks under way, and when jobs were looked at last."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._settings = ctx.settings.health
        self._threads = ThreadPoolExecutor(self._settings.window, thread_name_prefix="check")
        #: With how many checks have failed in a row before.
        self._running: dict[str, tuple[Future[str], int]] = {}
        self._last_end: datetime | None = None

    @property
    def due_in_s(self) -> float | None:
        """After how long another turn is wanted without a call."""
        return LOOK_S if self._running else None

    def turn(self) -> Outcome:
        """Take in what checks came to, begin those that are due, and look at the ends of jobs."""
        retrying(self._take_in)
        retrying(self._begin)
        retrying(self._recover)
        if self._settings.quarantine:
            retrying(self._look_at_jobs)
        return Outcome.NOTHING

    def glance(self) -> Outcome:
        """Look at the ends of jobs alone, if a host ends them so fast that it may eat the queue."""
        if self._settings.quarantine:
            retrying(self._glance_at_jobs)
        return Outcome.NOTHING

    def wait(self) -> None:
        """Return when no check is under way any more."""
        while self._running:
            for future, _ in self._running.values():
                future.exception()
            retrying(self._take_in)
        retrying(self._recover)

    def _begin(self) -> None:
        settings = self._settings
        room = settings.window - len(self._running)
        if settings.check == "none" or room <= 0:
            return
        if not health_check.command_of("host", settings, self._ctx.settings.nodes):
            return
        with self._ctx.transaction() as conn:
            due = health.claim(
                conn,
                interval=settings.interval,
                retry=settings.retry,
                abandoned=settings.timeout + MARGIN,
                busy_hosts=settings.busy_hosts,
                repair=settings.repair,
                # This machine needs no check, since it does the checking.
                but={*names_of_this_machine(), *self._running},
                most=room,
            )
        for host, failures in due.items():
            command = health_check.command_of(host, settings, self._ctx.settings.nodes)
            self._running[host] = self._threads.submit(health_check.check, command, settings.timeout), failures

    def _take_in(self) -> None:
        ended = {host: one for host, one in self._running.items() if one[0].done()}
        if not ended:
            return
        checks = [_checked(host, future, failures) for host, (future, failures) in sorted(ended.items())]
        with self._ctx.transaction(durable=True) as conn:
            health.record(conn, checks)
            bad = {check.host: check.said for check in to_suspect(checks, self._settings.tries)}
            suspected = nodes.suspect(conn, bad, by_check=True)
            events.append(conn, [Event("FINAUD_ERROR", hosts=(host,), description=bad[host]) for host in suspected])
            self._ctx.passes("finaud: checks written")
        for host in ended:
            del self._running[host]
        for check in checks:
            if not check.passed:
                logger.info("host %s: check failed, %d in a row: %s", check.host, check.failures + 1, check.said)
        _log(suspected, bad)

    def _recover(self) -> None:
        with self._ctx.transaction(durable=True) as conn:
            recovered = health.recover(conn, self._settings.tries)
        for host in recovered:
            logger.info("host %s: Alive again", host, extra={"event": "FINAUD_RECOVER", "host": host})

    def _glance_at_jobs(self) -> None:
        settings = self._settings
        with self._ctx.transaction() as conn:
            is_deadly = health.is_deadly(
                conn,
                window=settings.quarantine_window,
                since=self._last_end,
                fast=settings.fast_death,
                deaths=settings.quarantine_deaths,
            )
        if is_deadly:
            self._look_at_jobs()

    def _look_at_jobs(self) -> None:
        settings = self._settings
        window = settings.quarantine_window
        with self._ctx.transaction() as conn:
            last = health.last_end(conn, window)
        if last is None or last == self._last_end:
            return
        with self._ctx.transaction(durable=True) as conn:
            before, hosts = health.taken(conn, window)
            found = to_quarantine(
                health.fates(conn, window=window, fast=settings.fast_death),
                Patience(settings.quarantine_deaths),
                believed=health.believed(conn, window),
                most=max(1, int(hosts * MOST_QUARANTINED)) - before,
            )
            reasons = {one.host: one.reason for one in found}
            suspected = nodes.suspect(conn, reasons, by_check=False)
            if found:
                health.keep_quarantines(conn, found, window)
                said = [Event("NODE_QUARANTINED", hosts=(host,), description=reasons[host]) for host in suspected]
                events.append(conn, said)
                wake(conn, Reader.ALMIGHTY)
        self._last_end = last
        _log(suspected, reasons)


def turn(ctx: Context) -> int:
    """Do all checks that are due, and look at jobs; how many were done."""
    finaud = Finaud(ctx)
    finaud.turn()
    done = len(finaud._running)
    finaud.wait()
    return done


def _checked(host: str, future: Future[str], failures: int) -> Checked:
    error = future.exception()
    said = future.result() if error is None else f"the check failed: {error}"
    return Checked(host, not said, said, failures)


def _log(suspected: Collection[str], reasons: Mapping[str, str]) -> None:
    for host in suspected:
        logger.warning("host %s: Suspected: %s", host, reasons[host], extra={"event": "SUSPECTED", "host": host})
