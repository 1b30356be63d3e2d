"""``oarsub -C`` into jobs that were launched without a way in: it is made when somebody asks for it."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import accounts
from tests.support.cluster import Cluster, running_cluster
from tests.support.instance import COMMANDS, System
from tests.support.node import command_lines
from tests.support.place import a_place
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

ORDERED = "SELECT begun_at IS NOT NULL FROM orders WHERE kind = 'access' AND done_at IS NULL"
KEY = "SELECT public_key, pending FROM job_keys WHERE job_id = %s"


def a_job(system: System, *options: str, command: str = "exec sleep 1000") -> int:
    """A job whose command runs."""
    job_id = system.oarsub(*options, f"touch began.$OAR_JOB_ID; {command}")
    begun(system, job_id)
    return job_id


def begun(system: System, job_id: int) -> None:
    wait_until(lambda: (system.work / f"began.{job_id}").exists(), what="the command runs")
    system.wait_until_state(job_id, "Running")


def entered(
    system: System, job_id: int, commands: str = "echo in-$OAR_JOB_ID\n", user: pwd.struct_passwd | None = None
) -> subprocess.CompletedProcess[str]:
    """What ``oarsub -C`` says, whose shell reads these commands."""
    return system.run("oarsub", "-C", str(job_id), user=user, check=False, stdin=commands)


def is_in(done: subprocess.CompletedProcess[str], job_id: int) -> bool:
    return (done.returncode, f"in-{job_id}\n" in done.stdout, done.stderr) == (0, True, "")


@contextmanager
def entering(system: System, job_id: int) -> Iterator[subprocess.Popen[str]]:
    """An ``oarsub -C`` that goes on beside."""
    command = accounts.switched(system.user, [str(COMMANDS / "oarsub"), "-C", str(job_id)])
    environment = accounts.environment_of(system.user, system.environment)
    pipe = subprocess.PIPE
    one = subprocess.Popen(command, cwd=system.work, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield one
    finally:
        one.kill()
        one.communicate()


def of_job(system: System, job_id: int, run: Callable[..., subprocess.CompletedProcess[str]], *words: str) -> str:
    """What a command prints that is told by OAR_JOB_ID which job is meant."""
    system.environment["OAR_JOB_ID"] = str(job_id)
    try:
        done = run(*words)
    finally:
        del system.environment["OAR_JOB_ID"]
    assert done.returncode == 0, done.stderr
    return done.stdout


def guards(system: System) -> list[int]:
    """The guards of the instance's own host."""
    return [
        pid
        for pid, words in command_lines()
        if "guard" in words and any(word.startswith(str(system.root)) for word in words)
    ]


def the_guard(system: System) -> int:
    """The guard of the instance's own host; what it starts has its command line for an instant."""
    wait_until(lambda: len(guards(system)) == 1, what="a guard alone")
    return guards(system)[0]


def sleepers(seconds: int) -> list[int]:
    return [pid for pid, words in command_lines() if words[:2] == ["sleep", str(seconds)]]


#: Nobody else's processes sleep for so long.
MINE, THEIRS = 10**7 + os.getpid(), 2 * 10**7 + os.getpid()


def test_a_shell_joins_a_job_on_this_machine_and_oarsh_comes_after_it(system: System) -> None:
    job_id = a_job(system, "-n", "two words", command="cat /proc/self/cgroup >group; exec sleep 1000")
    said = "id -un; echo $OAR_JOB_ID-$OAR_JOB_NAME; sort -u $OAR_NODEFILE; cat /proc/self/cgroup >here\n"

    done = entered(system, job_id, f"{said}exit 7\n")

    host = os.uname().nodename
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.splitlines() == [
        f"# Connect to OAR job {job_id} via the node {host}",
        system.user.pw_name,
        f"{job_id}-two words",
        host,
        f"# Disconnected from OAR job {job_id}",
    ]
    in_job = re.compile(r"/oarpy/.+/\d+\.\d+$", re.MULTILINE)
    assert in_job.findall(system.read("here")) == in_job.findall(system.read("group"))
    assert of_job(system, job_id, system.run, "oarsh", host, "echo $OAR_JOB_ID") == f"{job_id}\n"
    of_job(system, job_id, system.run, "oarcp", f"{host}:{system.work}/group", "copied")
    assert system.read("copied") == system.read("group")
    assert system.job(job_id).state == "Running"


