"""Hosts that are cut off: their jobs are kept, or killed there and run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: So long a job may be prolonged, and so much later it counts as over.
LEASE = 'lease = "4 s"\nlease_margin = "3 s"\n'
ONCE = 'echo "$(hostname) $(date +%s%N)" >>beats; sleep 0.1'
BEAT = f"for i in $(seq 60); do {ONCE}; done; echo done >>beats"
#: The same, which does not come to its end before there is a file ``cut``.
UNTIL_CUT = f"until [ -e cut ]; do {ONCE}; done; {BEAT}"


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database, hosts=2, settings=LEASE) as cluster:
        yield cluster


def head(system: Cluster, job_id: int) -> str:
    return str(system.database.execute("SELECT head FROM jobs WHERE job_id = %s", (job_id,))[0][0])


def copy_of(system: Cluster, job_id: int) -> int:
    """The job that was submitted again for ``job_id``, once there is one."""
    found = "SELECT job_id FROM jobs WHERE resubmit_job_id = %s"
    rows = wait_until(
        lambda: system.database.execute(found, (job_id,)), timeout_s=60, what=f"job {job_id} is submitted again"
    )
    return int(str(rows[0][0]))


def beats(system: Cluster) -> list[tuple[str, int]]:
    lines = [line.split() for line in system.read("beats").splitlines() if line != "done"]
    return [(host, int(at)) for host, at in lines]


def test_a_job_that_may_be_reassigned_runs_elsewhere_and_never_at_the_same_time(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-t", "reassign", UNTIL_CUT)
    wait_until(lambda: (cluster.work / "beats").exists(), timeout_s=60, what="it writes")
    lost = head(cluster, job_id)

    cluster.box.do("cut", lost)
    (cluster.work / "cut").touch()
    try:
        copy = copy_of(cluster, job_id)
        assert (cluster.job(job_id).state, cluster.job(job_id).end_cause) == ("Error", "fenced")
        assert cluster.wait_until_final(copy, timeout_s=60).state == "Terminated"
        found = beats(cluster)
    finally:
        cluster.box.do("mend", lost)

    other = head(cluster, copy)
    assert {host for host, _ in found} == {lost, other}
    assert max(at for host, at in found if host == lost) < min(at for host, at in found if host == other)
    assert cluster.read("beats").count("done") == 1
    assert len([1 for host, _ in found if host == other]) == 60
    # The host comes back, and nothing of the job is left there, in no list.
    alive = "SELECT 1 FROM resources WHERE state <> 'Alive'"
    wait_until(lambda: not cluster.database.execute(alive), timeout_s=60, what="the host is Alive again")
    again = cluster.oarsub("-p", f"host = '{lost}'", "true")
    assert cluster.wait_until_final(again, timeout_s=30).state == "Terminated"
    wait_until(lambda: f"{job_id}.1" not in cluster.entries(lost), timeout_s=30, what="the host has forgotten it")


def test_a_lease_is_prolonged_as_long_as_the_host_is_reached(cluster: Cluster) -> None:
    cluster.admin("oarproperty", "-a", "fence", "--kind", "boolean")
    cluster.admin("oarnodesetting", "-h", "c[1-2]", "-p", "fence=true")
    job_id = cluster.oarsub("sleep 12; exit 3")

    job = cluster.wait_until_final(job_id, timeout_s=60)

    assert cluster.database.execute("SELECT lease FROM jobs") != [(None,)]
    assert (job.state, job.exit_code, job.end_cause) == ("Terminated", 3 << 8, "exit")


def test_a_job_of_a_lost_host_is_shown_and_goes_on(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-p", "host = 'c1'", "until test -e go; do sleep 0.1; done; exit 4")
    cluster.wait_until_state(job_id, "Running")
    cluster.box.do("cut", "c1")
    try:
        wait_until(
            lambda: "(node lost since " in cluster.run("oarstat", "-f", "-j", str(job_id)).stdout,
            timeout_s=60,
            what="oarstat shows that the node is lost",
        )
        # Longer than a lease and its margin, had it one.
        lost = "SELECT 1 FROM node_sessions WHERE lost_at < now() - interval '10 s'"
        wait_until(lambda: bool(cluster.database.execute(lost)), timeout_s=60, what="it is lost for long")
        assert cluster.job(job_id).state == "Running"
    finally:
        cluster.box.do("mend", "c1")

    wait_until(
        lambda: "node lost" not in cluster.run("oarstat", "-f", "-j", str(job_id)).stdout,
        timeout_s=60,
        what="it is not lost any more",
    )
    (cluster.work / "go").touch()
    job = cluster.wait_until_final(job_id, timeout_s=60)
    assert (job.state, job.exit_code, job.attempt) == ("Terminated", 4 << 8, 1)


def test_a_host_whose_guard_dies_while_it_is_cut_off_is_fenced_all_the_same(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-t", "reassign", BEAT.replace("60", "600"))
    cluster.wait_until_state(job_id, "Running")
    lost = head(cluster, job_id)

    cluster.box.do("cut", lost)
    try:
        cluster.on(lost, "pkill", "-9", "-f", " guard --spool")
        copy = copy_of(cluster, job_id)
        cluster.wait_until_state(copy, "Running", timeout_s=60)
        other = head(cluster, copy)
        wait_until(lambda: len([1 for host, _ in beats(cluster) if host == other]) > 5, what="the copy runs")
        found = beats(cluster)
    finally:
        cluster.box.do("mend", lost)
    cluster.run("oardel", str(copy))

    assert max(at for host, at in found if host == lost) < min(at for host, at in found if host == other)
    cluster.wait_until_final(copy)


def test_a_host_that_stood_still_as_a_whole_kills_at_once_what_runs_elsewhere_meanwhile(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-t", "reassign", BEAT.replace("60", "600"))
    cluster.wait_until_state(job_id, "Running")
    lost = head(cluster, job_id)
    wait_until(lambda: (cluster.work / "beats").exists(), what="it writes")

    cluster.box.do("freeze", lost)
    try:
        copy = copy_of(cluster, job_id)
        cluster.wait_until_state(copy, "Running", timeout_s=60)
        other = head(cluster, copy)
        wait_until(lambda: other in {host for host, _ in beats(cluster)}, timeout_s=30, what="the copy runs")
        before = beats(cluster)
    finally:
        thawed_at = time.time_ns()
        cluster.box.do("thaw", lost)

    wait_until(lambda: f"{job_id}.1" not in cluster.entries(lost), timeout_s=60, what="the host has forgotten it")
    cluster.run("oardel", str(copy))
    cluster.wait_until_final(copy)
    # While it stood still nothing of it ran; what it did before it was killed took no time to speak of.
    last = max(at for host, at in before if host == lost)
    after = [at for host, at in beats(cluster) if host == lost and at > last]
    assert len(after) < 20
    assert all(at >= thawed_at for at in after)
    assert (cluster.job(job_id).state, cluster.job(job_id).end_cause) == ("Error", "fenced")
    again = "SELECT count(*) FROM jobs WHERE resubmit_job_id = %s"
    assert cluster.database.execute(again, (job_id,)) == [(1,)]


def test_a_killed_job_of_a_fenced_host_is_not_run_again(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-t", "reassign", "-p", "host = 'c2'", "sleep 600")
    cluster.wait_until_state(job_id, "Running")

    cluster.box.do("cut", "c2")
    try:
        cluster.run("oardel", str(job_id))
        assert cluster.wait_until_final(job_id, timeout_s=60).state == "Error"
    finally:
        cluster.box.do("mend", "c2")

    settled = "SELECT 1 FROM pending_events"
    wait_until(lambda: not cluster.database.execute(settled), what="events have had their effects")
    assert cluster.database.execute("SELECT count(*) FROM jobs") == [(1,)]


def test_a_job_on_several_hosts_that_loses_one_is_killed_on_the_others_and_closed(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-t", "reassign", "-l", "/host=2/core=1", BEAT.replace("60", "600"))
    cluster.wait_until_state(job_id, "Running")
    assert head(cluster, job_id) == "c1"

    cluster.box.do("cut", "c2")
    try:
        job = cluster.wait_until_final(job_id, timeout_s=60)
        copy = copy_of(cluster, job_id)
    finally:
        cluster.box.do("mend", "c2")
    cluster.wait_until_state(copy, "Running", timeout_s=90)
    cluster.run("oardel", str(copy))

    assert (job.state, job.end_cause) == ("Error", "fenced")
    cluster.wait_until_final(copy)
