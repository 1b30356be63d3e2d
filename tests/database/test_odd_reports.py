"""What hosts say that no table can hold: the runner goes on, for that host and for all others."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

import pytest

from oarpy.database.connection import transaction
from oarpy.drivers.oarexec_link import read_report
from oarpy.errors import NodeMisbehaves
from oarpy.model.states import JobId, JobState
from oarpy.modules.context import Context
from oarpy.ports.executor import Ended, Report
from oarpy.settings import Settings
from tests.support import rows
from tests.support.mutations import mutated
from tests.support.paper_hosts import PaperHosts
from tests.support.postgres import TestDatabase
from tests.support.reports import ENDED
from tests.support.runners import serving
from tests.support.waiting import wait_until

DEADLINE_S = 60.0


def a_running_job(database: TestDatabase) -> JobId:
    with transaction(database.engine, None, durable=False) as conn:
        (resource,) = rows.resources(conn, "c1")
        (job_id,) = rows.submitted(conn)
        rows.brought(conn, [job_id], JobState.RUNNING, holds=f"{{[{resource},{resource + 1})}}")
        conn.exec_driver_sql("UPDATE jobs SET head = 'c1' WHERE job_id = %s", (job_id,))
    return job_id


@pytest.mark.parametrize(
    "odd",
    [
        {"event": "OUTPUT_FILES", "text": "no \udcff"},
        {"event": "OUTPUT_FILES", "text": "no \0"},
        {"short_of_memory": "\ud800 \0"},
        {"cause": "launch_error", "event": "NEVER HEARD \udcff", "text": "\0"},
    ],
)
def test_a_sentence_that_is_no_text_ends_its_job_and_nothing_else(database: TestDatabase, odd: dict[str, Any]) -> None:
    job_id = a_running_job(database)
    hosts = PaperHosts(kept={"c1": [read_report({**ENDED, "job": job_id, **odd})]})

    with serving(Context(database.engine, Settings()), hosts.reach) as ended:
        wait_until(
            lambda: (
                ended or database.execute("SELECT 1 FROM jobs WHERE job_id = %s AND stopped_at IS NOT NULL", (job_id,))
            ),
            timeout_s=DEADLINE_S,
            what="the job is over",
        )

    assert ended == []


def test_all_that_is_believed_of_an_end_can_be_written(database: TestDatabase) -> None:
    random = Random(1)
    believed: list[Report] = []
    with transaction(database.engine, None, durable=False) as conn:
        resources = rows.resources(conn, "c1", 200)
        job_ids = rows.submitted(conn, 200)
        for job_id, resource in zip(job_ids, resources, strict=True):
            rows.brought(conn, [job_id], JobState.RUNNING, holds=f"{{[{resource},{resource + 1})}}")
        conn.exec_driver_sql("UPDATE jobs SET head = 'c1'")
    while len(believed) < len(job_ids):
        said = {**ENDED, "job": job_ids[len(believed)]}
        with suppress(NodeMisbehaves):
            report = read_report(mutated(said, random))
            if isinstance(report, Ended) and report.attempt == (said["job"], 1):
                believed.append(report)

    with serving(Context(database.engine, Settings()), PaperHosts(kept={"c1": believed}).reach) as ended:
        wait_until(
            lambda: ended or not database.execute("SELECT job_id FROM jobs WHERE stopped_at IS NULL"),
            timeout_s=DEADLINE_S,
            what="all jobs are over",
        )

    assert ended == []
