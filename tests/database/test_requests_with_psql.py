"""What a user can do with a session of their own: ask, and nothing besides."""

from __future__ import annotations

import json
import os
import pwd
import time
import uuid
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from tests.support.accounts import ALICE, BOB, account, root
from tests.support.postgres import TestDatabase
from tests.support.requests import answer_to, answered, appendice, ask, submission, with_hosts

ME = pwd.getpwuid(os.geteuid()).pw_name
ASK = "SELECT oar.ask(%s, %s, %s)"


def identify(database: TestDatabase, login: str = "alice") -> None:
    """Let the account that runs the tests own jobs as ``login``."""
    database.execute("INSERT INTO identities VALUES ('peer', %s, %s)", (ME, login))


def ask_as_user(database: TestDatabase, key: str, verb: str = "submit", **fields: Any) -> object:
    payload = json.dumps(submission(**fields))
    return database.execute(ASK, (key, verb, payload), role="oar_user")[0][0]


def answer_of(database: TestDatabase, key: str) -> Any:
    return database.execute("SELECT oar.answer(%s)", (key,), role="oar_user")[0][0]


def test_what_is_asked_is_answered_to_the_one_who_asked(database: TestDatabase) -> None:
    with_hosts(database)
    identify(database, "alice")
    key = str(uuid.uuid4())
    ask_as_user(database, key)

    appendice(database).turn()

    assert answer_of(database, key)["job_ids"] == [[1, 2]]
    assert database.execute("SELECT job_user FROM jobs") == [("alice",)]


def test_the_same_key_gets_the_first_answer_and_makes_no_second_job(database: TestDatabase) -> None:
    with_hosts(database)
    identify(database)
    key = str(uuid.uuid4())
    first = ask_as_user(database, key)
    server = appendice(database)
    server.turn()

    again = ask_as_user(database, key)
    server.turn()

    assert again == first
    assert answer_of(database, key)["job_ids"] == [[1, 2]]
    assert database.execute("SELECT count(*) FROM jobs") == [(1,)]


def test_the_same_key_with_another_payload_is_refused(database: TestDatabase) -> None:
    identify(database)
    key = str(uuid.uuid4())
    ask_as_user(database, key)

    with pytest.raises(psycopg2.Error, match="belongs to another request"):
        ask_as_user(database, key, name="other")


def test_a_request_that_was_withdrawn_is_dead(database: TestDatabase) -> None:
    with_hosts(database)
    identify(database)
    key = str(uuid.uuid4())
    ask_as_user(database, key)

    withdrawn = database.execute("SELECT oar.withdraw(%s)", (key,), role="oar_user")
    answered_now = appendice(database).turn()

    assert (withdrawn, answered_now) == ([(True,)], 0)
    assert answer_of(database, key)["exit_status"] == 75


def test_a_request_that_was_answered_is_not_withdrawn(database: TestDatabase) -> None:
    with_hosts(database)
    identify(database)
    key = str(uuid.uuid4())
    ask_as_user(database, key)
    appendice(database).turn()

    assert database.execute("SELECT oar.withdraw(%s)", (key,), role="oar_user") == [(False,)]


def test_a_request_that_nobody_took_up_says_so(database: TestDatabase) -> None:
    identify(database)
    database.execute("UPDATE request_limits SET lifetime = '0 s'")
    key = str(uuid.uuid4())
    ask_as_user(database, key)

    assert answer_of(database, key) == {
        "ok": False,
        "exit_status": 75,
        "message": "the server did not take the request in time; nothing was done",
    }


def test_another_user_neither_reads_nor_withdraws_a_request(database: TestDatabase) -> None:
    alice, bob = account(ALICE), account(BOB)
    key = str(uuid.uuid4())
    database.execute_as(alice, ASK, (key, "submit", json.dumps(submission())))
    ((request_id,),) = database.execute("SELECT request_id FROM requests")
    with_hosts(database)

    withdrawn = database.execute_as(bob, "SELECT oar.withdraw(%s)", (key,))
    appendice(database).turn()

    assert withdrawn == [[False]]
    assert database.execute_as(bob, "SELECT oar.answer(%s)", (key,)) == [[None]]
    assert answer_to(database, int(str(request_id)))["ok"] is True
    assert database.execute("SELECT job_user FROM jobs") == [(ALICE,)]


def test_accounts_of_the_system_have_no_jobs(database: TestDatabase) -> None:
    with_hosts(database)
    identify(database, "root")
    key = str(uuid.uuid4())
    ask_as_user(database, key)

    appendice(database).turn()

    assert answer_of(database, key)["exit_status"] == 254


