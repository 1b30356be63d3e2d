"""What reading OAR's server showed: not here.

Each test is named after the module of OAR 3 in which the defect was seen; its doc string
says what the defect was.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.accounts import environment_of, switched
from tests.support.instance import COMMANDS, SETTINGS, System, running_system
from tests.support.mail import Mailbox, smtp_server
from tests.support.postgres import TestServer
from tests.support.typist import Typist
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
#: Notes each call, and fails for the jobs that are told of in a file.
PROLOGUE = '#!/bin/sh\necho "$1" >> {place}/called\n! grep -qx "$1" {place}/bad\n'


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with smtp_server() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def running(
    postgres: TestServer, mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, Path]]:
    """An instance with a server prologue and an administrator who gets mail, and the place of the former."""
    place = tmp_path_factory.mktemp("prologue")
    (place / "bad").touch()
    program = place / "prologue"
    program.write_text(PROLOGUE.format(place=place))
    program.chmod(0o755)
    settings = (
        f'{SETTINGS}[prologue]\nserver_prologue = "{program}"\n[jobs]\nusers_may_suspend = true\n'
        f'[mail]\nhost = "127.0.0.1"\nport = {mailbox.port}\nadmin = "root@example.org"\n'
    )
    with postgres.database() as database, running_system(database, settings=settings) as system:
        yield system, place
        assert invariants.broken(database.engine) == []


@pytest.fixture
def system(running: tuple[System, Path]) -> Iterator[System]:
    """The same, left idle by each test."""
    system = running[0]
    yield system
    left = [int(str(job)) for (job,) in system.database.execute("SELECT job_id FROM jobs WHERE stopped_at IS NULL")]
    if left:
        system.admin("oardel", *map(str, left), check=False)
        system.wait_until_all_final(left)


def events_of(system: System, job_id: int) -> list[tuple[object, ...]]:
    return system.database.execute(
        "SELECT type, description FROM events WHERE job_id = %s ORDER BY event_id", (job_id,)
    )


def types_of_events(system: System, job_id: int) -> list[object]:
    return [type_ for type_, _ in events_of(system, job_id)]


def copies_of(system: System, job_id: int) -> list[object]:
    found = system.database.execute("SELECT job_id FROM jobs WHERE resubmit_job_id = %s", (job_id,))
    return [copy for (copy,) in found]


def typed(system: System, *words: str) -> Typist:
    command = [str(COMMANDS / words[0]), *words[1:]]
    return Typist(command, system.user, cwd=system.work, environment=system.environment)


# kao/meta_sched.py


def test_meta_sched_more_walltime_is_granted(system: System) -> None:
    """Wishes for more were processed with wrong arguments, and "yes" was compared with "YES"."""
    job_id = system.oarsub("-l", "/core=1,walltime=0:10", "sleep 600")
    system.wait_until_state(job_id, "Running")

    system.run("oarwalltime", "--whole", str(job_id), "+0:05")

    grown = "SELECT walltime = interval '15 min' FROM jobs WHERE job_id = %s"
    wait_until(lambda: system.database.execute(grown, (job_id,)) == [(True,)], timeout_s=30, what="it has grown")


def test_meta_sched_a_besteffort_job_has_its_checkpoint_before_it_is_killed(system: System) -> None:
    """The path for it called a helper without the session, and raised."""
    listens = "trap 'echo saved > saved' USR2; touch listens; while :; do sleep 0.1; done"
    guest = system.oarsub("-t", "besteffort", "--checkpoint", "5", "-l", "/core=4,walltime=1", listens)
    wait_until(lambda: (system.work / "listens").exists(), timeout_s=30, what="it listens")

    owner = system.oarsub("-l", "/core=4,walltime=0:1", "true")

    system.wait_until_all_final([guest, owner])
    assert system.read("saved") == "saved\n"
    assert types_of_events(system, guest).index("CHECKPOINT") < types_of_events(system, guest).index("SEND_KILL_JOB")


def test_meta_sched_nobody_hears_the_answer_to_a_reservation_and_the_server_goes_on(system: System) -> None:
    """CANNOT_NOTIFY_OARSUB, for an oarsub that is gone, raised in the scheduler."""
    start = (datetime.now().astimezone() + timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S")
    gone = subprocess.Popen(
        switched(system.user, [str(COMMANDS / "oarsub"), "-r", start, "-l", "/core=4,walltime=1", "true"]),
        env=environment_of(system.user, system.environment),
        cwd=system.work,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert gone.stdout is not None
    job_id = int(gone.stdout.readline().partition("=")[2])

    gone.send_signal(signal.SIGKILL)
    gone.communicate()

    accepted = "SELECT reservation::text FROM jobs WHERE job_id = %s"
    wait_until(lambda: system.database.execute(accepted, (job_id,)) == [("Scheduled",)], timeout_s=30)
    assert system.wait_until_final(system.oarsub("true")).state == "Terminated"


def test_meta_sched_a_suspended_job_goes_on(system: System) -> None:
    """The branch for a resumption logged that it was not entirely implemented."""
    job_id = system.oarsub("-l", "/core=1,walltime=0:10", "while [ ! -e enough ]; do sleep 0.1; done")
    system.wait_until_state(job_id, "Running")
    system.run("oarhold", "-r", str(job_id))
    system.wait_until_state(job_id, "Suspended")

    system.run("oarresume", str(job_id))

    system.wait_until_state(job_id, "Running")
    (system.work / "enough").touch()
    assert system.wait_until_final(job_id).exit_code == 0


def test_meta_sched_a_job_runs_inside_a_container_that_is_a_reservation(system: System) -> None:
    """Inner jobs of advance reservations were left to be done."""
    container = system.oarsub("-r", "now", "-t", "container", "-l", "/core=2,walltime=0:10")
    system.wait_until_state(container, "Running")

    inner = system.oarsub("-t", f"inner={container}", "-l", "/core=2,walltime=0:5", "wc -l < $OAR_NODEFILE > had")

    assert system.wait_until_final(inner).state == "Terminated"
    assert system.read("had") == "2\n"


def test_meta_sched_a_reservation_may_neither_overlap_nor_be_kept_off_the_end_of_another(system: System) -> None:
    """The security time was taken off the length of reservations when they were compared."""
    first = system.run("oarsub", "-r", "2033-05-04 10:00:00", "-l", "/core=4,walltime=1", "true")

    over = system.run("oarsub", "-r", "2033-05-04 10:59:30", "-l", "/core=4,walltime=1", "true", check=False)
    behind = system.run("oarsub", "-r", "2033-05-04 11:02:00", "-l", "/core=4,walltime=1", "true")

    assert [done.returncode for done in (first, over, behind)] == [0, 10, 0]


def test_meta_sched_a_reason_with_numbers_is_a_sentence(system: System) -> None:
    """A text and a number were added up, and the message of a job became a TypeError."""
    busy = system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    system.wait_until_state(busy, "Running")
    behind = system.oarsub("-a", str(busy), "-l", "/core=1,walltime=0:1", "true")

    refused = system.run("oarsub", "-t", f"inner={busy}", "true", check=False)

    assert refused.stderr == f"oarsub: job {busy}, which is to be its container, is no container\n"
    why = "SELECT strpos(reason, %s) > 0 FROM predictions WHERE job_id = %s"
    said = f"job {busy}"
    wait_until(lambda: system.database.execute(why, (said, behind)) == [(True,)], timeout_s=30, what="the reason")


# lib/job_handling.py


def test_job_handling_a_job_runs_after_one_that_failed(system: System) -> None:
    """What a job waited for had to end with 0; else it never ran, and nobody was told."""
    failing = system.oarsub("exit 3")
    system.wait_until_final(failing)

    after = system.oarsub("-a", str(failing), "true")

    assert system.wait_until_final(after).state == "Terminated"


def test_job_handling_the_event_of_a_resubmission_has_the_id_of_the_copy(system: System) -> None:
    """The whole tuple that the function returned was logged as the id."""
    job_id = system.oarsub("true")
    system.wait_until_final(job_id)

    (copy,) = re.findall(r"^OAR_JOB_ID=(\d+)$", system.run("oarsub", "--resubmit", str(job_id)).stdout, re.MULTILINE)

    assert ("RESUBMIT_JOB", f"{system.user.pw_name} submitted it again as job {copy}") in events_of(system, job_id)


def test_job_handling_what_starts_leaves_the_plans_of_others_in_the_tables(system: System) -> None:
    """The filter was inverted: the plans of all but the job that started were removed."""
    first = system.oarsub("-l", "/core=4,walltime=0:10", "while [ ! -e go ]; do sleep 0.1; done")
    system.wait_until_state(first, "Running")
    second = system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    third = system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    planned = "SELECT job_id FROM predictions WHERE start_at IS NOT NULL ORDER BY job_id"
    wait_until(lambda: system.database.execute(planned) == [(second,), (third,)], timeout_s=30)

    (system.work / "go").touch()
    system.wait_until_state(second, "Running")

    assert system.database.execute(planned) == [(third,)]


# lib/tools.py


def test_tools_the_administrator_gets_mail(running: tuple[System, Path], system: System, mailbox: Mailbox) -> None:
    """Sending a log by mail did nothing."""
    _, place = running
    job_id = system.oarsub("--hold", "true")
    (place / "bad").write_text(f"{job_id}\n")

    system.run("oarresume", str(job_id))
    system.wait_until_final(job_id)

    # What happens within a minute is told together; something else may be told first.
    now = "UPDATE notifications SET next_try_at = now() WHERE target = 'root@example.org' AND done_at IS NULL"

    def came() -> bool:
        system.database.execute(now)
        return any(f"job {job_id}" in str(mail.get_payload()) for mail in mailbox.mails)

    wait_until(came, timeout_s=60, what="the mail came")


def test_tools_a_signal_to_a_host_that_is_silent_keeps_nobody_waiting(system: System) -> None:
    """The signal was sent without a time-out, by whoever had asked for it."""
    job_id = system.oarsub("-l", "/core=1,walltime=0:10", "sleep 600")
    system.wait_until_state(job_id, "Running")
    runner = system.processes()["runner"]
    os.kill(runner, signal.SIGSTOP)
    try:
        done = system.run("oardel", "-s", "USR1", str(job_id))
        bounded = "SELECT deadline > asked_at FROM orders WHERE job_id = %s AND kind = 'signal'"
        assert system.database.execute(bounded, (job_id,)) == [(True,)]
    finally:
        os.kill(runner, signal.SIGCONT)

    assert done.stdout == f"Signalling the job = {job_id} ...REGISTERED.\n"
    assert system.wait_until_final(job_id).end_cause == "signal"


# modules


def test_node_change_state_no_copy_is_made_after_a_server_prologue_that_failed(
    running: tuple[System, Path], system: System
) -> None:
    """The job was submitted again, to meet the same prologue, for ever."""
    _, place = running
    job_id = system.oarsub("--hold", "-t", "idempotent", "true")
    (place / "bad").write_text(f"{job_id}\n")

    system.run("oarresume", str(job_id))

    assert system.wait_until_final(job_id).end_cause == "prologue"
    assert copies_of(system, job_id) == []
    assert system.database.execute("SELECT DISTINCT state::text FROM queues") == [("Active",)]


def test_bipbip_the_server_prologue_runs_once(running: tuple[System, Path], system: System) -> None:
    """It was called twice for each job."""
    job_id = system.oarsub("true")

    system.wait_until_final(job_id)

    assert (running[1] / "called").read_text().split().count(str(job_id)) == 1


def test_bipbip_the_walltime_is_known_where_the_job_runs(system: System) -> None:
    """It was undefined in what was told to the node that made the job's containment."""
    job_id = system.oarsub("-l", "walltime=0:7", "echo $OAR_JOB_WALLTIME $OAR_JOB_WALLTIME_SECONDS > told")

    assert system.wait_until_final(job_id).state == "Terminated"
    assert system.read("told") == "0:7:0 420\n"


