"""What events do to hosts and jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, text

from oarpy.automata.almighty import Event as Outcome
from oarpy.database import events
from oarpy.database.events import Event
from oarpy.model.states import JobState
from oarpy.modules import node_change_state
from oarpy.modules.context import Context
from oarpy.settings import Settings
from tests.support import invariants, rows
from tests.support.postgres import TestDatabase


@pytest.fixture
def cluster(database: TestDatabase) -> TestDatabase:
    """Hosts c1 to c4 with two resources each: 1 and 2 are on c1, 3 and 4 on c2, …; all looked at."""
    with database.engine.begin() as conn:
        for host in ("c1", "c2", "c3", "c4"):
            rows.resources(conn, host, 2)
    turn(database)
    return database


def turn(database: TestDatabase, settings: Settings | None = None) -> Outcome:
    return node_change_state.turn(Context(database.engine, settings or Settings()))


def job(
    database: TestDatabase,
    state: JobState,
    *,
    holds: str = "{[1,2)}",
    types: tuple[str, ...] = (),
    copy_of: int | None = None,
    **values: object,
) -> int:
    with database.engine.begin() as conn:
        (job_id,) = rows.submitted(conn, types=types)
        rows.brought(conn, [job_id], state, holds=holds, **values)
        if copy_of is not None:
            # As a resubmission does: a copy keeps its place in the array.
            conn.execute(
                text(
                    "UPDATE jobs SET resubmit_job_id = :old, array_id = old.array_id"
                    " FROM (SELECT array_id FROM jobs WHERE job_id = :old) AS old WHERE job_id = :new"
                ),
                {"old": copy_of, "new": job_id},
            )
    return job_id


def happened(
    database: TestDatabase, type_: str, job_id: int | None = None, *hosts: str, description: str = ""
) -> Outcome:
    with database.engine.begin() as conn:
        events.append(conn, [Event(type_, job_id, hosts, description)])
    return turn(database)


def suspected(database: TestDatabase) -> list[object]:
    return [
        host
        for (host,) in database.execute(
            "SELECT DISTINCT network_address FROM resources WHERE state = 'Suspected' ORDER BY 1"
        )
    ]


def copies(database: TestDatabase, job_id: int) -> list[object]:
    return [copy for (copy,) in database.execute("SELECT job_id FROM jobs WHERE resubmit_job_id = %s", [job_id])]


def shown(database: TestDatabase, job_id: int) -> tuple[object, ...]:
    """State and end cause of a job, and whether it still holds resources."""
    ((state, cause, holds),) = database.execute(
        "SELECT state, end_cause, EXISTS (SELECT FROM allocations a WHERE a.job_id = j.job_id AND upper_inf(held))"
        " FROM jobs j WHERE job_id = %s",
        [job_id],
    )
    return state, cause, holds


def pending(database: TestDatabase) -> list[object]:
    return [type_ for (type_,) in database.execute("SELECT type FROM pending_events")]


def test_a_turn_without_work_writes_nothing(cluster):
    before = cluster.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())")

    outcome = turn(cluster)

    assert outcome is Outcome.NOTHING
    assert cluster.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())") == before


def test_all_resources_of_a_bad_host_become_suspected_together(cluster):
    outcome = happened(cluster, "CPUSET_CLEAN_ERROR", None, "c2")

    assert outcome is Outcome.JOBS_CHANGED
    assert cluster.execute(
        "SELECT resource_id, finaud_decision FROM resources WHERE state = 'Suspected' ORDER BY 1"
    ) == [
        (3, False),
        (4, False),
    ]


def test_what_a_check_suspects_a_check_may_heal(cluster):
    happened(cluster, "PING_CHECKER_NODE_SUSPECTED_END_JOB", None, "c2")

    assert cluster.execute("SELECT DISTINCT finaud_decision FROM resources WHERE state = 'Suspected'") == [(True,)]


@pytest.mark.parametrize("state", ["Absent", "Dead"])
def test_only_an_alive_host_becomes_suspected(cluster, state):
    cluster.execute(f"UPDATE resources SET state = '{state}' WHERE network_address = 'c2'")

    happened(cluster, "CPUSET_CLEAN_ERROR", None, "c2")

    assert suspected(cluster) == []
    assert pending(cluster) == []


def test_an_error_on_the_head_suspects_the_head_alone(cluster):
    job_id = job(cluster, JobState.FINISHING, holds="{[3,8)}")

    happened(cluster, "PROLOGUE_ERROR", job_id)

    assert suspected(cluster) == ["c2"]


def test_the_head_of_a_cosystem_job_is_not_suspected(cluster):
    job_id = job(cluster, JobState.FINISHING, types=("cosystem",))

    happened(cluster, "PROLOGUE_ERROR", job_id)

    assert suspected(cluster) == []


def test_terminating_a_finishing_job_by_force_suspects_all_its_hosts(cluster):
    job_id = job(cluster, JobState.FINISHING, holds="{[1,2),[5,7)}")

    happened(cluster, "FORCE_TERMINATE_FINISHING_JOB", job_id)

    assert suspected(cluster) == ["c1", "c3"]
    assert shown(cluster, job_id) == ("Error", "admin", False)


def test_a_user_without_a_shell_makes_no_host_suspected(cluster):
    job_id = job(cluster, JobState.FINISHING)

    happened(cluster, "USER_SHELL", job_id)

    assert suspected(cluster) == []
    assert shown(cluster, job_id) == ("Error", "launch_error", False)
    assert copies(cluster, job_id) == []


def test_a_copy_that_fails_the_same_way_elsewhere_is_not_believed(cluster):
    first = job(cluster, JobState.FINISHING, started_at=None)
    happened(cluster, "CANNOT_WRITE_NODE_FILE", first)
    second = job(cluster, JobState.FINISHING, holds="{[3,4)}", copy_of=first, started_at=None)

    happened(cluster, "CANNOT_WRITE_NODE_FILE", second)

    assert suspected(cluster) == ["c1"]
    assert cluster.execute("SELECT hosts FROM events WHERE type = 'HOST_NOT_SUSPECTED'") == [(["c2"],)]


def test_a_copy_that_fails_the_same_way_on_the_same_host_is_believed(cluster):
    first = job(cluster, JobState.FINISHING, started_at=None)
    happened(cluster, "PROLOGUE_ERROR", first)
    cluster.execute("UPDATE resources SET state = 'Alive' WHERE state = 'Suspected'")
    second = job(cluster, JobState.FINISHING, copy_of=first, started_at=None)

    happened(cluster, "PROLOGUE_ERROR", second)

    assert suspected(cluster) == ["c1"]
    assert cluster.execute("SELECT hosts FROM events WHERE type = 'HOST_NOT_SUSPECTED'") == []


def test_of_an_array_that_has_never_started_one_element_is_believed(cluster):
    with cluster.engine.begin() as conn:
        elements = rows.submitted(conn, 3)
        for element, holds in zip(elements, ("{[1,2)}", "{[3,4)}", "{[5,6)}"), strict=True):
            rows.brought(conn, [element], JobState.FINISHING, holds=holds, started_at=None)
        events.append(conn, [Event("CANNOT_WRITE_PID_FILE", element) for element in elements])

    turn(cluster)

    assert suspected(cluster) == ["c1"]


def test_elements_of_an_array_are_believed_once_one_has_started(cluster):
    with cluster.engine.begin() as conn:
        elements = rows.submitted(conn, 3)
        rows.brought(conn, elements[:1], JobState.RUNNING, holds="{[7,8)}")
        for element, holds in zip(elements[1:], ("{[1,2)}", "{[3,4)}"), strict=True):
            rows.brought(conn, [element], JobState.FINISHING, holds=holds, started_at=None)
        events.append(conn, [Event("CANNOT_WRITE_PID_FILE", element) for element in elements[1:]])

    turn(cluster)

    assert suspected(cluster) == ["c1", "c2"]


def test_one_job_makes_one_of_its_many_hosts_suspected(cluster):
    job_id = job(cluster, JobState.FINISHING, holds="{[1,8)}")

    happened(cluster, "CPUSET_ERROR", job_id, "c1", "c2", "c3")

    assert suspected(cluster) == ["c1"]


def test_a_check_of_hosts_is_believed_about_all_of_them(cluster):
    job_id = job(cluster, JobState.FINISHING, holds="{[1,8)}")

    happened(cluster, "PING_CHECKER_NODE_SUSPECTED", job_id, "c1", "c2", "c3")

    assert suspected(cluster) == ["c1", "c2", "c3"]


def test_a_job_whose_launch_failed_ends_in_error_and_is_submitted_again_once(cluster):
    job_id = job(cluster, JobState.FINISHING, started_at=None)

    outcome = happened(cluster, "LAUNCHING_OAREXEC_TIMEOUT", job_id)
    happened(cluster, "LAUNCHING_OAREXEC_TIMEOUT", job_id)

    (copy,) = copies(cluster, job_id)
    assert outcome is Outcome.JOBS_CHANGED
    assert shown(cluster, job_id) == ("Error", "launch_error", False)
    assert shown(cluster, int(str(copy))) == ("Waiting", None, False)
    assert cluster.execute("SELECT description FROM events WHERE type = 'RESUBMIT_JOB_AUTOMATICALLY'") == [
        (f"submitted again as job {copy}",)
    ]
    assert invariants.broken(cluster.engine) == []


def test_a_cause_that_is_known_is_kept(cluster):
    job_id = job(cluster, JobState.FINISHING, end_cause="node_rebooted")

    happened(cluster, "EXTERMINATE_JOB", job_id)

    assert shown(cluster, job_id) == ("Error", "node_rebooted", False)


def test_the_chain_of_copies_has_an_end(cluster):
    job_id = job(cluster, JobState.FINISHING, started_at=None)
    cluster.execute("UPDATE jobs SET resubmissions = 10 WHERE job_id = %s", [job_id])

    happened(cluster, "PROLOGUE_ERROR", job_id)

    assert copies(cluster, job_id) == []
    assert cluster.execute("SELECT description FROM events WHERE type = 'RESUBMISSION_LIMIT'") == [
        ("not submitted again: 10 copies have failed already",)
    ]


@pytest.mark.parametrize(
    ("types", "values"),
    [
        ((), {}),  # its command has begun: running it twice may do harm
        (("deploy",), {"started_at": None}),
        (("noop",), {"started_at": None}),
        ((), {"started_at": None, "reservation": "Scheduled", "not_before": func.now()}),
        ((), {"started_at": None, "job_type": "INTERACTIVE"}),
        ((), {"started_at": None, "end_cause": "killed"}),
    ],
)
def test_what_must_not_run_twice_is_not_submitted_again(cluster, types, values):
    job_id = job(cluster, JobState.FINISHING, types=types, **values)

    happened(cluster, "CANNOT_CREATE_TMP_DIRECTORY", job_id)

    assert shown(cluster, job_id)[0] == "Error"
    assert copies(cluster, job_id) == []


def test_an_idempotent_job_whose_node_failed_is_submitted_again_although_it_ran(cluster):
    job_id = job(cluster, JobState.ERROR, types=("idempotent",), end_cause="node_rebooted")

    happened(cluster, "PING_CHECKER_NODE_SUSPECTED", job_id, "c1")

    assert len(copies(cluster, job_id)) == 1


def test_effects_on_a_job_that_may_be_alive_wait_for_the_proof_of_its_end(cluster):
    job_id = job(cluster, JobState.LAUNCHING)

    happened(cluster, "LAUNCHING_OAREXEC_TIMEOUT", job_id)

    assert suspected(cluster) == ["c1"]
    assert shown(cluster, job_id) == ("Launching", None, True)
    assert pending(cluster) == ["LAUNCHING_OAREXEC_TIMEOUT"]


def test_effects_on_a_job_come_with_the_proof_of_its_end(cluster):
    job_id = job(cluster, JobState.LAUNCHING)
    happened(cluster, "LAUNCHING_OAREXEC_TIMEOUT", job_id)
    with cluster.engine.begin() as conn:
        rows.ended(conn, [job_id])
    turn(cluster)

    assert shown(cluster, job_id) == ("Error", "launch_error", False)
    assert len(copies(cluster, job_id)) == 1
    assert pending(cluster) == []


def test_a_waiting_event_suspects_its_host_only_once(cluster):
    job_id = job(cluster, JobState.LAUNCHING)
    happened(cluster, "LAUNCHING_OAREXEC_TIMEOUT", job_id)
    cluster.execute("UPDATE resources SET state = 'Alive'")

    turn(cluster)

    assert suspected(cluster) == []


def test_a_job_whose_launch_never_began_simply_waits_again(cluster):
    job_id = job(cluster, JobState.LAUNCHING)
    happened(cluster, "LAUNCHING_OAREXEC_TIMEOUT", job_id)
    with cluster.engine.begin() as conn:
        rows.gave_up(conn, [job_id])

    turn(cluster)

    assert shown(cluster, job_id) == ("Waiting", None, False)
    assert copies(cluster, job_id) == []
    assert pending(cluster) == []


def test_a_job_that_never_begins_is_not_launched_for_ever(cluster):
    settings = replace(Settings(), jobs=replace(Settings().jobs, max_resubmissions=1))
    job_id = job(cluster, JobState.WAITING)
    for _ in range(2):
        with cluster.engine.begin() as conn:
            rows.brought(conn, [job_id], JobState.LAUNCHING)
            rows.gave_up(conn, [job_id])
            events.append(conn, [Event("LAUNCHING_OAREXEC_TIMEOUT", job_id, ("c1",))])
        turn(cluster, settings)

    assert shown(cluster, job_id) == ("Error", "launch_error", False)


def test_a_failed_server_prologue_hurts_its_job_alone(cluster):
    job_id = job(cluster, JobState.TO_LAUNCH)
    other = job(cluster, JobState.WAITING)

    happened(cluster, "SERVER_PROLOGUE_EXIT_CODE_ERROR", job_id)

    assert shown(cluster, job_id) == ("Error", "prologue", False)
    assert shown(cluster, other) == ("Waiting", None, False)
    assert suspected(cluster) == []
    assert cluster.execute("SELECT DISTINCT state FROM queues") == [("Active",)]


def test_a_job_that_cannot_be_suspended_is_killed(cluster):
    job_id = job(cluster, JobState.RUNNING)

    outcome = happened(cluster, "SUSPEND_ERROR", job_id, "c1")

    assert outcome is Outcome.JOBS_CHANGED
    assert cluster.execute("SELECT job_id, state FROM frag_jobs") == [(job_id, "LEON")]
    assert shown(cluster, job_id) == ("Running", None, True)


@pytest.mark.parametrize(
    ("types", "ran_for", "exit_code", "again"),
    [
        (("idempotent",), "61 s", 99 << 8, 1),
        (("idempotent",), "59 s", 99 << 8, 0),
        ((), "61 s", 99 << 8, 0),
        (("idempotent",), "61 s", 0, 0),
        (("idempotent",), "61 s", 99, 0),
    ],
)
def test_an_idempotent_job_may_ask_to_be_submitted_again(cluster, types, ran_for, exit_code, again):
    started = text(f"now() - interval '{ran_for}'")
    job_id = job(cluster, JobState.TERMINATED, types=types, exit_code=exit_code, started_at=started)

    happened(cluster, "SWITCH_INTO_TERMINATE_STATE", job_id)

    assert len(copies(cluster, job_id)) == again


@pytest.mark.parametrize(("types", "again"), [(("besteffort", "idempotent"), 1), (("besteffort",), 0)])
def test_a_job_that_made_room_is_submitted_again_when_it_may_be_repeated(cluster, types, again):
    job_id = job(cluster, JobState.RUNNING, types=types)
    happened(cluster, "BESTEFFORT_KILL", job_id)
    early = copies(cluster, job_id)
    with cluster.engine.begin() as conn:
        rows.ended(conn, [job_id])
        rows.closed(conn, [job_id], end_cause="besteffort")

    turn(cluster)

    assert early == []
    assert len(copies(cluster, job_id)) == again
    assert pending(cluster) == []


def test_the_owner_hears_that_his_job_is_to_be_killed(cluster):
    with cluster.engine.begin() as conn:
        (job_id,) = rows.submitted(conn, notify=[{"method": "mail", "target": "alice", "tags": ["INFO"]}])

    happened(cluster, "FRAG_JOB_REQUEST", job_id, description="bob wants it")

    assert cluster.execute("SELECT job_id, tag, comment FROM notifications") == [(job_id, "INFO", "bob wants it")]


def test_an_event_that_the_database_refuses_is_set_aside_and_the_others_go_on(cluster):
    bad = job(cluster, JobState.FINISHING, started_at=None)
    good = job(cluster, JobState.FINISHING, holds="{[3,4)}")
    # No copy can be made any more: the queue is gone with its last unfinished job.
    cluster.execute("UPDATE jobs SET queue_name = 'admin' WHERE job_id = %s", [bad])
    cluster.execute("ALTER TABLE queues DISABLE TRIGGER queues_in_use")
    cluster.execute("DELETE FROM queues WHERE queue_name = 'admin'")
    with cluster.engine.begin() as conn:
        events.append(conn, [Event("CANNOT_WRITE_NODE_FILE", bad), Event("USER_SHELL", good)])

    turn(cluster)

    assert shown(cluster, good) == ("Error", "launch_error", False)
    assert cluster.execute("SELECT job_id, description FROM events WHERE type = 'EVENT_SET_ASIDE'") == [
        (bad, "CANNOT_WRITE_NODE_FILE: queue admin does not exist")
    ]
    assert pending(cluster) == []


def test_a_container_ends_after_the_jobs_in_it(cluster):
    container = job(cluster, JobState.RUNNING, holds="{[1,3)}")
    with cluster.engine.begin() as conn:
        (inner,) = rows.submitted(conn)
        rows.brought(conn, [inner], JobState.RUNNING, holds="{[1,2)}", space=container)
        rows.ended(conn, [container])
    happened(cluster, "EXTERMINATE_JOB", container)
    before = shown(cluster, container)
    with cluster.engine.begin() as conn:
        rows.ended(conn, [inner])
        rows.closed(conn, [inner])

    turn(cluster)

    assert before == ("Finishing", None, True)
    assert shown(cluster, container) == ("Error", "exterminated", False)


def test_an_event_about_a_job_that_is_unknown_goes(cluster):
    happened(cluster, "EXTERMINATE_JOB", 4711)

    assert pending(cluster) == []


def test_two_turns_at_once_share_the_events(cluster):
    first = job(cluster, JobState.FINISHING, started_at=None)
    with cluster.engine.begin() as conn:
        events.append(conn, [Event("PROLOGUE_ERROR", first)])
    with cluster.engine.begin() as conn:
        conn.execute(text("SELECT FROM pending_events FOR UPDATE"))

        turn(cluster)

        assert copies(cluster, first) == []
    turn(cluster)

    assert len(copies(cluster, first)) == 1


def test_the_administrator_gets_one_mail_for_all_that_fails_within_a_minute(cluster):
    settings = replace(Settings(), mail=replace(Settings().mail, admin="root@example.org"))
    for type_ in ("MODULE_FAILED", "EVENT_SET_ASIDE", "USER_SHELL"):
        with cluster.engine.begin() as conn:
            events.append(conn, [Event(type_, description="it said so")])
        turn(cluster, settings)

    assert cluster.execute("SELECT target, tag, comment, next_try_at > now() FROM notifications") == [
        ("root@example.org", "ADMIN", "MODULE_FAILED: it said so\nEVENT_SET_ASIDE: it said so", True)
    ]


def test_without_an_administrator_nobody_is_told(cluster):
    happened(cluster, "MODULE_FAILED", description="it said so")

    assert cluster.execute("SELECT count(*) FROM notifications") == [(0,)]
    assert pending(cluster) == []
