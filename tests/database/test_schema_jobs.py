"""What the database refuses to be told about jobs and queues, whoever says it."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from oarpy.automata.job import JobEvent
from oarpy.database import jobs
from oarpy.model.states import JobState
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@pytest.fixture
def waiting(database: TestDatabase) -> TestDatabase:
    """Job 1 is Waiting."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 4)
        rows.submitted(conn)
    return database


def brought(database: TestDatabase, state: JobState) -> None:
    with database.engine.begin() as conn:
        rows.brought(conn, [1], state)


@pytest.mark.parametrize(
    ("before", "change", "sentence"),
    [
        (JobState.WAITING, "state = 'Finishing'", "job 1: no change from Waiting to Finishing"),
        (JobState.RUNNING, "state = 'Waiting'", "job 1: no change from Running to Waiting"),
        (JobState.RUNNING, "state = 'Error', stopped_at = now()", "job 1: no change from Running to Error"),
        (JobState.TERMINATED, "state = 'Waiting', stopped_at = NULL", "job 1: no change from Terminated to Waiting"),
        (JobState.RUNNING, "attempt = 2", "job 1: a new attempt begins when, and only when"),
        (JobState.LAUNCHING, "state = 'Waiting'", "job 1: a new attempt begins when, and only when"),
        (JobState.WAITING, "queue_name = 'nowhere'", "queue nowhere does not exist"),
        (JobState.WAITING, "job_id = 7", "the id of a job never changes"),
    ],
)
def test_a_change_that_cannot_happen_is_refused_with_a_sentence(waiting, before, change, sentence):
    brought(waiting, before)

    with pytest.raises(psycopg2.Error, match=sentence):
        waiting.execute(f"UPDATE jobs SET {change} WHERE job_id = 1")


@pytest.mark.parametrize("change", ["stopped_at = now()", "state = 'Error'"])
def test_a_job_is_final_exactly_when_it_has_a_stop_date(waiting, change):
    with pytest.raises(errors.CheckViolation, match="jobs_final_check"):
        waiting.execute(f"UPDATE jobs SET {change} WHERE job_id = 1")


def test_a_running_job_has_a_start(waiting):
    brought(waiting, JobState.LAUNCHING)

    with pytest.raises(errors.CheckViolation, match="jobs_started_check"):
        waiting.execute("UPDATE jobs SET state = 'Running' WHERE job_id = 1")


def test_a_job_to_launch_has_a_walltime_and_a_planned_end(waiting):
    with pytest.raises(errors.CheckViolation, match="jobs_allocated_check"):
        waiting.execute("UPDATE jobs SET state = 'toLaunch' WHERE job_id = 1")


def test_one_illegal_change_among_many_refuses_all(waiting):
    with waiting.engine.begin() as conn:
        rows.submitted(conn, 3)

    waiting.execute("UPDATE jobs SET state = 'Hold' WHERE job_id = 1")

    with pytest.raises(psycopg2.Error, match="job 1: no change from Hold to toAckReservation"):
        waiting.execute("UPDATE jobs SET state = 'toAckReservation'")

    assert waiting.execute("SELECT DISTINCT state FROM jobs WHERE job_id > 1") == [("Waiting",)]


def test_a_change_by_hand_is_in_the_history_like_any_other(waiting):
    waiting.execute("UPDATE jobs SET state = 'Hold' WHERE job_id = 1")

    assert waiting.execute("SELECT job_state FROM job_state_logs ORDER BY date_start") == [("Waiting",), ("Hold",)]


def test_a_new_job_waits_or_is_held(waiting):
    with waiting.engine.begin() as conn, pytest.raises(DBAPIError, match="a new job is Waiting or Hold, not Launching"):
        conn.execute(
            text(
                "INSERT INTO jobs (array_id, job_request_id, job_user, queue_name, command, launching_directory,"
                " stdout_file, stderr_file, state, walltime, alternative, planned_end_at)"
                " SELECT 9, job_request_id, 'alice', 'default', 'true', '/', 'o', 'e', 'Launching', '1 h', 0, now()"
                " FROM job_requests"
            )
        )


