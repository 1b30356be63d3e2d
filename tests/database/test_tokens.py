"""Programs that count tokens, and the jobs that wait for what they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from oarpy.model.request import ResourceRequest
from oarpy.model.resource_grammar import request_to_json
from oarpy.model.states import JobId, JobState
from oarpy.modules import scheduler
from oarpy.modules.context import Context
from oarpy.modules.scheduler import Scheduler
from oarpy.modules.tokens import TokenCounters
from oarpy.settings import Settings, Tokens
from tests.support import invariants, rows
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until
from tests.unit.clusters import asks


@pytest.fixture
def ctx(database: TestDatabase, tmp_path: Path) -> Iterator[Context]:
    tell(tmp_path, "cat " + str(tmp_path / "free"))
    settings = Settings(tokens=Tokens({"fluent": f"/bin/sh {tmp_path / 'script'}"}, timeout=timedelta(seconds=5)))
    yield Context(database.engine, settings)
    assert invariants.broken(database.engine) == []


def tell(place: Path, script: str) -> None:
    (place / "script").write_text(script)


def with_period(ctx: Context, **durations: float) -> Context:
    changed = {name: timedelta(seconds=seconds) for name, seconds in durations.items()}
    return replace(ctx, settings=replace(ctx.settings, tokens=replace(ctx.settings.tokens, **changed)))


def counted(ctx: Context) -> None:
    counters = TokenCounters(ctx)
    counters.count({"fluent"})
    counters.wait()


def submitted(ctx: Context, *types: str) -> JobId:
    with ctx.transaction() as conn:
        rows.resources(conn, "h1")
        (job_id,) = rows.submitted(conn, types=types)
        one = json.dumps(request_to_json(ResourceRequest((asks("resource_id=1"),))))
        conn.execute(text("UPDATE job_requests SET request = CAST(:request AS jsonb)"), {"request": one})
    return job_id


def row(database: TestDatabase) -> tuple[object, ...]:
    return database.execute("SELECT free, problem FROM token_counts WHERE token = 'fluent'")[0]


def code(database: TestDatabase, job_id: JobId) -> object:
    found = database.execute("SELECT code FROM predictions WHERE job_id = %s", [job_id])
    return found[0][0] if found else None


def test_a_count_is_written_with_the_time_at_which_the_program_was_asked(
    ctx: Context, database: TestDatabase, tmp_path: Path
) -> None:
    tell(tmp_path, "sleep 0.3; echo 12")

    counted(ctx)

    assert row(database) == (12, None)
    assert database.execute("SELECT now() - counted_at >= '0.3 s' FROM token_counts") == [(True,)]


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("exit 4", "the script ended with status 4"),
        ("echo a few", "the script printed 'a few', which is not a number"),
        ("echo -3", "the script printed '-3', which is not a number"),
        (":", "the script printed '', which is not a number"),
    ],
)
def test_a_program_that_fails_is_told_of_once(
    ctx: Context, database: TestDatabase, tmp_path: Path, script: str, problem: str
) -> None:
    tell(tmp_path, script)

    counted(ctx)
    counted(ctx)

    assert row(database) == (None, problem)
    assert database.execute("SELECT type, description FROM events") == [("TOKEN_SCRIPT_FAILED", f"fluent: {problem}")]


def test_a_job_starts_when_its_tokens_are_counted(ctx: Context, database: TestDatabase, tmp_path: Path) -> None:
    (tmp_path / "free").write_text("2\n")
    job_id = submitted(ctx, "token:fluent=2")
    first = Scheduler(ctx)
    first.turn()
    assert code(database, job_id) == "TOKENS_NOT_COUNTED"
    wait_until(lambda: database.execute("SELECT 1 FROM token_counts"), what="they are counted")

    first.turn()

    assert database.execute("SELECT state::text FROM jobs") == [("toLaunch",)]


def test_a_job_that_needs_more_is_told_how_many_there_are(ctx: Context, database: TestDatabase, tmp_path: Path) -> None:
    (tmp_path / "free").write_text("1\n")
    job_id = submitted(ctx, "token:fluent=2")
    counted(ctx)

    scheduler.turn(ctx)

    assert database.execute("SELECT code, reason FROM predictions WHERE job_id = %s", [job_id]) == [
        ("TOKENS_TAKEN", "it needs 2 of the token fluent, and 1 are free")
    ]


def test_the_next_turn_is_wanted_when_they_are_to_be_counted_again(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "free").write_text("1\n")
    submitted(ctx, "token:fluent=2")
    running = Scheduler(with_period(ctx, period=7))

    running.turn()

    assert running.due_in_s is not None
    assert running.due_in_s <= 7


def test_a_program_that_hangs_delays_neither_the_turn_nor_other_jobs(
    ctx: Context, database: TestDatabase, tmp_path: Path
) -> None:
    tell(tmp_path, "sleep 1000")
    waiting = submitted(ctx, "token:fluent=1")
    other = submitted(ctx)

    scheduler.turn(with_period(ctx, timeout=5))

    # Nobody has waited for the program: nothing is known of it yet.
    assert database.execute("SELECT count(*) FROM token_counts") == [(0,)]
    assert code(database, waiting) == "TOKENS_NOT_COUNTED"
    assert database.execute("SELECT state::text FROM jobs WHERE job_id = %s", [other]) == [("toLaunch",)]
    wait_until(
        lambda: database.execute("SELECT problem FROM token_counts") == [("the script took more than 5 s",)],
        what="it is killed",
    )


def test_an_old_count_is_not_believed(ctx: Context, database: TestDatabase) -> None:
    job_id = submitted(ctx, "token:matlab=1")
    database.execute(
        "INSERT INTO token_counts (token, free, counted_at) VALUES ('matlab', 5, now() - '2 min'::interval)"
    )

    scheduler.turn(ctx)

    assert code(database, job_id) == "TOKENS_NOT_COUNTED"


def test_a_job_that_has_just_started_holds_its_tokens_before_the_program_sees_it(
    ctx: Context, database: TestDatabase, tmp_path: Path
) -> None:
    (tmp_path / "free").write_text("3\n")
    first = submitted(ctx, "token:fluent=2")
    with ctx.transaction() as conn:
        rows.brought(conn, [first], JobState.RUNNING)
    counted(ctx)
    second = submitted(ctx, "token:fluent=2")

    scheduler.turn(ctx)

    assert code(database, second) == "TOKENS_TAKEN"


def test_without_jobs_that_need_tokens_no_program_runs(ctx: Context, database: TestDatabase, tmp_path: Path) -> None:
    tell(tmp_path, f"touch {tmp_path / 'ran'}; echo 1")
    submitted(ctx)

    scheduler.turn(ctx)

    assert not (tmp_path / "ran").exists()
    assert database.execute("SELECT count(*) FROM token_counts") == [(0,)]


def test_a_program_that_runs_longer_than_its_period_is_looked_after(ctx: Context, tmp_path: Path) -> None:
    tell(tmp_path, "sleep 1000")
    counters = TokenCounters(with_period(ctx, period=0, timeout=5))
    counters.count({"fluent"})

    again = counters.count({"fluent"})

    assert again is not None
    assert 0 < again <= 5
    counters.wait()
