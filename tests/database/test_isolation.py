"""A job that makes the core fail harms no other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from oarpy.modules.context import Context
from oarpy.modules.scheduler import ASIDE_S, Scheduler
from oarpy.scheduling.decide import Pass
from oarpy.scheduling.demand import Demand
from oarpy.scheduling.gantt import Gantt
from oarpy.settings import Settings
from tests.database.test_scheduler_pass import predictions, state, submit, with_hosts
from tests.support.postgres import TestDatabase

#: The walltime by which the failure knows its job.
FATAL_S = 1234


def failing_search(monkeypatch: pytest.MonkeyPatch) -> None:
    earliest = Gantt.earliest

    def search(self: Gantt, demand: Demand, length_s: int, *others: Any) -> Any:
        if demand.walltime_s == FATAL_S:
            raise ZeroDivisionError("injected into the search")
        return earliest(self, demand, length_s, *others)

    monkeypatch.setattr(Gantt, "earliest", search)


def failing_end(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = Pass._settle

    def settled(self: Pass, scope: Any, job: Any, choice: Any, why: Any) -> Any:
        if choice.demand.walltime_s == FATAL_S:
            raise KeyError("injected into the last step")
        return settle(self, scope, job, choice, why)

    monkeypatch.setattr(Pass, "_settle", settled)


@pytest.mark.parametrize("inject", [failing_search, failing_end])
def test_the_others_are_scheduled_in_the_same_pass(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, inject: Any
) -> None:
    ctx = Context(database.engine, Settings())
    with_hosts(ctx, 1, 2)
    (before,) = submit(ctx, "resource_id=1", walltime_s=600)
    (fatal,) = submit(ctx, "resource_id=1", walltime_s=FATAL_S)
    (after,) = submit(ctx, "resource_id=1", walltime_s=600)
    (behind,) = submit(ctx, "resource_id=2", walltime_s=600)
    inject(monkeypatch)

    Scheduler(ctx).turn()

    assert [state(database, job) for job in (before, fatal, after, behind)] == [
        "toLaunch",
        "Waiting",
        "toLaunch",
        "Waiting",
    ]
    assert {job: columns[:2] for job, columns in predictions(database).items()} == {
        fatal: ["SET_ASIDE", False],  # type: ignore[index]
        behind: ["BUSY", True],
    }
    ((kind, job_id, description),) = database.execute("SELECT type, job_id, description FROM events")
    assert (kind, job_id) == ("SCHEDULER_JOB_SET_ASIDE", fatal)
    assert str(description).startswith("Traceback (most recent call last):\n")
    assert "in _decide" in str(description)
    assert "injected into" in str(description)


def test_it_is_left_alone_for_a_while_and_then_tried_again(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = Context(database.engine, Settings())
    with_hosts(ctx, 1, 1)
    (fatal,) = submit(ctx, walltime_s=FATAL_S)
    clock = 1000.0
    monkeypatch.setattr("oarpy.modules.scheduler.time.monotonic", lambda: clock)
    running = Scheduler(ctx)
    with monkeypatch.context() as broken:
        failing_search(broken)
        running.turn()
        running.turn()
    assert database.execute("SELECT count(*) FROM events") == [(1,)]
    assert state(database, fatal) == "Waiting"

    clock += timedelta(seconds=ASIDE_S).total_seconds() + 1
    running.turn()

    assert state(database, fatal) == "toLaunch"
