"""Almighty's turn: the table decides, a module that raises is a FAILED, and calls are merged."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import pytest

from oarpy.almighty import calls, loop
from oarpy.automata.almighty import Event, Step
from oarpy.errors import NotLeader
from oarpy.modules.context import Context
from tests.support.waiting import wait_until


class TheEnd(Exception):
    """Ends a loop that has no end."""


def ran(events: list[Event], outcomes: dict[Step, Event]) -> list[Step]:
    """The steps that follow when ``events`` are heard and each module answers its outcome."""
    heard = iter(events)
    steps: list[Step] = []

    def listen() -> Event:
        try:
            return next(heard)
        except StopIteration:
            raise TheEnd from None

    def module(step: Step) -> Event:
        steps.append(step)
        # What is changed once needs no second change.
        return outcomes.pop(step, Event.NOTHING)

    with pytest.raises(TheEnd):
        loop.run(listen, {step: lambda step=step: module(step) for step in Step})
    return steps


def test_a_hint_calls_the_scheduler_and_then_the_short_modules() -> None:
    assert ran([Event.HINTED], {}) == [Step.SCHEDULE, Step.CHANGE_NODES, Step.KILL]


def test_jobs_that_sarko_finds_are_killed_in_the_same_turn() -> None:
    assert ran([Event.WATCH_DUE], {Step.WATCH: Event.JOBS_TO_KILL}) == [Step.WATCH, Step.KILL]


def test_what_a_kill_frees_is_scheduled_at_once() -> None:
    steps = ran([Event.KILL_WANTED], {Step.KILL: Event.JOBS_CHANGED})

    assert steps == [Step.KILL, Step.SCHEDULE, Step.CHANGE_NODES, Step.KILL]


def test_modules_that_fail_do_not_keep_the_others_from_their_turn() -> None:
    failing = dict.fromkeys(Step, Event.FAILED)

    assert ran([Event.HINTED], failing) == [Step.SCHEDULE, Step.CHANGE_NODES, Step.KILL]


class Silent:
    """A context whose database takes everything and keeps nothing."""

    def transaction(self) -> closing[Silent]:
        return closing(self)

    def execute(self, *statement: object) -> None: ...

    def close(self) -> None: ...


def test_a_module_that_raises_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def broken(ctx: Context) -> Event:
        raise ZeroDivisionError("a defect")

    step = loop.isolated("sarko", broken, cast(Context, Silent()))

    assert step() is Event.FAILED
    assert "a defect" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_the_end_of_the_epoch_is_not_a_module_that_failed() -> None:
    def deposed(ctx: Context) -> Event:
        raise NotLeader("epoch 1 has ended")

    with pytest.raises(NotLeader):
        loop.isolated("leon", deposed, cast(Context, Silent()))()


class Worker:
    """Counts its turns, and can be held up in one."""

    def __init__(self, *outcomes: Event) -> None:
        self.due_in_s: float | None = None
        self.turns = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._outcomes = iter(outcomes)

    def turn(self) -> Event:
        self.turns += 1
        self.may_go_on.wait(10)
        return next(self._outcomes, Event.NOTHING)


class Answering:
    """A worker in a thread, with almighty's end of its calls."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.calls, end = calls.pair()
        stop_r, self._stop_w = os.pipe()
        self._thread = threading.Thread(target=calls.answer, args=(worker, end, stop_r))
        self._thread.start()

    def close(self) -> None:
        self.worker.may_go_on.set()
        os.close(self._stop_w)
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def held_up() -> Iterator[Answering]:
    """A worker that is held up in its first turn."""
    worker = Worker()
    worker.may_go_on.clear()
    with closing(Answering(worker)) as answering:
        wait_until(lambda: worker.turns == 1)
        yield answering


def test_calls_during_a_turn_are_one_call(held_up: Answering) -> None:
    for _ in range(1000):
        held_up.calls.call()

    held_up.worker.may_go_on.set()
    outcomes: list[Event] = []
    wait_until(lambda: outcomes.extend(held_up.calls.outcomes()) or len(outcomes) >= 2)

    assert held_up.worker.turns == 2


def test_outcomes_reach_the_one_who_calls() -> None:
    with closing(Answering(Worker(Event.JOBS_TO_KILL))) as answering:
        outcomes = wait_until(answering.calls.outcomes)

    assert outcomes == [Event.JOBS_TO_KILL]


def test_a_worker_whose_next_turn_is_years_away_is_still_called() -> None:
    worker = Worker()
    worker.due_in_s = 10 * 365 * 86_400.0
    with closing(Answering(worker)) as answering:
        wait_until(lambda: worker.turns == 1)
        answering.calls.call()
        wait_until(lambda: worker.turns == 2)


def test_a_worker_that_has_more_to_do_turns_again_by_itself() -> None:
    with closing(Answering(Worker(Event.JOBS_CHANGED, Event.JOBS_CHANGED))) as answering:
        wait_until(lambda: answering.worker.turns == 3)


def test_a_worker_turns_again_when_it_said_so() -> None:
    worker = Worker()
    worker.due_in_s = 0.01
    with closing(Answering(worker)) as answering:
        wait_until(lambda: answering.worker.turns >= 3)
