"""What users cannot see of each other, cannot do to each other, and cannot get of the server."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import accounts
from tests.support.instance import System, running_system
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

NAMES = ["$(id)", "%s%n", "../../etc/x", 'it\'s "so"', "é" * 250, "x" * 255, "`id`;id", "*"]
# Leaves its session, its descriptors and its environment, and minds no signal.
ESCAPE = """
import os, signal
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.closerange(0, 64)
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
os.execve("/bin/sleep", ["sleep", "%s"], {})
"""


def sleeping(seconds: str) -> list[int]:
    """The processes that sleep for just so long."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(entry.name))
    return found


def status_of_job(system: System, field: str) -> int:
    """A mask of signals in what a job said of itself."""
    line = next(line for line in system.read("said").splitlines() if line.startswith(field))
    return int(line.split()[1], 16)


def test_a_job_gets_a_clean_start_however_the_server_was_started(database: TestDatabase) -> None:
    ignored = [signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    os.environ["OARPY_SECRET"] = "of the server"
    try:
        with running_system(database) as system:
            # A shell would block and ignore signals of its own.
            probe = "exec cat /proc/self/status /proc/self/oom_score_adj /proc/self/environ > said 2>&1"
            first = system.oarsub(probe)
            second = system.oarsub(
                "ls -l /proc/self/fd > fds; readlink /proc/self/fd/0 > stdin; umask > mask; nice > nice"
            )
            system.wait_until_all_final([first, second])

            named = sum(1 << number - 1 for number in signal.Signals if number <= signal.SIGSYS)
            assert status_of_job(system, "SigIgn") & named == 0
            assert status_of_job(system, "SigBlk") == 0
            assert "of the server" not in system.read("said")
            assert "OARPY_HOME" not in system.read("said")
            assert "OARPY_DATABASE" not in system.read("said")
            assert system.read("stdin") == "/dev/null\n"
            assert system.read("nice") == "0\n"
            assert {line.split()[-3] for line in system.read("fds").splitlines()[1:]} == {"0", "1", "2", "3"}
    finally:
        del os.environ["OARPY_SECRET"]
        for number, handler in before.items():
            signal.signal(number, handler)


def test_only_its_author_sees_how_a_job_was_asked_for(system: System) -> None:
    job_id = system.oarsub("--hold", "--project", "secret-project", "echo of-the-author")

    asked = "SELECT initial_request FROM visible_jobs WHERE job_id = %s"
    by_author = system.database.execute_as(system.user, asked, (job_id,))
    by_other = system.database.execute_as(accounts.account(accounts.BOB), asked, (job_id,))

    assert "secret-project" in str(by_author)
    assert by_other == [[None]]


@pytest.mark.parametrize("path", ["link", "directory", "closed/file", "/etc/oarpy-test", "loop", "missing/file"])
def test_output_goes_nowhere_the_user_could_not_write(system: System, path: str) -> None:
    accounts.root()
    protected = system.root / "protected"
    protected.write_text("as it was")
    protected.chmod(0o600)
    (system.work / "link").symlink_to(protected)
    (system.work / "loop").symlink_to("loop")
    (system.work / "directory").mkdir()
    (system.work / "closed").mkdir(mode=0o700)

    job = system.wait_until_final(system.oarsub("-O", path, "id"))

    assert (job.state, job.end_cause) == ("Error", "launch_error")
    assert protected.read_text() == "as it was"
    assert not Path("/etc/oarpy-test").exists()
    assert list((system.work / "closed").iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_strange_name_reaches_the_job_as_it_is(system: System, name: str) -> None:
    job = system.wait_until_final(system.oarsub("-n", name, 'printf %s "$OAR_JOB_NAME" > name'))

    assert (job.state, job.exit_code) == ("Terminated", 0)
    assert system.read("name") == name


def test_parameters_are_words_for_the_shell_of_the_job_and_of_nobody_else(system: System) -> None:
    (system.work / "parameters").write_text("'a b' \"c\"\n$(id -un) `id -un`; id -un\n")

    jobs = system.oarsub_array("--array-param-file", "parameters", "printf '%s|'")
    system.wait_until_all_final(jobs)

    name = system.user.pw_name
    assert system.read(f"OAR.{jobs[0]}.stdout") == "a b|c|"
    assert system.read(f"OAR.{jobs[1]}.stdout") == f"{name}|{name}|{name}\n"


@pytest.mark.parametrize("deleted", [False, True])
def test_nothing_that_a_job_hid_is_left_at_its_end(system: System, deleted: bool) -> None:
    accounts.root()
    mark = f"{os.getpid()}.{int(deleted)}5"
    (system.work / "escape.py").write_text(ESCAPE % mark)
    hold_on = "trap '' TERM; while :; do sleep 1; done" if deleted else f"until pgrep -fx 'sleep {mark}'; do :; done"
    job_id = system.oarsub("python3 escape.py; " + hold_on)
    if deleted:
        wait_until(lambda: sleeping(mark), what="it has hidden itself")
        system.run("oardel", str(job_id))

    job = system.wait_until_final(job_id, timeout_s=30)

    assert job.end_cause == ("killed" if deleted else "exit")
    assert sleeping(mark) == []
