"""Delete, hold, resume and signal: an outcome for each job, whatever becomes of the others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from oarpy.database import launches, orders, plans
from oarpy.model.states import JobId
from oarpy.settings import Jobs, Settings
from tests.support import invariants
from tests.support.postgres import TestDatabase
from tests.support.requests import ENDED, RUNNING, answered, bring, submitted, with_hosts


def outcomes(answer: Any) -> list[tuple[int, str, int]]:
    return [(job_id, outcome, status) for job_id, outcome, status, _ in answer["jobs"]]


def state_of(database: TestDatabase, job_id: int) -> object:
    return database.execute("SELECT state FROM jobs WHERE job_id = %s", (job_id,))[0][0]


def events_of(database: TestDatabase, job_id: int) -> list[object]:
    return [row[0] for row in database.execute("SELECT type FROM events WHERE job_id = %s ORDER BY 1", (job_id,))]


@pytest.mark.parametrize("states", [(), ("Hold",), ("toLaunch",)])
def test_a_job_that_was_not_launched_is_deleted_at_once(database: TestDatabase, states: tuple[str, ...]) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *states)
    database.execute("INSERT INTO predictions (job_id, code, reason) VALUES (%s, 'X', 'x')", (job_id,))

    answer = answered(database, "delete", {"job_ids": [job_id]})

    assert outcomes(answer) == [(job_id, "REGISTERED", 0)]
    assert database.execute("SELECT state, end_cause, stopped_at IS NOT NULL FROM jobs") == [("Error", "killed", True)]
    assert database.execute("SELECT count(*) FROM allocations") == [(0,)]
    assert database.execute("SELECT count(*) FROM predictions") == [(0,)]
    assert events_of(database, job_id) == ["FRAG_JOB_REQUEST"]
    assert invariants.broken(database.engine) == []


@pytest.mark.parametrize("states", [RUNNING[:2], RUNNING])
def test_a_job_on_its_nodes_is_deleted_by_a_wish(database: TestDatabase, states: tuple[str, ...]) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *states)

    answer = answered(database, "delete", {"job_ids": [job_id]})

    assert outcomes(answer) == [(job_id, "REGISTERED", 0)]
    assert state_of(database, job_id) == states[-1]
    assert database.execute("SELECT job_id, state, cause, asked_by FROM frag_jobs") == [
        (job_id, "LEON", "killed", "alice")
    ]
    assert database.execute("SELECT count(*) FROM allocations WHERE upper_inf(held)") == [(1,)]


def test_a_kill_is_asked_for_once(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)
    answered(database, "delete", {"job_ids": [job_id]})

    answer = answered(database, "delete", {"job_ids": [job_id]})

    assert answer["jobs"] == [[job_id, "ALREADY", 6, f"job {job_id} is being deleted already"]]
    assert events_of(database, job_id) == ["FRAG_JOB_REQUEST"]


def test_deleting_a_job_that_is_over_succeeds(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *ENDED)

    answer = answered(database, "delete", {"job_ids": [job_id]})

    assert answer["jobs"] == [[job_id, "OVER", 0, f"job {job_id} is over already; nothing was left to delete"]]
    assert events_of(database, job_id) == []


def test_every_job_that_was_named_is_tried(database: TestDatabase) -> None:
    with_hosts(database)
    mine = submitted(database)
    others = submitted(database, login="bob")

    answer = answered(database, "delete", {"job_ids": [99, others, mine, mine]})

    assert answer["jobs"] == [
        [99, "REFUSED", 1, "job 99 does not exist"],
        [others, "REFUSED", 1, f"job {others} belongs to bob"],
        [mine, "REGISTERED", 0, ""],
    ]
    assert state_of(database, others) == "Waiting"


@pytest.mark.parametrize("login", ["root", "oar"])
def test_administrators_delete_everybody_s_jobs(database: TestDatabase, login: str) -> None:
    with_hosts(database)
    job_id = submitted(database, login="bob")

    answer = answered(database, "delete", {"job_ids": [job_id]}, login=login)

    assert outcomes(answer) == [(job_id, "REGISTERED", 0)]


def test_of_an_array_what_is_not_over_is_deleted(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, array_count=3)
    bring(database, first, *ENDED)
    bring(database, first + 1, *RUNNING)

    answer = answered(database, "delete", {"array_ids": [first]})

    assert outcomes(answer) == [(first + 1, "REGISTERED", 0), (first + 2, "REGISTERED", 0)]


def test_an_array_that_is_over_has_one_line(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, array_count=2)
    answered(database, "delete", {"array_ids": [first]})

    answer = answered(database, "delete", {"array_ids": [first, 999]})

    assert outcomes(answer) == [(first, "OVER", 0), (999, "REFUSED", 4)]


def test_the_owner_is_told_that_a_waiting_job_was_deleted(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database, notify={"method": "mail", "target": "a@b.org", "tags": []})

    answered(database, "delete", {"job_ids": [job_id]})

    assert database.execute("SELECT job_id, tag, method, target, login FROM notifications") == [
        (job_id, "ERROR", "mail", "a@b.org", "alice")
    ]


def test_a_held_job_waits_again_when_it_is_resumed(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database)

    held = answered(database, "hold", {"job_ids": [job_id]})
    state_then = state_of(database, job_id)
    resumed = answered(database, "resume", {"job_ids": [job_id]})

    assert outcomes(held) == outcomes(resumed) == [(job_id, "REGISTERED", 0)]
    assert (state_then, state_of(database, job_id)) == ("Hold", "Waiting")
    assert events_of(database, job_id) == ["HOLD_WAITING_JOB", "RESUME_JOB"]


def test_holding_a_held_job_changes_nothing_and_succeeds(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database, hold=True)

    answer = answered(database, "hold", {"job_ids": [job_id]})

    assert outcomes(answer) == [(job_id, "REGISTERED", 0)]
    assert events_of(database, job_id) == []


@pytest.mark.parametrize(("verb", "sentence"), [("hold", "is Running"), ("resume", "is Running")])
def test_a_running_job_is_neither_held_nor_resumed(database: TestDatabase, verb: str, sentence: str) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)

    answer = answered(database, verb, {"job_ids": [job_id]})

    assert answer["jobs"] == [[job_id, "REFUSED", 1, f"job {job_id} {sentence}"]]


def test_other_people_s_jobs_are_not_held(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database, login="bob")

    answer = answered(database, "hold", {"job_ids": [job_id]}, login="alice")

    assert outcomes(answer) == [(job_id, "REFUSED", 1)]
    assert state_of(database, job_id) == "Waiting"


def test_a_signal_is_an_order_to_the_job_s_nodes(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)

    answer = answered(database, "signal", {"job_ids": [job_id], "signal": 10})

    assert outcomes(answer) == [(job_id, "REGISTERED", 0)]
    assert database.execute("SELECT kind, job_id, attempt, signal, (deadline - asked_at)::text FROM orders") == [
        ("signal", job_id, 1, 10, "00:01:00")
    ]
    assert events_of(database, job_id) == ["SIGNAL_10"]


def test_a_checkpoint_sends_the_signal_that_the_job_chose(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database, signal=30), *RUNNING)

    answered(database, "checkpoint", {"job_ids": [job_id]})

    assert database.execute("SELECT kind, job_id, signal FROM orders") == [("checkpoint", job_id, 30)]


def test_a_second_signal_waits_for_the_first(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)
    answered(database, "signal", {"job_ids": [job_id], "signal": 10})

    answer = answered(database, "signal", {"job_ids": [job_id], "signal": 12})

    assert outcomes(answer) == [(job_id, "ALREADY", 1)]
    assert database.execute("SELECT signal FROM orders") == [(10,)]


@pytest.mark.parametrize("states", [(), ENDED])
def test_a_job_that_does_not_run_gets_no_signal(database: TestDatabase, states: tuple[str, ...]) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *states)

    answer = answered(database, "signal", {"job_ids": [job_id], "signal": 10})

    assert outcomes(answer) == [(job_id, "REFUSED", 5)]
    assert database.execute("SELECT count(*) FROM orders") == [(0,)]


def test_a_signal_without_a_number_is_refused(database: TestDatabase) -> None:
    answer = answered(database, "signal", {"job_ids": [1]})

    assert answer == {"ok": False, "exit_status": 1, "message": "no signal was named"}


def test_the_runner_alone_is_woken_by_a_signal(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)
    client = database.connect()
    client.autocommit = True
    client.cursor().execute("LISTEN oar_runner; LISTEN oar_almighty")

    answered(database, "signal", {"job_ids": [job_id], "signal": 10})

    client.cursor().execute("SELECT 1")
    assert [notify.channel for notify in client.notifies] == ["oar_runner"]
    client.close()


def suspended(database: TestDatabase, job_id: int) -> None:
    """What the runner writes when the job's nodes have suspended it."""
    with database.engine.begin() as conn:
        launches.suspend(conn, [JobId(job_id)])
        orders.finish(conn, [orders.Done(order.order_id, True, "") for order in orders.still_open(conn)])


