"""Programs of users are run as these users, and for no longer than allowed."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from oarpy.drivers.command import CommandMessenger
from oarpy.node.oarexec.keys import KEYCTL_CALLS
from oarpy.ports.messenger import Delivery, Fate, Message
from tests.support.accounts import BOB, account, root, submitter
from tests.support.waiting import wait_until

Run = Callable[..., Delivery]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the user may write; pytest's own directories are closed to other accounts."""
    user = submitter()
    path = Path(tempfile.mkdtemp(prefix="oarpy-exec-"))
    os.chown(path, user.pw_uid, user.pw_gid)
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run(directory: Path) -> Run:
    """Runs the text of a program with a message."""

    def run(
        program: str, words: str = "", *, login: str | None = None, timeout_s: float = 60, **values: object
    ) -> Delivery:
        file = directory / "program"
        file.write_text(program)
        file.chmod(0o755)
        defaults = {"tag": "END", "comment": "all is well", "job_id": 42, "job_name": "sim"}
        message = Message(7, f"{file} {words}".strip(), login or submitter().pw_name, **{**defaults, **values})
        (delivery,) = CommandMessenger(timedelta(seconds=timeout_s)).deliver([message])
        return delivery

    return run


def test_a_program_does_not_read_the_keys_of_the_server(run: Run) -> None:
    """A login over ssh and a service of systemd have keys of their own, which whoever comes of them would have, too."""
    root()
    keyctl = ctypes.CDLL(None).syscall
    number = KEYCTL_CALLS[os.uname().machine]
    joined = keyctl(number, 1, None)
    assert keyctl(number - 2, b"user", b"of-the-server", b"secret", 6, -3) > 0
    assert joined > 0

    find = f"ctypes.CDLL(None).syscall({number}, 10, -3, b'user', b'of-the-server', 0)"
    found = run(f"#!/usr/bin/env python3\nimport ctypes\nprint({find})\n")

    assert found.detail.endswith(": -1")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


SHOW = """#!/usr/bin/env python3
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "ids": [os.getresuid(), os.getresgid()], "groups": sorted(os.getgroups()),
                  "environment": dict(os.environ), "directory": os.getcwd(), "leader": os.getsid(0) == os.getpid(),
                  "descriptors": os.listdir("/proc/self/fd")}))
"""


def shown(delivery: Delivery) -> dict[str, object]:
    assert delivery.fate is Fate.DELIVERED, delivery
    document: dict[str, object] = json.loads(delivery.detail.removeprefix("exit status 0: "))
    return document


def test_a_program_gets_its_words_and_then_the_message(run):
    seen = shown(run(SHOW, "--to me"))

    assert seen["arguments"] == ["--to", "me", "42", "sim", "END", "all is well"]


def test_no_shell_reads_the_message(run):
    seen = shown(run(SHOW, comment="$(id); `id` > /tmp/x 'y\" \n*", job_name="; reboot"))

    assert seen["arguments"] == ["42", "; reboot", "END", "$(id); `id` > /tmp/x 'y\" \n*"]


def test_a_program_runs_as_its_user_with_that_users_groups_alone(run):
    user = submitter()

    seen = shown(run(SHOW))

    assert seen["ids"] == [[user.pw_uid] * 3, [user.pw_gid] * 3]
    assert seen["groups"] == sorted(os.getgrouplist(user.pw_name, user.pw_gid))


def test_a_program_sees_the_environment_of_a_login_and_nothing_of_the_server(run, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "secret")
    user = submitter()

    seen = shown(run(SHOW))

    environment = seen["environment"]
    assert isinstance(environment, dict)
    assert environment["HOME"] == seen["directory"] == user.pw_dir
    assert environment["USER"] == environment["LOGNAME"] == user.pw_name
    assert environment["OAR_NOTIFICATION_ID"] == "7"
    assert "PGPASSWORD" not in environment


