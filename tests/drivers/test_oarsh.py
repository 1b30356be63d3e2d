"""oarsh and oarcp between the hosts of a job."""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from oarpy.drivers.local import LocalExecutor
from oarpy.model.states import EndCause, JobId
from oarpy.node.oarexec.cgroups import remove_group
from oarpy.ports.executor import Access, Attempt, Began, OrderWord
from tests.support import accounts, box
from tests.support.node import Node, a_node, is_zombie
from tests.support.waiting import wait_until


def a_key(directory: Path, name: str = "key") -> tuple[str, str]:
    """A key pair: (private, public)."""
    path = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.read_text(), " ".join((directory / f"{name}.pub").read_text().split()[:2])


class Pair:
    """A job on two hosts: its head on one of them, a part on the other."""

    def __init__(self, head: Node, part: Node, keys: Path) -> None:
        self.head, self.part = head, part
        for node in (head, part):
            node.disconnect()
            node.instance = head.instance
            node.oarsh = True
            node.connect()
        private, public = a_key(keys)
        self.access = Access(private, public, (), {node.name: port(node) for node in (head, part)})

    def run(self, command: str, job_id: int = 1, **other: object) -> tuple[int | None, str, str]:
        """(status, output, errors) of the command of a job on both hosts."""
        environment = {"OAR_JOB_ID": str(job_id), "OAR_JOB_NAME": "two words"}
        part = self.part.launch("", job_id, part=True, access=self.access, environment=environment, **other)
        self.part.began(part)
        end = self.head.run(command, job_id, access=self.access, environment=environment)
        self.part.kill(part, 0)
        #: What each of them says it used.
        self.used = (end.cpu, self.part.ended(part).cpu)
        return end.status, self.head.read(f"{job_id}.out"), self.head.read(f"{job_id}.err")


def port(node: Node) -> int:
    assert node.session is not None
    found = node.session.greeting.oarsh_port
    assert found is not None
    return found


