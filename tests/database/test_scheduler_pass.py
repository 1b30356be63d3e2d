"""The scheduler on real tables: what it writes, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from oarpy.automata.almighty import Event as Outcome
from oarpy.automata.job import JobEvent
from oarpy.database import jobs, selections
from oarpy.database import snapshot as snapshots
from oarpy.model.request import Alternative, ResourceRequest
from oarpy.model.resource_grammar import request_to_json
from oarpy.model.states import JobId, JobState
from oarpy.modules import leon, node_change_state, pace, sarko, scheduler
from oarpy.modules.context import Context
from oarpy.modules.scheduler import Scheduler
from oarpy.scheduling.demand import GroupDemand
from oarpy.scheduling.snapshot import Limits
from oarpy.settings import Scheduler as SchedulerSettings
from oarpy.settings import Settings
from tests.support import invariants, rows
from tests.support.postgres import TestDatabase
from tests.support.requests import answered
from tests.unit.clusters import asks


@pytest.fixture
def ctx(database: TestDatabase) -> Iterator[Context]:
    yield Context(database.engine, Settings())
    assert invariants.broken(database.engine) == []


def with_hosts(ctx: Context, hosts: int, cores: int) -> list[int]:
    with ctx.transaction() as conn:
        return [i for host in range(1, hosts + 1) for i in rows.resources(conn, f"h{host}", cores)]


def submit(
    ctx: Context,
    request: str | Sequence[Alternative] = "resource_id=1",
    count: int = 1,
    walltime_s: int = 3600,
    **others: Any,
) -> list[JobId]:
    alternatives = (asks(request, walltime_s),) if isinstance(request, str) else tuple(request)
    document = request_to_json(ResourceRequest(alternatives))
    with ctx.transaction() as conn:
        ids = rows.submitted(conn, count, **others)
        conn.execute(
            text(
                "UPDATE job_requests SET request = CAST(:request AS jsonb) "
                "WHERE job_request_id = (SELECT job_request_id FROM jobs WHERE job_id = :job)"
            ),
            {"request": json.dumps(document), "job": ids[0]},
        )
    return ids


def state(database: TestDatabase, job_id: JobId) -> str:
    return str(database.execute("SELECT state FROM jobs WHERE job_id = %s", [job_id])[0][0])


def predictions(database: TestDatabase) -> dict[object, tuple[object, ...]]:
    found = database.execute("SELECT job_id, code, start_at IS NOT NULL, reason FROM predictions ORDER BY job_id")
    return {job_id: columns for job_id, *columns in map(tuple, found)}  # type: ignore[misc]


def test_a_job_gets_its_resources_and_the_runner_is_told(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 4)
    (job,) = submit(ctx, "network_address=1/resource_id=2", walltime_s=600)

    outcome = scheduler.turn(ctx)

    assert outcome is Outcome.NOTHING
    held = database.execute(
        "SELECT state::text, walltime, planned_end_at - lower(held), alternative, resources::text, upper_inf(held), "
        "share FROM jobs JOIN allocations USING (job_id, attempt)"
    )
    assert held == [("toLaunch", timedelta(minutes=10), timedelta(minutes=10), 0, "{[1,3)}", True, job)]


def message(database: TestDatabase, job_id: JobId) -> object:
    return database.execute("SELECT message FROM jobs WHERE job_id = %s", [job_id])[0][0]


def test_the_message_of_a_moldable_job_tells_of_the_alternative_that_was_chosen(
    ctx: Context, database: TestDatabase
) -> None:
    with_hosts(ctx, 1, 4)
    chosen, odd = (submit(ctx, [asks("resource_id=9", 7200), asks("resource_id=2", 90)])[0] for _ in range(2))
    (waiting,) = submit(ctx, [asks("resource_id=9", 7200), asks("resource_id=4", 90)])
    said = "R=9,W=2:0:0,J=B,N=R=9,W=2:0:0 (Karma=0.1)"
    database.execute("UPDATE jobs SET message = %s", [said])
    database.execute("UPDATE jobs SET message = 'of a rule' WHERE job_id = %s", [odd])

    scheduler.turn(ctx)

    assert [state(database, one) for one in (chosen, odd, waiting)] == ["toLaunch", "toLaunch", "Waiting"]
    assert message(database, chosen) == "R=2,W=0:1:30,J=B,N=R=9,W=2:0:0 (Karma=0.1)"
    assert message(database, odd) == "of a rule"
    assert message(database, waiting) == said


def test_jobs_of_different_walltimes_start_with_as_many_statements_as_equal_ones(
    ctx: Context, database: TestDatabase
) -> None:
    with_hosts(ctx, 1, 4)
    starting = [submit(ctx, walltime_s=walltime_s)[0] for walltime_s in (60, 600, 6000, 6 * 86_400)]
    said: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda _c, _cursor, said_now, *_: said.append(said_now))

    scheduler.turn(ctx)

    given = database.execute("SELECT job_id, extract(epoch FROM walltime)::int FROM jobs WHERE state = 'toLaunch'")
    assert sorted(given) == list(zip(starting, (60, 600, 6000, 6 * 86_400), strict=True))
    assert len([one for one in said if "UPDATE jobs SET" in one]) == 1


def test_a_job_that_waits_is_told_when_and_why(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    _, second = submit(ctx, count=2)

    scheduler.turn(ctx)

    assert predictions(database)[second] == [
        "BUSY",
        True,
        "0 of the 1 resources that it may use are free now; waiting jobs before it: 0; job 1 must end first",
    ]


def logged(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.execute("SELECT job_id, kind::text FROM prediction_log ORDER BY said_at, job_id")


def test_the_first_prediction_of_a_job_is_told_when_it_is_there_at_the_submission(
    ctx: Context, database: TestDatabase
) -> None:
    with_hosts(ctx, 1, 1)
    running, late, prompt = submit(ctx, count=3)
    database.execute(
        "UPDATE jobs SET submitted_at = now() - interval '1 min' WHERE job_id = ANY(%s)", [[running, late]]
    )

    scheduler.turn(ctx)

    assert logged(database) == [(late, "first"), (prompt, "told")]


def test_a_prediction_that_does_not_change_is_logged_once_an_hour(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    _, waiting = submit(ctx, count=2)
    scheduler.turn(ctx)
    database.execute("UPDATE prediction_log SET said_at = now() - interval '61 min'")

    for _ in range(2):
        scheduler.turn(ctx)

    assert logged(database) == [(waiting, "told"), (waiting, "hourly")]


def test_a_turn_that_finds_nothing_new_writes_nothing(ctx: Context, database: TestDatabase) -> None:
    # On a fine grid the plan moves once when the job that started is seen a moment later.
    settings = Settings(scheduler=SchedulerSettings(grid=timedelta(hours=12)))
    with_hosts(ctx, 1, 1)
    submit(ctx, count=3)
    running = Scheduler(replace(ctx, settings=settings))
    running.turn()
    before = database.execute("SELECT ctid::text, xmin::text FROM predictions ORDER BY job_id")

    running.turn()

    assert database.execute("SELECT ctid::text, xmin::text FROM predictions ORDER BY job_id") == before


def test_the_prediction_of_a_started_job_goes(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    first, second = submit(ctx, count=2)
    running = Scheduler(ctx)
    running.turn()
    with ctx.transaction() as conn:
        conn.execute(text("UPDATE jobs SET state = 'Error', stopped_at = now() WHERE job_id = :job"), {"job": first})
        conn.execute(text("UPDATE allocations SET held = tstzrange(lower(held), now(), '[]')"))

    running.turn()

    assert state(database, second) == "toLaunch"
    assert predictions(database) == {}


def test_what_the_database_refuses_goes_on_waiting_and_harms_no_other(
    ctx: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(ctx, 1, 3)
    (blocker,) = submit(ctx, types=["noop"])
    first, second = submit(ctx, count=2)
    read = snapshots.SnapshotReader.read

    def outdated(self: snapshots.SnapshotReader, conn: Any, limits: Limits) -> snapshots.Reading:
        reading = read(self, conn, limits)
        with ctx.transaction() as other:
            rows.brought(other, [blocker], JobState.TO_LAUNCH, holds="{[1,2)}")
        waiting = tuple(job for job in reading.snapshot.waiting if job.job_id != blocker)
        return reading._replace(snapshot=replace(reading.snapshot, waiting=waiting))

    monkeypatch.setattr(snapshots.SnapshotReader, "read", outdated)
    running = Scheduler(ctx)

    running.turn()

    assert (state(database, first), state(database, second)) == ("Waiting", "toLaunch")
    assert running.due_in_s == scheduler.REFUSED_S


def test_a_job_that_waits_no_longer_is_left_alone(
    ctx: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(ctx, 1, 2)
    held, other = submit(ctx, count=2)
    read = snapshots.SnapshotReader.read

    def outdated(self: snapshots.SnapshotReader, conn: Any, limits: Limits) -> snapshots.Reading:
        reading = read(self, conn, limits)
        with ctx.transaction() as another:
            rows.brought(another, [held], JobState.HOLD)
        return reading

    monkeypatch.setattr(snapshots.SnapshotReader, "read", outdated)

    scheduler.turn(ctx)

    assert (state(database, held), state(database, other)) == ("Hold", "toLaunch")


def test_a_plan_on_resources_that_have_changed_is_made_again(
    ctx: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(ctx, 2, 1)
    (job,) = submit(ctx)
    read = snapshots.SnapshotReader.read
    changes = ["UPDATE resources SET state = 'Absent' WHERE resource_id = 1"]

    def outdated(self: snapshots.SnapshotReader, conn: Any, limits: Limits) -> snapshots.Reading:
        reading = read(self, conn, limits)
        while changes:
            database.execute(changes.pop())
        return reading

    monkeypatch.setattr(snapshots.SnapshotReader, "read", outdated)

    scheduler.turn(ctx)

    assert database.execute("SELECT job_id, resources::text FROM allocations") == [(job, "{[2,3)}")]


def test_a_besteffort_job_is_told_to_go_once(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    (modest,) = submit(ctx, queue="besteffort", types=["besteffort"])
    with ctx.transaction() as conn:
        rows.brought(conn, [modest], JobState.RUNNING)
    (normal,) = submit(ctx)
    running = Scheduler(ctx)

    outcomes = [running.turn(), running.turn()]

    assert outcomes == [Outcome.JOBS_TO_KILL, Outcome.NOTHING]
    assert database.execute("SELECT job_id, cause::text, for_job FROM frag_jobs") == [(modest, "besteffort", normal)]
    # A minute that begins between the turns puts the planned start off, which is told, too.
    told = database.execute("SELECT type, job_id FROM events WHERE type <> 'SCHEDULER_START_PUT_OFF'")
    assert told == [("BESTEFFORT_KILL", modest)]
    assert state(database, normal) == "Waiting"
    assert predictions(database)[normal][0] == "KILLING"


def test_a_job_whose_dependency_failed_ends_with_its_reason(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 2)
    (required,) = submit(ctx)
    with ctx.transaction() as conn:
        rows.brought(conn, [required], JobState.ERROR, exit_code=256)
    (follower,) = submit(ctx)
    database.execute("INSERT INTO job_dependencies VALUES (%s, %s, 'afterok')", [follower, required])

    outcome = scheduler.turn(ctx)

    assert outcome is Outcome.JOBS_CHANGED
    assert database.execute("SELECT state::text, end_cause::text, message FROM jobs WHERE job_id = %s", [follower]) == [
        ("Error", "dependency", f"job {required}, which had to succeed, did not")
    ]


def test_a_job_after_a_running_one_is_planned_for_its_end(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 2)
    (required,) = submit(ctx)
    with ctx.transaction() as conn:
        rows.brought(conn, [required], JobState.RUNNING)
    (follower,) = submit(ctx)
    database.execute("INSERT INTO job_dependencies VALUES (%s, %s, 'afterany')", [follower, required])

    scheduler.turn(ctx)

    assert predictions(database)[follower][:2] == ["AFTER_JOB", True]


def test_a_request_that_cannot_be_read_is_set_aside_and_harms_no_other(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 2)
    (broken,) = submit(ctx)
    (whole,) = submit(ctx)
    database.execute(
        "UPDATE job_requests SET request = '{}' "
        "WHERE job_request_id = (SELECT job_request_id FROM jobs WHERE job_id = %s)",
        [broken],
    )
    running = Scheduler(ctx)

    running.turn()
    running.turn()

    assert (state(database, broken), state(database, whole)) == ("Waiting", "toLaunch")
    assert database.execute("SELECT type, job_id FROM events") == [("SCHEDULER_JOB_SET_ASIDE", broken)]
    assert predictions(database)[broken][0] == "SET_ASIDE"


def test_a_job_on_which_deciding_fails_is_reported_with_the_traceback(
    ctx: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(ctx, 1, 4)
    (bad,) = submit(ctx, "resource_id=2")
    (good,) = submit(ctx, "resource_id=1")
    take = GroupDemand.take

    def failing(self: GroupDemand, bits: int) -> int | None:
        if self.levels[0].count == 2:
            raise RuntimeError("no idea")
        return take(self, bits)

    monkeypatch.setattr(GroupDemand, "take", failing)

    scheduler.turn(ctx)

    assert (state(database, bad), state(database, good)) == ("Waiting", "toLaunch")
    ((description,),) = database.execute("SELECT description FROM events WHERE job_id = %s", [bad])
    assert "RuntimeError: no idea" in str(description)


def test_a_stopped_queue_starts_nothing(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    (job,) = submit(ctx)
    database.execute("UPDATE queues SET state = 'notActive' WHERE queue_name = 'default'")

    scheduler.turn(ctx)

    assert predictions(database) == {job: ["QUEUE_STOPPED", False, "its queue default is not active"]}


def test_a_crowd_is_predicted_for_only_now_and_then(ctx: Context, database: TestDatabase) -> None:
    settings = Settings(scheduler=SchedulerSettings(predictions_interval=timedelta(hours=1)))
    with_hosts(ctx, 1, 2)
    submit(ctx, count=pace.CROWD + 3)
    running = Scheduler(replace(ctx, settings=settings))
    running.turn()
    database.execute("DELETE FROM predictions")
    (late,) = submit(ctx)

    running.turn()

    assert predictions(database) == {}
    assert running.due_in_s is not None
    assert late


def test_under_overload_a_job_keeps_what_was_said_of_it(ctx: Context, database: TestDatabase) -> None:
    settings = Settings(scheduler=SchedulerSettings(plan_first=1, predictions_interval=timedelta(0)))
    with_hosts(ctx, 1, 1)
    submit(ctx, count=4)
    running = Scheduler(replace(ctx, settings=settings))
    running.turn()
    before = predictions(database)

    running.turn()

    assert predictions(database) == before
    assert {code for code, *_ in before.values()} == {"BUSY"}


def test_a_job_that_was_to_have_started_by_now_ends_with_its_reason(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    (late,) = submit(ctx)
    database.execute("UPDATE jobs SET expires_at = now() - interval '2 s' WHERE job_id = %s", [late])

    scheduler.turn(ctx)

    ((ended, cause, message),) = database.execute("SELECT state::text, end_cause::text, message FROM jobs")
    assert (ended, cause) == ("Error", "expired")
    assert str(message).startswith("it had not started by ")


def test_the_next_turn_is_wanted_when_a_job_expires(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    _, waiting = submit(ctx, count=2)
    database.execute("UPDATE jobs SET expires_at = now() + interval '100 s' WHERE job_id = %s", [waiting])
    running = Scheduler(ctx)

    running.turn()

    assert running.due_in_s is not None
    assert 40 <= running.due_in_s <= 102


def with_a_guest(ctx: Context, database: TestDatabase, checkpoint: str | None) -> JobId:
    """A running besteffort job that wants to be told so long before it is killed."""
    with_hosts(ctx, 1, 1)
    (guest,) = submit(ctx, queue="besteffort", types=["besteffort", "idempotent"])
    database.execute("UPDATE job_requests SET checkpoint = %s, checkpoint_signal = 10", [checkpoint])
    with ctx.transaction() as conn:
        rows.brought(conn, [guest], JobState.RUNNING)
    return guest


def test_a_besteffort_job_is_told_to_save_its_work_and_killed_later(ctx: Context, database: TestDatabase) -> None:
    guest = with_a_guest(ctx, database, "100 s")
    submit(ctx)

    scheduler.turn(ctx)
    leon.turn(ctx)
    sarko.turn(ctx)

    assert database.execute("SELECT state::text, due_at - asked_at FROM frag_jobs") == [
        ("LEON", timedelta(seconds=100))
    ]
    assert database.execute("SELECT kind::text, job_id, signal FROM orders") == [("checkpoint", guest, 10)]
    assert database.execute("SELECT type FROM events ORDER BY event_id") == [("BESTEFFORT_KILL",), ("CHECKPOINT",)]


def test_when_its_time_is_over_it_is_killed(ctx: Context, database: TestDatabase) -> None:
    with_a_guest(ctx, database, "100 s")
    submit(ctx)
    scheduler.turn(ctx)
    database.execute("UPDATE frag_jobs SET asked_at = asked_at - interval '2 min', due_at = due_at - interval '2 min'")

    outcomes = sarko.turn(ctx), leon.turn(ctx)

    assert outcomes[0] is Outcome.JOBS_TO_KILL
    assert database.execute("SELECT state::text FROM frag_jobs") == [("TIMER_ARMED",)]
    assert ("kill",) in database.execute("SELECT kind::text FROM orders")


def test_it_lives_when_the_job_is_gone_for_which_it_saves_its_work(ctx: Context, database: TestDatabase) -> None:
    guest = with_a_guest(ctx, database, "100 s")
    (owner,) = submit(ctx)
    passes = Scheduler(ctx)
    passes.turn()
    with ctx.transaction() as conn:
        jobs.transition(conn, [owner], JobEvent.KILLED, values={"end_cause": "killed"})

    passes.turn()

    assert database.execute("SELECT job_id FROM frag_jobs") == []
    assert ("BESTEFFORT_KILL_WITHDRAWN", guest, f"job {owner} is gone") in database.execute(
        "SELECT type, job_id, description FROM events"
    )


@pytest.mark.parametrize("held", [False, True])
def test_it_does_not_while_that_job_waits(ctx: Context, database: TestDatabase, held: bool) -> None:
    guest = with_a_guest(ctx, database, "100 s")
    (owner,) = submit(ctx)
    scheduler.turn(ctx)
    if held:
        with ctx.transaction() as conn:
            rows.brought(conn, [owner], JobState.HOLD)

    scheduler.turn(ctx)

    assert database.execute("SELECT job_id, for_job FROM frag_jobs") == [(guest, owner)]


def test_it_does_not_when_its_time_is_over(ctx: Context, database: TestDatabase) -> None:
    guest = with_a_guest(ctx, database, "100 s")
    (owner,) = submit(ctx)
    scheduler.turn(ctx)
    database.execute("UPDATE frag_jobs SET asked_at = asked_at - interval '2 min', due_at = due_at - interval '2 min'")
    with ctx.transaction() as conn:
        jobs.transition(conn, [owner], JobEvent.KILLED, values={"end_cause": "killed"})

    scheduler.turn(ctx)

    assert database.execute("SELECT job_id FROM frag_jobs") == [(guest,)]


def test_its_owner_need_not_wait_for_that(ctx: Context, database: TestDatabase) -> None:
    guest = with_a_guest(ctx, database, "100 s")
    submit(ctx)
    scheduler.turn(ctx)

    with ctx.transaction() as conn:
        wished = selections.wish_dead(conn, [guest], "alice")
        again = selections.wish_dead(conn, [guest], "alice")

    assert (wished, again) == ({guest}, set())
    assert database.execute("SELECT cause::text, due_at <= now() FROM frag_jobs") == [("killed", True)]


@pytest.mark.parametrize(("status", "copies"), [(99 * 256, 1), (0, 0)])
def test_a_guest_that_saved_its_work_is_submitted_again_if_it_asks_for_it(
    ctx: Context, database: TestDatabase, status: int, copies: int
) -> None:
    guest = with_a_guest(ctx, database, "100 s")
    submit(ctx)
    scheduler.turn(ctx)
    with ctx.transaction() as conn:
        rows.ended(conn, [guest])
        rows.closed(conn, [guest], exit_code=status)

    for _ in range(2):
        node_change_state.turn(ctx)

    assert database.execute("SELECT count(*) FROM jobs WHERE resubmit_job_id = %s", [guest]) == [(copies,)]


def running_container(ctx: Context, database: TestDatabase, cores: int, **others: Any) -> JobId:
    (container,) = submit(ctx, f"resource_id={cores}", types=["container", "noop"], **others)
    scheduler.turn(ctx)
    with ctx.transaction() as conn:
        for step in (JobEvent.LAUNCH_BEGUN, JobEvent.STARTED):
            jobs.transition(conn, [container], step, values={"started_at": text("now()")})
    return container


def test_inner_jobs_are_allocated_inside_their_container(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 4)
    container = running_container(ctx, database, 2)
    first, second = submit(ctx, "resource_id=2", 2, walltime_s=600, types=[f"inner={container}"])
    (outside,) = submit(ctx, "resource_id=2", walltime_s=600)

    scheduler.turn(ctx)

    held = database.execute("SELECT job_id, space, resources::text FROM allocations ORDER BY job_id")
    assert held == [(container, 0, "{[1,3)}"), (first, container, "{[1,3)}"), (outside, 0, "{[3,5)}")]
    assert state(database, second) == "Waiting"


def test_an_inner_job_is_not_let_into_a_container_that_has_ended_meanwhile(
    ctx: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(ctx, 1, 4)
    container = running_container(ctx, database, 2)
    (inner,) = submit(ctx, walltime_s=600, types=[f"inner={container}"])
    (other,) = submit(ctx, walltime_s=600)
    decide = scheduler.decide

    def late(*args: Any, **others: Any) -> Any:
        with ctx.transaction() as conn:
            rows.ended(conn, [container])
            rows.closed(conn, [container])
        return decide(*args, **others)

    monkeypatch.setattr(scheduler, "decide", late)

    scheduler.turn(ctx)

    assert (state(database, inner), state(database, other)) == ("Waiting", "toLaunch")


def test_an_inner_job_whose_container_is_over_ends_with_that_cause(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 4)
    container = running_container(ctx, database, 2)
    held, gone = submit(ctx, types=["container"]), submit(ctx, types=["inner=999999"])
    with ctx.transaction() as conn:
        jobs.transition(conn, held, JobEvent.HELD)
        rows.ended(conn, [container])
        rows.closed(conn, [container])
    (inner,) = submit(ctx, types=[f"inner={container}"])
    (patient,) = submit(ctx, types=[f"inner={held[0]}"])

    scheduler.turn(ctx)

    ends = database.execute("SELECT job_id, end_cause FROM jobs WHERE state = 'Error' ORDER BY job_id")
    assert ends == [(gone[0], "container"), (inner, "container")]
    assert predictions(database)[patient][0] == "CONTAINER_PENDING"


def test_jobs_that_share_have_one_number_and_others_their_own(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    mine = submit(ctx, count=2, types=["timesharing=user,*"])
    (other,) = submit(ctx, types=["timesharing=user,*"], owner="bob")

    scheduler.turn(ctx)

    held = database.execute("SELECT job_id, share < 0, placeholder, kin FROM allocations ORDER BY job_id")
    assert held == [(mine[0], True, None, None), (mine[1], True, None, None)]
    assert database.execute("SELECT count(DISTINCT share) FROM allocations") == [(1,)]
    assert state(database, other) == "Waiting"


def test_a_placeholder_and_who_is_allowed_in_it_are_written_as_such(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 3)
    (keeper,) = submit(ctx, "resource_id=2", types=["placeholder=p"])
    (guest,) = submit(ctx, "resource_id=3", types=["allowed=p"])
    (other,) = submit(ctx, types=["allowed=q"])

    scheduler.turn(ctx)

    held = database.execute(
        "SELECT job_id, resources::text, placeholder, kin = job_id FROM allocations ORDER BY job_id"
    )
    assert held == [(keeper, "{[1,3)}", True, True), (guest, "{[1,4)}", False, True)]
    assert state(database, other) == "Waiting"


def resting(ctx: Context, cores: int) -> JobId:
    """A job that is to go on and has lent what it holds."""
    (job,) = submit(ctx, f"resource_id={cores}")
    with ctx.transaction() as conn:
        rows.brought(conn, [job], JobState.SUSPENDED, holds=f"{{[1,{cores + 1})}}")
        conn.execute(text("UPDATE allocations SET suspended = true WHERE job_id = :job"), {"job": job})
        jobs.transition(conn, [job], JobEvent.RESUME_ASKED)
    return job


def test_a_resuming_job_gets_back_what_is_free_and_comes_before_those_that_wait(
    ctx: Context, database: TestDatabase
) -> None:
    with_hosts(ctx, 1, 2)
    job = resting(ctx, 2)
    (waiting,) = submit(ctx)

    scheduler.turn(ctx)

    assert database.execute("SELECT job_id, suspended FROM allocations") == [(job, False)]
    assert database.execute("SELECT job_id, kind, done_at FROM orders") == [(job, "resume", None)]
    assert (state(database, job), state(database, waiting)) == ("Resuming", "Waiting")


def test_a_resuming_job_waits_for_those_who_use_what_it_lent(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 2)
    job = resting(ctx, 2)
    (borrower,) = submit(ctx)
    with ctx.transaction() as conn:
        rows.brought(conn, [borrower], JobState.RUNNING, holds="{[2,3)}")
    (waiting,) = submit(ctx, walltime_s=30 * 3600)

    scheduler.turn(ctx)

    assert database.execute("SELECT suspended FROM allocations WHERE job_id = %s", [job]) == [(True,)]
    assert database.execute("SELECT count(*) FROM orders") == [(0,)]
    assert state(database, waiting) == "Waiting"


def test_what_somebody_has_taken_meanwhile_is_not_given_back(
    ctx: Context, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_hosts(ctx, 1, 2)
    job = resting(ctx, 2)
    (borrower,) = submit(ctx)
    decide = scheduler.decide

    def late(*args: Any, **others: Any) -> Any:
        with ctx.transaction() as conn:
            rows.brought(conn, [borrower], JobState.RUNNING, holds="{[2,3)}")
        return decide(*args, **others)

    monkeypatch.setattr(scheduler, "decide", late)

    scheduler.turn(ctx)

    assert database.execute("SELECT suspended FROM allocations WHERE job_id = %s", [job]) == [(True,)]
    assert (state(database, job), database.execute("SELECT count(*) FROM orders")) == ("Resuming", [(0,)])


@pytest.mark.parametrize(("replan", "order"), [("earlier", [2, 1]), ("nothing", [1, 2])])
def test_a_planned_start_that_was_told_is_kept_unless_its_queue_plans_from_nothing(
    ctx: Context, database: TestDatabase, replan: str, order: list[int]
) -> None:
    with_hosts(ctx, 1, 1)
    database.execute("UPDATE queues SET replan = %s", [replan])
    submit(ctx, "resource_id=1", walltime_s=600)
    scheduler.turn(ctx)
    (held,) = submit(ctx, "resource_id=1", walltime_s=600)
    database.execute("UPDATE jobs SET state = 'Hold' WHERE job_id = %s", [held])
    (told,) = submit(ctx, "resource_id=1", walltime_s=600)
    scheduler.turn(ctx)
    database.execute("UPDATE jobs SET state = 'Waiting' WHERE job_id = %s", [held])

    scheduler.turn(ctx)

    planned = [job_id for (job_id,) in database.execute("SELECT job_id FROM predictions ORDER BY start_at")]
    assert planned == [(held, told)[number - 1] for number in order]


def test_a_job_that_is_held_for_a_moment_is_told_again_what_it_waits_for(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    _, waiting = submit(ctx, count=2)
    passes = Scheduler(ctx)
    passes.turn()
    told = f"SELECT predicted_start_at, why FROM visible_jobs WHERE job_id = {waiting}"
    before = database.execute(told)

    assert answered(database, "hold", {"job_ids": [waiting]})["ok"]
    assert database.execute(told) == [(None, None)]
    assert answered(database, "resume", {"job_ids": [waiting]})["ok"]
    passes.turn()

    assert before != [(None, None)]
    assert database.execute(told) == before


def test_a_job_that_was_held_takes_its_place_from_nobody_who_has_it_now(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    _, held, next_one = submit(ctx, count=3)
    passes = Scheduler(ctx)
    passes.turn()
    planned = "SELECT job_id, predicted_start_at FROM visible_jobs WHERE state = 'Waiting' ORDER BY job_id"
    ((_, first_start), _) = database.execute(planned)

    assert answered(database, "hold", {"job_ids": [held]})["ok"]
    passes.turn()
    moved = database.execute(planned)
    assert answered(database, "resume", {"job_ids": [held]})["ok"]
    passes.turn()

    assert moved == [(next_one, first_start)]
    assert database.execute(planned)[1] == (next_one, first_start)


def test_a_start_that_cannot_be_kept_is_put_off_with_an_event(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, 1, 1)
    submit(ctx, "resource_id=1", walltime_s=600)
    scheduler.turn(ctx)
    (waiting,) = submit(ctx, "resource_id=1", walltime_s=600)
    scheduler.turn(ctx)
    (told,) = database.execute("SELECT start_at FROM predictions")[0]
    database.execute("UPDATE jobs SET planned_end_at = planned_end_at + interval '1 hour' WHERE state = 'toLaunch'")

    scheduler.turn(ctx)

    ((later,),) = database.execute("SELECT start_at FROM predictions")
    assert later > told
    ((job_id, description),) = database.execute(
        "SELECT job_id, description FROM events WHERE type = 'SCHEDULER_START_PUT_OFF'"
    )
    assert job_id == waiting
    assert f"no longer for {told:%Y-%m-%d %H:%M:%S} UTC" in description
