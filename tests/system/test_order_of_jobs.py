"""Whose job is next: through oarsub, oarqueue and oarstat on a running instance."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support import accounts, invariants
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: The directory of the jobs is not everybody's to write to.
EVERYTHING = ("-l", "/core=2,walltime=0:10:0", "-O", "/dev/null", "-E", "/dev/null")


@pytest.fixture
def system(database: TestDatabase) -> Iterator[System]:
    settings = f'{SETTINGS}[scheduler]\njobs_per_user = 2\n[fairshare]\nrefresh = "1 s"\n'
    with running_system(database, slots=2, settings=settings) as system:
        yield system
        assert invariants.broken(database.engine) == []


def detail(system: System, job_id: int, key: str) -> object:
    return json.loads(system.run("oarstat", "-J", "-j", str(job_id)).stdout)[str(job_id)][key]


def wait_until_said(system: System, job_id: int, words: str, key: str = "message") -> None:
    wait_until(lambda: words in str(detail(system, job_id, key)), timeout_s=60, what=f"{words} of job {job_id}")


def who_started_first(system: System, *job_ids: int) -> int:
    system.wait_until_all_final(job_ids)
    assert {system.job(job_id).state for job_id in job_ids} == {"Terminated"}
    rows = system.database.execute(
        "SELECT job_id FROM jobs WHERE job_id = ANY(%s) ORDER BY started_at LIMIT 1", (list(job_ids),)
    )
    return int(str(rows[0][0]))


def test_who_used_much_yesterday_yields_to_who_used_little(system: System) -> None:
    bob = accounts.account(accounts.BOB)
    system.admin("oarqueue", "--ordering", "default,fairshare")
    system.database.execute(
        "INSERT INTO accounting SELECT now() - interval '2 d', now() - interval '1 d', %s, 'default', 'default', kind,"
        " 10000000 FROM unnest(enum_range(NULL::consumption_type)) AS kind",
        (system.user.pw_name,),
    )
    running = system.oarsub(*EVERYTHING, "sleep 600", user=bob)
    system.wait_until_state(running, "Running")
    first = system.oarsub(*EVERYTHING, "true")
    second = system.oarsub(*EVERYTHING, "true", user=bob)
    wait_until_said(system, first, "(Karma=3.000)")
    wait_until_said(system, second, "(Karma=0.00")

    system.run("oardel", str(running), user=bob)

    assert who_started_first(system, first, second) == second
    assert str(detail(system, first, "message")).endswith(")")
    assert 2.9 < float(str(detail(system, first, "last_karma"))) <= 3


def test_who_runs_now_yields_to_who_used_nothing(system: System) -> None:
    bob = accounts.account(accounts.BOB)
    system.admin("oarqueue", "--ordering", "default,fairshare")
    running = system.oarsub(*EVERYTHING, "sleep 600")
    system.wait_until_state(running, "Running")
    first = system.oarsub(*EVERYTHING, "true")
    second = system.oarsub(*EVERYTHING, "true", user=bob)
    wait_until_said(system, first, "(Karma=3.000)")
    wait_until_said(system, second, "(Karma=0.000)")
    wait_until(
        lambda: int(str(detail(system, second, "scheduledStart"))) < int(str(detail(system, first, "scheduledStart"))),
        what="the second is planned before the first",
    )

    system.run("oardel", str(running))

    assert who_started_first(system, first, second) == second


def test_what_ended_jobs_used_stands_in_accounting(system: System) -> None:
    job_id = system.oarsub(*EVERYTHING, "sleep 1.5")
    system.wait_until_final(job_id)

    wait_until(lambda: system.database.execute("SELECT 1 FROM accounting"), what="accounting")

    rows = system.database.execute(
        "SELECT accounting_user, consumption_type::text, sum(consumption)::integer FROM accounting GROUP BY 1, 2"
    )
    sums = {(user, kind): amount for user, kind, amount in rows}
    assert sums[system.user.pw_name, "ASKED"] == 2 * 600
    assert 2 <= int(str(sums[system.user.pw_name, "USED"])) <= 2 * 10


def test_a_nice_job_lets_others_go_first_and_nobody_gives_themselves_a_quality_of_service(system: System) -> None:
    system.admin("oarqueue", "--ordering", "default,multifactor")
    running = system.oarsub(*EVERYTHING, "sleep 600")
    system.wait_until_state(running, "Running")
    first = system.oarsub(*EVERYTHING, "-t", "nice=50", "true")
    second = system.oarsub(*EVERYTHING, "true")
    refused = system.run("oarsub", "-t", "qos=9", "true", check=False)

    system.run("oardel", str(running))

    assert (refused.returncode, refused.stdout) == (18, "")
    assert "the type 'qos=9' is given by the site's rules, not by users" in refused.stderr.replace('"', "'")
    assert who_started_first(system, first, second) == second


def test_a_users_jobs_beyond_the_limit_are_told_so_and_come_up(system: System) -> None:
    running, *waiting = (system.oarsub(*EVERYTHING, f"sleep {seconds}") for seconds in (600, 0, 0, 0))
    wait_until_said(system, waiting[2], "its turn comes when one of its user's 2 waiting jobs before it", "why")
    assert detail(system, waiting[1], "scheduledStart") is not None
    assert detail(system, waiting[2], "scheduledStart") is None

    system.run("oardel", str(running))

    system.wait_until_all_final(waiting)
    assert {system.job(job_id).state for job_id in waiting} == {"Terminated"}


def test_a_queue_has_the_ordering_that_was_chosen_and_refuses_what_is_none(system: System) -> None:
    system.admin("oarqueue", "--ordering", "default,fairshare")
    wrong = [
        system.admin("oarqueue", "--ordering", each, check=False)
        for each in ("default,karma", "default", "nosuch,fifo")
    ]

    assert json.loads(system.run("oarqueue", "-J").stdout)["default"]["ordering"] == "fairshare"
    assert "policy = conservative\nordering = fairshare\nreplan = earlier\nActive" in system.run("oarqueue").stdout
    assert [done.returncode for done in wrong] == [1, 1, 1]
    assert [done.stderr.count("\n") for done in wrong] == [1, 1, 1]
    assert "known are fifo, fairshare, multifactor" in wrong[0].stderr


def test_oarstat_shows_the_priority_of_a_job_that_waits(system: System) -> None:
    system.admin("oarqueue", "--ordering", "default,multifactor")
    running = system.oarsub(*EVERYTHING, "sleep 600")
    system.wait_until_state(running, "Running")
    waiting = system.oarsub(*EVERYTHING, "true")
    wait_until(lambda: detail(system, waiting, "priority") is not None, timeout_s=60, what="its priority is told")

    assert "    priority = " in system.run("oarstat", "-f", "-j", str(waiting)).stdout
    assert "    priority = " not in system.run("oarstat", "-f", "-j", str(running)).stdout
    assert detail(system, running, "priority") is None


def test_what_a_job_was_told_moves_only_earlier_when_another_ends_early(system: System) -> None:
    system.admin("oarqueue", "--replan", "default,earlier")
    going = system.oarsub("-l", "/core=1,walltime=0:30", *EVERYTHING[2:], "until [ -e go ]; do sleep 0.05; done")
    staying = system.oarsub("-l", "/core=1,walltime=0:10", *EVERYTHING[2:], "sleep 600")
    system.wait_until_state(going, "Running")
    system.wait_until_state(staying, "Running")
    wide = system.oarsub("-l", "/core=2,walltime=0:20", *EVERYTHING[2:], "true")
    narrow = system.oarsub("-l", "/core=1,walltime=0:40", *EVERYTHING[2:], "true")
    told = {job_id: predicted(system, job_id) for job_id in (wide, narrow)}

    (system.work / "go").touch()
    system.wait_until_final(going)
    wait_until(
        lambda: told[wide] - predicted(system, wide) > 15 * 60,
        timeout_s=60,
        what="the wide job is told an earlier start",
    )

    wait_until(
        lambda: told[narrow] - predicted(system, narrow) > 15 * 60, timeout_s=60, what="the narrow one follows it"
    )
    said = system.database.execute("SELECT job_id, start_at FROM prediction_log ORDER BY job_id, said_at")
    for job_id in (wide, narrow):
        starts = [start for whose, start in said if whose == job_id]
        assert starts == sorted(starts, reverse=True)


def predicted(system: System, job_id: int) -> int:
    """The planned start, once there is one."""
    found: list[tuple[object, ...]] = wait_until(
        lambda: system.database.execute(
            "SELECT extract(epoch FROM start_at)::bigint FROM predictions WHERE job_id = %s AND start_at IS NOT NULL",
            (job_id,),
        ),
        timeout_s=60,
        what=f"job {job_id} has a planned start",
    )
    return int(str(found[0][0]))
