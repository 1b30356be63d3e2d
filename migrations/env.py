"""Runs migrations: one at a time, each in its own transaction, with a lock timeout.

``alembic`` on the command line is told its database by OARPY_DATABASE, as an instance
is; without it, it looks for no instance, as ``oarpy db upgrade`` does.  A program hands
over a connection in ``config.attributes["connection"]``.
"""

import os

from alembic import context
from sqlalchemy import create_engine, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.engine import Connection

from oarpy.database.tables import Xid8, metadata
from oarpy.instance import Instance

# SQLAlchemy does not know this type of PostgreSQL's when it reads a table back.
ischema_names["xid8"] = Xid8


def ours(item, name, kind, reflected, compare_to) -> bool:
    """Whether the comparison with the metadata may speak of ``item``.

    The properties that admins define are columns of ``resources`` and no part of
    the metadata; so are the partitions of ``events``.
    """
    if kind == "column" and reflected and compare_to is None:
        return item.table.name != "resources"
    return not (kind == "table" and reflected and name.startswith("events_"))


def run(connection: Connection) -> None:
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=False,
        include_object=ours,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = os.environ.get("OARPY_DATABASE") or context.config.get_main_option("sqlalchemy.url")
    if not url:
        raise SystemExit("alembic: set OARPY_DATABASE, or use: oarpy db upgrade")
    # A URL, or words like "host=db dbname=oar"; who owns the tables is known.
    parameters = Instance("/", database_url=url).dsn("oar")
    with create_engine("postgresql+psycopg2://", connect_args=parameters).connect() as connection:
        run(connection)
