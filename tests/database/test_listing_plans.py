"""What the listings cost does not grow with the history: no statement of theirs reads all jobs that ever were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from oarpy.client import job_view, periods, resource_view
from oarpy.client.connection import Connection
from oarpy.client.selection import Selection
from oarpy.model.filter_grammar import parse_filter
from tests.support.postgres import TestDatabase, TestServer

#: So many that reading all is never the cheaper way to a few.
ENDED = 20_000
# Past the triggers, which are not what is tried here.
HISTORY = """
    ALTER TABLE jobs DISABLE TRIGGER USER;
    ALTER TABLE allocations DISABLE TRIGGER USER;
    INSERT INTO resources (network_address) SELECT 'c' || n FROM generate_series(1, 20) AS n;
    INSERT INTO job_requests (request, wanted_resources, initial_request, stdout_pattern, stderr_pattern)
        SELECT '[]', '', '', '', '' FROM generate_series(1, 2000);
    INSERT INTO jobs (job_id, array_id, job_request_id, job_user, queue_name, command, launching_directory, stdout_file,
            stderr_file, state, submitted_at, started_at, stopped_at, alternative, walltime, planned_end_at, accounted,
            resubmit_job_id)
        SELECT n, n - n %% 10, 1 + n %% 2000, 'user' || n %% 1000, 'default', 'true', '/', '', '', state::job_state,
            began, CASE WHEN state <> 'Waiting' THEN began END,
            CASE WHEN state = 'Terminated' THEN began + interval '1 min' END, 0, '1 h', began,
            state = 'Terminated', CASE WHEN n %% 100 = 0 THEN n - 1 END
        FROM (SELECT n, now() - make_interval(mins => %(ended)s - n) AS began,
                CASE WHEN n <= %(ended)s THEN 'Terminated' WHEN n %% 2 = 0 THEN 'Running' ELSE 'Waiting' END AS state
            FROM generate_series(1, %(ended)s + 20) AS n) AS numbered;
    INSERT INTO allocations (job_id, attempt, resources, held, share)
        SELECT job_id, 1, int4multirange(int4range((job_id %% 20)::integer + 1, (job_id %% 20)::integer + 2)),
            tstzrange(started_at, stopped_at), job_id FROM jobs WHERE started_at IS NOT NULL;
    INSERT INTO job_state_logs (job_id, job_state, date_start, attempt) SELECT job_id, state, submitted_at, 1 FROM jobs;
    INSERT INTO events (type, job_id, date) SELECT 'CHECKPOINT', job_id, submitted_at FROM jobs;
    ANALYZE;
"""


class Explaining(Connection):
    """A session that keeps the plan of each statement it runs."""

    plans: list[dict[str, Any]]

    def rows(self, statement: Any, parameters: Any = ()) -> list[tuple[Any, ...]]:
        with self._conn.cursor() as cursor:
            text = statement if isinstance(statement, str) else statement.as_string(cursor)
            cursor.execute(f"EXPLAIN (FORMAT JSON) {text}", parameters)
            self.plans.append(cursor.fetchone()[0][0]["Plan"])
        return super().rows(statement, parameters)


@pytest.fixture(scope="module")
def long_history(postgres: TestServer) -> Iterator[TestDatabase]:
    with postgres.database() as database:
        database.execute(HISTORY, {"ended": ENDED})
        yield database


@pytest.fixture
def conn(long_history: TestDatabase) -> Explaining:
    session = Explaining(long_history.parameters("oar_user"), "test")
    session.plans = []
    return session


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def whole_reads(plans: list[dict[str, Any]]) -> list[str]:
    """Tables that grow with the history and are read from one end to the other."""
    growing = {"jobs", "allocations", "job_state_logs", "job_requests"}
    return [
        f"{node['Node Type']} on {node['Relation Name']}"
        for plan in plans
        for node in _nodes(plan)
        if node["Node Type"] == "Seq Scan"
        and (node["Relation Name"] in growing or node["Relation Name"].startswith("events"))
    ]


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (Selection(), 20),
        (Selection(job_ids=(7,)), 1),
        (Selection(array_ids=(70,)), 10),
        (Selection(ranges=((100, 120),)), 21),
        (Selection(job_ids=(7,), array_ids=(70,), ranges=((100, 120),)), 32),
        (Selection(user="user7"), 1),
        (Selection(filter=parse_filter("resubmit_job_id = '199'")), 1),
        (Selection(filter=parse_filter("state = 'Running'"), live=True), 10),
    ],
)
def test_jobs_are_found_without_reading_those_that_are_over(conn, selection, count):
    found = job_view.details(conn, selection)
    job_ids = [job.job_id for job in found]
    job_view.lines(conn, selection)
    job_view.states(conn, selection)
    job_view.events(conn, job_ids)
    job_view.dependencies(conn, job_ids)
    job_view.hosts(conn, {each for job in found for each in job.resources})

    assert len(found) == count
    assert whole_reads(conn.plans) == []


def test_resources_are_shown_without_reading_jobs_that_are_over(conn):
    assert len(resource_view.resources(conn)) == 20
    assert whole_reads(conn.plans) == []


def test_an_hour_ago_is_seen_without_reading_all_before(conn):
    (now_s,) = conn.rows("SELECT extract(epoch FROM now())::bigint")[0]

    assert job_view.lines(conn, Selection(), now_s - 3600)
    assert len(resource_view.resources(conn, at_s=now_s + 1)) == 20
    assert periods.bars(conn, now_s - 3600, now_s)
    assert whole_reads(conn.plans) == []


def test_any_number_of_jobs_is_read_in_parts(conn, monkeypatch):
    monkeypatch.setattr(job_view, "PART", 4)

    parts = list(job_view.details_in_parts(conn, Selection(ranges=((11, 20),))))

    assert [[job.job_id for job in part] for part in parts] == [[11, 12, 13, 14], [15, 16, 17, 18], [19, 20]]
    assert whole_reads(conn.plans) == []


def test_a_whole_read_would_be_seen(conn):
    conn.rows("SELECT * FROM oar.visible_jobs WHERE command = 'x'")

    assert "Seq Scan on jobs" in whole_reads(conn.plans)
