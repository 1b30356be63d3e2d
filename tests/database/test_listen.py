"""Hints: heard within a millisecond, never trusted to come, never able to keep a reader busy."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise

import pytest
from sqlalchemy import Engine, text

from oarpy.database import listen
from oarpy.database.connection import open_engine
from oarpy.database.listen import Listener, Woken
from oarpy.database.wake import Reader, wake
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

NOTHING = Woken()
HINT = Woken(hinted=True)


@pytest.fixture
def engine(database: TestDatabase) -> Iterator[Engine]:
    engine = open_engine(database.parameters("oar"), application_name="listener")
    yield engine
    engine.dispose()


@pytest.fixture
def listener(engine: Engine) -> Iterator[Listener]:
    """One that has connected, and has said so."""
    with closing(Listener(engine, Reader.ALMIGHTY)) as listener:
        assert listener.wait(60) == HINT
        yield listener


def notify(database: TestDatabase, *, role: str = "oar", channel: str = "oar_almighty") -> None:
    database.execute("SELECT pg_notify(%s, '')", (channel,), role=role)


def test_a_hint_of_another_session_ends_the_wait(database: TestDatabase, listener: Listener) -> None:
    with database.engine.begin() as conn:
        wake(conn, Reader.ALMIGHTY)

    woken = listener.wait(60)

    assert woken == HINT


def test_a_change_by_an_admin_is_a_hint(database: TestDatabase, listener: Listener) -> None:
    database.execute("UPDATE queues SET priority = 5 WHERE queue_name = 'default'")

    assert listener.wait(60) == HINT


def test_without_a_hint_the_wait_ends_in_time(listener: Listener) -> None:
    begun = time.monotonic()

    woken = listener.wait(0.1)

    assert woken == NOTHING
    assert 0.1 <= time.monotonic() - begun < 20


def test_the_sessions_of_the_same_engine_are_not_heard(engine: Engine, listener: Listener) -> None:
    with engine.begin() as conn:
        wake(conn, Reader.ALMIGHTY)

    assert listener.wait(0.1) == NOTHING


def test_a_hint_that_comes_while_another_sender_is_looked_at_is_heard(
    database: TestDatabase, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "SELECT pid, usename <> 'oar_user' FROM pg_advisory_xact_lock(1), pg_stat_activity WHERE pid = ANY(%s)"
    monkeypatch.setattr(listen, "_SESSIONS", slow)
    looking = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with (
        ThreadPoolExecutor(1) as pool,
        closing(database.connect("oar_user")) as user,
        closing(database.connect()) as holder,
    ):
        user.autocommit = True
        user.cursor().execute("NOTIFY oar_almighty")
        holder.cursor().execute("SELECT pg_advisory_lock(1)")
        woken = pool.submit(listener.wait, 60)
        wait_until(lambda: database.execute(looking), what="the sender is looked at")

        notify(database)
        holder.cursor().execute("SELECT pg_advisory_unlock(1)")

        assert woken.result() == HINT


def test_users_cannot_wake_almighty(database: TestDatabase, listener: Listener) -> None:
    with closing(database.connect("oar_user")) as session:
        session.autocommit = True
        session.cursor().execute("NOTIFY oar_almighty")

        assert listener.wait(0.2) == NOTHING


def test_users_can_wake_whom_they_have_reason_to(database: TestDatabase, engine: Engine) -> None:
    with closing(Listener(engine, Reader.APPENDICE, from_users=True)) as appendice:
        appendice.wait(60)
        notify(database, role="oar_user", channel="oar_appendice")

        assert appendice.wait(60) == HINT


def test_a_descriptor_ends_the_wait(listener: Listener) -> None:
    ready_r, ready_w = os.pipe()
    os.write(ready_w, b"\0")

    woken = listener.wait(60, ready_r)

    assert woken == Woken(ready=frozenset({ready_r}))
    os.close(ready_r)
    os.close(ready_w)


def test_a_listener_that_lost_its_session_listens_again_and_says_so(database: TestDatabase, listener: Listener) -> None:
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listener'")

    again = listener.wait(60)
    notify(database)

    assert again == HINT
    assert listener.wait(60) == HINT


def test_a_session_that_no_longer_listens_is_noticed(
    database: TestDatabase, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "LIVENESS_S", 0.05)
    with closing(Listener(engine, Reader.ALMIGHTY)) as listener:
        listener.wait(60)
        with listener._connection.cursor() as cursor:
            cursor.execute("UNLISTEN *")

        assert listener.wait(60) == HINT


def test_hints_that_lead_to_nothing_are_left_to_the_timer(database: TestDatabase, listener: Listener) -> None:
    for _ in range(listen.FRUITLESS):
        listener.found(False)
    notify(database)

    deaf = listener.wait(0.3)
    notify(database)
    healed = listener.wait(60)

    assert deaf == NOTHING
    assert healed == HINT


def test_a_hint_comes_within_milliseconds(database: TestDatabase, listener: Listener) -> None:
    took_s = []
    with database.engine.connect() as conn:
        for _ in range(20):
            with conn.begin():
                conn.execute(text("SELECT pg_notify('oar_almighty', '')"))
            committed = time.monotonic()
            assert listener.wait(60) == HINT
            took_s.append(time.monotonic() - committed)

    # Others may keep the processors busy at times; nobody makes it shorter.
    assert min(took_s) < 0.02


def test_whoever_can_bring_the_database_back_is_told_that_it_is_away() -> None:
    told: list[float] = []
    engine = open_engine({"host": "/nonexistent", "dbname": "oar", "user": "oar"}, application_name="listener")

    with closing(Listener(engine, Reader.ALMIGHTY, absent=lambda: told.append(time.monotonic()))) as listener:
        woken = listener.wait(0.3)

    assert woken == NOTHING
    # After 0, 50 and 150 ms, or later.
    assert 1 <= len(told) <= 3
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(told))
