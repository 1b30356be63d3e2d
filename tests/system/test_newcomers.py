"""What those who type a command for the first time run into, and what they are told."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.accounts import environment_of, switched
from tests.support.instance import COMMANDS, System, running_system
from tests.support.postgres import TestServer
from tests.system.test_waiting import started

#: Stands in the place of a library that a command imports, and ends with the interpreter.
BLOCKED = "import os, signal\nos.write(1, b'importing\\n')\nwhile True:\n    signal.pause()\n"
ASKED = "import os, signal\nos.write(1, f'{signal.getsignal(signal.SIGINT).name}\\n'.encode())\nos._exit(0)\n"


@pytest.fixture(scope="module")
def running(postgres: TestServer) -> Iterator[System]:
    """One instance for all these tests."""
    with postgres.database() as database, running_system(database) as system:
        yield system
        assert invariants.broken(database.engine) == []


def test_a_number_that_oarstat_ignores_as_oar_does_is_told_with_what_was_meant(running: System) -> None:
    job_id = running.oarsub("true")
    running.wait_until_final(job_id)

    done = running.run("oarstat", str(job_id))
    named = running.run("oarstat", "-s", "-j", "999999", str(job_id))
    queue = running.run("oarstat", "-f", "default")

    said = f"# {job_id} is ignored, as OAR does; oarstat -j {job_id} shows what has this number\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", said)
    assert (named.stdout, named.stderr) == (f"{job_id}: Terminated\n", "")
    assert queue.stderr == ""


def test_oardel_does_not_claim_to_delete_what_is_over(running: System) -> None:
    job_id = running.oarsub("true")
    running.wait_until_final(job_id)

    done = running.run("oardel", str(job_id))

    assert done.returncode == 0
    assert done.stdout == f"Deleting the job = {job_id} ...OVER.\n"
    assert done.stderr == f"# job {job_id} is over already; nothing was left to delete\n"


def test_a_job_that_never_started_is_not_waited_for(running: System) -> None:
    job_id = running.oarsub("-l", "core=4", "-t", "postpone=2100-01-01", "true")
    running.run("oardel", str(job_id))
    running.wait_until_final(job_id)

    done = running.run("oarstat", "--follow", "-j", str(job_id), check=False)

    assert (done.returncode, done.stdout) == (123, "")
    assert done.stderr == (
        f"# job {job_id} ended without having started, so it has written nothing; oarstat -fj {job_id} tells more\n"
        f"oarstat: job {job_id}: it was deleted\n"
    )


@pytest.mark.parametrize("words", [("--events", "--watch", "--after", "0"), ("--watch", "-s"), ("--follow",)])
def test_who_shows_what_happens_ends_when_nobody_reads_any_more(running: System, words: tuple[str, ...]) -> None:
    job_id = running.oarsub("echo one; exec sleep 300")
    running.wait_until_state(job_id, "Running")
    watching = started(running, "oarstat", *words, "-j", str(job_id))
    assert watching.stdout is not None
    assert any("Running" in line or line == "one\n" for line in watching.stdout)

    # From here on nothing happens, so that nothing more is written.
    watching.stdout.close()

    assert watching.wait(timeout=60) == 128 + signal.SIGPIPE
    assert watching.stderr is not None
    assert watching.stderr.read() == ""
    running.run("oardel", str(job_id))
    running.wait_until_final(job_id)


def test_what_goes_with_a_property_is_told_before_and_after(running: System) -> None:
    running.admin("oarproperty", "-a", "colour", "-c")
    running.admin("oarnodesetting", "--sql", "core < 3", "-p", "colour=blue")

    rehearsed = running.admin("oarproperty", "-d", "colour", "--dry-run")
    still = running.admin("oarproperty", "-l")
    done = running.admin("oarproperty", "-d", "colour")

    assert rehearsed.stdout == "Property colour: 2 resource(s) would lose their value\nNothing was done\n"
    assert still.stdout == "colour\ncore\ncpu\nhost\n"
    assert (done.stdout, done.stderr) == (
        "Deleted property: colour\n",
        "# resources that have lost their colour: 2\n",
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("host", "4 resources have a value of host, by which requests ask for them"),
        ("network_address", "network_address is a property of the system, which stays as it is"),
    ],
)
def test_a_property_on_which_requests_rest_is_not_removed_by_mistake(running: System, name: str, said: str) -> None:
    done = running.admin("oarproperty", "-d", name, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert running.database.execute(f"SELECT count({name}) FROM resources") == [(4,)]


@pytest.mark.parametrize("words", [(), ("db",), ("quotas",)])
def test_oarpy_without_a_command_shows_its_help(running: System, words: tuple[str, ...]) -> None:
    done = running.admin("oarpy", *words, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == running.admin("oarpy", *words, "--help").stdout


def test_a_simulation_through_a_pipe_says_that_it_runs_and_then_what_came_of_it(running: System) -> None:
    trace = running.work / "trace.swf"
    trace.write_text("; MaxProcs: 2\n1 0 -1 10 1 -1 -1 1 10 -1 1 1 1 1 1 1 -1 -1\n")

    done = running.admin("oarpy", "simulate", str(trace))

    assert done.stderr == "# simulating 1 job(s) on 2 cores; the figures come at the end\n"
    assert done.stdout.startswith("jobs ")


def early(running: System, place: Path, instead: str, **how: object) -> subprocess.Popen[str]:
    """``oarstat`` as its program starts it, whose first library is ``instead``."""
    (place / "click").mkdir()
    (place / "click" / "__init__.py").write_text(instead)
    for path in (place, place / "click", place / "click" / "__init__.py"):
        path.chmod(0o755)
    return subprocess.Popen(
        switched(running.user, [str(COMMANDS / "oarstat")]),
        env={**environment_of(running.user, running.environment), "PYTHONPATH": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,  # type: ignore[call-overload]  # what Popen takes
    )


@pytest.fixture
def place(running: System, tmp_path: Path) -> Path:
    """A directory that the user reaches."""
    made = running.work / tmp_path.name
    made.mkdir()
    return made


def test_an_interrupt_while_a_command_is_imported_is_one_sentence(running: System, place: Path) -> None:
    starting = early(running, place, BLOCKED)
    assert starting.stdout is not None
    assert starting.stdout.readline() == "importing\n"

    starting.send_signal(signal.SIGINT)

    out, said = starting.communicate(timeout=60)
    assert (starting.returncode, out, said) == (130, "", "oarstat: interrupted\n")


def test_who_ignores_interrupts_goes_on_doing_so(running: System, place: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        starting = early(running, place, ASKED)
    finally:
        signal.signal(signal.SIGINT, before)

    assert starting.communicate(timeout=60)[0] == "SIG_IGN\n"
