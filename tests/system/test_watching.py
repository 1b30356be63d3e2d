"""``oarstat --watch``, ``--follow`` and ``--events --after`` on a running instance."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from contextlib import suppress

from tests.support.accounts import environment_of, switched
from tests.support.instance import COMMANDS, System
from tests.support.waiting import wait_until
from tests.system.test_history import schema
from tests.system.test_waiting import sessions, started


def states(lines: list[dict[str, object]], job_id: int) -> list[object]:
    """The states of a job in the order in which they were told."""
    return [line["state"] for line in lines if line["type"] == "STATE" and line["job_id"] == job_id]


def told(system: System, after: str, *options: str) -> list[dict[str, object]]:
    """What ``oarstat --events --after`` says."""
    said = system.run("oarstat", "--events", "--after", after, "-J", *options).stdout
    return [json.loads(line) for line in said.splitlines()]


def wait_until_told(system: System, jobs: list[int]) -> None:
    """Until the end of each job is told: after its row, as events wait for the oldest open transaction."""

    def all_told() -> bool:
        lines = told(system, "0")
        return all(states(lines, job)[-1:] == ["Terminated"] for job in jobs)

    wait_until(all_told)


def test_the_events_of_a_job_are_told_in_order(system):
    job_id = system.oarsub("exit 3")
    wait_until_told(system, [job_id])

    lines = told(system, "0", "-j", str(job_id))

    for line in lines:
        schema("oarstat", "happened").validate(line)
    assert states(lines, job_id) == ["Waiting", "toLaunch", "Launching", "Running", "Finishing", "Terminated"]
    assert (lines[-1]["exit_code"], lines[-1]["end_cause"]) == (768, "exit")
    text = system.run("oarstat", "--events", "--after", "0", "-j", str(job_id)).stdout
    assert text.splitlines()[-1].endswith(f"> [{job_id}] STATE: Terminated (exit)")
    assert text.splitlines()[-1].startswith(f"{lines[-1]['event_id']} ")


def test_a_cursor_goes_on_where_it_stopped(system):
    wait_until_told(system, [system.oarsub("true")])
    first = told(system, "0")
    wait_until_told(system, [system.oarsub("true")])

    second = told(system, str(first[-1]["event_id"]))

    every = [line["event_id"] for line in told(system, "0")]
    assert [line["event_id"] for line in first + second] == every
    assert len(set(every)) == len(every)
    assert told(system, str(every[-1])) == []


def test_a_cursor_that_is_not_there_is_a_sentence(system):
    for text, sentence in (
        ("99999999", "there is no event 99999999 (any more); --after 0 begins with the oldest that is kept"),
        ("x", "'x' is not the number of an event"),
        ("now", "--after now shows what is to come, with --watch"),
    ):
        done = system.run("oarstat", "--events", "--after", text, check=False)
        assert (done.stdout, done.stderr) == ("", f"oarstat: {sentence}\n")
        assert done.returncode != 0


def test_events_are_told_as_they_happen_without_a_session(system):
    watching = started(system, "oarstat", "--events", "--after", "now", "--watch", "-J")
    looks = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE %s AND query LIKE %s"
    wait_until(lambda: system.database.execute(looks, ("oarpy/%/appendice", "%feed_after%")))
    wait_until(lambda: sessions(system) == 0)

    job_id = system.oarsub("true")

    lines: list[dict[str, object]] = []
    assert watching.stdout is not None
    while not lines or lines[-1].get("state") != "Terminated":
        lines.append(json.loads(watching.stdout.readline()))
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=60)
    assert states(lines, job_id) == ["Waiting", "toLaunch", "Launching", "Running", "Finishing", "Terminated"]


def test_nothing_is_lost_or_doubled_when_appendice_is_killed(system):
    watching = started(system, "oarstat", "--events", "--after", "0", "--watch", "-J")
    assert watching.stdout is not None
    jobs = []
    for _ in range(3):
        jobs += system.oarsub_array("--array", "5", "true")
        before = system.processes()["appendice"]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda before=before: system.processes()["appendice"] != before)
    wait_until_told(system, jobs)

    every = [line["event_id"] for line in told(system, "0")]
    got = [json.loads(watching.stdout.readline())["event_id"] for _ in every]

    watching.send_signal(signal.SIGINT)
    rest, _ = watching.communicate(timeout=60)
    assert got == every
    assert rest == ""


def test_watching_a_job_ends_with_it(system):
    job_id = system.oarsub("while ! test -e go; do sleep 0.1; done")
    system.wait_until_state(job_id, "Running")
    watching = started(system, "oarstat", "--watch", "-s", "-j", str(job_id))
    assert watching.stdout is not None
    assert watching.stdout.readline() == "1: Running\n"

    (system.work / "go").touch()

    out, _ = watching.communicate(timeout=60)
    assert (watching.returncode, out.splitlines()[-1]) == (0, "1: Terminated")


def test_a_running_job_can_be_followed(system):
    job_id = system.oarsub("echo one; while ! test -e go; do sleep 0.1; done; echo two; exit 9")
    system.wait_until_state(job_id, "Running")
    following = started(system, "oarstat", "--follow", "-j", str(job_id))
    assert following.stdout is not None
    assert following.stdout.readline() == "one\n"

    (system.work / "go").touch()

    out, _ = following.communicate(timeout=60)
    assert (following.returncode, out) == (9, "two\n")


def test_follow_and_after_say_what_they_want(system):
    assert system.run("oarstat", "--follow", check=False).stderr == "oarstat: --follow wants one job, after -j\n"
    assert system.run("oarstat", "--after", "0", check=False).stderr == (
        "oarstat: --after goes with --events, as text or as JSON\n"
    )


def test_a_terminal_is_written_over(system):
    job_id = system.oarsub("while ! test -e go; do sleep 0.1; done")
    system.wait_until_state(job_id, "Running")
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        switched(system.user, [str(COMMANDS / "oarstat"), "--watch", "-s", "-j", str(job_id)]),
        env=environment_of(system.user, system.environment),
        cwd=system.work,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    while b"Running" not in said:
        said += os.read(ours, 4096)
    (system.work / "go").touch()
    with suppress(OSError):  # how a terminal ends
        while data := os.read(ours, 4096):
            said += data
    os.close(ours)

    assert watching.wait(timeout=60) == 0
    screens = said.split(b"\x1b[H\x1b[2J")
    assert screens[0] == b""
    assert screens[1].endswith(b"1: Running\r\n")
    assert screens[-1].endswith(b"1: Terminated\r\n")


def test_an_array_has_a_bar_on_a_terminal(system):
    ours, theirs = pty.openpty()
    waiting = subprocess.Popen(
        switched(system.user, [str(COMMANDS / "oarsub"), "--wait", "--array", "3", "test $OAR_ARRAY_INDEX != 2"]),
        env=environment_of(system.user, system.environment),
        cwd=system.work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    with suppress(OSError):  # how a terminal ends
        while data := os.read(ours, 4096):
            said += data
    os.close(ours)

    assert waiting.wait(timeout=60) == 1
    assert b"[##############################] 3/3 over, 1 failed" in said
