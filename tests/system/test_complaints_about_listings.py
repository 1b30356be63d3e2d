"""What people complained of in OAR's listings is not so here; each test bears the number of the complaint.

oar and oar3 are OAR's own trackers, nextflow is Nextflow's.
"""

import json
import re
import time

import pytest
import yaml

from oarpy.commands.job_documents import FIELDS
from oarpy.model.states import JobState
from tests.support import rows
from tests.support.instance import System
from tests.support.postgres import TestDatabase


@pytest.fixture
def jobs(database: TestDatabase) -> list[int]:
    """One in each state that jobs are brought to, each with a name; the last is a copy of the first."""
    states = [
        JobState.WAITING,
        JobState.HOLD,
        JobState.TO_LAUNCH,
        JobState.RUNNING,
        JobState.TERMINATED,
        JobState.ERROR,
    ]
    found: list[int] = []
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", len(states))
        for number, state in enumerate(states, 1):
            job_ids = rows.submitted(conn, name=f'job "{number}"')
            rows.brought(conn, job_ids, state, holds=f"{{[{number},{number + 1})}}")
            found += job_ids
    database.execute("UPDATE jobs SET resubmit_job_id = %s WHERE job_id = %s", (found[0], found[-1]))
    return found


def test_oar3_5_json_is_valid_whatever_a_job_is_called(database, commands, jobs):
    database.execute("UPDATE jobs SET job_name = E'\\x1b\"\\\\\\n', command = E'echo \"\\t''\\\\\"' ")

    found = json.loads(commands.run("oarstat", "-J").stdout)

    assert {job["name"] for job in found.values()} == {'\x1b"\\\n'}


def test_oar3_158_each_format_has_the_same_data(commands, jobs):
    ids = ["-j", f"{jobs[0]}-{jobs[-1]}"]
    as_json = json.loads(commands.run("oarstat", "-J", *ids).stdout)

    assert json.loads(commands.run("oarstat", "-J", "-f", *ids).stdout) == as_json
    assert yaml.safe_load(commands.run("oarstat", "-Y", *ids).stdout) == as_json
    assert [json.loads(line) for line in commands.run("oarstat", "--ndjson", *ids).stdout.splitlines()] == list(
        as_json.values()
    )
    assert {frozenset(job) for job in as_json.values()} == {frozenset(FIELDS)}


def test_oar3_48_every_job_that_is_not_over_is_displayed(commands, jobs):
    shown = re.findall(r"^(\d+) ", commands.run("oarstat").stdout, re.MULTILINE)

    assert shown == [str(job_id) for job_id in jobs[:4]]


def test_oar3_80_no_name_is_lost(commands, jobs):
    records = commands.run("oarstat", "-f", "-j", f"{jobs[0]}-{jobs[-1]}").stdout

    assert re.findall(r'^    name = job "(\d)"$', records, re.MULTILINE) == list("123456")


def test_oar3_111_and_114_a_copy_names_the_job_that_it_is_a_copy_of(commands, jobs):
    found = json.loads(commands.run("oarstat", "-J", "--sql", f"resubmit_job_id = '{jobs[0]}'").stdout)

    assert {job_id: job["resubmit_job_id"] for job_id, job in found.items()} == {str(jobs[-1]): jobs[0]}


def test_oar3_116_accounting_of_a_user_who_used_nothing_is_no_crash(commands, jobs):
    done = commands.run("oarstat", "--accounting", "2026-01-01, 2026-01-02", "-u", "alice")

    assert done.returncode == 0
    assert "Start of the first window:   No window found\n" in done.stdout
    assert "Used consumption:            0 ( 0 seconds )\n" in done.stdout


def test_oar3_39_types_are_shown(database, commands, jobs):
    database.execute("UPDATE jobs SET types = '{besteffort,inner=12}'")

    assert "    types = besteffort, inner=12\n" in commands.run("oarstat", "-fj", str(jobs[0])).stdout


def test_oar_190_and_nextflow_2540_a_job_is_never_seen_in_hold_when_it_was_just_submitted(system: System) -> None:
    job = system.oarsub("-l", "/core=1,walltime=0:10:0", "sleep 60")

    seen = system.run("oarstat", "-s", "-j", str(job)).stdout
    states = system.database.execute("SELECT job_state FROM job_state_logs WHERE job_id = %s", (job,))

    assert "Hold" not in seen
    assert ("Hold",) not in states


def test_nextflow_1785_a_long_history_does_not_slow_the_listing(database, commands, jobs):
    database.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
    database.execute(
        """
        INSERT INTO jobs (job_id, array_id, job_request_id, job_user, queue_name, command, launching_directory,
            stdout_file, stderr_file, state, stopped_at, accounted)
        SELECT 1000 + n, 1000 + n, (SELECT min(job_request_id) FROM job_requests), 'alice', 'default', 'true', '/', '',
            '', 'Terminated', now(), true FROM generate_series(1, 200000) AS n
        """
    )
    database.execute("ALTER TABLE jobs ENABLE TRIGGER USER")

    taken = []
    for _ in range(5):
        begun = time.monotonic()
        done = commands.run("oarstat", "-f", "default")
        taken.append(time.monotonic() - begun)

    assert done.stdout.count("Job_Id:") == 4
    # 0.07 s on an idle machine, 12 s with OAR; others make it longer at times, and nobody makes it shorter.
    assert min(taken) < 3


def test_a_field_that_does_not_exist_is_refused_even_where_nothing_is_found(commands):
    done = commands.run("oarstat", "--fields", "id,stat", "-J")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "oarstat: there is no field 'stat'; did you mean state?\n"