def test_a_program_leads_a_session_of_its_own_and_inherits_no_descriptor(run):
    seen = shown(run(SHOW))

    assert seen["leader"] is True
    assert sorted(map(int, seen["descriptors"]))[:3] == [0, 1, 2]
    assert len(seen["descriptors"]) == 4  # the fourth is the listing of them


@pytest.mark.parametrize(
    ("status", "fate"), [(0, Fate.DELIVERED), (1, Fate.REFUSED), (3, Fate.REFUSED), (75, Fate.FAILED)]
)
def test_only_a_program_that_asks_for_it_is_run_again(run, status, fate):
    delivery = run(f"#!/bin/sh\necho hello; exit {status}\n")

    assert delivery == Delivery(7, fate, f"exit status {status}: hello")


def test_a_program_that_dies_of_a_signal_is_told_so(run):
    assert run("#!/bin/sh\nkill -9 $$\n") == Delivery(7, Fate.REFUSED, "died of signal 9")


def test_a_program_that_takes_too_long_is_killed_with_all_it_started(run):
    begun_s = time.monotonic()

    delivery = run("#!/bin/sh\nsleep 600 & echo $!; sleep 600\n", timeout_s=5)

    what, _, child = delivery.detail.partition(": ")
    assert time.monotonic() - begun_s < 300
    assert (delivery.fate, what) == (Fate.REFUSED, "killed after 5 s")
    wait_until(lambda: not alive(int(child)), what="the program's child is gone")


def test_what_a_program_leaves_running_is_ended_with_it(run):
    delivery = run("#!/bin/sh\nsleep 600 & echo $!\n")

    child = int(delivery.detail.partition(": ")[2])
    wait_until(lambda: not alive(child), what="the program's child is gone")


def test_endless_output_is_cut(run):
    delivery = run("#!/bin/sh\nyes | head -c 10000000\n")

    assert delivery.fate is Fate.DELIVERED
    assert len(delivery.detail) < 5000


def test_a_program_that_only_writes_is_killed_too(run):
    assert run("#!/bin/sh\nyes\n", timeout_s=1).fate is Fate.REFUSED


@pytest.mark.parametrize("target", ["/no/such/program", "/etc/passwd", "/etc"])
def test_what_cannot_be_run_is_refused(target):
    message = Message(7, target, submitter().pw_name, "END", "", 42)

    (delivery,) = CommandMessenger(timedelta(seconds=5)).deliver([message])

    assert delivery.fate is Fate.REFUSED
    assert delivery.detail.startswith("could not be run (status 12")


def test_a_user_without_an_account_has_no_program(run):
    assert run(SHOW, login="no-such-user").fate is Fate.REFUSED


@pytest.mark.parametrize("login", ["root", "daemon"])
def test_no_program_is_run_as_root_or_the_system(run, login):
    if os.geteuid() == 0 or pwd.getpwnam(login).pw_uid != os.geteuid():
        assert run(SHOW, login=login).fate is Fate.REFUSED


def test_nobody_elses_files_can_be_read(run, directory):
    secret = directory / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    bob = account(BOB)
    os.chown(secret, bob.pw_uid, bob.pw_gid)

    assert run(f"#!/bin/sh\ncat {secret}\n").fate is Fate.REFUSED


def test_a_program_dies_with_the_server(directory):
    program = directory / "program"
    program.write_text(f"#!/bin/sh\necho $$ > {directory}/pid\nexec sleep 600\n")
    program.chmod(0o755)
    server = os.fork()
    if server == 0:
        CommandMessenger(timedelta(seconds=60)).deliver([Message(7, str(program), submitter().pw_name, "END", "", 42)])
        os._exit(0)
    file = directory / "pid"
    pid = int(wait_until(lambda: file.exists() and file.read_text().strip(), what="the program runs"))

    os.kill(server, 9)
    os.waitpid(server, 0)

    wait_until(lambda: not alive(pid), what="the program is gone")
