"""A turn of the runner that is not written: what it was about is done by the next one."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2
import pytest
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from oarpy.database import events as runner_events
from oarpy.database import launches
from oarpy.database.connection import transaction
from oarpy.model.states import JobId, JobState
from oarpy.modules.context import Context
from oarpy.ports.executor import Attempt, OrderWord, Refused
from oarpy.settings import Settings
from tests.support import rows
from tests.support.paper_hosts import PaperHosts, serving
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

DEADLINE_S = 60.0


def test_a_job_whose_hosts_were_not_ready_waits_again_though_the_database_was_away(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction(database.engine, None, durable=False) as conn:
        (first,), (second,) = rows.resources(conn, "c1"), rows.resources(conn, "c2")
        (job_id,) = rows.submitted(conn)
        rows.brought(conn, [job_id], JobState.TO_LAUNCH, holds=f"{{[{first},{second + 1})}}")
    hosts = PaperHosts()
    returned: list[Sequence[JobId]] = []
    real = launches.return_unbegun

    def return_unbegun(conn: Connection, job_ids: Sequence[JobId]) -> tuple[list[JobId], list[JobId]]:
        found = real(conn, job_ids)
        if job_ids:
            returned.append(job_ids)
            # So that the next turn leaves it alone.
            conn.exec_driver_sql("UPDATE queues SET state = 'notActive'")
        return found

    def commit_fails_once(conn: Connection, events: object) -> None:
        append(conn, events)  # type: ignore[arg-type]
        if len(returned) == 1:
            returned.append([])
            raise OperationalError("COMMIT", None, psycopg2.OperationalError("server closed the connection"))

    append = runner_events.append
    monkeypatch.setattr(launches, "return_unbegun", return_unbegun)
    monkeypatch.setattr(runner_events, "append", commit_fails_once)

    def ordered(word: OrderWord) -> bool:
        return any(order.word is word for order in hosts.ordered)

    with serving(Context(database.engine, Settings()), hosts) as ended:
        wait_until(lambda: hosts.launched, timeout_s=DEADLINE_S, what="the part is made")
        links = {session.greeting.host: session for session in hosts.sessions}
        links["c2"].say([Refused(Attempt(job_id, 1))])
        wait_until(lambda: ordered(OrderWord.REFUSE), timeout_s=DEADLINE_S, what="the head is told")
        links["c1"].say([Refused(Attempt(job_id, 1))])
        wait_until(
            lambda: ended or database.execute("SELECT 1 FROM jobs WHERE state = 'Waiting'"),
            timeout_s=DEADLINE_S,
            what="the job waits again",
        )

    assert ended == []
    assert returned[1] == [], "the first turn was not written"
