"""What a runner that died left on hosts is forgotten there by the next one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.engine import Connection

from oarpy.database import launches, node_sessions
from oarpy.database.connection import transaction
from oarpy.model.states import EndCause, JobId, JobState
from oarpy.modules import leftovers, runner
from oarpy.modules.context import Context
from oarpy.ports.executor import Attempt, Ended, OrderWord
from oarpy.settings import Settings
from tests.support import rows
from tests.support.paper_hosts import PaperHosts
from tests.support.postgres import TestDatabase
from tests.support.runners import serving
from tests.support.waiting import wait_until

DEADLINE_S = 60.0


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "FORGET_S", 0.1)
    monkeypatch.setattr(leftovers, "SETTLE_S", 0.1)
    monkeypatch.setattr(runner, "PERIOD_S", 0.2)


def context(database: TestDatabase) -> Context:
    settings = Settings()
    # One link at a time, which a host that does not answer takes up for ever.
    return Context(database.engine, replace(settings, nodes=replace(settings.nodes, window=1)))


def a_job(database: TestDatabase, host: str, state: JobState) -> JobId:
    with transaction(database.engine, None, durable=False) as conn:
        (resource,) = rows.resources(conn, host)
        (job_id,) = rows.submitted(conn)
        rows.brought(conn, [job_id], state, holds=f"{{[{resource},{resource + 1})}}")
    return job_id


def was_met(database: TestDatabase, host: str, *, entries: bool) -> None:
    database.execute(
        "INSERT INTO node_sessions (host, epoch, sequence, boot_id, spool_id, connected_at, entries)"
        " VALUES (%s, 0, 1, 'boot', 'spool', now(), %s)",
        (host, entries),
    )


def entries(database: TestDatabase) -> dict[object, object]:
    return dict(database.execute("SELECT host, entries FROM node_sessions ORDER BY host"))  # type: ignore[arg-type]


def test_a_new_runner_goes_where_something_may_be_left_and_has_it_forgotten(database: TestDatabase) -> None:
    over = a_job(database, "c1", JobState.TERMINATED)
    a_job(database, "c2", JobState.TERMINATED)
    was_met(database, "c1", entries=True)
    was_met(database, "c2", entries=False)
    hosts = PaperHosts(kept={"c1": [Ended(Attempt(over, 1), EndCause.EXIT, 0)]})

    with serving(context(database), hosts.reach):
        wait_until(lambda: entries(database)["c1"] is False, timeout_s=DEADLINE_S, what="nothing is left")

    assert hosts.asked == ["c1"]
    assert [(order.word, order.attempt) for order in hosts.ordered] == [(OrderWord.FORGET, (over, 1))]


def test_a_host_that_is_no_resource_any_more_is_left_alone(database: TestDatabase) -> None:
    for host in ("c1", "c2"):
        was_met(database, host, entries=True)
    a_job(database, "c2", JobState.TERMINATED)
    hosts = PaperHosts()

    with serving(context(database), hosts.reach):
        wait_until(lambda: entries(database)["c2"] is False, timeout_s=DEADLINE_S, what="the other was met")

    assert hosts.asked == ["c2"]


def test_a_launch_is_written_of_its_host_until_it_is_forgotten(database: TestDatabase) -> None:
    job_id = a_job(database, "c1", JobState.TO_LAUNCH)
    hosts = PaperHosts()

    with serving(context(database), hosts.reach):
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="the launch")
        assert entries(database) == {"c1": True}
        with transaction(database.engine, None, durable=False) as conn:
            assert node_sessions.settle(conn, ["c1"]) == []
        hosts.sessions[0].say([Ended(Attempt(job_id, 1), EndCause.EXIT, 0)])
        wait_until(lambda: entries(database) == {"c1": False}, timeout_s=DEADLINE_S, what="it is forgotten")
        again = a_job(database, "c1", JobState.TO_LAUNCH)
        wait_until(lambda: len(hosts.launched) == 2, timeout_s=DEADLINE_S, what="the next launch")
        assert entries(database) == {"c1": True}

    assert [launch.attempt.job_id for launch in hosts.launched] == [job_id, again]


def test_hosts_that_do_not_answer_delay_no_job(database: TestDatabase) -> None:
    silent = [f"s{n}" for n in range(3)]
    for host in silent:
        a_job(database, host, JobState.TERMINATED)
        was_met(database, host, entries=True)
    was_met(database, "c1", entries=True)
    with transaction(database.engine, None, durable=False) as conn:
        rows.resources(conn, "c1")
    hosts = PaperHosts(silent=silent)

    with serving(context(database), hosts.reach):
        wait_until(lambda: len(hosts.asked) > 0, timeout_s=DEADLINE_S, what="one was asked")
        job_id = a_job(database, "c1", JobState.TO_LAUNCH)
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="the launch")

    assert [launch.attempt.job_id for launch in hosts.launched] == [job_id]


def test_a_job_on_resources_that_came_in_the_middle_of_a_turn_goes_to_their_host(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_launch = launches.to_launch
    came: list[JobId] = []

    def read(conn: Connection, most: int) -> list[launches.ToRun]:
        if not came:
            came.append(a_job(database, "c1", JobState.TO_LAUNCH))
        return to_launch(conn, most)

    monkeypatch.setattr(launches, "to_launch", read)
    hosts = PaperHosts()

    with serving(context(database), hosts.reach):
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="the launch")

    assert hosts.asked == ["c1"]
