"""What is written of launches."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import event, text

from oarpy.database import allocations, launches
from oarpy.database.launches import End, PartEnd
from oarpy.model.states import EndCause, JobState
from tests.support import invariants, rows

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


def parts_of(conn, hosts=("c1", "c2", "c3"), state=JobState.FINISHING):
    """A job on two resources of each of these hosts, the first its head."""
    for host in hosts:
        first, *_ = rows.resources(conn, host, 2)
    (job_id,) = rows.submitted(conn)
    rows.brought(conn, [job_id], state, holds=f"{{[{first - 4},{first + 2})}}")
    conn.execute(text("UPDATE jobs SET head = :head, other_hosts = :others"), {"head": "c1", "others": list(hosts[1:])})
    return job_id


def used(conn):
    return [tuple(row) for row in conn.execute(text("SELECT cpu_used, cpu_hosts, peak_memory_mib FROM jobs"))]


def test_what_a_part_used_is_added_once_however_often_it_is_told(database):
    with database.engine.begin() as conn:
        job_id = parts_of(conn, state=JobState.RUNNING)
        part = PartEnd(job_id, "c2", timedelta(seconds=5), 70)

        launches.finish(conn, [End(job_id, EndCause.EXIT, 0, None, ran=True, cpu=timedelta(seconds=2), peak_mib=50)])
        heard = [launches.end_parts(conn, [part, part]), launches.end_parts(conn, [part])]
        heard.append(launches.end_parts(conn, [PartEnd(job_id, "c3"), PartEnd(job_id, "c9"), PartEnd(job_id, "c1")]))
        found = used(conn)

    assert heard == [{(job_id, "c2")}, set(), {(job_id, "c3")}]
    assert found == [(timedelta(seconds=7), 2, 70)]
    with database.engine.connect() as conn:
        assert conn.execute(text("SELECT cpu_used, peak_memory_mib FROM visible_jobs")).one() == (None, 70)


def test_a_part_may_end_before_the_head(database):
    with database.engine.begin() as conn:
        job_id = parts_of(conn, ("c1", "c2", "c3"), state=JobState.RUNNING)
        launches.end_parts(conn, [PartEnd(job_id, "c2", timedelta(seconds=5), 70), PartEnd(job_id, "c3", timedelta())])
        launches.finish(conn, [End(job_id, EndCause.EXIT, 0, None, ran=True, cpu=timedelta(seconds=2))])

        assert used(conn) == [(timedelta(seconds=7), 3, 70)]
        assert conn.execute(text("SELECT cpu_used FROM visible_jobs")).scalar() == timedelta(seconds=7)


def test_what_is_over_is_given_back_and_the_rest_is_held(database):
    with database.engine.begin() as conn:
        job_id = parts_of(conn)
        allocation = text("SELECT resources::text, returned::text, upper_inf(held) FROM allocations")

        found = [(allocations.give_back(conn, [job_id]), *conn.execute(allocation).one())]
        launches.end_parts(conn, [PartEnd(job_id, "c2")])
        found.append((allocations.give_back(conn, [job_id]), *conn.execute(allocation).one()))
        found.append((allocations.give_back(conn, [job_id]), *conn.execute(allocation).one()))
        # That is for the job's closing.
        launches.end_parts(conn, [PartEnd(job_id, "c3")])
        found.append((allocations.give_back(conn, [job_id]), *conn.execute(allocation).one()))

    assert found == [
        ([job_id], "{[3,7)}", "{[1,3)}", True),
        ([job_id], "{[5,7)}", "{[1,5)}", True),
        ([], "{[5,7)}", "{[1,5)}", True),
        ([], "{[5,7)}", "{[1,5)}", True),
    ]
    assert invariants.broken(database.engine) == []


def test_a_job_that_runs_gives_nothing_back(database):
    with database.engine.begin() as conn:
        job_id = parts_of(conn, state=JobState.RUNNING)
        launches.end_parts(conn, [PartEnd(job_id, "c2")])

        assert allocations.give_back(conn, [job_id]) == []
