"""Parts of jobs, which run nothing of their own, and the administrator's programs on a host."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from oarpy.model.states import EndCause
from oarpy.ports.executor import Attempt, Ended, OrderWord
from tests.support.node import Node, a_node
from tests.support.waiting import wait_until


@pytest.fixture(params=["as root", "as its user", "over ssh", "over ssh, v2"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with a_node(request.param) as node:
        yield node


def program(node: Node, name: str, text: str) -> str:
    path: Path = node.work / f"{name}.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_part_runs_no_command_and_lasts_until_it_is_killed(node):
    attempt = node.launch("echo ran > ran", part=True, cpus="0", memory_mib=100)
    node.began(attempt)
    node.disconnect()
    node.kill_guard()
    node.connect()
    node.began(attempt)

    node.kill(attempt, 0)
    end = node.ended(attempt)

    assert (end.cause, node.read("ran")) == (EndCause.KILLED, "")
    assert node.processes() == []


def test_a_prologue_comes_before_the_command_and_an_epilogue_after_all_of_it(node):
    (node.work / "told").touch()
    (node.work / "told").chmod(0o666)
    before = program(node, "before", f'echo "before $*" >> {node.work}/told; test -s $3 && id -un >> {node.work}/told')
    after = program(node, "after", f'echo "after $*" >> {node.work}/told')

    end = node.run("echo job >> told; (sleep 1000 &)", prologue=before, epilogue=after)

    entry = node.directory / "jobs" / "1.1"
    assert (end.cause, end.status, end.event) == (EndCause.EXIT, 0, None)
    assert node.read("told").splitlines() == [
        f"before 1 {node.user.pw_name} {entry}/nodes 3600",
        node.runs_as.pw_name,
        "job",
        f"after 1 {node.user.pw_name} {entry}/nodes",
    ]


@pytest.mark.parametrize(
    ("text", "timeout_s", "said"),
    [
        ("exit 3", 60, "the prologue ended with 3"),
        ("sleep 1000", 0.5, "the prologue took more than 0.5 s"),
        ("kill -9 $$", 60, "the prologue was killed by signal 9"),
    ],
)
def test_a_prologue_that_fails_or_takes_too_long_ends_the_job_before_it_ran(node, text, timeout_s, said):
    before, after = program(node, "before", text), program(node, "after", f"echo after > {node.work}/after")

    end = node.run("echo ran > ran", prologue=before, epilogue=after, program_timeout=timedelta(seconds=timeout_s))

    assert (end.cause, end.ran, end.event, end.text) == (EndCause.PROLOGUE, False, "PROLOGUE_ERROR", said)
    assert (node.read("ran"), node.read("after")) == ("", "")


def test_a_prologue_that_is_not_there_is_an_error_of_the_prologue(node):
    end = node.run("true", prologue="/nowhere/at all")

    assert (end.cause, end.event) == (EndCause.PROLOGUE, "PROLOGUE_ERROR")


def test_a_failed_epilogue_is_told_and_changes_no_status(node):
    end = node.run("exit 4", epilogue=program(node, "after", "exit 1"))

    assert (end.cause, end.status, end.event) == (EndCause.EXIT, 4 << 8, "EPILOGUE_ERROR")
    assert end.text == "the epilogue ended with 1"


def test_a_job_killed_during_its_prologue_never_begins(node):
    before = program(node, "before", f"echo began > {node.work}/before.began; sleep 1000")
    attempt = node.launch("echo ran > ran", prologue=before)
    wait_until(lambda: node.read("before.began") != "", what="the prologue runs")

    node.kill(attempt)

    node.refused(attempt)
    assert node.read("ran") == ""


def test_a_slow_prologue_delays_no_other_job(node):
    slow = node.launch("true", prologue=program(node, "before", f"until test -e {node.work}/go; do sleep 0.05; done"))

    assert isinstance(node.run("true", job_id=2), Ended)
    assert slow not in node.reports or not isinstance(node.reports[slow], Ended)
    (node.work / "go").touch()
    assert node.ended(slow).status == 0


def test_an_epilogue_whose_guard_died_is_run_by_the_next(node):
    after = program(
        node, "after", f"echo after >> {node.work}/after; until test -e {node.work}/go; do sleep 0.05; done"
    )
    attempt = node.launch("true", epilogue=after)
    wait_until(lambda: node.read("after") != "", what="the epilogue runs")
    node.disconnect()
    node.kill_guard()

    node.connect()
    wait_until(lambda: node.read("after") == "after\nafter\n", what="it runs again")
    (node.work / "go").touch()

    assert node.ended(attempt).status == 0


def test_a_part_that_was_given_up_cannot_be_made(node):
    attempt = Attempt(1, 1)
    node.order(OrderWord.REFUSE, attempt)

    node.launch("true", part=True)

    node.refused(attempt)


def test_nothing_of_a_part_can_be_killed_by_its_user():
    # In a host in a box: on this machine he would kill all that other tests run as the same user.
    with a_node("over ssh") as node:
        attempt = node.launch("true", part=True)
        node.began(attempt)

        node.run("kill -9 -1; true", job_id=2)

        node.order(OrderWord.CHECK)
        assert not isinstance(node.reports[attempt], Ended)
        node.kill(attempt, 0)
        node.ended(attempt)
