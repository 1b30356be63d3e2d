"""With a crowd waiting, jobs that come behind all others are placed over the last plan, and over nothing stale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from oarpy.automata.job import JobEvent
from oarpy.database import jobs
from oarpy.database.snapshot import SnapshotReader
from oarpy.model.states import JobId, JobState
from oarpy.modules import pace, scheduler
from oarpy.modules.context import Context
from oarpy.modules.plan_writing import Written
from oarpy.modules.scheduler import Scheduler
from oarpy.settings import Scheduler as SchedulerSettings
from oarpy.settings import Settings
from tests.database.test_scheduler_pass import submit, with_hosts
from tests.support import invariants
from tests.support.postgres import TestDatabase
from tests.support.rows import brought

HOUR = timedelta(hours=1)


class Reads:
    """How often all that waits was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.whole = 0
        read = SnapshotReader.read

        def counted(reader: SnapshotReader, *arguments: object) -> object:
            self.whole += 1
            return read(reader, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(SnapshotReader, "read", counted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def ctx(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    monkeypatch.setattr(pace, "CROWD", 2)
    # Nothing becomes due while a test lasts.
    settings = Settings(scheduler=SchedulerSettings(period=HOUR, predictions_interval=HOUR))
    ctx = Context(database.engine, settings)
    with_hosts(ctx, 1, 2)
    yield ctx
    assert invariants.broken(database.engine) == []


def crowd(ctx: Context) -> tuple[Scheduler, Sequence[JobId]]:
    """A scheduler that has planned for three jobs behind one that runs."""
    (running,) = submit(ctx, "resource_id=1")
    with ctx.transaction() as conn:
        brought(conn, [running], JobState.RUNNING, holds="{[1,3)}")
    waiting = submit(ctx, "resource_id=2", count=3)
    passes = Scheduler(ctx)
    passes.turn()
    return passes, waiting


def told(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.execute(
        "SELECT job_id, start_at, alternative, resources::text, code, numbers, reason FROM predictions ORDER BY job_id"
    )


def test_a_job_that_comes_last_is_told_what_the_whole_pass_tells(
    ctx: Context, database: TestDatabase, reads: Reads
) -> None:
    passes, _ = crowd(ctx)
    (first,) = submit(ctx, "resource_id=1")
    passes.turn()
    submit(ctx, "resource_id=1", count=2)
    passes.turn()
    carried_on, whole = told(database), reads.whole

    database.execute("DELETE FROM predictions WHERE job_id >= %s", [first])
    Scheduler(ctx).turn()

    assert whole == 1
    assert len(carried_on) == 6
    assert told(database) == carried_on


def test_a_job_that_comes_last_and_fits_now_starts(ctx: Context, database: TestDatabase, reads: Reads) -> None:
    passes, _ = crowd(ctx)
    with_hosts(ctx, 1, 1)
    passes.turn()
    passes.turn()
    before = reads.whole
    (job,) = submit(ctx, "resource_id=1", walltime_s=60)

    passes.turn()

    assert reads.whole == before
    assert database.execute("SELECT state::text FROM jobs WHERE job_id = %s", [job]) == [("toLaunch",)]


def test_a_turn_before_which_nothing_has_changed_reads_and_writes_little(
    ctx: Context, database: TestDatabase, reads: Reads
) -> None:
    passes, _ = crowd(ctx)
    written = database.execute("SELECT job_id, xmin::text FROM predictions")

    passes.turn()

    assert reads.whole == 1
    assert database.execute("SELECT job_id, xmin::text FROM predictions") == written


@pytest.mark.parametrize(
    "changed",
    [
        "UPDATE jobs SET queue_name = 'besteffort' WHERE job_id = {waiting}",
        "UPDATE jobs SET not_before = now() + interval '1 h' WHERE job_id = {waiting}",
        "UPDATE jobs SET state = 'Hold' WHERE job_id = {waiting}",
        "INSERT INTO job_dependencies (job_id, job_id_required) VALUES ({waiting}, {running})",
        "UPDATE jobs SET planned_end_at = planned_end_at - interval '10 min' WHERE job_id = {running}",
        "UPDATE queues SET state = 'notActive' WHERE queue_name = 'default'",
        "UPDATE resources SET state = 'Dead' WHERE resource_id = 2",
        "INSERT INTO resources (network_address) VALUES ('h9')",
        "INSERT INTO frag_jobs (job_id, cause, asked_by) VALUES ({running}, 'killed', 'bob')",
        "INSERT INTO walltime_changes (job_id, pending, asked_by, expires_at) "
        "VALUES ({running}, '1 h', 'alice', now() + interval '1 h')",
    ],
)
def test_what_anybody_changes_in_the_tables_is_seen_though_a_job_came_last(
    ctx: Context, database: TestDatabase, reads: Reads, changed: str
) -> None:
    passes, waiting = crowd(ctx)
    database.execute(changed.format(waiting=waiting[1], running=waiting[0] - 1))
    submit(ctx, "resource_id=1")

    passes.turn()

    assert reads.whole > 1


def test_a_job_with_a_smaller_number_that_comes_later_is_seen(
    ctx: Context, database: TestDatabase, reads: Reads
) -> None:
    (skipped,) = database.execute("SELECT nextval('job_ids')")[0]
    passes, waiting = crowd(ctx)
    columns = "array_id, array_index, job_request_id, job_user, queue_name, command, launching_directory, stdout_file"
    database.execute(
        f"INSERT INTO jobs (job_id, {columns}, stderr_file) SELECT %s, {columns}, stderr_file FROM jobs "
        "WHERE job_id = %s",
        [skipped, waiting[0] - 1],
    )

    passes.turn()

    assert reads.whole == 2


def test_jobs_of_which_nothing_could_be_written_are_owed_a_prediction(
    ctx: Context, database: TestDatabase, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, _ = crowd(ctx)
    (job,) = submit(ctx, "resource_id=1")

    def refused(*_: object, **__: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(scheduler, "write", refused)
        with pytest.raises(ConnectionError):
            passes.turn()
    passes.turn()

    assert reads.whole == 2
    assert passes.due_in_s is not None
    assert database.execute("SELECT count(*) FROM predictions WHERE job_id = %s", [job]) == [(0,)]


def test_what_is_due_comes_right_after_the_job_that_came_last(ctx: Context, reads: Reads) -> None:
    always = replace(Settings(), scheduler=SchedulerSettings(period=timedelta(0), predictions_interval=HOUR))
    passes, _ = crowd(replace(ctx, settings=always))
    submit(ctx, "resource_id=1")

    passes.turn()
    first = reads.whole, passes.due_in_s
    submit(ctx, "resource_id=1")
    passes.turn()

    assert first == (1, 0.0)
    assert reads.whole == 2


def test_a_job_that_ends_ends_the_plan_it_was_in(ctx: Context, database: TestDatabase, reads: Reads) -> None:
    passes, waiting = crowd(ctx)
    with ctx.transaction() as conn:
        jobs.transition(conn, [JobId(waiting[0] - 1)], JobEvent.ENDED)
    submit(ctx, "resource_id=1")

    passes.turn()

    assert reads.whole == 2


@pytest.mark.parametrize("carried_on", [False, True])
def test_what_a_pass_decided_and_could_not_write_is_decided_again(
    ctx: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch, carried_on: bool
) -> None:
    passes, _ = crowd(ctx)
    with_hosts(ctx, 1, 1)
    if carried_on:
        passes.turn()
        passes.turn()
    (job,) = submit(ctx, "resource_id=1", walltime_s=60)
    written = scheduler.write

    def goes_away(*arguments: object, **named: object) -> Written:
        monkeypatch.setattr(scheduler, "write", written)
        raise ConnectionError

    monkeypatch.setattr(scheduler, "write", goes_away)
    with pytest.raises(ConnectionError):
        passes.turn()
    passes.turn()

    assert database.execute("SELECT state::text FROM jobs WHERE job_id = %s", [job]) == [("toLaunch",)]
