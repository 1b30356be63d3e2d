"""A spool that is full, or cannot be written: launches are refused, ends are told, and nothing runs twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from oarpy.errors import NodeUnreachable
from oarpy.model.states import EndCause
from oarpy.ports.executor import Attempt, Ended, OrderWord
from tests.support import invariants
from tests.support.instance import SETTINGS, System, running_system
from tests.support.node import Node, a_node
from tests.support.place import a_place
from tests.support.postgres import TestDatabase
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.waiting import wait_until

ONCE = "echo once >> ran; "
WAIT = "until [ -e go ]; do sleep 0.05; done; "


@contextmanager
def a_node_on_a_small_disk() -> Iterator[tuple[Node, SmallDisk]]:
    with a_node("as root") as node:
        node.disconnect()
        node.kill_guard()
        with small_disk(node.spool) as disk:
            node.connect()
            yield node, disk


@pytest.fixture
def small() -> Iterator[tuple[Node, SmallDisk]]:
    with a_node_on_a_small_disk() as found:
        yield found


@pytest.mark.parametrize("what", ["bytes", "files"])
def test_a_launch_that_a_full_spool_cannot_take_is_refused(small: tuple[Node, SmallDisk], what: str) -> None:
    node, disk = small
    guard = node.guard()
    disk.fill(what)

    refused = node.refused(node.launch(ONCE))

    assert refused.trouble == "the spool cannot be written: No space left on device"
    assert node.read("ran") == ""
    disk.empty()
    assert node.ended(node.launch(ONCE, attempt=2)).status == 0
    assert node.read("ran") == "once\n"
    assert node.guard() == guard


@pytest.mark.parametrize("what", ["bytes", "files"])
def test_a_refused_launch_stays_refused_and_can_be_forgotten(small: tuple[Node, SmallDisk], what: str) -> None:
    node, disk = small
    disk.fill(what)
    attempt = node.launch(ONCE)
    node.refused(attempt)
    disk.empty()

    node.reports.clear()
    node.launch(ONCE)
    node.refused(attempt)
    node.renew()
    forgotten = node.order(OrderWord.FORGET, attempt)

    assert forgotten.done
    assert node.read("ran") == ""
    assert not (node.directory / "jobs" / "1.1").exists()


@pytest.mark.parametrize("what", ["bytes", "files"])
def test_a_job_that_ends_while_the_spool_is_full_is_told_with_its_status(
    small: tuple[Node, SmallDisk], what: str
) -> None:
    node, disk = small
    attempt = node.launch(ONCE + WAIT + "exit 3")
    node.began(attempt)
    disk.fill(what)

    (node.work / "go").touch()
    ended = node.ended(attempt)

    assert (ended.cause, ended.status) == (EndCause.EXIT, 3 << 8)
    assert node.read("ran") == "once\n"


def test_a_job_that_cannot_even_write_its_end_is_told_with_its_status(small: tuple[Node, SmallDisk]) -> None:
    node, disk = small
    attempt = node.launch(WAIT + "exit 3")
    node.began(attempt)
    progress = node.directory / "jobs" / "1.1" / "progress"
    with open(progress, "a") as file:
        # To the end of its block.
        file.write("\n" * (4096 - progress.stat().st_size))
    disk.fill("bytes")

    (node.work / "go").touch()
    ended = node.ended(attempt)
    disk.empty()

    assert (ended.cause, ended.status) == (EndCause.EXIT, 3 << 8)
    wait_until(lambda: "\nend {" in progress.read_text(), what="the end is written when there is room")


def test_a_new_guard_and_a_new_session_find_the_ends_of_jobs_in_a_full_spool(small: tuple[Node, SmallDisk]) -> None:
    node, disk = small
    attempt = node.launch(WAIT + "exit 3")
    node.began(attempt)
    disk.fill("bytes")
    node.disconnect()
    node.kill_guard()
    (node.work / "go").touch()

    node.connect()
    ended = node.ended(attempt)
    number = node.number
    node.disconnect()
    node.kill_guard()
    disk.empty()

    assert (ended.cause, ended.status) == (EndCause.EXIT, 3 << 8)
    # The number of the session was kept though there was no room for a new file.
    assert (node.directory / "session").read_text().split()[:2] == [str(number.epoch), str(number.sequence)]
    node.reports.clear()
    node.connect()
    assert isinstance(node.reports[attempt], Ended)


def test_a_kill_reaches_a_job_while_the_spool_is_full(small: tuple[Node, SmallDisk]) -> None:
    node, disk = small
    attempt = node.launch("trap '' TERM; echo here >> here; sleep 60")
    node.began(attempt)
    node.wait_for_text("here", "here")
    disk.fill("bytes")

    node.kill(attempt, after_s=0.2)

    assert node.ended(attempt).cause is EndCause.KILLED
    assert node.processes() == []


def test_what_is_given_up_in_a_full_spool_does_not_run(small: tuple[Node, SmallDisk]) -> None:
    node, disk = small
    disk.fill("files")
    attempt = Attempt(node.a_launch(ONCE).attempt.job_id, 1)

    assert node.order(OrderWord.REFUSE, attempt).done

    node.refused(attempt)
    disk.empty()
    node.reports.clear()
    node.launch(ONCE)
    node.refused(attempt)
    assert node.read("ran") == ""


def test_a_read_only_spool_takes_no_session_until_it_can_be_written(small: tuple[Node, SmallDisk]) -> None:
    node, disk = small
    node.disconnect()
    node.kill_guard()
    disk.remount("ro")

    with pytest.raises(NodeUnreachable):
        node.connect()
    disk.remount("rw")

    node.connect()
    assert node.run(ONCE).status == 0
    assert node.read("ran") == "once\n"


@contextmanager
def a_system_on_a_small_disk(database: TestDatabase) -> Iterator[tuple[System, SmallDisk]]:
    with a_place() as root, small_disk(root) as disk:
        settings = SETTINGS + f'[nodes]\nspool_dir = "{disk.path}"\n'
        with running_system(database, settings=settings) as system:
            yield system, disk


@pytest.mark.parametrize("what", ["bytes", "files"])
def test_jobs_wait_for_room_in_the_spool_and_run_once(database: TestDatabase, what: str) -> None:
    with a_system_on_a_small_disk(database) as (system, disk):
        running = system.oarsub(ONCE + WAIT)
        system.wait_until_state(running, "Running")
        wait_until((system.work / "ran").exists, what="the first runs")
        disk.fill(what)
        waiting = [system.oarsub(ONCE) for _ in range(3)]

        suspected = "SELECT count(*) = 0 FROM resources WHERE state <> 'Suspected'"
        wait_until(lambda: database.execute(suspected) == [(True,)], what="the host is Suspected")
        (system.work / "go").touch()
        system.wait_until_final(running)
        before = [system.job(job_id).state for job_id in waiting]
        ran_before = system.read("ran")
        disk.empty()
        system.admin("oarnodesetting", "-s", "Alive", "-h", os.uname().nodename)
        system.wait_until_all_final(waiting)

        assert (system.job(running).state, system.job(running).exit_code) == ("Terminated", 0)
        assert (before, ran_before) == (["Waiting"] * 3, "once\n")
        assert [system.job(job_id).state for job_id in waiting] == ["Terminated"] * 3
        assert system.read("ran") == "once\n" * 4
        said = database.execute("SELECT DISTINCT description FROM events WHERE type = 'LOG_SUSPECTED'")
        assert said == [("the spool cannot be written: No space left on device",)]
        assert invariants.broken(database.engine) == []
