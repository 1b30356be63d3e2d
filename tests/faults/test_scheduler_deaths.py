"""The scheduler dies in the middle of a pass, again and again, and every job runs once all the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from oarpy.modules.context import DIES_AT
from tests.support import invariants
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
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

    wait_until(lambda: deaths(dying) > before + 1, what="passes have died")

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
    wait_until(lambda: deaths(dying) > 0, what="the scheduler has died")
    dying.kill()

    del dying.environment[DIES_AT]
    dying.start()

    dying.wait_until_all_final([*jobs, modest])
    ends = [dying.job(job) for job in jobs]
    assert [(end.state, end.exit_code) for end in ends] == [("Terminated", number << 8) for number in range(1, 7)]
    assert [dying.read(f"ran.{job}") for job in (*jobs, modest)] == ["once\n"] * 7


POINTS = pytest.mark.parametrize("point", ["scheduler: decided", "scheduler: written"])
#: Until somebody writes the file go.
WORK = ONCE + "while ! test -e go; do echo >> beats; sleep 0.1; done"


@pytest.fixture
def fine(database: TestDatabase) -> Iterator[System]:
    """A system that plans to the second, whose users may suspend their jobs."""
    # Deaths that follow one another soon however many there were.
    often = SETTINGS.replace('restart_delay = "50 ms"', 'restart_delay = "50 ms"\nrestart_delay_max = "2 s"')
    settings = often + '[scheduler]\ngrid = "1 s"\nsecurity = "1 s"\n[jobs]\nusers_may_suspend = true\n'
    with running_system(database, settings=settings) as system:
        yield system
        assert invariants.broken(database.engine) == []


def mortal(system: System, point: str) -> int:
    """Let its scheduler die from now on whenever it comes to this point; how often it has died before."""
    system.stop()
    system.environment[DIES_AT] = point
    system.start()
    return deaths(system)


def immortal(system: System) -> None:
    system.kill()
    del system.environment[DIES_AT]
    system.start()


def beats(system: System) -> int:
    path = system.work / "beats"
    return len(path.read_text()) if path.exists() else 0


@POINTS
def test_a_suspended_job_goes_on_once_when_the_scheduler_dies_over_it(fine: System, point: str) -> None:
    job = fine.oarsub("-l", "/core=2,walltime=1", WORK)
    wait_until(lambda: beats(fine) > 0, what="it works")
    fine.run("oarhold", "-r", str(job))
    fine.wait_until_state(job, "Suspended")
    before = mortal(fine, point)
    stood_at = beats(fine)

    fine.run("oarresume", str(job))

    wait_until(lambda: deaths(fine) > before, what="the scheduler has died")
    if point == "scheduler: decided":
        assert (fine.job(job).state, beats(fine)) == ("Resuming", stood_at)
    immortal(fine)
    wait_until(lambda: beats(fine) > stood_at, what="it works again")
    (fine.work / "go").touch()
    assert fine.wait_until_final(job).state == "Terminated"
    assert fine.read(f"ran.{job}") == "once\n"
    assert fine.database.execute("SELECT count(*) FROM orders WHERE job_id = %s AND kind = 'resume'", (job,)) == [(1,)]


@POINTS
def test_a_reservation_starts_once_when_the_scheduler_dies_over_it(fine: System, point: str) -> None:
    ((now,),) = fine.database.execute("SELECT date_trunc('second', now())")
    assert isinstance(now, datetime)
    # The scheduler has to be a mortal one by then.
    start = now + timedelta(seconds=25)
    date = start.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    job = fine.oarsub("-r", date, "-l", "/core=4,walltime=0:5", WORK)
    other = fine.oarsub("-l", "/core=4,walltime=0:1", ONCE)
    before = mortal(fine, point)

    wait_until(lambda: fine.database.execute("SELECT now() > %s", (start,)) == [(True,)], what="its date has come")
    if point == "scheduler: decided":
        dead = deaths(fine)
        wait_until(lambda: deaths(fine) > dead, what="passes after its date have died")
        assert fine.job(job).state == "Waiting"
    else:
        wait_until(lambda: fine.job(job).state != "Waiting", what="its start was written")
        wait_until(lambda: deaths(fine) > before, what="the scheduler has died")
    immortal(fine)

    wait_until(lambda: beats(fine) > 0, what="it works")
    (fine.work / "go").touch()
    assert fine.wait_until_final(job).state == "Terminated"
    assert fine.wait_until_final(other).state == "Terminated"
    assert [fine.read(f"ran.{one}") for one in (job, other)] == ["once\n"] * 2
    assert fine.database.execute("SELECT count(*) FROM allocations WHERE job_id = %s", (job,)) == [(1,)]
    assert fine.database.execute("SELECT count(*) FROM reservations") == [(0,)]
