"""Jobs that will not end, and users who try what is not theirs, over each containment that can kill all of a job."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from oarpy.drivers.local import LocalExecutor
from oarpy.drivers.ssh import SshExecutor
from oarpy.errors import NodeUnreachable
from oarpy.model.states import EndCause
from oarpy.node.oarexec import wrappers
from oarpy.node.oarexec.keys import KEYCTL_CALLS
from oarpy.ports.executor import Attempt, OrderWord
from tests.support import accounts, box
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
    times = {"grace": timedelta(), "kill_after": timedelta(seconds=0.3)}
    attempt = start_daemons(node, "while :; do sleep 1; done", **times)

    # Over by now.
    node.order(OrderWord.WALLTIME, attempt, walltime=timedelta(seconds=0.1))

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
    pid = wait_until(lambda: next((pid for pid in node.processes() if _runs(pid, "sleep")), None), what="it sleeps")
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
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    return False


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


#: Takes descriptor 5 of the process PID in each way there is, and writes LINE to it.
STEAL = """
import ctypes, os, sys
pid, line = int(sys.argv[1]), sys.argv[2].encode()
libc = ctypes.CDLL(None, use_errno=True)
got = []
for flags in (os.O_WRONLY | os.O_APPEND, os.O_RDONLY):
    try:
        got.append(os.open("/proc/%d/fd/5" % pid, flags))
    except OSError:
        pass
target = libc.syscall(434, pid, 0)
got.append(libc.syscall(438, target, 5, 0))
got = [fd for fd in got if fd >= 0]
if libc.ptrace(16, pid, 0, 0) == 0:
    print("traced")
for fd in got:
    os.write(fd, line)
    print("stolen")
"""


def opening_of(node: Node, attempt: Attempt) -> int:
    """The process of a job's user that opens its files, waiting for one of them."""
    found: list[int] = []

    def there() -> bool:
        with suppress(AssertionError, OSError):
            wrapper = node.wrapper(attempt)
            children = Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split()
            found[:] = [int(pid) for pid in children if _is_opening(int(pid), node.user.pw_uid)]
        return bool(found)

    wait_until(there, what="the job's files are being opened")
    return found[0]


