"""A database that was read back from a backup."""

from __future__ import annotations

import pytest

from oarpy.database import restoration
from oarpy.database.connection import open_engine, transaction
from oarpy.database.restoration import GAP, Restored
from oarpy.errors import RequestRefused
from oarpy.model.states import JobState
from tests.support import rows
from tests.support.postgres import TestDatabase


def restored(database: TestDatabase) -> Restored:
    with transaction(database.engine, None, durable=True) as conn:
        return restoration.restore(conn)


def test_no_number_is_given_away_twice(database: TestDatabase) -> None:
    database.execute("INSERT INTO leadership (epoch, holder, host, pid) VALUES (7, gen_random_uuid(), 'c1', 1)")
    with database.engine.begin() as conn:
        last = rows.submitted(conn)[0]
        rows.resources(conn, "c1")
    before = database.execute("SELECT uuid FROM instance")

    done = restored(database)

    with database.engine.begin() as conn:
        assert rows.submitted(conn)[0] == last + GAP + 1 == done.last_job + 1
        assert rows.resources(conn, "c2") == [2]
    assert database.execute("SELECT epoch FROM leadership") == [(7 + GAP,)]
    assert database.execute("SELECT uuid FROM instance") != before
    assert database.execute("SELECT min(job_request_id), max(job_request_id) > %s FROM job_requests", (GAP,)) == [
        (1, True)
    ]


def test_it_is_told_what_had_begun_and_what_had_not(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 2)
        running, launching, _waiting, held, over = (rows.submitted(conn) for _ in range(5))
        rows.brought(conn, running, JobState.RUNNING, holds="{[1,2)}")
        rows.brought(conn, launching, JobState.LAUNCHING, holds="{[2,3)}")
        rows.brought(conn, held, JobState.HOLD)
        rows.brought(conn, over, JobState.ERROR, holds="{[3,4)}")

    done = restored(database)

    assert (done.begun, done.hosts, done.not_begun) == (2, ("c1",), 2)


def test_it_is_refused_while_a_process_of_the_server_is_connected(database: TestDatabase) -> None:
    before = database.execute("SELECT uuid FROM instance")
    server = open_engine(database.parameters("oar"), application_name="oarpy/3/runner")

    with server.connect(), pytest.raises(RequestRefused, match="almighty runs on this database"):
        restored(database)

    server.dispose()
    assert database.execute("SELECT uuid FROM instance") == before
