"""A turn of the runner that is not written: what it was about is done by the next one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random

import psycopg2
import pytest
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from oarpy.database import events as runner_events
from oarpy.database import launches
from oarpy.database.connection import transaction
from oarpy.database.events import Event
from oarpy.model.states import JobId, JobState
from oarpy.modules import runner
from oarpy.modules.context import Context
from oarpy.ports.executor import Attempt, OrderWord, Refused
from oarpy.settings import Settings
from tests.support import invariants, rows
from tests.support.paper_hosts import PaperHosts
from tests.support.postgres import TestDatabase
from tests.support.runners import serving
from tests.support.waiting import wait_until

DEADLINE_S = 120.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PERIOD_S", 0.2)


def on_two_hosts(conn: Connection, state: JobState) -> JobId:
    """A job in ``state`` that holds all of c1 and c2."""
    (first,), (second,) = rows.resources(conn, "c1"), rows.resources(conn, "c2")
    (job_id,) = rows.submitted(conn)
    rows.brought(conn, [job_id], state, holds=f"{{[{first},{second + 1})}}")
    return job_id


def test_a_job_whose_hosts_were_not_ready_waits_again_though_the_database_was_away(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(database.engine, None, durable=False) as conn:
        job_id = on_two_hosts(conn, JobState.TO_LAUNCH)
    hosts = PaperHosts()
    returned: list[Sequence[JobId]] = []
    real = launches.return_unbegun

    def return_unbegun(conn: Connection, job_ids: Sequence[JobId]) -> tuple[list[JobId], list[JobId]]:
        found = real(conn, job_ids)
        if job_ids:
            returned.append(job_ids)
            # So that the next turn leaves it alone.
            conn.exec_driver_sql("UPDATE queues SET state = 'notActive'")
        return found

    def commit_fails_once(conn: Connection, events: object) -> None:
        append(conn, events)  # type: ignore[arg-type]
        if len(returned) == 1:
            returned.append([])
            raise fail("COMMIT")

    append = runner_events.append
    monkeypatch.setattr(launches, "return_unbegun", return_unbegun)
    monkeypatch.setattr(runner_events, "append", commit_fails_once)

    def ordered(word: OrderWord) -> bool:
        return any(order.word is word for order in hosts.ordered)

    with serving(Context(database.engine, Settings()), hosts.reach) as ended:
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="the part is made")
        links = {session.greeting.host: session for session in hosts.sessions}
        links["c2"].say([Refused(Attempt(job_id, 1))])
        wait_until(lambda: ordered(OrderWord.REFUSE), timeout_s=DEADLINE_S, what="the head is told")
        links["c1"].say([Refused(Attempt(job_id, 1))])
        wait_until(
            lambda: ended or database.execute("SELECT 1 FROM jobs WHERE state = 'Waiting'"),
            timeout_s=DEADLINE_S,
            what="the job waits again",
        )

    assert ended == []
    assert returned[1] == [], "the first turn was not written"


def fail(statement: str) -> OperationalError:
    return OperationalError(statement, None, psycopg2.OperationalError("server closed the connection"))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("committed", [False, True], ids=["not committed", "committed, which is not heard"])
def test_jobs_come_to_their_end_though_the_database_goes_away_at_commits(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, seed: int, committed: bool
) -> None:
    with transaction(database.engine, None, durable=False) as conn:
        firsts, seconds = rows.resources(conn, "c1", 6), rows.resources(conn, "c2", 6)
        job_ids = rows.submitted(conn, 6)
        for number, job_id in enumerate(job_ids):
            one, other = firsts[number], seconds[number]
            holds = f"{{[{one},{one + 1})}}" if number % 2 else f"{{[{one},{one + 1}),[{other},{other + 1})}}"
            rows.brought(conn, [job_id], JobState.TO_LAUNCH, holds=holds)
    real = Context.transaction
    luck = Random(seed)

    @contextmanager
    def sometimes(ctx: Context, *, durable: bool = False) -> Iterator[Connection]:
        fails = durable and luck.random() < 0.3
        with real(ctx, durable=durable) as conn:
            yield conn
            if fails and not committed:
                raise fail("COMMIT")
        if fails:
            raise fail("COMMIT")

    monkeypatch.setattr(Context, "transaction", sometimes)
    hosts = PaperHosts(oblige=True)

    with serving(Context(database.engine, Settings()), hosts.reach) as ended:
        wait_until(
            lambda: (
                ended or not database.execute("SELECT job_id, state FROM jobs WHERE stopped_at IS NULL ORDER BY job_id")
            ),
            timeout_s=DEADLINE_S,
            what="all jobs are over",
        )

    assert ended == []
    assert database.execute("SELECT DISTINCT state, attempt, end_cause FROM jobs") == [("Terminated", 1, "exit")]
    assert invariants.broken(database.engine) == []


def test_of_a_host_that_does_not_clean_up_in_time_is_told_though_the_first_commit_fails(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(database.engine, None, durable=False) as conn:
        job_id = on_two_hosts(conn, JobState.FINISHING)
        conn.exec_driver_sql("UPDATE jobs SET head = 'c1', other_hosts = '{c2}' WHERE job_id = %s", (job_id,))
    failures: list[Event] = []
    real = runner_events.append

    def commit_fails_once(conn: Connection, events: Sequence[Event]) -> None:
        real(conn, events)
        late = [event for event in events if event.type == "CPUSET_CLEAN_ERROR"]
        failures.extend(late)
        if late and len(failures) == 1:
            raise fail("COMMIT")

    monkeypatch.setattr(runner_events, "append", commit_fails_once)
    settings = Settings()
    impatient = replace(settings, nodes=replace(settings.nodes, order_timeout=timedelta(seconds=0.1)))

    with serving(Context(database.engine, impatient), PaperHosts().reach) as ended:
        wait_until(
            lambda: ended or database.execute("SELECT 1 FROM events WHERE type = 'CPUSET_CLEAN_ERROR'"),
            timeout_s=DEADLINE_S,
            what="it is told",
        )

    assert ended == []
    assert len(failures) == 2
