"""Two orders for a job that its host is given in one breath, whatever they are, and whatever the job does just then."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from datetime import timedelta
from itertools import count, product
from typing import Any

import pytest

from oarpy.model.states import EndCause, JobId
from oarpy.ports.executor import Attempt, Began, Ended, Order, OrderWord, Refused, Report
from tests.support.node import Node, a_node

W = OrderWord
#: An order may be given twice: the second time under another number.
ORDERS: dict[str, dict[str, Any]] = {
    "kill": {"word": W.KILL, "kill_after": timedelta(seconds=3600), "cause": EndCause.KILLED},
    "kill at once": {"word": W.KILL, "kill_after": timedelta(), "cause": EndCause.BESTEFFORT},
    "signal": {"word": W.SIGNAL, "signal": 12},
    "suspend": {"word": W.SUSPEND},
    "resume": {"word": W.RESUME},
    "prolong": {"word": W.WALLTIME, "walltime": timedelta(hours=2)},
    "end now": {"word": W.WALLTIME, "walltime": timedelta()},
    "refuse": {"word": W.REFUSE},
}
PAIRS = list(product(ORDERS, repeat=2))
#: So many jobs at a time: without control groups a host looks through all processes for each of them.
BATCHES = [PAIRS[first : first + 16] for first in range(0, len(PAIRS), 16)]
#: Ends at TERM, and lives at USR2.
COMMAND = "trap : USR2; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"


@pytest.fixture(params=["as root", "as its user", "over ssh, v2"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with a_node(request.param) as node:
        yield node


def becomes(pair: tuple[str, str]) -> tuple[EndCause | None, bool]:
    """What is to become of a job that runs: why it ends, if it does, and whether it rests."""
    cause, rests, late = None, False, False
    for order in pair:
        if order == "kill":
            cause = cause or EndCause.KILLED
        elif order == "kill at once":
            cause = cause or EndCause.BESTEFFORT
        elif order == "suspend":
            rests = True
        elif order == "resume":
            rests = False
        elif order in ("prolong", "end now"):
            late = order == "end now"
    # A job that rests uses no walltime.
    return cause or (EndCause.WALLTIME if late and not rests else None), rests and cause is None


class Jobs:
    """A job for each of some pairs of orders."""

    def __init__(self, node: Node, batch: int, **other: Any) -> None:
        self.node = node
        self.guard = node.guard()
        first = 1 + batch * 16
        jobs = [
            node.a_launch(COMMAND, job_id, grace=timedelta(), **other) for job_id, _ in enumerate(BATCHES[batch], first)
        ]
        self.pairs = {job.attempt: pair for job, pair in zip(jobs, BATCHES[batch], strict=True)}
        self.killed = {one for one, pair in self.pairs.items() if "kill" in pair or "kill at once" in pair}
        numbers = count(2 * first)
        self.orders = [
            Order(next(numbers), attempt=attempt, **ORDERS[name])
            for attempt, pair in self.pairs.items()
            for name in pair
        ]
        node.send(*jobs)

    def give_orders(self) -> None:
        """All of them at once; each is answered."""
        self._give(self.orders)

    def wait_for(self, attempts: Collection[Attempt], *kinds: type[Report]) -> None:
        self.node.listen_until(
            lambda: all(isinstance(self.node.reports.get(one), kinds) for one in attempts), f"{kinds} of {attempts}"
        )

    def became(self) -> dict[tuple[str, str], tuple[EndCause | None, bool]]:
        """Why each has ended, if it has, and whether it rests."""
        found: dict[tuple[str, str], tuple[EndCause | None, bool]] = {}
        for attempt, pair in self.pairs.items():
            report = self.node.reports[attempt]
            if isinstance(report, Ended):
                found[pair] = (report.cause, False)
            else:
                found[pair] = (None, isinstance(report, Began) and report.suspended)
        return found

    def end(self) -> None:
        """The host goes on, and kills them when it is told to."""
        last = [Order(10_000 + one.job_id, W.KILL, one, timedelta(), EndCause.ADMIN) for one in self.pairs]
        self._give(last)
        self.wait_for(self.pairs, Ended, Refused)
        assert self.node.guard() == self.guard
        assert self.node.processes() == []

    def _give(self, orders: list[Order]) -> None:
        self.node.give(*orders)
        self.node.listen_until(
            lambda: all(order.number in self.node.answers for order in orders), "every order is answered"
        )


@pytest.mark.parametrize("batch", range(len(BATCHES)))
def test_of_two_orders_for_a_job_that_runs_each_has_its_effect(node: Node, batch: int) -> None:
    jobs = Jobs(node, batch)
    jobs.wait_for(jobs.pairs, Began)

    jobs.give_orders()
    expected = {pair: becomes(pair) for pair in jobs.pairs.values()}
    # Reports come behind the answers.
    node.listen_until(lambda: jobs.became() == expected, f"{expected}")

    # Nothing that was put off changes them again.
    node.order(W.CHECK)
    assert jobs.became() == expected
    jobs.end()


@pytest.mark.parametrize("batch", range(len(BATCHES)))
def test_a_job_that_is_killed_while_its_host_prepares_it_never_begins(node: Node, batch: int) -> None:
    gate = node.work / "gate"
    prologue = node.work / "prologue"
    os.mkfifo(gate)
    prologue.write_text(f"#!/bin/sh\nread line <{gate}\nexit 0\n")
    prologue.chmod(0o755)
    jobs = Jobs(node, batch, prologue=str(prologue))

    jobs.give_orders()
    jobs.wait_for(jobs.killed, Refused)
    through = os.open(gate, os.O_RDWR)
    try:
        # A line for each prologue, those that come late among them.
        os.write(through, b"\n" * len(PAIRS))
        jobs.wait_for(jobs.pairs.keys() - jobs.killed, Began)
    finally:
        os.close(through)

    undone = {order.word for order in jobs.orders if not node.answers[order.number].done}
    assert undone <= {W.SIGNAL, W.SUSPEND, W.RESUME, W.WALLTIME}
    jobs.end()


@pytest.mark.parametrize("batch", range(len(BATCHES)))
def test_orders_that_come_with_the_launch_or_just_behind_it_are_answered(node: Node, batch: int) -> None:
    jobs = Jobs(node, batch)

    jobs.give_orders()
    jobs.wait_for(jobs.killed, Ended, Refused)

    causes = {report.cause for one in jobs.killed if isinstance(report := node.reports[one], Ended)}
    assert causes <= {EndCause.KILLED, EndCause.BESTEFFORT}
    jobs.end()


def test_a_job_is_told_to_end_as_soon_as_it_can_hear_it(node: Node) -> None:
    """Its wrapper says that it begins before its first process is there; the kill comes just then, every time."""
    attempts = [Attempt(JobId(job_id), 1) for job_id in range(1, 31)]

    for attempt in attempts:
        node.launch(COMMAND, attempt.job_id)
        node.began(attempt)
        node.give(Order(attempt.job_id, W.KILL, attempt, timedelta(hours=1), EndCause.KILLED))

    assert {node.ended(attempt).cause for attempt in attempts} == {EndCause.KILLED}
