"""What the server does all the time costs the same after 100 000 finished jobs as before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from oarpy.automata.job import JobEvent
from oarpy.client.feed import PLACE
from oarpy.database import (
    allocations,
    effects,
    events,
    feed,
    jobs,
    kills,
    launches,
    nodes,
    notifications,
    orders,
    outbox,
    plans,
)
from oarpy.database.events import Event
from oarpy.database.launches import End
from oarpy.database.snapshot import SnapshotReader
from oarpy.model.states import EndCause, JobState
from oarpy.modules import feed_session
from oarpy.scheduling.snapshot import Limits
from tests.support import rows
from tests.support.postgres import TestDatabase, TestServer

HISTORY = 100_000
#: Read as a whole, one of these would cost more with each job that ever was.
GROWING = {"jobs", "allocations", "job_state_logs", "notifications", "events_rest", "orders"}


@pytest.fixture(scope="module")
def old(postgres: TestServer) -> Iterator[TestDatabase]:
    """A database with a long history, 1 000 waiting jobs, and 64 that run."""
    with postgres.database() as database:
        with database.engine.begin() as conn:
            rows.resources(conn, "c1", 64)
            (first,) = rows.submitted(conn)
            for table in ("jobs", "allocations"):
                conn.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            conn.execute(
                text(
                    "INSERT INTO jobs (array_id, job_request_id, job_user, queue_name, command, launching_directory,"
                    " stdout_file, stderr_file, state, stopped_at, started_at, submitted_at)"
                    " SELECT i, job_request_id, 'u' || i % 50, 'default', 'true', '/', 'o', 'e', 'Terminated',"
                    " now() - i * interval '1 s', now() - i * interval '2 s', now() - i * interval '3 s'"
                    " FROM job_requests, generate_series(1, :count) i"
                ),
                {"count": HISTORY},
            )
            conn.execute(
                text(
                    "INSERT INTO allocations (job_id, attempt, resources, held, share)"
                    " SELECT job_id, 1, '{[1,2)}', tstzrange(started_at, stopped_at, '[]'), job_id"
                    " FROM jobs WHERE state = 'Terminated'"
                )
            )
            conn.execute(
                text(
                    "INSERT INTO job_state_logs SELECT job_id, 'Terminated', stopped_at, 1 FROM jobs"
                    " WHERE state = 'Terminated'"
                )
            )
            conn.execute(
                text(
                    "INSERT INTO notifications (job_id, tag, method, target, login, done_at, succeeded)"
                    " SELECT job_id, 'END', 'mail', 'a', job_user, stopped_at, true FROM jobs"
                    " WHERE state = 'Terminated'"
                )
            )
            conn.execute(
                text(
                    "INSERT INTO orders (kind, job_id, attempt, deadline, done_at, succeeded)"
                    " SELECT 'kill', job_id, 1, stopped_at, stopped_at, true FROM jobs WHERE state = 'Terminated'"
                )
            )
            for table in ("jobs", "allocations"):
                conn.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER USER"))
            rows.submitted(conn, 1000)
            for at in range(1, 65):
                rows.brought(conn, rows.submitted(conn), JobState.RUNNING, holds=f"{{[{at},{at + 1})}}")
            rows.brought(conn, [first], JobState.HOLD)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.execute(text("VACUUM ANALYZE"))
        yield database


def scanned(plan: dict[str, Any]) -> Iterator[str]:
    """The tables that ``plan`` reads from one end to the other."""
    if plan["Node Type"] == "Seq Scan":
        yield plan["Relation Name"]
    for part in plan.get("Plans", ()):
        yield from scanned(part)


WORK: dict[str, Callable[[Connection, list[int]], object]] = {
    "a change of state": lambda conn, running: jobs.transition(conn, running, JobEvent.ENDED),
    "what a pass looks at": lambda conn, _: SnapshotReader().read(conn, Limits()),
    "what was said of those that wait": lambda conn, _: plans.said(conn),
    "who is to be launched": lambda conn, _: launches.to_launch(conn, 500),
    "who is being launched": lambda conn, running: launches.launching(conn, running),
    "who may be on hosts": lambda conn, _: launches.live(conn),
    "what hosts speak of": lambda conn, running: launches.known(conn, running),
    "starting": lambda conn, running: launches.start(conn, dict.fromkeys(running, timedelta())),
    "ending": lambda conn, running: launches.finish(
        conn, [End(job_id, EndCause.EXIT, 0, None, ran=True) for job_id in running]
    ),
    "who has only to be closed": lambda conn, _: launches.finishing(conn),
    "closing": lambda conn, running: launches.close(conn, running, []),
    "what hosts are asked": lambda conn, _: orders.still_open(conn),
    "who is to be killed": lambda conn, _: kills.open_wishes(conn),
    "who is dead": lambda conn, _: kills.close_ended(conn),
    "who lets the time pass": lambda conn, _: kills.repeat(conn, soft=timedelta(), hard=timedelta()),
    "whose walltime is over": lambda conn, _: kills.overrun(conn),
    "whose end is near": lambda conn, _: kills.checkpoint_due(conn, within=timedelta(minutes=1)),
    "the end of what is held": lambda conn, running: allocations.close(conn, running),
    "dropping what is held": lambda conn, running: allocations.drop(conn, running),
    "who holds resources": lambda conn, _: conn.execute(text("SELECT * FROM visible_resources")),
    "telling": lambda conn, running: notifications.tell(conn, running, "END"),
    "logging": lambda conn, running: events.append(conn, [Event("EXTERMINATE_JOB", running[0])]),
    "what there is to do": lambda conn, _: effects.work(conn),
    "events with effects": lambda conn, _: effects.take(conn, after=0, count=500),
    "who may be submitted again": lambda conn, running: [
        effects.resubmittable(conn, running, kind) for kind in effects.Resubmits if kind is not effects.Resubmits.NONE
    ],
    "who is to be withdrawn": lambda conn, _: nodes.withdraw_from_unusable(conn),
    "whose resources are gone": lambda conn, _: nodes.kill_on_gone(conn),
    "failing": lambda conn, running: nodes.fail(conn, running, EndCause.ADMIN),
    "who is gone": lambda conn, _: nodes.declare_jobs_gone(conn, ["c1"]),
    "whom to believe": lambda conn, running: nodes.credit(conn, running),
    "what is due": lambda conn, _: outbox.take(
        conn, "mail", count=50, per_login=50, busy=(), hold=timedelta(minutes=1)
    ),
    "what was given up": lambda conn, _: outbox.give_up(conn, attempts=5),
    "recording": lambda conn, _: outbox.record(
        conn, [outbox.Result(1, True, False, "")], attempts=5, retry_delay=timedelta(minutes=1)
    ),
}


@pytest.mark.parametrize("what", WORK)
def test_no_statement_of_the_ordinary_turns_reads_the_history(old, what):
    said: list[tuple[str, Any]] = []
    with old.engine.connect() as conn, conn.begin() as transaction:
        running = list(
            conn.execute(text("SELECT job_id FROM jobs WHERE stopped_at IS NULL AND state = 'Running'")).scalars()
        )
        event.listen(
            conn, "before_cursor_execute", lambda _c, _cursor, statement, values, *_: said.append((statement, values))
        )

        WORK[what](conn, running)

        plans = []
        for statement, values in list(said):
            ((plan,),) = conn.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).all()
            plans.append((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"])
        transaction.rollback()

    assert plans
    assert {table for plan in plans for table in scanned(plan)} & GROWING == set()


@pytest.mark.parametrize("most", [feed_session.PAGE, 1])
def test_what_watchers_hear_is_read_along_its_index(old, most):
    with old.engine.connect() as conn:
        newest = conn.execute(text("SELECT max(xid)::text::bigint FROM job_state_logs")).scalar_one()
        statement = f"EXPLAIN (FORMAT JSON) {feed.AFTER}"
        ((plan,),) = conn.exec_driver_sql(statement, (newest, 0, newest + 1, most)).all()

    assert set(scanned(plan[0]["Plan"])) & {"jobs", "job_state_logs"} == set()


def test_an_event_is_found_by_its_number(old):
    with old.engine.connect() as conn:
        statement = f"EXPLAIN (FORMAT JSON) {PLACE}"
        ((plan,),) = conn.exec_driver_sql(statement, (HISTORY // 2,)).all()

    assert set(scanned(plan[0]["Plan"])) & {"jobs", "job_state_logs"} == set()
