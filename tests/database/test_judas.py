"""Users are told what they asked to be told, once, in time, and whatever happens to others."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from oarpy.automata.job import JobEvent
from oarpy.database import jobs, outbox
from oarpy.database.connection import open_engine, transaction
from oarpy.database.wake import Reader, wake
from oarpy.drivers import postgresql
from oarpy.model.states import JobState
from oarpy.modules import judas
from oarpy.modules.context import DIES_AT, Context
from oarpy.settings import Mail, Notify, Server, Settings
from tests.support import invariants, rows
from tests.support.accounts import submitter
from tests.support.mail import Mailbox, free_port, silent_server, smtp_server
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the programs of the user are and write."""
    user = submitter()
    path = Path(tempfile.mkdtemp(prefix="oarpy-judas-"))
    os.chown(path, user.pw_uid, user.pw_gid)
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def settings(port: int, **notify: object) -> Settings:
    mail = Mail(host="127.0.0.1", port=port, sender="oar@c0", timeout=timedelta(seconds=30))
    return replace(Settings(), mail=mail, notify=replace(Notify(), **notify))


def program(directory: Path, body: str, name: str = "program") -> str:
    file = directory / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def put(
    database: TestDatabase, method: str, target: str, *, login: str | None = None, tag: str = "END", count: int = 1
) -> None:
    """Put messages into the outbox that are about no job."""
    with transaction(database.engine, None, durable=False) as conn:
        conn.execute(
            text(
                "INSERT INTO notifications (tag, method, target, login, comment)"
                " SELECT :tag, :method, :target, :login, 'number ' || i FROM generate_series(1, :count) i"
            ),
            {"tag": tag, "method": method, "target": target, "login": login or submitter().pw_name, "count": count},
        )
        wake(conn, Reader.JUDAS)


def turn(database: TestDatabase, values: Settings) -> int:
    return judas.turn(Context(database.engine, values))


