"""Any process on a node may die at any instant: nothing is lost, nothing runs twice, nothing is left."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta

import pytest

from oarpy.errors import NodeUnreachable
from oarpy.model.states import EndCause
from oarpy.node.oarexec.protocol import CAUSES
from oarpy.ports.executor import Attempt, Began, Ended, OrderWord, Refused
from tests.support.node import Node, a_node, is_zombie
from tests.support.waiting import wait_until


@pytest.fixture(params=["as root", "as its user"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with a_node(request.param) as node:
        yield node


def reconnect(node: Node) -> None:
    """Begin anew after a death: what was known counts for nothing."""
    node.disconnect()
    node.reports.clear()
    node.connect()


def test_a_guard_that_died_is_replaced_and_its_jobs_go_on(node):
    attempt = node.launch("echo ready; until [ -e go ]; do sleep 0.01; done; echo done; exit 3")
    node.wait_for_text("1.out", "ready")

    node.kill_guard()
    with pytest.raises(NodeUnreachable):
        node.hang_up()
    reconnect(node)
    known = node.reports[attempt]
    (node.work / "go").touch()
    end = node.ended(attempt)

    assert isinstance(known, Began)
    assert (end.cause, end.status) == (EndCause.EXIT, 3 << 8)
    assert node.read("1.out") == "ready\ndone\n"


def test_a_job_that_ended_without_a_guard_keeps_its_status(node):
    attempt = node.launch("echo ready; until [ -e go ]; do sleep 0.01; done; exit 3")
    node.wait_for_text("1.out", "ready")
    wrapper = node.wrapper(attempt)
    node.kill_guard()
    (node.work / "go").touch()
    wait_until(lambda: is_zombie(wrapper), what="the job ended")

    reconnect(node)

    end = node.ended(attempt)
    assert (end.cause, end.status) == (EndCause.EXIT, 3 << 8)
    assert end.began is not None
    assert end.ended is not None
    assert end.began > end.ended


def test_what_a_job_left_behind_while_there_was_no_guard_is_killed(node):
    attempt = node.launch("setsid -f sleep 1000; echo ready; until [ -e go ]; do sleep 0.01; done")
    node.wait_for_text("1.out", "ready")
    wrapper = node.wrapper(attempt)
    node.kill_guard()
    (node.work / "go").touch()
    wait_until(lambda: is_zombie(wrapper), what="the job ended")

    reconnect(node)
    node.ended(attempt)

    assert node.processes() == []


def test_a_killed_wrapper_is_noticed_and_its_job_killed(node):
    attempt = node.launch("echo ready; sleep 1000")
    node.wait_for_text("1.out", "ready")

    os.kill(node.wrapper(attempt), signal.SIGKILL)

    end = node.ended(attempt)
    assert (end.cause, end.status, end.ran) == (EndCause.VANISHED, None, True)
    assert node.processes() == []


def test_a_wrapper_killed_under_an_inherited_job_is_noticed(node):
    attempt = node.launch("echo ready; sleep 1000")
    node.wait_for_text("1.out", "ready")
    node.kill_guard()
    reconnect(node)

    os.kill(node.wrapper(attempt), signal.SIGKILL)

    assert node.ended(attempt).cause is EndCause.VANISHED
    assert node.processes() == []


def test_guard_and_wrapper_killed_together_leave_no_job_running(node):
    attempt = node.launch("echo ready; sleep 1000")
    node.wait_for_text("1.out", "ready")
    wrapper = node.wrapper(attempt)
    node.kill_guard()
    os.kill(wrapper, signal.SIGKILL)

    reconnect(node)

    assert node.ended(attempt).cause is EndCause.VANISHED
    assert node.processes() == []


def test_a_killed_session_disturbs_neither_guard_nor_jobs(node):
    attempt = node.launch("echo ready; sleep 1000")
    node.wait_for_text("1.out", "ready")
    guard = node.guard()

    for pid in node.sessions():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(NodeUnreachable):
        node.hang_up()
    reconnect(node)

    assert node.guard() == guard
    assert isinstance(node.reports[attempt], Began)


@pytest.mark.parametrize("started", [0, 1, 5, 20, 39])
def test_a_guard_killed_in_the_middle_of_launches_starts_each_once_or_never(node, started):
    launches = [node.a_launch(f"echo {job} >> ran", job_id=job) for job in range(1, 41)]
    node.send(*launches)
    wait_until(lambda: len(node.read("ran").split()) >= started, what=f"{started} jobs have run")
    node.kill_guard()

    reconnect(node)
    node.listen_until(lambda: _decided(node, node.reports), "all that the host knows are decided")
    before = dict(node.reports)
    node.send(*launches)
    node.listen_until(lambda: _decided(node, [one.attempt for one in launches]), "all are decided")

    ended = [job for job in range(1, 41) if isinstance(node.reports[Attempt(job, 1)], Ended)]
    assert sorted(map(int, node.read("ran").split())) == ended
    assert [type(node.reports[attempt]) for attempt in before] == [type(report) for report in before.values()]


def _decided(node: Node, attempts: Iterable[Attempt]) -> bool:
    return all(isinstance(node.reports.get(attempt), Ended | Refused) for attempt in attempts)


def test_what_an_older_session_asked_for_and_has_not_begun_is_given_up(node):
    node.kill_guard()
    entry = node.directory / "jobs" / "5.1"
    entry.mkdir(mode=0o700)
    os.chown(entry, node.runs_as.pw_uid, node.runs_as.pw_gid)

    reconnect(node)
    node.launch("echo ran > ran", job_id=5)
    node.order(OrderWord.CHECK)

    assert isinstance(node.reports[Attempt(5, 1)], Refused)
    assert node.read("ran") == ""


def test_a_record_that_was_cut_short_counts_as_none(node):
    attempt = node.launch("true")
    node.ended(attempt)
    node.disconnect()
    node.kill_guard()
    entry = node.directory / "jobs" / "1.1"
    (entry / "progress").write_text('\nlaunch {"session": [1')

    reconnect(node)

    assert isinstance(node.reports[attempt], Refused)


@pytest.mark.parametrize(
    "line",
    [
        "begun",
        "begun nan",
        "begun 1e300",
        "exit x",
        "exit 99999999999 1",
        "suspended",
        "walltime inf",
        "cause boredom",
        "error LOG_SUSPECTED x",
        "end {",
    ],
)
def test_a_damaged_line_neither_keeps_a_guard_from_starting_nor_says_anything(node, line):
    attempt = node.launch("echo ready; until [ -e go ]; do sleep 0.01; done; exit 3")
    node.wait_for_text("1.out", "ready")
    node.disconnect()
    node.kill_guard()
    with open(node.directory / "jobs" / "1.1" / "progress", "a") as progress:
        progress.write(f"{line}\n")

    reconnect(node)
    known = node.reports[attempt]
    (node.work / "go").touch()
    end = node.ended(attempt)

    assert isinstance(known, Began)
    assert not known.suspended
    assert (end.cause, end.status) == (EndCause.EXIT, 3 << 8)


@pytest.mark.parametrize(
    "said",
    [
        '{"ran": true, "status": 0, "cause": "boredom"}',
        '{"ran": true, "status": 99999999999, "cause": "exit"}',
        '{"ran": true, "status": 0, "cause": "exit", "cpu_s": NaN}',
    ],
)
def test_an_end_that_no_server_can_take_in_is_not_told(node, said):
    attempt = node.launch("exit 3")
    node.ended(attempt)
    node.disconnect()
    node.kill_guard()
    with open(node.directory / "jobs" / "1.1" / "progress", "a") as progress:
        progress.write(f"end {said}\n")

    reconnect(node)

    end = node.ended(attempt)
    assert (end.cause, end.status) == (EndCause.EXIT, 3 << 8)


def test_a_guard_knows_every_cause_of_an_end():
    assert {cause.value for cause in EndCause} == set(CAUSES)


@pytest.mark.parametrize("left", ["wrapper", "processes"])
def test_an_end_is_not_believed_while_something_of_the_job_runs(node, left):
    attempt = node.launch("sleep 1000 & echo ready; wait; exit 3")
    node.wait_for_text("1.out", "ready")
    wrapper = node.wrapper(attempt)
    node.disconnect()
    node.kill_guard()
    with open(node.directory / "jobs" / "1.1" / "progress", "a") as progress:
        progress.write('end {"ran": true, "status": 0, "cause": "exit"}\n')
    if left == "processes":
        os.kill(wrapper, signal.SIGKILL)

    reconnect(node)
    node.kill(attempt, after_s=0)
    end = node.ended(attempt)

    assert end.status != 0
    assert node.processes() == []


def test_after_a_reboot_jobs_that_left_no_status_are_gone(node):
    lost = node.launch("echo ready; sleep 1000", job_id=1)
    kept = node.launch("exit 3", job_id=2)
    node.ended(kept)
    node.wait_for_text("1.out", "ready")
    _pretend_reboot(node)

    reconnect(node)

    end = node.ended(lost)
    assert (end.cause, end.status, end.ran, end.began) == (EndCause.NODE_REBOOTED, None, True, None)
    end = node.ended(kept)
    assert (end.cause, end.status) == (EndCause.EXIT, 3 << 8)


def test_of_a_launch_whose_record_a_power_cut_has_lost_nobody_says_that_it_never_began(node):
    lost = node.launch("echo ready; sleep 1000")
    node.wait_for_text("1.out", "ready")
    _pretend_reboot(node)
    (node.directory / "jobs" / "1.1" / "progress").write_text("")

    reconnect(node)

    assert _how_it_ended(node, lost) == (EndCause.NODE_REBOOTED, None, False, None)
    node.kill_guard()
    reconnect(node)
    assert _how_it_ended(node, lost) == (EndCause.NODE_REBOOTED, None, False, None)


def _how_it_ended(node: Node, attempt: Attempt) -> tuple[EndCause, int | None, bool, timedelta | None]:
    end = node.ended(attempt)
    return end.cause, end.status, end.ran, end.began


def test_a_wiped_spool_has_another_identity(node):
    assert node.session is not None
    before = node.session.greeting
    node.disconnect()
    node.kill_guard()
    (node.directory / "spool_id").unlink()

    reconnect(node)

    assert node.session.greeting.boot_id == before.boot_id
    assert node.session.greeting.spool_id != before.spool_id


def test_a_walltime_is_not_counted_anew_by_the_next_guard(node):
    attempt = node.launch(
        "sleep 1000", walltime=timedelta(seconds=30), grace=timedelta(0), kill_after=timedelta(seconds=1)
    )
    node.began(attempt)
    node.disconnect()
    node.kill_guard()
    _pretend_to_have_begun_earlier(node, attempt, by_s=30)

    reconnect(node)
    end = node.ended(attempt)

    assert end.cause is EndCause.WALLTIME
    assert end.began is not None
    assert end.ended is not None
    # Counted anew it would have lasted for 60.
    assert timedelta(seconds=30) <= end.began - end.ended < timedelta(seconds=55)


def test_a_kill_that_the_guard_did_not_finish_is_finished_by_the_next(node):
    attempt = node.launch("trap '' TERM; echo ready; while :; do sleep 0.05; done", kill_after=timedelta(seconds=0.5))
    node.wait_for_text("1.out", "ready")
    node.kill(attempt, after_s=1000)
    node.kill_guard()

    reconnect(node)

    end = node.ended(attempt)
    assert (end.cause, end.status) == (EndCause.KILLED, 9)


def test_a_guard_without_links_and_live_jobs_ends_by_itself(node):
    node.run("true")
    guard = node.guard()

    node.disconnect()

    wait_until(lambda: node.guard() != guard, what="the guard ended")
    reconnect(node)
    assert isinstance(node.reports[Attempt(1, 1)], Ended)


def test_of_two_sessions_that_find_no_guard_one_starts_it(node):
    node.disconnect()
    node.kill_guard()

    node.connect()
    first = node.guard()
    reconnect(node)

    assert node.guard() == first


def _pretend_to_have_begun_earlier(node: Node, attempt: Attempt, by_s: float) -> None:
    progress = node.directory / "jobs" / f"{attempt.job_id}.{attempt.number}" / "progress"
    before, begun, after = progress.read_text().partition("begun ")
    began_at, newline, rest = after.partition("\n")
    progress.write_text(f"{before}{begun}{float(began_at) - by_s:.2f}{newline}{rest}")


def _pretend_reboot(node: Node) -> None:
    """Kill everything, and write the records as if by an earlier boot."""
    node.disconnect()
    node.kill_guard()
    for progress in (node.directory / "jobs").glob("*/progress"):
        empty, launch, *rest = progress.read_text().split("\n")
        was = json.loads(launch.removeprefix("launch "))
        with suppress(ProcessLookupError):
            os.kill(was["pid"], signal.SIGKILL)
        record = json.dumps(was | {"boot_id": "an earlier one"})
        progress.write_text("\n".join([empty, f"launch {record}", *rest]))
    number = node.directory / "session"
    epoch, sequence, _ = number.read_text().split()
    number.write_text(f"{epoch} {sequence} an-earlier-one\n")
    for pid in node.processes():
        # One may have gone with another.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
