"""Hosts that are drained, taken away, switched off and brought back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

STATES = "SELECT DISTINCT host, state FROM resources ORDER BY 1"


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    """Two cores, a GPU and some memory on each of the hosts c1 and c2."""
    with running_cluster(database, hosts=0) as cluster:
        (cluster.work / "hosts").write_text("c[1-2] cores=2 memory=2000 gpus=1\n")
        cluster.admin("oarpy", "nodes", "import", "-f", "hosts")
        # The numbers are not those of this machine.
        database.execute("UPDATE resources SET cpuset = NULL")
        yield cluster


def test_a_host_goes_into_maintenance_whole_is_restarted_and_comes_back(cluster: Cluster) -> None:
    running = cluster.oarsub("-p", "host = 'c1'", "sleep 600")
    cluster.wait_until_state(running, "Running")

    cluster.admin("oarnodesetting", "-h", "c1", "-m", "on")
    assert cluster.job(running).state == "Error"
    waiting = cluster.oarsub("-p", "host = 'c1'", "hostname")
    cluster.box.do("kill", "c1")
    try:
        assert cluster.database.execute(STATES) == [("c1", "Absent"), ("c2", "Alive")]
        elsewhere = cluster.oarsub("hostname")
        assert cluster.wait_until_final(elsewhere).state == "Terminated"
        assert cluster.read(f"OAR.{elsewhere}.stdout") == "c2\n"
        assert cluster.job(waiting).state == "Waiting"
    finally:
        cluster.box.do("boot", "c1")
    cluster.admin("oarnodesetting", "-h", "c1", "-m", "off")

    assert cluster.wait_until_final(waiting, timeout_s=60).state == "Terminated"
    assert cluster.database.execute(STATES) == [("c1", "Alive"), ("c2", "Alive")]
    # Nobody was told that a host is away which was sent away.
    assert cluster.database.execute("SELECT hosts FROM events WHERE type = 'NODE_UNREACHABLE'") == []


def test_a_drained_host_ends_what_it_has_and_takes_nothing_new(cluster: Cluster) -> None:
    running = cluster.oarsub("-p", "host = 'c1'", "until test -e go; do sleep 0.1; done")
    cluster.wait_until_state(running, "Running")

    cluster.admin("oarnodesetting", "-h", "c1", "-d", "on")
    waiting = cluster.oarsub("-p", "host = 'c1'", "true")
    (cluster.work / "go").touch()

    assert cluster.wait_until_final(running).state == "Terminated"
    assert cluster.job(waiting).state == "Waiting"
    cluster.admin("oarnodesetting", "-h", "c1", "-d", "off")
    assert cluster.wait_until_final(waiting).state == "Terminated"


def test_a_host_that_dies_is_suspected_with_all_that_it_has_and_returns(cluster: Cluster) -> None:
    lost = cluster.oarsub("-p", "host = 'c2'", "sleep 600")
    cluster.wait_until_state(lost, "Running")

    cluster.box.do("kill", "c2")
    try:
        suspected = [("c1", "Alive"), ("c2", "Suspected")]
        wait_until(lambda: cluster.database.execute(STATES) == suspected, timeout_s=60, what="c2 is Suspected")
        # A person errs; that it cannot be reached is found out again.
        cluster.admin("oarnodesetting", "-h", "c2", "-s", "Alive")
        wait_until(lambda: cluster.database.execute(STATES) == suspected, timeout_s=60, what="c2 is Suspected again")
        assert cluster.job(lost).state == "Running"
    finally:
        cluster.box.do("boot", "c2")

    job = cluster.wait_until_final(lost, timeout_s=60)
    assert (job.state, job.end_cause) == ("Error", "node_rebooted")
    alive = [("c1", "Alive"), ("c2", "Alive")]
    wait_until(lambda: cluster.database.execute(STATES) == alive, timeout_s=30, what="c2 is Alive again")


def test_a_host_that_ends_every_job_at_once_does_not_eat_the_queue(cluster: Cluster) -> None:
    jobs = cluster.oarsub_array("--array", "300", "test $(hostname) != c2 && sleep 0.05")

    cluster.wait_until_all_final(jobs, timeout_s=400)

    died = cluster.database.execute("SELECT count(*) FROM jobs WHERE exit_code = 256")
    assert cluster.database.execute(STATES) == [("c1", "Alive"), ("c2", "Suspected")]
    assert died[0][0] < len(jobs) / 4, died
