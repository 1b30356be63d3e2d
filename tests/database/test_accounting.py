"""Accounting: what jobs used and asked for, in windows, each job once."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from oarpy.database import accounting
from oarpy.database.accounting import UsageReader
from oarpy.model.states import JobId, JobState, Ordering
from oarpy.modules import sarko
from oarpy.modules.context import DIES_AT, Context
from oarpy.scheduling.snapshot import Limits, Queue
from oarpy.scheduling.usage import NOTHING_USED, Shares, Usage
from oarpy.settings import Settings
from tests.support import rows
from tests.support.postgres import TestDatabase

DAY_S = 86_400
#: 2020-09-13 00:00 UTC.
MIDNIGHT_S = 18_518 * DAY_S
FAIR = (Queue("default", 2, ordering=Ordering.FAIRSHARE),)


@pytest.fixture
def ctx(database: TestDatabase) -> Context:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 8)
    return Context(database.engine, Settings())


def at(second: int) -> datetime:
    return datetime.fromtimestamp(MIDNIGHT_S + second, UTC)


def ended(ctx: Context, begin: int, end: int, *, walltime_s: int = 3600, holds: str = "{[1,2)}", **job: Any) -> JobId:
    """A job that ran from ``begin`` to ``end``, in seconds from a midnight."""
    others = {"suspended_for": job.pop("suspended_for", timedelta(0)), "project": job.pop("project", "default")}
    space = job.pop("space", 0)
    with ctx.transaction() as conn:
        (job_id,) = rows.submitted(conn, **job)
        rows.brought(conn, [job_id], JobState.TERMINATED, holds=holds, space=space)
        conn.execute(
            text(
                "UPDATE jobs SET started_at = :begin, stopped_at = :end, walltime = :walltime, "
                "suspended_for = :suspended_for, project = :project WHERE job_id = :job"
            ),
            {"begin": at(begin), "end": at(end), "walltime": timedelta(seconds=walltime_s), "job": job_id, **others},
        )
    return job_id


def settle(ctx: Context, whole_s: int = DAY_S) -> int:
    with ctx.transaction() as conn:
        return accounting.settle(conn, whole_s)


def sums(ctx: Context) -> list[tuple[Any, ...]]:
    """(window's begin in seconds from the midnight, user, project, queue, kind, consumption)."""
    with ctx.engine.connect() as conn:
        return [
            tuple(row)
            for row in conn.execute(
                text(
                    "SELECT extract(epoch FROM window_start)::bigint - :midnight, accounting_user, accounting_project, "
                    "queue_name, consumption_type, consumption FROM accounting ORDER BY 1, 2, 3, 4, 5"
                ),
                {"midnight": MIDNIGHT_S},
            )
        ]


def test_a_job_is_accounted_for_once(ctx: Context) -> None:
    ended(ctx, 100, 700, holds="{[1,4)}")

    counts = [settle(ctx), settle(ctx)]

    assert counts == [1, 0]
    assert sums(ctx) == [
        (0, "alice", "default", "default", "ASKED", 10_800),
        (0, "alice", "default", "default", "USED", 1_800),
    ]


def test_what_jobs_used_adds_up_by_user_project_and_queue(ctx: Context) -> None:
    ended(ctx, 0, 100)
    settle(ctx)
    ended(ctx, 100, 250)
    ended(ctx, 0, 10, holds="{[5,6)}", owner="bob")
    ended(ctx, 0, 20, holds="{[6,7)}", project="wing")
    ended(ctx, 0, 30, holds="{[7,8)}", queue="admin")

    settle(ctx)

    assert [row[1:] for row in sums(ctx) if row[4] == "USED"] == [
        ("alice", "default", "admin", "USED", 30),
        ("alice", "default", "default", "USED", 250),
        ("alice", "wing", "default", "USED", 20),
        ("bob", "default", "default", "USED", 10),
    ]


def test_a_job_is_split_over_the_windows_that_it_crosses(ctx: Context) -> None:
    ended(ctx, DAY_S - 600, 2 * DAY_S + 60, walltime_s=2 * DAY_S, holds="{[1,3)}")

    settle(ctx)

    assert [(row[0], row[4], row[5]) for row in sums(ctx)] == [
        (0, "ASKED", 2 * 600),
        (0, "USED", 2 * 600),
        (DAY_S, "ASKED", 2 * DAY_S),
        (DAY_S, "USED", 2 * DAY_S),
        (2 * DAY_S, "ASKED", 2 * (DAY_S - 600)),
        (2 * DAY_S, "USED", 2 * 60),
    ]


def test_windows_are_as_long_as_the_site_says(ctx: Context) -> None:
    ended(ctx, 3000, 8000, walltime_s=5000)

    settle(ctx, 3600)

    assert [(row[0], row[5]) for row in sums(ctx) if row[4] == "USED"] == [(0, 600), (3600, 3600), (7200, 800)]


def test_what_ends_at_a_windows_end_leaves_nothing_in_the_next(ctx: Context) -> None:
    ended(ctx, DAY_S - 100, DAY_S, walltime_s=100)

    settle(ctx)

    assert [(row[0], row[5]) for row in sums(ctx)] == [(0, 100), (0, 100)]


def test_time_spent_suspended_is_not_used(ctx: Context) -> None:
    ended(ctx, 0, 1000, suspended_for=timedelta(seconds=400))

    settle(ctx)

    assert [row[5] for row in sums(ctx)] == [3600, 600]


def test_what_ends_suspended_has_used_nothing_since(ctx: Context) -> None:
    job_id = ended(ctx, 0, 1000)
    with ctx.transaction() as conn:
        conn.execute(text("UPDATE allocations SET suspended = true"))
        conn.execute(text("DELETE FROM job_state_logs"))
        conn.execute(
            text(
                "INSERT INTO job_state_logs (job_id, job_state, date_start, attempt) "
                "VALUES (:job, 'Running', :started, 1), (:job, 'Suspended', :suspended, 1)"
            ),
            {"job": job_id, "started": at(0), "suspended": at(300)},
        )

    settle(ctx)

    assert [row[5] for row in sums(ctx)] == [3600, 300]


def test_only_resources_of_type_default_count(ctx: Context) -> None:
    with ctx.transaction() as conn:
        conn.execute(text("UPDATE resources SET type = 'licence' WHERE resource_id IN (2, 3)"))
    ended(ctx, 0, 100, holds="{[1,5)}")
    ended(ctx, 0, 100, holds="{[2,4)}", owner="bob")

    settle(ctx)

    assert [(row[1], row[5]) for row in sums(ctx) if row[4] == "USED"] == [("alice", 200)]


def test_what_was_given_back_before_the_end_counts_until_then(ctx: Context) -> None:
    job_id = ended(ctx, 0, 1000, walltime_s=100, holds="{[1,3)}")
    with ctx.transaction() as conn:
        conn.execute(
            text("UPDATE allocations SET returned = '{[3,8)}', returned_at = :at WHERE job_id = :job"),
            {"at": at(100), "job": job_id},
        )

    settle(ctx)

    assert [row[4:] for row in sums(ctx)] == [("ASKED", 7 * 100), ("USED", 2 * 1000 + 5 * 100)]


def test_what_inner_jobs_use_is_their_containers(ctx: Context) -> None:
    with ctx.transaction() as conn:
        (container,) = rows.submitted(conn, owner="bob")
        rows.brought(conn, [container], JobState.RUNNING, holds="{[1,3)}")
    inner = ended(ctx, 0, 100, space=container)

    settle(ctx)

    assert sums(ctx) == []
    with ctx.engine.connect() as conn:
        assert conn.execute(text("SELECT accounted FROM jobs WHERE job_id = :job"), {"job": inner}).scalar_one()


def test_a_job_that_never_started_is_done_with(ctx: Context) -> None:
    with ctx.transaction() as conn:
        rows.submitted(conn)
        conn.execute(text("UPDATE jobs SET state = 'Error', stopped_at = now()"))

    counts = [settle(ctx), settle(ctx)]

    assert counts == [1, 0]
    assert sums(ctx) == []


def test_a_walltime_of_ten_years_is_counted_as_far_as_anybody_looks(ctx: Context) -> None:
    ended(ctx, 0, 60, walltime_s=10 * 365 * DAY_S)

    settle(ctx, 3600)

    assert len(sums(ctx)) == 1 + 1 + accounting.MOST_WINDOWS


def test_a_death_before_the_commit_counts_nothing_and_one_after_it_counts_no_more(ctx: Context) -> None:
    ended(ctx, 0, 100)
    ctx.engine.dispose()
    child = os.fork()
    if not child:
        os.environ[DIES_AT] = "sarko: accounted"
        sarko.turn(ctx)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    after_death = sums(ctx)

    for _ in range(2):
        sarko.turn(ctx)

    assert os.WTERMSIG(status) == 9
    assert after_death == []
    assert [row[5] for row in sums(ctx)] == [3600, 100]


def test_two_at_once_account_for_different_jobs(ctx: Context) -> None:
    ended(ctx, 0, 100)
    with ctx.transaction() as first, ctx.transaction() as second:
        counts = [accounting.settle(first, DAY_S), accounting.settle(second, DAY_S)]

    assert counts == [1, 0]
    assert [row[5] for row in sums(ctx)] == [3600, 100]


def usage(ctx: Context, now: int, reader: UsageReader | None = None, shares: Shares | None = None) -> Usage:
    limits = Limits(shares=shares or Shares(window_s=2 * DAY_S))
    with ctx.engine.connect() as conn:
        return (reader or UsageReader()).read(conn, FAIR, limits, MIDNIGHT_S + now)


def consumed(ctx: Context, now: int) -> dict[str, tuple[int, int]]:
    return {account.user: tuple(amounts) for account, amounts in usage(ctx, now).consumed.items()}


def test_what_just_ended_counts_before_and_after_it_is_accounted_for(ctx: Context) -> None:
    ended(ctx, 100, 700, holds="{[1,4)}")

    before = consumed(ctx, 1000)
    settle(ctx)

    assert before == consumed(ctx, 1000) == {"alice": (1800, 10_800)}


def test_windows_that_end_within_the_sliding_one_count_and_so_does_the_open_one(ctx: Context) -> None:
    for number, day in enumerate((0, 1, 2, 3)):
        ended(ctx, day * DAY_S, day * DAY_S + 10**number, walltime_s=10**number)
    settle(ctx)

    # Two days and a half after the midnight the window of two days reaches back into the first.
    found = [consumed(ctx, half * DAY_S // 2)["alice"][0] for half in (1, 3, 5, 7)]

    assert found == [1, 11, 111, 1110]


def test_of_what_is_asked_for_the_part_up_to_the_end_of_today_counts(ctx: Context) -> None:
    ended(ctx, DAY_S - 100, DAY_S - 50, walltime_s=1000)

    seen = [consumed(ctx, DAY_S - 40)]
    settle(ctx)
    seen += [consumed(ctx, DAY_S - 40), consumed(ctx, DAY_S + 1)]

    assert seen == [{"alice": (50, 100)}, {"alice": (50, 100)}, {"alice": (50, 1000)}]


def running(ctx: Context, since_s: int, state: JobState = JobState.RUNNING, holds: str = "{[1,3)}") -> JobId:
    with ctx.transaction() as conn:
        (job_id,) = rows.submitted(conn)
        rows.brought(conn, [job_id], state, holds=holds)
        conn.execute(
            text("UPDATE jobs SET started_at = now() - CAST(:age AS interval) WHERE job_id = :job"),
            {"age": timedelta(seconds=since_s), "job": job_id},
        )
    return job_id


def now(ctx: Context) -> int:
    with ctx.engine.connect() as conn:
        return int(conn.execute(text("SELECT extract(epoch FROM now())::bigint")).scalar_one()) - MIDNIGHT_S


def test_running_jobs_count_with_what_they_have_used_so_far(ctx: Context) -> None:
    running(ctx, 500)

    ((used, asked),) = consumed(ctx, now(ctx)).values()

    assert 2 * 500 <= used <= 2 * 560
    assert 0 < asked <= 2 * 3600


def test_a_suspended_job_has_used_nothing_since(ctx: Context) -> None:
    job_id = running(ctx, 500, JobState.SUSPENDED)
    with ctx.transaction() as conn:
        conn.execute(
            text(
                "UPDATE job_state_logs SET date_start = now() - interval '400 s' "
                "WHERE job_id = :job AND job_state = 'Suspended'; "
                "UPDATE job_state_logs SET date_start = now() - interval '500 s' "
                "WHERE job_id = :job AND job_state = 'Running'; "
                "UPDATE allocations SET suspended = true"
            ),
            {"job": job_id},
        )

    ((used, _),) = consumed(ctx, now(ctx)).values()

    assert 2 * 99 <= used <= 2 * 160


def test_a_usage_is_kept_for_a_while(ctx: Context) -> None:
    reader = UsageReader()
    first = usage(ctx, 1000, reader)
    ended(ctx, 100, 200)

    seen = [usage(ctx, 1059, reader), usage(ctx, 1060, reader)]

    assert seen[0] is first
    assert seen[1].consumed.keys() == {("default", "default", "alice")}


def test_nothing_is_read_where_all_queues_are_first_come_first_served(ctx: Context) -> None:
    ended(ctx, 100, 200)

    with ctx.engine.connect() as conn:
        found = UsageReader().read(conn, (Queue("default", 2),), Limits(), MIDNIGHT_S)

    assert found is NOTHING_USED


def test_accounting_is_rebuilt_as_the_admin_guide_says(ctx: Context) -> None:
    ended(ctx, 0, 100)
    settle(ctx)
    before = sums(ctx)

    with ctx.transaction() as conn:
        conn.execute(
            text("LOCK TABLE accounting; DELETE FROM accounting; UPDATE jobs SET accounted = false WHERE accounted")
        )
    settle(ctx)

    assert sums(ctx) == before
