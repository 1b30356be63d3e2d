"""``python -m oarpy.almighty``: the one process that an admin starts.

It ends by SIGTERM or SIGINT, in an orderly way; jobs run on.  Killed, it leaves
nothing that needs mending: its processes end by themselves, and the next almighty
goes on from the tables.
"""

from __future__ import annotations

import oarpy.almighty.lean  # noqa: F401  first, or it has nothing left to keep out

# isort: split
import gc
import os
import signal
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from logging import getLogger

import psycopg2
from sqlalchemy.exc import DBAPIError

from oarpy import settings
from oarpy.almighty import calls, leadership, log, loop, preparation, supervision, wiring
from oarpy.almighty.calls import Calls
from oarpy.almighty.leadership import Heartbeat
from oarpy.almighty.loop import StopAsked
from oarpy.almighty.service import ServiceManager
from oarpy.almighty.supervision import Supervised
from oarpy.almighty.wiring import Surroundings
from oarpy.database import processes
from oarpy.database.connection import Epoch, open_engine, rename_sessions
from oarpy.database.listen import Listener
from oarpy.database.wake import Reader
from oarpy.drivers import postgresql
from oarpy.errors import NotLeader, OarError
from oarpy.instance import find_instance
from oarpy.model.exit_statuses import ExitStatus
from oarpy.modules.context import Context

logger = getLogger("oarpy.almighty")

#: How sessions are named that belong to no epoch.
STANDBY = "oarpy/standby"


def main() -> int:
    """Lead, or stand by to lead, until told to stop; the exit status."""
    log.begin("almighty", "info")
    manager = ServiceManager.of_this_process()
    stop = _stop_descriptor()
    try:
        instance = find_instance()
        values = settings.load(instance.settings_file)
        log.begin("almighty", values.log.level)
        supervision.rename("almighty")
        engine = open_engine(instance.dsn("oar"), application_name=STANDBY, lease=values.server.lease)
        if preparation.prepared(engine, instance, values, stop, manager):
            account = postgresql.service_account(instance.data_dir)
            _serve(Surroundings(instance, values, engine, account), stop, manager)
    except OarError as error:
        logger.error("%s", error)
        return getattr(error, "exit_status", ExitStatus.DEFECT)
    return ExitStatus.OK


def _serve(around: Surroundings, stop: int, manager: ServiceManager) -> None:
    """Fork the supervisor and lead; returns when told to stop."""
    scheduler, scheduler_end = calls.pair()
    finaud, finaud_end = calls.pair()
    # What is there now is shared by all processes; the collector would copy it page by page.
    gc.collect()
    gc.freeze()
    server = around.settings.server
    supervised = supervision.start(
        wiring.children(around, scheduler_end, finaud_end),
        delay=server.restart_delay,
        delay_max=server.restart_delay_max,
    )
    scheduler_end.close()
    finaud_end.close()
    try:
        _Server(around, scheduler, finaud, supervised, stop, manager).lead()
    finally:
        supervised.end()


@dataclass(frozen=True, slots=True)
class _Server:
    """Almighty among its processes; ``stop`` can be read once it is to end."""

    around: Surroundings
    scheduler: Calls
    finaud: Calls
    supervised: Supervised
    stop: int
    manager: ServiceManager

    def lead(self) -> None:
        """Take the lease, again whenever it is lost, until told to stop."""
        around = self.around
        length_s = around.settings.server.lease.total_seconds()
        while True:
            epoch = leadership.await_lease(around.engine, length_s=length_s, stop=self.stop, manager=self.manager)
            if epoch is None:
                return
            ctx = around.context("almighty", epoch)
            try:
                with Heartbeat(ctx.engine, epoch, length_s=length_s) as heartbeat:
                    self._reign(ctx, epoch, heartbeat)
                return
            except NotLeader as lost:
                logger.warning("epoch %d: over, another almighty leads (%s)", epoch.number, lost)
                self.supervised.end_term()
                rename_sessions(around.engine, STANDBY)

    def _reign(self, ctx: Context, epoch: Epoch, heartbeat: Heartbeat) -> None:
        """Let the server work for ``epoch``; returns when told to stop, its processes having ended."""
        pids = {"almighty": os.getpid(), "supervisor": self.supervised.pid, "finaud": None}
        if not wiring.registered(ctx, epoch, pids, self.stop):
            return
        self.supervised.begin(epoch)
        self.manager.ready(f"leads epoch {epoch.number}")
        with closing(Listener(ctx.engine, Reader.ALMIGHTY, absent=self._revive_database)) as listener:
            listen = loop.Listening(
                listener,
                self.scheduler,
                ctx.settings,
                stop=self.stop,
                lost=heartbeat,
                supervised=self.supervised,
            )
            try:
                loop.run(listen, wiring.steps(ctx, self.scheduler, self.finaud))
            except StopAsked:
                self.manager.stopping()
                self.supervised.end_term()
        try:
            with ctx.transaction() as conn:
                processes.forget(conn, epoch.number)
        except DBAPIError:
            logger.warning("the database is away; it will not say that the processes have ended")
        logger.info("epoch %d: ends", epoch.number, extra={"event": "ENDS", "epoch": epoch.number})

    def _revive_database(self) -> None:
        try:
            if preparation.start_database(self.around.instance, self.around.settings):
                logger.warning("the database was not there and has been started")
        except (OarError, psycopg2.Error) as error:
            logger.warning("the database cannot be started yet (%s)", error)


def _stop_descriptor() -> int:
    """Can be read once this process has been asked to stop."""
    stop_r, stop_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def ask(number: int, frame: object) -> None:
        with suppress(BlockingIOError):
            os.write(stop_w, b"\0")

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return stop_r


if __name__ == "__main__":
    sys.exit(main())
