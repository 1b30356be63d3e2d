"""Quotas, through ``oarpy quotas``, psql, ``oarsub`` and ``oarstat``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from oarpy.client.constraints import in_words
from tests.support import invariants
from tests.support.commands import Commands
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestDatabase, TestServer
from tests.support.waiting import wait_until

EXAMPLE = {
    "quotas": {"*,*,*,/": ["0.5*ALL", 20, -1], "nowhere,*,*,john": [-1, -1, 100.5]},
    "night": {"*,*,*,/": [-1, 40, -1]},
    "periodical": [["19:00-08:00 mon-fri 1-15 *", "night", "nights"]],
    "oneshot": [["2026-07-01 00:00", "2026-07-10 08:30", "night", "holidays"]],
}
MOST_AT_ONCE = """
    SELECT max((SELECT count(*) FROM allocations b WHERE b.held @> lower(a.held))) FROM allocations a
"""


@pytest.fixture
def quick(postgres: TestServer) -> Iterator[System]:
    """A system that plans to the second."""
    settings = SETTINGS + '[scheduler]\ngrid = "1 s"\nsecurity = "1 s"\n'
    with postgres.database() as database, running_system(database, settings=settings) as system:
        yield system
        assert invariants.broken(database.engine) == []


def running(system: System) -> int:
    ((count,),) = system.database.execute("SELECT count(*) FROM jobs WHERE state = 'Running'")
    return int(str(count))


def reason(system: System, job_id: int) -> str:
    return str(json.loads(system.run("oarstat", "-fj", str(job_id), "-J").stdout)[str(job_id)].get("why"))


def test_a_user_never_has_more_jobs_running_than_allowed(quick: System) -> None:
    quick.database.execute("INSERT INTO quotas (job_user, running_jobs) VALUES ('/', 2)")

    jobs = quick.oarsub_array("--array", "5", "-l", "resource_id=1,walltime=0:1", "sleep 0.5")

    quick.wait_until_all_final(jobs)
    assert quick.database.execute(MOST_AT_ONCE) == [(2,)]


def test_the_reason_is_told_and_at_night_more_is_allowed(quick: System) -> None:
    quick.database.execute("INSERT INTO quotas (job_user, running_jobs) VALUES ('/', 2)")
    jobs = quick.oarsub_array("--array", "5", "-l", "resource_id=1,walltime=0:10", "sleep 600")
    wait_until(lambda: running(quick) == 2, what="two run")

    said = wait_until(lambda: "quota" in (found := reason(quick, jobs[4])) and found, what="the reason is told")

    assert said == "quota *,*,*,/ allows 2 running jobs at once; 2 are in use and it needs 1" or "are promised" in said
    first = "quota *,*,*,/ allows 2 running jobs at once; 2 are in use and it needs 1"
    wait_until(lambda: reason(quick, jobs[2]) == first, what="that of the first one names those that run")
    quick.database.execute("INSERT INTO quotas (ruleset, job_user, running_jobs) VALUES ('night', '/', 3)")
    quick.database.execute(
        "INSERT INTO quota_periods (ruleset, begins_at, ends_at) VALUES ('night', now() + '3 s', now() + '1 day')"
    )
    wait_until(lambda: running(quick) == 3, what="at night three run")
    early = "SELECT count(*) FROM jobs, quota_periods WHERE started_at < begins_at"
    assert quick.database.execute(early) == [(2,)]
    for job_id in jobs:
        quick.run("oardel", str(job_id))
    quick.wait_until_all_final(jobs)


def test_a_job_beyond_its_quota_is_told_so_and_starts_when_the_quota_is_raised(quick: System) -> None:
    quick.database.execute("INSERT INTO quotas (project, resources) VALUES ('wing', 1)")

    job_id = quick.oarsub("--project", "wing", "-l", "resource_id=2,walltime=0:1", "true")

    wait_until(
        lambda: reason(quick, job_id) == "quota *,wing,*,* allows 1 resources at once, and it needs 2 by itself",
        what="the reason is told",
    )
    quick.database.execute("UPDATE quotas SET resources = 'ALL'")
    quick.wait_until_final(job_id)


def test_a_dry_run_and_an_inquiry_know_the_quota(quick: System) -> None:
    quick.database.execute("INSERT INTO quotas (job_user, running_jobs) VALUES ('/', 1)")
    first, second = quick.oarsub_array("--array", "2", "-l", "resource_id=1,walltime=0:10", "sleep 600")
    quick.wait_until_state(first, "Running")

    dry = quick.run("oarsub", "--dry-run", "-l", "resource_id=1,walltime=0:10", "true").stdout
    why = quick.run("oarstat", "--why", str(second)).stdout

    assert "quota *,*,*,/ allows 1 running jobs at once" in dry
    assert "quota *,*,*,/ allows 1 running jobs at once; 1 are in use and it needs 1" in why
    quick.run("oardel", str(second), str(first))
    quick.wait_until_all_final([first, second])


def test_who_asks_for_no_quotas_is_refused(system: System) -> None:
    done = system.run("oarsub", "-t", "no_quotas", "true", check=False)

    assert done.returncode == 254
    assert "the type no_quotas is for jobs of the queue admin" in done.stderr


def test_a_file_of_oar_3_is_loaded_and_shown(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "quotas.json").write_text(json.dumps(EXAMPLE))

    done = commands.run("oarpy", "quotas", "load", "quotas.json")

    assert (done.returncode, done.stdout) == (0, "3 rule(s), 2 period(s)\n")
    assert done.stderr == "# there is no queue 'nowhere', which a rule names\n"
    assert commands.run("oarpy", "quotas", "show").stdout.splitlines() == [
        "default      *,*,*,/                        0.5*ALL resources, 20 running jobs",
        "default      nowhere,*,*,john               100.5 resource-hours",
        "night        *,*,*,/                        40 running jobs",
        "night        2026-07-01 00:00 to 2026-07-10 08:30 holidays",
        "night        19:00-08:00 mon-fri 1-15 *     nights",
    ]
    shown = json.loads(commands.run("oarpy", "quotas", "show", "--json").stdout)
    assert shown == EXAMPLE


def test_what_is_loaded_replaces_all_and_clear_removes_all(commands: Commands, tmp_path: Path) -> None:
    for document in (EXAMPLE, {"quotas": {"*,*,*,*": [1, 2, 3]}}):
        (tmp_path / "quotas.json").write_text(json.dumps(document))
        assert commands.run("oarpy", "quotas", "load", "quotas.json").returncode == 0

    shown = commands.run("oarpy", "quotas", "show", "-J").stdout
    cleared = commands.run("oarpy", "quotas", "clear")

    assert json.loads(shown) == {"quotas": {"*,*,*,*": [1, 2, 3]}}
    assert (cleared.returncode, commands.run("oarpy", "quotas", "show").stdout) == (0, "")


def test_a_file_with_mistakes_changes_nothing(commands: Commands, database: TestDatabase, tmp_path: Path) -> None:
    database.execute("INSERT INTO quotas (running_jobs) VALUES (7)")
    (tmp_path / "quotas.json").write_text(
        json.dumps({"quotas": {"*,*,*": [1, 1, 1], "*,*,*,*": [1, 1, "x"]}, "periodical": [["* * * *", "night"]]})
    )

    done = commands.run("oarpy", "quotas", "load", "quotas.json")

    assert done.returncode == 18
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        'oarpy: quotas.json: quotas["*,*,*"]: a rule is called queue,project,type,user',
        "oarpy: quotas.json: quotas[\"*,*,*,*\"][2]: 'x' is no number of resource-hours; "
        "write it as 10.5, ALL or 0.5*ALL",
        "oarpy: quotas.json: periodical[0]: there is no set of rules called 'night' in the file",
        "oarpy: quotas.json has 3 mistake(s); no quota was changed",
    ]
    assert database.execute("SELECT running_jobs FROM quotas") == [("7",)]


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"\x00"])
def test_a_file_that_cannot_be_read_is_said_to_be_so(commands: Commands, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "quotas.json").write_bytes(content)

    done = commands.run("oarpy", "quotas", "load", "quotas.json")

    assert done.returncode in (1, 18)
    assert done.stderr.startswith("oarpy: quotas.json")
    assert "Traceback" not in done.stderr


def test_a_period_without_rules_is_marked(commands: Commands, database: TestDatabase) -> None:
    database.execute("INSERT INTO quota_periods (ruleset, weekdays) VALUES ('nihgt', 'sat')")

    shown = commands.run("oarpy", "quotas", "show").stdout

    assert shown == "nihgt        * sat * *  (has no rules: nothing is limited)\n"


def test_the_constraints_have_their_words(database: TestDatabase) -> None:
    found = database.execute(
        "SELECT conname FROM pg_constraint WHERE contype IN ('c', 'u')"
        " AND conrelid = ANY ('{oar.quotas,oar.quota_periods}'::regclass[])"
    )

    assert [name for (name,) in found if in_words("23514", SimpleNamespace(constraint_name=name)) is None] == []
