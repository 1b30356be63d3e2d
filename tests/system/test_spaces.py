"""Containers, time-sharing, placeholders and suspension, through the commands on a running instance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import invariants
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

COUNT = "while :; do echo >> {name}; sleep 0.1; done"


@pytest.fixture
def generous(database: TestDatabase) -> Iterator[System]:
    """An instance whose users may suspend their own jobs."""
    with running_system(database, settings=SETTINGS + "[jobs]\nusers_may_suspend = true\n") as system:
        yield system
        assert invariants.broken(database.engine) == []


def reason(system: System, job_id: int) -> str:
    rows = system.database.execute("SELECT reason FROM predictions WHERE job_id = %s", (job_id,))
    return str(rows[0][0]) if rows else ""


def resources(system: System, job_id: int) -> str:
    ((held,),) = system.database.execute("SELECT resources::text FROM allocations WHERE job_id = %s", (job_id,))
    return str(held)


def lines(system: System, name: str) -> int:
    path = system.work / name
    return len(path.read_text()) if path.exists() else 0


def test_inner_jobs_run_one_beside_the_other_in_their_container_and_others_do_not(system: System) -> None:
    container = system.oarsub("-t", "container", "-l", "/core=2,walltime=1")
    system.wait_until_state(container, "Running")
    within = resources(system, container)

    inner = [system.oarsub("-t", f"inner={container}", "-l", "/core=1,walltime=0:30", "sleep 1000") for _ in range(3)]
    wide = system.oarsub("-l", "/core=3,walltime=0:30", "true")

    for job_id in inner[:2]:
        system.wait_until_state(job_id, "Running")
    held = system.database.execute(
        "SELECT i.job_id FROM allocations i JOIN allocations c ON c.job_id = i.space AND c.resources @> i.resources"
        " WHERE c.job_id = %s ORDER BY 1",
        (container,),
    )
    assert held == [(inner[0],), (inner[1],)]
    wait_until(lambda: reason(system, inner[2]) != "", what="the third one is told something")
    wait_until(lambda: reason(system, wide) != "", what="so is the one outside")
    assert (system.job(inner[2]).state, system.job(wide).state) == ("Waiting", "Waiting")
    system.run("oardel", str(inner[0]))
    system.wait_until_state(inner[2], "Running")
    assert resources(system, container) == within
    assert system.job(container).state == "Running"


def test_a_container_that_is_deleted_takes_its_inner_jobs_along(system: System) -> None:
    container = system.oarsub("-t", "container", "-l", "/core=2,walltime=1")
    system.wait_until_state(container, "Running")
    running = system.oarsub("-t", f"inner={container}", "-l", "/core=2,walltime=0:30", "sleep 1000")
    waiting = system.oarsub("-t", f"inner={container}", "-l", "/core=2,walltime=0:30", "true")
    system.wait_until_state(running, "Running")

    system.run("oardel", str(container))

    for job_id in (running, waiting):
        job = system.wait_until_final(job_id)
        assert (job.state, job.end_cause) == ("Error", "container")
    assert system.wait_until_final(container).end_cause == "killed"
    ends = "SELECT i.stopped_at <= c.stopped_at FROM jobs i, jobs c WHERE (i.job_id, c.job_id) = (%s, %s)"
    assert system.database.execute(ends, (running, container)) == [(True,)]
    message = system.job(waiting).message
    assert f"job {container}, which was to be its container, is over or is none" in message


def test_a_container_whose_command_ends_takes_its_inner_jobs_along(system: System) -> None:
    container = system.oarsub(
        "-t", "container=lab", "-l", "/core=2,walltime=1", "while [ ! -e enough ]; do sleep 0.1; done"
    )
    inner = system.oarsub("-t", "inner=lab", "-l", "/core=1,walltime=0:30", "sleep 1000")
    system.wait_until_state(inner, "Running")

    (system.work / "enough").touch()

    assert system.wait_until_final(inner).end_cause == "container"
    assert system.wait_until_final(container).state == "Terminated"


def test_inner_jobs_are_told_what_is_wrong_with_their_container(system: System) -> None:
    container = system.oarsub("-t", "container", "-l", "/core=2,walltime=0:30")
    held = system.oarsub("--hold", "-t", "container", "-l", "/core=2,walltime=0:30")
    system.wait_until_state(container, "Running")

    long = system.oarsub("-t", f"inner={container}", "-l", "/core=1,walltime=1", "true")
    wide = system.oarsub("-t", f"inner={container}", "-l", "/core=3,walltime=0:1", "true")
    early = system.oarsub("-t", f"inner={held}", "-l", "/core=1,walltime=0:1", "true")
    nowhere = system.oarsub("-t", "inner=nothing", "-l", "/core=1,walltime=0:1", "true")

    assert system.wait_until_final(long).end_cause == "never_fits"
    assert f"it needs 3600 seconds, and its container, job {container}, ends at" in system.job(long).message
    assert system.wait_until_final(wide).end_cause == "never_fits"
    assert f"it does not fit into its container, job {container}" in system.job(wide).message
    wait_until(lambda: f"job {held}" in reason(system, early), what="it is told of its container")
    wait_until(lambda: "no container called nothing" in reason(system, nowhere), what="there is none")
    refused = system.run("oarsub", "-t", "inner", "true", check=False)
    assert (refused.returncode, refused.stderr) == (18, "oarsub: the type inner needs a value, as in inner=NAME\n")


def test_jobs_of_one_user_share_a_core_and_others_do_not(system: System) -> None:
    first = system.oarsub("-t", "timesharing=user,*", "-l", "/core=4,walltime=0:30", "sleep 1000")
    system.wait_until_state(first, "Running")

    other = system.oarsub("-l", "/core=1,walltime=0:30", "true")
    stranger = system.oarsub("-t", "timesharing=*,*", "-l", "/core=1,walltime=0:30", "true")
    second = system.oarsub("-t", "timesharing=user,*", "-l", "/core=1,walltime=0:30", "sleep 1000")

    system.wait_until_state(second, "Running")
    wait_until(lambda: reason(system, other) != "" and reason(system, stranger) != "", what="the others wait")
    ((shared,),) = system.database.execute(
        "SELECT count(DISTINCT share) FROM allocations WHERE job_id = ANY(%s)", ([first, second],)
    )
    assert shared == 1
    system.run("oardel", str(first))
    system.wait_until_final(other)


def test_a_placeholder_keeps_all_out_but_those_who_are_allowed(system: System) -> None:
    keeper = system.oarsub("-t", "placeholder=course", "-l", "/core=3,walltime=1")
    system.wait_until_state(keeper, "Running")

    other = system.oarsub("-l", "/core=2,walltime=0:30", "true")
    wide = system.oarsub("-t", "allowed=course", "-l", "/core=4,walltime=0:30", "sleep 1000")
    late = system.oarsub("-t", "allowed=course", "-l", "/core=1,walltime=0:30", "true")

    system.wait_until_state(wide, "Running")
    wait_until(lambda: reason(system, other) != "" and reason(system, late) != "", what="the others wait")
    system.run("oardel", str(wide))
    assert system.wait_until_final(late).state == "Terminated"
    assert system.job(other).state == "Waiting"


def test_a_suspended_job_lends_its_cores_and_goes_on_when_they_are_free(generous: System) -> None:
    system = generous
    first = system.oarsub("-l", "/core=4,walltime=0:30", COUNT.format(name="first"))
    wait_until(lambda: lines(system, "first") > 0, what="the first works")
    second = system.oarsub("-l", "/core=4,walltime=0:30", "while [ ! -e enough ]; do sleep 0.1; done")

    said = system.run("oarhold", "-r", str(first)).stdout

    assert said == f"Holding the job = {first} ...REGISTERED\n"
    system.wait_until_state(second, "Running")
    assert system.job(first).state == "Suspended"
    before = lines(system, "first")
    third = system.oarsub("-l", "/core=4,walltime=0:30", "cat first | wc -l > seen")
    system.run("oarresume", str(first))
    assert system.job(first).state == "Resuming"
    assert f"{first}" in system.run("oarstat").stdout
    (system.work / "enough").touch()
    system.wait_until_state(first, "Running")
    wait_until(lambda: lines(system, "first") > before + 3, what="the first goes on")
    assert system.job(third).state == "Waiting"
    ((rested,),) = system.database.execute("SELECT suspended_for > '0 s' FROM jobs WHERE job_id = %s", (first,))
    assert rested
    system.run("oardel", str(first))
    system.wait_until_all_final([first, second, third])


def test_a_besteffort_job_dies_for_one_that_is_to_go_on(generous: System) -> None:
    system = generous
    first = system.oarsub("-l", "/core=4,walltime=0:30", "sleep 1000")
    system.wait_until_state(first, "Running")
    system.run("oarhold", "-r", str(first))
    guest = system.oarsub("-t", "besteffort", "-l", "/core=1,walltime=0:30", "sleep 1000")
    system.wait_until_state(guest, "Running")

    system.run("oarresume", str(first))

    system.wait_until_state(first, "Running")
    assert system.wait_until_final(guest).end_cause == "besteffort"


def test_users_do_not_suspend_jobs_unless_they_may(system: System) -> None:
    job_id = system.oarsub("-l", "/core=1,walltime=0:30", "sleep 1000")
    system.wait_until_state(job_id, "Running")

    refused = system.run("oarhold", "-r", str(job_id), check=False)

    sentence = "runs; only administrators may suspend and resume running jobs"
    assert (refused.returncode, refused.stderr) == (1, f"oarhold: job {job_id} {sentence}\n")
    assert system.job(job_id).state == "Running"
