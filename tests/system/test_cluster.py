"""Jobs on other hosts, over ssh, in a cluster in a box."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.box import V2_HOST
from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database, hosts=2) as cluster:
        yield cluster


def test_jobs_run_on_the_hosts_that_they_were_given(cluster: Cluster) -> None:
    first = cluster.oarsub("-p", "host = 'c1'", "hostname; id -un; echo $OAR_JOB_ID; exit 7")
    second = cluster.oarsub("-p", "host = 'c2'", "-l", "/core=2", 'hostname; cat "$OAR_NODEFILE"')

    cluster.wait_until_all_final([first, second])

    assert cluster.read(f"OAR.{first}.stdout").split() == ["c1", cluster.user.pw_name, str(first)]
    assert cluster.read(f"OAR.{second}.stdout").split() == ["c2", "c2", "c2"]
    assert (cluster.job(first).state, cluster.job(first).exit_code) == ("Terminated", 7 << 8)


def test_a_host_that_is_down_delays_no_other_host(cluster: Cluster) -> None:
    cluster.box.do("kill", "c2")
    try:
        lost = cluster.oarsub("-p", "host = 'c2'", "true")
        well = [cluster.oarsub("-p", "host = 'c1'", "true") for _ in range(5)]

        cluster.wait_until_all_final(well)

        assert {cluster.job(job_id).state for job_id in well} == {"Terminated"}
        assert cluster.job(lost).state in ("Waiting", "toLaunch", "Launching")
    finally:
        cluster.box.do("boot", "c2")
    # It is Alive again by itself.
    assert cluster.wait_until_final(lost, timeout_s=60).state == "Terminated"


def test_a_job_goes_on_while_its_host_is_cut_off_and_its_end_is_learnt_afterwards(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-p", "host = 'c1'", "until test -e cut; do sleep 0.1; done; exit 4")
    cluster.wait_until_state(job_id, "Running")

    cluster.box.do("cut", "c1")
    (cluster.work / "cut").touch()
    try:
        suspected = "SELECT 1 FROM resources WHERE host = 'c1' AND state = 'Suspected'"
        wait_until(lambda: cluster.database.execute(suspected), timeout_s=40, what="the host is Suspected")
        assert cluster.job(job_id).state == "Running"
    finally:
        cluster.box.do("mend", "c1")

    job = cluster.wait_until_final(job_id, timeout_s=60)
    assert (job.state, job.exit_code, job.attempt) == ("Terminated", 4 << 8, 1)
    alive = "SELECT 1 FROM resources WHERE state <> 'Alive'"
    wait_until(lambda: not cluster.database.execute(alive), timeout_s=60, what="the host is Alive again")


def test_doctor_tells_host_by_host_what_is_enforced(cluster: Cluster) -> None:
    cluster.database.execute("INSERT INTO resources (network_address, host) VALUES (%s, %s)", (V2_HOST,) * 2)
    cluster.box.do("cut", "c2")
    try:
        found = json.loads(cluster.admin("oarpy", "doctor", "--json", check=False).stdout)
    finally:
        cluster.box.do("mend", "c2")

    said = {each["subject"]: (each["level"], each["sentence"]) for each in found}
    assert said["c1"] == ("ok", "enforced: cpus, memory, freeze, kill, devices (cgroups v1)")
    assert said["c2"][0] == "weak"
    assert said["c2"][1].startswith("cannot be examined: the host cannot be reached")
    # Whatever controllers this machine leaves to version 2.
    assert said[V2_HOST][1].startswith("enforced: ")
    assert "freeze, kill" in said[V2_HOST][1]
    assert "(cgroups v2)" in said[V2_HOST][1]
    assert cluster.database.execute("SELECT count(*) FROM orders WHERE done_at IS NULL") == [(0,)]


def test_a_host_that_was_restarted_ends_its_jobs_with_that_cause(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-p", "host = 'c2'", "sleep 600")
    cluster.wait_until_state(job_id, "Running")

    cluster.box.do("kill", "c2")
    cluster.box.do("boot", "c2")

    assert cluster.wait_until_final(job_id, timeout_s=60).end_cause == "node_rebooted"