def test_who_has_been_in_comes_back_without_another_order(system: System) -> None:
    job_id = a_job(system)

    assert is_in(entered(system, job_id), job_id)
    assert is_in(entered(system, job_id), job_id)

    assert system.database.execute("SELECT succeeded FROM orders WHERE kind = 'access'") == [(True,)]
    assert system.database.execute(KEY, (job_id,))[0][1] is False


def test_what_was_started_in_it_goes_with_the_job(system: System) -> None:
    job_id, other = a_job(system), a_job(system, command=f"exec sleep {THEIRS}")

    entered(system, job_id, f"setsid sleep {MINE} >/dev/null 2>&1 </dev/null &\n")
    wait_until(lambda: sleepers(MINE), what="it runs, though the shell is left")
    system.run("oardel", str(job_id))
    system.wait_until_final(job_id)

    assert sleepers(MINE) == []
    assert sleepers(THEIRS)
    wait_until(lambda: system.database.execute("SELECT job_id FROM job_keys") == [], what="its key is gone")
    assert system.job(other).state == "Running"


def test_nobody_else_enters_but_root(system: System) -> None:
    job_id = a_job(system)
    bob, root = accounts.account(accounts.BOB), accounts.root()

    theirs = entered(system, job_id, user=bob)
    assert (theirs.returncode, theirs.stdout) == (20, "")
    assert theirs.stderr == f"oarsub: job {job_id} belongs to {system.user.pw_name}\n"
    of_root = entered(system, job_id, "id -un\n", user=root)
    again = entered(system, job_id, user=bob)

    assert (of_root.returncode, of_root.stdout.splitlines()[1]) == (0, system.user.pw_name)
    assert (again.returncode, again.stderr) == (theirs.returncode, theirs.stderr)


def test_who_enters_another_user_s_job_does_not_show_it_his_display(system: System) -> None:
    job_id = a_job(system)
    # Nothing is asked of it.
    system.environment["DISPLAY"] = ":4711"

    mine = entered(system, job_id, "echo d=$DISPLAY\n")
    of_root = entered(system, job_id, "echo d=$DISPLAY\n", user=accounts.root())

    assert "d=localhost:" in mine.stdout, mine
    assert "d=\n" in of_root.stdout, of_root


def test_another_job_is_entered_from_inside_of_one(system: System) -> None:
    first, second = a_job(system), a_job(system)
    told = " ".join(f"{name}={shlex.quote(system.environment[name])}" for name in ("OARPY_HOME", "OARPY_DATABASE"))
    commands = f"echo from-$OAR_JOB_ID\necho 'echo in-$OAR_JOB_ID' | {told} {COMMANDS}/oarsub -C {second}\n"

    done = entered(system, first, commands)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"from-{first}\n" in done.stdout
    assert f"in-{second}\n" in done.stdout


def test_an_element_of_an_array_is_entered_by_itself(system: System) -> None:
    first, second = system.oarsub_array("--array", "2", "touch began.$OAR_JOB_ID; exec sleep 1000")
    for job_id in (first, second):
        begun(system, job_id)

    done = entered(system, second, "echo $OAR_JOB_ID $OAR_ARRAY_ID $OAR_ARRAY_INDEX\n")

    assert done.stdout.splitlines()[1] == f"{second} {first} 2"
    assert [job for (job,) in system.database.execute("SELECT job_id FROM job_keys")] == [second]


def test_a_job_whose_command_runs_on_the_server_is_entered_there(system: System) -> None:
    job_id = a_job(system, "-t", "cosystem", "-l", "/host=1/core=2")

    assert is_in(entered(system, job_id), job_id)


