"""The scheduler on queues that are ordered by use: what it reads, and what it tells of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from psycopg2 import errors as pg_errors
from sqlalchemy import text

from oarpy.model.states import JobId
from oarpy.modules import scheduler
from oarpy.modules.context import Context
from oarpy.modules.scheduler import Scheduler
from oarpy.settings import Fairshare, Settings
from oarpy.settings import Scheduler as SchedulerSettings
from tests.support import rows
from tests.support.postgres import TestDatabase

#: On a fine grid the plan moves once when the job that started is seen a moment later.
SETTINGS = Settings(
    scheduler=SchedulerSettings(grid=timedelta(hours=12)), fairshare=Fairshare(refresh=timedelta(seconds=1))
)


@pytest.fixture
def ctx(database: TestDatabase) -> Context:
    with database.engine.begin() as conn:
        rows.resources(conn, "h1", 1)
        conn.execute(text("UPDATE queues SET ordering = 'fairshare' WHERE queue_name = 'default'"))
    return Context(database.engine, SETTINGS)


def submit(ctx: Context, *owners: str, **others: Any) -> list[JobId]:
    with ctx.transaction() as conn:
        ids = [rows.submitted(conn, owner=owner, **others)[0] for owner in owners]
        conn.execute(text("""UPDATE job_requests SET request = '[[[[[["resource_id", 1]], null]], 3600]]'"""))
    return ids


def used(database: TestDatabase, user: str, amount: int) -> None:
    database.execute(
        "INSERT INTO accounting SELECT now() - interval '2 d', now() - interval '1 d', %s, 'default', 'default', kind,"
        " %s FROM unnest(enum_range(NULL::consumption_type)) AS kind",
        (user, amount),
    )


def karmas(database: TestDatabase) -> dict[object, object]:
    return dict(database.execute("SELECT job_user, karma FROM karmas"))  # type: ignore[arg-type]


def test_who_used_less_starts_first_and_people_see_why(ctx: Context, database: TestDatabase) -> None:
    used(database, "alice", 3000)
    used(database, "bob", 1000)
    of_alice, of_bob = submit(ctx, "alice", "bob")

    scheduler.turn(ctx)

    assert database.execute("SELECT job_id, state::text, last_karma FROM visible_jobs ORDER BY job_id") == [
        (of_alice, "Waiting", 2.25),
        (of_bob, "toLaunch", 0.75),
    ]
    messages = database.execute("SELECT message FROM visible_jobs ORDER BY job_id", role="oar_user")
    assert messages == [(" (Karma=2.250)",), (" (Karma=0.750)",)]


def test_only_karmas_of_those_who_wait_are_told(ctx: Context, database: TestDatabase) -> None:
    used(database, "alice", 1000)
    running = Scheduler(ctx)
    submit(ctx, "alice", "bob")
    submit(ctx, "carol", queue="admin")
    running.turn()
    told = [karmas(database)]

    database.execute(
        "UPDATE jobs SET state = 'Error', stopped_at = now() WHERE state = 'Waiting' AND job_user = 'alice'"
    )
    running.turn()
    told.append(karmas(database))

    assert told == [{"alice": 3.0, "bob": 0.0}, {"bob": 0.0}]


def test_a_scheduler_that_starts_again_forgets_karmas_that_no_longer_hold(ctx: Context, database: TestDatabase) -> None:
    database.execute("INSERT INTO karmas VALUES ('default', 'default', 'alice', 9)")

    scheduler.turn(ctx)

    assert karmas(database) == {}


def test_a_turn_that_finds_nothing_new_writes_no_karma(ctx: Context, database: TestDatabase) -> None:
    running = Scheduler(replace(ctx, settings=replace(SETTINGS, fairshare=Fairshare())))
    submit(ctx, "alice", "bob", "carol")
    # The second takes away what the first told of the job that it started.
    for _ in range(2):
        running.turn()
    before = database.execute("SELECT ctid::text, xmin::text FROM karmas UNION SELECT ctid::text, xmin::text FROM jobs")

    running.turn()

    after = database.execute("SELECT ctid::text, xmin::text FROM karmas UNION SELECT ctid::text, xmin::text FROM jobs")
    assert after == before


def test_where_queues_are_first_come_first_served_no_karma_is_told(ctx: Context, database: TestDatabase) -> None:
    database.execute("UPDATE queues SET ordering = 'fifo'")
    used(database, "alice", 1000)
    first, _ = submit(ctx, "alice", "bob")

    scheduler.turn(ctx)

    assert karmas(database) == {}
    assert database.execute("SELECT job_id FROM visible_jobs WHERE state = 'toLaunch' AND last_karma IS NULL") == [
        (first,)
    ]


def test_people_see_the_priorities_of_jobs_that_wait(ctx: Context, database: TestDatabase) -> None:
    database.execute("UPDATE queues SET ordering = 'multifactor' WHERE queue_name = 'default'")
    running = Scheduler(ctx)
    (polite,) = submit(ctx, "alice", types=["nice=50"])
    first, _ = submit(ctx, "alice", "alice")

    running.turn()

    found = database.execute("SELECT job_id, priority FROM visible_jobs ORDER BY job_id", role="oar_user")
    (_, of_polite), (_, of_first), (_, of_second) = found
    assert (found[0][0], of_first) == (polite, None)
    assert isinstance(of_polite, float)
    assert isinstance(of_second, float)
    assert of_polite < of_second
    assert database.execute("SELECT job_id FROM visible_jobs WHERE state = 'toLaunch'") == [(first,)]


def test_where_the_order_is_another_no_priority_is_told(ctx: Context, database: TestDatabase) -> None:
    database.execute("UPDATE queues SET ordering = 'multifactor' WHERE queue_name = 'default'")
    running = Scheduler(ctx)
    submit(ctx, "alice", "bob")
    running.turn()
    told = database.execute("SELECT count(priority) FROM predictions")
    database.execute("UPDATE queues SET ordering = 'fifo'")

    running.turn()

    assert told == [(1,)]
    assert database.execute("SELECT count(priority) FROM predictions") == [(0,)]


def test_an_unknown_ordering_is_refused(database: TestDatabase) -> None:
    with pytest.raises(pg_errors.CheckViolation):
        database.execute("UPDATE queues SET ordering = 'karma'")


def test_a_job_that_is_not_over_cannot_be_accounted_for(ctx: Context, database: TestDatabase) -> None:
    submit(ctx, "alice")

    with pytest.raises(pg_errors.CheckViolation):
        database.execute("UPDATE jobs SET accounted = true")
