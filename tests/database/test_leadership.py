"""One almighty leads; the next one takes over only when it may."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg2
import pytest
from sqlalchemy import text

from oarpy.almighty.leadership import Heartbeat, await_lease, is_readable, new_holder
from oarpy.client.asking import LEADER_IS_SILENT
from oarpy.database import leadership
from oarpy.database.connection import Epoch, is_absence, open_engine, transaction
from oarpy.errors import NotLeader
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@pytest.fixture
def never() -> Iterator[int]:
    """A descriptor that nothing comes from."""
    never_r, never_w = os.pipe()
    yield never_r
    os.close(never_w)
    os.close(never_r)


def take(database: TestDatabase, *, holder: uuid.UUID | None = None, pid: int = 1) -> Epoch:
    """A new epoch, whatever was before."""
    with transaction(database.engine, None, durable=True) as conn:
        epoch = leadership.take(conn, leadership.reign(conn), holder=holder or uuid.uuid4(), host="elsewhere", pid=pid)
    assert epoch is not None
    return epoch


def renewed(database: TestDatabase) -> bool:
    return database.execute("SELECT renewed_at > taken_at FROM leadership") == [(True,)]


@contextmanager
def in_another_thread(work: threading.Thread) -> Iterator[None]:
    work.start()
    yield
    work.join(60)
    assert not work.is_alive()


def test_the_first_almighty_begins_epoch_one_and_the_next_follow(database: TestDatabase) -> None:
    epochs = [take(database).number for _ in range(3)]

    assert epochs == [1, 2, 3]


def test_of_two_that_saw_the_same_leader_one_takes_over(database: TestDatabase) -> None:
    take(database)
    with database.engine.connect() as conn:
        seen = leadership.reign(conn)

    taken = []
    for _ in range(2):
        with transaction(database.engine, None, durable=True) as conn:
            taken.append(leadership.take(conn, seen, holder=uuid.uuid4(), host="h", pid=2))

    assert [epoch.number if epoch else None for epoch in taken] == [2, None]


def test_a_leader_that_renewed_meanwhile_is_not_taken_over(database: TestDatabase) -> None:
    epoch = take(database)
    with database.engine.connect() as conn:
        seen = leadership.reign(conn)
    with transaction(database.engine, None, durable=True) as conn:
        leadership.renew(conn, epoch)

    with transaction(database.engine, None, durable=True) as conn:
        taken = leadership.take(conn, seen, holder=uuid.uuid4(), host="h", pid=2)

    assert taken is None


def test_a_process_of_an_ended_epoch_can_write_nothing(database: TestDatabase) -> None:
    old = take(database)
    take(database)

    with pytest.raises(NotLeader), transaction(database.engine, old, durable=False):
        pass
    with transaction(database.engine, None, durable=True) as conn:
        assert not leadership.renew(conn, old)


def test_a_renewal_does_not_wait_for_open_transactions(database: TestDatabase) -> None:
    epoch = take(database)

    with transaction(database.engine, epoch, durable=False), transaction(database.engine, None, durable=True) as other:
        other.execute(text("SET LOCAL statement_timeout = '30s'"))
        renewed = leadership.renew(other, epoch)

    assert renewed


def test_a_takeover_does(database: TestDatabase) -> None:
    epoch = take(database)
    taken: list[Epoch] = []
    takeover = threading.Thread(target=lambda: taken.append(take(database)))

    waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'leadership')"
    with transaction(database.engine, epoch, durable=False):
        takeover.start()
        wait_until(lambda: database.execute(waits) == [(True,)])
        taken_meanwhile = list(taken)
    takeover.join(60)

    assert taken_meanwhile == []
    assert [later.number for later in taken] == [epoch.number + 1]


def test_a_takeover_ends_the_sessions_of_the_epoch_before_and_no_others(database: TestDatabase) -> None:
    names = {"old": "oarpy/1/runner", "other": "oarpy/12/runner", "admin": "psql"}
    sessions = {
        key: psycopg2.connect(**database.parameters("oar"), application_name=name) for key, name in names.items()
    }

    with transaction(database.engine, None, durable=False) as conn:
        ended = leadership.end_sessions(conn, 1)

    assert ended == 1
    for key, session in sessions.items():
        if key == "old":
            with pytest.raises(psycopg2.OperationalError):
                session.cursor().execute("SELECT 1")
        else:
            session.cursor().execute("SELECT 1")
        session.close()


def test_a_standby_waits_for_a_whole_lease_of_silence(database: TestDatabase, never: int) -> None:
    take(database)
    begun = time.monotonic()

    epoch = await_lease(database.engine, length_s=0.4, stop=never)

    assert epoch is not None
    assert epoch.number == 2
    assert time.monotonic() - begun >= 0.4


def test_a_standby_leaves_a_leader_alone_that_renews(database: TestDatabase, never: int) -> None:
    leader = take(database)
    stop_r, stop_w = os.pipe()
    found: list[Epoch | None] = []
    standby = threading.Thread(target=lambda: found.append(await_lease(database.engine, length_s=2, stop=stop_r)))

    with in_another_thread(standby):
        engine = open_engine(database.parameters("oar"), application_name="leader")
        with Heartbeat(engine, leader, length_s=2):
            assert not is_readable(never, 5.0)
            os.write(stop_w, b"\0")
            standby.join(60)
        engine.dispose()

    assert found == [None]
    assert database.execute("SELECT epoch FROM leadership") == [(1,)]
    os.close(stop_r)
    os.close(stop_w)


def test_a_holder_of_this_machine_that_is_gone_is_not_waited_for(database: TestDatabase, never: int) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    take(database, holder=new_holder(), pid=child)
    begun = time.monotonic()

    epoch = await_lease(database.engine, length_s=60, stop=never)

    assert epoch is not None
    assert time.monotonic() - begun < 40


def test_a_dead_holder_that_its_parent_has_not_asked_for_is_gone_too(database: TestDatabase, never: int) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    take(database, holder=new_holder(), pid=child)
    begun = time.monotonic()

    await_lease(database.engine, length_s=60, stop=never)

    assert time.monotonic() - begun < 40
    os.waitpid(child, 0)


def test_the_heartbeat_renews_the_lease_and_says_when_it_is_lost(database: TestDatabase, never: int) -> None:
    epoch = take(database)
    engine = open_engine(database.parameters("oar"), application_name="leader")

    with Heartbeat(engine, epoch, length_s=0.5) as heartbeat:
        wait_until(lambda: renewed(database), what="the lease is renewed")
        take(database)
        lost = is_readable(heartbeat.fileno(), 60)

    assert lost
    engine.dispose()


def test_a_lost_connection_is_no_lost_lease(database: TestDatabase, never: int) -> None:
    epoch = take(database)
    engine = open_engine(database.parameters("oar"), application_name="leader")
    end_it = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE application_name = 'leader'"

    with Heartbeat(engine, epoch, length_s=6) as heartbeat:
        wait_until(lambda: database.execute(end_it) == [(True,)])
        database.execute("UPDATE leadership SET renewed_at = taken_at")
        wait_until(lambda: renewed(database), what="another renewal has come through")
        lost = is_readable(heartbeat.fileno(), 0)

    assert not lost
    engine.dispose()


@pytest.mark.parametrize(("length_s", "silent"), [(10, True), (60, False)])
def test_how_long_a_leader_may_be_silent_before_clients_give_up_depends_on_its_lease(
    database: TestDatabase, never: int, length_s: int, silent: bool
) -> None:
    await_lease(database.engine, length_s=length_s, stop=never)
    database.execute("INSERT INTO processes (name, pid, host, epoch) VALUES ('almighty', 1, 'h', 1)")
    database.execute("UPDATE leadership SET renewed_at = now() - interval '30 s'")

    assert database.execute(LEADER_IS_SILENT, role="oar_user") == [(silent,)]


@pytest.mark.parametrize("lease_s", [0.5, 1, 10])
def test_a_session_that_idles_in_a_transaction_ends_before_the_lease_does(
    database: TestDatabase, lease_s: float
) -> None:
    engine = open_engine(database.parameters("oar"), application_name="idler", lease=timedelta(seconds=lease_s))

    with engine.connect() as conn:
        ends_in_ms = conn.execute(
            text("SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'")
        ).scalar_one()

    assert 0 < ends_in_ms < lease_s * 1000
    engine.dispose()


def test_the_absence_of_the_database_is_told_from_other_errors(database: TestDatabase) -> None:
    nowhere = open_engine({"host": "/nonexistent", "dbname": "x", "user": "x"}, application_name="x")

    found = []
    for engine, statement in (
        (nowhere, "SELECT 1"),
        (database.engine, "SELECT 1/0"),
        (database.engine, "SELECT pg_terminate_backend(pg_backend_pid())"),
    ):
        try:
            with engine.connect() as conn:
                conn.execute(text(statement))
        except Exception as error:
            found.append(is_absence(error))

    assert found == [True, False, True]