def test_a_job_needs_a_queue_that_exists(waiting):
    with waiting.engine.begin() as conn, pytest.raises(DBAPIError, match="queue nowhere does not exist"):
        rows.submitted(conn, queue="nowhere")


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM queues WHERE queue_name = 'default'", "UPDATE queues SET queue_name = 'x' WHERE priority = 2"],
)
def test_a_queue_with_unfinished_jobs_stays(waiting, statement):
    with pytest.raises(errors.ForeignKeyViolation, match=r"queue default has 1 unfinished job\(s\)"):
        waiting.execute(statement)


def test_a_queue_goes_when_its_jobs_are_over(waiting):
    brought(waiting, JobState.TERMINATED)

    waiting.execute("DELETE FROM queues WHERE queue_name = 'default'")

    assert waiting.execute("SELECT count(*) FROM queues WHERE queue_name = 'default'") == [(0,)]


def test_a_queue_cannot_go_while_a_job_is_being_submitted_to_it(waiting):
    refusals: list[psycopg2.Error] = []

    def remove() -> None:
        try:
            waiting.execute("DELETE FROM queues WHERE queue_name = 'admin'")
        except psycopg2.Error as error:
            refusals.append(error)

    with waiting.engine.begin() as conn:
        rows.submitted(conn, queue="admin")
        removal = threading.Thread(target=remove)
        removal.start()
        wait_until(lambda: waiting.execute("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the removal waits")
    removal.join()

    assert "queue admin has 1 unfinished job(s)" in str(refusals[0])


@pytest.mark.parametrize("name", ["", "a b", "1st", "x" * 64, "a;b"])
def test_a_queue_has_a_name_that_every_program_can_read(waiting, name):
    with pytest.raises(errors.CheckViolation):
        waiting.execute("INSERT INTO queues (queue_name) VALUES (%s)", [name])


def test_queues_cannot_be_emptied_at_a_stroke(waiting):
    with pytest.raises(psycopg2.Error, match="table queues cannot be truncated"):
        waiting.execute("TRUNCATE queues")


def test_of_two_processes_that_saw_the_same_job_one_gets_it(waiting):
    winners: list[list[int]] = []

    def hold() -> None:
        with waiting.engine.begin() as conn:
            winners.append(jobs.transition(conn, [1], JobEvent.HELD))

    with waiting.engine.begin() as conn:
        winners.append(jobs.transition(conn, [1], JobEvent.HELD))
        other = threading.Thread(target=hold)
        other.start()
        wait_until(lambda: waiting.execute("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the other waits")
    other.join()

    assert winners == [[1], []]


def test_a_launch_that_never_began_makes_the_next_attempt(waiting):
    brought(waiting, JobState.LAUNCHING)

    with waiting.engine.begin() as conn:
        jobs.transition(conn, [1], JobEvent.NEVER_BEGAN)

    assert waiting.execute("SELECT state, attempt FROM jobs") == [("Waiting", 2)]


def test_notifications_are_a_list(waiting):
    with pytest.raises(errors.CheckViolation, match="notify"):
        waiting.execute('UPDATE job_requests SET notify = \'{"method": "mail"}\'')


def test_there_is_one_leader(database):
    lead = "INSERT INTO leadership (epoch, holder, host, pid) VALUES (%s, gen_random_uuid(), 'c0', 1)"
    database.execute(lead, [1])

    with pytest.raises(errors.UniqueViolation, match="leadership_one_key"):
        database.execute(lead, [2])


def test_a_heartbeat_waits_for_no_transaction_of_its_epoch_and_a_takeover_does(database):
    database.execute("INSERT INTO leadership (epoch, holder, host, pid) VALUES (1, gen_random_uuid(), 'c0', 1)")
    with closing(database.connect()) as worker, closing(database.connect()) as other:
        with worker.cursor() as cursor:
            cursor.execute("SELECT FROM leadership WHERE epoch = 1 FOR KEY SHARE")

        with other.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
            cursor.execute("UPDATE leadership SET renewed_at = now()")
            with pytest.raises(errors.LockNotAvailable):
                cursor.execute("UPDATE leadership SET epoch = 2")


def test_what_refers_to_a_row_is_found_by_an_index_when_that_row_is_removed(database: TestDatabase) -> None:
    """Without one, each row that is removed reads the whole table of those that may refer to it."""
    unindexed = database.execute(
        """
        SELECT conname FROM pg_constraint c WHERE contype = 'f' AND connamespace = 'oar'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL
                          AND i.indkey[0] = c.conkey[1])
        """
    )

    assert unindexed == []
