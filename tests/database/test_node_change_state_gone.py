"""Jobs whose resources cannot be used any more, and jobs that a person declares gone."""

from __future__ import annotations

import pytest

from oarpy.automata.almighty import Event as Outcome
from oarpy.database import events, nodes
from oarpy.database.events import Event
from oarpy.model.states import JobState
from oarpy.modules import node_change_state
from oarpy.modules.context import Context
from oarpy.settings import Settings
from tests.support import invariants, rows
from tests.support.postgres import TestDatabase


@pytest.fixture
def cluster(database: TestDatabase) -> TestDatabase:
    """Hosts c1 and c2 with two resources each, already looked at."""
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 2)
        rows.resources(conn, "c2", 2)
    turn(database)
    return database


def turn(database: TestDatabase) -> Outcome:
    return node_change_state.turn(Context(database.engine, Settings()))


def job(
    database: TestDatabase, state: JobState, *, holds: str = "{[1,2)}", types: tuple[str, ...] = (), space: int = 0
) -> int:
    with database.engine.begin() as conn:
        (job_id,) = rows.submitted(conn, types=types)
        rows.brought(conn, [job_id], state, holds=holds, space=space)
    return job_id


def become(database: TestDatabase, state: str, host: str = "c1") -> Outcome:
    database.execute("UPDATE resources SET state = %s WHERE network_address = %s", [state, host])
    return turn(database)


def shown(database: TestDatabase, job_id: int) -> tuple[object, ...]:
    """State and end cause of a job, and whether it still holds resources."""
    ((state, cause, holds),) = database.execute(
        "SELECT state, end_cause, EXISTS (SELECT FROM allocations a WHERE a.job_id = j.job_id AND upper_inf(held))"
        " FROM jobs j WHERE job_id = %s",
        [job_id],
    )
    return state, cause, holds


def to_be_killed(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.execute("SELECT job_id, cause FROM frag_jobs ORDER BY job_id")


@pytest.mark.parametrize("state", ["Absent", "Dead", "Suspected"])
def test_a_job_that_was_not_launched_yet_goes_back_to_the_queue(cluster, state):
    job_id = job(cluster, JobState.TO_LAUNCH)

    outcome = become(cluster, state)

    assert outcome is Outcome.JOBS_CHANGED
    assert shown(cluster, job_id) == ("Waiting", None, False)
    assert cluster.execute("SELECT walltime, planned_end_at, attempt FROM jobs") == [(None, None, 1)]
    assert invariants.broken(cluster.engine) == []


@pytest.mark.parametrize("state", ["Absent", "Dead"])
@pytest.mark.parametrize("of_job", [JobState.LAUNCHING, JobState.RUNNING, JobState.SUSPENDED])
def test_a_launched_job_is_to_be_killed_and_keeps_what_it_holds(cluster, state, of_job):
    job_id = job(cluster, of_job)

    outcome = become(cluster, state)

    assert outcome is Outcome.JOBS_TO_KILL
    assert to_be_killed(cluster) == [(job_id, "admin")]
    assert shown(cluster, job_id) == (of_job.value, None, True)


def test_a_host_that_is_only_suspected_kills_nothing(cluster):
    job(cluster, JobState.RUNNING)

    assert become(cluster, "Suspected") is Outcome.NOTHING
    assert to_be_killed(cluster) == []


def test_a_job_on_other_hosts_is_left_alone(cluster):
    running = job(cluster, JobState.RUNNING, holds="{[3,4)}")
    waiting = job(cluster, JobState.TO_LAUNCH, holds="{[4,5)}")

    become(cluster, "Dead")

    assert to_be_killed(cluster) == []
    assert shown(cluster, running) == ("Running", None, True)
    assert shown(cluster, waiting) == ("toLaunch", None, True)


def test_a_job_that_holds_some_of_a_gone_host_is_to_be_killed(cluster):
    job_id = job(cluster, JobState.RUNNING, holds="{[2,4)}")

    become(cluster, "Absent")

    assert to_be_killed(cluster) == [(job_id, "admin")]
    assert cluster.execute("SELECT hosts FROM events WHERE job_id = %s AND type = 'FRAG_JOB_REQUEST'", [job_id]) == [
        (["c1"],)
    ]


@pytest.mark.parametrize("type_", ["noop", "cosystem", "cosystem=front", "deploy=standby", "state=permissive"])
def test_jobs_that_do_not_mind_are_left_alone(cluster, type_):
    job(cluster, JobState.RUNNING, types=(type_,))
    job(cluster, JobState.TO_LAUNCH, types=(type_,), holds="{[2,3)}")

    assert become(cluster, "Dead") is Outcome.NOTHING
    assert to_be_killed(cluster) == []


def test_a_vanished_resource_counts_as_gone(cluster):
    job_id = job(cluster, JobState.RUNNING)
    cluster.execute("ALTER TABLE resources DISABLE TRIGGER resources_guarded")

    cluster.execute("DELETE FROM resources WHERE resource_id = 1")
    turn(cluster)

    assert to_be_killed(cluster) == [(job_id, "admin")]


def test_the_kill_is_asked_for_once(cluster):
    job(cluster, JobState.RUNNING)
    become(cluster, "Absent")

    outcome = become(cluster, "Dead")

    assert outcome is Outcome.NOTHING
    assert len(to_be_killed(cluster)) == 1


def test_what_happened_while_nobody_looked_is_found_later(cluster):
    job_id = job(cluster, JobState.RUNNING)
    cluster.execute("UPDATE resources SET state = 'Absent' WHERE network_address = 'c1'")
    cluster.execute("UPDATE resources SET core = 5 WHERE network_address = 'c2'")

    turn(cluster)

    assert to_be_killed(cluster) == [(job_id, "admin")]


def test_a_turn_after_the_look_is_idle(cluster):
    become(cluster, "Absent")
    before = cluster.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())")

    turn(cluster)

    assert cluster.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before


