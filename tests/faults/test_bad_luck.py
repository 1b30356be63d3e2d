"""What nobody means: signals that come in the wrong instant, files and rows that vanish, disks that are full."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg2
import psycopg2.extensions
import pytest

from oarpy.drivers import postgresql
from oarpy.errors import OarError
from tests.support import accounts, invariants
from tests.support.instance import COMMANDS, FINAL, SETTINGS, System, running_system
from tests.support.postgres import TestDatabase, TestServer
from tests.support.waiting import wait_until

# Says that it ran, then does its work: a job that runs twice leaves two lines.
ONCE = 'echo once >> "ran.$OAR_JOB_ID"; '
QUIET = ("-O", "/dev/null", "-E", "/dev/null")
UNTIL_GO = "until [ -e go ]; do sleep 0.05; done"


def began(system: System, job_id: int) -> int:
    """How often the command of a job began."""
    path = system.work / f"ran.{job_id}"
    return len(path.read_text().splitlines()) if path.exists() else 0


def one(system: System, statement: str, *values: object) -> object:
    """The only value of a statement."""
    return system.database.execute(statement, values)[0][0]


def ends(system: System, job_ids: list[int]) -> set[tuple[object, ...]]:
    """The different ways in which jobs ended, with what was said of those that could not be started."""
    statement = """
        SELECT DISTINCT state::text, end_cause::text, CASE WHEN end_cause = 'launch_error' THEN description END
        FROM jobs LEFT JOIN events USING (job_id) WHERE job_id = ANY(%s)
    """
    return {tuple(row) for row in system.database.execute(statement, (job_ids,))}


def has_ended(session: psycopg2.extensions.connection) -> bool:
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT 1")
        session.rollback()
    except psycopg2.Error:
        return True
    return False


def leader(system: System) -> object:
    return one(system, "SELECT pid FROM leadership")


def is_removed(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


@contextmanager
def standby(system: System) -> Iterator[subprocess.Popen[bytes]]:
    """A second almighty of the same instance."""
    with open(system.home / "log" / "standby.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "oarpy.almighty"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=system.environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture
def slow_to_take_over(database: TestDatabase) -> Iterator[System]:
    """A system in which a leader that is only short of time is not taken for dead."""
    with running_system(database, settings=SETTINGS.replace('lease = "3 s"', 'lease = "10 s"')) as system:
        yield system
        assert invariants.broken(database.engine) == []


def test_jobs_run_once_though_their_leader_is_stopped_for_longer_than_its_lease(slow_to_take_over: System) -> None:
    system = slow_to_take_over
    first = system.oarsub_array(*QUIET, "--array", "4", ONCE + "sleep 5")
    waiting = system.oarsub_array(*QUIET, "--array", "8", ONCE)
    system.wait_until_state(first[0], "Running")
    assert system.almighty is not None
    old = system.almighty.pid

    with standby(system) as second:
        os.kill(old, signal.SIGSTOP)
        try:
            wait_until(lambda: leader(system) == second.pid, what="the standby leads")
            later = system.oarsub(*QUIET, ONCE)
            system.wait_until_final(later)
        finally:
            os.kill(old, signal.SIGCONT)
        system.wait_until_all_final([*first, *waiting, later])

        assert leader(system) == second.pid
        assert {job_id: began(system, job_id) for job_id in [*first, *waiting, later]} == dict.fromkeys(
            [*first, *waiting, later], 1
        )


@pytest.mark.parametrize("victim", ["postmaster", "backends"])
def test_jobs_run_once_though_postgresql_is_killed(system: System, postgres: TestServer, victim: str) -> None:
    jobs = {system.oarsub(*QUIET, ONCE + UNTIL_GO): 0}
    jobs |= {system.oarsub(*QUIET, ONCE + f"sleep {number % 3}; exit {number}"): number for number in range(1, 12)}
    wait_until(lambda: one(system, "SELECT count(*) FROM jobs WHERE state = 'Running'"), what="a job runs")

    def is_killed() -> bool:
        pid: object = Path(postgres.cluster.data, "postmaster.pid").read_text().splitlines()[0]
        if victim == "backends":
            held = "application_name ~ '^oarpy/' AND datname = current_database()"
            pid = one(system, f"SELECT pid FROM pg_stat_activity WHERE {held} ORDER BY backend_start LIMIT 1")
        # A session may have ended since.
        with suppress(ProcessLookupError):
            os.kill(int(str(pid)), signal.SIGKILL)
            return True
        return False

    with closing(system.database.connect()) as witness:
        wait_until(is_killed, what="it is killed")
        # The death of one ends the sessions of all; until then the server seems to be up.
        wait_until(lambda: has_ended(witness), what="PostgreSQL has noticed")
    system.database.engine.dispose()

    def is_up() -> bool:
        try:
            postgresql.ensure_running(postgres.cluster)
            system.database.execute("SELECT 1")
        except (psycopg2.Error, OarError):
            return False
        return True

    wait_until(is_up, timeout_s=120, what="PostgreSQL serves again")
    (system.work / "go").touch()
    system.wait_until_all_final(list(jobs))
    for job_id, status in jobs.items():
        job = system.job(job_id)
        assert (job.state, job.exit_code, began(system, job_id)) == ("Terminated", status << 8, 1), job_id


def test_jobs_deleted_in_the_instant_of_their_launch_end_with_that_cause(system: System) -> None:
    def submit_and_delete(_: int) -> int:
        job_id = system.oarsub(*QUIET, ONCE + "sleep 30; echo twice >> ran.$OAR_JOB_ID")
        system.run("oardel", str(job_id))
        return job_id

    with ThreadPoolExecutor(2) as pool:
        jobs = list(pool.map(submit_and_delete, range(50)))

    system.wait_until_all_final(jobs)
    assert ends(system, jobs) == {("Error", "killed", None)}
    begun = {job_id: began(system, job_id) for job_id in jobs}
    assert max(begun.values()) <= 1
    # None begins after its end: the next job runs on cores that nobody else uses.
    system.wait_until_final(system.oarsub(*QUIET, ONCE))
    assert {job_id: began(system, job_id) for job_id in jobs} == begun


def test_two_thousand_jobs_are_deleted_at_once_while_they_start(system: System) -> None:
    jobs = system.oarsub_array(*QUIET, "--array", "2000", "sleep 0.05; " + ONCE)
    wait_until(lambda: one(system, "SELECT count(*) FROM jobs WHERE state = 'Running'"), what="some run")

    said = system.run("oardel", "--array", str(jobs[0]), check=False)

    assert said.returncode in (0, 6)
    system.wait_until_all_final(jobs)
    assert ends(system, jobs) <= {("Error", "killed", None), ("Terminated", "exit", None)}
    after = system.oarsub(*QUIET, ONCE)
    assert system.wait_until_final(after).state == "Terminated"


def test_a_queue_with_jobs_is_not_removed_and_may_be_when_they_are_over(system: System) -> None:
    system.admin("oarqueue", "--add", "brief,9")
    holder = system.oarsub(*QUIET, "-l", "/core=4,walltime=0:10:0", ONCE + UNTIL_GO)
    waiting = system.oarsub(*QUIET, "-q", "brief", "-l", "/core=4", ONCE)
    system.wait_until_state(holder, "Running")

    with pytest.raises(psycopg2.Error, match="unfinished job"):
        system.database.execute("DELETE FROM queues WHERE queue_name = 'brief'")
    system.database.execute("UPDATE queues SET state = 'notActive' WHERE queue_name = 'brief'")
    (system.work / "go").touch()
    system.wait_until_final(system.oarsub(*QUIET, ONCE))
    system.run("oardel", str(waiting))
    system.wait_until_final(waiting)
    system.database.execute("DELETE FROM queues WHERE queue_name = 'brief'")

    assert (system.job(waiting).end_cause, began(system, waiting)) == ("killed", 0)
    refused = system.run("oarsub", "-q", "brief", "true", check=False)
    assert refused.returncode == 8


def test_a_resource_removed_under_a_prediction_is_not_given_to_the_job(system: System) -> None:
    last = one(system, "SELECT max(resource_id) FROM resources")
    holder = system.oarsub(*QUIET, "-p", f"resource_id < {last}", "-l", "/core=3,walltime=0:10:0", UNTIL_GO)
    system.wait_until_state(holder, "Running")
    waiting = system.oarsub(*QUIET, "-l", "/core=4,walltime=0:1:0", ONCE)
    predicted = "SELECT count(*) FROM predictions WHERE job_id = %s AND start_at IS NOT NULL"
    wait_until(lambda: one(system, predicted, waiting), what="it has a prediction")

    system.database.execute("UPDATE resources SET state = 'Dead' WHERE resource_id = %s", (last,))
    system.database.execute("DELETE FROM resources WHERE resource_id = %s", (last,))
    (system.work / "go").touch()

    small = system.oarsub(*QUIET, "-l", "/core=3,walltime=0:1:0", ONCE)
    assert system.wait_until_final(small).state == "Terminated"
    why = "SELECT reason FROM predictions WHERE job_id = %s AND start_at IS NULL"
    wait_until(lambda: system.database.execute(why, (waiting,)), what="the job is told that it does not fit")
    assert (system.job(waiting).state, began(system, waiting)) == ("Waiting", 0)


def test_a_job_whose_user_has_gone_ends_and_its_host_goes_on(system: System) -> None:
    accounts.root()
    # No other run of the tests has it.
    name = f"oartest-{os.getpid()}"
    gone = accounts.account(name)
    try:
        holder = system.oarsub(*QUIET, "-l", "/core=4,walltime=0:10:0", UNTIL_GO)
        orphan = system.oarsub(*QUIET, "-l", "/core=4", "id", user=gone)
    finally:
        accounts.remove_account(name)

    (system.work / "go").touch()
    system.wait_until_final(holder)
    job = system.wait_until_final(orphan)
    assert (job.state, job.end_cause) == ("Error", "launch_error")
    assert system.wait_until_final(system.oarsub(*QUIET, "true")).state == "Terminated"
    assert one(system, "SELECT count(*) FROM resources WHERE state <> 'Alive'") == 0


def test_a_running_job_ends_in_some_known_way_though_the_spool_is_removed(system: System) -> None:
    job_id = system.oarsub(*QUIET, ONCE + "sleep 4")
    wait_until(lambda: began(system, job_id) == 1, what="the command runs")
    system.wait_until_state(job_id, "Running", *FINAL)

    for own in (system.home / "spool").iterdir():
        wait_until(lambda own=own: is_removed(own), what="it is gone, whatever is written into it meanwhile")
    system.kill()
    system.start()

    # Nothing proves that the job ended, so its cores are not given away; others do not run there unseen.
    wait_until(
        lambda: (
            system.job(job_id).state in ("Error", "Terminated")
            or one(system, "SELECT count(*) FROM resources WHERE state = 'Suspected'")
        ),
        what="the job is over, or its host is suspected",
    )
    assert began(system, job_id) == 1


def test_the_server_goes_on_when_its_log_cannot_be_written(database: TestDatabase) -> None:
    with running_system(database) as system:
        system.stop()
        log = system.home / "log" / "almighty.log"
        log.unlink()
        log.symlink_to("/dev/full")
        system.start()

        job_id = system.oarsub(*QUIET, ONCE)

        assert system.wait_until_final(job_id).state == "Terminated"
        log.unlink()


def test_a_job_whose_output_meets_a_full_disk_ends_with_its_own_status(system: System) -> None:
    job_id = system.oarsub("-O", "/dev/full", "-E", "/dev/full", ONCE + "echo output; exit 7")

    job = system.wait_until_final(job_id)

    assert (job.state, job.exit_code, job.end_cause) == ("Terminated", 7 << 8, "exit")


def test_a_reader_that_closes_early_takes_nothing_from_a_submission(system: System) -> None:
    line = f"{COMMANDS / 'oarsub'} --hold --array 3000 true | head -1"
    done = subprocess.run(
        accounts.switched(system.user, ["bash", "-o", "pipefail", "-c", line]),
        capture_output=True,
        text=True,
        cwd=system.work,
        env=accounts.environment_of(system.user, system.environment),
        check=False,
    )

    first = int(re.fullmatch(r"OAR_JOB_ID=(\d+)\n", done.stdout).group(1))  # type: ignore[union-attr]
    assert done.stderr == ""
    assert one(system, "SELECT count(*) FROM jobs WHERE array_id = %s", first) == 3000
    system.run("oardel", "--array", str(first), check=False)
    system.wait_until_all_final(list(range(first, first + 3000)))


@pytest.mark.parametrize("command", ["oarsub", "oarstat", "oarpy"])
def test_an_interrupt_while_a_command_is_still_loading_ends_it_in_a_sentence(tmp_path: Path, command: str) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")

    done = subprocess.run(
        [COMMANDS / command, "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{command}: interrupted\n")


def test_an_interrupted_submission_is_either_refused_or_told(system: System) -> None:
    instants = random.Random(7)
    told: set[int] = set()
    for number in range(25):
        process = subprocess.Popen(
            accounts.switched(system.user, [str(COMMANDS / "oarsub"), *QUIET, "-n", f"try-{number}", "--hold", "true"]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=system.work,
            env=accounts.environment_of(system.user, system.environment),
        )
        try:
            process.wait(timeout=instants.uniform(0.08, 0.25))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=120)
        job_ids = [int(job_id) for job_id in re.findall(r"^OAR_JOB_ID=(\d+)$", said, re.MULTILINE)]
        named = "SELECT job_id FROM jobs WHERE job_name = %s"
        stored = [job_id for (job_id,) in system.database.execute(named, (f"try-{number}",))]
        told |= set(job_ids)
        # Python itself had not loaded yet what would say it better.
        too_early = process.returncode == -signal.SIGINT or complaint.startswith("Fatal Python error")
        assert "Traceback" not in complaint or too_early
        assert too_early or (process.returncode, bool(job_ids)) in {(0, True), (130, False)}, complaint
        assert stored == job_ids, (process.returncode, complaint)

    assert one(system, "SELECT count(*) FROM requests WHERE state = 'pending'") == 0
    assert len(told) == one(system, "SELECT count(*) FROM jobs")
