"""What the scheduler reads from the tables."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import text

from oarpy.database.snapshot import Reading, SnapshotReader
from oarpy.model.request import ResourceRequest
from oarpy.model.resource_grammar import request_to_json
from oarpy.model.states import DependencyKind, JobId, JobState, ResourceState
from oarpy.modules.context import Context
from oarpy.scheduling.snapshot import Limits, Queue
from oarpy.settings import Settings
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.unit.clusters import asks


@pytest.fixture
def ctx(database: TestDatabase) -> Context:
    return Context(database.engine, Settings())


def read(ctx: Context, reader: SnapshotReader | None = None) -> Reading:
    with ctx.snapshot() as conn:
        return (reader or SnapshotReader()).read(conn, Limits(kill_grace_s=20))


def waiting(ctx: Context, count: int = 1, **others: object) -> list[JobId]:
    document = request_to_json(ResourceRequest((asks("network_address=1/resource_id=2", 600),)))
    with ctx.transaction() as conn:
        ids = rows.submitted(conn, count, **others)  # type: ignore[arg-type]
        conn.execute(text("UPDATE job_requests SET request = CAST(:r AS jsonb)"), {"r": json.dumps(document)})
    return ids


def test_elements_of_an_array_share_one_request(ctx: Context) -> None:
    ids = waiting(ctx, 3, types=["besteffort", "noop"], name="sweep", queue="besteffort")

    jobs = read(ctx).snapshot.waiting

    assert [job.job_id for job in jobs] == ids
    assert len({id(job.request) for job in jobs}) == 1
    assert jobs[0].request.alternatives == (asks("network_address=1/resource_id=2", 600),)
    assert (jobs[0].besteffort, jobs[0].types, jobs[0].name) == (True, ("besteffort", "noop"), "sweep")


def test_what_has_not_changed_is_not_made_again(ctx: Context) -> None:
    with ctx.transaction() as conn:
        rows.resources(conn, "h1", 2)
    waiting(ctx, 2)
    reader = SnapshotReader()

    first, second = read(ctx, reader), read(ctx, reader)

    assert second.platform is first.platform
    assert all(new is old for new, old in zip(second.snapshot.waiting, first.snapshot.waiting, strict=True))


def test_a_changed_resource_is_seen_by_the_next_reading(ctx: Context, database: TestDatabase) -> None:
    with ctx.transaction() as conn:
        rows.resources(conn, "h1", 2)
    reader = SnapshotReader()
    before = read(ctx, reader)
    database.execute("UPDATE resources SET state = 'Suspected' WHERE resource_id = 2")

    after = read(ctx, reader)

    assert after.platform is not before.platform
    assert list(after.snapshot.topology.states) == [ResourceState.ALIVE, ResourceState.SUSPECTED]


def test_a_job_holds_its_resources_until_its_planned_end(ctx: Context) -> None:
    with ctx.transaction() as conn:
        rows.resources(conn, "h1", 6)
    (job_id,) = waiting(ctx)
    with ctx.transaction() as conn:
        rows.brought(conn, [job_id], JobState.RUNNING, holds="{[1,3),[5,6)}")

    reading = read(ctx)

    (held,) = reading.snapshot.held
    assert held.resources == ((1, 3), (5, 6))
    assert 3560 <= held.end_s - reading.snapshot.now_s <= 3601
    assert (held.killing_until_s, held.killed_for, held.suspended) == (None, None, False)


def test_a_wish_to_kill_sets_a_deadline_and_says_for_whom(ctx: Context, database: TestDatabase) -> None:
    with ctx.transaction() as conn:
        rows.resources(conn, "h1")
    (job_id,) = waiting(ctx)
    with ctx.transaction() as conn:
        rows.brought(conn, [job_id], JobState.RUNNING)
    database.execute("INSERT INTO frag_jobs (job_id, asked_by, for_job) VALUES (%s, 'scheduler', 77)", [job_id])

    reading = read(ctx)

    (held,) = reading.snapshot.held
    assert held.killed_for == 77
    assert held.killing_until_s is not None
    assert 5 <= held.killing_until_s - reading.snapshot.now_s <= 21


def test_a_besteffort_job_that_is_ending_is_nobodys_victim(ctx: Context) -> None:
    with ctx.transaction() as conn:
        rows.resources(conn, "h1", 2)
    ending, running = waiting(ctx, types=["besteffort"]) + waiting(ctx, types=["besteffort"])
    with ctx.transaction() as conn:
        rows.brought(conn, [ending], JobState.FINISHING, holds="{[1,2)}")
        rows.brought(conn, [running], JobState.RUNNING, holds="{[2,3)}")

    held = {job.job_id: job.besteffort for job in read(ctx).snapshot.held}

    assert held == {ending: False, running: True}


def test_dependencies_come_with_what_became_of_the_required_jobs(ctx: Context, database: TestDatabase) -> None:
    (required,) = waiting(ctx)
    with ctx.transaction() as conn:
        rows.resources(conn, "h1")
        rows.brought(conn, [required], JobState.TERMINATED, exit_code=0)
    (follower,) = waiting(ctx)
    database.execute(
        "INSERT INTO job_dependencies VALUES (%s, %s, 'afterok', NULL, '90 s'), (%s, 9999, 'after', NULL, NULL)",
        [follower, required, follower],
    )

    first, gone = read(ctx).snapshot.waiting[0].dependencies

    assert (first.required, first.kind, first.state) == (required, DependencyKind.AFTEROK, JobState.TERMINATED)
    assert (first.succeeded, first.window_s) == (True, (None, 90))
    assert first.ended_s is not None
    assert (gone.required, gone.state) == (9999, None)


@pytest.mark.parametrize(
    ("policy", "depth", "reservations"), [("conservative", None, None), ("easy", None, 1), ("first", 5, 5)]
)
def test_a_policy_is_how_many_jobs_of_a_queue_get_a_reservation(
    ctx: Context, database: TestDatabase, policy: str, depth: int | None, reservations: int | None
) -> None:
    database.execute(
        "INSERT INTO queues (queue_name, priority, state, policy, depth) VALUES ('night', 3, 'notActive', %s, %s)",
        [policy, depth],
    )

    assert Queue("night", 3, active=False, depth=reservations) in read(ctx).snapshot.queues


def test_a_job_of_a_later_date_carries_it(ctx: Context, database: TestDatabase) -> None:
    waiting(ctx)
    database.execute("UPDATE jobs SET not_before = now() + %s", [timedelta(seconds=100)])

    reading = read(ctx)

    (job,) = reading.snapshot.waiting
    assert job.not_before_s is not None
    assert 40 <= job.not_before_s - reading.snapshot.now_s <= 101
