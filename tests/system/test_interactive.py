"""Interactive jobs through a real terminal, on a running instance."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support import accounts, invariants
from tests.support.instance import COMMANDS, SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
from tests.support.typist import Typist
from tests.support.waiting import wait_until

SHORT = '[jobs]\nclient_timeout = "4 s"\n'
At = Callable[..., Typist]


def command_lines() -> list[bytes]:
    """What anybody on this machine sees of what runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return found


def terminals(system: System) -> list[str]:
    """The sockets of terminals in jobs of ``system``; there may be those of other tests besides."""
    held = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(system.root).encode() in (process / "environ").read_bytes():
                held |= {os.readlink(fd) for fd in (process / "fd").iterdir()}
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if "@oarpy/" in line]
    return [words[-1] for words in sockets if f"socket:[{words[6]}]" in held]


@pytest.fixture
def system(database: TestDatabase) -> Iterator[System]:
    with running_system(database, settings=SETTINGS + SHORT) as system:
        yield system
        assert invariants.broken(database.engine) == []


@pytest.fixture
def at_terminal(system: System) -> Iterator[At]:
    """Types a command in a terminal; the first word is oarsub or another of the commands."""
    typists = []

    def typing(*words: str, size: tuple[int, int] = (24, 80)) -> Typist:
        command = [str(COMMANDS / words[0]), *words[1:]]
        typist = Typist(command, system.user, cwd=system.work, environment=system.environment, size=size)
        typists.append(typist)
        return typist

    yield typing
    for typist in typists:
        typist.close()


def started(typist: Typist, shows: str = r"\$ ") -> int:
    """The job that an oarsub -I has got, once its shell is there."""
    job_id = int(typist.wait_for(r"OAR_JOB_ID=(\d+)\r\n")[1])
    typist.wait_for(rf"# Connect to OAR job {job_id} via the node \S+\r\n")
    typist.wait_for(shows)
    return job_id


def test_a_shell_has_a_terminal_and_the_job_ends_with_it(system: System, at_terminal: At) -> None:
    me = at_terminal("oarsub", "-I", "-l", "/core=2,walltime=0:10", size=(31, 97))
    job_id = started(me)

    me.type("stty size; tty; echo job-$OAR_JOB_ID term-$TERM lines-$(wc -l <$OAR_NODEFILE); pwd\n")
    me.wait_for(r"31 97\r\n")
    me.wait_for(r"/dev/pts/\d+\r\n")
    me.wait_for(rf"job-{job_id} term-xterm lines-2\r\n")
    me.wait_for(rf"{system.work}\r\n")
    me.type("exit 3\n")

    assert me.end() == 0
    assert f"# Disconnected from OAR job {job_id}\r\n" in me.shown
    job = system.wait_until_final(job_id)
    assert (job.state, job.exit_code, job.end_cause) == ("Terminated", 3 * 256, "exit")
    assert not list(system.work.glob("OAR.*"))
    kind = "SELECT job_type, message FROM jobs WHERE job_id = %s"
    assert system.database.execute(kind, (job_id,)) == [("INTERACTIVE", "R=2,W=0:10:0,J=I")]


def test_keys_are_signals_and_a_window_may_change(at_terminal: At) -> None:
    me = at_terminal("oarsub", "-I")
    started(me)

    me.type("sh -c 'echo sle''eping; exec sleep 1000'\n")
    me.wait_for(r"sleeping\r\n")
    me.type("\x03")
    me.wait_for(r"\$ ")
    me.type("echo stat''us-$?\n")
    me.wait_for(r"status-130\r\n")
    me.resize(40, 120)
    me.type("until [ \"$(stty size)\" = '40 120' ]; do :; done; echo wi''der\n")

    me.wait_for(r"wider\r\n")
    me.type("\x04")
    assert me.end() == 0


