"""Leon: what becomes of the wish to kill a job."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.automata.almighty import Event as Outcome
from oarpy.model.states import JobId, JobState
from oarpy.modules import leon
from oarpy.modules.context import Context
from oarpy.settings import Settings
from tests.support import rows
from tests.support.invariants import broken
from tests.support.postgres import TestDatabase


@pytest.fixture
def ctx(database: TestDatabase) -> Context:
    return Context(database.engine, Settings())


def wish(conn: Connection, job_id: JobId, *, state: str = "LEON", cause: str = "killed", rounds: int = 0) -> None:
    conn.execute(
        text(
            "INSERT INTO frag_jobs (job_id, state, cause, asked_by, rounds) "
            "VALUES (:job, CAST(:state AS frag_state), CAST(:cause AS end_cause), 'alice', :rounds)"
        ),
        {"job": job_id, "state": state, "cause": cause, "rounds": rounds},
    )


def a_job(ctx: Context, state: JobState, **wished: Any) -> JobId:
    with ctx.engine.begin() as conn:
        rows.resources(conn, "c1")
        (job_id,) = rows.submitted(conn)
        rows.brought(conn, [job_id], state)
        wish(conn, job_id, **wished)
    return job_id


def one(ctx: Context, statement: str, job_id: JobId) -> tuple[Any, ...]:
    with ctx.engine.connect() as conn:
        row = conn.execute(text(statement), {"job": job_id}).first()
    return () if row is None else tuple(row)


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.HOLD, JobState.TO_LAUNCH])
def test_a_job_that_was_not_launched_ends_at_once_and_gives_back_what_it_held(ctx: Context, state: JobState) -> None:
    job_id = a_job(ctx, state)

    outcome = leon.turn(ctx)

    assert outcome is Outcome.JOBS_CHANGED
    assert one(ctx, "SELECT state, end_cause::text FROM jobs WHERE job_id = :job", job_id) == ("Error", "killed")
    assert one(ctx, "SELECT state FROM frag_jobs WHERE job_id = :job", job_id) == ("FRAGGED",)
    assert one(ctx, "SELECT 1 FROM allocations WHERE job_id = :job", job_id) == ()
    assert broken(ctx.engine) == []


def test_the_cause_of_the_wish_becomes_the_cause_of_the_end(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.TO_LAUNCH, cause="besteffort")

    leon.turn(ctx)

    assert one(ctx, "SELECT end_cause FROM jobs WHERE job_id = :job", job_id) == ("besteffort",)


@pytest.mark.parametrize("state", [JobState.LAUNCHING, JobState.RUNNING, JobState.SUSPENDED])
def test_a_launched_job_is_left_to_its_node_and_keeps_what_it_holds(ctx: Context, state: JobState) -> None:
    job_id = a_job(ctx, state)

    outcome = leon.turn(ctx)

    assert outcome is Outcome.NOTHING
    with ctx.engine.connect() as conn:
        assert rows.state_of(conn, job_id) is state
    order = "SELECT kind::text, attempt, exterminate FROM orders WHERE job_id = :job AND done_at IS NULL"
    assert one(ctx, order, job_id) == ("kill", 1, False)
    assert one(ctx, "SELECT upper_inf(held) FROM allocations WHERE job_id = :job", job_id) == (True,)
    timer = "SELECT state::text, rounds, deadline - armed_at = '320 s' FROM frag_jobs WHERE job_id = :job"
    assert one(ctx, timer, job_id) == ("TIMER_ARMED", 1, True)
    assert one(ctx, "SELECT type FROM events WHERE job_id = :job", job_id) == ("SEND_KILL_JOB",)


def test_a_kill_is_ordered_once_however_often_it_is_wished(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.RUNNING)
    leon.turn(ctx)
    with ctx.engine.begin() as conn:
        conn.execute(text("UPDATE frag_jobs SET state = 'LEON'"))

    leon.turn(ctx)

    assert one(ctx, "SELECT count(*) FROM orders WHERE job_id = :job", job_id) == (1,)
    assert one(ctx, "SELECT rounds FROM frag_jobs WHERE job_id = :job", job_id) == (2,)


def test_extermination_makes_an_order_that_was_begun_stronger(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.RUNNING)
    leon.turn(ctx)
    with ctx.engine.begin() as conn:
        conn.execute(text("UPDATE orders SET begun_at = now()"))
        conn.execute(text("UPDATE frag_jobs SET state = 'LEON_EXTERMINATE', rounds = 2"))

    leon.turn(ctx)

    order = "SELECT count(*), bool_and(exterminate), bool_and(begun_at IS NULL) FROM orders WHERE job_id = :job"
    assert one(ctx, order, job_id) == (1, True, True)
    events = "SELECT array_agg(type ORDER BY event_id) FROM events WHERE job_id = :job"
    assert one(ctx, events, job_id) == (["SEND_KILL_JOB", "EXTERMINATE_JOB"],)


def test_a_wish_for_a_job_that_is_over_is_closed(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.TERMINATED)

    leon.turn(ctx)

    assert one(ctx, "SELECT state FROM frag_jobs WHERE job_id = :job", job_id) == ("FRAGGED",)
    assert one(ctx, "SELECT state, end_cause::text FROM jobs WHERE job_id = :job", job_id) == ("Terminated", "exit")
    assert one(ctx, "SELECT 1 FROM orders WHERE job_id = :job", job_id) == ()


def test_a_job_that_is_ending_by_itself_needs_no_order(ctx: Context) -> None:
    job_id = a_job(ctx, JobState.FINISHING)

    leon.turn(ctx)

    assert one(ctx, "SELECT 1 FROM orders WHERE job_id = :job", job_id) == ()
    assert one(ctx, "SELECT state FROM frag_jobs WHERE job_id = :job", job_id) == ("TIMER_ARMED",)


def test_without_a_wish_nothing_is_written(ctx: Context) -> None:
    with ctx.engine.connect() as conn:
        before = conn.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")).scalar_one()

    outcome = leon.turn(ctx)

    with ctx.engine.connect() as conn:
        after = conn.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")).scalar_one()
    assert (outcome, after) == (Outcome.NOTHING, before)


def a_container(ctx: Context, state: JobState, inner: JobState) -> tuple[JobId, JobId]:
    """A container in ``state``, and a job inside it."""
    with ctx.engine.begin() as conn:
        rows.resources(conn, "c1")
        container, job = rows.submitted(conn, 2)
        rows.brought(conn, [container], state)
        rows.brought(conn, [job], inner, space=container)
    return container, job


def test_a_container_that_is_killed_takes_its_inner_jobs_along(ctx: Context) -> None:
    container, job = a_container(ctx, JobState.RUNNING, JobState.RUNNING)
    with ctx.engine.begin() as conn:
        wish(conn, container)

    leon.turn(ctx)

    assert one(ctx, "SELECT state, cause::text FROM frag_jobs WHERE job_id = :job", job) == ("TIMER_ARMED", "container")
    with ctx.engine.connect() as conn:
        orders = conn.execute(text("SELECT job_id, kind::text FROM orders ORDER BY job_id")).all()
    assert orders == [(container, "kill"), (job, "kill")]
    assert broken(ctx.engine) == []


def test_a_container_that_ends_by_itself_does_so_too(ctx: Context) -> None:
    _, job = a_container(ctx, JobState.FINISHING, JobState.TO_LAUNCH)

    outcome = leon.turn(ctx)

    assert outcome is Outcome.JOBS_CHANGED
    assert one(ctx, "SELECT state, end_cause::text FROM jobs WHERE job_id = :job", job) == ("Error", "container")


def test_containers_in_containers_go_together(ctx: Context) -> None:
    container, middle = a_container(ctx, JobState.RUNNING, JobState.RUNNING)
    with ctx.engine.begin() as conn:
        (job,) = rows.submitted(conn)
        rows.brought(conn, [job], JobState.RUNNING, space=middle)
        wish(conn, container)

    leon.turn(ctx)

    assert one(ctx, "SELECT cause::text FROM frag_jobs WHERE job_id = :job", job) == ("container",)


def test_while_its_container_goes_on_an_inner_job_is_left_alone(ctx: Context) -> None:
    a_container(ctx, JobState.RUNNING, JobState.RUNNING)

    leon.turn(ctx)

    with ctx.engine.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM frag_jobs")).scalar_one() == 0
