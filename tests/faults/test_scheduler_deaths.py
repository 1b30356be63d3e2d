"""The scheduler dies in the middle of a pass, again and again, and every job runs once all the same."""

from __future__ import annotations

import pytest

from oarpy.modules.context import DIES_AT
from tests.support import invariants
from tests.support.instance import System
from tests.support.waiting import wait_until

ONCE = 'echo once >> "ran.$OAR_JOB_ID"; '


def deaths(system: System) -> int:
    """How often the scheduler has been started again."""
    found = system.database.execute("SELECT restarts FROM processes WHERE name = 'scheduler'")
    return int(str(found[0][0])) if found else 0


def in_state(system: System, state: str) -> list[int]:
    found = system.database.execute("SELECT job_id FROM jobs WHERE state = %s ORDER BY job_id", [state])
    return [int(str(job_id)) for (job_id,) in found]


@pytest.fixture
def dying(system: System, request: pytest.FixtureRequest) -> System:
    """A system whose scheduler dies whenever it reaches the point that the test names."""
    system.stop()
    system.environment[DIES_AT] = request.param
    system.start()
    return system


@pytest.mark.parametrize("dying", ["scheduler: decided"], indirect=True)
def test_a_scheduler_that_dies_before_it_writes_has_done_nothing(dying: System) -> None:
    jobs = dying.oarsub_array("--array", "6", ONCE)
    before = deaths(dying)

    wait_until(lambda: deaths(dying) > before + 1, timeout_s=20, what="passes have died")

    assert in_state(dying, "Waiting") == jobs
    assert dying.database.execute("SELECT count(*) FROM allocations") == [(0,)]
    assert invariants.broken(dying.database.engine) == []


@pytest.mark.parametrize("dying", ["scheduler: written"], indirect=True)
def test_what_a_scheduler_wrote_before_it_died_holds(dying: System) -> None:
    jobs = dying.oarsub_array("--array", "4", ONCE + "exit $OAR_ARRAY_INDEX")

    dying.wait_until_all_final(jobs)

    assert deaths(dying) > 0
    assert [dying.job(job).exit_code for job in jobs] == [number << 8 for number in range(1, 5)]
    assert [dying.read(f"ran.{job}") for job in jobs] == ["once\n"] * 4


@pytest.mark.parametrize("dying", ["scheduler: decided", "scheduler: written"], indirect=True)
def test_the_next_scheduler_goes_on_where_the_dead_one_stopped(dying: System) -> None:
    jobs = [dying.oarsub(ONCE + f"sleep 0.3; exit {number}") for number in range(1, 7)]
    modest = dying.oarsub("-t", "besteffort", ONCE)
    wait_until(lambda: deaths(dying) > 0, timeout_s=20, what="the scheduler has died")
    dying.kill()

    del dying.environment[DIES_AT]
    dying.start()

    dying.wait_until_all_final([*jobs, modest])
    ends = [dying.job(job) for job in jobs]
    assert [(end.state, end.exit_code) for end in ends] == [("Terminated", number << 8) for number in range(1, 7)]
    assert [dying.read(f"ran.{job}") for job in (*jobs, modest)] == ["once\n"] * 7