def test_a_running_job_is_suspended_by_an_order_to_its_nodes(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)

    answer = answered(database, "suspend", {"job_ids": [job_id]}, login="root")

    assert outcomes(answer) == [(job_id, "REGISTERED", 0)]
    assert state_of(database, job_id) == "Running"
    assert database.execute("SELECT kind, job_id, done_at FROM orders") == [("suspend", job_id, None)]
    assert events_of(database, job_id) == ["HOLD_RUNNING_JOB"]


def test_suspending_holds_jobs_that_wait_and_leaves_others_alone(database: TestDatabase) -> None:
    with_hosts(database)
    waiting = submitted(database)
    starting = bring(database, submitted(database), "toLaunch")

    answer = answered(database, "suspend", {"job_ids": [waiting, starting]}, login="root")

    assert outcomes(answer) == [(waiting, "REGISTERED", 0), (starting, "REFUSED", 1)]
    assert state_of(database, waiting) == "Hold"


@pytest.mark.parametrize("type_", ["container", "noop", "deploy", "cosystem"])
def test_jobs_without_processes_of_their_own_are_not_suspended(database: TestDatabase, type_: str) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database, types=[type_]), *RUNNING)

    answer = answered(database, "suspend", {"job_ids": [job_id]}, login="root")

    assert answer["jobs"][0][3] == f"job {job_id} is of type {type_} and cannot be suspended"
    assert database.execute("SELECT count(*) FROM orders") == [(0,)]


