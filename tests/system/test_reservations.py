"""Advance reservations as users ask for them, on a running instance."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import accounts, invariants
from tests.support.instance import COMMANDS, SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

SHORT = """
[scheduler]
grid = "1 s"
security = "1 s"
[reservations]
wait_for_resources = "3 s"
kill_besteffort_before = "15 s"
"""
#: So late a start may be where others keep the processors busy.
LATE = timedelta(seconds=20)
OK = "# Reservation mode: waiting for validation...\n# Reservation valid --> OK\n"


@pytest.fixture
def system(database: TestDatabase) -> Iterator[System]:
    with running_system(database, settings=SETTINGS + SHORT) as system:
        yield system
        assert invariants.broken(database.engine) == []


def now(system: System) -> datetime:
    moment = system.database.execute("SELECT date_trunc('second', now())")[0][0]
    assert isinstance(moment, datetime)
    return moment


def date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def reserve(system: System, start: datetime, resources: str, command: str = "sleep 600") -> int:
    return system.oarsub("-r", date(start), "-l", resources, command)


def refused(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    done = system.run("oarsub", *words, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done


def full(system: System, job_id: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(system.run("oarstat", "-J", "-j", str(job_id)).stdout)
    (job,) = found.values()
    return dict(job)


def started_at(system: System, job_id: int) -> datetime:
    moment = system.database.execute("SELECT started_at FROM jobs WHERE job_id = %s", (job_id,))[0][0]
    assert isinstance(moment, datetime)
    return moment


def events(system: System, job_id: int) -> list[str]:
    rows = system.database.execute("SELECT type FROM events WHERE job_id = %s ORDER BY event_id", (job_id,))
    return [str(type_) for (type_,) in rows]


def test_an_accepted_reservation_starts_at_its_date_and_ends_at_its_end(system: System) -> None:
    start = now(system) + timedelta(seconds=12)

    done = system.run("oarsub", "-r", date(start), "-l", "/core=2,walltime=0:0:3", "sleep 600")

    job_id = int(re.findall(r"^OAR_JOB_ID=(\d+)$", done.stdout, re.MULTILINE)[0])
    assert done.stdout == f"OAR_JOB_ID={job_id}\n{OK}"
    seen = full(system, job_id)
    assert (seen["state"], seen["reservation"], seen["walltime"]) == ("Waiting", "Scheduled", 3)
    assert seen["scheduledStart"] == start.timestamp()
    assert seen["reserved_resources"] == [1, 2]
    assert seen["message"].startswith("R=2,W=0:0:3,J=R")
    said = system.run("oarstat", "-f", "-j", str(job_id)).stdout
    assert "    reservation = Scheduled\n    reserved_resources = 1+2\n" in said
    job = system.wait_until_final(job_id)
    assert start <= started_at(system, job_id) < start + LATE
    assert (job.end_cause, system.database.execute("SELECT count(*) FROM reservations")) == ("walltime", [(0,)])
    states = system.database.execute(
        "SELECT job_state FROM job_state_logs WHERE job_id = %s ORDER BY date_start", (job_id,)
    )
    assert [str(state) for (state,) in states][:4] == ["Waiting", "toAckReservation", "Waiting", "toLaunch"]


def test_a_refusal_names_the_earliest_start_which_is_then_accepted(system: System) -> None:
    running = system.oarsub("-l", "/core=3,walltime=0:5", "sleep 600")
    system.wait_until_state(running, "Running")

    done = refused(system, "-r", "now", "-l", "/core=2,walltime=1", "true")

    assert done.returncode == 10
    job_id = int(re.findall(r"^OAR_JOB_ID=(\d+)$", done.stdout, re.MULTILINE)[0])
    assert done.stdout.endswith("# Reservation not valid --> KO\n")
    assert f"oarsub: job {job_id}: what it asks for is not free for 3600 seconds from " in done.stderr
    job = system.job(job_id)
    assert (job.state, job.end_cause) == ("Error", "reservation")
    earliest = re.search(r"the earliest start possible is (.* UTC)$", job.message)
    assert earliest is not None
    end = started_at(system, running) + timedelta(minutes=5)
    told = datetime.strptime(earliest[1], "%Y-%m-%d %H:%M:%S %Z").replace(tzinfo=UTC)
    assert end <= told <= end + timedelta(seconds=4)
    assert system.run("oarsub", "-r", earliest[1], "-l", "/core=2,walltime=1", "true").stdout.endswith(OK)


def test_now_starts_at_once_and_an_end_stands_for_a_walltime(system: System) -> None:
    end = now(system) + timedelta(minutes=10)

    job_id = system.oarsub("-r", f"now, {date(end)}", "-l", "/core=4", "sleep 600")

    system.wait_until_state(job_id, "Running")
    planned = system.database.execute("SELECT planned_end_at FROM jobs WHERE job_id = %s", (job_id,))[0][0]
    assert isinstance(planned, datetime)
    assert end - timedelta(seconds=3) <= planned <= end + timedelta(seconds=3)


def test_a_job_that_waits_goes_before_a_reservation_only_if_it_ends_in_time(system: System) -> None:
    start = now(system) + timedelta(minutes=10)
    reserve(system, start, "/core=4,walltime=1")

    long, short = system.oarsub("-l", "walltime=0:20", "true"), system.oarsub("-l", "walltime=0:5", "true")

    assert system.wait_until_final(short).state == "Terminated"
    wait_until(lambda: full(system, long)["scheduledStart"] is not None, what="it is planned")
    assert full(system, long)["scheduledStart"] >= (start + timedelta(hours=1)).timestamp()


def test_what_is_not_there_at_the_start_is_waited_for_and_then_done_without(system: System) -> None:
    start = now(system) + timedelta(seconds=12)
    job_id = reserve(system, start, "/core=3,walltime=0:1", "wc -l < $OAR_NODEFILE; sleep 600")
    system.admin("oarnodesetting", "-r", "1,2", "-s", "Absent")

    system.wait_until_state(job_id, "Running")

    assert started_at(system, job_id) >= start + timedelta(seconds=3)
    wait_until(lambda: system.read(f"OAR.{job_id}.stdout") == "1\n", what="the job counts its resources")
    assert "SCHEDULER_REDUCE_NB_NODES_FOR_RESERVATION" in events(system, job_id)
    planned = system.database.execute("SELECT planned_end_at FROM jobs WHERE job_id = %s", (job_id,))[0][0]
    assert isinstance(planned, datetime)
    assert planned <= start + timedelta(minutes=1, seconds=3)


def test_what_comes_back_in_time_is_not_done_without(database: TestDatabase) -> None:
    patient = SHORT.replace('wait_for_resources = "3 s"', 'wait_for_resources = "1 min"')
    with running_system(database, settings=SETTINGS + patient) as system:
        system.admin("oarnodesetting", "-r", "1", "-s", "Absent")
        job_id = reserve(system, now(system) + timedelta(seconds=1), "/core=4,walltime=0:10")
        wait_until(lambda: "are not ready" in (full(system, job_id)["why"] or ""), what="it waits for the resource")

        system.admin("oarnodesetting", "-r", "1", "-s", "Alive")

        system.wait_until_state(job_id, "Running")
        assert full(system, job_id)["assigned_resources"] == [1, 2, 3, 4]
        assert "SCHEDULER_REDUCE_NB_NODES_FOR_RESERVATION" not in events(system, job_id)
        assert invariants.broken(database.engine) == []


def test_a_reservation_of_which_nothing_is_left_ends_in_error(system: System) -> None:
    job_id = reserve(system, now(system) + timedelta(seconds=12), "/core=4,walltime=0:1")
    system.admin("oarnodesetting", "-r", "1,2,3,4", "-s", "Absent")

    job = system.wait_until_final(job_id)

    assert (job.state, job.end_cause) == ("Error", "reservation")
    assert job.message == "none of the 4 resources that it has reserved is ready"
    assert "RESERVATION_NO_NODE" in events(system, job_id)


def test_a_late_start_leaves_the_end_where_it_was(system: System) -> None:
    start = now(system) + timedelta(seconds=10)
    job_id = reserve(system, start, "/core=1,walltime=0:5", "echo $OAR_JOB_WALLTIME_SECONDS; sleep 600")
    system.run("oarhold", str(job_id))
    wait_until(lambda: now(system) >= start + timedelta(seconds=7), what="the start has passed")
    assert system.job(job_id).state == "Hold"

    system.run("oarresume", str(job_id))

    system.wait_until_state(job_id, "Running")
    wait_until(lambda: system.read(f"OAR.{job_id}.stdout"), what="the job writes its walltime")
    assert int(system.read(f"OAR.{job_id}.stdout")) <= 293
    planned = system.database.execute("SELECT planned_end_at FROM jobs WHERE job_id = %s", (job_id,))[0][0]
    assert isinstance(planned, datetime)
    assert start + timedelta(seconds=299) <= planned <= start + timedelta(seconds=303)
    assert "REDUCE_RESERVATION_WALLTIME" in events(system, job_id)


def test_besteffort_jobs_are_gone_when_a_reservation_starts(system: System) -> None:
    besteffort = system.oarsub("-t", "besteffort", "-l", "/core=4,walltime=1", "sleep 600")
    system.wait_until_state(besteffort, "Running")
    start = now(system) + timedelta(seconds=18)
    job_id = reserve(system, start, "/core=4,walltime=0:1")

    ended = system.wait_until_final(besteffort)

    assert ended.end_cause == "besteffort"
    assert system.job(job_id).state == "Waiting"
    assert now(system) < start
    system.wait_until_state(job_id, "Running")
    assert started_at(system, job_id) < start + LATE
    assert full(system, job_id)["assigned_resources"] == [1, 2, 3, 4]


def test_deleting_a_reservation_frees_what_it_reserved(system: System) -> None:
    start = now(system) + timedelta(hours=1)
    job_id = reserve(system, start, "/core=4,walltime=1")
    assert refused(system, "-r", date(start), "-l", "/core=1,walltime=1", "true").returncode == 10

    system.run("oardel", str(job_id))

    assert system.job(job_id).state == "Error"
    reserve(system, start, "/core=4,walltime=1")


@pytest.mark.parametrize(
    ("status", "sentence", "words"),
    [
        (7, "'someday' is not a date; write YYYY-MM-DD HH:MM:SS, or such as", ["-r", "someday", "true"]),
        (7, "'2030-02-30 10:00:00' is not a date", ["-r", "2030-02-30 10:00:00", "true"]),
        (7, "ends before it starts", ["-r", "2030-01-01 10:00:00, 2030-01-01 09:00:00", "true"]),
        (7, "the reservation would be over already", ["-r", "2020-01-01 10:00:00, 2020-01-01 11:00:00", "true"]),
        (7, "an array cannot be an advance reservation", ["-r", "now", "--array", "2", "true"]),
        (7, "--hold cannot be an advance reservation", ["-r", "now", "--hold", "true"]),
        (7, "a job that waits for others cannot be", ["-r", "now", "-a", "1", "true"]),
        (254, "a best-effort job cannot be an advance reservation", ["-r", "now", "-t", "besteffort", "true"]),
    ],
)
def test_what_cannot_be_reserved_is_refused_before_there_is_a_job(
    unreserved: System, status: int, sentence: str, words: list[str]
) -> None:
    done = refused(unreserved, *words)

    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr
    assert unreserved.database.execute("SELECT count(*) FROM jobs") == [(0,)]


@pytest.fixture(scope="module")
def unreserved(postgres: Any) -> Iterator[System]:
    """One instance for the tests that change nothing."""
    with postgres.database() as database, running_system(database) as system:
        yield system


def test_a_dry_run_tells_what_the_answer_would_be(unreserved: System) -> None:
    start = now(unreserved) + timedelta(hours=1)

    good = unreserved.run("oarsub", "--dry-run", "-r", date(start), "-l", "/core=4", "true").stdout

    assert re.search(r"/core=4,walltime=2:0:0: starts .* on ", good)
    assert unreserved.database.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_a_user_has_two_reservations_waiting_at_most(system: System) -> None:
    start = now(system) + timedelta(hours=1)
    for hours in (0, 2):
        reserve(system, start + timedelta(hours=hours), "/core=1,walltime=1")

    done = refused(system, "-r", date(start + timedelta(hours=4)), "true")

    assert (done.returncode, done.stderr) == (
        254,
        "oarsub: only 2 advance reservations of one user may wait for their start\n",
    )


def test_who_interrupts_the_wait_for_the_answer_has_no_job(system: System) -> None:
    system.admin("oarqueue", "-d", "default")
    command = [str(COMMANDS / "oarsub"), "-r", "now", "true"]
    oarsub = subprocess.Popen(
        accounts.switched(system.user, command),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=system.work,
        env=accounts.environment_of(system.user, system.environment),
    )
    asked = "SELECT job_id FROM jobs WHERE reservation = 'toSchedule'"
    ((job_id,),) = wait_until(lambda: system.database.execute(asked), what="the job is there")
    assert oarsub.stdout is not None
    assert oarsub.stdout.readline() == f"OAR_JOB_ID={job_id}\n"
    assert "waiting for validation" in oarsub.stdout.readline()

    oarsub.send_signal(signal.SIGINT)

    _, said = oarsub.communicate(timeout=60)
    assert (oarsub.returncode, said) == (130, f"oarsub: interrupted; job {job_id} was deleted\n")
    assert system.job(int(str(job_id))).end_cause == "killed"


def test_a_reservation_without_a_command_holds_its_resources(system: System) -> None:
    job_id = system.oarsub("-r", "now", "-l", "/core=1,walltime=0:0:3")

    assert system.wait_until_final(job_id).state == "Terminated"
    held = "SELECT stopped_at - started_at >= interval '2 s' FROM jobs WHERE job_id = %s"
    assert system.database.execute(held, (job_id,)) == [(True,)]


def test_the_sites_program_is_told_of_each_answer(database: TestDatabase, tmp_path: Path) -> None:
    told, program = tmp_path / "told", tmp_path / "hook"
    program.write_text(f'#!/bin/sh\necho "$@ $(id -u)" >> {told}\n')
    program.chmod(0o755)
    settings = SETTINGS + SHORT + f'validation_hook = "{program} asked"\n'
    with running_system(database, settings=settings) as system:
        start = now(system) + timedelta(hours=1)
        accepted = reserve(system, start, "/core=4,walltime=1")
        refused(system, "-r", date(start), "-l", "/core=4,walltime=1", "true")

        wait_until(lambda: told.exists() and told.read_text().count("\n") == 2, what="the program was run twice")

        assert told.read_text() == f"asked {accepted} 1 {os.geteuid()}\nasked {accepted + 1} 0 {os.geteuid()}\n"
        wait_until(lambda: "RESERVATION_HOOK" in events(system, accepted), what="what came of it is logged")


def test_a_reservation_lies_inside_one_that_is_a_container(system: System) -> None:
    start = now(system) + timedelta(seconds=12)
    container = system.oarsub("-r", date(start), "-t", "container", "-l", "/core=2,walltime=0:2:0")
    waiting = system.oarsub("-t", "container", "-l", "/core=4,walltime=0:1:0")
    within = date(start + timedelta(seconds=1))

    small = refused(system, "-r", within, "-t", f"inner={container}", "-l", "/core=3,walltime=0:0:20", "true")
    long = refused(system, "-r", within, "-t", f"inner={container}", "-l", "/core=1,walltime=0:2:20", "true")
    uncertain = refused(system, "-r", within, "-t", f"inner={waiting}", "-l", "/core=1,walltime=0:0:5", "true")
    dry = system.run(
        *("oarsub", "--dry-run", "-r", within, "-t", f"inner={container}", "-l", "/core=2,walltime=0:0:20", "true")
    )
    job_id = system.oarsub(
        *("-r", within, "-t", f"inner={container}", "-l", "/core=2,walltime=0:0:20"), 'wc -l < "$OAR_NODE_FILE" > had'
    )

    assert "does not fit into its container" in small.stderr
    assert f"its container, job {container}, has no room for 140 seconds" in long.stderr
    assert f"its container, {waiting}, is neither running nor an accepted advance reservation" in uncertain.stderr
    assert "starts" in dry.stdout
    assert system.wait_until_final(job_id).state == "Terminated"
    assert system.read("had").strip() == "2"
    assert started_at(system, job_id) >= started_at(system, container)
    assert system.database.execute("SELECT space FROM allocations WHERE job_id = %s", (job_id,)) == [(container,)]
    system.run("oardel", str(container), str(waiting))


def test_a_reservation_ends_with_the_container_in_which_it_lies(system: System) -> None:
    start = now(system) + timedelta(hours=1)
    container = system.oarsub("-r", date(start), "-t", "container=lab", "-l", "/core=2,walltime=2")
    later = date(start + timedelta(minutes=10))
    job_id = system.oarsub("-r", later, "-t", "inner=lab", "-l", "/core=2,walltime=1", "true")
    assert system.database.execute("SELECT space FROM reservations WHERE job_id = %s", (job_id,)) == [(container,)]

    system.run("oardel", str(container))

    done = system.wait_until_final(job_id)
    assert (done.state, done.end_cause) == ("Error", "container")
    assert system.database.execute("SELECT count(*) FROM reservations") == [(0,)]
