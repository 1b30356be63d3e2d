"""``oarsub --wait`` and ``--follow`` on a running instance."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support.accounts import environment_of, switched
from tests.support.instance import COMMANDS, System
from tests.support.waiting import wait_until


def started(system: System, *words: str) -> subprocess.Popen[str]:
    """A command of the user's that goes on."""
    return subprocess.Popen(
        switched(system.user, [str(COMMANDS / words[0]), *words[1:]]),
        env=environment_of(system.user, system.environment),
        cwd=system.work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sessions(system: System) -> int:
    """How many sessions users have."""
    return int(str(system.database.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'oar_user'")[0][0]))


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [("true", 0, ""), ("exit 7", 7, ""), ("kill -TERM $$", 143, "oarsub: job 1: died of signal 15\n")],
)
def test_waiting_ends_with_the_status_of_the_job(system, command, status, said):
    done = system.run("oarsub", "--wait", command, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (status, "OAR_JOB_ID=1\n", said)


def test_a_job_that_was_deleted_has_a_status_of_its_own(system):
    waiting = started(system, "oarsub", "--wait", "sleep 600")
    wait_until(lambda: system.database.execute("SELECT 1 FROM jobs WHERE state = 'Running'"))

    system.run("oardel", "1")

    _, said = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (123, "oarsub: job 1: it was deleted\n")


def test_a_job_that_cannot_run_has_a_status_of_its_own(system):
    waiting = started(system, "oarsub", "--wait", "-d", "/nowhere/at/all", "true")

    _, said = waiting.communicate(timeout=60)

    assert waiting.returncode == 125
    assert "job 1: it could not run, or to its end" in said


def test_a_job_whose_walltime_has_passed_has_a_status_of_its_own(system):
    done = system.run("oarsub", "--wait", "-l", "walltime=0:0:1", "sleep 600", check=False)

    assert (done.returncode, done.stderr) == (124, "oarsub: job 1: its walltime had passed\n")


def test_of_an_array_the_worst_status_counts(system):
    done = system.run("oarsub", "--wait", "--array", "3", "exit $OAR_ARRAY_INDEX", check=False)

    assert done.returncode == 3


def test_who_waits_has_no_session(system):
    waiting = started(system, "oarsub", "--wait", "while ! test -e go; do sleep 0.1; done")
    wait_until(lambda: system.database.execute("SELECT 1 FROM jobs WHERE state = 'Running'"))

    wait_until(lambda: sessions(system) == 0)
    (system.work / "go").touch()

    assert waiting.wait(timeout=60) == 0


def test_waiting_outlives_appendice(system):
    waiting = started(system, "oarsub", "--wait", "while ! test -e go; do sleep 0.1; done; exit 5")
    wait_until(lambda: system.database.execute("SELECT 1 FROM jobs WHERE state = 'Running'"))
    wait_until(lambda: sessions(system) == 0)

    before = system.processes()["appendice"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: system.processes()["appendice"] != before)
    (system.work / "go").touch()

    assert waiting.wait(timeout=60) == 5


def test_waiting_goes_on_without_the_socket(system):
    socket = system.home / "run" / "watch.sock"
    waiting = started(system, "oarsub", "--wait", "while ! test -e go; do sleep 0.1; done; exit 6")
    wait_until(lambda: system.database.execute("SELECT 1 FROM jobs WHERE state = 'Running'"))

    socket.unlink()
    os.kill(system.processes()["appendice"], signal.SIGSTOP)
    try:
        (system.work / "go").touch()
        assert waiting.wait(timeout=60) == 6
    finally:
        os.kill(system.processes()["appendice"], signal.SIGCONT)


def test_an_interrupt_leaves_the_job_alone(system):
    waiting = started(system, "oarsub", "--wait", "sleep 600")
    wait_until(lambda: system.database.execute("SELECT 1 FROM jobs WHERE state = 'Running'"))

    # The fan-out has a session as soon as somebody hangs on it.
    looks = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE %s AND query LIKE %s"
    wait_until(lambda: system.database.execute(looks, ("oarpy/%/appendice", "%feed_after%")))
    waiting.send_signal(signal.SIGINT)

    _, said = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (130, "oarsub: interrupted; job 1 goes on\n")
    assert system.job(1).state == "Running"
    system.run("oardel", "1")
    system.wait_until_final(1)


def test_what_a_job_writes_is_followed_to_its_end(system):
    following = started(
        system, "oarsub", "--follow", "echo one; while ! test -e go; do sleep 0.1; done; echo two; echo bad >&2; exit 4"
    )
    assert following.stdout is not None
    assert [following.stdout.readline() for _ in range(2)] == ["OAR_JOB_ID=1\n", "one\n"]

    (system.work / "go").touch()

    out, errors = following.communicate(timeout=60)
    assert (following.returncode, out, errors) == (4, "two\n", "bad\n")


def test_an_array_is_not_followed(system):
    done = system.run("oarsub", "--follow", "--array", "2", "true", check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("oarsub: --follow shows one job, not an array")


@pytest.mark.parametrize("option", ["--wait", "--follow"])
def test_a_terminal_is_not_waited_for_as_well(system, option):
    done = system.run("oarsub", "-I", option, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "oarsub: --wait and --follow do not go with -I, which ends with the shell\n"


def test_elements_that_are_submitted_again_are_waited_for_alone(system):
    assert (
        system.run("oarsub", "--wait", "--array", "3", "test -e go || exit $OAR_ARRAY_INDEX", check=False).returncode
        == 3
    )
    (system.work / "go").touch()

    done = system.run("oarsub", "--wait", "--resubmit", "1", "--only", "failed", check=False)

    assert (done.returncode, done.stdout.count("OAR_JOB_ID=")) == (0, 3)


def test_a_script_does_not_say_who_waits(system):
    script = system.work / "script.sh"
    script.write_text("#!/bin/sh\n#OAR --wait\ntrue\n")
    script.chmod(0o755)

    done = system.run("oarsub", "-S", "./script.sh", check=False)

    assert (done.returncode, done.stdout) == (12, "")
    assert "--wait, which is for the command line" in done.stderr
