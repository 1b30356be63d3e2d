"""A job is submitted again: once, and not for ever."""

from __future__ import annotations

import threading

from oarpy.database import submissions
from oarpy.model.states import JobId
from tests.support.postgres import TestDatabase
from tests.support.requests import ENDED, bring, submitted, with_hosts


def resubmit(database: TestDatabase, *job_ids: int, limit: int = 10) -> dict[JobId, JobId]:
    with database.engine.begin() as conn:
        return submissions.resubmit(conn, [JobId(job_id) for job_id in job_ids], max_resubmissions=limit)


def test_the_copy_waits_in_the_place_of_the_old_job(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database, name="n", array_count=2, stderr="err") + 1, *ENDED)

    copies = resubmit(database, job_id)

    assert copies == {job_id: job_id + 1}
    assert database.execute(
        "SELECT state, array_id, array_index, job_user, job_name, stdout_file, stderr_file, resubmit_job_id,"
        " resubmissions, attempt, started_at, exit_code,"
        " job_request_id = (SELECT max(job_request_id) FROM job_requests)"
        " FROM jobs WHERE job_id = %s",
        (job_id + 1,),
    ) == [("Waiting", job_id - 1, 2, "alice", "n", "OAR.n.3.stdout", "err.2", job_id, 1, 1, None, None, True)]


def test_the_copys_output_has_its_own_id(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, name="a/b", stdout="out/%jobid%/%jobname%.%jobid%", stderr="/dev/null")
    copy = resubmit(database, bring(database, first, *ENDED))[JobId(first)]

    second = resubmit(database, bring(database, copy, *ENDED))[copy]

    assert database.execute("SELECT job_id, stdout_file, stderr_file FROM jobs ORDER BY job_id") == [
        (job_id, f"out/{job_id}/a_b.{job_id}", "/dev/null") for job_id in (first, copy, second)
    ]


def test_what_a_job_wrote_its_copy_does_not_overwrite(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, name="%attempt%", stdout="out", stderr="err.%attempt%.%jobname%")
    second = resubmit(database, bring(database, first, *ENDED))[JobId(first)]

    third = resubmit(database, bring(database, second, *ENDED))[second]

    assert database.execute("SELECT job_id, stdout_file, stderr_file FROM jobs ORDER BY job_id") == [
        (first, "out", "err.1.%attempt%"),
        (second, "out.2", "err.2.%attempt%"),
        (third, "out.3", "err.3.%attempt%"),
    ]


def test_a_job_is_resubmitted_once_however_often_it_is_asked(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *ENDED)
    resubmit(database, job_id)

    assert resubmit(database, job_id) == {}


def test_two_that_resubmit_the_same_job_make_one_copy(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = bring(database, submitted(database), *ENDED)
    other: list[dict[JobId, JobId]] = []
    with database.engine.begin() as conn:
        first = submissions.resubmit(conn, [JobId(job_id)], max_resubmissions=10)
        second = threading.Thread(target=lambda: other.append(resubmit(database, job_id)))
        second.start()
        second.join(timeout=0.3)
        waited = second.is_alive()
    second.join()

    assert (len(first), waited, other) == (1, True, [{}])


def test_two_that_resubmit_two_runs_of_one_job_number_them_one_after_the_other(database: TestDatabase) -> None:
    with_hosts(database)
    first, second = (bring(database, submitted(database, stdout="out"), *ENDED) for _ in range(2))
    # As if it had been submitted again by hand.
    database.execute("UPDATE jobs SET array_id = %s, resubmissions = 1 WHERE job_id = %s", (first, second))
    with database.engine.begin() as conn:
        (copy,) = submissions.resubmit(conn, [JobId(first)], max_resubmissions=10).values()
        other = threading.Thread(target=lambda: resubmit(database, second))
        other.start()
        other.join(timeout=0.3)
    other.join()

    files = "SELECT stdout_file FROM jobs WHERE job_id >= %s ORDER BY job_id"
    assert database.execute(files, (copy,)) == [("out.3",), ("out.4",)]


def test_a_chain_of_copies_ends(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database)

    lengths = []
    for _ in range(4):
        bring(database, job_id, *ENDED)
        copies = resubmit(database, job_id, limit=3)
        lengths.append(len(copies))
        job_id = copies.get(JobId(job_id), JobId(job_id))

    assert lengths == [1, 1, 1, 0]


def test_what_waits_for_the_old_job_waits_for_its_copy(database: TestDatabase) -> None:
    with_hosts(database)
    job_id = submitted(database)
    waiting = submitted(database, dependencies=[[job_id, "afterok", None, None]])
    over = bring(database, submitted(database, dependencies=[[job_id, "afterany", None, None]]), *ENDED)
    bring(database, job_id, *ENDED)

    copies = resubmit(database, job_id)

    assert database.execute("SELECT job_id, job_id_required FROM job_dependencies ORDER BY 1") == [
        (waiting, copies[JobId(job_id)]),
        (over, job_id),
    ]


def test_many_jobs_are_resubmitted_together(database: TestDatabase) -> None:
    with_hosts(database)
    first = submitted(database, array_count=3)
    for job_id in range(first, first + 3):
        bring(database, job_id, *ENDED)

    copies = resubmit(database, *range(first, first + 3))

    assert copies == {1: 4, 2: 5, 3: 6}