def test_leon_who_waits_for_an_interactive_job_is_told_that_it_was_killed(system: System) -> None:
    """The text JOB_KILLED was one that oarsub did not know, and it waited on."""
    system.oarsub("-l", "/core=4,walltime=0:10", "sleep 600")
    waiting = typed(system, "oarsub", "-I", "-l", "/core=4,walltime=0:10")
    try:
        job_id = int(waiting.wait_for(r"OAR_JOB_ID=(\d+)\r\n")[1])
        waiting.wait_for("Interactive mode: waiting")

        system.run("oardel", str(job_id))

        waiting.wait_for(rf"oarsub: job {job_id}[^\r\n]+\r\n")
        assert waiting.end() == 11
    finally:
        waiting.close()


# lib/submission.py, cli/oarsub.py


def test_submission_the_key_of_a_job_is_written_to_its_file(system: System) -> None:
    """The code that writes it used a variable that nobody had defined."""
    job_id = system.oarsub("-e", "key.%jobid%", "--hold", "true")

    assert "PRIVATE KEY" in system.read(f"key.{job_id}")


def test_submission_the_callers_environment_does_not_say_how_the_site_works(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OARSUB_FORCE_JOB_KEY, a setting of the site, was looked for in the environment of the user."""
    for name in ("OARSUB_FORCE_JOB_KEY", "OARSUB_DEFAULT_RESOURCES", "OARSUB_NODES_RESOURCES"):
        monkeypatch.setitem(system.environment, name, "nonsense")

    done = system.run("oarsub", "-l", "nodes=1", "true")

    job_id = int(done.stdout.partition("=")[2])
    assert done.stdout == f"OAR_JOB_ID={job_id}\n"
    assert system.wait_until_final(job_id).state == "Terminated"


# In general


def test_general_a_submission_is_one_transaction(system: System) -> None:
    """Each operation was many commits, between which others saw half of it."""
    jobs = system.oarsub_array("--hold", "--array", "20", "true")

    written = "SELECT DISTINCT xid FROM job_state_logs WHERE job_id = ANY (%s)"
    assert len(system.database.execute(written, (jobs,))) == 1


def test_general_of_many_who_ask_for_the_same_one_is_heard(system: System) -> None:
    """Tables were locked no longer, and two who did the same thing at once did it twice."""
    job_id = system.oarsub("true")
    system.wait_until_final(job_id)
    deleted = system.oarsub("--hold", "true")
    system.run("oardel", str(deleted))

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(
            pool.map(lambda _: system.run("oardel", "--undo", str(deleted), check=False).returncode, range(4))
        )

    assert sorted(outcomes) == [0, 1, 1, 1]
    assert len(copies_of(system, deleted)) == 1


def test_general_nothing_is_left_to_be_done_without_saying_where() -> None:
    """191 notes said TODO or FIXME."""
    notes = [
        f"{path}:{number}"
        for path in (ROOT / "oarpy").rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"\b(TODO|FIXME|XXX)\b(?!.*#\d+)", line)
    ]

    assert notes == []


@pytest.mark.parametrize("title", ["Queues", "Admission rules"])
def test_general_scheduling_and_admission_rules_are_documented(title: str) -> None:
    """Their pages of the documentation were empty."""
    guide = (ROOT / "docs" / "admin-guide.md").read_text(encoding="utf-8")

    sections = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", guide, re.MULTILINE))

    assert len(sections[title].split()) > 200
