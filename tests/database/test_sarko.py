"""Sarko: what time alone brings about."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from oarpy.automata.almighty import Event as Outcome
from oarpy.model.states import JobId, JobState
from oarpy.model.terminals import CLIENT_LOCKS
from oarpy.modules import leon, sarko
from oarpy.modules.context import Context
from oarpy.settings import Nodes, Settings
from tests.support import rows
from tests.support.postgres import TestDatabase


@pytest.fixture
def ctx(database: TestDatabase) -> Context:
    return Context(database.engine, Settings())


def a_job(ctx: Context, state: JobState = JobState.RUNNING, **values: Any) -> JobId:
    with ctx.engine.begin() as conn:
        rows.resources(conn, "c1")
        (job_id,) = rows.submitted(conn)
        rows.brought(conn, [job_id], state, **values)
    return job_id


def column(ctx: Context, statement: str) -> list[Any]:
    with ctx.engine.connect() as conn:
        return list(conn.execute(text(statement)).scalars())


def change(ctx: Context, statement: str) -> None:
    with ctx.engine.begin() as conn:
        conn.execute(text(statement))


def test_a_job_whose_walltime_has_passed_is_to_be_killed_once(ctx: Context) -> None:
    a_job(ctx, planned_end_at=text("now() - interval '1 s'"))

    outcomes = [sarko.turn(ctx), sarko.turn(ctx)]

    assert outcomes == [Outcome.JOBS_TO_KILL, Outcome.NOTHING]
    assert column(ctx, "SELECT cause::text || ' ' || state FROM frag_jobs") == ["walltime LEON"]
    assert column(ctx, "SELECT type FROM events") == ["WALLTIME"]


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (JobState.RUNNING, {"planned_end_at": text("now() + interval '1 min'")}),
        # The time for which it was suspended does not count.
        (
            JobState.RUNNING,
            {"planned_end_at": text("now() - '1 min'::interval"), "suspended_for": timedelta(minutes=5)},
        ),
        (JobState.SUSPENDED, {"planned_end_at": text("now() - interval '1 min'")}),
        (JobState.FINISHING, {"planned_end_at": text("now() - interval '1 min'")}),
    ],
)
def test_no_other_job_is(ctx: Context, state: JobState, values: dict[str, Any]) -> None:
    a_job(ctx, state, **values)

    outcome = sarko.turn(ctx)

    assert outcome is Outcome.NOTHING
    assert column(ctx, "SELECT job_id FROM frag_jobs") == []


def test_a_checkpoint_is_ordered_once_when_the_end_is_near(ctx: Context) -> None:
    a_job(ctx, planned_end_at=text("now() + interval '50 s'"))
    change(ctx, "UPDATE job_requests SET checkpoint = '60 s', checkpoint_signal = 10")
    sarko.turn(ctx)
    change(ctx, "UPDATE orders SET done_at = now(), succeeded = true")

    sarko.turn(ctx)

    assert column(ctx, "SELECT kind || ' ' || signal FROM orders") == ["checkpoint 10"]
    assert column(ctx, "SELECT type FROM events") == ["CHECKPOINT"]


def test_a_checkpoint_that_the_owner_wanted_earlier_is_not_the_one_before_the_end(ctx: Context) -> None:
    job_id = a_job(ctx, planned_end_at=text("now() + interval '50 s'"))
    change(ctx, "UPDATE job_requests SET checkpoint = '60 s'")
    change(
        ctx,
        "INSERT INTO orders (kind, job_id, attempt, asked_at, deadline, done_at, succeeded) "
        f"VALUES ('checkpoint', {job_id}, 1, now() - interval '1 h', now(), now() - interval '1 h', true)",
    )

    sarko.turn(ctx)

    assert column(ctx, "SELECT count(*) FROM orders") == [2]


def test_no_checkpoint_is_ordered_while_there_is_time(ctx: Context) -> None:
    a_job(ctx, planned_end_at=text("now() + interval '70 s'"))
    change(ctx, "UPDATE job_requests SET checkpoint = '60 s'")

    sarko.turn(ctx)

    assert column(ctx, "SELECT order_id FROM orders") == []


def test_a_job_that_does_not_end_is_told_again_and_then_exterminated(ctx: Context) -> None:
    job_id = a_job(ctx)
    change(ctx, f"INSERT INTO frag_jobs (job_id, asked_by) VALUES ({job_id}, 'alice')")
    seen = []

    for passing in ("0 s", "21 s", "250 s", "51 s", "301 s"):
        change(ctx, f"UPDATE frag_jobs SET armed_at = armed_at - interval '{passing}'")
        sarko.turn(ctx)
        seen += column(ctx, "SELECT state FROM frag_jobs")
        leon.turn(ctx)

    assert seen == ["LEON", "LEON", "TIMER_ARMED", "LEON_EXTERMINATE", "LEON_EXTERMINATE"]


def test_a_job_that_only_waits_for_a_lost_host_is_not_told_again(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.FINISHING)
    change(
        ctx,
        "INSERT INTO frag_jobs (job_id, asked_by, state, armed_at)"
        f" VALUES ({job_id}, 'alice', 'TIMER_ARMED', now() - interval '1 day')",
    )

    sarko.turn(ctx)

    assert column(ctx, "SELECT state FROM frag_jobs") == ["TIMER_ARMED"]


def test_the_wish_is_closed_when_the_job_is_over(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.TERMINATED)
    change(ctx, f"INSERT INTO frag_jobs (job_id, asked_by, state) VALUES ({job_id}, 'alice', 'TIMER_ARMED')")

    sarko.turn(ctx)

    assert column(ctx, "SELECT state FROM frag_jobs") == ["FRAGGED"]


def test_long_suspected_resources_become_dead_and_free_nothing(ctx: Context) -> None:
    job_id = a_job(ctx)
    change(ctx, "UPDATE resources SET state = 'Suspected'")
    impatient = replace(ctx, settings=Settings(nodes=Nodes(suspected_to_dead=timedelta(0))))

    outcomes = [sarko.turn(ctx), sarko.turn(impatient)]

    assert outcomes == [Outcome.NOTHING, Outcome.JOBS_CHANGED]
    assert column(ctx, "SELECT state FROM resources") == ["Dead"]
    assert column(ctx, "SELECT job_id FROM allocations WHERE upper_inf(held)") == [job_id]
    with ctx.engine.connect() as conn:
        assert rows.state_of(conn, job_id) is JobState.RUNNING


def test_that_somebody_waits_for_a_terminal_is_written_when_it_changes(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.WAITING)
    change(ctx, f"INSERT INTO terminals (job_id) VALUES ({job_id})")
    state = "SELECT (unattended_since IS NULL)::text || ' ' || xmin FROM terminals"

    with ctx.engine.connect() as client:
        client.execute(text("SELECT pg_advisory_lock_shared(:lock)"), {"lock": CLIENT_LOCKS + job_id})
        seen = []
        for _ in range(2):
            sarko.turn(ctx)
            seen += column(ctx, state)
        client.execute(text("SELECT pg_advisory_unlock_all()"))
    missed = []
    for _ in range(2):
        sarko.turn(ctx)
        missed += column(ctx, state)

    assert [each.split()[0] for each in (*seen, *missed)] == ["true", "true", "false", "false"]
    assert len({*seen, *missed}) == 2


def test_a_job_that_waits_for_nobody_is_deleted_after_a_while(ctx: Context) -> None:
    left, fresh = a_job(ctx, JobState.WAITING), a_job(ctx, JobState.WAITING)
    change(ctx, f"INSERT INTO terminals (job_id) VALUES ({left}), ({fresh})")
    change(ctx, f"UPDATE terminals SET unattended_since = now() - interval '61 s' WHERE job_id = {left}")

    sarko.turn(ctx)

    assert column(ctx, "SELECT job_id FROM frag_jobs") == [left]
    assert column(ctx, "SELECT type FROM events") == ["CLIENT_GONE"]
