"""What ``oarpy simulate --from-database`` reads of an instance."""

from __future__ import annotations

from datetime import datetime

from oarpy import settings
from oarpy.almighty import bringing_up
from oarpy.database import overview
from oarpy.database.history import History, history
from oarpy.errors import ServerUnavailable
from oarpy.instance import Instance
from oarpy.modules.context import Context
from oarpy.scheduling.snapshot import Limits


def past(instance: Instance, begin: datetime | None, stop: datetime | None) -> tuple[History, Limits]:
    """What was submitted from ``begin`` to before ``stop``, and how the site plans: every job, however many wait.

    Raises ``ServerUnavailable`` where the database cannot be asked.
    """
    values = settings.load(instance.settings_file)
    with bringing_up.asking(instance) as conn:
        limits = Context(conn.engine, values).limits()
        with conn.begin():
            if not overview.is_ours(conn):
                raise ServerUnavailable("the database is not (yet) oarpy's")
        with conn.begin():
            return history(conn, begin, stop, limits), limits
