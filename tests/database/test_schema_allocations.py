"""No resource is given twice: PostgreSQL itself refuses it."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors

from oarpy.database import allocations
from oarpy.model.states import JobState
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

HOLD = (
    "INSERT INTO allocations (job_id, attempt, space, resources, held, share)"
    " VALUES (%(job)s, 1, %(space)s, %(resources)s, tstzrange(now(), NULL), %(share)s)"
)


def hold(job: int, resources: str, *, space: int = 0, share: int | None = None) -> tuple[str, dict[str, object]]:
    return HOLD, {"job": job, "space": space, "resources": resources, "share": job if share is None else share}


@pytest.fixture
def jobs(database: TestDatabase) -> TestDatabase:
    """Jobs 1 to 4 are Waiting; resources 1 to 8 exist."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 8)
        rows.submitted(conn, 4)
    return database


@pytest.mark.parametrize(("first", "second"), [("{[1,5)}", "{[4,6)}"), ("{[4,6)}", "{[1,5)}")])
@pytest.mark.parametrize("commits", [True, False])
def test_of_two_sessions_that_take_the_same_resource_one_is_refused(jobs, first, second, commits):
    outcome: list[psycopg2.Error | None] = []

    def take() -> None:
        try:
            jobs.execute(*hold(2, second))
            outcome.append(None)
        except psycopg2.Error as error:
            outcome.append(error)

    with closing(jobs.connect()) as session:
        with session.cursor() as cursor:
            cursor.execute(*hold(1, first))
        other = threading.Thread(target=take)
        other.start()
        wait_until(lambda: jobs.execute("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the second waits")
        session.commit() if commits else session.rollback()
        other.join()

    holders = jobs.execute("SELECT job_id FROM allocations")
    if commits:
        assert isinstance(outcome[0], errors.ExclusionViolation)
        assert holders == [(1,)]
    else:
        assert outcome == [None]
        assert holders == [(2,)]


def test_adjacent_resources_are_no_conflict(jobs):
    jobs.execute(*hold(1, "{[1,5)}"))
    jobs.execute(*hold(2, "{[5,9)}"))

    assert jobs.execute("SELECT count(*) FROM allocations") == [(2,)]


def test_what_outlives_its_walltime_is_still_held(jobs):
    jobs.execute(*hold(1, "{[1,5)}"))
    jobs.execute("UPDATE jobs SET planned_end_at = now() - interval '1 d', walltime = '1 s' WHERE job_id = 1")

    with pytest.raises(errors.ExclusionViolation):
        jobs.execute(*hold(2, "{[1,2)}"))


def test_what_was_closed_is_free_again(jobs):
    jobs.execute(*hold(1, "{[1,5)}"))
    with jobs.engine.begin() as conn:
        allocations.close(conn, [1])

    jobs.execute(*hold(2, "{[1,2)}"))

    assert jobs.execute("SELECT job_id FROM allocations WHERE upper_inf(held)") == [(2,)]


def test_a_closed_period_is_never_empty(jobs):
    with jobs.engine.begin() as conn:
        conn.exec_driver_sql(*hold(1, "{[1,5)}"))
        allocations.close(conn, [1])

    assert jobs.execute("SELECT isempty(held), upper_inf(held) FROM allocations") == [(False, False)]


def test_jobs_of_one_share_may_hold_the_same(jobs):
    jobs.execute(*hold(1, "{[1,5)}", share=1))
    jobs.execute(*hold(2, "{[1,5)}", share=1))

    with pytest.raises(errors.ExclusionViolation):
        jobs.execute(*hold(3, "{[1,5)}"))


def test_a_suspended_job_lends_its_resources_and_does_not_get_them_back_while_they_are_lent(jobs):
    jobs.execute(*hold(1, "{[1,5)}"))
    jobs.execute("UPDATE allocations SET suspended = true WHERE job_id = 1")
    jobs.execute(*hold(2, "{[1,2)}"))

    with pytest.raises(errors.ExclusionViolation):
        jobs.execute("UPDATE allocations SET suspended = false WHERE job_id = 1")


def test_a_job_has_one_open_allocation(jobs):
    jobs.execute(*hold(1, "{[1,5)}"))

    with pytest.raises(errors.UniqueViolation, match="allocations_"):
        jobs.execute(HOLD.replace(", 1,", ", 2,"), hold(1, "{[6,7)}")[1])


@pytest.mark.parametrize("resources", ["{}", "{[1,1)}"])
def test_an_allocation_holds_something(jobs, resources):
    with pytest.raises(errors.CheckViolation):
        jobs.execute(*hold(1, resources))


@pytest.fixture
def container(jobs: TestDatabase) -> TestDatabase:
    """Job 1 is a container that holds resources 1 to 4."""
    jobs.execute(*hold(1, "{[1,5)}"))
    return jobs


def test_an_inner_job_lies_inside_its_container(container):
    container.execute(*hold(2, "{[1,3)}", space=1))

    with pytest.raises(psycopg2.Error, match="job 3: not inside what container 1 holds"):
        container.execute(*hold(3, "{[4,6)}", space=1))


def test_inner_jobs_exclude_one_another(container):
    container.execute(*hold(2, "{[1,3)}", space=1))

    with pytest.raises(errors.ExclusionViolation):
        container.execute(*hold(3, "{[2,4)}", space=1))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE allocations SET held = tstzrange(lower(held), now(), '[]') WHERE job_id = 1",
        "UPDATE allocations SET resources = '{[3,5)}' WHERE job_id = 1",
        "DELETE FROM allocations WHERE job_id = 1",
    ],
)
def test_a_container_keeps_what_its_inner_jobs_hold(container, statement):
    container.execute(*hold(2, "{[1,3)}", space=1))

    with pytest.raises(psycopg2.Error, match="job 1: its inner job 2 still holds resources"):
        container.execute(statement)


