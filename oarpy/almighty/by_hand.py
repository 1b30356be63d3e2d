"""One turn of a module, done by an admin."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy import settings
from oarpy.almighty.leadership import new_holder
from oarpy.automata.almighty import Event
from oarpy.database import leadership
from oarpy.database.connection import Epoch, is_absence, open_engine, transaction
from oarpy.errors import ConfigurationError, NotLeader, ServerUnavailable
from oarpy.instance import Instance
from oarpy.modules import appendice, finaud, judas, leon, node_change_state, runner, sarko, scheduler
from oarpy.modules.context import Context

#: What can be run by hand; each returns what came of its turn.
TURNS: Mapping[str, Callable[[Context], object]] = {
    "appendice": appendice.turn,
    "finaud": finaud.turn,
    "judas": judas.turn,
    "leon": leon.turn,
    "node_change_state": node_change_state.turn,
    "runner": runner.turn,
    "sarko": sarko.turn,
    "scheduler": scheduler.turn,
}


def turn(instance: Instance, name: str) -> str:
    """Run one turn of ``name`` under the present epoch; say what came of it.

    Where there never was an almighty, the turn takes the lease.

    Raises:
        ConfigurationError: there is no such module.
        NotLeader: another almighty took over meanwhile.
        ServerUnavailable: the database does not answer.
    """
    if name not in TURNS:
        raise ConfigurationError(f"there is no module {name}; known are {', '.join(TURNS)}")
    values = settings.load(instance.settings_file)
    engine = open_engine(instance.dsn("oar"), application_name=f"oarpy/by hand/{name}", lease=values.server.lease)
    try:
        came = TURNS[name](Context(engine, values, _epoch(engine)))
    except DBAPIError as error:
        if not is_absence(error):
            raise
        raise ServerUnavailable(f"the database does not answer: {str(error.orig).strip()}") from error
    finally:
        engine.dispose()
    return came.value if isinstance(came, Event) else str(came)


def _epoch(engine: Engine) -> Epoch:
    with transaction(engine, None, durable=True) as conn:
        reign = leadership.reign(conn)
        if reign is not None:
            return reign.epoch
        taken = leadership.take(conn, None, holder=new_holder(), host=os.uname().nodename, pid=os.getpid())
    if taken is None:
        raise NotLeader("another almighty began to lead at this moment")
    return taken
