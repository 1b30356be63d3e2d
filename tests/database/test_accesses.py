"""How oarsh is let into jobs that run: what the runner tells hosts, and what becomes of what they say."""

from __future__ import annotations

from datetime import timedelta

import psycopg2
import pytest

from oarpy.database import overview, selections
from oarpy.database.connection import transaction
from oarpy.drivers import ssh_keys
from oarpy.drivers.ssh_keys import KeyPair
from oarpy.model.states import JobId, JobState, OrderKind
from oarpy.modules import runner
from oarpy.modules.context import Context
from oarpy.ports.executor import Access, Attempt, Began, Order, OrderWord
from oarpy.settings import Settings
from tests.support import rows
from tests.support.paper_hosts import PaperHosts
from tests.support.postgres import TestDatabase
from tests.support.runners import serving
from tests.support.waiting import wait_until

DEADLINE_S = 60.0
DONE = "SELECT succeeded, result FROM orders WHERE kind = 'access' AND done_at IS NOT NULL ORDER BY order_id"
KEYS = "SELECT job_id, public_key, pending FROM job_keys ORDER BY job_id"
OPEN = timedelta(minutes=5)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that take no time; turns follow soon."""
    made = []

    async def make() -> KeyPair:
        made.append(1)
        return KeyPair(f"private {len(made)}", f"public {len(made)}")

    monkeypatch.setattr(ssh_keys, "make_key_pair", make)
    monkeypatch.setattr(runner, "PERIOD_S", 0.2)


def running(database: TestDatabase, count: int = 1) -> list[JobId]:
    """Jobs that run on c1."""
    with transaction(database.engine, None, durable=False) as conn:
        made = []
        for resource in rows.resources(conn, "c1", count):
            (job_id,) = rows.submitted(conn)
            rows.brought(conn, [job_id], JobState.RUNNING, holds=f"{{[{resource},{resource + 1})}}")
            made.append(job_id)
    return made


def ask(database: TestDatabase, *job_ids: JobId, within: timedelta = OPEN) -> None:
    with transaction(database.engine, None, durable=False) as conn:
        selections.order(conn, job_ids, OrderKind.ACCESS, signal=None, within=within)


def hosts_of(*job_ids: JobId, port: int | None = 4711) -> PaperHosts:
    return PaperHosts({"c1": [Began(Attempt(job_id, 1), timedelta()) for job_id in job_ids]}, port=port)


def done(database: TestDatabase, count: int = 1) -> list[tuple[object, ...]]:
    """What became of the orders."""
    wait_until(lambda: len(database.execute(DONE)) == count, timeout_s=DEADLINE_S, what="the orders are done")
    return database.execute(DONE)


def accesses(hosts: PaperHosts) -> list[Order]:
    return [order for order in hosts.ordered if order.word is OrderWord.ACCESS]


def test_a_host_is_told_the_key_of_each_job_that_is_asked_for_and_of_no_other(database: TestDatabase) -> None:
    first, _, third = job_ids = running(database, 3)
    hosts = hosts_of(*job_ids)
    ask(database, first, third)

    with serving(Context(database.engine, Settings()), hosts.reach):
        assert done(database, 2) == [(True, "")] * 2

    assert [(order.attempt, order.environment["OAR_JOB_ID"]) for order in accesses(hosts)] == [
        (Attempt(job_id, 1), str(job_id)) for job_id in (first, third)
    ]
    told = [order.access for order in accesses(hosts)]
    assert told == [Access(f"private {n}", f"public {n}", (), {"c1": 4711}) for n in (1, 2)]
    assert database.execute(KEYS) == [(first, "public 1", False), (third, "public 2", False)]


@pytest.mark.parametrize("refusal", ["", "the spool cannot be written"])
def test_who_waits_for_it_is_told_when_it_is_there(database: TestDatabase, refusal: str) -> None:
    (job_id,) = running(database)
    hosts = hosts_of(job_id)
    hosts.refusals[OrderWord.ACCESS] = refusal
    ask(database, job_id)
    with database.engine.connect() as conn:
        conn.exec_driver_sql(f"LISTEN oar_access_{job_id}")
        conn.commit()
        waiting = conn.connection.driver_connection
        assert waiting is not None

        def told() -> bool:
            waiting.poll()
            return bool(waiting.notifies)

        with serving(Context(database.engine, Settings()), hosts.reach):
            wait_until(told, timeout_s=DEADLINE_S, what="a notification")

        assert database.execute(DONE) == [(not refusal, refusal)]


def test_what_a_dead_runner_has_written_is_told_as_it_was(database: TestDatabase) -> None:
    (job_id,) = running(database)
    database.execute("INSERT INTO job_keys VALUES (%s, 'private 0', 'public 0', true)", (job_id,))
    ask(database, job_id)
    database.execute("UPDATE orders SET begun_at = now()")

    with serving(Context(database.engine, Settings()), (hosts := hosts_of(job_id)).reach):
        done(database)

    assert [order.access.public for order in accesses(hosts) if order.access is not None] == ["public 0"]
    assert database.execute(KEYS) == [(job_id, "public 0", False)]


def test_a_key_that_its_host_has_not_taken_opens_nothing(database: TestDatabase) -> None:
    (job_id,) = running(database)
    hosts = hosts_of(job_id)
    hosts.refusals[OrderWord.ACCESS] = "the spool cannot be written"
    ask(database, job_id)

    with serving(Context(database.engine, Settings()), hosts.reach):
        assert done(database) == [(False, "the spool cannot be written")]
        assert database.execute(KEYS) == [(job_id, "public 1", True)]

        hosts.refusals.clear()
        ask(database, job_id)
        assert done(database, 2)[1] == (True, "")

    assert database.execute(KEYS) == [(job_id, "public 1", False)]


def test_a_guard_of_before_the_order_existed_is_told_of_as_such(database: TestDatabase) -> None:
    (job_id,) = running(database)
    hosts = hosts_of(job_id)
    hosts.refusals[OrderWord.ACCESS] = "no such order: access"
    ask(database, job_id)

    with serving(Context(database.engine, Settings()), hosts.reach):
        sentence = "its oarexec is of an older oarpy, which stays there until its jobs are over"
        assert done(database) == [(False, sentence)]


def test_a_host_that_has_no_port_left_is_not_asked_again_and_again(database: TestDatabase) -> None:
    (job_id,) = running(database)
    hosts = hosts_of(job_id, port=None)
    ask(database, job_id)

    with serving(Context(database.engine, Settings()), hosts.reach):
        assert done(database) == [(False, "it takes in no oarsh; of nodes.oarsh_ports it has none free")]

    assert hosts.asked == ["c1", "c1"]
    assert accesses(hosts) == []


def test_whoever_reads_everything_reads_no_key_of_a_job(database: TestDatabase) -> None:
    with transaction(database.engine, None, durable=False) as conn:
        overview.let_readers_read(conn)

    assert database.execute("SELECT count(*) FROM jobs", role="oar_reader") == [(0,)]
    with pytest.raises(psycopg2.Error, match="permission denied for table job_keys"):
        database.execute(KEYS, role="oar_reader")


def test_where_no_key_can_be_made_that_is_told(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    async def make() -> KeyPair:
        raise OSError("ssh-keygen is missing")

    monkeypatch.setattr(ssh_keys, "make_key_pair", make)
    (job_id,) = running(database)
    ask(database, job_id)

    with serving(Context(database.engine, Settings()), hosts_of(job_id).reach):
        assert done(database) == [(False, "no key can be made: ssh-keygen is missing")]


def test_a_host_that_is_not_reached_in_time_is_told_of(database: TestDatabase) -> None:
    (job_id,) = running(database)
    ask(database, job_id, within=timedelta(seconds=0.5))
    hosts = PaperHosts(silent=["c1"])

    with serving(Context(database.engine, Settings()), hosts.reach):
        assert done(database) == [(False, "the host cannot be reached")]


def test_a_job_that_ended_meanwhile_is_on_no_host(database: TestDatabase) -> None:
    (job_id,) = running(database)
    ask(database, job_id)
    with transaction(database.engine, None, durable=False) as conn:
        rows.ended(conn, [job_id])
        rows.closed(conn, [job_id])

    with serving(Context(database.engine, Settings()), (hosts := PaperHosts()).reach):
        assert done(database) == [(False, "the job is not on its hosts")]

    assert accesses(hosts) == []
