"""Besteffort jobs give way: the signal first, then the kill, then a copy; on a running instance."""

from __future__ import annotations

from tests.support import invariants
from tests.support.instance import SETTINGS, System, running_system
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


def events_of(system: System, job_id: int) -> list[object]:
    found = system.database.execute("SELECT type FROM events WHERE job_id = %s ORDER BY event_id", (job_id,))
    return [name for (name,) in found]


def copies_of(system: System, job_id: int) -> list[object]:
    return [
        copy for (copy,) in system.database.execute("SELECT job_id FROM jobs WHERE resubmit_job_id = %s", (job_id,))
    ]


def test_a_besteffort_job_is_killed_for_a_normal_one_and_submitted_again_once(system: System) -> None:
    guest = system.oarsub("-t", "besteffort", "-t", "idempotent", "-l", "/core=4,walltime=1", "sleep 1000")
    system.wait_until_state(guest, "Running")

    owner = system.oarsub("-l", "/core=1,walltime=0:1", "true")

    assert system.wait_until_final(owner).state == "Terminated"
    assert system.wait_until_final(guest).end_cause == "besteffort"
    wait_until(lambda: copies_of(system, guest), what="the copy is there")
    (copy,) = copies_of(system, guest)
    system.wait_until_state(int(str(copy)), "Running")
    said = system.run("oarstat", "-f", "-j", str(copy)).stdout
    assert f"resubmit_job_id = {guest}" in said


def test_the_checkpoint_signal_comes_before_the_kill(system: System) -> None:
    saves = "trap 'echo saved >> told' USR1; trap 'echo killed >> told; exit 1' TERM; touch ready; "
    saves += "while :; do sleep 0.1; done"
    guest = system.oarsub(
        *("-t", "besteffort", "--checkpoint", "3", "--signal", "USR1", "-l", "/core=4,walltime=1"), saves
    )
    system.wait_until_state(guest, "Running")
    wait_until(lambda: (system.work / "ready").exists(), what="it listens")

    owner = system.oarsub("-l", "/core=4,walltime=0:1", "true")

    assert system.wait_until_final(owner, timeout_s=30).state == "Terminated"
    assert system.wait_until_final(guest).end_cause == "besteffort"
    assert system.read("told") == "saved\nkilled\n"
    apart = """
        SELECT min(k.asked_at) - min(c.asked_at) >= interval '3 s' FROM orders k JOIN orders c USING (job_id)
        WHERE job_id = %s AND k.kind = 'kill' AND c.kind = 'checkpoint'
    """
    assert system.database.execute(apart, (guest,)) == [(True,)]
    told = events_of(system, guest)
    assert told.index("CHECKPOINT") < told.index("SEND_KILL_JOB")


def test_for_a_planned_start_it_is_killed_shortly_before(database: TestDatabase) -> None:
    to_the_second = SETTINGS + '[scheduler]\ngrid = "1 s"\nsecurity = "1 s"\n'
    with running_system(database, settings=to_the_second) as system:
        first = system.oarsub("-l", "/core=1,walltime=0:0:12", "sleep 11")
        guest = system.oarsub("-t", "besteffort", "-l", "/core=3,walltime=1", "sleep 1000")
        system.wait_until_state(first, "Running")
        system.wait_until_state(guest, "Running")

        second = system.oarsub("-l", "/core=4,walltime=0:1", "true")

        assert system.wait_until_final(second, timeout_s=40).state == "Terminated"
        assert system.job(guest).end_cause == "besteffort"
        left = database.execute(
            "SELECT planned_end_at - asked_at < interval '4 s' FROM jobs, frag_jobs f"
            " WHERE jobs.job_id = %s AND f.job_id = %s",
            (first, guest),
        )
        assert left == [(True,)]
        assert invariants.broken(database.engine) == []


def test_one_that_saves_its_work_and_asks_for_it_is_submitted_again(system: System) -> None:
    saves = "trap 'touch saved; exit 99' USR2; touch ready; while :; do sleep 0.1; done"
    guest = system.oarsub(
        *("-t", "besteffort", "-t", "idempotent", "--checkpoint", "600", "-l", "/core=4,walltime=1"), saves
    )
    wait_until(lambda: (system.work / "ready").exists(), what="it listens")

    owner = system.oarsub("-l", "/core=4,walltime=0:1", "true")

    assert system.wait_until_final(owner).state == "Terminated"
    assert system.wait_until_final(guest).end_cause == "exit"
    wait_until(lambda: len(copies_of(system, guest)) == 1, what="the copy is there")
