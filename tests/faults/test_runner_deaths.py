"""The runner, oarexec's session and its guard die at the worst moments, and no job is lost or run twice."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from oarpy.modules.context import DIES_AT
from tests.support.instance import System
from tests.support.node import command_lines, oarexec_processes
from tests.support.waiting import wait_until


def restarts(system: System) -> int:
    """How often the runner has been started again."""
    found = system.database.execute("SELECT restarts FROM processes WHERE name = 'runner'")
    return int(str(found[0][0])) if found else 0


@pytest.mark.parametrize("point", ["runner: launches written", "runner: launches sent", "runner: turn written"])
def test_a_job_survives_the_death_of_the_runner(system, point):
    system.stop()
    system.environment[DIES_AT] = point
    system.start()
    jobs = [system.oarsub(f"echo {number} >> ran; exit {number}") for number in range(1, 4)]
    wait_until(lambda: restarts(system) > 0, what="the runner has died")
    system.kill()

    del system.environment[DIES_AT]
    system.start()

    ends = [system.wait_until_final(job) for job in jobs]
    assert [(end.state, end.exit_code) for end in ends] == [("Terminated", number << 8) for number in range(1, 4)]
    assert sorted(system.read("ran").split()) == ["1", "2", "3"]


def test_what_a_killed_runner_had_no_time_to_have_forgotten_is_forgotten_by_the_next(system):
    jobs = [system.oarsub("true") for _ in range(3)]
    for job in jobs:
        system.wait_until_final(job)

    os.kill(system.processes()["runner"], signal.SIGKILL)

    wait_until(lambda: restarts(system) > 0, what="another runner")
    wait_until(lambda: not [*system.root.glob("home/spool/*/jobs/*")], what="nothing is in the spool")
    assert [*system.root.glob("home/spool/*/free/*")]


@pytest.mark.parametrize("life", ["session", "guard"])
def test_a_killed_oarexec_is_replaced(system, life):
    long = system.oarsub("echo ready > ready; until [ -e go ]; do sleep 0.05; done; exit 3")
    wait_until(lambda: (system.work / "ready").exists(), what="the job runs")

    pids = oarexec_processes(life, str(system.root))
    assert pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    after = system.oarsub("echo ran > ran")

    assert system.wait_until_final(after).state == "Terminated"
    (system.work / "go").touch()
    end = system.wait_until_final(long)
    assert (end.state, end.exit_code, end.attempt) == ("Terminated", 3 << 8, 1)


def test_a_job_whose_wrapper_was_killed_is_over_long_before_it_would_have_ended(system):
    job = system.oarsub("echo ready > ready; sleep 1000")
    wait_until(lambda: (system.work / "ready").exists(), what="the job runs")

    for pid, words in command_lines():
        if words[:2] == ["/bin/sh", "-c"] and words[3:4] == ["oarexec"] and str(system.work) in words:
            os.kill(pid, signal.SIGKILL)

    end = system.wait_until_final(job)
    assert (end.state, end.end_cause, end.exit_code) == ("Error", "vanished", None)


def test_a_restart_of_almighty_leaves_jobs_running(system):
    job = system.oarsub("echo ready > ready; until [ -e go ]; do sleep 0.05; done; exit 3")
    wait_until(lambda: (system.work / "ready").exists(), what="the job runs")

    system.kill()
    (system.work / "go").touch()
    system.start()

    end = system.wait_until_final(job)
    assert (end.state, end.exit_code, end.attempt) == ("Terminated", 3 << 8, 1)
