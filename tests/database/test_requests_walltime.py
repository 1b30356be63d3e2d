"""oarwalltime's rules: who may ask for how much, and what is done at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from oarpy.settings import Settings, WalltimeChange
from tests.support.postgres import TestDatabase
from tests.support.requests import RUNNING, answered, bring, submitted, with_hosts

HOUR_S = 3600


@pytest.fixture
def job_id(database: TestDatabase) -> int:
    """A running job of alice, of one hour."""
    with_hosts(database)
    return bring(database, submitted(database), *RUNNING)


def asked(database: TestDatabase, job_id: int, *, login: str = "alice", rules: Any = None, **change: Any) -> Any:
    settings = replace(Settings(), walltime_change=rules or WalltimeChange())
    return answered(database, "walltime", {"job_id": job_id} | change, login=login, settings=settings)


def changes(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.execute(
        "SELECT walltime::text, pending::text, granted::text FROM jobs LEFT JOIN walltime_changes USING (job_id)"
    )


def test_without_a_change_the_state_of_things_is_told(database: TestDatabase, job_id: int) -> None:
    answer = asked(database, job_id)

    assert (answer["walltime_s"], answer["possible_s"], answer["granted_s"], answer["pending_s"]) == (
        HOUR_S,
        None,
        0,
        0,
    )
    limited = asked(database, job_id, rules=WalltimeChange(max_increase_percent=50, max_increase=timedelta(hours=3)))
    assert limited["possible_s"] == HOUR_S / 2


def test_more_waits_for_the_scheduler(database: TestDatabase, job_id: int) -> None:
    answer = asked(database, job_id, seconds=HOUR_S, relative=True)

    assert answer["pending_s"] == HOUR_S
    assert changes(database) == [("01:00:00", "01:00:00", "00:00:00")]


def test_a_whole_walltime_is_the_difference_to_the_one_there_is(database: TestDatabase, job_id: int) -> None:
    asked(database, job_id, seconds=2 * HOUR_S)

    assert changes(database) == [("01:00:00", "01:00:00", "00:00:00")]


def test_less_is_done_at_once_and_the_node_is_told(database: TestDatabase, job_id: int) -> None:
    asked(database, job_id, seconds=HOUR_S, relative=True)

    answer = asked(database, job_id, seconds=-1800, relative=True)

    assert answer["walltime_s"] == 1800
    assert changes(database) == [("00:30:00", "00:00:00", "-00:30:00")]
    assert database.execute("SELECT round(extract(epoch FROM planned_end_at - started_at) / 60) FROM jobs") == [(30,)]
    assert database.execute("SELECT kind, walltime::text, done_at FROM orders") == [("walltime", "00:30:00", None)]


def test_zero_withdraws_what_is_pending(database: TestDatabase, job_id: int) -> None:
    asked(database, job_id, seconds=HOUR_S, relative=True)

    assert asked(database, job_id, seconds=0, relative=True)["pending_s"] == 0
    assert changes(database) == [("01:00:00", "00:00:00", "00:00:00")]


@pytest.mark.parametrize(
    ("change", "rules", "login", "status", "sentence"),
    [
        ({"seconds": 60, "relative": True}, {}, "bob", 3, "belongs to alice"),
        ({"seconds": 60, "relative": True}, {"enabled": False}, "alice", 5, "cannot be changed here"),
        ({"seconds": 60, "relative": True}, {"max_increase": timedelta(0)}, "alice", 3, "0:0:0 more at most"),
        ({"seconds": 60, "relative": True}, {"min_walltime": timedelta(hours=2)}, "alice", 3, "0:0:0 more at most"),
        ({"seconds": 1801, "relative": True}, {"max_increase_percent": 50}, "alice", 3, "0:30:0 more at most"),
        ({"seconds": -60, "relative": True}, {"reduction": False}, "alice", 3, "only be prolonged"),
        ({"seconds": -3600, "relative": True}, {}, "alice", 1, "has run for 0:0:"),
        ({"seconds": 60, "relative": True, "force": True}, {}, "alice", 3, "may not use --force"),
        ({"seconds": 60, "relative": True, "delay_next_jobs": True}, {}, "alice", 3, "may not delay"),
        ({"seconds": 0}, {}, "alice", 18, "no time at all"),
        ({"seconds": "x"}, {}, "alice", 18, "is not a number"),
    ],
)
def test_what_is_not_allowed_changes_nothing(
    database: TestDatabase,
    job_id: int,
    change: dict[str, Any],
    rules: dict[str, Any],
    login: str,
    status: int,
    sentence: str,
) -> None:
    answer = asked(database, job_id, login=login, rules=WalltimeChange(**rules), **change)

    assert (answer["ok"], answer["exit_status"]) == (False, status)
    assert sentence in answer["message"]
    assert changes(database) == [("01:00:00", None, None)]


def test_administrators_and_those_who_are_named_may(database: TestDatabase, job_id: int) -> None:
    rules = WalltimeChange(max_increase=timedelta(0), users_to_force="carol alice")

    assert asked(database, job_id, login="root", rules=rules, seconds=60, relative=True, delay_next_jobs=True)["ok"]
    rules = replace(rules, max_increase=None)
    assert asked(database, job_id, rules=rules, seconds=60, relative=True, force=True)["ok"]


@pytest.mark.parametrize(("states", "status"), [((), 1), (RUNNING[:2], 1)])
def test_only_running_jobs_have_a_walltime_to_change(
    database: TestDatabase, states: tuple[str, ...], status: int
) -> None:
    with_hosts(database)
    waiting = bring(database, submitted(database), *states)

    assert asked(database, waiting, seconds=60, relative=True)["exit_status"] == status
    assert asked(database, waiting + 1, seconds=60, relative=True)["exit_status"] == 4


def test_a_queue_may_have_rules_of_its_own(database: TestDatabase, job_id: int) -> None:
    rules = WalltimeChange(queues={"default": WalltimeChange(max_increase=timedelta(minutes=10))})

    assert asked(database, job_id, rules=rules)["possible_s"] == 600
    others = WalltimeChange(queues={"night": WalltimeChange(max_increase=timedelta(minutes=10))})
    assert asked(database, job_id, rules=others)["possible_s"] is None
