"""Jobs on several hosts, in a cluster in a box."""

from __future__ import annotations

import os
import pwd
import re
import signal
import stat
import subprocess
from collections.abc import Iterator

import pytest

from tests.support import accounts
from tests.support.box import a_box
from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database) as cluster:
        yield cluster


def test_the_head_runs_the_command_and_all_hosts_are_prepared_and_cleaned(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-l", "/host=3/core=2", 'hostname; cat "$OAR_NODEFILE"; touch began; sleep 1000')
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")

    assert cluster.read(f"OAR.{job_id}.stdout").split() == ["c1", *("c1", "c1", "c2", "c2", "c3", "c3")]
    assert [cluster.entries(f"c{n}") for n in (1, 2, 3)] == [[f"{job_id}.1"]] * 3
    cluster.run("oardel", str(job_id))
    cluster.wait_until_final(job_id)

    assert cluster.job(job_id).end_cause == "killed"
    for n in (1, 2, 3):
        wait_until(lambda n=n: cluster.entries(f"c{n}") == [], what=f"c{n} has forgotten the job")
        assert "sleep" not in cluster.on(f"c{n}", "ps", "-eo", "comm")


def test_many_parallel_jobs_one_after_the_other(cluster: Cluster) -> None:
    job_ids = [cluster.oarsub("-l", "/host=2/core=1", "echo $OAR_JOB_ID >> ran; exit 3") for _ in range(12)]

    cluster.wait_until_all_final(job_ids, timeout_s=180)

    assert sorted(map(int, cluster.read("ran").split())) == job_ids
    assert {cluster.job(job_id).exit_code for job_id in job_ids} == {3 << 8}


#: Longer than a host that is well but busy takes.
QUICK = 'prepare_timeout = "6 s"\norder_timeout = "4 s"\n'


@pytest.fixture
def hasty_cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database, settings=QUICK) as cluster:
        yield cluster


def stopped_guard(cluster: Cluster, host: str) -> str:
    """The pid of the guard of ``host``, as the host counts, which does nothing until it is sent CONT."""
    found = cluster.on(host, "pgrep", "-f", f"guard --spool {cluster.spool}").split()
    cluster.on(host, "kill", "-STOP", *found)
    return found[0]


def test_a_host_that_does_not_prepare_in_time_is_suspected_and_the_job_starts_elsewhere(hasty_cluster: Cluster) -> None:
    cluster = hasty_cluster
    cluster.wait_until_final(cluster.oarsub("-l", "/host=3", "true"))
    pid = stopped_guard(cluster, "c2")

    slow = cluster.oarsub("-p", "host <> 'c3' OR host = 'c3'", "-l", "/host=2/core=2", "hostname; touch slow")
    other = cluster.oarsub("-p", "host = 'c3'", "hostname")

    cluster.wait_until_final(other)
    wait_until(lambda: (cluster.work / "slow").exists(), timeout_s=60, what="the job runs")
    cluster.on("c2", "kill", "-CONT", pid)
    cluster.wait_until_final(slow)
    assert cluster.read(f"OAR.{slow}.stdout") == "c1\n"
    assert ("CPUSET_ERROR", ["c2"]) in cluster.events(slow)
    assert cluster.job(slow).attempt == 2
    assert cluster.database.execute("SELECT DISTINCT state FROM resources WHERE host = 'c2'") == [("Suspected",)]
    wait_until(lambda: cluster.entries("c2") == [], what="c2 has nothing of the first attempt")


def test_a_job_that_lost_one_of_its_hosts_is_killed_for_that(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-l", "/host=2/core=2", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")

    cluster.box.do("kill", "c2")
    cluster.box.do("boot", "c2")

    assert cluster.wait_until_final(job_id, timeout_s=60).end_cause == "node_rebooted"
    wait_until(lambda: cluster.entries("c1") == [], what="c1 has forgotten the job")


