"""One PostgreSQL for a run of the tests, and a database of its own for each test.

The server is real and made as an instance makes it, except that it does not
flush to disk.  A test's database is a copy of a migrated one, which takes 20 ms
in memory (300 ms on a disk) where the migrations take 500.
"""

from __future__ import annotations

import itertools
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
from psycopg2 import sql
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from oarpy.database import schema
from oarpy.drivers import postgresql
from oarpy.drivers.postgresql import Cluster
from oarpy.instance import DATABASE
from tests.support.accounts import switched

# The statement comes as a whole from the test; its rows go back as JSON.
_QUERY = """
import json, psycopg2, sys
parameters, statement, values = json.loads(sys.argv[1])
with psycopg2.connect(**parameters) as connection, connection.cursor() as cursor:
    cursor.execute(statement, values)
    print(json.dumps(cursor.fetchall() if cursor.description else [], default=str))
"""


class TestDatabase:
    """A migrated database that belongs to one test."""

    __test__ = False

    def __init__(self, sockets: str, name: str) -> None:
        self.name = name
        self._sockets = sockets
        self.engine: Engine = create_engine("postgresql+psycopg2://", connect_args=self.parameters("oar"))

    def parameters(self, role: str) -> dict[str, str]:
        """What libpq needs to connect as ``role``, in the form of ``Instance.dsn``."""
        return {"host": self._sockets, "port": "5432", "dbname": self.name, "user": role}

    @property
    def url(self) -> str:
        """The value of OARPY_DATABASE that makes an instance use this database."""
        return f"host={self._sockets} port=5432 dbname={self.name}"

    def connect(self, role: str = "oar") -> psycopg2.extensions.connection:
        """A session of its own, for races; the test closes it."""
        return psycopg2.connect(**self.parameters(role))

    def execute(self, statement: str, values: Sequence[object] = (), *, role: str = "oar") -> list[tuple[object, ...]]:
        """The rows of one committed statement."""
        with closing(self.connect(role)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def execute_as(
        self, user: pwd.struct_passwd, statement: str, values: Sequence[object] = (), *, role: str = "oar_user"
    ) -> list[list[object]]:
        """The same by another account; raises ``PermissionError`` with what PostgreSQL said."""
        arguments = json.dumps([self.parameters(role), statement, list(values)])
        done = subprocess.run(
            switched(user, [sys.executable, "-c", _QUERY, arguments]),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
        )
        if done.returncode != 0:
            raise PermissionError(done.stderr.strip().splitlines()[-1])
        rows: list[list[object]] = json.loads(done.stdout)
        return rows


class TestServer:
    """The server of one run of the tests."""

    __test__ = False

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._numbers = itertools.count(1)

    @contextmanager
    def database(self) -> Iterator[TestDatabase]:
        """A copy of the migrated database, dropped afterwards whoever is still connected."""
        name = f"test_{next(self._numbers)}"
        copy = "CREATE DATABASE {} OWNER oar TEMPLATE {} STRATEGY file_copy"
        self._execute(sql.SQL(copy).format(sql.Identifier(name), sql.Identifier(DATABASE)))
        with closing(postgresql.connect(self.cluster, name)) as inside, inside.cursor() as within:
            within.execute(postgresql.bootstrap_sql("access"))
        database = TestDatabase(self.cluster.sockets, name)
        try:
            yield database
        finally:
            database.engine.dispose()
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        # A connection of its own each time: a test may have restarted the server.
        with closing(postgresql.connect(self.cluster)) as admin, admin.cursor() as cursor:
            cursor.execute(statement)


@contextmanager
def throwaway_server() -> Iterator[TestServer]:
    """A server in a directory of its own, with one migrated database to copy; gone afterwards.

    It serves every account, as one of root's does, so that tests can act as others.
    """
    # Not pytest's tmp_path: it is closed to the account that runs PostgreSQL for root.
    home = Path(tempfile.mkdtemp(prefix="oarpy-test-", dir=_fast_directory()))
    home.chmod(0o755)
    cluster = Cluster(
        data=str(home / "pg"),
        sockets=str(home / "socket"),
        log=str(home / "postgresql.log"),
        account=postgresql.service_account(str(home / "pg")),
        serves_everybody=True,
        options={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"},
    )
    try:
        postgresql.ensure_running(cluster)
        parameters = {"host": cluster.sockets, "port": "5432", "dbname": DATABASE, "user": "oar"}
        # A database is copied only while nobody is connected to it.
        engine = create_engine("postgresql+psycopg2://", connect_args=parameters, poolclass=NullPool)
        schema.upgrade(engine)
        yield TestServer(cluster)
    finally:
        postgresql.stop(cluster)
        shutil.rmtree(home)


def _fast_directory() -> str | None:
    memory = "/dev/shm"
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 2**30:
        return memory
    return None