def test_a_command_may_have_the_terminal(system: System, at_terminal: At) -> None:
    me = at_terminal("oarsub", "-I", "echo ask; test -t 0 && read line && echo got-$line")
    job_id = started(me, r"ask\r\n")

    me.type("something\n")

    me.wait_for(r"got-something\r\n")
    assert me.end() == 0
    assert system.wait_until_final(job_id).exit_code == 0


def test_a_closed_window_ends_the_job_and_what_it_started(system: System, at_terminal: At) -> None:
    me = at_terminal("oarsub", "-I")
    job_id = started(me)
    # Others on this machine may sleep for just as long as each other.
    sleep = f"sleep {os.getpid()}.4242"
    me.type(f"(trap '' HUP TERM; exec {sleep}) & echo begun-$$\n")
    me.wait_for(r"begun-\d+\r\n")

    me.hang_up()

    system.wait_until_final(job_id)
    assert sleep not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_job_that_is_kept_outlives_its_link_and_is_come_back_to(system: System, at_terminal: At) -> None:
    first = at_terminal("oarsub", "-I", "--keep")
    job_id = started(first)
    first.type("here=before; until [ -e go ]; do sleep 0.05; done; echo mean''while\n")
    first.wait_for("mean''while")
    first.vanish()
    (system.work / "go").touch()

    other = at_terminal("oarsub", "-C", str(job_id))
    other.wait_for(r"meanwhile\r\n")
    other.vanish()

    second = at_terminal("oarsub", "-C", str(job_id), "--keep")
    second.type("echo $here-again\n")
    second.wait_for(r"before-again\r\n")
    second.type("\r~.")
    assert second.end() == 0
    assert f"# Left OAR job {job_id}; oarsub -C {job_id} comes back\r\n" in second.shown

    third = at_terminal("oarsub", "-C")
    third.type("exit\n")
    assert third.end() == 0
    assert system.wait_until_final(job_id).end_cause == "exit"


def test_another_client_takes_over(system: System, at_terminal: At) -> None:
    first = at_terminal("oarsub", "-I", "--keep")
    job_id = started(first)

    second = at_terminal("oarsub", "-C", str(job_id))
    second.type("echo mi''ne\n")
    second.wait_for(r"mine\r\n")

    assert first.end() == 11
    assert f"oarsub: job {job_id}: another client took over\r\n" in first.shown
    second.type("exit\n")
    assert second.end() == 0


def test_who_waits_is_told_the_prediction_and_interrupts(system: System, at_terminal: At) -> None:
    system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    me = at_terminal("oarsub", "-I", "-l", "/core=4,walltime=0:10")
    job_id = int(me.wait_for(r"OAR_JOB_ID=(\d+)\r\n")[1])
    me.wait_for(
        r"# Interactive mode: waiting\.\.\.\r\n# \[[-0-9: ]+\] Start prediction: \d{4}-\d\d-\d\d [0-9:]{8} \(.+\)\r\n"
    )

    me.type("\x03")

    assert me.end() == 130
    assert f"oarsub: interrupted; job {job_id} was deleted\r\n" in me.shown
    assert system.job(job_id).state == "Error"


@pytest.mark.parametrize("words", [["-I"], ["-r", "2030-01-01 00:00:00"]])
def test_who_interrupts_as_soon_as_the_job_has_an_id_has_no_job(
    system: System, at_terminal: At, words: list[str]
) -> None:
    # Nothing starts meanwhile: in a shell that is there ^C is a key.
    full = system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    system.wait_until_state(full, "Running")
    for _ in range(3):
        me = at_terminal("oarsub", *words, *(["sleep 1000"] if words[0] == "-r" else []))
        job_id = int(me.wait_for(r"OAR_JOB_ID=(\d+)\r\n")[1])

        me.type("\x03")

        assert me.end() == 130, me.shown
        assert f"interrupted; job {job_id} was deleted\r\n" in me.shown
        system.wait_until_final(job_id)


