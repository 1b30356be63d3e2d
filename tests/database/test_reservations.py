"""Advance reservations on real tables: accepted, begun, given up, and what the database refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from sqlalchemy import text

from oarpy.automata.almighty import Event as Outcome
from oarpy.automata.job import JobEvent
from oarpy.database import allocations, jobs, launches, reservations
from oarpy.model.request import Alternative, ResourceRequest
from oarpy.model.resource_grammar import request_to_json
from oarpy.model.states import JobId, JobState
from oarpy.modules import scheduler
from oarpy.modules.context import Context
from oarpy.modules.scheduler import Scheduler
from oarpy.scheduling.plan import Grant
from oarpy.settings import Settings
from tests.support import invariants, rows
from tests.support.postgres import TestDatabase
from tests.unit.clusters import asks

HOUR = 3600


@pytest.fixture
def ctx(database: TestDatabase) -> Iterator[Context]:
    ctx = Context(database.engine, Settings())
    with ctx.transaction() as conn:
        rows.resources(conn, "h1", 4)
    yield ctx
    assert invariants.broken(database.engine) == []


def requested(ctx: Context, *requests: str | Alternative, in_s: int = HOUR, walltime_s: int = HOUR) -> JobId:
    alternatives = tuple(asks(one, walltime_s) if isinstance(one, str) else one for one in requests)
    document = json.dumps(request_to_json(ResourceRequest(alternatives or (asks("resource_id=4", walltime_s),))))
    with ctx.transaction() as conn:
        (job,) = rows.submitted(conn)
        conn.execute(
            text(
                "UPDATE job_requests SET request = CAST(:request AS jsonb) "
                "WHERE job_request_id = (SELECT job_request_id FROM jobs WHERE job_id = :job)"
            ),
            {"request": document, "job": job},
        )
        conn.execute(
            text("UPDATE jobs SET reservation = 'toSchedule', not_before = now() + :after WHERE job_id = :job"),
            {"job": job, "after": timedelta(seconds=in_s)},
        )
    return job


def job(database: TestDatabase, job_id: JobId, columns: str = "state::text, reservation::text") -> tuple[Any, ...]:
    return tuple(database.execute(f"SELECT {columns} FROM jobs WHERE job_id = %s", [job_id])[0])


def reserved(database: TestDatabase) -> list[tuple[Any, ...]]:
    return database.execute("SELECT job_id, resources::text, begun FROM reservations ORDER BY job_id")


def test_an_accepted_reservation_is_written_with_what_it_will_have(ctx: Context, database: TestDatabase) -> None:
    one = requested(ctx, "resource_id=9", asks("resource_id=2", 600))
    database.execute("UPDATE jobs SET message = 'R=9,W=1:0:0,J=R'")

    outcome = scheduler.turn(ctx)

    assert outcome is Outcome.JOBS_CHANGED
    assert job(database, one) == ("Waiting", "Scheduled")
    assert job(database, one, "alternative, walltime, message") == (1, timedelta(minutes=10), "R=2,W=0:10:0,J=R")
    assert reserved(database) == [(one, "{[1,3)}", False)]
    assert database.execute(
        "SELECT upper(period) - lower(period), lower(period) = not_before FROM reservations JOIN jobs USING (job_id)"
    ) == [(timedelta(minutes=10), True)]


def test_what_is_asked_for_twice_is_refused_the_second_time(ctx: Context, database: TestDatabase) -> None:
    first, second = requested(ctx), requested(ctx)

    scheduler.turn(ctx)

    assert job(database, first) == ("Waiting", "Scheduled")
    assert job(database, second, "state::text, reservation::text, end_cause::text") == (
        "Error",
        "toSchedule",
        "reservation",
    )
    assert "the earliest start possible is" in job(database, second, "message")[0]
    assert reserved(database) == [(first, "{[1,5)}", False)]


def test_the_database_keeps_two_reservations_apart(ctx: Context, database: TestDatabase) -> None:
    one, other = requested(ctx, "resource_id=1"), requested(ctx, "resource_id=1")
    with ctx.transaction() as conn:
        start_s = int(conn.execute(text("SELECT extract(epoch FROM now())::bigint")).scalar_one()) + HOUR
        grants = [Grant(job_id, 0, start_s, HOUR, ((1, 2),)) for job_id in (one, other)]

        assert reservations.grant(conn, grants) == [one]

    assert job(database, other) == ("Waiting", "toSchedule")
    assert reserved(database) == [(one, "{[1,2)}", False)]


def test_a_reservation_needs_a_date(ctx: Context, database: TestDatabase) -> None:
    with ctx.transaction() as conn:
        rows.submitted(conn)

    with pytest.raises(psycopg2.errors.CheckViolation, match="jobs_reservation_check"):
        database.execute("UPDATE jobs SET reservation = 'toSchedule'")


def test_whatever_ends_a_job_frees_what_it_had_reserved(ctx: Context, database: TestDatabase) -> None:
    one = requested(ctx)
    scheduler.turn(ctx)

    database.execute("UPDATE jobs SET state = 'Error', stopped_at = now() WHERE job_id = %s", [one])

    assert reserved(database) == []


def test_a_job_on_hold_keeps_what_it_reserved(ctx: Context, database: TestDatabase) -> None:
    one = requested(ctx)
    passes = Scheduler(ctx)
    passes.turn()
    with ctx.transaction() as conn:
        jobs.transition(conn, [one], JobEvent.HELD)

    second = requested(ctx)
    passes.turn()

    assert job(database, one) == ("Hold", "Scheduled")
    assert job(database, second)[0] == "Error"


def test_a_reservation_whose_launch_never_began_begins_again(ctx: Context, database: TestDatabase) -> None:
    one = requested(ctx, in_s=0)
    passes = Scheduler(ctx)
    passes.turn()
    passes.turn()
    assert job(database, one)[0] == "toLaunch"
    assert reserved(database) == [(one, "{[1,5)}", True)]
    with ctx.transaction() as conn:
        launches.begin(conn, {one: "h1"})
        launches.return_unbegun(conn, [one])

    passes.turn()

    assert job(database, one, "state::text, attempt") == ("toLaunch", 2)


def test_one_that_begins_without_some_resources_leaves_them_to_others(ctx: Context, database: TestDatabase) -> None:
    one = requested(ctx, in_s=-400, walltime_s=2 * HOUR)
    passes = Scheduler(ctx)
    passes.turn()
    database.execute("UPDATE resources SET state = 'Absent' WHERE resource_id = 1")
    database.execute("UPDATE reservations SET period = tstzrange(lower(period) - interval '400 s', upper(period))")

    passes.turn()

    assert job(database, one)[0] == "toLaunch"
    assert reserved(database) == [(one, "{[2,5)}", True)]
    types = {str(type_) for (type_,) in database.execute("SELECT type FROM events WHERE job_id = %s", [one])}
    assert types >= {"SCHEDULER_REDUCE_NB_NODES_FOR_RESERVATION", "REDUCE_RESERVATION_WALLTIME"}


def test_one_whose_resources_come_back_in_time_begins_on_all_of_them(ctx: Context, database: TestDatabase) -> None:
    one = requested(ctx, in_s=0)
    passes = Scheduler(ctx)
    passes.turn()
    database.execute("UPDATE resources SET state = 'Absent' WHERE resource_id = 1")
    passes.turn()
    waiting = job(database, one)[0]
    database.execute("UPDATE resources SET state = 'Alive' WHERE resource_id = 1")

    passes.turn()

    assert (waiting, job(database, one)[0]) == ("Waiting", "toLaunch")
    assert reserved(database) == [(one, "{[1,5)}", True)]
    assert database.execute("SELECT type FROM events WHERE job_id = %s", [one]) == [("GET_RESOURCES_BACK",)]


def test_who_waits_for_the_answer_is_woken(ctx: Context, database: TestDatabase) -> None:
    one = requested(ctx)
    key = "0123456789abcdef0123456789abcdef"
    database.execute(
        "WITH asked AS (INSERT INTO requests (key, verb, payload, requested_by, login, expires_at, state, answer)"
        " VALUES (%s, 'submit', '{}', 'alice', 'alice', now(), 'answered', '{}') RETURNING request_id)"
        " UPDATE job_requests SET request_id = asked.request_id FROM asked",
        [key],
    )
    client = database.connect()
    client.autocommit = True
    with client.cursor() as cursor:
        cursor.execute(f"LISTEN oar_answer_{key}")

        scheduler.turn(ctx)

        cursor.execute("SELECT 1")
    client.poll()
    assert [notify.channel for notify in client.notifies] == [f"oar_answer_{key}"]
    client.close()
    assert job(database, one) == ("Waiting", "Scheduled")


def test_a_running_job_is_not_made_longer_into_a_reservation(ctx: Context, database: TestDatabase) -> None:
    with ctx.transaction() as conn:
        (running,) = rows.submitted(conn)
        rows.brought(conn, [running], JobState.RUNNING, holds="{[1,5)}")
    one = requested(ctx, in_s=HOUR + 300)
    passes = Scheduler(ctx)
    passes.turn()
    assert job(database, one) == ("Waiting", "Scheduled")
    database.execute(
        "INSERT INTO walltime_changes (job_id, pending, delay_next_jobs, asked_by) "
        "VALUES (%s, interval '2 h', true, 'alice')",
        [running],
    )

    passes.turn()

    (planned,) = job(database, running, "planned_end_at - started_at")
    assert timedelta(hours=1) <= planned <= timedelta(hours=1, minutes=5)
    with ctx.transaction() as conn:
        allocations.close(conn, [running])
        rows.ended(conn, [running])
        jobs.transition(conn, [running], JobEvent.CLOSED, values={"end_cause": "exit"})