def test_a_job_that_does_not_run_or_rests_is_not_entered(system: System) -> None:
    resting, held = a_job(system), system.oarsub("--hold", "true")
    said = (20, f"oarsub: job {resting} is Suspended, not Running\n")

    # Before there is a way into it, and when there is one.
    for _ in range(2):
        system.admin("oarhold", "-r", str(resting))
        system.wait_until_state(resting, "Suspended")
        rests = entered(system, resting)
        # Nothing can end while it is frozen, the test among it.
        system.admin("oarresume", str(resting))
        system.wait_until_state(resting, "Running")
        assert (rests.returncode, rests.stderr) == said
        assert is_in(entered(system, resting), resting)
    waits = entered(system, held)

    assert (waits.returncode, waits.stderr) == (20, f"oarsub: job {held} is Hold, not Running\n")


def test_who_waits_is_told_when_the_job_ends_meanwhile(system: System) -> None:
    job_id = a_job(system, command="until [ -e go ]; do sleep 0.05; done")
    runner = system.processes()["runner"]
    os.kill(runner, signal.SIGSTOP)
    with entering(system, job_id) as one:
        wait_until(lambda: system.database.execute(ORDERED), what="it has been asked for")
        (system.work / "go").touch()
        wait_until(lambda: any(system.root.glob(f"home/spool/*/jobs/{job_id}.1/progress")), what="the entry is there")
        wait_until(
            lambda: "\nexit 0 " in next(system.root.glob(f"home/spool/*/jobs/{job_id}.1/progress")).read_text(),
            what="the command has ended",
        )
        os.kill(runner, signal.SIGCONT)
        said, errors = one.communicate(timeout=60)

    assert (one.returncode, said) == (20, "")
    ended = rf"oarsub: job {job_id} (ended before a shell could begin in it \(.+\)|cannot be entered on host .+: .+)\n"
    assert re.fullmatch(ended, errors), errors


def test_a_runner_that_dies_before_it_has_heard_of_it_is_followed_by_one_that_does(system: System) -> None:
    job_id = a_job(system)
    runner = system.processes()["runner"]
    os.kill(runner, signal.SIGSTOP)
    with entering(system, job_id) as one:
        wait_until(lambda: system.database.execute(ORDERED), what="it has been asked for")
        os.kill(runner, signal.SIGKILL)
        said, errors = one.communicate("echo in-$OAR_JOB_ID\n", timeout=100)

    assert (one.returncode, errors) == (0, "")
    assert f"in-{job_id}\n" in said


@pytest.mark.parametrize("dies", ["runner", "guard"])
def test_what_had_been_told_is_told_again(system: System, dies: str) -> None:
    """Whoever dies after the host was told and before it has answered: the same key opens the job."""
    # So the host listens, and the guard is told in the first session that hears of the order.
    assert is_in(entered(system, first := a_job(system)), first)
    job_id = a_job(system)
    guard = the_guard(system)
    os.kill(guard, signal.SIGSTOP)
    with entering(system, job_id) as one:
        wait_until(lambda: system.database.execute(ORDERED) == [(True,)], what="the host is told")
        ((key, pending),) = system.database.execute(KEY, (job_id,))
        os.kill(system.processes()["runner"] if dies == "runner" else guard, signal.SIGKILL)
        if dies == "runner":
            os.kill(guard, signal.SIGCONT)
        said, errors = one.communicate("echo in-$OAR_JOB_ID\n", timeout=100)

    assert pending is True
    assert (one.returncode, errors) == (0, "")
    assert f"in-{job_id}\n" in said
    assert system.database.execute(KEY, (job_id,)) == [(key, False)]


def test_the_next_guard_lets_in_who_was_let_in_before(system: System) -> None:
    job_id = a_job(system)
    assert is_in(entered(system, job_id), job_id)
    session = "SELECT sequence FROM node_sessions WHERE lost_at IS NULL OR connected_at > lost_at"
    before = system.database.execute(session)

    os.kill(the_guard(system), signal.SIGKILL)
    wait_until(lambda: system.database.execute(session) not in ([], before), what="another session")
    done = entered(system, job_id)

    assert is_in(done, job_id), done
    system.run("oardel", str(job_id))
    system.wait_until_final(job_id)
    assert not [*system.root.glob("home/spool/*/*/*/oarsh")]


