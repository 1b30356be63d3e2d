"""What is written of launches."""

from __future__ import annotations

from sqlalchemy import event, text

from oarpy.database import launches
from oarpy.model.states import JobState
from tests.support import rows

_WISH = text("INSERT INTO frag_jobs (job_id, cause, asked_by, state) VALUES (:job, :cause, 'bob', :state)")
_JOBS = text("SELECT job_id, state, end_cause, attempt FROM jobs ORDER BY job_id")


def launching(conn, count):
    """Jobs whose launch has begun, each on a resource of its own."""
    first, *_ = rows.resources(conn, "c1", count)
    job_ids = rows.submitted(conn, count)
    for place, job_id in enumerate(job_ids, first):
        rows.brought(conn, [job_id], JobState.LAUNCHING, holds=f"{{[{place},{place + 1})}}")
    return job_ids


def test_of_jobs_that_never_began_those_that_are_wished_dead_end_with_the_cause_of_the_wish(database):
    with database.engine.begin() as conn:
        kept, unwanted, displaced, spared = launching(conn, 4)
        conn.execute(_WISH, {"job": unwanted, "cause": "killed", "state": "LEON"})
        conn.execute(_WISH, {"job": displaced, "cause": "besteffort", "state": "TIMER_ARMED"})
        conn.execute(_WISH, {"job": spared, "cause": "killed", "state": "FRAGGED"})

        waiting, killed = launches.return_unbegun(conn, [kept, unwanted, displaced, spared])
        found = [tuple(row) for row in conn.execute(_JOBS)]

    assert (waiting, killed) == ([kept, spared], [unwanted, displaced])
    assert found == [
        (kept, "Waiting", None, 2),
        (unwanted, "Error", "killed", 2),
        (displaced, "Error", "besteffort", 2),
        (spared, "Waiting", None, 2),
    ]


def test_returning_many_jobs_takes_as_many_statements_as_returning_two(database):
    def statements(count):
        said = []
        with database.engine.connect() as conn:
            job_ids = launching(conn, count)
            for job_id in job_ids:
                conn.execute(_WISH, {"job": job_id, "cause": "killed", "state": "LEON"})
            event.listen(conn, "before_cursor_execute", lambda *_: said.append(1))
            launches.return_unbegun(conn, job_ids)
            conn.rollback()
        return len(said)

    assert statements(8) == statements(2)
