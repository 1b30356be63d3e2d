"""``oarstat --why`` and ``--forecast``, as people type them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from oarpy.model.states import JobId, JobState
from tests.support import rows
from tests.support.commands import Commands, answering
from tests.support.instance import System
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture
def commands(database: TestDatabase, tmp_path: Path) -> Commands:
    return Commands(database, str(tmp_path))


def planned(system: System, *job_ids: int) -> None:
    """Return when each of these has a planned start."""
    count = "SELECT count(*) FROM predictions WHERE job_id = ANY(%s) AND start_at IS NOT NULL"
    wait_until(
        lambda: system.database.execute(count, (list(job_ids),)) == [(len(job_ids),)], what="the jobs are planned"
    )


def test_a_waiting_job_is_told_the_plan_what_is_in_its_way_and_what_would_help(system: System) -> None:
    running = system.oarsub("-l", "/core=3,walltime=1:0:0", "sleep 600")
    wide = system.oarsub("-l", "/core=4,walltime=1:0:0", "true")
    job = system.oarsub("-l", "/core=2,walltime=2:0:0", "-l", "/core=1,walltime=9:0:0", "true")
    system.wait_until_state(running, "Running")
    planned(system, wide, job)

    said = system.run("oarstat", "--why", str(job)).stdout

    who = system.user.pw_name
    assert re.search(rf"^Job {job} of {who} waits in queue default since {DATE}\.$", said, re.MULTILINE)
    assert re.search(
        rf"^It is planned to start at {DATE} on \S+: 1 of the 4 resources that it may use are free now; "
        rf"waiting jobs before it: 1; job {wide} must end first\.$",
        said,
        re.MULTILINE,
    )
    assert "  core: 2 needed, 4 of 4 in service match the filter, 1 would do now, 0 of them for 2:00:00\n" in said
    assert re.search(
        rf"^\d of the 2 resources that it is planned on (is|are) held by 1 job: {running} \({who}\) until {DATE}\.$",
        said,
        re.MULTILINE,
    )
    assert re.search(
        rf"^Waiting jobs that come before it: 1; 1 of them gets resources that it is planned on first: "
        rf"{wide} \({who}\) from {DATE} until {DATE}\.$",
        said,
        re.MULTILINE,
    )
    assert re.search(
        r"^With a walltime of (0:5\d|1:00):00 or less for \{type = 'default'\}/core=1 it would start now\.$",
        said,
        re.MULTILINE,
    )


def test_what_it_says_would_help_does(system: System) -> None:
    running = system.oarsub("-l", "/core=3,walltime=1:0:0", "sleep 600")
    system.wait_until_state(running, "Running")
    wide = system.oarsub("-l", "/core=2,walltime=1:0:0", "true")
    planned(system, wide)
    said = json.loads(system.run("oarstat", "-J", "--why", str(wide)).stdout)[str(wide)]
    (change,) = said["changes"]
    assert (change["kind"], change["count"], change["asked"], change["start"]) == ("count", 1, 2, said["now"])

    system.run("oardel", str(wide))
    narrow = system.oarsub("-l", f"/{change['of']}={change['count']},walltime=1:0:0", "true")

    assert system.wait_until_final(narrow).state == "Terminated"
    assert said["text"][0].startswith(f"Job {wide} of ")
    assert said["state"] == "Waiting"


def test_a_job_that_the_server_cannot_read_is_set_aside_and_the_others_run(system: System) -> None:
    broken = system.oarsub("--hold", "true")
    system.database.execute(
        "UPDATE job_requests SET request = '[[1]]' WHERE job_request_id ="
        " (SELECT job_request_id FROM jobs WHERE job_id = %s)",
        (broken,),
    )
    system.run("oarresume", str(broken))

    others = [system.oarsub("true") for _ in range(3)]

    system.wait_until_all_final(others)
    assert {system.job(job).state for job in others} == {"Terminated"}
    assert system.job(broken).state == "Waiting"
    events = system.run("oarstat", "-e", "-j", str(broken)).stdout
    assert "SCHEDULER_JOB_SET_ASIDE" in events
    said = system.run("oarstat", "--why", str(broken)).stdout
    assert "It has no planned start: deciding on it failed, which is a fault of the server" in said


def test_the_forecast_shows_plans_and_how_good_they_were(system: System) -> None:
    first = system.oarsub("-l", "/core=4,walltime=0:10:0", "until [ -e go ]; do sleep 0.1; done")
    # Its end is planned anew when it starts.
    system.wait_until_state(first, "Running")
    second = system.oarsub("-l", "/core=4,walltime=0:10:0", "sleep 600")
    planned(system, second)

    table = system.run("oarstat", "--forecast", "default").stdout
    (system.work / "go").touch()
    system.wait_until_final(first)
    system.wait_until_state(second, "Running")
    wait_until(lambda: " sooner" in system.run("oarstat", "--forecast", str(second)).stdout)
    after = system.run("oarstat", "--forecast", str(second)).stdout
    data = json.loads(system.run("oarstat", "--forecast", "-J").stdout)

    assert re.search(rf"^{second} +\S+ +default +({DATE}) +\1 +\+0:00:00$", table, re.MULTILINE)
    assert re.search(rf"^Job {second} started at {DATE}\.$", after, re.MULTILINE)
    assert re.search(
        rf"^  said at {DATE} \(told at submission\): {DATE}, it started 0:\d\d:\d\d sooner$", after, re.MULTILINE
    )
    assert re.search(r"^default +told at submission +1 +-0:\d\d:\d\d .* 100 %$", after, re.MULTILINE)
    (score,) = data["scores"]
    assert (score["queue"], score["kind"], score["predictions"], score["in_time"]) == ("default", "told", 1, 1.0)


SENTENCES = {
    JobState.HOLD: "Job ID is held; `oarresume ID` lets it wait for resources.",
    JobState.TO_LAUNCH: "Job ID has its resources and is being started.",
    JobState.LAUNCHING: "Job ID has its resources and is being started.",
    JobState.RUNNING: "Job ID runs since DATE.",
    JobState.SUSPENDED: "Job ID is suspended; `oarresume ID` lets it go on.",
    JobState.FINISHING: "Job ID has run and is being cleaned up after.",
    JobState.TERMINATED: "Job ID is over since DATE: it ended by exit.",
    JobState.ERROR: "Job ID is over since DATE, with the cause killed.",
}


@pytest.mark.parametrize("state", SENTENCES)
def test_a_job_that_does_not_wait_gets_a_true_sentence_without_the_server(
    database: TestDatabase, commands: Commands, state: JobState
) -> None:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 1)
        (job,) = rows.submitted(conn)
        rows.brought(conn, [job], state)

    done = commands.run("oarstat", "--why", str(job))

    assert (done.returncode, done.stderr) == (0, "")
    assert re.sub(DATE, "DATE", done.stdout) == SENTENCES[state].replace("ID", str(job)) + "\n"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("toSchedule", "asks for an advance reservation for DATE; the next pass accepts or refuses it."),
        ("Scheduled", "has an advance reservation for DATE, and starts then."),
    ],
)
def test_a_reservation_is_told_without_the_server(
    database: TestDatabase, commands: Commands, state: str, sentence: str
) -> None:
    with database.engine.begin() as conn:
        (job,) = rows.submitted(conn)
    database.execute("UPDATE jobs SET reservation = %s, not_before = now() + interval '1 hour'", (state,))

    done = commands.run("oarstat", "--why", str(job))

    assert re.sub(DATE, "DATE", done.stdout) == f"Job {job} {sentence}\n"


def test_of_several_all_are_told_and_the_worst_decides_the_status(database: TestDatabase, commands: Commands) -> None:
    with database.engine.begin() as conn:
        first, second = (rows.submitted(conn)[0] for _ in range(2))
        rows.brought(conn, [first, second], JobState.HOLD)

    done = commands.run("oarstat", "--why", str(first), "999", str(second))

    assert done.returncode == 1
    assert done.stderr == "oarstat: there is no job 999; oarstat -u lists yours\n"
    assert [line[:6] for line in done.stdout.splitlines()] == [f"Job {first} ", "", f"Job {second} "]


def test_a_job_that_just_began_is_told_as_it_is(database: TestDatabase, commands: Commands) -> None:
    with database.engine.begin() as conn:
        rows.resources(conn, "c1", 1)
        (job,) = rows.submitted(conn)

    def too_late(verb: str, payload: object) -> dict[str, object]:
        assert (verb, payload) == ("why", {"job_ids": [job]})
        with database.engine.begin() as conn:
            rows.brought(conn, [JobId(job)], JobState.TO_LAUNCH)
        return {"ok": False, "exit_status": 1, "message": "it does not wait"}

    with answering(database, too_late) as seen:
        done = commands.run("oarstat", "--why", str(job))

    assert (done.returncode, done.stdout) == (0, f"Job {job} has its resources and is being started.\n")
    assert [verb for verb, _ in seen] == ["why"]


def test_without_a_server_what_the_tables_say_is_told(database: TestDatabase, commands: Commands) -> None:
    with database.engine.begin() as conn:
        (job,) = rows.submitted(conn)
    database.execute(
        "INSERT INTO predictions (job_id, start_at, resources, code, reason)"
        " VALUES (%s, '2030-01-02 03:04:05+00', '{[1,2)}', 'BUSY', 'all is taken')",
        (job,),
    )

    done = commands.run("oarstat", "--why", str(job))

    assert done.returncode == 75
    assert done.stdout == (
        f"Job {job} waits, planned to start at 2030-01-02 03:04:05 when the scheduler last looked."
        " The reason: all is taken.\n"
    )
    assert done.stderr.startswith("oarstat: the server takes no requests at the moment")


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--why", "x"], 4, "'x' is not the id of a job, which is a number; oarstat shows those of the live ones"),
        (["--why", "0"], 4, "'0' is not the id of a job, which is a number; oarstat shows those of the live ones"),
        (["--forecast", "nowhere"], 1, "there is neither a job nor a queue 'nowhere'; oarqueue lists the queues"),
        (["--forecast", "77"], 1, "there is no job 77; oarstat -u lists yours"),
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(
    commands: Commands, words: list[str], status: int, sentence: str
) -> None:
    done = commands.run("oarstat", *words)

    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"oarstat: {sentence}\n"


def test_a_name_that_would_control_a_terminal_is_escaped(database: TestDatabase, commands: Commands) -> None:
    with database.engine.begin() as conn:
        (job,) = rows.submitted(conn)
    answer = {
        "ok": True,
        "job_id": job,
        "now": 1_700_000_000,
        "told_start": None,
        "start": None,
        "hosts": [],
        "code": "NEW_IN_ANOTHER_VERSION",
        "numbers": {},
        "reason": "a reason\x1b[2J of a server of another version",
    }

    with answering(database, answer):
        done = commands.run("oarstat", "--why", str(job))

    assert (done.returncode, "\x1b" in done.stdout) == (0, False)
    assert r"It has no planned start: a reason\x1b[2J of a server of another version." in done.stdout
