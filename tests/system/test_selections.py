"""Jobs are chosen in the same words wherever they are chosen."""

import getpass
import json

import pytest

from oarpy.model.edits import Edited
from oarpy.model.payloads import JobOutcome, JobsAnswer, Submitted
from oarpy.model.states import JobState
from tests.support import rows
from tests.support.commands import answering, stored_requests
from tests.support.postgres import TestDatabase


@pytest.fixture
def jobs(database: TestDatabase) -> None:
    """Alice's array 1 to 4, of which 4 is over; Bob's 5, on hold; 6, of the one who asks."""
    with database.engine.begin() as conn:
        array = rows.submitted(conn, 4, owner="alice", name="many")
        rows.brought(conn, array[3:], JobState.TERMINATED)
        rows.brought(conn, rows.submitted(conn, owner="bob"), JobState.HOLD)
        rows.submitted(conn, owner=getpass.getuser(), name="mine")


WORDS = [
    (["2-5"], [2, 3, 5]),
    (["2-3", "--sql", "array_index = 3"], [3]),
    (["--sql", "owner = 'alice'"], [1, 2, 3]),
    (["--sql", "state = 'Hold'"], [5]),
    (["-u", "bob"], [5]),
    (["-u"], [6]),
    (["--array", "1", "--sql", "job_id > 1"], [2, 3]),
    (["-u", "alice", "--sql", "array_index IN (1, 2)"], [1, 2]),
    (["5", "2-3"], [5, 2, 3]),
    (["5,2-3"], [5, 2, 3]),
]


@pytest.mark.parametrize("command", ["oardel", "oarhold", "oarresume"])
@pytest.mark.parametrize(("words", "chosen"), WORDS)
def test_jobs_that_are_not_over_are_chosen_by_a_command(database, commands, jobs, command, words, chosen):
    with answering(database, JobsAnswer((JobOutcome(1, "REGISTERED"),)).to_json()) as asked:
        done = commands.run(command, *words)

    verb = {"oardel": "delete", "oarhold": "hold", "oarresume": "resume"}[command]
    assert asked == [(verb, {"job_ids": chosen, "array_ids": []})], done.stderr


@pytest.mark.parametrize(("words", "chosen"), WORDS)
def test_the_same_words_show_them(commands, jobs, words, chosen):
    options = [part for word in words for part in (("-j", word) if word[0].isdigit() and word != "1" else (word,))]

    done = commands.run("oarstat", "-s", "-J", *options)

    assert {int(job) for job in json.loads(done.stdout)} - {4} == set(chosen)


@pytest.mark.parametrize(("words", "chosen"), WORDS)
def test_a_dry_run_shows_them_and_asks_nothing(database, commands, jobs, words, chosen):
    done = commands.run("oardel", "--dry-run", *words)

    told = done.stdout + done.stderr
    assert all(f"job = {job} " in told or f"job {job} belongs to" in told for job in chosen)
    assert told.count("job = ") + told.count("belongs to") == len(chosen)
    assert stored_requests(database) == []


def test_a_dry_run_says_what_would_be_done_to_which_job(commands, jobs):
    done = commands.run("oarhold", "--dry-run", "6", "4", "99")

    assert done.stdout == f"Would hold the job = 6 (Waiting, {getpass.getuser()}, mine)\n1 job; nothing was done\n"
    assert done.stderr == "oarhold: job 99 does not exist\noarhold: job 4 is over\n"
    assert done.returncode == 1


def test_a_dry_run_names_the_arrays_that_do_not_exist(commands, jobs):
    done = commands.run("oardel", "--dry-run", "--array", "6", "77")

    assert done.stdout == f"Would delete the job = 6 (Waiting, {getpass.getuser()}, mine)\n1 job; nothing was done\n"
    assert (done.returncode, done.stderr) == (4, "oardel: array 77 does not exist\n")


@pytest.mark.parametrize("words", [["90-99"], ["4-4"], ["--sql", "project = 'x'"], ["-u", "nobody"]])
def test_a_choice_of_nothing_is_refused(database, commands, jobs, words):
    done = commands.run("oardel", *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "oardel: no job that is not over is chosen by this\n"
    assert stored_requests(database) == []


def test_a_dry_run_says_which_jobs_are_in_no_state_for_it(commands, jobs):
    done = commands.run("oardel", "-s", "USR1", "--dry-run", "6")

    assert (done.returncode, done.stderr) == (5, "oardel: job 6 is Waiting\n")
    assert done.stdout == "0 jobs; nothing was done\n"


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["--edit", "1-6", "-n", "x"], [1, 2, 3, 5, 6]),
        (["--edit", "5,2-3", "-n", "x"], [5, 2, 3]),
        (["--resubmit", "1-6"], [4]),
        (["--resubmit", "2,4-4"], [2, 4]),
    ],
)
def test_ranges_choose_what_can_be_changed_or_submitted_again(database, commands, jobs, words, chosen):
    with answering(database, Submitted((7,), None).to_json() | Edited(()).to_json()) as asked:
        commands.run("oarsub", *words)

    ((_, payload),) = asked
    assert payload["job_ids"] == chosen


@pytest.mark.parametrize("words", [["--edit", "4-4", "-n", "x"], ["--resubmit", "1-3"], ["--edit", "90-99", "-q", "q"]])
def test_a_range_with_nothing_to_change_is_refused(database, commands, jobs, words):
    done = commands.run("oarsub", *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert "no job of" in done.stderr
    assert stored_requests(database) == []
