"""Appendice as a process that goes on: hinted, flooded, cut off from its database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from oarpy.settings import Requests
from tests.support.postgres import TestDatabase
from tests.support.requests import answer_to, ask, submission, with_hosts
from tests.support.waiting import wait_until

#: Ends when its standard input does.  Its timer is slower than any test waits, so that only hints count.
PROCESS = """
import json, sys
from datetime import timedelta
from oarpy.database.connection import open_engine
from oarpy.modules.appendice import serve
from oarpy.modules.context import Context
from oarpy.settings import Server, Settings
engine = open_engine(json.loads(sys.argv[1]), application_name="oarpy/1/appendice")
serve(Context(engine, Settings(server=Server(turn_period=timedelta(minutes=10)))), 0)
"""


class Serving:
    """A running appendice."""

    def __init__(self, database: TestDatabase) -> None:
        self._database = database
        arguments = [sys.executable, "-c", PROCESS, json.dumps(database.parameters("oar"))]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE)
        self.wait_for(self.ask())

    def ask(self, login: str = "alice") -> int:
        """A request, and the hint that ``ask`` gives."""
        request_id = ask(self._database, "submit", submission(), login=login)
        self._database.execute("SELECT pg_notify('oar_appendice', '')")
        return request_id

    def wait_for(self, request_id: int, timeout_s: float = 60) -> Any:
        return wait_until(lambda: answer_to(self._database, request_id), timeout_s=timeout_s)

    def cpu_s(self) -> float:
        """What it has used so far."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        """Close its descriptor; its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=60)


@pytest.fixture
def serving(database: TestDatabase) -> Iterator[Serving]:
    with_hosts(database)
    one = Serving(database)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def test_a_hint_is_answered(serving: Serving) -> None:
    assert serving.wait_for(serving.ask())["ok"] is True


def test_it_ends_when_its_descriptor_does(serving: Serving) -> None:
    assert serving.end() == 0


def test_it_goes_on_after_its_sessions_were_ended(database: TestDatabase, serving: Serving) -> None:
    ended = database.execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'oarpy/1/appendice' AND datname = current_database()"
    )

    answer = serving.wait_for(serving.ask())

    assert ended != [(0,)]
    assert answer["ok"] is True


def test_requests_that_came_while_it_was_cut_off_are_answered(database: TestDatabase, serving: Serving) -> None:
    request_id = ask(database, "submit", submission())

    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'oarpy/1/appendice' AND datname = current_database()"
    )

    assert serving.wait_for(request_id)["ok"] is True


def test_an_error_that_will_come_again_ends_it_so_that_its_supervisor_starts_it_with_back_off(
    database: TestDatabase, serving: Serving
) -> None:
    database.execute("ALTER TABLE requests RENAME COLUMN takings TO taken")

    database.execute("SELECT pg_notify('oar_appendice', '')")

    assert serving.process.wait(timeout=60) != 0


def test_a_thousand_requests_of_one_user_do_not_delay_another_s(database: TestDatabase, serving: Serving) -> None:
    database.execute(
        "INSERT INTO requests (key, verb, payload, requested_by, login, expires_at)"
        " SELECT gen_random_uuid(), 'submit', %s, 'peer:alice', 'alice', now() + interval '60 s'"
        " FROM generate_series(1, 1000)",
        (json.dumps(submission()),),
    )
    last = serving.ask("alice")

    other = serving.ask("bob")
    serving.wait_for(other)
    serving.wait_for(last)

    before = """
        SELECT count(*) FROM requests r, requests v WHERE v.request_id = %s AND r.login = 'alice'
            AND r.answered_at BETWEEN v.asked_at AND v.answered_at
    """
    ((answered,),) = database.execute(before, (other,))
    # One batch may be under way, another may begin before the request is committed, and the next one is shared.
    assert int(str(answered)) < 3 * Requests().batch


def test_a_flood_of_hints_costs_little_and_leaves_no_request_to_the_timer(
    database: TestDatabase, serving: Serving
) -> None:
    delays = []
    with closing(psycopg2.connect(**database.parameters("oar"))) as session:
        session.autocommit = True
        before, begun = serving.cpu_s(), time.monotonic()
        with session.cursor() as cursor:
            while (now := time.monotonic()) - begun < 3 or not delays:
                for _ in range(200):
                    cursor.execute("NOTIFY oar_appendice")
                if now - begun > len(delays) + 0.7:
                    asked = time.monotonic()
                    request_id = ask(database, "submit", submission())
                    while answer_to(database, request_id) is None:
                        cursor.execute("NOTIFY oar_appendice")
                    delays.append(time.monotonic() - asked)
        spent = (serving.cpu_s() - before) / (time.monotonic() - begun)

    # Less than one where nobody else wants the processors.
    assert max(delays) < 20
    assert spent < 0.15