def test_a_user_suspends_and_resumes_only_where_the_site_lets_them(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)
    may = Settings(jobs=Jobs(users_may_suspend=True))

    refused = answered(database, "suspend", {"job_ids": [job_id]})
    foreign = answered(database, "suspend", {"job_ids": [job_id]}, login="bob", settings=may)
    done = answered(database, "suspend", {"job_ids": [job_id]}, settings=may)
    suspended(database, job_id)
    kept = answered(database, "resume", {"job_ids": [job_id]})

    assert outcomes(refused) == outcomes(foreign) == outcomes(kept) == [(job_id, "REFUSED", 1)]
    assert foreign["jobs"][0][3] == f"job {job_id} belongs to alice"
    assert outcomes(done) == [(job_id, "REGISTERED", 0)]
    assert state_of(database, job_id) == "Suspended"


def test_a_suspended_job_is_resuming_until_it_has_its_resources_and_may_be_suspended_again(
    database: TestDatabase,
) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)
    suspended(database, job_id)

    answered(database, "resume", {"job_ids": [job_id]}, login="root")
    assert state_of(database, job_id) == "Resuming"
    answered(database, "suspend", {"job_ids": [job_id]}, login="root")
    assert state_of(database, job_id) == "Suspended"
    answered(database, "resume", {"job_ids": [job_id]}, login="root")
    with database.engine.begin() as conn:
        assert plans.resume(conn, [JobId(job_id)], timedelta(seconds=60)) == [job_id]
    late = answered(database, "suspend", {"job_ids": [job_id]}, login="root")

    assert late["jobs"][0][3] == f"job {job_id} is just being resumed; try again in a moment"
    assert database.execute("SELECT kind FROM orders WHERE done_at IS NULL") == [("resume",)]
    assert database.execute("SELECT suspended FROM allocations") == [(False,)]


def test_a_job_that_was_suspended_twice_has_rested_from_the_first_time_on(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)
    suspended(database, job_id)
    answered(database, "resume", {"job_ids": [job_id]}, login="root")
    answered(database, "suspend", {"job_ids": [job_id]}, login="root")
    answered(database, "resume", {"job_ids": [job_id]}, login="root")
    database.execute(
        "UPDATE job_state_logs SET date_start = date_start - CASE job_state WHEN 'Running' THEN interval '2 h'"
        " WHEN 'Suspended' THEN interval '1 h' WHEN 'Resuming' THEN interval '1 h' ELSE interval '3 h' END"
    )

    with database.engine.begin() as conn:
        launches.resume(conn, [JobId(job_id)])

    query = "SELECT state, suspended_for BETWEEN '1 h' AND '1 h 1 min' FROM jobs WHERE job_id = %s"
    assert database.execute(query, (job_id,)) == [("Running", True)]


ORDERED = "SELECT job_id FROM orders WHERE kind = 'access' AND done_at IS NULL"


def test_a_way_into_a_running_job_is_ordered_once_until_it_is_made(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *RUNNING)

    answers = [answered(database, "access", {"job_ids": [job_id]}, login=login) for login in ("alice", "alice", "root")]

    assert [outcomes(answer) for answer in answers] == [[(job_id, "REGISTERED", 0)]] * 3
    assert database.execute(ORDERED) == [(job_id,)]


@pytest.mark.parametrize(
    ("states", "types", "login", "sentence"),
    [
        ((), [], "alice", "is Waiting, not Running"),
        ((*RUNNING, "Suspended"), [], "alice", "is Suspended, not Running"),
        (ENDED, [], "alice", "is over"),
        (RUNNING, [], "bob", "belongs to alice"),
        (RUNNING, ["noop"], "alice", "is of type noop and runs nothing"),
    ],
)
def test_there_is_no_way_into_a_job_that_does_not_run_or_is_another_s(
    database: TestDatabase, states: tuple[str, ...], types: list[str], login: str, sentence: str
) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database, types=types), *states)

    (outcome,) = answered(database, "access", {"job_ids": [job_id]}, login=login)["jobs"]

    assert outcome[1:] == ["REFUSED", 1 if login == "bob" else 20, f"job {job_id} {sentence}"]
    assert database.execute(ORDERED) == []