def _is_opening(pid: int, uid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    is_shell = words[1:3] == [b"-c", wrappers.OPENING_AS_USER.encode()]
    return is_shell and f"Uid:\t{uid}\t" in Path(f"/proc/{pid}/status").read_text()


def test_a_user_gets_no_hold_of_what_the_guard_reads_of_jobs(node: Node) -> None:
    """While a job's files are opened, as its user, what opens them can also write why it could not."""
    os.mkfifo(node.work / "pipe")
    os.chown(node.work / "pipe", node.user.pw_uid, node.user.pw_gid)
    attempt = node.launch("true", stdout="pipe", stderr="pipe")
    opening = opening_of(node, attempt)

    done = as_user(node.user.pw_name, "/usr/bin/python3", "-c", STEAL, str(opening), "cause exterminated\n")

    node.kill(attempt, after_s=0)
    assert (done.stdout, done.stderr) == ("", "")
    assert node.ended(attempt).cause is EndCause.KILLED


def test_what_notes_the_kill_of_a_job_is_kept_in_the_job(node: Node) -> None:
    """It runs as the user, who can make it wait, and could make it something else meanwhile."""
    os.mkfifo(node.work / "pipe")
    os.chown(node.work / "pipe", node.user.pw_uid, node.user.pw_gid)
    reader = os.open(node.work / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    attempt = node.launch(
        "trap '' TERM; echo ready >&2; exec >/dev/null 2>&1; while :; do sleep 1; done", stderr="pipe"
    )
    wait_until(lambda: _read_of(reader) == b"ready\n", what="the command runs")
    os.close(reader)

    node.kill(attempt, after_s=30)

    wait_until(lambda: notes_of(node) != [], what="the kill is being noted")
    for pid in notes_of(node):
        mine = [group for group in groups_of(pid) if group.parent.name == str(node.instance)]
        assert mine, pid
        assert all(group.name == "1.1" for group in mine)
    node.kill(attempt, after_s=0)
    node.ended(attempt)


def _read_of(fd: int) -> bytes:
    try:
        return os.read(fd, 100)
    except BlockingIOError:
        return b""


def notes_of(node: Node) -> list[int]:
    """The processes of the job's user that write of its kill."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            mine = path.stat().st_uid == node.user.pw_uid
            if mine and f"\0{node.work}\0pipe\0## OAR".encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


KEYCTL = KEYCTL_CALLS[os.uname().machine]
#: Puts a key into the session's keyring; says the number of one.
ADD_KEY = f"import ctypes; print(ctypes.CDLL(None).syscall({KEYCTL - 2}, b'user', b'NAME', b'secret', 6, -3))"
FIND_KEY = f"import ctypes; print(ctypes.CDLL(None).syscall({KEYCTL}, 10, -3, b'user', b'NAME', 0))"
#: Becomes a command in a session with keys of its own, as a login over ssh and a service of systemd have one.
KEYED = f"""
import ctypes, os, sys
ctypes.CDLL(None).syscall({KEYCTL}, 1, None)
{ADD_KEY.replace("NAME", "of-root").replace("print", "")}
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_no_job_reads_the_keys_of_another_nor_those_of_the_guard() -> None:
    with a_node("as root") as node:
        node.disconnect()
        node.kill_guard()
        node.executor = LocalExecutor(str(node.spool), carrier=["python3", "-c", KEYED])
        node.connect()
        finding = [f'python3 -c "{FIND_KEY.replace("NAME", name)}"' for name in ("of-alice", "of-root")]

        node.launch(f'python3 -c "{ADD_KEY.replace("NAME", "of-alice")}"; {finding[0]}; echo added; sleep 1000', 1)
        node.wait_for_text("1.out", "added")
        (node.work / "2.out").touch()
        (node.work / "2.out").chmod(0o666)
        node.run("; ".join(finding), 2, user=accounts.account(accounts.BOB).pw_name, stderr="2.out")

        added, found, _ = node.read("1.out").split()
        assert added == found
        assert int(added) > 0
        assert node.read("2.out").split() == ["-1", "-1"]


def test_root_uses_no_spool_that_is_somebody_else_s() -> None:
    with a_node("over ssh") as node:
        node.disconnect()
        user = accounts.account(accounts.BOB)
        tries = {name: node.work.parent / name for name in ("owned", "writable", "linked", "inner")}
        for name in ("owned", "writable"):
            tries[name].mkdir()
        os.chown(tries["owned"], user.pw_uid, user.pw_gid)
        tries["writable"].chmod(0o777)
        tries["linked"].symlink_to(node.work)
        (tries["inner"] / str(node.instance)).mkdir(parents=True)
        os.chown(tries["inner"] / str(node.instance), user.pw_uid, user.pw_gid)

        for path in tries.values():
            node.executor = SshExecutor(str(path), ssh=box.a_box().patient_ssh)
            with pytest.raises(NodeUnreachable, match="it must be root's, and nobody else may write to it"):
                node.connect()
            assert not list(path.glob("*/guard.sock")), path


def test_an_output_that_is_a_device_or_the_kernel_s_is_not_opened_for_its_user(node: Node) -> None:
    paths = ["/dev/kmsg", "/dev/mem", "/proc/sysrq-trigger", "/proc/self/mem/x", "/proc/1/environ", "/dev/fd/5"]

    causes = {path: node.run("true", n, stdout=path, stderr="/dev/null").cause for n, path in enumerate(paths, 1)}

    assert causes == dict.fromkeys(paths, EndCause.LAUNCH_ERROR)


def test_jobs_run_where_the_spool_allows_no_programs_and_the_host_says_what_that_costs() -> None:
    with a_node("as root") as node:
        node.disconnect()
        node.kill_guard()
        mounted = 'mount -t tmpfs -o noexec,mode=755 none "$0" && exec "$@"'
        carrier = ["unshare", "--mount", "sh", "-c", mounted, str(node.spool.parent)]
        node.executor = LocalExecutor(str(node.spool), carrier=carrier)
        node.connect()

        end = node.run("id -un")
        found = node.order(OrderWord.CHECK).text

        assert (end.cause, node.read("1.out").strip()) == (EndCause.EXIT, node.user.pw_name)
        assert "a determined user can falsify what is told of jobs" in found
        assert "jobs have no oarsh there" in found


#: Ways out that an ordinary account has, each with something that stays.
WAYS_OUT = (
    "setsid -f sleep 4243",
    "nohup sleep 4243 &",
    "unshare --user --map-root-user sleep 4243 &",
    "unshare --user --map-root-user --pid --mount --fork sleep 4243 &",
    "unshare --user --map-root-user --cgroup sh -c 'for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs;"
    " do echo 0 >$f; done 2>/dev/null; exec sleep 4243' &",
    "unshare --user --map-root-user --cgroup --mount sh -c 'mkdir -p m; mount -t cgroup2 none m; mount -t cgroup -o"
    " freezer none m; echo 0 >m/cgroup.procs; exec sleep 4243' 2>/dev/null &",
    "setpriv --reuid 0 sleep 4243 & su -c 'sleep 4243' </dev/null & sudo -n sleep 4243 &",
    "env -i python3 -c 'import os; os.setsid(); os.chroot(chr(46))' & env -i sleep 4243 &",
)


def test_no_namespace_and_no_session_is_a_way_out_of_a_job(node: Node) -> None:
    attempt = node.launch("\n".join(["exec 2>/dev/null", *WAYS_OUT, "echo ready", "wait; sleep 1000"]))
    node.wait_for_text("1.out", "ready")
    wait_until(lambda: len(sleepers(node)) >= 5, what="what can get out has tried to")

    for pid in sleepers(node):
        mine = [group.name for group in groups_of(pid) if group.parent.name == str(node.instance)]
        assert set(mine) == {"1.1"}, pid
    node.kill(attempt, after_s=0)

    assert node.ended(attempt).cause is EndCause.KILLED
    assert sleepers(node) == []


def sleepers(node: Node) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == b"sleep\x004243\0" and os.readlink(path.parent / "cwd") == str(node.work):
                found.append(int(path.parent.name))
    return found


def test_a_hard_link_is_written_to_by_whoever_may_write_to_the_file(node: Node) -> None:
    protected = node.work.parent / "protected"
    protected.write_text("as it was")
    protected.chmod(0o604)
    # Root makes it, as the kernel may refuse that to others.
    os.link(protected, node.work / "hard")

    assert node.run("echo written", stdout="hard", stderr="hard").cause is EndCause.LAUNCH_ERROR
    assert protected.read_text() == "as it was"


def test_a_job_whose_output_nobody_reads_waits_alone_and_can_be_killed(node: Node) -> None:
    os.mkfifo(node.work / "pipe")
    os.chown(node.work / "pipe", node.user.pw_uid, node.user.pw_gid)
    attempt = node.launch("true", stdout="pipe")

    assert node.run("echo other", 2).cause is EndCause.EXIT
    node.kill(attempt, after_s=1)

    assert node.ended(attempt).cause is EndCause.KILLED
    assert node.processes() == []
