"""Jobs that have a lease, whether anybody speaks with their host or not, and whatever stands still on it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from oarpy.model.states import EndCause
from oarpy.node.oarexec.host import clock
from oarpy.node.oarexec.wrappers import WRAPPER_ALONE
from oarpy.ports.executor import Attempt
from tests.support import box
from tests.support.node import Node, a_node
from tests.support.waiting import wait_until

LEASE_S = 6.0
LEASE = timedelta(seconds=LEASE_S)
DEADLINE_S = 60.0


@pytest.fixture(params=["as root", "over ssh"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with a_node(request.param) as node:
        yield node


@pytest.fixture
def root_node() -> Iterator[Node]:
    with a_node("as root") as node:
        yield node


def begin(node: Node, command: str = "sleep 1000") -> tuple[Attempt, float]:
    """A job with a lease that has begun, and when its lease ends, by the clock that all hosts of this machine have."""
    node.ping()
    attempt = node.launch(command, lease=LEASE, since=node.clock)
    ends_at = node.clock + LEASE_S
    node.began(attempt)
    return attempt, ends_at


def wait_until_nothing_is_left(node: Node) -> None:
    wait_until(lambda: node.processes() == [], timeout_s=DEADLINE_S, what="nothing of it is left")


def ended_at(node: Node, attempt: Attempt) -> float:
    end = node.ended(attempt)
    assert end.cause is EndCause.FENCED
    assert end.ended is not None
    return clock() - end.ended.total_seconds()


def test_a_launch_that_was_too_long_on_its_way_never_begins(node):
    attempt = node.launch("echo ran > ran", lease=LEASE, since=node.clock - LEASE_S - 0.1)

    node.refused(attempt)

    assert node.read("ran") == ""


def test_a_wrapper_that_is_let_through_too_late_runs_nothing(tmp_path: Path) -> None:
    """As when the machine stood still just before."""
    progress, gate = tmp_path / "progress", tmp_path / "gate"
    arguments = ["oarexec", "1.1", "", "", "", str(tmp_path), "out", "err", "append", "0022", "/bin/sh"]
    wrapper = ["/bin/sh", "-c", WRAPPER_ALONE, *arguments, "/bin/sh", "-c", "echo ran > ran"]

    def let_through(line: str) -> str:
        gate.write_text(line)
        progress.write_text("")
        subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" 3<{gate} 4>/dev/null 5>>{progress}', "sh", *wrapper],
            check=True,
            timeout=DEADLINE_S,
        )
        return progress.read_text()

    assert let_through(f"{int(clock())}\n") == ""
    assert not (tmp_path / "ran").exists()
    assert "exit 0" in let_through(f"{int(clock()) + 1000}\n")
    assert (tmp_path / "ran").exists()


def test_a_job_whose_lease_nobody_prolongs_is_killed_with_all_that_it_started(node):
    attempt, ends_at = begin(node, "setsid sleep 1000 & sleep 1000")
    node.disconnect()

    wait_until_nothing_is_left(node)
    node.connect()

    # Not before; what is said of it is rounded.
    assert ended_at(node, attempt) > ends_at - 0.5


def test_a_job_lives_as_long_as_its_lease_is_prolonged(node):
    attempt, ends_at = begin(node, "until test -e go; do sleep 0.05; done")

    def prolonged_for_long() -> bool:
        node.ping()
        return clock() > ends_at + LEASE_S

    wait_until(prolonged_for_long, timeout_s=DEADLINE_S, what="two leases have passed")
    (node.work / "go").touch()

    assert node.ended(attempt).cause is EndCause.EXIT


def test_a_clock_that_is_old_prolongs_nothing(node):
    attempt, _ = begin(node)
    old = node.clock

    def killed() -> bool:
        node.clock = old
        node.ping()
        return node.processes() == []

    wait_until(killed, timeout_s=DEADLINE_S, what="nothing of it is left")
    assert node.ended(attempt).cause is EndCause.FENCED


def test_a_guard_that_is_killed_is_followed_by_another_though_nobody_asks(node):
    attempt, _ = begin(node)
    node.disconnect()

    node.kill_guard()

    wait_until_nothing_is_left(node)
    node.connect()
    assert node.ended(attempt).cause is EndCause.FENCED


@pytest.mark.parametrize("kind", ["as root", "over ssh, v2"])
def test_where_the_guard_stands_still_its_watch_kills_the_job_and_replaces_it(kind):
    with a_node(kind) as node:
        attempt, ends_at = begin(node, "setsid sleep 1000 & sleep 1000")
        guard = node.guard()
        assert guard is not None
        node.disconnect()

        os.kill(guard, signal.SIGSTOP)

        wait_until_nothing_is_left(node)
        wait_until(lambda: node.guard() not in (None, guard), timeout_s=DEADLINE_S, what="another guard")
        node.connect()
        assert ended_at(node, attempt) > ends_at - 0.5


def test_a_guard_that_stood_still_says_why_the_job_ended(root_node):
    node = root_node
    attempt, _ = begin(node)
    guard = node.guard()
    assert guard is not None

    os.kill(guard, signal.SIGSTOP)
    wait_until_nothing_is_left(node)
    os.kill(guard, signal.SIGCONT)

    assert node.ended(attempt).cause is EndCause.FENCED


def test_a_guard_that_stands_still_for_a_while_loses_no_job_that_is_prolonged_afterwards(root_node):
    node = root_node
    attempt, ends_at = begin(node, "until test -e go; do sleep 0.05; done")
    node.ping()
    guard = node.guard()
    assert guard is not None

    os.kill(guard, signal.SIGSTOP)
    os.kill(guard, signal.SIGCONT)

    def prolonged() -> bool:
        node.ping()
        return clock() > ends_at + 1

    wait_until(prolonged, timeout_s=DEADLINE_S, what="its first lease is over")
    (node.work / "go").touch()
    assert node.ended(attempt).cause is EndCause.EXIT


def test_a_watch_that_is_killed_is_replaced_and_knows_the_leases(root_node):
    node = root_node
    attempt, _ = begin(node)
    watch = node.watches()
    guard = node.guard()
    assert guard is not None

    for pid in watch:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: {*node.watches()} - {*watch}, timeout_s=DEADLINE_S, what="another watch")
    node.disconnect()
    os.kill(guard, signal.SIGSTOP)

    wait_until_nothing_is_left(node)
    wait_until(lambda: node.guard() not in (None, guard), timeout_s=DEADLINE_S, what="another guard")
    node.connect()
    assert node.ended(attempt).cause is EndCause.FENCED


@pytest.mark.parametrize("kind", ["over ssh", "over ssh, v2"])
def test_after_a_whole_host_stood_still_what_has_outlived_its_lease_is_killed_at_once(kind):
    with a_node(kind) as node:
        attempt, ends_at = begin(node, "while :; do cat /proc/uptime >> beats; sleep 0.01; done")
        node.wait_for_text("beats", "\n")
        node.disconnect()
        try:
            box.a_box().do("freeze", node.name)
            before = node.read("beats")
            wait_until(lambda: clock() > ends_at + 1, timeout_s=DEADLINE_S, what="its lease is over")
            assert node.read("beats") == before
        finally:
            box.a_box().do("thaw", node.name)

        wait_until_nothing_is_left(node)
        # Had its lease stood still with it, nearly all of that would be left: hundreds of them.
        assert len(node.read("beats").splitlines()) - len(before.splitlines()) < 100
        node.connect()
        assert node.ended(attempt).cause is EndCause.FENCED


def test_a_job_without_a_lease_is_kept(node):
    node.ping()
    leased = node.launch("sleep 1000", job_id=1, lease=LEASE, since=node.clock)
    kept = node.launch("sleep 1000", job_id=2)
    node.began(kept)

    assert node.ended(leased).cause is EndCause.FENCED

    assert node.processes() != []
    node.kill(kept, 0)
    node.ended(kept)