def fates(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.execute("SELECT attempts, succeeded FROM notifications ORDER BY notification_id")


def events(database: TestDatabase) -> list[object]:
    return [type_ for (type_,) in database.execute("SELECT type FROM events ORDER BY event_id")]


@contextmanager
def serving(database: TestDatabase, values: Settings) -> Iterator[None]:
    reading, writing = os.pipe()
    # An engine of its own: the hints of its own sessions do not wake a process.
    engine = open_engine(database.parameters("oar"), application_name="oarpy/0/judas")
    thread = threading.Thread(target=judas.serve, args=[Context(engine, values), reading])
    thread.start()
    try:
        yield
    finally:
        os.close(writing)
        thread.join(60)
        os.close(reading)
        engine.dispose()
    assert not thread.is_alive()


def test_a_user_is_told_of_the_events_that_were_asked_for(database, mailbox):
    with database.engine.begin() as conn:
        rows.resources(conn, "c1")
        notify = [{"method": "mail", "target": "alice@example.org", "tags": ["RUNNING", "ERROR"]}]
        (job_id,) = rows.submitted(conn, name="sim", notify=notify)
        rows.brought(conn, [job_id], JobState.TERMINATED)

    tried = turn(database, settings(mailbox.port))

    assert tried == 1
    assert [mail["Subject"].partition(" on ")[0] for mail in mailbox.mails] == [f"*OAR* [RUNNING]: {job_id} (sim)"]
    assert "first host: c1" in mailbox.mails[0].get_payload()
    assert fates(database) == [(1, True)]
    assert events(database) == ["USER_MAIL_NOTIFICATION"]


def test_without_tags_a_user_is_told_of_everything(database, mailbox):
    with database.engine.begin() as conn:
        (job_id,) = rows.submitted(conn, notify=[{"method": "mail", "target": "alice", "tags": []}])
        jobs.transition(conn, [job_id], JobEvent.KILLED, values={"end_cause": "killed"})

    turn(database, settings(mailbox.port))

    assert "[ERROR]" in mailbox.mails[0]["Subject"]


def test_a_program_is_told_of_its_job(database, directory):
    target = program(directory, f'echo "$@" > {directory}/told')
    with database.engine.begin() as conn:
        notify = [{"method": "exec", "target": target, "tags": ["END"]}]
        rows.resources(conn, "c1")
        (job_id,) = rows.submitted(conn, name="sim", owner=submitter().pw_name, notify=notify)
        rows.brought(conn, [job_id], JobState.TERMINATED)

    turn(database, settings(free_port()))

    assert (directory / "told").read_text() == f"{job_id} sim END \n"
    assert events(database) == ["USER_EXEC_NOTIFICATION"]
    assert invariants.broken(database.engine) == []


def test_what_was_delivered_is_not_delivered_again(database, mailbox):
    put(database, "mail", "alice")

    turn(database, settings(mailbox.port))
    turn(database, settings(mailbox.port))

    assert len(mailbox.mails) == 1


def test_a_failed_mail_is_tried_again_later_each_time_twice_as_late(database):
    values = settings(free_port(), retry_delay=timedelta(minutes=1))
    put(database, "mail", "alice")
    waits = []
    for _ in range(3):
        turn(database, values)
        waits += database.execute(
            "SELECT round(extract(epoch FROM next_try_at - now()) / 60)::int FROM notifications WHERE done_at IS NULL"
        )
        database.execute("UPDATE notifications SET next_try_at = now()")

    assert waits == [(1,), (2,), (4,)]
    assert events(database) == []


def test_after_the_last_try_the_failure_is_recorded(database):
    values = settings(free_port(), attempts=2, retry_delay=timedelta(0))
    put(database, "mail", "alice")

    turn(database, values)

    assert fates(database) == [(2, False)]
    assert events(database) == ["USER_MAIL_NOTIFICATION_ERROR"]


def test_a_program_that_fails_is_recorded_with_what_it_said(database, directory):
    put(database, "exec", program(directory, "echo no such channel; exit 4"))

    turn(database, settings(free_port()))

    assert fates(database) == [(1, False)]
    assert database.execute("SELECT result FROM notifications") == [("exit status 4: no such channel",)]
    assert events(database) == ["USER_EXEC_NOTIFICATION_ERROR"]


def test_a_mail_server_that_does_not_answer_delays_no_program(database, directory):
    target = program(directory, f"touch {directory}/told")
    with silent_server() as server:
        values = settings(server.port)
        with serving(database, replace(values, mail=replace(values.mail, timeout=timedelta(minutes=5)))):
            put(database, "mail", "alice", count=3)
            put(database, "exec", target)

            wait_until((directory / "told").exists, what="the program ran")

            unsent = "SELECT count(*) FROM notifications WHERE method = 'mail' AND done_at IS NULL"
            assert database.execute(unsent) == [(3,)]


def test_what_comes_while_judas_waits_is_delivered_at_once(database, mailbox):
    hinted = replace(settings(mailbox.port), server=Server(turn_period=timedelta(minutes=10)))
    with serving(database, hinted):
        for number in range(3):
            put(database, "mail", "alice")

            wait_until(lambda number=number: len(mailbox.mails) > number, what="the mail came")


def test_one_users_programs_run_in_order_and_one_at_a_time(database, directory):
    body = f"[ -e {directory}/lock ] && echo overlap >> {directory}/told; touch {directory}/lock; sleep 0.05;"
    target = program(directory, f'{body} rm {directory}/lock; echo "$4" >> {directory}/told')
    put(database, "exec", target, count=5)

    turn(database, settings(free_port()))

    assert (directory / "told").read_text().splitlines() == [f"number {n}" for n in range(1, 6)]


def test_each_user_gets_a_turn_however_much_another_has_waiting(database):
    put(database, "mail", "alice", login="alice", count=100)
    put(database, "mail", "bob", login="bob", count=2)

    with database.engine.begin() as conn:
        taken = outbox.take(conn, "mail", count=10, per_login=10, busy=(), hold=timedelta(minutes=1))

    assert sorted(notice.login for notice in taken) == ["alice"] * 8 + ["bob"] * 2


def test_a_busy_user_waits(database):
    put(database, "exec", "/bin/true", login="alice", count=2)
    put(database, "exec", "/bin/true", login="bob")

    with database.engine.begin() as conn:
        taken = outbox.take(conn, "exec", count=10, per_login=1, busy=["alice"], hold=timedelta(minutes=1))

    assert [notice.login for notice in taken] == ["bob"]


def test_what_one_has_taken_nobody_else_takes(database):
    put(database, "mail", "alice", count=2)
    with database.engine.begin() as first, database.engine.begin() as second:
        taken = outbox.take(first, "mail", count=1, per_login=1, busy=(), hold=timedelta(minutes=1))
        meanwhile = outbox.take(second, "mail", count=2, per_login=2, busy=(), hold=timedelta(minutes=1))
    with database.engine.begin() as third:
        afterwards = outbox.take(third, "mail", count=2, per_login=2, busy=(), hold=timedelta(minutes=1))

    assert [len(taken), len(meanwhile), len(afterwards)] == [1, 1, 0]


def dies(database: TestDatabase, values: Settings, point: str) -> None:
    """Run a turn in a process that dies at ``point``."""
    database.engine.dispose()
    pid = os.fork()
    if pid == 0:
        os.environ[DIES_AT] = point
        turn(database, values)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_a_message_whose_judas_died_is_due_again_when_the_try_is_certainly_over(database, mailbox):
    put(database, "mail", "alice")
    dies(database, settings(mailbox.port), "judas: mail taken")

    early = turn(database, settings(mailbox.port))
    database.execute("UPDATE notifications SET next_try_at = now()")
    late = turn(database, settings(mailbox.port))

    assert (early, late) == (0, 1)
    assert fates(database) == [(2, True)]


def test_a_message_at_which_judas_always_dies_is_given_up(database, mailbox):
    put(database, "mail", "alice")
    values = settings(mailbox.port, attempts=2)
    for _ in range(2):
        dies(database, values, "judas: mail taken")
        database.execute("UPDATE notifications SET next_try_at = now()")

    turn(database, values)

    assert fates(database) == [(2, False)]
    assert mailbox.mails == []
    assert events(database) == ["USER_MAIL_NOTIFICATION_ERROR"]


def test_what_was_not_begun_does_not_count_as_a_try(database):
    put(database, "mail", "alice")
    with database.engine.begin() as conn:
        (notice,) = outbox.take(conn, "mail", count=1, per_login=1, busy=(), hold=timedelta(minutes=1))
        untried = outbox.Result(notice.notification_id, succeeded=None, again=True, detail="not begun in time")

        closed = outbox.record(conn, [untried], attempts=1, retry_delay=timedelta(0))

    assert closed == []
    assert fates(database) == [(0, None)]


def test_judas_ends_when_it_is_told_to_while_a_program_runs(database, directory, monkeypatch):
    monkeypatch.setattr(judas, "LAST_WORDS_S", 0.2)
    target = program(directory, f"touch {directory}/runs; sleep 30")
    with serving(database, settings(free_port())):
        put(database, "exec", target)
        wait_until((directory / "runs").exists, what="the program runs")

    assert fates(database) == [(1, None)]


def test_judas_outlasts_an_absence_of_the_database(postgres, database, mailbox, caplog):
    values = replace(settings(mailbox.port), server=replace(Server(), turn_period=timedelta(seconds=0.05)))
    with closing(postgresql.connect(postgres.cluster)) as admin, admin.cursor() as cursor, serving(database, values):
        put(database, "mail", "alice")
        wait_until(lambda: fates(database) == [(1, True)], what="the first message is delivered")
        cursor.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database.name,))
        # The first turn finds its connection broken, the next one gets none.
        wait_until(lambda: caplog.text.count("database: does not answer") > 1, what="judas tries in vain")
        cursor.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")
        database.engine.dispose()

        put(database, "mail", "bob")

        wait_until(lambda: fates(database) == [(1, True), (1, True)], what="the second message is delivered")


def test_an_idle_turn_writes_nothing(database):
    before = database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())")

    turn(database, settings(free_port()))

    assert database.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before
