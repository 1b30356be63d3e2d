"""The questions about the impossible find it; the constraints that forbid it are taken away first."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from oarpy.model.states import JobState
from tests.support import invariants, rows
from tests.support.postgres import TestDatabase


@pytest.fixture
def jobs(database: TestDatabase) -> TestDatabase:
    """One job in each of the states that jobs pass, with ids 1 to 6, on a host of eight resources."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 8)
        notify = [{"tags": ["END"], "method": "mail", "target": "alice@example.org"}]
        for at, state in enumerate(
            (
                JobState.WAITING,
                JobState.TO_LAUNCH,
                JobState.LAUNCHING,
                JobState.RUNNING,
                JobState.FINISHING,
                JobState.TERMINATED,
            ),
            start=1,
        ):
            rows.brought(conn, rows.submitted(conn, notify=notify), state, holds=f"{{[{at},{at + 1})}}")
    return database


def test_jobs_that_went_the_ordinary_way_break_nothing(jobs):
    assert invariants.broken(jobs.engine) == []


@pytest.mark.parametrize(
    ("statements", "sentence"),
    [
        (
            [
                "ALTER TABLE allocations DROP CONSTRAINT allocations_no_resource_twice",
                "UPDATE allocations SET resources = '{[2,3)}' WHERE job_id = 4",
            ],
            "resource 2 is held by jobs {2,4} at once",
        ),
        (
            ["UPDATE allocations SET resources = '{[3,4)}' WHERE job_id = 6"],
            "resource 3 was used by job 6 before job 3 had left it",
        ),
        (["UPDATE allocations SET held = tstzrange(lower(held), NULL) WHERE job_id = 6"], "job 6 is Terminated and"),
        (["DELETE FROM allocations WHERE job_id = 4"], "job 4 is Running and holds nothing"),
        (["UPDATE allocations SET attempt = 2 WHERE job_id = 4"], "job 4 is at attempt 1 and holds resources for"),
        (["UPDATE allocations SET resources = '{[9,10)}' WHERE job_id = 4"], "job 4 holds resources that do not"),
        (["UPDATE allocations SET space = 2 WHERE job_id = 4"], "job 4 holds resources outside its container 2"),
        (["DELETE FROM job_state_logs WHERE job_id = 4"], "job 4 is Running, but its history ends with None"),
        (
            ["DELETE FROM job_state_logs WHERE job_id = 4 AND job_state = 'toLaunch'"],
            "job 4 went from Waiting to Launching",
        ),
        (
            ["INSERT INTO job_state_logs VALUES (4, 'Launching', now() - interval '1 h', 1)"],
            "job 4 was launched 2 times as attempt 1",
        ),
        (
            [
                "INSERT INTO job_state_logs VALUES (4, 'Launching', clock_timestamp(), 2)",
                "INSERT INTO job_state_logs VALUES (4, 'Running', clock_timestamp(), 2)",
            ],
            "job 4 started 2 times",
        ),
        (
            [
                "ALTER TABLE jobs DROP CONSTRAINT jobs_started_check",
                "UPDATE jobs SET started_at = NULL WHERE job_id = 4",
            ],
            "job 4 is Running without a start",
        ),
        (["UPDATE jobs SET end_cause = NULL WHERE job_id = 6"], "job 6 ran and is Terminated, and nothing says how"),
        (["UPDATE jobs SET resubmit_job_id = 6 WHERE job_id IN (1, 2)"], "job 6 was submitted again as {1,2}"),
        (
            [
                "UPDATE jobs SET stopped_at = now() - interval '1 h' WHERE job_id = 6",
                "INSERT INTO frag_jobs (job_id, asked_by) VALUES (6, 'alice')",
            ],
            "job 6 is over, but the wish to kill it is LEON",
        ),
        (
            [
                "INSERT INTO orders (kind, job_id, attempt, deadline) VALUES ('kill', 4, 1, now() - interval '1 h')",
            ],
            "order 1 (kill) is open long after its deadline",
        ),
        (
            ["UPDATE notifications SET next_try_at = now() - interval '1 h' WHERE job_id = 6"],
            "notification 1 of job 6 is due and nobody sends it",
        ),
        (["DELETE FROM notifications"], "job 6 is Terminated and its owner was never to be told"),
        (
            ["INSERT INTO pending_events (event_id, type, date) VALUES (7, 'LOG_SUSPECTED', now() - interval '1 h')"],
            "event 7 (LOG_SUSPECTED) is old and has had no effect",
        ),
        (
            [
                "INSERT INTO requests (key, verb, payload, requested_by, login, expires_at)"
                " VALUES (gen_random_uuid(), 'submit', '{}', 'peer:alice', 'alice', now() - interval '1 h')"
            ],
            "request 1 has had no answer and is not dead",
        ),
    ],
)
def test_the_impossible_is_found(jobs, statements, sentence):
    with jobs.engine.begin() as conn:
        conn.execute(text("SET LOCAL client_min_messages = warning"))
        for statement in statements:
            conn.execute(text(statement))

    assert [found for found in invariants.broken(jobs.engine) if found.startswith(sentence)]
