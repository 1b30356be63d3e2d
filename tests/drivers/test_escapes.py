"""Jobs that will not end, and users who try what is not theirs, over each containment that can kill all of a job."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from oarpy.model.states import EndCause
from oarpy.ports.executor import Attempt
from tests.support import accounts
from tests.support.node import Node, a_node
from tests.support.waiting import wait_until

#: A daemon: away from its parents, its session, its directory and its environment, deaf to signals; and
#: each half second it is another process, so that nobody who looks and then kills ever meets it.
DAEMON = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
os.closerange(0, 64)
if len(sys.argv) > 2:
    os.execve(sys.executable, ["python3", sys.argv[0], sys.argv[1]], {})
while True:
    if os.fork():
        os._exit(0)
    if os.fork() == 0:
        os.setpgid(0, 0)
        time.sleep(0.2)
        os._exit(0)
    time.sleep(0.05)
"""


@pytest.fixture(params=["as root", "over ssh", "over ssh, v2"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with a_node(request.param) as node:
        yield node


def daemons(node: Node) -> list[str]:
    """What lives of daemons, wherever on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f"{node.work}/daemon.py".encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def start_daemons(node: Node, then: str, **other: object) -> Attempt:
    (node.work / "daemon.py").write_text(DAEMON)
    starts = f"for n in 1 2 3; do python3 {node.work}/daemon.py $n again & done; trap '' TERM; echo ready; {then}"
    attempt = node.launch(starts, **other)
    node.wait_for_text("1.out", "ready")
    wait_until(lambda: len(daemons(node)) >= 3, what="the daemons live")
    return attempt


def test_nothing_is_left_of_daemons_that_hide_and_ignore_term(node: Node) -> None:
    attempt = start_daemons(node, "while :; do sleep 1; done")

    node.kill(attempt, after_s=0.3)

    assert node.ended(attempt).cause is EndCause.KILLED
    assert daemons(node) == []


def test_nothing_is_left_of_daemons_when_their_job_ends_by_itself(node: Node) -> None:
    attempt = start_daemons(node, f"until [ -e {node.work}/go ]; do sleep 0.05; done; exit 4")

    (node.work / "go").touch()

    assert node.ended(attempt).status == 4 << 8
    assert daemons(node) == []


def test_nothing_is_left_of_daemons_when_the_walltime_ends(node: Node) -> None:
    times = {"walltime": timedelta(seconds=3), "grace": timedelta(), "kill_after": timedelta(seconds=0.3)}
    attempt = start_daemons(node, "while :; do sleep 1; done", **times)

    assert node.ended(attempt).cause is EndCause.WALLTIME
    assert daemons(node) == []


def test_a_dead_guard_leaves_daemons_to_the_next_one(node: Node) -> None:
    attempt = start_daemons(node, "while :; do sleep 1; done")
    node.disconnect()
    node.kill_guard()
    node.connect()

    node.kill(attempt, after_s=0)

    assert node.ended(attempt).cause is EndCause.KILLED
    assert daemons(node) == []


def groups_of(pid: int) -> list[Path]:
    """The control groups of a process below ours, as this machine sees them."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        root = names.removeprefix("name=") if names else "unified"
        if "/oarpy/" in path:
            found.append(Path("/sys/fs/cgroup") / root / path.lstrip("/"))
    return found


def as_user(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    words = accounts.switched(accounts.account(name), command)
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("who", [accounts.ALICE, accounts.BOB])
def test_nobody_enters_a_job_or_leaves_one_by_its_control_groups(node: Node, who: str) -> None:
    attempt = node.launch("echo ready; sleep 1000", cpus="0", memory_mib=100)
    node.wait_for_text("1.out", "ready")
    pid = next(int(pid) for pid in node.processes() if _runs(pid, "sleep"))
    groups = groups_of(pid)

    assert groups
    for group in groups:
        for file in [path for path in (*group.iterdir(), *group.parent.iterdir()) if path.is_file()]:
            assert as_user(who, "test", "-w", str(file)).returncode == 1, file
        assert as_user(who, "mkdir", str(group / "mine")).returncode != 0
    for name in ("cgroup.procs", "tasks"):
        outside = [group.parent / name for group in groups if (group.parent / name).exists()]
        assert all(as_user(who, "sh", "-c", f"echo {pid} > {file}").returncode for file in outside)
    assert groups_of(pid) == groups
    node.kill(attempt, after_s=0)
    node.ended(attempt)


def _runs(pid: int, name: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == name


def test_another_user_can_neither_signal_a_job_nor_read_its_environment_or_its_files(node: Node) -> None:
    environment = {"OAR_JOB_ID": "1", "SECRET": "alice's"}
    attempt = node.launch("echo ready; sleep 1000", environment=environment, umask=0o077)
    node.wait_for_text("1.out", "ready")

    for pid in node.processes():
        for tries in (f"kill -0 {pid}", f"kill -CONT {pid}", f"cat /proc/{pid}/environ", f"ls /proc/{pid}/fd"):
            assert as_user(accounts.BOB, "sh", "-c", tries).returncode != 0, tries
    spool = node.directory
    assert list(spool.glob("jobs/1.1/progress"))
    for path in [spool / "guard.sock", *spool.glob("jobs/1.1/progress"), node.work / "1.out"]:
        assert as_user(accounts.BOB, "test", "-r", str(path)).returncode == 1, path
        assert as_user(accounts.BOB, "test", "-w", str(path)).returncode == 1, path
    node.kill(attempt, after_s=0)
    node.ended(attempt)


def test_output_does_not_follow_what_is_swapped_meanwhile(node: Node) -> None:
    """A path that is at times a file and at times a link to what only root may write."""
    protected = node.work.parent / "protected"
    protected.write_text("as it was")
    protected.chmod(0o600)
    swap = f"while [ ! -e done ]; do ln -sf {protected} out.new; mv -f out.new out; rm -f out; : > out; done"
    swapper = node.launch(swap, job_id=100)
    wait_until(lambda: os.path.lexists(node.work / "out"), what="it swaps")

    causes = {node.run("echo written", job_id=n, stdout="out", stderr="out").cause for n in range(1, 31)}
    (node.work / "done").touch()
    node.ended(swapper)

    assert causes <= {EndCause.EXIT, EndCause.LAUNCH_ERROR}
    assert protected.read_text() == "as it was"
    assert protected.stat().st_uid == 0
