"""What an administrator types into psql takes effect within a second."""

from __future__ import annotations

import pytest

from tests.support import invariants
from tests.support.instance import System
from tests.support.waiting import wait_until


@pytest.mark.parametrize("state", ["Absent", "Dead"])
def test_a_job_on_a_host_that_becomes_unusable_is_killed(system: System, state: str) -> None:
    job_id = system.oarsub("sleep 60")
    system.wait_until_state(job_id, "Running")

    system.database.execute("UPDATE resources SET state = %s", [state])

    job = system.wait_until_final(job_id)
    assert (job.state, job.end_cause) == ("Error", "admin")
    assert invariants.broken(system.database.engine) == []


def test_a_resource_that_is_inserted_is_used_at_once(hinted_system: System) -> None:
    system = hinted_system
    ((host,),) = system.database.execute("SELECT DISTINCT network_address FROM resources")
    system.database.execute("UPDATE resources SET state = 'Absent'")
    job_id = system.oarsub("true")

    system.database.execute("INSERT INTO resources (network_address, host) VALUES (%s, %s)", [host, host])

    system.wait_until_final(job_id)


def test_a_queue_that_is_switched_off_and_on_again_is_obeyed(hinted_system: System) -> None:
    system = hinted_system
    system.database.execute("UPDATE queues SET state = 'notActive' WHERE queue_name = 'default'")
    job_id = system.oarsub("true")
    wait_until(
        lambda: system.database.execute("SELECT reason FROM predictions WHERE job_id = %s", [job_id]),
        what="the wait is explained",
    )
    before = system.job(job_id).state

    system.database.execute("UPDATE queues SET state = 'Active' WHERE queue_name = 'default'")

    assert before == "Waiting"
    system.wait_until_final(job_id)


def test_a_job_that_is_too_long_to_tell_its_host_ends_with_a_sentence_and_the_others_run(system: System) -> None:
    job_id = system.oarsub("--hold", "true")
    system.database.execute(
        "UPDATE jobs SET types = (SELECT array_agg('a' || i || repeat('=x', 120)) FROM generate_series(1, 5000) AS i)"
        " WHERE job_id = %s",
        (job_id,),
    )
    system.run("oarresume", str(job_id))
    other = system.oarsub("true")

    assert system.wait_until_final(other, timeout_s=60).state == "Terminated"
    assert system.wait_until_final(job_id, timeout_s=60).end_cause == "launch_error"
    said = system.database.execute("SELECT type, description FROM events WHERE job_id = %s", (job_id,))
    assert ("USER_SHELL", "the command is longer than 131071 bytes; put it into a script") in said
