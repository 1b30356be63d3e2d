"""What is left of a user on a host is removed when his last job there is over.

On a host in a box only: its processes and its IPC are its own.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from oarpy.ports.executor import Began, OrderWord
from tests.support import box
from tests.support.node import Node, a_node
from tests.support.waiting import wait_until

#: A segment, a semaphore and a queue.
MAKES_IPC = "ipcmk -M 4096 && ipcmk -S 1 && ipcmk -Q"


@pytest.fixture
def node() -> Iterator[Node]:
    with a_node("over ssh") as node:
        scratch(node).mkdir()
        scratch(node).chmod(0o1777)
        yield node
        node.run("true", job_id=1000, sweep=("processes", "ipc"))


def scratch(node: Node) -> Path:
    """A directory as /tmp is."""
    return node.work.parent / "tmp"


def left(node: Node) -> list[str]:
    return sorted(str(path.relative_to(scratch(node))) for path in scratch(node).rglob("*"))


def on_host(*command: str) -> str:
    return box.a_box().do("exec", "c1", *command)


def ipc_of(name: str) -> int:
    """How many things a user has."""
    return sum(name in line.split() for line in on_host("ipcs").splitlines())


def outside(node: Node, command: str) -> None:
    """Begin something as the user that belongs to no job, as after a login."""
    who = f"setpriv --reuid {node.user.pw_uid} --regid {node.user.pw_gid} --clear-groups"
    on_host(
        "sh", "-c", f"env -i PATH=/usr/bin:/bin {who} setsid -f sh -c {shlex.quote(command)} >/dev/null 2>&1 </dev/null"
    )
    wait_until(lambda: alive(node), what="it lives")


def alive(node: Node) -> bool:
    return on_host("sh", "-c", f"pgrep -u {node.user.pw_uid} || true") != ""


def test_ipc_goes_with_the_last_job_of_its_user_and_not_before(node: Node) -> None:
    name = node.user.pw_name
    sweep = ("processes", "ipc")
    other = node.launch("sleep 1000", job_id=2, sweep=sweep)
    node.began(other)

    node.run(MAKES_IPC, job_id=1, sweep=sweep)
    between = ipc_of(name)
    assert alive(node)
    node.kill(other, after_s=0)
    node.ended(other)

    assert between == 3
    assert ipc_of(name) == 0


def test_what_others_own_is_left_alone(node: Node) -> None:
    before = ipc_of("root")
    on_host("sh", "-c", MAKES_IPC)
    (scratch(node) / "roots").mkdir()
    (scratch(node) / "roots").chmod(0o777)
    (scratch(node) / "roots" / "file").touch()

    node.run(f"{MAKES_IPC}; cd {scratch(node)}; touch mine roots/mine", sweep=("ipc", str(scratch(node))))

    assert left(node) == ["roots", "roots/file", "roots/mine"]
    assert ipc_of("root") == before + 3
    assert ipc_of(node.user.pw_name) == 0


def test_files_are_removed_from_the_directories_that_are_named(node: Node) -> None:
    makes = "mkdir -p a/b/.c closed; touch a/b/.c/d .e closed/f; chmod 500 closed; mkfifo g"

    node.run(f"cd {scratch(node)}; {makes}", job_id=1)
    kept = left(node)
    node.run("true", job_id=2, sweep=(str(scratch(node)), "/nowhere"))

    assert {".e", "a/b/.c/d", "closed/f", "g"} <= {*kept}
    assert left(node) == []


def test_links_are_removed_and_not_followed(node: Node) -> None:
    makes = f"mkdir precious; echo kept > precious/file; cd {scratch(node)}; mkdir d"

    node.run(
        f"{makes}; ln -s {node.work}/precious link; ln -s {node.work}/precious d/link", sweep=(str(scratch(node)),)
    )

    assert left(node) == []
    assert node.read("precious/file") == "kept\n"


def test_a_directory_that_somebody_else_puts_there_is_not_entered(node: Node) -> None:
    precious = node.work / "precious"
    (scratch(node) / "theirs").mkdir()
    (scratch(node) / "theirs" / "link").symlink_to(precious)
    os.link(_file_of(node, "hard"), scratch(node) / "theirs" / "hard")

    node.run("mkdir precious; touch precious/file", sweep=(str(scratch(node)),))

    assert left(node) == ["theirs", "theirs/hard", "theirs/link"]
    assert (precious / "file").exists()


def _file_of(node: Node, name: str) -> Path:
    path = node.work / name
    path.touch()
    os.chown(path, node.user.pw_uid, node.user.pw_gid)
    return path


def test_while_a_process_of_the_user_lives_nothing_is_removed(node: Node) -> None:
    outside(node, "sleep 1001")

    node.run(f"{MAKES_IPC}; touch {scratch(node)}/file", sweep=("ipc", str(scratch(node))))

    assert ipc_of(node.user.pw_name) == 3
    assert left(node) == ["file"]


def test_processes_that_belong_to_no_job_are_killed_where_that_is_asked_for(node: Node) -> None:
    outside(node, "trap '' TERM; while :; do sleep 1; done")

    node.run(f"touch {scratch(node)}/file", sweep=("processes", str(scratch(node))))

    assert not alive(node)
    assert left(node) == []


@pytest.mark.parametrize("kind", ["over ssh", "over ssh, v2"])
def test_while_a_job_of_another_instance_lives_nothing_is_removed(kind: str) -> None:
    with a_node(kind) as one, a_node(kind) as other:
        job = other.launch("sleep 1000 & sleep 1000")
        other.began(job)

        one.run(f"touch {one.work}/file", sweep=("processes", str(one.work)))

        other.order(OrderWord.CHECK)
        assert isinstance(other.reports[job], Began)
        assert (one.work / "file").exists()
        other.kill(job, 0)
        other.ended(job)
        one.run("true", job_id=2, sweep=("processes", str(one.work)))
        assert not (one.work / "file").exists()


def test_jobs_that_come_while_something_is_removed_wait_and_are_not_killed(node: Node) -> None:
    sweep = ("processes", "ipc", str(scratch(node)))

    ends = []
    for n in range(1, 6):
        node.launch("true", job_id=n, sweep=sweep)
        ends.append(node.run("sleep 0.05; exit 3", job_id=100 + n, sweep=sweep))

    assert [end.status for end in ends] == [3 << 8] * 5