def test_accounts_of_daemons_have_no_jobs(database: TestDatabase) -> None:
    root()
    with_hosts(database)
    identify(database, "daemon")
    key = str(uuid.uuid4())
    ask_as_user(database, key)

    appendice(database).turn()

    assert answer_of(database, key)["message"] == "daemon is an account of the system, and no node runs its jobs"
    assert database.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_fifty_megabytes_are_refused_at_once(database: TestDatabase) -> None:
    identify(database)

    with pytest.raises(psycopg2.Error, match="is over the limit of 2097152 bytes"):
        database.execute(
            "SELECT oar.ask(gen_random_uuid(), 'submit', to_json(repeat('x', 52428800))::text)", role="oar_user"
        )

    assert database.execute("SELECT count(*) FROM requests") == [(0,)]


def test_a_document_that_is_no_json_is_refused_at_once(database: TestDatabase) -> None:
    identify(database)

    with pytest.raises(psycopg2.Error, match="json"):
        database.execute(ASK, (str(uuid.uuid4()), "submit", "{"), role="oar_user")


def test_a_document_nested_beyond_measure_is_refused(database: TestDatabase) -> None:
    identify(database)
    deep = '{"filter": ' + '["not", ' * 3000 + "true" + "]" * 3000 + ', "command": "true", "directory": "/"}'
    key = str(uuid.uuid4())
    database.execute(ASK, (key, "submit", deep), role="oar_user")
    fine = ask(database, "submit", submission())
    with_hosts(database)

    appendice(database).turn()

    assert answer_of(database, key)["message"] == "the request is nested too deeply"
    assert answer_to(database, fine)["ok"] is True


def test_more_requests_than_may_wait_are_refused(database: TestDatabase) -> None:
    identify(database)
    database.execute("UPDATE request_limits SET max_pending = 100")
    many = "SELECT count(oar.ask(gen_random_uuid(), 'submit', '{}')) FROM generate_series(1, %s)"
    database.execute(many, (100,), role="oar_user")

    with pytest.raises(psycopg2.Error, match="100 requests waiting for an answer already"):
        database.execute(many, (1,), role="oar_user")


def test_whoever_has_too_many_requests_waiting_is_slowed_down_and_nobody_else_is(database: TestDatabase) -> None:
    identify(database)
    waiting = "INSERT INTO requests (key, verb, payload, requested_by, login, expires_at)"
    database.execute(
        f"{waiting} SELECT gen_random_uuid(), 'submit', '{{}}', %s, 'alice', now() + interval '60 s'"
        " FROM generate_series(1, 1000)",
        (f"peer:{ME}",),
    )
    database.execute("UPDATE request_limits SET max_pending = 2000")

    begun = time.monotonic()
    ask_as_user(database, str(uuid.uuid4()))
    slowed_s = time.monotonic() - begun
    database.execute("UPDATE requests SET requested_by = 'peer:bob'")
    alone_s = []
    for _ in range(5):
        begun = time.monotonic()
        ask_as_user(database, str(uuid.uuid4()))
        alone_s.append(time.monotonic() - begun)

    assert slowed_s >= 0.1
    assert min(alone_s) < slowed_s


def test_a_user_s_open_transaction_delays_nobody(database: TestDatabase) -> None:
    with_hosts(database)
    identify(database)
    with closing(database.connect("oar_user")) as session, session.cursor() as cursor:
        cursor.execute(ASK, (str(uuid.uuid4()), "submit", json.dumps(submission())))
        cursor.execute("SELECT count(*) FROM oar.visible_jobs")

        answer = answered(database, "submit", submission(), login="bob")

    assert answer["ok"] is True


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMP TABLE t (a int)",
        "SELECT * FROM oar.requests",
        "SELECT * FROM oar.jobs",
        "INSERT INTO oar.requests DEFAULT VALUES",
        "UPDATE oar.jobs SET state = 'Error'",
        "DELETE FROM oar.resources",
        "LOCK TABLE oar.jobs IN ACCESS SHARE MODE",
        "CREATE TABLE oar.t (a int)",
        "SELECT nextval('oar.job_ids')",
        "SELECT oar.refresh_visible_resources()",
        "SET ROLE oar_gate",
    ],
)
def test_a_user_s_session_can_touch_no_table(database: TestDatabase, statement: str) -> None:
    with pytest.raises(psycopg2.Error, match=r"permission denied|must be"):
        database.execute(statement, role="oar_user")
