"""What the runner makes of a database that fails it, and of a host that does."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sqlalchemy import event, text

from oarpy import settings
from oarpy.database.connection import open_engine, transaction
from oarpy.drivers.local import LocalExecutor
from oarpy.errors import NodeUnreachable
from oarpy.model.states import JobState
from oarpy.modules import sessions
from oarpy.modules.context import Context
from oarpy.ports.executor import Executor
from tests.support import accounts, rows
from tests.support.place import a_place
from tests.support.postgres import TestDatabase
from tests.support.runners import serving
from tests.support.waiting import wait_until

HOST = os.uname().nodename


def context(database: TestDatabase) -> Context:
    return Context(open_engine(database.parameters("oar"), application_name="oarpy/0/runner"), settings.Settings())


def a_job(database: TestDatabase, work: Path) -> int:
    """A job that is to be launched on this host."""
    user = accounts.submitter()
    os.chown(work, user.pw_uid, user.pw_gid)
    with transaction(database.engine, None, durable=False) as conn:
        (first, *_) = rows.resources(conn, HOST, 1)
        (job_id,) = rows.submitted(conn, owner=user.pw_name)
        changes = {"command": "true", "directory": str(work), "job_id": job_id}
        sets = "command = :command, launching_directory = :directory, stdout_file = 'out', stderr_file = 'err'"
        conn.execute(text(f"UPDATE jobs SET {sets} WHERE job_id = :job_id"), changes)
        rows.brought(conn, [job_id], JobState.TO_LAUNCH, holds=f"{{[{first},{first + 1})}}")
    return job_id


def suspicions(database: TestDatabase) -> int:
    return len(database.execute("SELECT event_id FROM events WHERE type IN ('LOG_SUSPECTED', 'NODE_UNREACHABLE')"))


def test_a_host_is_not_blamed_for_failures_of_the_database(database):
    database.execute("CREATE SEQUENCE attempts")
    database.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM nextval('attempts'); RAISE 'not now'; END $$"
    )
    database.execute("CREATE TRIGGER fail BEFORE INSERT ON node_sessions FOR EACH ROW EXECUTE FUNCTION fail()")
    with a_place() as root:
        job_id = a_job(database, root)
        executor = LocalExecutor(str(root / "spool"))

        with serving(context(database), lambda host: executor):
            wait_until(
                lambda: int(str(database.execute("SELECT last_value FROM attempts")[0][0])) > sessions.FAILURES,
                timeout_s=60,
                what="a session was tried more often than a host may fail",
            )
            database.execute("DROP TRIGGER fail ON node_sessions")
            wait_until(
                lambda: database.execute("SELECT state FROM jobs WHERE job_id = %s", (job_id,)) == [("Terminated",)],
                timeout_s=60,
                what="the job is over",
            )

    assert suspicions(database) == 0


def test_a_host_that_cannot_be_reached_is_suspected_once(database):
    tries = []

    def reach(host: str) -> Executor:
        tries.append(host)
        raise NodeUnreachable(f"host {host}: no route")

    with a_place() as root:
        a_job(database, root)

        with serving(context(database), reach):
            wait_until(lambda: len(tries) > sessions.FAILURES + 1, timeout_s=60, what="the host was tried often enough")

    assert suspicions(database) == 1


def test_an_outage_of_the_database_is_told_once(caplog):
    engine = open_engine({"host": "/nonexistent", "dbname": "oar"}, application_name="oarpy/0/runner")
    tries = []
    event.listen(engine, "do_connect", lambda *_: tries.append(1))

    with (
        caplog.at_level(logging.WARNING, logger="oarpy.modules.runner"),
        serving(Context(engine, settings.Settings()), lambda host: LocalExecutor("/nonexistent")),
    ):
        wait_until(lambda: len(tries) > 10, timeout_s=60, what="the database was tried several times")

    said = [record.getMessage() for record in caplog.records if record.name == "oarpy.modules.runner"]
    assert [sentence.partition(" (")[0] for sentence in said] == ["runner: no turn, the database does not answer"]
