"""``why``: what appendice answers of a waiting job, from the tables as they are."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from oarpy.model.resource_grammar import parse_wishes, wishes_to_json
from oarpy.modules import appendice as appendices
from oarpy.modules import scheduler
from oarpy.modules.context import Context
from oarpy.settings import Settings
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.support.requests import (
    RUNNING,
    answer_to,
    answered,
    appendice,
    ask,
    bring,
    submission,
    submitted,
    with_hosts,
)


def wanted(*texts: str) -> list[object]:
    return wishes_to_json(parse_wishes(list(texts)))


def plan(database: TestDatabase) -> None:
    scheduler.turn(Context(database.engine, Settings()))


def why(database: TestDatabase, job_id: int, *, login: str = "alice") -> dict[str, object]:
    answer: dict[str, object] = answered(database, "why", {"job_ids": [job_id]}, login=login)
    return answer


def test_the_answer_tells_the_plan_who_is_in_the_way_and_what_would_help(database: TestDatabase) -> None:
    with_hosts(database, hosts=2, cores=1)
    running = bring(database, submitted(database, login="bob", wishes=wanted("core=1,walltime=1")), *RUNNING)
    first = submitted(database, login="eve", wishes=wanted("core=2,walltime=1"))
    job = submitted(database, wishes=wanted("core=1,walltime=2"))
    plan(database)

    answer = why(database, job)

    ((end_s,),) = database.execute(
        "SELECT extract(epoch FROM planned_end_at)::bigint FROM jobs WHERE job_id = %s", [running]
    )
    assert isinstance(end_s, int)
    assert (answer["ok"], answer["job_id"], answer["code"]) == (True, job, "BUSY")
    assert answer["start"] == answer["told_start"]
    assert end_s + 3600 <= int(str(answer["start"])) <= end_s + 3900
    before = answer["before"]
    assert isinstance(before, dict)
    assert (before["jobs"], before["taking"]) == (1, 1)
    assert [(each["job_id"], each["user"]) for each in before["last"]] == [(first, "eve")]
    (change,) = answer["changes"]  # type: ignore[misc]
    assert (change["kind"], change["start"]) == ("walltime", answer["now"])
    assert 3000 < change["walltime"] <= 3600
    (alternative,) = answer["alternatives"]  # type: ignore[misc]
    assert [(level["property"], level["needed"], level["free"]) for level in alternative["groups"][0]["levels"]] == [
        ("core", 1, 1)
    ]


def test_anybody_may_ask_as_anybody_may_look(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=1)
    job = submitted(database, login="bob")

    answer = why(database, job, login="eve")

    assert (answer["ok"], answer["start"]) == (True, answer["now"])


def test_a_job_that_nothing_was_told_of_is_planned_all_the_same(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=1)
    bring(database, submitted(database, login="bob"), *RUNNING)
    first, second = submitted(database), submitted(database)

    answer = why(database, second)

    assert answer["told_start"] is None
    assert answer["start"] is not None
    assert [each["job_id"] for each in answer["before"]["last"]] == [first]  # type: ignore[index]


@pytest.mark.parametrize("state", ["Hold", "toLaunch"])
def test_of_a_job_that_does_not_wait_there_is_nothing_to_tell(database: TestDatabase, state: str) -> None:
    with_hosts(database)
    job = bring(database, submitted(database), state)

    answer = why(database, job)

    assert (answer["ok"], answer["message"]) == (False, f"job {job} does not wait for resources")


@pytest.mark.parametrize("payload", [{"job_ids": []}, {"job_ids": [1, 2]}, {"array_ids": [1]}, {"job_ids": ["1"]}, []])
def test_what_names_no_single_job_is_refused(database: TestDatabase, payload: object) -> None:
    answer = answered(database, "why", payload)  # type: ignore[arg-type]

    assert answer["ok"] is False
    assert answer["exit_status"] in (4, 18)


def test_a_job_whose_request_cannot_be_read_is_told_to_be_set_aside(database: TestDatabase) -> None:
    with_hosts(database)
    job = submitted(database)
    database.execute("UPDATE job_requests SET request = '{}'")

    answer = why(database, job)

    assert (answer["ok"], answer["code"], answer["start"]) == (True, "SET_ASIDE", None)


def test_a_look_changes_nothing(database: TestDatabase) -> None:
    with_hosts(database, hosts=1, cores=1)
    submitted(database, login="bob")
    second = submitted(database)
    plan(database)
    tables = ("jobs", "predictions", "prediction_log", "allocations", "events")
    before = [database.execute(f"SELECT * FROM {table} ORDER BY 1") for table in tables]

    why(database, second)

    assert [database.execute(f"SELECT * FROM {table} ORDER BY 1") for table in tables] == before


def test_requests_that_are_dear_give_way_to_others(database: TestDatabase) -> None:
    with_hosts(database)
    job = submitted(database)
    dear = [ask(database, "why", {"job_ids": [job]}, login="eve") for _ in range(3)]
    others = [ask(database, "submit", submission(), login=login) for login in ("alice", "bob")]
    serving = appendice(database)

    first, second = serving.turn(), serving.turn()

    assert (first, second) == (2, 1)
    assert all(answer_to(database, one) for one in others)
    assert [answer_to(database, one) is not None for one in dear] == [True, False, False]
    assert serving.behind


def test_they_are_not_put_off_for_ever(database: TestDatabase) -> None:
    with_hosts(database)
    job = submitted(database)
    dear = ask(database, "why", {"job_ids": [job]}, login="eve")
    serving = appendice(database)

    for _ in range(appendices.MOST_PASSED_OVER + 1):
        ask(database, "submit", submission())
        serving.turn()

    assert answer_to(database, dear)["ok"]


def test_the_scores_compare_what_was_told_with_what_came(database: TestDatabase) -> None:
    with_hosts(database)
    jobs = [submitted(database) for _ in range(11)]
    with database.engine.begin() as conn:
        for late_min, job in enumerate(jobs, -5):
            bring(database, job, *RUNNING)
            conn.execute(
                text(
                    "INSERT INTO prediction_log (job_id, kind, start_at)"
                    " SELECT job_id, 'told', started_at - :late * interval '1 min' FROM jobs WHERE job_id = :job"
                ),
                {"late": late_min, "job": job},
            )
        waiting = submitted(database)
        conn.execute(text("INSERT INTO prediction_log VALUES (:job, 'told', now(), now())"), {"job": waiting})
        old = "INSERT INTO prediction_log SELECT job_id, 'hourly', now() - interval '8 days', started_at FROM jobs"
        conn.execute(text(f"{old} WHERE started_at IS NOT NULL"))

    scores = database.execute(
        "SELECT period::text, queue_name, kind::text, predictions, mean_error::text, error_10::text, error_50::text,"
        " error_90::text, round(in_time::numeric, 2)::float FROM prediction_scores s ORDER BY s.period, s.kind DESC",
        role="oar_user",
    )

    told = ("default", "told", 11, "00:00:00", "-00:04:00", "00:00:00", "00:04:00", 0.55)
    assert scores == [
        ("1 day", *told),
        ("7 days", *told),
        ("30 days", "default", "hourly", 11, "00:00:00", "00:00:00", "00:00:00", "00:00:00", 1.0),
        ("30 days", *told),
    ]


def test_the_scores_read_only_what_was_said_in_their_period(database: TestDatabase) -> None:
    with database.engine.begin() as conn:
        rows.submitted(conn, 2000)
    database.execute(
        "UPDATE jobs SET state = 'Error', started_at = now(), stopped_at = now(), exit_code = 0, end_cause = 'killed'"
    )
    database.execute(
        "INSERT INTO prediction_log SELECT j.job_id, 'hourly', now() - h * interval '1 hour', now()"
        " FROM generate_series(720, 1, -20) h, jobs j"
    )
    database.execute("SELECT brin_summarize_new_values('prediction_log_said_at_idx')")
    database.execute("ANALYZE prediction_log, jobs")

    ((found,),) = database.execute("EXPLAIN (FORMAT JSON) SELECT * FROM prediction_scores WHERE period = '1 day'")

    plan = json.dumps(found)
    assert "prediction_log_said_at_idx" in plan
    assert not [node for node in plan.split("Node Type")[1:] if "Seq Scan" in node and "prediction_log" in node]
