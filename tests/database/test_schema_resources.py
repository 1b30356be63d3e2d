"""What administrators change with psql: checked, logged, and seen at once."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors

from oarpy.model.states import JobState
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@pytest.fixture
def host(database: TestDatabase) -> TestDatabase:
    """Resources 1 and 2 on host c1, 3 and 4 on c2; all Alive."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 2)
        rows.resources(conn, "c2", 2)
    return database


def history(database: TestDatabase, resource_id: int, attribute: str) -> list[tuple[object, ...]]:
    return database.execute(
        "SELECT value, date_stop IS NULL FROM resource_logs WHERE resource_id = %s AND attribute = %s"
        " ORDER BY resource_log_id",
        [resource_id, attribute],
    )


def version(database: TestDatabase) -> int:
    ((number,),) = database.execute("SELECT version FROM topology")
    assert isinstance(number, int)
    return number


def test_a_change_of_state_closes_the_old_period_and_opens_the_new_one(host):
    host.execute("UPDATE resources SET state = 'Absent' WHERE network_address = 'c1'")

    assert history(host, 1, "state") == [("Alive", False), ("Absent", True)]
    assert history(host, 3, "state") == [("Alive", True)]


def test_only_what_changed_is_logged(host):
    before = host.execute("SELECT count(*) FROM resource_logs")

    host.execute("UPDATE resources SET state = 'Absent', core = NULL, type = 'default' WHERE resource_id = 1")

    ((count,),) = before
    assert host.execute("SELECT count(*) FROM resource_logs") == [(count + 1,)]


def test_a_value_taken_away_is_logged_as_none(host):
    host.execute("UPDATE resources SET cpuset = '0' WHERE resource_id = 1")
    host.execute("UPDATE resources SET cpuset = NULL WHERE resource_id = 1")

    assert history(host, 1, "cpuset") == [("0", False), (None, True)]


def test_a_removed_resource_has_no_open_history(host):
    host.execute("UPDATE resources SET state = 'Dead' WHERE resource_id = 1")
    host.execute("DELETE FROM resources WHERE resource_id = 1")

    assert host.execute("SELECT count(*) FROM resource_logs WHERE resource_id = 1 AND date_stop IS NULL") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE resources SET state = 'Absent' WHERE network_address = 'c1'",
        "UPDATE resources SET core = 7 WHERE resource_id = 1",
        "INSERT INTO resources (network_address) VALUES ('c3')",
    ],
)
def test_each_change_raises_the_version_once_and_wakes_almighty_once(host, statement):
    before = version(host)
    with closing(host.connect()) as listener:
        listener.autocommit = True
        listener.cursor().execute("LISTEN oar_almighty")

        host.execute(statement)

        wait_until(lambda: listener.poll() or listener.notifies, what="almighty is woken")
        assert [notify.channel for notify in listener.notifies] == ["oar_almighty"]
    assert version(host) == before + 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE resources SET state = 'Absent' WHERE network_address = 'nowhere'",
        "UPDATE resources SET state = 'Alive'",
        "DELETE FROM resources WHERE network_address = 'nowhere'",
    ],
)
def test_a_statement_that_changes_nothing_wakes_nobody(host, statement):
    before = version(host)

    host.execute(statement)

    assert version(host) == before


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO queues (queue_name) VALUES ('night')", "UPDATE queues SET priority = 9 WHERE queue_name = 'default'"],
)
def test_a_change_of_queues_wakes_almighty(host, statement):
    with closing(host.connect()) as listener:
        listener.autocommit = True
        listener.cursor().execute("LISTEN oar_almighty")

        host.execute(statement)

        wait_until(lambda: listener.poll() or listener.notifies, what="almighty is woken")


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE resources SET network_address = '' WHERE resource_id = 1", "needs a network_address"),
        ("INSERT INTO resources (state) VALUES ('Alive')", "needs a network_address"),
        ("UPDATE resources SET resource_id = 9 WHERE resource_id = 1", "the id of a resource never changes"),
        ("DELETE FROM resources WHERE resource_id = 1", "resource 1 is Alive; only Dead resources can be removed"),
        ("TRUNCATE resources CASCADE", "table resources cannot be truncated"),
        ("UPDATE resources SET cpuset = '0; reboot' WHERE resource_id = 1", "resources_cpuset_check"),
        ("UPDATE resources SET type = '' WHERE resource_id = 1", "resources_type_check"),
        ("UPDATE resources SET state = 'Broken' WHERE resource_id = 1", "invalid input value for enum"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(host, statement, sentence):
    with pytest.raises(psycopg2.Error, match=sentence):
        host.execute(statement)


def test_a_dead_resource_does_not_become_suspected(host):
    host.execute("UPDATE resources SET state = 'Dead' WHERE resource_id = 1")

    with pytest.raises(errors.CheckViolation, match="resource 1: no change from Dead to Suspected"):
        host.execute("UPDATE resources SET state = 'Suspected' WHERE resource_id = 1")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM resources WHERE resource_id = 1",
        "UPDATE resources SET network_address = 'c2' WHERE resource_id = 1",
        "UPDATE resources SET type = 'licence' WHERE resource_id = 1",
    ],
)
def test_a_resource_that_a_job_holds_stays_what_it_is(host, statement):
    with host.engine.begin() as conn:
        rows.brought(conn, rows.submitted(conn), JobState.RUNNING)
    host.execute("UPDATE resources SET state = 'Dead' WHERE resource_id = 1")

    with pytest.raises(errors.ForeignKeyViolation, match="resource 1 is held by job 1"):
        host.execute(statement)


def test_a_resource_without_a_host_may_be_of_another_type(host):
    host.execute("INSERT INTO resources (type) VALUES ('licence')")

    assert host.execute("SELECT network_address FROM resources WHERE type = 'licence'") == [("",)]


def test_ten_thousand_resources_change_in_linear_time_after_one_has(host):
    with closing(host.connect()) as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO resources (network_address) SELECT 'n' || i / 32 FROM generate_series(1, 10000) i")
        cursor.execute("UPDATE resources SET core = 1 WHERE resource_id = 1")
        # Quadratic plans took minutes; this takes half a second.
        cursor.execute("SET LOCAL statement_timeout = '60s'")

        cursor.execute("UPDATE resources SET state = 'Absent'")

        assert cursor.rowcount == 10004


def test_each_resource_is_shown_with_the_jobs_that_hold_it_now(host):
    with host.engine.begin() as conn:
        (over,) = rows.submitted(conn)
        rows.brought(conn, [over], JobState.TERMINATED, holds="{[1,2)}")
        (split,) = rows.submitted(conn)
        rows.brought(conn, [split], JobState.RUNNING, holds="{[1,2),[3,4)}")
        (ending,) = rows.submitted(conn)
        rows.brought(conn, [ending], JobState.FINISHING, holds="{[4,5)}")

    shown = host.execute("SELECT resource_id, jobs FROM visible_resources ORDER BY resource_id", role="oar_user")

    assert shown == [(1, [split]), (2, None), (3, [split]), (4, [ending])]


def test_who_holds_resources_is_looked_up_once_and_not_for_each_of_them(host):
    plan = host.execute("EXPLAIN SELECT * FROM visible_resources")

    assert "SubPlan" not in str(plan)
