"""Whatever is killed, every job is afterwards where it would have been."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from oarpy.drivers import postgresql
from tests.support.instance import System
from tests.support.node import is_zombie, oarexec_processes
from tests.support.postgres import TestServer
from tests.support.waiting import wait_until

# Says that it ran, then does its work: a job that runs twice leaves two lines.
ONCE = 'echo once >> "ran.$OAR_JOB_ID"; '


def kill_oarexec(system: System, life: str) -> None:
    pids = oarexec_processes(life, str(system.home))
    assert pids, f"no oarexec {life} to kill"
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_child(system: System, name: str) -> None:
    os.kill(system.processes()[name], signal.SIGKILL)


def kill_almighty(system: System) -> None:
    system.kill()
    system.start()


def nothing(system: System) -> None:
    """The comparison: nobody dies."""


DEATHS: dict[str, Callable[[System], None]] = {
    "nobody": nothing,
    "almighty": kill_almighty,
    "runner": lambda system: kill_child(system, "runner"),
    "appendice": lambda system: kill_child(system, "appendice"),
    "scheduler": lambda system: kill_child(system, "scheduler"),
    "oarexec session": lambda system: kill_oarexec(system, "session"),
    "oarexec guard": lambda system: kill_oarexec(system, "guard"),
}


def submit_mixture(system: System) -> dict[int, int]:
    """Twenty jobs, long, short, failing and an array; id -> exit status.  The first runs until ``go`` is there."""
    expected = {system.oarsub(ONCE + "until [ -e go ]; do sleep 0.05; done"): 0}
    for job_id in system.oarsub_array("--array", "6", ONCE + "exit 0"):
        expected[job_id] = 0
    for _ in range(4):
        expected[system.oarsub(ONCE + "sleep 1.5; exit 0")] = 0
    for status in (1, 3, 99, 127):
        expected[system.oarsub(ONCE + f"exit {status}")] = status
    elements = system.oarsub_array("--array", "5", ONCE + "sleep 0.$OAR_ARRAY_INDEX; exit $OAR_ARRAY_INDEX")
    for index, job_id in enumerate(elements, start=1):
        expected[job_id] = index
    return expected


def check_mixture(system: System, expected: dict[int, int]) -> None:
    (system.work / "go").touch()
    system.wait_until_all_final(list(expected))
    for job_id, status in expected.items():
        job = system.job(job_id)
        assert (job.state, job.exit_code, job.end_cause) == ("Terminated", status << 8, "exit"), job_id
        assert system.read(f"ran.{job_id}") == "once\n", job_id


@pytest.mark.parametrize("victim", DEATHS)
def test_twenty_jobs_run_once_each_whoever_is_killed(system: System, victim: str) -> None:
    expected = submit_mixture(system)
    some_run = "SELECT 1 FROM jobs WHERE state = 'Running' LIMIT 1"
    wait_until(lambda: system.database.execute(some_run), what="a job runs")

    DEATHS[victim](system)

    check_mixture(system, expected)


def test_twenty_jobs_run_once_each_though_postgresql_is_restarted(system: System, postgres: TestServer) -> None:
    expected = submit_mixture(system)
    some_run = "SELECT 1 FROM jobs WHERE state = 'Running' LIMIT 1"
    wait_until(lambda: system.database.execute(some_run), what="a job runs")

    postgresql.stop(postgres.cluster)
    postgresql.ensure_running(postgres.cluster)
    # The test's own pooled connections went with the server.
    system.database.engine.dispose()

    check_mixture(system, expected)


def test_two_hundred_acknowledged_jobs_survive_the_death_of_almighty(system: System) -> None:
    def submit(_: int) -> int:
        return system.oarsub("-O", "/dev/null", "-E", "/dev/null", ONCE)

    with ThreadPoolExecutor(4) as pool:
        acknowledged = list(pool.map(submit, range(200)))
    system.kill()
    system.start()

    assert len(set(acknowledged)) == 200
    system.wait_until_all_final(acknowledged)
    assert {system.job(job_id).state for job_id in acknowledged} == {"Terminated"}
    assert [job_id for job_id in acknowledged if system.read(f"ran.{job_id}") != "once\n"] == []


def test_a_killed_wrapper_is_noticed_and_nothing_of_its_job_is_left(system: System) -> None:
    job_id = system.oarsub("echo $$ > shell; sleep 60")
    system.wait_until_state(job_id, "Running")
    wait_until(lambda: (system.work / "shell").exists() and system.read("shell").strip(), what="the job has begun")
    shell = int(system.read("shell"))
    wrapper = int(Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[1])

    os.kill(wrapper, signal.SIGKILL)

    job = system.wait_until_final(job_id)
    assert (job.state, job.end_cause) == ("Error", "vanished")
    assert is_zombie(shell)


def test_a_walltime_goes_on_though_the_server_is_restarted(system: System) -> None:
    job_id = system.oarsub("-l", "/core=1,walltime=0:0:4", ONCE + "sleep 1000")
    system.wait_until_state(job_id, "Running")
    started = system.database.execute("SELECT started_at FROM jobs WHERE job_id = %s", (job_id,))

    kill_almighty(system)

    job = system.wait_until_final(job_id)
    assert job.end_cause == "walltime"
    lasted = "SELECT started_at, stopped_at - started_at < interval '60 s' FROM jobs WHERE job_id = %s"
    assert system.database.execute(lasted, (job_id,)) == [(started[0][0], True)]


def test_a_job_that_outlives_its_walltime_keeps_its_core_until_it_is_gone(system: System) -> None:
    core = system.database.execute("SELECT min(core) FROM resources")[0][0]
    stubborn = system.oarsub("-p", f"core = {core}", "-l", "/core=1,walltime=0:0:1", "trap '' TERM; kill -STOP $$")
    system.wait_until_state(stubborn, "Running")
    heir = system.oarsub("-p", f"core = {core}", "-l", "/core=1,walltime=0:0:1", ONCE)

    system.wait_until_final(heir)

    periods = "SELECT upper(held) FROM allocations WHERE job_id = %s"
    began = "SELECT lower(held) FROM allocations WHERE job_id = %s"
    left_at = system.database.execute(periods, (stubborn,))[0][0]
    assert left_at is not None
    assert left_at <= system.database.execute(began, (heir,))[0][0]  # type: ignore[operator]
    assert system.job(stubborn).end_cause in ("walltime", "exterminated")
    assert system.job(heir).state == "Terminated"


def test_a_submission_that_nobody_answers_is_refused_and_never_runs(system: System) -> None:
    system.stop()

    said = system.run("oarsub", ONCE, check=False)

    assert said.returncode == 75
    assert "OAR_JOB_ID" not in said.stdout
    assert len(said.stderr.strip().splitlines()) == 1
    system.start()
    later = system.oarsub(ONCE)
    system.wait_until_final(later)
    assert system.database.execute("SELECT job_id FROM jobs") == [(later,)]
