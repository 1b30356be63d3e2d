"""What was submitted in the past, as the simulator reads it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from oarpy.database.history import History, history
from oarpy.model.filter_grammar import parse_filter
from oarpy.model.request import ResourceRequest
from oarpy.model.resource_grammar import request_to_json
from oarpy.model.states import JobId, JobState, Ordering, ResourceState
from oarpy.modules.context import Context
from oarpy.scheduling.snapshot import Limits
from oarpy.settings import Settings
from oarpy.simulation import replay
from oarpy.simulation.run import Course, simulate
from oarpy.simulation.workload import Submission, Workload
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.unit.clusters import asks

NOON_S = 18_518 * 86_400 + 43_200
TO_THE_SECOND = Limits(grid_s=1, security_s=0, kill_grace_s=1)


@pytest.fixture
def ctx(database: TestDatabase) -> Context:
    # Ids as a site has them after a few years: a licence among them, one host gone.
    database.execute(
        "INSERT INTO resources (resource_id, type, network_address, state) OVERRIDING SYSTEM VALUE VALUES"
        " (11, 'default', 'c1', 'Alive'), (12, 'default', 'c1', 'Dead'),"
        " (30, 'licence', '', 'Alive'), (41, 'default', 'c2', 'Absent'), (42, 'default', 'c2', 'Alive')"
    )
    return Context(database.engine, Settings())


def at(second: int) -> datetime:
    return datetime.fromtimestamp(NOON_S + second, UTC)


def ended(
    ctx: Context, submitted: int, ran_s: int | None, asked: str = "resource_id=1", walltime_s: int = 600, **job: Any
) -> JobId:
    """A job that was submitted so many seconds after a noon; one that never ran was deleted."""
    suspended_for = timedelta(seconds=job.pop("suspended_s", 0))
    had_s = job.pop("had_s", walltime_s)
    request = ResourceRequest((asks(asked, walltime_s, parse_filter(f"type = '{job.pop('type', 'default')}'")),))
    reservation = job.pop("reservation", "None")
    with ctx.transaction() as conn:
        (job_id,) = rows.submitted(conn, **job)
        conn.execute(
            text(
                "UPDATE job_requests SET request = CAST(:r AS jsonb)"
                " WHERE job_request_id = (SELECT job_request_id FROM jobs WHERE job_id = :job)"
            ),
            {"r": json.dumps(request_to_json(request)), "job": job_id},
        )
        conn.execute(
            text(
                "UPDATE jobs SET submitted_at = :at, not_before = CASE WHEN :r <> 'None' THEN :at END,"
                " reservation = CAST(:r AS reservation_state) WHERE job_id = :job"
            ),
            {"at": at(submitted), "r": reservation, "job": job_id},
        )
        if ran_s is None:
            conn.execute(
                text("UPDATE jobs SET state = 'Error', stopped_at = now(), end_cause = 'killed' WHERE job_id = :job"),
                {"job": job_id},
            )
            return job_id
        rows.brought(conn, [job_id], JobState.TERMINATED, holds="{[11,12)}")
        conn.execute(
            text(
                "UPDATE jobs SET started_at = :begin, stopped_at = :end, suspended_for = :suspended,"
                " walltime = :walltime WHERE job_id = :job"
            ),
            {
                "begin": at(submitted + 5),
                "end": at(submitted + 5 + ran_s) + suspended_for,
                "suspended": suspended_for,
                "walltime": timedelta(seconds=had_s),
                "job": job_id,
            },
        )
    return job_id


def read(ctx: Context, begin: datetime | None = None, stop: datetime | None = None) -> History:
    with ctx.engine.connect() as conn, conn.begin():
        return history(conn, begin, stop, TO_THE_SECOND)


def replayed(found: History, **policy: Any) -> tuple[Workload, Course]:
    queues = replay.configured(found.queues, **policy)
    site = replay.workload(
        found.topology, queues, (Submission(*one) for one in found.jobs), found.left_out, found.quotas
    )
    return site, simulate(site, TO_THE_SECOND)


def test_a_job_is_submitted_again_as_it_was_and_runs_as_long(ctx: Context) -> None:
    job_id = ended(ctx, 0, 100, "network_address=1/resource_id=2", owner="bob", types=["red"], suspended_s=50)

    ((job, ran_s),) = read(ctx).jobs

    assert (job.job_id, job.submitted_s, ran_s) == (job_id, NOON_S, 100)
    assert (job.user, job.queue, job.types) == ("bob", "default", ("red",))
    assert job.request.alternatives[0].walltime_s == 600
    assert [level.count for level in job.request.alternatives[0].groups[0].levels] == [1, 2]


def test_what_cannot_be_done_again_is_left_out_and_counted(ctx: Context) -> None:
    first = ended(ctx, 0, 10)
    second = ended(ctx, 1, 10)
    ended(ctx, 2, None)
    ended(ctx, 3, 10, types=["container"])
    ended(ctx, 4, 10, types=[f"inner={first}"])
    ended(ctx, 5, 10, types=["token:x=2"])
    ended(ctx, 6, 10, reservation="Scheduled")
    with ctx.transaction() as conn:
        rows.submitted(conn)
        conn.execute(
            text("INSERT INTO job_dependencies (job_id, job_id_required) VALUES (:job, :required)"),
            {"job": second, "required": first},
        )

    found = read(ctx)

    assert [one.job.job_id for one in found.jobs] == [first]
    assert found.left_out == {
        "that depended on others": 1,
        "never ran": 1,
        "in or beside containers and placeholders": 2,
        "that needed tokens": 1,
        "advance reservations": 1,
        "not over yet": 1,
    }


def test_a_period_is_half_open_and_of_submissions(ctx: Context) -> None:
    ids = [ended(ctx, second, 100) for second in (0, 10, 20)]

    found = read(ctx, at(0), at(20))

    assert [one.job.job_id for one in found.jobs] == ids[:2]
    assert found.left_out == {}


def test_a_walltime_that_grew_is_what_it_grew_to(ctx: Context) -> None:
    ended(ctx, 0, 900, walltime_s=600, had_s=1200)
    ended(ctx, 1, 200, walltime_s=600, had_s=300)

    found = read(ctx)

    assert [one.job.request.alternatives[0].walltime_s for one in found.jobs] == [1200, 600]


def test_all_resources_are_there_and_figures_count_no_licences(ctx: Context) -> None:
    both = ended(ctx, 0, 100, "network_address=2/resource_id=2")
    licence = ended(ctx, 0, 40, type="licence")
    ended(ctx, 0, 40, "network_address=3")

    site, course = replayed(read(ctx))

    assert set(site.topology.states) == {ResourceState.ALIVE}
    assert {one.job_id: (one.resources, one.cores) for one in course.lived} == {
        both: (((11, 13), (41, 43)), 4),
        licence: (((30, 31),), 0),
    }
    assert site.left_out == {"larger than the machine": 1}


def test_another_policy_makes_another_course_and_none_keeps_that_of_each_queue(ctx: Context) -> None:
    # Three of four cores, then all, then one for as long as the first, and one for longer.
    for submitted, ran_s, cores in ((0, 100, 3), (1, 50, 4), (2, 120, 1)):
        ended(ctx, submitted, ran_s, f"resource_id={cores}", walltime_s=ran_s)
    with ctx.transaction() as conn:
        conn.execute(text("UPDATE queues SET policy = 'easy', ordering = 'fairshare', state = 'notActive'"))
    found = read(ctx)

    def configured(**policy: Any) -> dict[str, tuple[int | None, bool, Ordering]]:
        queues = replay.configured(found.queues, **policy)
        return {queue.name: (queue.depth, queue.active, queue.ordering) for queue in queues}

    assert configured()["default"] == (1, True, Ordering.FIFO)
    assert configured(conservative=True)["default"] == (None, True, Ordering.FIFO)
    assert configured(depth=3)["default"] == (3, True, Ordering.FIFO)
    _, course = replayed(found)
    assert [one.start_s - NOON_S for one in sorted(course.lived, key=lambda one: one.submitted_s)] == [0, 100, 150]


def test_quotas_hold_in_a_replay(ctx: Context) -> None:
    for second in (0, 1, 2):
        ended(ctx, second, 100, owner="bob", walltime_s=100)
    with ctx.transaction() as conn:
        conn.execute(text("INSERT INTO quotas (job_user, running_jobs) VALUES ('/', 1)"))
        conn.execute(text("INSERT INTO quotas (ruleset, job_user, running_jobs) VALUES ('later', '/', 2)"))
        conn.execute(
            text("INSERT INTO quota_periods (ruleset, begins_at, ends_at) VALUES ('later', :begin, :end)"),
            {"begin": at(100), "end": at(100_000)},
        )

    _, course = replayed(read(ctx))

    assert [one.start_s - NOON_S for one in sorted(course.lived, key=lambda one: one.submitted_s)] == [0, 100, 100]


def test_a_queue_that_is_gone_and_nothing_at_all(ctx: Context) -> None:
    assert read(ctx).jobs == ()
    with ctx.transaction() as conn:
        conn.execute(text("INSERT INTO queues (queue_name, priority) VALUES ('gone', 3)"))
    ended(ctx, 0, 100, queue="gone")
    with ctx.transaction() as conn:
        conn.execute(text("DELETE FROM queues WHERE queue_name = 'gone'"))

    assert read(ctx).left_out == {"of queues that are gone": 1}
