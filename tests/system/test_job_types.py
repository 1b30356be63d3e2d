"""Job types at work, through oarsub and oarstat on a running instance."""

from __future__ import annotations

import os

from tests.support import invariants
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


def code_of(system: System, job_id: int) -> str | None:
    rows = system.database.execute("SELECT code FROM predictions WHERE job_id = %s", (job_id,))
    return str(rows[0][0]) if rows else None


def test_a_noop_job_runs_nothing_and_holds_what_it_has_for_its_walltime(system: System) -> None:
    idle = system.oarsub("--hold", "-t", "noop", "-l", "/core=4,walltime=0:0:3", "touch ran")
    behind = system.oarsub("--hold", "-l", "/core=1,walltime=0:1", "true")
    # At once, so that the first one has not ended when the other one comes.
    system.run("oarresume", str(idle), str(behind))

    job = system.wait_until_final(idle)

    assert (job.state, job.exit_code, job.end_cause) == ("Terminated", 0, "exit")
    assert not (system.work / "ran").exists()
    assert system.wait_until_final(behind).state == "Terminated"
    apart = (
        "SELECT b.started_at - a.started_at >= interval '3 s' FROM jobs a, jobs b WHERE (a.job_id, b.job_id) = (%s, %s)"
    )
    assert system.database.execute(apart, (idle, behind)) == [(True,)]


def test_a_noop_job_can_be_deleted(system: System) -> None:
    idle = system.oarsub("-t", "noop", "-l", "/core=4,walltime=1", "true")
    system.wait_until_state(idle, "Running")

    system.run("oardel", str(idle))

    assert system.wait_until_final(idle).end_cause == "killed"


def test_a_permissive_job_holds_hosts_in_maintenance(system: System) -> None:
    system.admin("oarnodesetting", "-h", os.uname().nodename, "-s", "Absent")
    normal = system.oarsub("-l", "/core=1,walltime=0:1", "true")

    held = system.oarsub("-t", "noop", "-t", "state=permissive", "-l", "/core=4,walltime=1", "true")

    assert system.wait_until_state(held, "Running").state == "Running"
    wait_until(lambda: code_of(system, normal) == "NOT_USABLE", what="others are told that nothing is in service")
    system.admin("oarnodesetting", "-h", os.uname().nodename, "-s", "Alive")
    wait_until(lambda: code_of(system, normal) == "BUSY", what="and then that it is taken")
    assert system.job(held).state == "Running"


def test_a_standby_job_starts_on_what_is_asleep(system: System) -> None:
    system.database.execute("UPDATE resources SET state = 'Absent', available_upto = now() + interval '1 d'")

    job_id = system.oarsub("-t", "cosystem=standby", "-l", "/core=4,walltime=0:1", "sort -u $OAR_NODEFILE")

    assert system.wait_until_final(job_id).state == "Terminated"
    assert system.read(f"OAR.{job_id}.stdout") == f"{os.uname().nodename}\n"


COUNTED = """
[tokens]
period = "1 s"
settle = "0 s"
scripts = { fluent = "/bin/sh -c 'cat $OARPY_HOME/../free'", stuck = "sleep 1000" }
"""


def test_a_job_waits_for_licences_until_they_are_given_back(database: TestDatabase) -> None:
    with running_system(database, settings=SETTINGS + COUNTED) as system:
        (system.root / "free").write_text("1\n")
        job_id = system.oarsub("-t", "token:fluent=2", "-l", "/core=1,walltime=0:1", "true")
        wait_until(lambda: code_of(system, job_id) == "TOKENS_TAKEN", what="it is told how many there are")
        said = system.run("oarstat", "-f", "-j", str(job_id)).stdout
        assert "why = it needs 2 of the token fluent, and 1 are free" in said
        hopeless = system.oarsub("-t", "token:stuck=1", "-l", "/core=1,walltime=0:1", "true")
        other = system.oarsub("-l", "/core=1,walltime=0:1", "true")
        assert system.wait_until_final(other).state == "Terminated"

        (system.root / "free").write_text("2\n")

        assert system.wait_until_final(job_id).state == "Terminated"
        assert system.job(hopeless).state == "Waiting"
        refused = system.run("oarsub", "-t", "token:matlab=1", "true", check=False)
        assert (refused.returncode, refused.stdout) == (18, "")
        assert "'matlab' is no kind of token of this site; these are: fluent, stuck" in refused.stderr
        assert invariants.broken(database.engine) == []


def test_types_that_contradict_themselves_are_refused_with_a_sentence(system: System) -> None:
    refused = system.run("oarsub", "-t", "state=permissive", "true", check=False)

    assert refused.returncode == 18
    assert refused.stderr.startswith("oarsub: the type state=permissive is for jobs that need nothing of their nodes")


def test_a_job_that_expires_ends_with_its_reason(system: System) -> None:
    full = system.oarsub("-l", "/core=4,walltime=1", "sleep 1000")
    system.wait_until_state(full, "Running")

    late = system.oarsub("-t", "expire=0:0:3", "-l", "/core=1,walltime=0:1", "touch ran")

    job = system.wait_until_final(late)
    assert (job.state, job.end_cause) == ("Error", "expired")
    assert "had not started by" in system.run("oarstat", "-f", "-j", str(late)).stdout
    assert not (system.work / "ran").exists()


def test_a_postponed_job_starts_at_its_date(system: System) -> None:
    job_id = system.oarsub("-t", "postpone=0:0:8", "-l", "/core=1,walltime=0:1", "true")
    wait_until(lambda: code_of(system, job_id) == "NOT_BEFORE", what="it is told that it must not start yet")

    system.wait_until_final(job_id)

    waited = "SELECT started_at - submitted_at >= interval '8 s' FROM jobs WHERE job_id = %s"
    assert system.database.execute(waited, (job_id,)) == [(True,)]


def test_a_date_that_is_none_is_refused_before_it_is_sent(system: System) -> None:
    refused = system.run("oarsub", "-t", "deadline=soon", "true", check=False)

    assert (refused.returncode, refused.stdout) == (18, "")
    assert refused.stderr.startswith("oarsub: 'soon' is neither a date such as")