def test_a_container_and_its_inner_jobs_may_end_together(container):
    container.execute(*hold(2, "{[1,3)}", space=1))

    with container.engine.begin() as conn:
        allocations.close(conn, [1, 2])

    assert container.execute("SELECT count(*) FROM allocations WHERE upper_inf(held)") == [(0,)]


def test_no_inner_job_comes_in_while_its_container_ends(container):
    outcome: list[psycopg2.Error] = []

    def come_in() -> None:
        try:
            container.execute(*hold(2, "{[1,3)}", space=1))
        except psycopg2.Error as error:
            outcome.append(error)

    with container.engine.begin() as conn:
        allocations.close(conn, [1])
        other = threading.Thread(target=come_in)
        other.start()
        wait_until(lambda: container.execute("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the inner job waits")
    other.join()

    assert "not inside what container 1 holds" in str(outcome[0])


def test_the_view_that_tools_read_has_one_row_for_each_resource(container):
    with container.engine.begin() as conn:
        allocations.close(conn, [1])
    container.execute(*hold(2, "{[7,9)}"))

    shown = container.execute("SELECT * FROM assigned_resources ORDER BY 1, 2", role="oar_reader")

    assert shown == [(1, r, "LOG") for r in (1, 2, 3, 4)] + [(2, r, "CURRENT") for r in (7, 8)]


def test_dropping_forgets_only_what_is_still_held(jobs):
    with jobs.engine.begin() as conn:
        rows.brought(conn, [1], JobState.TERMINATED)
        rows.brought(conn, [2], JobState.TO_LAUNCH)
        allocations.drop(conn, [1, 2])

    assert jobs.execute("SELECT job_id FROM allocations") == [(1,)]


KEEP = (
    "INSERT INTO allocations (job_id, attempt, resources, held, share, placeholder, kin)"
    " VALUES (%(job)s, 1, %(resources)s, tstzrange(now(), NULL), %(share)s, %(placeholder)s, %(kin)s)"
)


def keep(job: int, resources: str, *, share: int = -5, placeholder: bool = False, kin: int | None = None):
    """A placeholder's allocation, or that of a job which is allowed in it; -5 is what they have in common."""
    values = {"job": job, "resources": resources, "share": share, "placeholder": placeholder}
    return KEEP, values | {"kin": job if kin is None else kin}


def test_those_who_are_allowed_lie_in_the_placeholder_and_beside_it(jobs):
    jobs.execute(*keep(1, "{[1,5)}", placeholder=True))

    jobs.execute(*keep(2, "{[3,7)}"))

    assert jobs.execute("SELECT count(*) FROM allocations") == [(2,)]


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(hold(4, "{[2,3)}"), id="anybody"),
        pytest.param(hold(4, "{[6,7)}"), id="anybody on what one who is allowed has"),
        pytest.param(hold(4, "{[2,3)}", share=-6), id="jobs that share among themselves"),
        pytest.param(keep(4, "{[2,3)}", share=-6), id="one who is allowed elsewhere"),
        pytest.param(keep(4, "{[4,5)}"), id="another one who is allowed, on what the first has"),
        pytest.param(keep(4, "{[1,2)}", placeholder=True), id="another placeholder of the name"),
    ],
)
def test_a_placeholder_and_those_in_it_are_safe_from(jobs, refused):
    jobs.execute(*keep(1, "{[1,5)}", placeholder=True))
    jobs.execute(*keep(2, "{[3,7)}"))

    with pytest.raises(errors.ExclusionViolation):
        jobs.execute(*refused)


def test_those_who_are_allowed_may_share_time(jobs):
    jobs.execute(*keep(1, "{[1,5)}", placeholder=True))
    jobs.execute(*keep(2, "{[1,3)}", kin=-7))

    jobs.execute(*keep(3, "{[2,5)}", kin=-7))

    assert jobs.execute("SELECT count(*) FROM allocations") == [(3,)]


@pytest.mark.parametrize("commits", [True, False])
def test_of_two_sessions_that_let_jobs_into_a_placeholder_one_is_refused(jobs, commits):
    jobs.execute(*keep(1, "{[1,5)}", placeholder=True))
    outcome: list[psycopg2.Error | None] = []

    def take() -> None:
        try:
            jobs.execute(*keep(3, "{[2,4)}"))
            outcome.append(None)
        except psycopg2.Error as error:
            outcome.append(error)

    with closing(jobs.connect()) as session:
        with session.cursor() as cursor:
            cursor.execute(*keep(2, "{[1,3)}"))
        other = threading.Thread(target=take)
        other.start()
        wait_until(lambda: jobs.execute("SELECT 1 FROM pg_locks WHERE NOT granted"), what="the second waits")
        session.commit() if commits else session.rollback()
        other.join()

    assert isinstance(outcome[0], errors.ExclusionViolation) if commits else outcome == [None]


def test_only_what_has_to_do_with_placeholders_has_a_kin(jobs):
    with pytest.raises(errors.CheckViolation):
        jobs.execute(KEEP, {**keep(1, "{[1,2)}")[1], "placeholder": None})
