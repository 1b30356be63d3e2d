"""What hosts say that no table can hold: the runner goes on, for that host and for all others."""

from __future__ import annotations

from typing import Any

import pytest

from oarpy.database.connection import transaction
from oarpy.drivers.oarexec_link import read_report
from oarpy.model.states import JobId, JobState
from oarpy.modules.context import Context
from oarpy.settings import Settings
from tests.support import rows
from tests.support.paper_hosts import PaperHosts, serving
from tests.support.postgres import TestDatabase
from tests.support.reports import ENDED
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

    with serving(Context(database.engine, Settings()), hosts) as ended:
        wait_until(
            lambda: (
                ended or database.execute("SELECT 1 FROM jobs WHERE job_id = %s AND stopped_at IS NOT NULL", (job_id,))
            ),
            timeout_s=DEADLINE_S,
            what="the job is over",
        )

    assert ended == []