def test_an_order_that_its_host_does_not_obey_is_told_with_the_reason(system: System) -> None:
    job_id = a_job(system)
    (entry,) = system.root.glob(f"home/spool/*/jobs/{job_id}.1")
    # Where the directory belongs that is to be made.
    (entry / "oarsh").write_text("")

    refused = entered(system, job_id)
    (entry / "oarsh").unlink()

    assert (refused.returncode, refused.stdout) == (20, "")
    host = re.escape(os.uname().nodename)
    assert re.fullmatch(rf"oarsub: job {job_id} cannot be entered on host {host}: the spool .+\n", refused.stderr)
    assert is_in(entered(system, job_id), job_id)


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database, hosts=2) as cluster:
        yield cluster


def test_a_shell_joins_a_job_on_another_host(cluster: Cluster) -> None:
    cpus = "grep Cpus_allowed_list /proc/self/status"
    job_id = a_job(cluster, "-p", "host = 'c2'", "-l", "/core=1", command=f"{cpus} >cpus; exec sleep 1000")

    me = cluster.at_terminal("oarsub", "-C", str(job_id))
    me.wait_for(rf"# Connect to OAR job {job_id} via the node c2\r\n", timeout_s=60)
    me.type(f"echo in-$(hostname)-$OAR_JOB_ID; tty; {cpus} >here; exec sh\n")
    me.wait_for(rf"in-c2-{job_id}\r\n", timeout_s=60)
    me.wait_for(r"/dev/pts/\d+\r\n")
    wait_until(lambda: (cluster.work / "here").exists() and cluster.read("here"), what="its processors are told")
    assert cluster.read("here") == cluster.read("cpus")

    assert of_job(cluster, job_id, cluster.on_front_end, "oarsh", "c2", "hostname") == "c2\n"
    of_job(cluster, job_id, cluster.on_front_end, "oarcp", "c2:/etc/hostname", "copied")
    assert cluster.read("copied") == "c2\n"

    cluster.run("oardel", str(job_id))
    cluster.wait_until_final(job_id)
    assert me.end(timeout_s=60) != 0


class Own:
    """An ordinary account's own instance, and the directory of its jobs."""

    def __init__(self, root: Path, user: pwd.struct_passwd) -> None:
        self.root = root
        self.user = user
        self.environment = {**os.environ, "OARPY_HOME": str(root / "home")}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            accounts.switched(self.user, [str(COMMANDS / words[0]), *words[1:]]),
            cwd=self.root,
            env=accounts.environment_of(self.user, self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture
def own() -> Iterator[Own]:
    with a_place() as root:
        user = accounts.submitter()
        os.chown(root, user.pw_uid, user.pw_gid)
        own = Own(root, user)
        try:
            made = own.run("oarpy", "up")
            assert made.returncode == 0, made.stdout + made.stderr
            yield own
        finally:
            own.run("oarpy", "down")


def test_in_an_instance_of_one_s_own_a_shell_stays_on_the_job_s_processors(own: Own) -> None:
    cpus = "grep Cpus_allowed_list /proc/self/status"
    submitted = own.run("oarsub", "-l", "/core=1", f"{cpus} >cpus; touch began; exec sleep {MINE}")
    job_id = int(submitted.stdout.partition("=")[2])
    wait_until(lambda: (own.root / "began").exists(), what="the command runs")
    wait_until(lambda: f"{job_id}: Running" in own.run("oarstat", "-s", "-j", str(job_id)).stdout, what="it is told")

    done = own.run("oarsub", "-C", str(job_id), stdin=f"echo in-$OAR_JOB_ID; {cpus} >here; exit 3\n")

    assert (done.returncode, done.stderr) == (3, "")
    assert f"in-{job_id}\n" in done.stdout
    assert (own.root / "here").read_text() == (own.root / "cpus").read_text()
    assert sleepers(MINE)
    own.run("oardel", str(job_id))
    wait_until(lambda: sleepers(MINE) == [], what="the job is gone")
