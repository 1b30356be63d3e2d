"""What a host does with jobs that have a lease, whether anybody speaks with it or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from oarpy.model.states import EndCause
from tests.support.node import Node, a_node
from tests.support.waiting import wait_until

LEASE = timedelta(seconds=3)


@pytest.fixture(params=["as root", "over ssh"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with a_node(request.param) as node:
        yield node


def test_a_launch_that_was_too_long_on_its_way_never_begins(node):
    attempt = node.launch("echo ran > ran", lease=LEASE, since=node.clock - 3.1)

    node.refused(attempt)

    assert node.read("ran") == ""


def test_a_job_whose_lease_nobody_prolongs_is_killed_with_all_that_it_started(node):
    attempt = node.launch("setsid sleep 1000 & sleep 1000", lease=LEASE, since=node.clock)
    node.began(attempt)
    node.disconnect()

    wait_until(lambda: node.processes() == [], timeout_s=20, what="nothing of it is left")
    node.connect()

    end = node.ended(attempt)
    assert end.cause is EndCause.FENCED
    assert end.began is not None
    assert end.ended is not None
    # Counted from the clock that was told, which was before the beginning.
    assert timedelta(seconds=1) < end.began - end.ended <= LEASE


def test_a_job_lives_as_long_as_its_lease_is_prolonged(node):
    attempt = node.launch("until test -e go; do sleep 0.05; done", lease=LEASE, since=node.clock)
    node.began(attempt)
    deadline = time.monotonic() + 2 * LEASE.total_seconds()

    def prolonged_for_long() -> bool:
        node.ping()
        return time.monotonic() > deadline

    wait_until(prolonged_for_long, timeout_s=20, what="two leases have passed")
    (node.work / "go").touch()

    assert node.ended(attempt).cause is EndCause.EXIT


def test_a_clock_that_is_old_prolongs_nothing(node):
    old = node.clock
    attempt = node.launch("sleep 1000", lease=LEASE, since=old)
    node.began(attempt)

    def killed() -> bool:
        node.clock = old
        node.ping()
        return node.processes() == []

    wait_until(killed, timeout_s=20, what="nothing of it is left")
    assert node.ended(attempt).cause is EndCause.FENCED


def test_a_guard_that_is_killed_is_followed_by_another_though_nobody_asks(node):
    attempt = node.launch("sleep 1000", lease=LEASE, since=node.clock)
    node.began(attempt)
    node.disconnect()

    node.kill_guard()

    wait_until(lambda: node.processes() == [], timeout_s=20, what="nothing of it is left")
    node.connect()
    assert node.ended(attempt).cause is EndCause.FENCED


def test_a_job_without_a_lease_is_kept(node):
    leased = node.launch("sleep 1000", job_id=1, lease=timedelta(seconds=1), since=node.clock)
    kept = node.launch("sleep 1000", job_id=2)
    node.began(kept)

    assert node.ended(leased).cause is EndCause.FENCED

    assert node.processes() != []
    node.kill(kept, 0)
    node.ended(kept)
