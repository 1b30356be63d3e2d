"""What grows with time is bounded, and what stays behind goes."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from sqlalchemy import text

from oarpy.database import housekeeping
from oarpy.model.states import JobState
from oarpy.modules import sarko
from oarpy.modules.context import Context
from oarpy.settings import Retention, Settings
from tests.support import rows
from tests.support.postgres import TestDatabase


def test_the_partition_of_the_next_month_is_made_once(database: TestDatabase) -> None:
    december = datetime(2030, 12, 31, 23, 59, tzinfo=UTC)

    with database.engine.begin() as conn:
        made = [housekeeping.prepare_events(conn, december) for _ in range(2)]
        conn.execute(text("INSERT INTO events (type, date) VALUES ('X', '2031-01-31 23:59:59+00')"))
        held_in = conn.execute(text("SELECT tableoid::regclass::text FROM events")).scalar_one()

    assert made == [True, False]
    assert held_in == "events_2031_01"


def test_events_go_by_whole_months_and_one_by_one_where_they_have_no_partition(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        housekeeping.prepare_events(conn, datetime(2030, 1, 5, tzinfo=UTC))
        for date in ("2029-12-01", "2030-01-20", "2030-02-10"):
            conn.execute(
                text("INSERT INTO events (type, date) VALUES (:date, CAST(:date AS timestamptz))"), {"date": date}
            )

    with database.engine.begin() as conn:
        kept = housekeeping.drop_events(conn, datetime(2030, 1, 15, tzinfo=UTC))
        gone = housekeeping.drop_events(conn, datetime(2030, 3, 1, tzinfo=UTC))
        left = conn.execute(text("SELECT type FROM events")).scalars().all()

    assert (kept, gone, left) == ([], ["events_2030_02"], [])


def test_answered_requests_go_with_age_and_pending_ones_stay(database: TestDatabase) -> None:
    database.execute(
        "INSERT INTO requests (key, verb, payload, requested_by, login, state, answer, asked_at, expires_at) "
        "SELECT gen_random_uuid(), 'submit', '{}', 'peer:a', 'a', s::request_state, "
        "CASE s WHEN 'answered' THEN '{}'::jsonb END, now() - age::interval, now() "
        "FROM (VALUES ('answered', '8 d'), ('answered', '6 d'), ('pending', '8 d'), ('expired', '8 d')) v(s, age)"
    )

    sarko.turn(Context(database.engine, Settings()))

    assert database.execute("SELECT state FROM requests ORDER BY state") == [("pending",), ("answered",)]


def test_predictions_go_with_age(database: TestDatabase) -> None:
    database.execute(
        "INSERT INTO prediction_log (job_id, kind, said_at, start_at)"
        " SELECT id, 'first', now() - age::interval, now() FROM (VALUES (1, '366 d'), (2, '364 d')) v(id, age)"
    )

    sarko.turn(Context(database.engine, Settings()))

    assert database.execute("SELECT job_id FROM prediction_log") == [(2,)]


def test_orders_that_are_done_go_with_age_unless_their_job_is_unfinished(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1")
        (over,) = rows.submitted(conn)
        rows.brought(conn, [over], JobState.TERMINATED)
        (unfinished,) = rows.submitted(conn)
    for job_id, age in ((over, "366 d"), (over, "364 d"), (unfinished, "366 d")):
        database.execute(
            "INSERT INTO orders (kind, job_id, attempt, deadline, done_at, succeeded)"
            " VALUES ('signal', %s, 1, now(), now() - %s::interval, true)",
            [job_id, age],
        )
    database.execute(
        "INSERT INTO orders (kind, host, asked_at, deadline) VALUES ('check', 'c1', now() - interval '366 d', now())"
    )

    sarko.turn(Context(database.engine, Settings()))

    assert database.execute("SELECT job_id FROM orders ORDER BY order_id") == [(over,), (unfinished,), (None,)]


def test_suspicions_go_with_age_unless_a_job_may_fail_again(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1")
        (over,) = rows.submitted(conn)
        rows.brought(conn, [over], JobState.TERMINATED)
        (unfinished,) = rows.submitted(conn)
        (recent,) = rows.submitted(conn)
        rows.brought(conn, [recent], JobState.TERMINATED)
    for array_id, age in ((over, "366 d"), (unfinished, "366 d"), (recent, "364 d")):
        database.execute(
            "INSERT INTO suspicions (array_id, array_index, host, date) VALUES (%s, 1, 'c1', now() - %s::interval)",
            [array_id, age],
        )

    sarko.turn(Context(database.engine, Settings()))

    assert database.execute("SELECT array_id FROM suspicions ORDER BY array_id") == [(unfinished,), (recent,)]


def test_a_user_who_keeps_a_transaction_open_loses_the_session_and_an_admin_does_not(database: TestDatabase) -> None:
    with closing(database.connect("oar_user")) as user, closing(database.connect("oar")) as admin:
        for session in (user, admin):
            with session.cursor() as cursor:
                cursor.execute("SELECT 1")

        with database.engine.begin() as conn:
            ended = housekeeping.end_long_transactions(conn, timedelta(0))

        assert len(ended) == 1
        with pytest.raises(psycopg2.OperationalError), user.cursor() as cursor:
            cursor.execute("SELECT 1")
        with admin.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_idle_sessions_of_users_make_room_only_when_they_crowd_out_others(database: TestDatabase) -> None:
    with closing(database.connect("oar_user")) as user, user.cursor() as cursor:
        user.autocommit = True
        cursor.execute("SELECT 1")

        with database.engine.begin() as conn:
            spared = housekeeping.make_room(conn, share=0.9, idle=timedelta(0))
            ended = housekeeping.make_room(conn, share=0.0, idle=timedelta(0))

        assert spared == []
        assert len(ended) == 1
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1")


def test_jobs_go_with_age_when_the_site_says_so_and_nothing_needs_them(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1")
        old, young, required = (rows.submitted(conn)[0] for _ in range(3))
        array, second = rows.submitted(conn, 2)
        for job_id in (old, young, required, array):
            rows.brought(conn, [job_id], JobState.TERMINATED)
    database.execute("INSERT INTO job_dependencies (job_id, job_id_required) VALUES (%s, %s)", [second, required])
    for job_id, age in ((old, "31 d"), (young, "29 d"), (required, "31 d"), (array, "31 d")):
        database.execute(
            "UPDATE jobs SET started_at = now() - %s::interval - interval '1 h', stopped_at = now() - %s::interval,"
            " accounted = true WHERE job_id = %s",
            [age, age, job_id],
        )

    sarko.turn(Context(database.engine, Settings()))
    assert database.execute("SELECT count(*) FROM jobs") == [(5,)]
    sarko.turn(Context(database.engine, Settings(retention=Retention(jobs=timedelta(days=30)))))

    left = [young, required, second]
    assert database.execute("SELECT job_id FROM jobs ORDER BY job_id") == [(job_id,) for job_id in sorted(left)]
    for table in ("job_state_logs", "allocations"):
        assert {job_id for (job_id,) in database.execute(f"SELECT job_id FROM {table}")} <= set(left)
    # The request of the array is that of its other element too.
    assert database.execute("SELECT count(*) FROM job_requests") == [(3,)]


def test_jobs_that_are_not_charged_yet_stay(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1")
        (job_id,) = rows.submitted(conn)
        rows.brought(conn, [job_id], JobState.TERMINATED)
    database.execute("UPDATE jobs SET stopped_at = now() - interval '31 d'")

    with database.engine.begin() as conn:
        removed = housekeeping.forget_jobs(conn, datetime.now(UTC))

    assert removed == 0


def test_sums_of_what_was_used_go_with_age_but_not_those_that_karma_counts(database: TestDatabase) -> None:
    database.execute(
        "INSERT INTO accounting SELECT now() - age::interval, now() - age::interval + interval '1 d', 'a', 'p', 'q', "
        "'USED', 1 FROM (VALUES ('400 d'), ('20 d')) v(age)"
    )

    sarko.turn(Context(database.engine, Settings()))
    assert database.execute("SELECT count(*) FROM accounting") == [(2,)]
    sarko.turn(Context(database.engine, Settings(retention=Retention(accounting=timedelta(days=1)))))

    assert database.execute("SELECT now() - window_start < interval '21 d' FROM accounting") == [(True,)]