def test_a_waiting_job_whose_client_died_is_deleted(system: System, at_terminal: At) -> None:
    system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    dying = at_terminal("oarsub", "-I", "-l", "/core=4")
    living = at_terminal("oarsub", "-I", "-l", "/core=4")
    ids = [int(each.wait_for(r"OAR_JOB_ID=(\d+)\r\n")[1]) for each in (dying, living)]
    dying.wait_for("Start prediction")
    living.wait_for("Start prediction")

    dying.vanish()

    system.wait_until_final(ids[0])
    assert system.job(ids[1]).state == "Waiting"
    gone = "SELECT description FROM events WHERE type = 'CLIENT_GONE'"
    assert system.database.execute(gone) == [("whoever waited for its terminal is gone",)]


def test_a_job_that_is_killed_under_its_shell_says_why(system: System, at_terminal: At) -> None:
    me = at_terminal("oarsub", "-I", "-l", "/core=1,walltime=0:10")
    job_id = started(me)

    system.database.execute("UPDATE jobs SET planned_end_at = now() WHERE job_id = %s", (job_id,))

    assert me.end(60) == 11
    wait_until(lambda: system.job(job_id).end_cause == "walltime", what="it ended for its walltime")
    assert f"oarsub: job {job_id}: it ended (walltime)\r\n" in me.shown


def test_a_signal_for_the_job_reaches_what_is_in_front(system: System, at_terminal: At) -> None:
    script = "trap 'echo caught; exit 0' USR1; echo ready; while :; do sleep 0.05; done"
    me = at_terminal("oarsub", "-I", script)
    job_id = started(me, r"ready\r\n")

    system.run("oardel", "-s", str(int(signal.SIGUSR1)), str(job_id))

    me.wait_for(r"caught\r\n")
    assert me.end() == 0


def test_nobody_else_gets_to_the_terminal(system: System, at_terminal: At) -> None:
    me = at_terminal("oarsub", "-I", "--keep")
    job_id = started(me)
    bob = accounts.account(accounts.BOB)

    done = system.run("oarsub", "-C", str(job_id), user=bob, check=False)

    assert (done.returncode, done.stdout) == (20, "")
    assert done.stderr == f"oarsub: job {job_id} belongs to {system.user.pw_name}\n"
    names = terminals(system)
    assert names
    # Who could read a name before it is taken could take it.
    assert not any(name.removeprefix("@").encode() in words for name in names for words in command_lines())
    intruder = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + sys.argv[1][1:]);"
        "s.settimeout(60); print(s.recv(1))"
    )
    command = accounts.switched(bob, ["/usr/bin/python3", "-c", intruder, names[-1]])
    refused = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert refused.stdout == "b''\n"
    me.type("exit\n")
    assert me.end() == 0


def test_a_lock_that_a_stranger_has_keeps_nobody_waiting(system: System, at_terminal: At) -> None:
    with system.database.engine.connect() as stranger:
        locks = "SELECT pg_advisory_lock((1::bigint << 62) + n) FROM generate_series(1, 100) AS n"
        stranger.exec_driver_sql(locks).all()

        me = at_terminal("oarsub", "-I")
        started(me)

        me.type("exit\n")
        assert me.end() == 0


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["-I", "--array", "2"], 8, "an array cannot be interactive"),
        (
            ["-I", "-r", "2030-01-01 00:00:00"],
            7,
            "an advance reservation cannot be interactive; connect to it when it runs (oarsub -C)",
        ),
        (["-I", "-t", "noop"], 17, "a job that runs nothing cannot be interactive"),
        (["-C", "4711"], 20, "job 4711 does not exist"),
        (["-C", "4711", "-l", "core=2"], 1, "-C comes to a job that runs; only --keep goes with it, and no command"),
        (["-C", "4711", "hostname"], 1, "-C comes to a job that runs; only --keep goes with it, and no command"),
    ],
)
def test_what_cannot_be_interactive_is_refused(system: System, words: list[str], status: int, sentence: str) -> None:
    done = system.run("oarsub", *words, check=False)

    assert (done.returncode, done.stderr) == (status, f"oarsub: {sentence}\n")
