"""``oarstat`` as programs read it."""

import getpass
import json
import re
import resource
import signal

import pytest
from sqlalchemy import text

from oarpy.database import events
from oarpy.database.events import Event
from oarpy.model.states import JobState
from tests.support import accounts, rows
from tests.support.commands import Commands
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

REQUEST = json.dumps([[[[[["core", 1]], None]], 5400]])


def processors_s() -> float:
    """What the commands that this process has waited for have had of the processors."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture
def jobs(database: TestDatabase) -> dict[str, list[int]]:
    """Bob's job that runs on two hosts, Alice's that ended with status 3, and her array of two that waits."""
    with database.engine.begin() as conn:
        first = rows.resources(conn, "c1", 2)
        second = rows.resources(conn, "c2", 2)
        running = rows.submitted(conn, owner="bob", types=["a", "b=1"])
        ended = rows.submitted(conn, owner="alice")
        waiting = rows.submitted(conn, 2, owner="alice", name="a rather long name")
        rows.brought(conn, ended, JobState.TERMINATED)
        rows.brought(conn, running, JobState.RUNNING, holds=f"{{[{first[0]},{second[-1] + 1})}}")
        conn.execute(text("UPDATE jobs SET exit_code = 768 WHERE job_id = ANY(:ids)"), {"ids": ended})
        conn.execute(
            text("UPDATE jobs SET message = 'R=1,W=1:30:0,J=B', command = E'cd x\\necho' WHERE job_id = ANY(:ids)"),
            {"ids": waiting},
        )
        conn.execute(text("UPDATE job_requests SET request = CAST(:request AS jsonb)"), {"request": REQUEST})
        conn.execute(text("UPDATE jobs SET submitted_at = '2026-01-02 03:04:05+00'"))
        events.append(conn, [Event("FRAG_JOB_REQUEST", running[0], ("c1",), "asked\nby bob")])
    return {"waiting": waiting, "running": running, "ended": ended}


def test_the_table_shows_jobs_that_have_not_ended(commands, jobs):
    done = commands.run("oarstat")

    title, dashes, *lines = done.stdout.splitlines()
    first, second = jobs["waiting"]
    assert title == "Job id    S User     Duration   System message"
    assert dashes == "--------- - -------- ---------- ------------------------------------------------"
    assert re.fullmatch(rf"{jobs['running'][0]} +R bob        +0:\d\d:\d\d ", lines[0])
    assert lines[1:] == [
        f"{first:<9} W alice       0:00:00 R=1,W=1:30:0,J=B",
        f"{second:<9} W alice       0:00:00 R=1,W=1:30:0,J=B",
    ]


def test_the_first_layout_shows_names_and_dates(commands, jobs):
    done = commands.run("oarstat", environment={"OAR_OARSTAT_OUTPUT_FORMAT": "1"})

    title, dashes, *lines = done.stdout.splitlines()
    assert title == "Job id     Name           User           Submission Date     S Queue"
    assert dashes == "---------- -------------- -------------- ------------------- - ----------"
    assert lines[1] == f"{jobs['waiting'][0]:<10} a rather long  alice          2026-01-02 03:04:05 W default"


def test_dates_are_those_of_the_caller(commands, jobs):
    done = commands.run("oarstat", "--format", "1", environment={"TZ": "Asia/Tokyo"})

    assert "2026-01-02 12:04:05" in done.stdout


def test_an_array_is_shown_with_its_ended_jobs_and_its_indices(database, commands, jobs):
    first, second = jobs["waiting"]
    database.execute("UPDATE jobs SET state = 'Error', stopped_at = now() WHERE job_id = %s", (second,))

    done = commands.run("oarstat", "--array", str(first))

    title, _, *lines = done.stdout.splitlines()
    assert title.startswith("Job id    A. id     index S User     Duration")
    assert [line.split()[:5] for line in lines] == [
        [str(first), str(first), "1", "W", "alice"],
        [str(second), str(first), "2", "E", "alice"],
    ]


def test_the_state_of_a_job_is_one_line(commands, jobs):
    ended, running = jobs["ended"][0], jobs["running"][0]

    glued = commands.run("oarstat", f"-sj{ended}")
    apart = commands.run("oarstat", "-s", "-j", str(ended), "-j", str(running))
    long = commands.run("oarstat", "--state", "--job", str(ended), f"--job={running}")
    as_json = commands.run("oarstat", "-J", "-s", "-j", str(ended))

    assert glued.stdout == f"{ended}: Terminated\n"
    assert apart.stdout == long.stdout == f"{running}: Running\n{ended}: Terminated\n"
    assert json.loads(as_json.stdout) == {str(ended): "Terminated"}


def test_the_full_record_has_oars_names(commands, jobs):
    ended = jobs["ended"][0]

    done = commands.run("oarstat", f"-fj{ended}")

    lines = done.stdout.splitlines()
    assert lines[0] == f"Job_Id: {ended}"
    assert "    state = Terminated" in lines
    assert "    exit_code = 768 (3,0,0)" in lines
    assert "    walltime = 1:0:0" in lines
    assert "    submissionTime = 2026-01-02 03:04:05" in lines
    assert "    assigned_hostnames = c1" in lines
    assert f"    cpuset_name = alice_{ended}" in lines
    assert lines[-1] == ""
    assert re.search(r"^    startTime = \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", done.stdout, re.MULTILINE)
    assert all(re.match(r"    \w+ = ", line) for line in lines[1:-1])


def test_the_full_record_of_a_waiting_job_has_no_start(commands, jobs):
    done = commands.run("oarstat", "-fj", str(jobs["waiting"][0]))

    assert "startTime" not in done.stdout
    assert "    scheduledStart = no prediction" in done.stdout.splitlines()
    assert "    walltime = 1:30:0" in done.stdout.splitlines()
    assert "    command = cd x\\necho" in done.stdout.splitlines()


def test_the_third_layout_renames(commands, jobs):
    done = commands.run("oarstat", f"-fj{jobs['ended'][0]}", environment={"OAR_OARSTAT_OUTPUT_FORMAT": "3"})

    assert done.stdout.startswith(f"id: {jobs['ended'][0]}\n")
    assert "    start_time = " in done.stdout
    assert "    launching_directory = " in done.stdout


def test_records_of_a_queue_are_found_by_grep(commands, jobs):
    done = commands.run("oarstat", "-f", "default")

    found = re.findall(r"^Job_Id: (\d+)$|^    state = (\w+)$", done.stdout, re.MULTILINE)
    assert [one or other for one, other in found] == [
        str(jobs["running"][0]), "Running", *(part for job in jobs["waiting"] for part in (str(job), "Waiting")),
    ]  # fmt: skip


def test_json_has_both_vocabularies(commands, jobs):
    running, ended = jobs["running"][0], jobs["ended"][0]

    done = commands.run("oarstat", "-f", "-J", "-j", str(running), "-j", str(ended))

    document = json.loads(done.stdout)
    job = document[str(running)]
    assert list(document) == [str(running), str(ended)]
    assert job["Job_Id"] == job["id"] == running
    assert job["owner"] == job["job_user"] == "bob"
    assert job["jobType"] == job["type"] == "PASSIVE"
    assert job["startTime"] == job["start_time"] > 0
    assert job["submissionTime"] == job["submission_time"] == 1767323045
    assert job["launchingDirectory"] == job["launching_directory"] == "/"
    assert job["scheduledStart"] == job["scheduled_start"] == job["startTime"]
    assert job["types"] == ["a", "b=1"]
    assert job["assigned_network_address"] == ["c1", "c2"]
    assert len(job["assigned_resources"]) == 4
    assert job["events"][0]["type"] == "FRAG_JOB_REQUEST"
    assert document[str(ended)]["exit_code"] == 768
    assert document[str(ended)]["walltime"] == 3600
    assert {
        "array_id", "array_index", "command", "cpuset_name", "dependencies", "initial_request", "message", "name",
        "project", "properties", "queue", "reservation", "resubmit_job_id", "state", "stderr_file", "stdout_file",
        "stopTime", "stop_time", "wanted_resources",
    } <= set(job)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["-J", "-j", "999"], "{}\n"),
        (["-J", "-s", "-j", "999"], "{}\n"),
        (["-J", "--array", "999"], "{}\n"),
        (["-J", "--sql", "resubmit_job_id='999'"], "{}\n"),
        (["-J", "-u", "nobody"], "{}\n"),
        (["-fj999"], ""),
        (["-sj999"], ""),
        (["-j", "999"], ""),
        (["-u", "nobody"], ""),
    ],
)
def test_nothing_found_is_no_error(commands, jobs, arguments, output):
    done = commands.run("oarstat", *arguments)

    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


def test_a_user_sees_the_jobs_of_a_user(commands, jobs):
    alices = commands.run("oarstat", "-u", "alice", "-J")
    own = commands.run("oarstat", "-u")

    assert set(json.loads(alices.stdout)) == set(map(str, jobs["waiting"]))
    assert own.stdout == ""


def test_ones_own_jobs_need_no_name(database, commands):
    with database.engine.begin() as conn:
        mine = rows.submitted(conn, owner=getpass.getuser())
        rows.submitted(conn, owner="alice")

    done = commands.run("oarstat", "-J", "-u", "-s")

    assert json.loads(done.stdout) == {str(mine[0]): "Waiting"}


def test_the_job_in_which_the_command_runs_is_meant_by_a_bare_option(commands, jobs):
    done = commands.run("oarstat", "-s", "-j", environment={"OAR_JOB_ID": str(jobs["ended"][0])})

    assert done.stdout == f"{jobs['ended'][0]}: Terminated\n"


@pytest.mark.parametrize(
    ("condition", "which"),
    [
        ("project = 'default' AND job_user = 'bob'", ["running"]),
        ("state IN ('Running', 'Terminated')", ["running", "ended"]),
        ("state LIKE 'Wait%'", ["waiting"]),
        ("exit_code = 768 OR FALSE", ["ended"]),
        ("exit_code IS NULL AND NOT state = 'Running'", ["waiting"]),
        ("submission_time BETWEEN 1767323045 AND 1767323045 AND array_index = 1 AND stop_time > 0", ["ended"]),
    ],
)
def test_jobs_are_chosen_by_a_condition(commands, jobs, condition, which):
    done = commands.run("oarstat", "-s", "-J", "--sql", condition)

    assert set(json.loads(done.stdout)) == {str(job) for name in which for job in jobs[name]}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--sql", "no_such_column = 'x'"], 1),
        (["--sql", "job_id = 'x'"], 8),
        (["--sql", "state = 'Sleeping'"], 8),
        (["--sql", "1 = 1; DROP TABLE jobs"], 18),
        (["--sql", "job_id = 1) OR (1 = 1"], 18),
        (["-j", "x"], 4),
        (["-j", "1,"], 4),
        (["-j", "0"], 4),
        (["-j"], 1),
        (["--array", "x"], 4),
        (["--format", "9"], 1),
        (["-j", "9-3"], 4),
        (["-j", "3-x"], 4),
        (["-g", "x"], 1),
        (["-g", "2026-01-02 00:00:00, 2026-01-01 00:00:00"], 1),
        (["--accounting", "x"], 1),
        (["--accounting", "2026-01-01, 2026-01-02", "-j", "1"], 1),
        (["--accounting", "2026-01-01, 2026-01-02", "--sql", "state = 'x'"], 1),
        (["--at", "then"], 1),
        (["--at", "2026-01-01", "--why", "1"], 1),
        (["-c", "-J"], 1),
        (["-c", "-f"], 1),
        (["-s", "-e"], 1),
        (["--efficiency"], 1),
        (["-s", "--fields", "id"], 1),
        (["-g", "2026-01-01, 2026-01-02", "--ndjson"], 1),
        (["--forecast", "-X"], 1),
        (["-g", "2026-01-01, 2026-01-02", "-u"], 1),
        (["--forecast", "-u", "bob"], 1),
        (["--why", "1", "--sql", "true"], 1),
        (["--nonsense"], 1),
    ],
)
def test_bad_input_is_one_sentence(unchanged, tmp_path, arguments, status):
    done = Commands(unchanged, str(tmp_path)).run("oarstat", *arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(r"oarstat: [^\n]+\n", done.stderr), done.stderr


def test_events_have_their_lines_indented(commands, jobs):
    done = commands.run("oarstat", "-e", "-j", str(jobs["running"][0]))

    job = jobs["running"][0]
    assert re.fullmatch(rf"[\d-]+ [\d:]+> \[{job}\] FRAG_JOB_REQUEST: asked\n    by bob\n", done.stdout)


def test_the_properties_of_a_jobs_resources_are_shown(commands, jobs):
    text_form = commands.run("oarstat", "-pj", str(jobs["ended"][0]))
    as_json = commands.run("oarstat", "-J", "-p", "-j", str(jobs["ended"][0]))

    assert "network_address = 'c1'" in text_form.stdout
    assert "besteffort = 'YES'" in text_form.stdout
    assert "deploy = 'NO'" in text_form.stdout
    assert json.loads(as_json.stdout)[str(jobs["ended"][0])][0]["network_address"] == "c1"


def test_why_a_job_waits_is_told(database, commands, jobs):
    first = jobs["waiting"][0]
    database.execute(
        "INSERT INTO predictions (job_id, code, reason) VALUES (%s, 'queue', 'the queue does not start jobs')", (first,)
    )

    table = commands.run("oarstat")
    record = commands.run("oarstat", f"-fj{first}")

    assert "R=1,W=1:30:0,J=B (the queue does not start jobs)\n" in table.stdout
    assert "    why = the queue does not start jobs\n" in record.stdout


def test_what_others_typed_is_theirs_alone(database, jobs):
    shown = "SELECT DISTINCT initial_request FROM oar.visible_jobs"

    assert database.execute_as(accounts.account(accounts.BOB), shown) == [[None]]
    assert database.execute_as(accounts.root(), shown) == [["oarsub true"]]


def test_ten_thousand_waiting_jobs_are_listed_at_once(database, commands):
    with database.engine.begin() as conn:
        rows.submitted(conn, 10_000)

    begun = processors_s()
    done = commands.run("oarstat")

    assert len(done.stdout.splitlines()) == 10_002
    # 0.2 s; processors count, for others may keep them busy meanwhile.  The statement's plan has a test of its own.
    assert processors_s() - begun < 2.0


def test_nobodys_job_controls_the_terminal_of_others(database, commands, jobs):
    running = jobs["running"][0]
    database.execute("UPDATE jobs SET command = E'echo \\x1b[2J' WHERE job_id = %s", (running,))

    done = commands.run("oarstat", f"-fj{running}")

    assert "    command = echo \\x1b[2J\n" in done.stdout


def test_a_locale_that_lacks_a_character_is_no_reason_to_fail(database, commands, jobs):
    database.execute("UPDATE jobs SET message = 'R=1…' WHERE job_id = %s", (jobs["running"][0],))

    done = commands.run("oarstat", environment={"PYTHONIOENCODING": "latin-1"})

    assert done.returncode == 0
    assert "R=1\\u2026\n" in done.stdout


def test_an_interrupt_is_told_in_one_sentence(database, commands):
    with database.connect() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE jobs")
        running = commands.start("oarstat")
        wait_until(
            lambda: database.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'oarstat' AND wait_event_type = 'Lock'"
            )
        )

        running.send_signal(signal.SIGINT)
        other.rollback()

    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout, stderr) == (130, "", "oarstat: interrupted\n")