@pytest.mark.parametrize("state", [JobState.LAUNCHING, JobState.RUNNING, JobState.SUSPENDED, JobState.FINISHING])
def test_a_persons_word_ends_the_jobs_of_a_host(cluster, state):
    job_id = job(cluster, state)

    with cluster.engine.begin() as conn:
        gone = nodes.declare_jobs_gone(conn, ["c1"])

    assert gone == nodes.Gone(ended=(job_id,), elsewhere=())
    assert shown(cluster, job_id) == ("Error", "admin", False)
    assert invariants.broken(cluster.engine) == []


def test_a_persons_word_about_one_host_does_not_end_a_job_on_two(cluster):
    job_id = job(cluster, JobState.RUNNING, holds="{[2,4)}")

    with cluster.engine.begin() as conn:
        gone = nodes.declare_jobs_gone(conn, ["c1"])

    assert gone == nodes.Gone(ended=(), elsewhere=(job_id,))
    assert shown(cluster, job_id) == ("Running", None, True)


def test_a_persons_word_ends_a_container_with_the_jobs_in_it(cluster):
    container = job(cluster, JobState.RUNNING, holds="{[1,3)}")
    inner = job(cluster, JobState.RUNNING, holds="{[1,2)}", space=container)

    with cluster.engine.begin() as conn:
        gone = nodes.declare_jobs_gone(conn, ["c1"])

    assert gone.ended == (container, inner)
    assert invariants.broken(cluster.engine) == []


def test_a_persons_word_leaves_other_hosts_and_what_was_not_launched(cluster):
    other = job(cluster, JobState.RUNNING, holds="{[3,4)}")
    to_launch = job(cluster, JobState.TO_LAUNCH)

    with cluster.engine.begin() as conn:
        gone = nodes.declare_jobs_gone(conn, ["c1", "nowhere"])

    assert gone == nodes.Gone((), ())
    assert shown(cluster, other) == ("Running", None, True)
    assert shown(cluster, to_launch) == ("toLaunch", None, True)


def test_a_logged_word_of_a_person_ends_the_jobs_of_a_host(cluster):
    job_id = job(cluster, JobState.RUNNING)
    other = job(cluster, JobState.RUNNING, holds="{[2,4)}")
    with cluster.engine.begin() as conn:
        events.append(conn, [Event("JOBS_ARE_GONE", hosts=("c1",))])

    outcome = turn(cluster)

    assert outcome is Outcome.JOBS_CHANGED
    assert shown(cluster, job_id) == ("Error", "admin", False)
    assert shown(cluster, other) == ("Running", None, True)
    assert cluster.execute("SELECT job_id FROM events WHERE type = 'JOB_NOT_GONE'") == [(other,)]


def parallel(database, state, others, *, holds="{[1,4)}"):
    """A job on c1 and c2 whose head is c1, or c2."""
    job_id = job(database, state, holds=holds)
    head = {"c1": "c2", "c2": "c1"}[others]
    database.execute("UPDATE jobs SET head = %s, other_hosts = ARRAY[%s] WHERE job_id = %s", (head, others, job_id))
    return job_id


def test_a_word_about_the_head_ends_the_command_and_leaves_the_rest_to_be_cleaned(cluster):
    job_id = parallel(cluster, JobState.RUNNING, "c2")

    with cluster.engine.begin() as conn:
        gone = nodes.declare_jobs_gone(conn, ["c1"])

    assert gone == nodes.Gone(headless=(job_id,))
    assert shown(cluster, job_id) == ("Finishing", "admin", True)
    assert cluster.execute("SELECT over_hosts FROM jobs") == [(None,)]


def test_a_word_about_another_host_has_the_job_killed_and_is_remembered(cluster):
    job_id = parallel(cluster, JobState.RUNNING, "c1")

    with cluster.engine.begin() as conn:
        events.append(conn, [Event("JOBS_ARE_GONE", hosts=("c1",))])
    outcome = turn(cluster)

    assert outcome is Outcome.JOBS_TO_KILL
    assert to_be_killed(cluster) == [(job_id, "admin")]
    assert shown(cluster, job_id) == ("Running", None, True)
    assert cluster.execute("SELECT over_hosts FROM jobs") == [(["c1"],)]
    assert cluster.execute("SELECT job_id FROM events WHERE type IN ('PART_LOST', 'JOB_NOT_GONE')") == [(job_id,)]


def test_a_word_about_all_hosts_of_a_parallel_job_ends_it(cluster):
    job_id = parallel(cluster, JobState.RUNNING, "c2")

    with cluster.engine.begin() as conn:
        gone = nodes.declare_jobs_gone(conn, ["c1", "c2"])

    assert gone == nodes.Gone(ended=(job_id,))
    assert shown(cluster, job_id) == ("Error", "admin", False)
    assert invariants.broken(cluster.engine) == []


def test_a_job_that_is_over_but_for_a_host_ends_as_it_ended(cluster):
    job_id = parallel(cluster, JobState.FINISHING, "c1")
    cluster.execute("UPDATE jobs SET end_cause = 'exit', exit_code = 0")

    with cluster.engine.begin() as conn:
        gone = nodes.declare_jobs_gone(conn, ["c1"])

    # The runner closes it.
    assert gone == nodes.Gone()
    assert shown(cluster, job_id) == ("Finishing", "exit", True)
    assert cluster.execute("SELECT over_hosts FROM jobs") == [(["c1"],)]
