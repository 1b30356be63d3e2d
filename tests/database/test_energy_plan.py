"""What the scheduler writes of hosts that may sleep and hosts that must wake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from oarpy.database import energy
from oarpy.model.states import JobId, JobState
from oarpy.modules.context import Context
from oarpy.modules.scheduler import Scheduler
from oarpy.scheduling.plan import Energy, Idle, Wake
from oarpy.settings import Energy as EnergySettings
from oarpy.settings import Settings
from tests.database.test_scheduler_pass import submit
from tests.support import invariants, rows
from tests.support.postgres import TestDatabase

TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture
def ctx(database: TestDatabase) -> Iterator[Context]:
    yield Context(database.engine, Settings(energy=EnergySettings(enabled=True)))
    assert invariants.broken(database.engine) == []


def with_hosts(ctx: Context, *states: str) -> None:
    with ctx.transaction() as conn:
        for number, state in enumerate(states, 1):
            rows.resources(conn, f"h{number}", state=state)
        conn.execute(text("UPDATE resources SET available_upto = now() + interval '30 d'"))


def written(database: TestDatabase) -> list[tuple[object, ...]]:
    return database.execute("SELECT network_address, wish::text, job_id FROM energy_plan ORDER BY network_address")


def in_minutes(database: TestDatabase, minutes: int) -> int:
    ((found,),) = database.execute("SELECT extract(epoch FROM now() + %s)::bigint", [timedelta(minutes=minutes)])
    return int(str(found))


def write(ctx: Context, *said: Idle | Wake) -> None:
    idle = tuple(one for one in said if isinstance(one, Idle))
    wakes = tuple(one for one in said if isinstance(one, Wake))
    with ctx.transaction() as conn:
        energy.write(conn, Energy(idle, wakes), idle=TEN_MINUTES, least=TEN_MINUTES)


def test_a_pass_tells_who_may_sleep_and_who_must_wake(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, "Alive", "Alive", "Absent")
    (running,) = submit(ctx)
    with ctx.transaction() as conn:
        rows.brought(conn, [running], JobState.RUNNING)
    (waiting,) = submit(ctx, "network_address=3")

    Scheduler(ctx).turn()

    assert written(database) == [("h2", "sleep", None), ("h3", "wake", waiting)]


def test_what_has_not_changed_is_not_written_again(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, "Alive", "Absent")
    submit(ctx, "network_address=2")
    Scheduler(ctx).turn()
    before = database.execute("SELECT ctid::text, xmin::text FROM energy_plan ORDER BY network_address")

    Scheduler(ctx).turn()

    assert len(before) == 2
    again = database.execute("SELECT ctid::text, xmin::text FROM energy_plan ORDER BY network_address")
    assert again[1] == before[1]


def test_a_host_may_sleep_when_it_has_been_idle_for_long_and_will_be(ctx: Context, database: TestDatabase) -> None:
    soon, later = in_minutes(database, 19), in_minutes(database, 21)

    write(ctx, Idle("h1", None), Idle("h2", soon), Idle("h3", later))

    assert database.execute("SELECT network_address, sleep_from - since FROM energy_plan ORDER BY 1") == [
        ("h1", TEN_MINUTES),
        ("h2", None),
        ("h3", TEN_MINUTES),
    ]


def test_a_host_that_changes_its_part_begins_anew(ctx: Context, database: TestDatabase) -> None:
    write(ctx, Idle("h1", None))
    database.execute("UPDATE energy_plan SET since = since - interval '1 h', sleep_from = sleep_from - interval '1 h'")
    write(ctx, Idle("h1", in_minutes(database, 500)))
    assert database.execute("SELECT now() - since > interval '59 min' FROM energy_plan") == [(True,)]

    write(ctx, Wake("h1", None, JobId(7)))

    assert database.execute("SELECT wish::text, job_id, sleep_from, now() - since < '1 min' FROM energy_plan") == [
        ("wake", 7, None, True)
    ]
    write(ctx)
    assert written(database) == []


def test_without_the_setting_nothing_is_said(ctx: Context, database: TestDatabase) -> None:
    with_hosts(ctx, "Alive")
    Scheduler(ctx).turn()
    assert len(written(database)) == 1

    Scheduler(replace(ctx, settings=Settings())).turn()

    assert written(database) == []
