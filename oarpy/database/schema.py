"""Bringing the schema to the revision that this oarpy needs.

The migrations are alembic's, in ``migrations/``; each is one transaction, so a death
between two leaves the schema at the one before, and the next upgrade goes on from there.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from oarpy.errors import ConfigurationError, ServerUnavailable
from oarpy.instance import shared


def revision(engine: Engine) -> str | None:
    """The revision that the database is at; None for an empty one."""
    with engine.connect() as conn:
        return MigrationContext.configure(conn).get_current_revision()


def newest() -> str:
    """The revision that this oarpy needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigurationError("this installation of oarpy has no migrations")
    return head


def upgrade(engine: Engine) -> bool:
    """Bring the schema to the newest revision; tell whether it was older.

    Raises:
        ConfigurationError: it is newer; its oarpy should be used.
        ServerUnavailable: the database cannot be reached, or others hold its tables.
    """
    config = _config()
    try:
        before = revision(engine)
        with engine.connect() as conn:
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
            after = MigrationContext.configure(conn).get_current_revision()
    except CommandError as error:
        raise ConfigurationError(f"the schema is at {before}, which this oarpy does not know: {error}") from error
    except DBAPIError as error:
        raise ServerUnavailable(f"the schema cannot be upgraded: {str(error.orig).splitlines()[0]}") from error
    return after != before


def remove(engine: Engine) -> bool:
    """Remove the schema with all that is in it; tell whether there was one.

    Raises:
        ServerUnavailable: the database cannot be reached, or others hold its tables.
    """
    try:
        if revision(engine) is None:
            return False
        config = _config()
        with engine.connect() as conn:
            config.attributes["connection"] = conn
            command.downgrade(config, "base")
    except CommandError as error:
        raise ConfigurationError(f"the schema is not this oarpy's: {error}") from error
    except DBAPIError as error:
        raise ServerUnavailable(f"the schema cannot be removed: {str(error.orig).splitlines()[0]}") from error
    return True


def _config() -> Config:
    config = Config()
    # A percent sign in a path would begin an interpolation.
    config.set_main_option("script_location", shared("migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
