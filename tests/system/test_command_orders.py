"""``oardel``, ``oarhold``, ``oarresume``: what they ask and how they end."""

import re

import pytest

from oarpy.model.payloads import JobOutcome, JobsAnswer, Refusal
from tests.support.commands import Commands, answering, stored_requests


def answer(*jobs: JobOutcome) -> dict:
    return JobsAnswer(jobs).to_json()


def test_every_job_is_tried_and_the_worst_decides_the_status(database, commands):
    reply = answer(
        JobOutcome(1, "REGISTERED"), JobOutcome(2, "REFUSED", 1, "job 2 belongs to bob"), JobOutcome(3, "REGISTERED")
    )

    with answering(database, reply) as asked:
        done = commands.run("oardel", "1", "2", "3")

    assert asked == [("delete", {"job_ids": [1, 2, 3], "array_ids": []})]
    assert done.returncode == 1
    assert done.stdout == (
        "Deleting the job = 1 ...REGISTERED.\n"
        "Deleting the job = 2 ...REFUSED\n"
        "Deleting the job = 3 ...REGISTERED.\n"
        "To be deleted now: 1 3\n"
    )
    assert done.stderr == "oardel: job 2 belongs to bob\n"


def test_a_job_that_is_being_deleted_already_has_its_own_status(database, commands):
    reply = answer(JobOutcome(1, "ALREADY", 6, "job 1 is being deleted already"))

    with answering(database, reply):
        done = commands.run("oardel", "1")

    assert done.returncode == 6


def test_an_array_is_named_by_its_id(database, commands):
    with answering(database, answer(JobOutcome(5, "REGISTERED"), JobOutcome(6, "REGISTERED"))) as asked:
        done = commands.run("oardel", "--array", "5")

    assert asked == [("delete", {"job_ids": [], "array_ids": [5]})]
    assert done.returncode == 0


@pytest.mark.parametrize("command", ["oardel", "oarhold", "oarresume"])
@pytest.mark.parametrize(
    "words",
    [("--array", "5", "6"), ("5", "6", "--array"), ("--array=5", "--array=6"), ("--array", "5", "--array", "6")],
)
def test_beside_array_every_id_is_that_of_an_array(database, commands, command, words):
    with answering(database, answer(JobOutcome(5, "REGISTERED"))) as asked:
        commands.run(command, *words)

    ((_, chosen),) = asked
    assert (chosen["job_ids"], sorted(chosen["array_ids"])) == ([], [5, 6])


@pytest.mark.parametrize(
    ("arguments", "verb", "extra"),
    [
        (["-c", "7"], "checkpoint", {}),
        (["-s", "SIGTERM", "7"], "signal", {"signal": 15}),
        (["7", "-s", "USR1"], "signal", {"signal": 10}),
        (["-s12", "7"], "signal", {"signal": 12}),
    ],
)
def test_oardel_sends_signals(database, commands, arguments, verb, extra):
    with answering(database, answer(JobOutcome(7, "REGISTERED"))) as asked:
        done = commands.run("oardel", *arguments)

    assert asked == [(verb, {"job_ids": [7], "array_ids": [], **extra})]
    assert (done.returncode, done.stdout) == (0, "Signalling the job = 7 ...REGISTERED.\n")


@pytest.mark.parametrize(
    ("command", "verb", "word"), [("oarhold", "hold", "Holding"), ("oarresume", "resume", "Resuming")]
)
def test_jobs_are_held_and_released(database, commands, command, verb, word):
    with answering(database, answer(JobOutcome(7, "REGISTERED"))) as asked:
        done = commands.run(command, "7")

    assert asked == [(verb, {"job_ids": [7], "array_ids": []})]
    assert (done.returncode, done.stdout) == (0, f"{word} the job = 7 ...REGISTERED\n")


def test_a_refusal_of_the_whole_is_told(database, commands):
    with answering(database, Refusal(1, "array 5 does not exist").to_json()):
        done = commands.run("oardel", "--array", "5")

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "oardel: array 5 does not exist\n")


@pytest.mark.parametrize("command", ["oardel", "oarhold", "oarresume"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 4),
        (["x"], 4),
        (["0"], 4),
        (["-5"], 1),
        (["1", "2;3"], 4),
        (["9" * 40], 4),
        (["--array", "x"], 4),
        (["--array"], 4),
        (["--array", "1-3"], 4),
        (["--sql", "true"], 1),
        (["--frobnicate", "1"], 1),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(unchanged, tmp_path, command, arguments, status):
    done = Commands(unchanged, str(tmp_path)).run(command, *arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert re.fullmatch(rf"{command}: [^\n]+\n", done.stderr), done.stderr
    assert stored_requests(unchanged) == []


@pytest.mark.parametrize(
    ("option", "verb", "outcome", "said"),
    [
        ("-b", "besteffort", "ADDED", "Add besteffort type for the job 7.\n"),
        ("--besteffort", "besteffort", "REMOVED", "Remove besteffort type for the job 7.\n"),
        (
            "--force-terminate-finishing-job",
            "terminate",
            "REGISTERED",
            "Force the termination of the job = 7 ...REGISTERED.\n",
        ),
    ],
)
def test_what_administrators_do_to_jobs_is_asked_like_the_rest(database, commands, option, verb, outcome, said):
    with answering(database, answer(JobOutcome(7, outcome))) as asked:
        done = commands.run("oardel", option, "7")

    assert asked == [(verb, {"job_ids": [7], "array_ids": []})]
    assert (done.returncode, done.stdout) == (0, said)


@pytest.mark.parametrize("arguments", [["-b", "-c", "1"], ["-s", "9", "--force-terminate-finishing-job", "1"]])
def test_oardel_does_one_thing_at_a_time(unchanged, tmp_path, arguments):
    done = Commands(unchanged, str(tmp_path)).run("oardel", *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert stored_requests(unchanged) == []


def test_without_a_server_nothing_is_deleted(commands, tmp_path):
    done = commands.run("oardel", "1", environment={"OARPY_DATABASE": f"host={tmp_path} dbname=oar"})

    assert done.returncode == 75
    assert "nothing was done" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["oarsub", "oarstat", "oardel", "oarhold", "oarresume", "oarnodes", "oarnodesetting", "oarproperty", "oarqueue"],
)
def test_every_command_knows_its_version_and_shows_an_example(unchanged, tmp_path, command):
    helped = Commands(unchanged, str(tmp_path)).run(command, "--help")
    version = Commands(unchanged, str(tmp_path)).run(command, "-V")

    assert helped.returncode == 0
    assert re.search(rf"Examples?:\n +{command}", helped.stdout)
    assert re.fullmatch(rf"{command} \(oarpy\) [\d.]+\n", version.stdout)