def test_a_host_that_lost_its_part_is_believed_by_the_next_runner_too(cluster: Cluster) -> None:
    hosts = cluster.box
    job_id = cluster.oarsub("-p", "host <> 'c3'", "-l", "/host=2/core=1", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")

    hosts.do("cut", "c1")
    try:
        hosts.do("kill", "c2")
        hosts.do("boot", "c2")
        lost = "SELECT 1 FROM events WHERE job_id = %s AND type = 'PART_LOST' AND hosts = '{c2}'"
        wait_until(lambda: cluster.database.execute(lost, (job_id,)), timeout_s=60, what="it is known")
        forgotten = cluster.oarsub("-p", "host = 'c2'", "true")
        cluster.wait_until_final(forgotten, timeout_s=60)
        wait_until(lambda: f"{forgotten}.1" not in cluster.entries("c2"), timeout_s=60, what="c2 has forgotten")
        cluster.replace_process("runner")

        cluster.wait_until_final(cluster.oarsub("-p", "host = 'c2'", "true"), timeout_s=60)
    finally:
        hosts.do("mend", "c1")

    assert cluster.wait_until_final(job_id, timeout_s=60).end_cause == "node_rebooted"
    assert cluster.database.execute("SELECT 1 FROM events WHERE type = 'LOG_SUSPECTED'") == []
    for host in ("c1", "c2"):
        wait_until(lambda host=host: cluster.entries(host) == [], timeout_s=30, what=f"{host} has forgotten the job")


def test_a_part_that_was_lost_before_the_command_began_is_told_of_to_the_next_runner(cluster: Cluster) -> None:
    cluster.wait_until_final(cluster.oarsub("-p", "host <> 'c3'", "-l", "/host=2", "true"))
    pid = stopped_guard(cluster, "c1")
    try:
        job_id = cluster.oarsub("-p", "host <> 'c3'", "-l", "/host=2/core=1", "echo once >> ran; sleep 1000")
        wait_until(lambda: f"{job_id}.1" in cluster.entries("c2"), timeout_s=30, what="c2 makes its part")
        cluster.box.do("kill", "c2")
        cluster.box.do("boot", "c2")
        forgotten = cluster.oarsub("-p", "host = 'c2'", "true")
        cluster.wait_until_final(forgotten, timeout_s=60)
        wait_until(lambda: f"{forgotten}.1" not in cluster.entries("c2"), timeout_s=60, what="c2 has forgotten")

        assert f"{job_id}.1" in cluster.entries("c2")
        cluster.replace_process("runner")
        cluster.wait_until_final(cluster.oarsub("-p", "host = 'c2'", "true"), timeout_s=60)
    finally:
        cluster.on("c1", "kill", "-CONT", pid)
    # The host itself may have told by now that it is over.
    cluster.run("oardel", str(job_id), check=False)

    assert cluster.wait_until_final(job_id, timeout_s=90).end_cause in ("killed", "node_rebooted")
    for host in ("c1", "c2"):
        wait_until(lambda host=host: cluster.entries(host) == [], timeout_s=30, what=f"{host} has forgotten the job")


def test_a_part_that_is_cut_off_keeps_its_resources_until_it_is_cleaned(hasty_cluster: Cluster) -> None:
    cluster = hasty_cluster
    job_id = cluster.oarsub("-l", "/host=2/core=2", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")

    cluster.box.do("cut", "c2")
    try:
        cluster.run("oardel", str(job_id))
        late = "SELECT 1 FROM events WHERE type = 'CPUSET_CLEAN_ERROR' AND hosts = '{c2}'"
        wait_until(lambda: cluster.database.execute(late), timeout_s=60, what="it is told that c2 was not cleaned")
        assert cluster.job(job_id).state == "Finishing"
    finally:
        cluster.box.do("mend", "c2")

    assert cluster.wait_until_final(job_id, timeout_s=60).end_cause == "killed"


def test_a_person_may_say_that_nothing_is_left_on_a_host_that_does_not_come_back(hasty_cluster: Cluster) -> None:
    cluster = hasty_cluster
    job_id = cluster.oarsub("-l", "/host=2/core=2", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")

    cluster.box.do("kill", "c2")
    try:
        cluster.run("oardel", str(job_id))
        cluster.wait_until_state(job_id, "Finishing", timeout_s=60)
        cluster.admin("oarnodesetting", "-h", "c2", "-s", "Dead", "--jobs-are-gone")

        assert cluster.wait_until_final(job_id).end_cause == "killed"
    finally:
        cluster.box.do("boot", "c2")


def over(cluster: Cluster) -> int:
    """How many jobs are over."""
    return int(str(cluster.database.execute("SELECT count(*) FROM jobs WHERE stopped_at IS NOT NULL")[0][0]))


def test_jobs_on_several_hosts_survive_deaths_of_the_runner_at_any_instant(cluster: Cluster) -> None:
    job_ids = [cluster.oarsub("-l", "/host=3/core=1", "echo $OAR_JOB_ID >> ran; sleep 0.2") for _ in range(8)]

    for n in range(8):
        wait_until(lambda n=n: over(cluster) >= n, timeout_s=60, what=f"{n} jobs are over")
        cluster.replace_process("runner")

    cluster.wait_until_all_final(job_ids, timeout_s=180)
    assert sorted(map(int, cluster.read("ran").split())) == job_ids
    assert {cluster.job(job_id).state for job_id in job_ids} == {"Terminated"}


def test_a_suspended_job_rests_on_all_its_hosts_and_a_longer_walltime_holds_on_all(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-l", "/host=2/core=2,walltime=0:10", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")

    cluster.admin("oarhold", "-r", str(job_id))
    cluster.wait_until_state(job_id, "Suspended")
    wait_until(lambda: "suspended" in progress(cluster, "c2", job_id), what="the part is suspended")
    cluster.admin("oarresume", str(job_id))
    cluster.wait_until_state(job_id, "Running")
    wait_until(lambda: "resumed" in progress(cluster, "c2", job_id), what="the part goes on")
    cluster.run("oarwalltime", str(job_id), "+0:10")

    wait_until(lambda: "walltime 1200.0" in progress(cluster, "c2", job_id), what="the part knows")


def test_what_a_host_that_is_cut_off_cannot_be_told_it_is_told_afterwards(hasty_cluster: Cluster) -> None:
    cluster, hosts = hasty_cluster, hasty_cluster.box
    hosted = "-p", "host = 'c1'", "-l", "/core=1,walltime=0:10"
    resting, awake = (
        cluster.oarsub(*hosted, "touch began.$OAR_JOB_ID; until [ -e go ]; do sleep 0.1; done; exit 3")
        for _ in range(2)
    )
    for job_id in (resting, awake):
        wait_until((cluster.work / f"began.{job_id}").exists, timeout_s=30, what="the command runs")
    cluster.admin("oarhold", "-r", str(resting))
    cluster.wait_until_state(resting, "Suspended")

    hosts.do("cut", "c1")
    (cluster.work / "go").touch()
    try:
        cluster.admin("oarresume", str(resting))
        cluster.run("oarwalltime", str(awake), "+0:10")
        failures = "SELECT 1 FROM resources WHERE host = 'c1' AND state = 'Suspected'"
        wait_until(lambda: cluster.database.execute(failures), timeout_s=60, what="more than an order may take is over")
        ordered = "SELECT 1 FROM orders WHERE kind IN ('resume', 'walltime') AND deadline > asked_at + interval '8 s'"
        wait_until(lambda: len(cluster.database.execute(ordered)) == 2, timeout_s=60, what="both have waited")
    finally:
        hosts.do("mend", "c1")

    ended = [cluster.wait_until_final(job_id, timeout_s=60) for job_id in (resting, awake)]
    assert [(job.end_cause, job.exit_code) for job in ended] == [("exit", 3 << 8)] * 2
    assert cluster.database.execute("SELECT 1 FROM events WHERE type IN ('RESUME_ERROR', 'WALLTIME_ERROR')") == []


def progress(cluster: Cluster, host: str, job_id: int) -> str:
    """What ``host`` has written of its part of a job."""
    return next(cluster.spool_of(host).glob(f"*/jobs/{job_id}.1/progress")).read_text()


@pytest.fixture
def cluster_with_prologue(database: TestDatabase) -> Iterator[Cluster]:
    program = a_box().directory / "prologue"
    # Hosts see each other's /tmp, and that of this machine.
    bad, epilogues = a_box().directory / "bad", a_box().directory / "epilogues"
    program.write_text(f'#!/bin/sh\n[ "$(hostname) $2" = "c2 " ] || [ "$(hostname)" != c2 ] || [ ! -e {bad} ]\n')
    program.chmod(0o755)
    after = a_box().directory / "epilogue"
    after.write_text(f"#!/bin/sh\necho $1 $(hostname) >> {epilogues}\n")
    after.chmod(0o755)
    programs = f'[prologue]\nnode_prologue = "{program}"\nnode_epilogue = "{after}"\ntimeout = "5 s"\n'
    with running_cluster(database, settings=programs) as cluster:
        yield cluster


def test_a_prologue_that_fails_on_one_host_ends_the_job_and_the_others_have_their_epilogues(
    cluster_with_prologue: Cluster,
) -> None:
    cluster = cluster_with_prologue
    (cluster.box.directory / "bad").touch()
    job_id = cluster.oarsub("-l", "/host=3/core=2", "touch ran")

    job = cluster.wait_until_final(job_id)

    assert (job.state, job.end_cause) == ("Error", "prologue")
    assert ("PROLOGUE_ERROR", ["c2"]) in cluster.events(job_id)
    assert not (cluster.work / "ran").exists()
    ran = (cluster.box.directory / "epilogues").read_text().splitlines()
    assert ran.count(f"{job_id} c3") == 1
    suspected = "SELECT DISTINCT host FROM resources WHERE state = 'Suspected'"
    wait_until(lambda: cluster.database.execute(suspected) == [("c2",)], what="c2 is Suspected, and no other")


MPI = r"""
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
    int rank, size, length, sum;
    char name[MPI_MAX_PROCESSOR_NAME];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(name, &length);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("rank %d of %d on %s: %d\n", rank, size, name, sum);
    MPI_Finalize();
    return 0;
}
"""


@pytest.mark.parametrize(
    ("compiler", "start", "daemon"),
    [
        ("mpicc.openmpi", "mpirun.openmpi --mca plm_rsh_agent oarsh -machinefile $OAR_NODEFILE", "orted"),
        ("mpicc.mpich", "mpiexec.mpich -launcher ssh -launcher-exec oarsh -f $OAR_NODEFILE", "hydra"),
    ],
    ids=["Open MPI", "MPICH"],
)
def test_an_mpi_program_runs_over_the_hosts_with_the_node_file_and_oarsh(
    cluster: Cluster, compiler: str, start: str, daemon: str
) -> None:
    (cluster.work / "ranks.c").write_text(MPI)
    subprocess.run([compiler, "-o", str(cluster.work / "ranks"), str(cluster.work / "ranks.c")], check=True)

    job_id = cluster.oarsub("-l", "/host=3/core=2", f"{start} ./ranks")
    job = cluster.wait_until_final(job_id, timeout_s=180)

    assert (job.state, job.exit_code) == ("Terminated", 0), cluster.read(f"OAR.{job_id}.stderr")
    expected = [f"rank {rank} of 6 on c{rank // 2 + 1}: 15" for rank in range(6)]
    assert sorted(cluster.read(f"OAR.{job_id}.stdout").splitlines()) == expected
    for n in (1, 2, 3):
        assert daemon not in cluster.on(f"c{n}", "ps", "-eo", "comm")
    assert cluster.database.execute("SELECT count(*) FROM job_keys WHERE job_id <> %s", (job_id,)) == [(0,)]


def test_the_owner_of_a_job_comes_to_it_from_the_front_end_and_nobody_else_does(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-l", "/host=2/core=1", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")
    bob = accounts.account(accounts.BOB)

    mine = of_job(cluster, job_id, "oarsh", "c2", "hostname; echo $OAR_JOB_ID")
    unknown = of_job(cluster, job_id, "oarsh", "c3", "hostname")
    theirs = of_job(cluster, job_id, "oarsh", "c2", "hostname", user=bob)
    copied = of_job(cluster, job_id, "oarcp", "c2:/etc/hostname", "copy")
    nowhere = cluster.run("oarsh", "c2", "true", check=False)
    cluster.run("oardel", str(job_id))
    cluster.wait_until_final(job_id)
    late = of_job(cluster, job_id, "oarsh", "c2", "true")

    assert (mine.returncode, mine.stdout.split(), mine.stderr) == (0, ["c2", str(job_id)], "")
    assert (unknown.returncode, unknown.stdout) == (4, "")
    assert unknown.stderr == f"oarsh: c3 is not a host of job {job_id}, which has c1, c2\n"
    assert (theirs.returncode, theirs.stdout) == (3, "")
    assert (copied.returncode, cluster.read("copy")) == (0, "c2\n")
    assert (nowhere.returncode, late.returncode) == (3, 3)
    wait_until(lambda: cluster.database.execute("SELECT job_id FROM job_keys") == [], what="its key is gone")


def of_job(
    cluster: Cluster, job_id: int, *words: str, user: pwd.struct_passwd | None = None
) -> subprocess.CompletedProcess[str]:
    """What a command says that is typed at the front end by one who means this job."""
    cluster.environment["OAR_JOB_ID"] = str(job_id)
    try:
        return cluster.on_front_end(*words, user=user)
    finally:
        del cluster.environment["OAR_JOB_ID"]


def test_a_shell_on_another_host_is_a_terminal_here_and_may_be_come_back_to(cluster: Cluster) -> None:
    first = cluster.at_terminal("oarsub", "-I", "--keep", "-p", "host = 'c2'", "-l", "/core=1")
    job_id = int(first.wait_for(r"OAR_JOB_ID=(\d+)\r\n")[1])
    first.wait_for(rf"# Connect to OAR job {job_id} via the node c2\r\n")
    first.type("here=$(hostname); tty\n")
    first.wait_for(r"/dev/pts/\d+\r\n")
    first.vanish()

    second = cluster.at_terminal("oarsub", "-C", str(job_id))
    second.type("echo st''ill-$here-$(stty size | tr ' ' -)\n")
    second.wait_for(r"still-c2-24-80\r\n")
    second.type("exit 4\n")

    assert second.end() == 0, second.shown
    assert cluster.wait_until_final(job_id).exit_code == 4 * 256


def test_another_shell_joins_a_job_that_runs_a_command(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-k", "-p", "host = 'c3'", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")

    me = cluster.at_terminal("oarsub", "-C", str(job_id))
    me.wait_for(rf"# Connect to OAR job {job_id} via the node c3\r\n")
    me.type("echo in-$(hostname)-$OAR_JOB_ID\n")
    me.wait_for(rf"in-c3-{job_id}\r\n")
    me.type("exit\n")

    assert me.end() == 0, me.shown
    assert cluster.job(job_id).state == "Running"


def test_a_key_that_its_owner_has_opens_a_job_on_one_host(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-e", "key.%jobid%", "-p", "host = 'c2'", "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=30, what="the command runs")
    key = f"key.{job_id}"

    with_it = of_job(cluster, job_id, "oarsh", "-i", key, "c2", "hostname")
    again = cluster.oarsub("-i", key, "-p", "host = 'c1'", "touch again; sleep 1000")
    wait_until(lambda: (cluster.work / "again").exists(), timeout_s=30, what="the other command runs")
    both = of_job(cluster, again, "oarsh", "-i", key, "c1", "hostname")
    bad = cluster.run("oarsub", "-i", "began", "true", check=False)

    own = cluster.oarsub("-k", "-p", "host = 'c3'", "touch own; sleep 1000")
    wait_until(lambda: (cluster.work / "own").exists(), timeout_s=30, what="the third command runs")
    terminal = of_job(cluster, own, "oarsh", "-tt", "c3", "tty; id -un")

    name, user = terminal.stdout.replace("\r", "").split()
    assert re.fullmatch(r"/dev/pts/\d+", name), terminal.stderr
    assert user == cluster.user.pw_name
    assert stat.S_IMODE((cluster.work / key).stat().st_mode) == 0o600
    assert (with_it.stdout, both.stdout) == ("c2\n", "c1\n"), with_it.stderr + both.stderr
    assert "PRIVATE" not in str(cluster.database.execute("SELECT payload FROM requests"))
    assert (bad.returncode, bad.stdout) == (15, "")
    assert bad.stderr.startswith("oarsub: this is no key for a job")


def test_a_client_that_is_killed_before_its_answer_leaves_the_key_of_its_job(cluster: Cluster) -> None:
    appendice = cluster.processes()["appendice"]
    os.kill(appendice, signal.SIGSTOP)
    try:
        me = cluster.at_terminal("oarsub", "-e", "key.%jobid%", "-p", "host = 'c2'", "touch began; sleep 1000")
        asked = "SELECT count(*) FROM requests WHERE verb = 'submit'"
        wait_until(lambda: cluster.database.execute(asked) == [(1,)], timeout_s=30, what="it has asked")
        me.vanish()
    finally:
        os.kill(appendice, signal.SIGCONT)
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=60, what="the command runs")

    (key,) = cluster.work.glob("key.*")
    ((job_id,),) = cluster.database.execute("SELECT job_id FROM jobs")
    with_it = of_job(cluster, int(str(job_id)), "oarsh", "-i", key.name, "c2", "hostname")

    assert key.name.startswith("key.job.new-")
    assert with_it.stdout == "c2\n", with_it.stderr


def test_on_each_host_a_job_has_its_processors_and_its_share_of_the_memory(database: TestDatabase) -> None:
    with running_cluster(database, settings="memory_share = true\n") as cluster:
        limits = (
            "oarsh c2 'taskset -pc $$; cat /sys/fs/cgroup/memory$(grep memory: /proc/self/cgroup | cut -d: -f3 |"
            " sed s,.*/oarpy,/oarpy,)/memory.limit_in_bytes'; sed -n 's/MemTotal: *//p' /proc/meminfo"
        )
        job_id = cluster.oarsub("-l", "/host=2/core=1", limits)
        cluster.wait_until_final(job_id)

        affinity, limit, total = cluster.read(f"OAR.{job_id}.stdout").splitlines()
        assert affinity.rpartition(": ")[2] == "0"
        assert int(limit) >> 20 == (int(total.split()[0]) >> 10) // 2
