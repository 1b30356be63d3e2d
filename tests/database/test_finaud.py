"""Finaud: checks of hosts, their return, and hosts on which jobs die."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from oarpy.database import events, health, node_sessions, nodes
from oarpy.database.events import Event
from oarpy.database.node_sessions import Identity
from oarpy.model.states import JobState
from oarpy.modules import finaud
from oarpy.modules.context import Context
from oarpy.modules.finaud import Finaud
from oarpy.settings import Health, Settings
from tests.support import rows
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

NOW = timedelta()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A check that notes each host and fails on those that are named in ``bad``."""
    (tmp_path / "bad").touch()
    path = tmp_path / "check"
    path.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/checked\n! grep -qx "$1" {tmp_path}/bad\n')
    path.chmod(0o755)
    return path


def context(database: TestDatabase, program: Path | str, **values: Any) -> Context:
    chosen: dict[str, Any] = {"check": "command", "command": str(program), "interval": NOW, "retry": NOW, "tries": 1}
    return Context(database.engine, replace(Settings(), health=Health(**chosen | values)))


def hosts(database: TestDatabase, *names: str, state: str = "Alive") -> None:
    with database.engine.begin() as conn:
        for name in names:
            rows.resources(conn, name, 2, state=state)


def states(database: TestDatabase) -> Mapping[object, object]:
    return dict(database.execute("SELECT DISTINCT network_address, state FROM resources"))  # type: ignore[arg-type]


def checked(program: Path) -> list[str]:
    path = program.parent / "checked"
    return sorted(path.read_text().split()) if path.exists() else []


