"""Programs of jobs that show something: displays through oarsh, and of interactive jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import accounts
from tests.support.cluster import Cluster, running_cluster
from tests.support.display import a_display
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: 1 where the display answers.
ASKS = "xset q | grep -c 'Keyboard Control'"


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    """Its user sits before a display."""
    with running_cluster(database) as cluster, a_display(cluster.user) as display:
        cluster.environment.update(display)
        yield cluster


@pytest.fixture
def job_id(cluster: Cluster) -> int:
    """A job on c1 and c2, which is the one that oarsh means."""
    job_id = cluster.oarsub("-l", "/host=2/core=1", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")
    cluster.environment["OAR_JOB_ID"] = str(job_id)
    return job_id


@pytest.mark.usefixtures("job_id")
@pytest.mark.parametrize("option", ["-X", "-Y"])
def test_a_program_in_a_job_shows_on_the_display_where_oarsh_is_typed(cluster: Cluster, option: str) -> None:
    shown = cluster.on_front_end("oarsh", option, "c2", f"echo $DISPLAY; {ASKS}")
    plain = cluster.on_front_end("oarsh", "c2", "echo d=$DISPLAY")
    denied = cluster.on_front_end("oarsh", f"{option}x", "c2", "echo d=$DISPLAY")

    # What is on stderr is xauth's, when it makes its first file.
    assert shown.returncode == 0, shown.stderr
    where, answers = shown.stdout.split()
    assert where.startswith("localhost:")
    assert answers == "1"
    assert (plain.stdout, denied.stdout) == ("d=\n", "d=\n")


@pytest.mark.usefixtures("job_id")
def test_nobody_else_on_the_host_uses_a_display_that_is_forwarded(cluster: Cluster) -> None:
    me = cluster.at_terminal("oarsh", "-Y", "c2", f"echo display $DISPLAY; {ASKS}; read line")
    where = me.wait_for(r"display (localhost:\d+\.0)")[1]
    me.wait_for(r"1\r?\n")
    bob = accounts.account(accounts.BOB)
    become = ["setpriv", f"--reuid={bob.pw_uid}", f"--regid={bob.pw_gid}", "--clear-groups"]

    theirs = cluster.on("c2", *become, "env", f"DISPLAY={where}", f"HOME={bob.pw_dir}", "sh", "-c", "xset q 2>&1; :")

    assert "unable to open display" in theirs
    assert "Keyboard" not in theirs
    me.type("\n")
    me.end()


def test_a_shell_on_another_host_has_the_display_of_its_terminal(cluster: Cluster) -> None:
    me = cluster.at_terminal("oarsub", "-I", "-p", "host = 'c2'", "-l", "/core=1")
    me.wait_for(r"# Connect to OAR job \d+ via the node c2\r\n")

    me.type(f"echo at-$DISPLAY-; {ASKS}; echo cookies-$XAUTHORITY-\n")

    me.wait_for(r"at-localhost:\d+\.0-\r\n")
    me.wait_for(r"\b1\r\n")
    me.wait_for(r"cookies--\r\n")
    me.type("exit\n")
    assert me.end() == 0, me.shown


def test_another_shell_in_a_job_has_the_display_of_its_own_terminal(cluster: Cluster, job_id: int) -> None:
    me = cluster.at_terminal("oarsub", "-C", str(job_id))
    me.wait_for(rf"# Connect to OAR job {job_id} via the node c1\r\n")

    me.type(f"echo at-$DISPLAY-; {ASKS}\n")

    me.wait_for(r"at-localhost:\d+\.0-\r\n")
    me.wait_for(r"\b1\r\n")
    me.type("exit\n")
    assert me.end() == 0, me.shown


def test_whoever_has_no_display_gives_none(cluster: Cluster) -> None:
    del cluster.environment["DISPLAY"]
    me = cluster.at_terminal("oarsub", "-I", "-p", "host = 'c2'", "-l", "/core=1")
    me.wait_for(r"# Connect to OAR job \d+ via the node c2\r\n")

    me.type("echo at-$DISPLAY-\n")

    me.wait_for(r"at--\r\n")
    me.type("exit\n")
    assert me.end() == 0, me.shown
