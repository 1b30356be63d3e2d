"""What every executor owes the runner, shown on this machine: run by root for a user, and run by the user."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from oarpy.errors import NodeUnreachable, Stale
from oarpy.model.states import EndCause
from oarpy.ports.executor import Attempt, Began, Ended, OrderWord, SessionNumber
from tests.support.node import Node, a_node, command_lines
from tests.support.waiting import wait_until


@pytest.fixture(params=["as root", "as its user", "over ssh", "over ssh, v2"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with a_node(request.param) as node:
        yield node


def test_a_job_runs_as_its_user_in_its_directory_and_its_output_is_kept(node):
    end = node.run("id -un; pwd; echo wrong >&2")

    assert (end.cause, end.status, end.ran) == (EndCause.EXIT, 0, True)
    assert node.read("1.out") == f"{node.user.pw_name}\n{node.work}\n"
    assert node.read("1.err") == "wrong\n"
    assert (node.work / "1.out").stat().st_uid == node.user.pw_uid


def test_the_status_is_that_of_wait(node):
    end = node.run("exit 3")

    assert (end.cause, end.status) == (EndCause.EXIT, 3 << 8)


def test_a_death_by_signal_is_told_as_one(node):
    end = node.run("kill -SEGV $$")

    assert (end.cause, end.status) == (EndCause.SIGNAL, 11)


def test_a_job_hears_the_signals_that_its_wrapper_ignores(node):
    end = node.run("kill -TERM $$; echo survived")

    assert (end.cause, end.status) == (EndCause.SIGNAL, 15)
    assert node.read("1.out") == ""


def test_the_command_is_a_script_for_the_login_shell(node):
    node.run('for i in 1 2\ndo\n  echo "line $i" \'and "quotes"\'\ndone\necho é')

    assert node.read("1.out") == 'line 1 and "quotes"\nline 2 and "quotes"\né\n'


def test_a_command_as_long_as_the_system_allows_runs_and_a_longer_one_is_refused(node):
    fits = node.run("true " + "x" * 131_000, job_id=1)
    longer = node.run("true " + "x" * 140_000, job_id=2)

    assert (fits.cause, fits.status) == (EndCause.EXIT, 0)
    assert (longer.cause, longer.event, longer.ran) == (EndCause.LAUNCH_ERROR, "USER_SHELL", False)
    assert "131071 bytes" in longer.text


def test_a_job_has_the_environment_of_a_login_and_what_the_server_gives(node):
    environment = {
        "OAR_JOB_ID": "1",
        "OAR_JOB_NAME": "a 'b' \"c\"\n$d",
        "LD_LIBRARY_PATH": "/none",
        "PATH": "/bin:/mine",
    }

    node.run("env -0", environment=environment)

    found = dict(line.split("=", 1) for line in node.read("1.out").split("\0") if line)
    assert {name: found[name] for name in environment} == environment
    assert found["HOME"] == node.user.pw_dir
    assert found["USER"] == found["LOGNAME"] == node.user.pw_name
    assert found["SHELL"] == node.user.pw_shell


def test_the_node_file_has_its_contents_and_the_date_of_the_start(node):
    # By the clock that dates files, which is a little slow.
    (node.work / "before").touch()
    before = (node.work / "before").stat().st_mtime

    node.run("cat $OAR_NODEFILE $OAR_RESOURCE_PROPERTIES_FILE; stat -c %Y $OAR_NODEFILE", nodes="a\nb\n" * 20_000)

    *content, resources, changed = node.read("1.out").splitlines()
    assert content == ["a", "b"] * 20_000
    assert resources == "resource_id = '1'"
    assert int(before) <= int(changed) <= time.time()


def test_the_node_file_has_the_date_of_its_own_job_and_not_of_one_before_it(node):
    node.began(node.launch("sleep 1000"))
    os.utime(node.directory / "jobs" / "1.1" / "nodes", (1, 1))

    node.run("stat -c %Y $OAR_NODEFILE", job_id=2)

    assert int(node.read("2.out")) > 1


def test_the_umask_holds_for_the_output_files(node):
    node.run("umask", umask=0o077)

    assert node.read("1.out") == "0077\n"
    assert stat.S_IMODE((node.work / "1.out").stat().st_mode) == 0o600


def test_output_is_appended_or_replaced_as_asked(node):
    node.run("echo one", job_id=1, stdout="out", stderr="out")
    node.run("echo two; echo three >&2", job_id=2, stdout="out", stderr="out")
    both = node.read("out")
    node.run("echo four; echo five >&2", job_id=3, stdout="out", stderr="out", append=False)

    assert both == "one\ntwo\nthree\n"
    assert node.read("out") == "four\nfive\n"


@pytest.mark.parametrize(
    ("other", "event", "said"),
    [
        ({"directory": "/nowhere/at all"}, "WORKING_DIRECTORY", "/nowhere/at all does not exist"),
        ({"directory": "/etc/passwd"}, "WORKING_DIRECTORY", "/etc/passwd is not a directory"),
        ({"stdout": "missing/out"}, "OUTPUT_FILES", "/missing does not exist; mkdir -p makes it"),
        ({"stderr": "missing/more/err"}, "OUTPUT_FILES", "/missing/more does not exist; mkdir -p makes it"),
        ({"stdout": "/etc/passwd/out"}, "OUTPUT_FILES", "file /etc/passwd/out: /etc/passwd is not a directory"),
        ({"stderr": "/etc"}, "OUTPUT_FILES", "standard error file /etc: it is a directory"),
        ({"stdout": "/proc/none"}, "OUTPUT_FILES", " may not write in the directory /proc"),
        ({"stdout": f"/tmp/{'x' * 300}"}, "OUTPUT_FILES", "xxx...: its name is too long"),
        ({"directory": f"/{'x/' * 1000}"}, "WORKING_DIRECTORY", "x/... does not exist"),
        ({"user": "nobody-of-this-name"}, "USER_UNKNOWN", "no account nobody-of-this-name"),
        ({"user": "root"}, "USER_REFUSED", "root"),
        ({"user": "daemon"}, "USER_REFUSED", "daemon"),
    ],
)
def test_what_hinders_a_start_ends_the_job_with_its_reason(node, other, event, said):
    end = node.run("echo ran > ran", **other)

    assert (end.cause, end.event, end.ran) == (EndCause.LAUNCH_ERROR, event, False)
    assert said in end.text
    assert node.read("ran") == ""


def test_a_folder_for_the_output_may_come_after_the_start(node):
    soon = node.work / "soon"
    (soon / "1").mkdir(parents=True)
    for path in (soon, soon / "1"):
        os.chown(path, node.user.pw_uid, node.user.pw_gid)
    attempt = node.launch("echo out; echo err >&2", stdout="late/1/out", stderr="late/1/err")
    node.began(attempt)
    # At once its user's, as where he makes it himself.
    soon.rename(node.work / "late")

    end = node.ended(attempt)

    assert (end.cause, end.status) == (EndCause.EXIT, 0)
    assert (node.read("late/1/out"), node.read("late/1/err")) == ("out\n", "err\n")


def test_a_directory_that_only_root_may_enter_is_refused_to_a_user(node):
    closed = node.work.parent / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() != 0:
        closed.chmod(0)

    end = node.run("true", directory=str(closed))

    assert end.event == "WORKING_DIRECTORY"
    assert f"{node.user.pw_name} may not enter" in end.text


def test_a_launch_is_executed_once_however_often_it_is_sent(node):
    launch = node.a_launch("echo once >> ran")

    node.send(launch, launch)
    node.send(launch)
    node.ended(launch.attempt)
    node.send(launch)
    node.order(OrderWord.CHECK)

    assert node.read("ran") == "once\n"


def test_many_jobs_at_once_all_run(node):
    node.send(*(node.a_launch(f"echo {job} >> ran; exit {job % 5}", job_id=job) for job in range(1, 101)))

    statuses = {job: node.ended(Attempt(job, 1)).status for job in range(1, 101)}

    assert statuses == {job: (job % 5) << 8 for job in range(1, 101)}
    assert sorted(map(int, node.read("ran").split())) == list(range(1, 101))


def test_ages_are_counted_on_the_node(node):
    attempt = node.launch("sleep 0.3")
    began = node.began(attempt)

    end = node.ended(attempt)

    assert began.age < timedelta(seconds=60)
    assert end.began is not None
    assert end.ended is not None
    assert timedelta(seconds=0.25) <= end.began - end.ended < timedelta(seconds=60)


def test_a_killed_job_may_clean_up_and_its_owner_reads_of_it(node):
    attempt = node.launch("trap 'echo cleaned; exit 4' TERM; echo ready; while :; do sleep 0.02; done")
    node.wait_for_text("1.out", "ready")

    answer = node.kill(attempt)
    end = node.ended(attempt)

    assert answer.done
    assert (end.cause, end.status) == (EndCause.KILLED, 4 << 8)
    assert node.read("1.out") == "ready\ncleaned\n"
    assert "Job 1 KILLED ##" in node.read("1.err")


def test_what_ignores_term_is_killed_after_its_delay(node):
    attempt = node.launch("trap '' TERM; echo ready; while :; do sleep 0.02; done")
    node.wait_for_text("1.out", "ready")

    node.kill(attempt, after_s=0.3)
    end = node.ended(attempt)

    assert (end.cause, end.status) == (EndCause.KILLED, 9)


def test_a_stopped_job_can_be_killed(node):
    attempt = node.launch("echo ready; kill -STOP 0; sleep 60")
    node.wait_for_text("1.out", "ready")

    node.kill(attempt, after_s=0)

    assert node.ended(attempt).cause is EndCause.KILLED
    assert node.processes() == []


def test_a_kill_reaches_what_left_the_session_of_the_job(node):
    attempt = node.launch("setsid sleep 1000 & setsid -f sleep 1001; echo ready; wait")
    node.wait_for_text("1.out", "ready")

    node.kill(attempt, after_s=0)
    node.ended(attempt)

    assert node.processes() == []


def test_a_job_is_over_only_when_nothing_of_it_is_left(node):
    attempt = node.launch("setsid -f sleep 1000; setsid sh -c 'sleep 1001 & sleep 1002' & exit 5")

    end = node.ended(attempt)

    assert (end.cause, end.status) == (EndCause.EXIT, 5 << 8)
    assert node.processes() == []


def test_the_ends_of_many_jobs_that_left_something_behind_are_all_heard_of(node):
    attempts = [node.launch(f"sleep 1000 & sleep 0.{job_id:02}", job_id) for job_id in range(1, 25)]

    ends = [node.ended(attempt) for attempt in attempts]

    assert {(end.cause, end.status) for end in ends} == {(EndCause.EXIT, 0)}
    assert node.processes() == []


def test_the_end_of_one_job_leaves_what_belongs_to_another_alone(node):
    other = node.launch("setsid -f sleep 1000; echo ready; exec sleep 1001", job_id=1)
    wait_until(lambda: sleepers(node) == {"1000", "1001"}, what="all of it sleeps")
    before = node.processes()

    node.run("true", job_id=2)

    assert sorted(node.processes()) == sorted(before)
    assert isinstance(node.reports[other], Began)


def sleepers(node: Node) -> set[str]:
    """For how long the processes of a job sleep."""
    mine = node.processes()
    return {words[1] for pid, words in command_lines() if pid in mine and words[0] == "sleep"}


def test_a_signal_goes_to_the_first_process_of_the_job(node):
    attempt = node.launch("trap 'echo checkpoint; exit 0' USR2; echo ready; while :; do sleep 0.02; done")
    node.wait_for_text("1.out", "ready")

    answer = node.order(OrderWord.SIGNAL, attempt, signal=12)

    assert answer.done
    assert node.ended(attempt).cause is EndCause.EXIT
    assert "checkpoint" in node.read("1.out")


def test_a_suspended_job_rests_until_it_is_resumed(node):
    attempt = node.launch("while :; do echo tick; sleep 0.01; done")
    node.wait_for_text("1.out", "tick")

    assert node.order(OrderWord.SUSPEND, attempt).done
    assert node.order(OrderWord.SUSPEND, attempt).done
    resting = len(node.read("1.out"))
    node.order(OrderWord.CHECK)
    still = len(node.read("1.out"))
    assert node.order(OrderWord.RESUME, attempt).done

    assert still == resting
    wait_until(lambda: len(node.read("1.out")) > resting, what="the job goes on")
    node.kill(attempt, after_s=0)
    node.ended(attempt)


def test_a_suspended_job_can_be_killed(node):
    attempt = node.launch("echo ready; sleep 1000")
    node.wait_for_text("1.out", "ready")
    node.order(OrderWord.SUSPEND, attempt)

    node.kill(attempt, after_s=0.3)

    assert node.ended(attempt).cause is EndCause.KILLED


def test_the_walltime_is_enforced_when_no_server_does(node):
    attempt = node.launch(
        "sleep 1000", walltime=timedelta(seconds=0.2), grace=timedelta(seconds=0.1), kill_after=timedelta(seconds=1)
    )

    end = node.ended(attempt)

    assert end.cause is EndCause.WALLTIME
    assert end.began is not None
    assert end.began >= timedelta(seconds=0.28)


def test_a_walltime_can_be_prolonged(node):
    attempt = node.launch("until [ -e go ]; do sleep 0.05; done", walltime=timedelta(seconds=5), grace=timedelta(0))
    began = node.began(attempt)
    node.ping()
    ends_at = node.clock - began.age.total_seconds() + 5

    assert node.order(OrderWord.WALLTIME, attempt, walltime=timedelta(hours=1)).done

    def is_past_its_first_walltime() -> bool:
        node.ping()
        return node.clock > ends_at + 0.5

    wait_until(is_past_its_first_walltime, what="its first walltime is over")
    (node.work / "go").touch()
    assert node.ended(attempt).cause is EndCause.EXIT


def test_an_attempt_given_up_never_starts(node):
    attempt = Attempt(1, 1)

    assert node.order(OrderWord.REFUSE, attempt).done
    node.launch("echo ran > ran")
    node.order(OrderWord.CHECK)

    node.refused(attempt)
    assert node.read("ran") == ""


def test_giving_up_comes_too_late_for_what_was_launched(node):
    attempt = node.launch("sleep 1000")
    node.began(attempt)

    assert node.order(OrderWord.REFUSE, attempt).done

    assert isinstance(node.reports[attempt], Began)


def test_a_kill_of_an_unknown_attempt_gives_it_up(node):
    assert node.kill(Attempt(1, 1)).done

    node.launch("echo ran > ran")

    node.refused(Attempt(1, 1))
    assert node.read("ran") == ""


def test_an_entry_is_forgotten_only_after_its_end_and_by_a_later_session(node):
    attempt = node.launch("until [ -e go ]; do sleep 0.05; done")
    node.began(attempt)

    node.renew()
    while_running = node.order(OrderWord.FORGET, attempt)
    (node.work / "go").touch()
    node.ended(attempt)
    later = node.order(OrderWord.FORGET, attempt)
    again = node.order(OrderWord.FORGET, attempt)
    second = node.launch("true", job_id=2)
    node.ended(second)
    same_session = node.order(OrderWord.FORGET, second)

    assert (while_running.done, later.done, again.done, same_session.done) == (False, True, True, False)
    assert [path.name for path in (node.directory / "jobs").iterdir()] == ["2.1"]


def test_what_was_forgotten_may_come_again_and_be_forgotten_again(node):
    for job_ids in ((1, 2), (1,)):
        node.reports.clear()
        attempts = [node.launch("true", job_id=job_id) for job_id in job_ids]
        for attempt in attempts:
            node.ended(attempt)
        node.renew()
        answers = [node.order(OrderWord.FORGET, attempt) for attempt in attempts]

        assert {(answer.done, answer.text) for answer in answers} == {(True, "")}
        assert list((node.directory / "jobs").iterdir()) == []


def test_orders_for_a_job_that_is_over_say_so(node):
    attempt = node.launch("true")
    node.ended(attempt)

    answers = [
        node.order(OrderWord.SIGNAL, attempt, signal=12),
        node.order(OrderWord.SUSPEND, attempt),
        node.order(OrderWord.RESUME, attempt),
    ]

    assert [(answer.done, answer.text) for answer in answers] == [(False, "the job is over")] * 3
    assert node.kill(attempt).done


def test_an_order_for_an_unknown_attempt_says_so(node):
    answer = node.order(OrderWord.SIGNAL, Attempt(9, 9), signal=12)

    assert (answer.done, answer.text) == (False, "this attempt is not known here")


def test_a_session_of_a_lower_number_is_turned_away(node):
    node.disconnect()
    node.connect(SessionNumber(2, 1))
    node.disconnect()

    for number in (SessionNumber(1, 99), SessionNumber(2, 0), SessionNumber(2, 1)):
        with pytest.raises(Stale):
            node.connect(number)


@contextmanager
def another_server(node: Node) -> Iterator[Node]:
    """The same host, seen by a server of the next epoch."""
    other = Node(node.work.parent, node.user, node.runs_as)
    other.instance = node.instance
    other.connect(SessionNumber(node.number.epoch + 1, 0))
    try:
        yield other
    finally:
        other.disconnect()


def test_a_newer_session_ends_the_older_one(node):
    with another_server(node) as newer:
        with pytest.raises(NodeUnreachable, match="another session took over"):
            node.hang_up()

        assert newer.run("echo ran > ran", job_id=2).status == 0


def test_jobs_outlive_their_session_and_the_next_one_hears_of_them(node):
    long = node.launch("sleep 1000", job_id=1)
    short = node.launch("until [ -e go ]; do sleep 0.01; done; exit 7", job_id=2)
    node.began(long)
    node.began(short)
    node.disconnect()
    (node.work / "go").touch()
    wait_until(lambda: "exit 7" in (node.directory / "jobs/2.1/progress").read_text(), what="the job ended")

    node.reports.clear()
    node.connect()

    assert isinstance(node.reports[long], Began)
    end = node.reports.get(short)
    if not isinstance(end, Ended):
        end = node.ended(short)
    assert (end.cause, end.status) == (EndCause.EXIT, 7 << 8)


def test_two_instances_on_a_host_know_nothing_of_each_other(node):
    kind = "as root" if node.runs_as.pw_uid == 0 else "as its user"
    with a_node(kind) as other:
        mine, theirs = node.launch("echo mine > ran"), other.launch("echo theirs > ran")

        node.ended(mine)
        other.ended(theirs)

        assert node.read("ran") == "mine\n"
        assert other.read("ran") == "theirs\n"
        assert node.guard() != other.guard()


def test_nobody_else_can_read_the_spool_except_node_files(node):
    attempt = node.launch("cat $OAR_NODEFILE; sleep 1000")
    node.began(attempt)
    entry = node.directory / "jobs" / "1.1"

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in entry.iterdir()}

    assert modes == {"progress": 0o600, "nodes": 0o444, "resources": 0o444}
    for directory in (node.directory, node.directory / "jobs", entry):
        assert not stat.S_IMODE(directory.stat().st_mode) & 0o066


def test_a_check_says_what_the_host_can_do(node):
    answer = node.order(OrderWord.CHECK)

    assert answer.done
    assert '"containment"' in answer.text
    assert '"findings"' in answer.text