def happened(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.execute("SELECT type, hosts FROM events ORDER BY event_id")


def test_a_host_whose_check_fails_is_suspected_whole_and_comes_back(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1", "c2")
    (program.parent / "bad").write_text("c2\n")
    ctx = context(database, program)

    finaud.turn(ctx)
    assert database.execute("SELECT network_address, state, finaud_decision FROM resources ORDER BY resource_id") == [
        ("c1", "Alive", False),
        ("c1", "Alive", False),
        ("c2", "Suspected", True),
        ("c2", "Suspected", True),
    ]
    finaud.turn(ctx)
    assert states(database)["c2"] == "Suspected"
    (program.parent / "bad").write_text("")
    finaud.turn(ctx)

    assert states(database) == {"c1": "Alive", "c2": "Alive"}
    assert happened(database) == [("FINAUD_ERROR", ["c2"]), ("FINAUD_RECOVER", ["c2"])]


def test_one_failure_is_none_where_two_are_needed(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1")
    (program.parent / "bad").write_text("c1\n")
    ctx = context(database, program, tries=2)

    finaud.turn(ctx)
    assert states(database) == {"c1": "Alive"}
    finaud.turn(ctx)

    assert states(database) == {"c1": "Suspected"}


def test_only_what_a_check_suspected_comes_back(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1", state="Suspected")
    hosts(database, "c2", state="Absent")

    finaud.turn(context(database, program))

    assert checked(program) == []
    assert states(database) == {"c1": "Suspected", "c2": "Absent"}


def test_a_check_does_not_lift_what_something_else_suspects_too(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1")
    with database.engine.begin() as conn:
        nodes.suspect(conn, ["c1"], by_check=True)
        nodes.suspect(conn, ["c1"], by_check=False)

    finaud.turn(context(database, program))

    assert states(database) == {"c1": "Suspected"}


def test_a_host_is_checked_when_it_is_due(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1", "c2")
    (program.parent / "bad").write_text("c2\n")
    ctx = context(database, program, interval=timedelta(hours=1), tries=5)

    finaud.turn(ctx)
    finaud.turn(ctx)

    assert checked(program) == ["c1", "c2", "c2"]


def test_a_host_on_which_a_job_runs_is_left_in_peace(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1", "c2")
    with database.engine.begin() as conn:
        rows.brought(conn, rows.submitted(conn), JobState.RUNNING, holds="{[1,2)}")

    finaud.turn(context(database, program))
    assert checked(program) == ["c2"]
    finaud.turn(context(database, program, busy_hosts=True))

    assert checked(program) == ["c1", "c2", "c2"]


def test_two_checks_never_run_on_a_host(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1")
    # Its words: "sleep c1" would end at once.
    slow = context(database, f"sh -c 'echo one >>{program.parent}/checked; sleep 60'")
    one, other = Finaud(slow), Finaud(slow)
    one.turn()
    wait_until(lambda: checked(program) == ["one"], what="the first check runs")

    other.turn()
    one.turn()

    assert other.due_in_s is None
    assert checked(program) == ["one"]


def test_a_check_that_takes_too_long_has_failed(database: TestDatabase) -> None:
    hosts(database, "c1")

    finaud.turn(context(database, "sh -c 'sleep 60'", timeout=timedelta(seconds=0.2)))

    assert states(database) == {"c1": "Suspected"}
    assert database.execute("SELECT passed, failures, said FROM node_checks") == [(False, 1, "sh took more than 0.2 s")]


def test_no_more_checks_run_at_a_time_than_the_window_has_room_for(database: TestDatabase, program: Path) -> None:
    hosts(database, *(f"c{n}" for n in range(5)))
    ctx = context(database, program, window=2, interval=timedelta(hours=1))

    counts = [finaud.turn(ctx) for _ in range(4)]

    assert counts == [2, 2, 1, 0]
    assert len(checked(program)) == 5


def test_a_host_that_could_not_be_reached_is_back_when_its_link_is(database: TestDatabase, program: Path) -> None:
    hosts(database, "c1")
    with database.engine.begin() as conn:
        node_sessions.next_number(conn, "c1", 1)
        node_sessions.unreachable(conn, "c1")
        nodes.suspect(conn, ["c1"], by_check=True)

    # It answers checks; jobs could not be started there all the same.
    finaud.turn(context(database, program))
    assert states(database) == {"c1": "Suspected"}
    with database.engine.begin() as conn:
        node_sessions.met(conn, "c1", Identity("boot", "spool"), {}, entries=False)
        assert health.recover(conn, 2, "c1") == ["c1"]

    assert states(database) == {"c1": "Alive"}


# Jobs.


def ended(
    database: TestDatabase, holds: str, count: int, *, user: str, command: str, exit_code: int = 256, ran: str = "1 s"
) -> None:
    """``count`` jobs that held ``holds`` and ended just now."""
    with database.engine.begin() as conn:
        for _ in range(count):
            (job_id,) = rows.submitted(conn, owner=user)
            conn.execute(
                text("UPDATE jobs SET command = :command WHERE job_id = :id"), {"command": command, "id": job_id}
            )
            started = {"started_at": text(f"now() - interval '{ran}'")}
            rows.brought(conn, [job_id], JobState.RUNNING, holds=holds, **started)
            rows.ended(conn, [job_id])
            rows.closed(conn, [job_id], exit_code=exit_code)


def test_a_host_that_ends_jobs_at_once_is_quarantined_and_says_why(database: TestDatabase) -> None:
    hosts(database, "c1", "c2")
    ended(database, "{[1,2)}", 5, user="alice", command="work")
    ended(database, "{[3,4)}", 1, user="alice", command="work", exit_code=0)
    ctx = context(database, "true", check="none")

    finaud.turn(ctx)

    assert states(database) == {"c1": "Suspected", "c2": "Alive"}
    assert database.execute("SELECT type, hosts, description FROM events WHERE type LIKE 'NODE%%'") == [
        ("NODE_QUARANTINED", ["c1"], "5 jobs died at once here, 1 with the same commands lived on other hosts")
    ]
    # Nobody but a person ends it.
    assert database.execute("SELECT bool_or(finaud_decision) FROM resources") == [(False,)]
    finaud.turn(context(database, "true"))
    assert states(database)["c1"] == "Suspected"


def test_when_a_person_has_said_that_it_is_well_what_was_before_does_not_count(database: TestDatabase) -> None:
    hosts(database, "c1", "c2")
    ended(database, "{[1,2)}", 9, user="alice", command="work")
    ended(database, "{[3,4)}", 1, user="alice", command="work", exit_code=0)
    ctx = context(database, "true", check="none")
    finaud.turn(ctx)

    database.execute("UPDATE resources SET state = 'Alive' WHERE network_address = 'c1'")
    finaud.turn(ctx)

    assert states(database)["c1"] == "Alive"


@pytest.mark.parametrize(
    "values", [{"exit_code": 0}, {"exit_code": 99 * 256}, {"ran": "2 min"}], ids=["well", "asks for more", "lived long"]
)
def test_jobs_that_did_not_die_at_once_accuse_nobody(database: TestDatabase, values: Mapping[str, Any]) -> None:
    hosts(database, "c1", "c2")
    ended(database, "{[1,2)}", 9, user="alice", command="work", **values)
    ended(database, "{[3,4)}", 9, user="alice", command="work", exit_code=0)

    finaud.turn(context(database, "true", check="none"))

    assert states(database)["c1"] == "Alive"


def test_a_host_that_eats_the_queue_is_seen_between_the_turns(database: TestDatabase) -> None:
    hosts(database, "c1", "c2")
    ended(database, "{[3,4)}", 9, user="alice", command="work", exit_code=0)
    looking = Finaud(context(database, "true", check="none"))
    looking.turn()
    ended(database, "{[1,2)}", 4, user="alice", command="work")

    looking.glance()

    assert states(database)["c1"] == "Alive"
    ended(database, "{[1,2)}", 1, user="alice", command="work")
    looking.glance()
    assert states(database)["c1"] == "Suspected"


def test_jobs_that_somebody_killed_accuse_nobody(database: TestDatabase) -> None:
    hosts(database, "c1", "c2")
    ended(database, "{[1,2)}", 9, user="alice", command="work")
    ended(database, "{[3,4)}", 9, user="alice", command="work", exit_code=0)
    database.execute(
        "INSERT INTO frag_jobs (job_id, cause, asked_by, state) SELECT job_id, 'killed', 'alice', 'FRAGGED' FROM jobs"
    )

    finaud.turn(context(database, "true", check="none"))

    assert states(database)["c1"] == "Alive"


def test_one_faulty_command_takes_no_host_after_the_other(database: TestDatabase) -> None:
    hosts(database, "c1", "c2", "c3")
    ended(database, "{[1,2)}", 6, user="alice", command="faulty")
    ended(database, "{[5,6)}", 1, user="alice", command="faulty", exit_code=0)
    ctx = context(database, "true", check="none", quarantine_window=timedelta(hours=1))
    finaud.turn(ctx)
    assert states(database)["c1"] == "Suspected"
    # As if there were so many hosts that another one might be taken.
    hosts(database, *(f"d{n}" for n in range(40)))
    ended(database, "{[3,4)}", 6, user="alice", command="faulty")

    finaud.turn(ctx)

    assert states(database)["c2"] == "Alive"


# Jobs on several hosts.


def ended_on(
    database: TestDatabase,
    head: str,
    others: Sequence[str],
    count: int,
    *,
    exit_code: int | None = 256,
    cause: str = "exit",
    event: tuple[str, str] | None = None,
    killed_for: str | None = None,
) -> None:
    """``count`` jobs of one command on several hosts that ended just now; ``event`` speaks of one host."""
    with database.engine.begin() as conn:
        for _ in range(count):
            (job_id,) = rows.submitted(conn, owner="alice")
            conn.execute(text("UPDATE jobs SET command = 'mpi' WHERE job_id = :id"), {"id": job_id})
            rows.brought(conn, [job_id], JobState.RUNNING, head=head, other_hosts=list(others))
            rows.ended(conn, [job_id])
            rows.closed(conn, [job_id], exit_code=exit_code, end_cause=cause)
            if event is not None:
                events.append(conn, [Event(event[0], job_id, (event[1],))])
            if killed_for is not None:
                wish = "INSERT INTO frag_jobs (job_id, cause, asked_by, state) VALUES (:id, :cause, 'oar', 'FRAGGED')"
                conn.execute(text(wish), {"id": job_id, "cause": killed_for})


@pytest.mark.parametrize(
    "values",
    [
        {"cause": "prologue", "event": ("PROLOGUE_ERROR", "c2"), "exit_code": None},
        {"cause": "launch_error", "event": ("CPUSET_ERROR", "c2"), "exit_code": None},
        {"cause": "vanished", "event": ("PART_LOST", "c2"), "killed_for": "vanished", "exit_code": None},
        {"cause": "node_rebooted", "event": ("PART_LOST", "c2"), "killed_for": "node_rebooted", "exit_code": None},
    ],
    ids=["its prologue failed", "it could not contain the job", "its part vanished", "it was rebooted"],
)
def test_a_host_of_a_parallel_job_is_judged_and_not_the_head(database: TestDatabase, values: dict[str, Any]) -> None:
    hosts(database, "c1", "c2", "c3")
    ended_on(database, "c1", ["c2"], 5, **values)
    ended_on(database, "c3", ["c1"], 1, exit_code=0)

    finaud.turn(context(database, "true", check="none"))

    assert states(database) == {"c1": "Alive", "c2": "Suspected", "c3": "Alive"}


def test_the_host_is_found_that_all_parallel_jobs_have_in_common_which_die(database: TestDatabase) -> None:
    hosts(database, "c1", "c2", "c3", "c4")
    for head in ("c1", "c3", "c4"):
        ended_on(database, head, ["c2"], 2)
    ended_on(database, "c1", ["c3", "c4"], 3, exit_code=0)

    finaud.turn(context(database, "true", check="none"))

    assert states(database) == {"c1": "Alive", "c2": "Suspected", "c3": "Alive", "c4": "Alive"}


@pytest.mark.parametrize(
    "values",
    [
        {"killed_for": "admin", "event": ("PART_LOST", "c2"), "cause": "admin"},
        {"killed_for": "walltime", "cause": "walltime"},
        {"exit_code": 0},
    ],
    ids=["a person's word", "walltime", "well"],
)
def test_parallel_jobs_that_ended_otherwise_accuse_nobody(database: TestDatabase, values: dict[str, Any]) -> None:
    hosts(database, "c1", "c2", "c3")
    ended_on(database, "c1", ["c2"], 6, **values)
    ended_on(database, "c3", ["c1"], 6, exit_code=0)

    finaud.turn(context(database, "true", check="none"))

    assert set(states(database).values()) == {"Alive"}
