"""What must be true of the database before almighty leads: it runs, its schema fits, it knows the limits."""

from __future__ import annotations

from logging import getLogger

import psycopg2
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy.almighty.leadership import is_readable
from oarpy.almighty.service import ServiceManager
from oarpy.database import requests, revision
from oarpy.database.connection import transaction
from oarpy.drivers import postgresql
from oarpy.errors import ServerUnavailable
from oarpy.instance import Instance
from oarpy.settings import Settings

logger = getLogger(__name__)

RETRY_S = 0.5


def prepared(engine: Engine, instance: Instance, settings: Settings, stop: int, manager: ServiceManager) -> bool:
    """Return when the database is ready; False when ``stop`` can be read before.

    Leaves ``engine`` without a connection.

    Raises ``ConfigurationError`` for what a person must mend.
    """
    told = False
    wait_s = 0.0
    while not is_readable(stop, wait_s):
        try:
            start_database(instance, settings)
            _prepare(engine, settings)
            return True
        except (ServerUnavailable, psycopg2.OperationalError, DBAPIError) as error:
            if not told:
                reason = " ".join(str(error).split())
                logger.warning("waiting for the database (%s)", reason)
                manager.ready(f"waits for the database ({reason})")
            told = True
            wait_s = RETRY_S
    return False


def start_database(instance: Instance, settings: Settings) -> bool:
    """Start the private server if it is not there, and tell so; a site's own is the site's to start."""
    if instance.database_url is not None:
        return False
    return postgresql.ensure_running(postgresql.cluster_of(instance, settings.database))


def _prepare(engine: Engine, settings: Settings) -> None:
    limits = settings.requests
    try:
        with transaction(engine, None, durable=True) as conn:
            revision.check_usable(conn)
            requests.limit(
                conn,
                max_bytes=limits.max_bytes,
                max_pending=limits.max_pending_per_user,
                lifetime=limits.lifetime,
            )
    finally:
        engine.dispose()