@pytest.fixture(params=["c2", "c3"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """Its part is on a host with control groups of version 1, or 2."""
    with a_node("over ssh") as head, a_node("over ssh, v2") as part:
        if request.param == "c2":
            part.disconnect()
            part.name = "c2"
            part.connect()
        yield Pair(head, part, tmp_path)


def test_a_command_runs_on_the_other_host_as_the_user_in_the_job_s_containment(pair: Pair) -> None:
    name = pair.part.name
    cgroup = "cat /proc/self/cgroup"

    status, said, errors = pair.run(f"oarsh {name} 'hostname; id -un; echo $OAR_JOB_NAME; {cgroup}; exit 7'")

    assert errors == ""
    host, user, job_name, *groups = said.splitlines()
    assert (status, errors) == (7 << 8, "")
    assert (host, user, job_name) == (name, pair.head.user.pw_name, "two words")
    assert any(line.endswith(f"oarpy/{pair.head.instance}/1.1") for line in groups)


def test_stdin_and_output_pass_as_they_are(pair: Pair) -> None:
    _, said, _ = pair.run(
        f"head -c 3000000 /dev/zero | oarsh {pair.part.name} 'cat; echo x >&2' 2>&1 >copy; wc -c <copy"
    )

    assert said.split() == ["x", "3000000"]


def test_files_are_copied_both_ways(pair: Pair) -> None:
    there = f"{pair.part.name}:/tmp/oarcp-{pair.head.instance}"

    status, said, errors = pair.run(f"echo hello >one; oarcp one {there} && oarcp -p {there} two && cat two")

    assert (status, said, errors) == (0, "hello\n", "")


def test_what_comes_in_goes_with_the_job(pair: Pair) -> None:
    pair.run(f"oarsh {pair.part.name} 'setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo started'")

    assert "sleep 1000" not in box.a_box().do("exec", pair.part.name, "ps", "-eo", "args")
    assert not (pair.part.directory / "jobs" / "1.1" / "oarsh").exists()
    assert not (pair.head.directory / "jobs" / "1.1" / "oarsh").exists()


FREEZERS = Path("/sys/fs/cgroup/freezer")


class Freezer:
    """A control group of version 1: what is frozen in it dies of no signal until it is thawed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

        def frozen() -> bool:
            (self.path / "freezer.state").write_text("FROZEN")
            return (self.path / "freezer.state").read_text() == "FROZEN\n"

        wait_until(frozen, what="it is frozen")

    def thaw(self) -> None:
        (self.path / "freezer.state").write_text("THAWED")


@contextmanager
def a_freezer() -> Iterator[Freezer]:
    accounts.root()
    freezer = Freezer(FREEZERS / f"oarpy-test-{uuid.uuid4()}")
    freezer.path.mkdir()
    try:
        yield freezer
    finally:
        freezer.thaw()
        for pid in (freezer.path / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: remove_group(str(freezer.path)), what="the freezer is gone")


def children_of(pid: int, name: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            comm, _, rest = path.read_text().partition("(")[2].rpartition(")")
            if comm == name and int(rest.split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


#: Works for a second.
BURN = 'python3 -c "import time\nwhile time.process_time() < 1: pass"'


def test_what_comes_in_counts_where_it_works(pair: Pair) -> None:
    status, _, errors = pair.run(f"oarsh {pair.part.name} {shlex.quote(BURN)}")

    assert (status, errors) == (0, "")
    at_head, at_part = pair.used
    assert at_head is not None
    assert at_part is not None
    assert at_head.total_seconds() < 0.9
    assert 1.0 <= at_part.total_seconds() < 3.0


def test_what_is_killed_with_the_job_counts_as_well(pair: Pair) -> None:
    burn = f"{BURN}; touch {pair.head.work}/burnt; exec sleep 1000"
    apart = f"setsid sh -c {shlex.quote(burn)} >/dev/null 2>&1 </dev/null &"

    pair.run(f"oarsh {pair.part.name} {shlex.quote(apart)}; while ! [ -e burnt ]; do sleep 0.1; done")

    assert pair.used[1] is not None
    assert 1.0 <= pair.used[1].total_seconds() < 3.0


def test_without_control_groups_what_comes_in_counts_when_it_ends_by_itself(tmp_path: Path) -> None:
    with a_node("as its user") as node:
        node.disconnect()
        node.oarsh = True
        node.connect()
        assert node.session is not None
        assert node.session.greeting.containment == "processes"
        private, public = a_key(tmp_path)
        access = Access(private, public, (), {node.name: port(node)})

        end = node.run(f"oarsh {node.name} {shlex.quote(BURN)}", access=access)

        assert (end.status, node.read("1.err")) == (0, "")
        assert end.cpu is not None
        assert 1.0 <= end.cpu.total_seconds() < 3.0


def test_without_control_groups_what_comes_in_goes_with_the_job(tmp_path: Path) -> None:
    with a_node("as its user") as node:
        node.disconnect()
        node.oarsh = True
        node.connect()
        private, public = a_key(tmp_path)
        access = Access(private, public, (), {node.name: port(node)})
        stay = f"oarsh {node.name} 'touch in; sleep 1000' & while ! [ -e in ]; do sleep 0.1; done"

        node.run(stay.replace("touch in", f"touch {node.work}/in"), access=access)

        assert (node.read("in"), node.processes()) == ("", [])
        assert (node.work / "in").exists()


def ordered_in(pair: Pair, access: Access) -> tuple[bool, str]:
    """What the part's host says to the order that oarsh may come to its job."""
    environment = {"OAR_JOB_ID": "1", "OAR_JOB_NAME": "three more words"}
    answer = pair.part.order(OrderWord.ACCESS, Attempt(JobId(1), 1), access=access, environment=environment)
    return answer.done, answer.text


def test_an_order_lets_oarsh_into_a_job_that_was_launched_without(pair: Pair) -> None:
    name, groups = pair.part.name, "cat /proc/self/cgroup"
    attempt = pair.part.launch(f"{groups} >groups; exec sleep 1000")
    pair.part.began(attempt)

    # Told twice, as by the runner after the one that died.
    assert [ordered_in(pair, pair.access) for _ in range(2)] == [(True, "")] * 2
    said = f"hostname; id -un; echo $OAR_JOB_NAME; test -r $OAR_NODEFILE -a -r $OAR_JOB_KEY_FILE || echo no; {groups}"
    end = pair.head.run(
        f"oarsh {name} {shlex.quote(said)}; oarsh {name} 'setsid sleep 1000 </dev/null >&0 2>&1 &'", access=pair.access
    )

    assert (end.status, pair.head.read("1.err")) == (0, "")
    host, user, job_name, *groups_there = pair.head.read("1.out").splitlines()
    assert (host, user, job_name) == (name, pair.head.user.pw_name, "three more words")
    pair.part.wait_for_text("groups", "/1.1")
    assert groups_there == pair.part.read("groups").splitlines()
    pair.part.kill(attempt, 0)
    assert pair.part.ended(attempt).cause is EndCause.KILLED
    assert "sleep 1000" not in box.a_box().do("exec", name, "ps", "-eo", "args")
    assert not (pair.part.directory / "jobs" / "1.1" / "oarsh").exists()


def test_the_key_that_was_told_last_is_the_one_that_opens(pair: Pair, tmp_path: Path) -> None:
    attempt = pair.part.launch("exec sleep 1000")
    pair.part.began(attempt)
    other = replace(pair.access, **dict(zip(("private", "public"), a_key(tmp_path, "other"), strict=True)))

    ordered_in(pair, other)
    ordered_in(pair, pair.access)
    tries = f"oarsh {pair.part.name} hostname; touch tried; until test -e go; do sleep 0.05; done"
    head = pair.head.launch(f"{tries}; oarsh {pair.part.name} hostname", access=other)
    wait_until(lambda: (pair.head.work / "tried").exists(), what="the other key has been tried")
    pair.head.order(OrderWord.ACCESS, head, access=pair.access, environment={})
    (pair.head.work / "go").touch()

    assert pair.head.ended(head).status == 0
    assert "no job of yours that oarsh can come to is here" in pair.head.read("1.err")
    assert pair.head.read("1.out") == f"{pair.part.name}\n"


def test_the_next_guard_lets_in_what_an_order_has_let_in(pair: Pair) -> None:
    attempt = pair.part.launch("exec sleep 1000")
    pair.part.began(attempt)
    before = port(pair.part)
    assert ordered_in(pair, pair.access) == (True, "")

    pair.part.disconnect()
    pair.part.kill_guard()
    # Asked for by no session: a job has been told of the port.
    pair.part.oarsh = False
    pair.part.connect()
    end = pair.head.run(f"oarsh {pair.part.name} hostname", access=pair.access)

    assert (port(pair.part), end.status, pair.head.read("1.out")) == (before, 0, f"{pair.part.name}\n")
    pair.part.kill(attempt, 0)
    pair.part.ended(attempt)
    assert not (pair.part.directory / "jobs" / "1.1" / "oarsh").exists()


def test_who_is_not_there_is_not_entered(pair: Pair) -> None:
    assert ordered_in(pair, pair.access) == (False, "this attempt is not known here")

    pair.part.run("true")

    assert ordered_in(pair, pair.access) == (False, "the job is over")
    assert not (pair.part.directory / "jobs" / "1.1" / "oarsh").exists()


@pytest.mark.skipif(not FREEZERS.is_dir(), reason="needs a process that does not die when it is killed")
def test_without_control_groups_a_job_is_not_over_before_the_last_sshd_is_dead_and_counted(tmp_path: Path) -> None:
    """The one that serves the user is a child of another, shows nobody its environment, and may die late."""
    with a_node("as its user") as node, a_freezer() as freezer:
        node.disconnect()
        node.oarsh = True
        node.connect()
        access = Access(*a_key(tmp_path), (), {node.name: port(node)})
        stay = f"{BURN}; touch {node.work}/burnt; exec sleep 1000"
        attempt = node.launch(
            f"oarsh {node.name} {shlex.quote(stay)} & until [ -e go ]; do sleep 0.05; done", access=access
        )
        wait_until(lambda: (node.work / "burnt").exists(), what="it has worked for a second")
        guard = node.guard()
        assert guard is not None
        (outer,) = children_of(guard, "sshd")
        (inner,) = children_of(outer, "sshd")
        freezer.take(inner)

        (node.work / "go").touch()
        wait_until(lambda: is_zombie(outer), what="the first of them is dead")
        node.ping()
        killed_at = node.clock

        def has_looked_again() -> bool:
            node.ping()
            return node.clock > killed_at + 0.5

        wait_until(has_looked_again, what="the guard has looked for more of the job")
        before = node.reports[attempt]
        freezer.thaw()
        end = node.ended(attempt)

        assert isinstance(before, Began)
        assert is_zombie(inner)
        assert end.cpu is not None
        assert 1.0 <= end.cpu.total_seconds() < 3.0


REFUSED = (
    ("localhost true", 4, "localhost is not a host of job 1, which has c1, "),
    ("-o ProxyCommand=id NAME true", 5, "-o ProxyCommand=id is not for jobs; oarsh takes BatchMode, ConnectTimeout"),
    ("-o ConnectTimeout=$(id) NAME true", 5, "is not for jobs"),
    ("-F/tmp/config NAME true", 5, "-F is not an option"),
    ("-nL 1:2:3 NAME true", 5, "-L is not an option"),
    ("-l root NAME id", 5, "nobody else can be become"),
    ("root@NAME id", 5, "nobody else can be become"),
    ("-i", 5, "-i lacks its value"),
    ("-i /nowhere NAME id", 3, "the key /nowhere cannot be read"),
    ("", 5, "usage: oarsh"),
)


def test_what_programs_say_to_every_ssh_changes_nothing(pair: Pair) -> None:
    usual = (
        "-o BatchMode=yes -o PasswordAuthentication=no -o StrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null"
        " -o 'ConnectTimeout 20'"
    )

    status, said, errors = pair.run(f"oarsh {usual} {pair.part.name} hostname")

    assert (status, said, errors) == (0, f"{pair.part.name}\n", "")


def test_what_is_not_the_job_s_is_refused(pair: Pair) -> None:
    tries = [f"oarsh {words.replace('NAME', pair.part.name)}; echo $?; echo >&2" for words, _, _ in REFUSED]

    _, statuses, errors = pair.run("\n".join(tries))

    assert statuses.split() == [str(status) for _, status, _ in REFUSED]
    for (_, _, said), error in zip(REFUSED, errors.split("\n\n"), strict=False):
        assert said in error


def test_a_host_is_not_believed_that_has_not_the_job_s_key(pair: Pair, tmp_path: Path) -> None:
    other = a_key(tmp_path, "other")
    wrong = f"sed 's|{pair.access.public.split()[1][-8:]}|AAAAAAAA|' -i known_hosts"
    assert other[1] != pair.access.public

    asked = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    mine = "for f in access known_hosts; do cp $(dirname $OARSH_ACCESS)/$f .; done"
    status, said, errors = pair.run(f"{mine}; {wrong} && OARSH_ACCESS=$PWD/access oarsh {asked} {pair.part.name} id")

    assert (status, said) == (255 << 8, "")
    assert "HOST IDENTIFICATION HAS CHANGED" in errors or "verification failed" in errors


def test_the_port_lets_nobody_in_who_does_not_know_the_job(pair: Pair) -> None:
    attempt = pair.part.launch("", part=True, access=pair.access)
    pair.part.began(attempt)
    box_ssh = shlex.join([*box.a_box().ssh, "c1"])

    for said in ("", "GET / HTTP/1.0\\r\\n\\r\\n", "oarsh 1.1 0000\\n", "oarsh 99.1 0\\n", "x" * 500):
        talk = f"printf '{said}' | timeout 60 python3 -c 'import socket, sys; " + (
            f's = socket.create_connection(("{pair.part.name}", {pair.access.hosts[pair.part.name]})); '
            "s.sendall(sys.stdin.buffer.read()); s.shutdown(1); print(s.recv(100))'"
        )
        done = subprocess.run([*shlex.split(box_ssh), talk], capture_output=True, text=True, check=False)
        assert "go" not in done.stdout, said
        assert "SSH-2" not in done.stdout, said

    pair.part.order(OrderWord.CHECK)
    assert isinstance(pair.part.reports[attempt], Began)


def test_nobody_comes_to_a_job_that_is_suspended(pair: Pair) -> None:
    """What would stand still there is root's, of whom no limit holds."""
    part = pair.part.launch("", part=True, access=pair.access)
    pair.part.began(part)
    tries = f"oarsh {pair.part.name} hostname; touch tried; until test -e resumed; do sleep 0.1; done"
    pair.part.order(OrderWord.SUSPEND, part)
    head = pair.head.launch(f"{tries}; oarsh {pair.part.name} hostname", access=pair.access)
    wait_until(lambda: (pair.head.work / "tried").exists(), what="it has been tried")
    pair.part.order(OrderWord.RESUME, part)
    (pair.head.work / "resumed").touch()
    pair.head.ended(head)

    assert f"{pair.part.name}: the job is suspended" in pair.head.read("1.err")
    assert pair.head.read("1.out") == f"{pair.part.name}\n"


def test_another_user_reads_neither_key_nor_access(pair: Pair) -> None:
    attempt = pair.head.launch("sleep 1000", access=pair.access)
    pair.head.began(attempt)
    directory = pair.head.directory / "jobs" / "1.1" / "oarsh"

    for name in ("key", "access", "known_hosts", "authorized_keys", "sshd_config"):
        command = accounts.switched(accounts.account(accounts.BOB), ["cat", str(directory / name)])
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
        path = str(directory / name)
        mine = accounts.switched(pair.head.user, ["test", "-r", path, "-a", "!", "-w", path])
        assert subprocess.run(mine, check=False).returncode == 0, name

    pair.head.kill(attempt, 0)
    assert pair.head.ended(attempt).cause is EndCause.KILLED


def test_the_next_guard_takes_oarsh_in_at_the_same_port(pair: Pair) -> None:
    part = pair.part.launch("", part=True, access=pair.access)
    pair.part.began(part)
    head = pair.head.launch(
        f"until test -e go; do sleep 0.05; done; oarsh {pair.part.name} hostname", access=pair.access
    )
    pair.head.began(head)

    before = port(pair.part)
    pair.part.disconnect()
    pair.part.kill_guard()
    pair.part.connect()
    (pair.head.work / "go").touch()
    pair.head.ended(head)

    assert port(pair.part) == before
    assert pair.head.read("1.out").strip() == pair.part.name


def test_a_host_takes_the_first_free_port_of_those_that_the_site_names(tmp_path: Path) -> None:
    tries = random.Random().sample(range(20000, 32000, 10), 100)
    first = next(n for n in tries if all(is_free(port) for port in range(n, n + 10)))
    with a_node("as its user") as node:
        node.disconnect()
        node.oarsh = True

        def asked(low: int, high: int) -> int | None:
            node.disconnect()
            node.executor = LocalExecutor(
                str(node.spool), carrier=accounts.switched(node.user, ()), oarsh_ports=(low, high)
            )
            node.connect()
            assert node.session is not None
            return node.session.greeting.oarsh_port

        with listening(first):
            assert asked(first, first + 2) == first + 1
            # It stays where it is while that is allowed.
            assert asked(first, first + 2) == first + 1
            with listening(first + 3):
                assert asked(first + 3, first + 3) is None
        assert asked(first + 3, first + 3) == first + 3

        access = Access(*a_key(tmp_path), (), {"localhost": first + 3})
        attempt = node.launch("until test -e go; do sleep 0.05; done; oarsh localhost hostname", access=access)
        node.began(attempt)
        assert asked(first + 5, first + 6) == first + 3
        (node.work / "go").touch()
        assert node.ended(attempt).status == 0


def listening(port: int) -> socket.socket:
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)


def is_free(port: int) -> bool:
    try:
        listening(port).close()
    except OSError:
        return False
    return True


def test_without_root_an_owner_s_jobs_reach_the_host_itself(tmp_path: Path) -> None:
    with a_node("as its user") as node:
        node.disconnect()
        node.oarsh = True
        node.connect()
        private, public = a_key(tmp_path)
        access = Access(private, public, (), {"localhost": port(node)})

        node.run("oarsh localhost 'id -un; echo $OAR_JOB_ID'", access=access)

        assert node.read("1.out").split() == [node.user.pw_name, "1"]
        wait_until(lambda: node.processes() == [], what="nothing is left")


def test_a_host_that_is_not_asked_to_listens_on_no_port() -> None:
    with a_node("as its user") as node:
        assert node.session is not None
        assert node.session.greeting.oarsh_port is None
        sockets = Path(f"/proc/{node.guard()}/net/tcp").read_text() if os.geteuid() == 0 else ""
        assert not socket.has_ipv6 or sockets is not None
