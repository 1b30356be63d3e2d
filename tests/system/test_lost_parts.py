"""Jobs on several hosts of which one is lost or gone, and what such jobs used."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.support import invariants
from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: Longer than a host that is well but busy takes.
QUICK = 'order_timeout = "4 s"\n'


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database, settings=QUICK) as cluster:
        yield cluster


def a_running_job(cluster: Cluster, *options: str) -> int:
    """A job on c1 and c2 whose command has begun."""
    job_id = cluster.oarsub("-l", "/host=2/core=2", *options, "touch began; sleep 1000")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=60, what="the command runs")
    return job_id


def held(cluster: Cluster, job_id: int) -> list[str]:
    """The hosts of the resources that a job holds now."""
    found = cluster.database.execute(
        "SELECT r.host FROM allocations a JOIN resources r ON a.resources @> r.resource_id"
        " WHERE a.job_id = %s AND upper_inf(a.held) ORDER BY resource_id",
        (job_id,),
    )
    return [str(host) for (host,) in found]


def efficiency(cluster: Cluster, job_id: int) -> dict[str, object]:
    said = cluster.run("oarstat", "-J", "--efficiency", "-j", str(job_id)).stdout
    found: dict[str, object] = json.loads(said)[str(job_id)]
    return found


def test_a_host_that_is_cut_off_keeps_its_own_resources_and_no_others(cluster: Cluster) -> None:
    job_id = a_running_job(cluster)

    cluster.box.do("cut", "c2")
    try:
        cluster.run("oardel", str(job_id))
        wait_until(lambda: held(cluster, job_id) == ["c2", "c2"], timeout_s=60, what="c1 is free")
        assert cluster.job(job_id).state == "Finishing"
        # Another job runs where the first one has nothing any more.
        other = cluster.oarsub("-p", "host = 'c1'", "-l", "/core=2", "true")
        assert cluster.wait_until_final(other, timeout_s=60).state == "Terminated"
        wait_until(
            lambda: re.search(
                r"message = .* \(not over on c2\) \(node lost since .*\)",
                cluster.run("oarstat", "-f", "-j", str(job_id)).stdout,
            ),
            timeout_s=60,
            what="oarstat tells which host it waits for",
        )
        assert "assigned_hostnames = c1+c2" in cluster.run("oarstat", "-f", "-j", str(job_id)).stdout
        assert f"jobs: {job_id}\n" in cluster.run("oarnodes", "c2").stdout
        assert "jobs:" not in cluster.run("oarnodes", "c1").stdout
        # A runner that knows nothing of it finds it as it was.
        cluster.replace_process("runner")
        assert held(cluster, job_id) == ["c2", "c2"]
        assert invariants.broken(cluster.database.engine) == []
    finally:
        cluster.box.do("mend", "c2")

    assert cluster.wait_until_final(job_id, timeout_s=60).end_cause == "killed"
    assert held(cluster, job_id) == []
    assert "assigned_hostnames = c1+c2" in cluster.run("oarstat", "-f", "-j", str(job_id)).stdout


def test_what_belongs_to_no_host_is_held_with_the_host_that_is_lost(cluster: Cluster) -> None:
    cluster.database.execute("INSERT INTO resources (type) VALUES ('licence')")
    job_id = cluster.oarsub(
        *("-l", "{type = 'default'}/host=2/core=2+{type = 'licence'}/resource_id=1"), "touch began; sleep 1000"
    )
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=60, what="the command runs")

    cluster.box.do("cut", "c2")
    try:
        cluster.run("oardel", str(job_id))
        wait_until(lambda: "c1" not in held(cluster, job_id), timeout_s=60, what="c1 is free")
        assert held(cluster, job_id) == ["c2", "c2", "None"]
    finally:
        cluster.box.do("mend", "c2")

    cluster.wait_until_final(job_id, timeout_s=60)


def test_a_person_may_say_that_nothing_is_left_where_a_job_is_not_over(cluster: Cluster) -> None:
    job_id = cluster.oarsub("-l", "/host=2/core=2", "touch began; until [ -e go ]; do sleep 0.1; done; exit 3")
    wait_until(lambda: (cluster.work / "began").exists(), timeout_s=60, what="the command runs")

    cluster.box.do("kill", "c2")
    try:
        (cluster.work / "go").touch()
        wait_until(lambda: held(cluster, job_id) == ["c2", "c2"], timeout_s=60, what="c1 is free")
        cluster.admin("oarnodesetting", "-h", "c2", "-s", "Dead", "--jobs-are-gone")

        job = cluster.wait_until_final(job_id, timeout_s=60)
        assert (job.state, job.exit_code, job.end_cause) == ("Terminated", 3 << 8, "exit")
        assert efficiency(cluster, job_id)["cpu_time"] is None
    finally:
        cluster.box.do("boot", "c2")


@pytest.mark.parametrize("gone", ["c1", "c2"])
def test_a_person_may_say_that_a_host_of_a_running_job_is_gone_for_good(cluster: Cluster, gone: str) -> None:
    job_id = a_running_job(cluster)
    other = {"c1": "c2", "c2": "c1"}[gone]

    cluster.box.do("kill", gone)
    try:
        cluster.admin("oarnodesetting", "-h", gone, "-s", "Dead", "--jobs-are-gone")

        job = cluster.wait_until_final(job_id, timeout_s=60)
        assert (job.state, job.end_cause) == ("Error", "admin")
        assert ("PART_LOST", [gone]) in cluster.events(job_id)
    finally:
        cluster.box.do("boot", gone)
    wait_until(lambda: cluster.entries(other) == [], timeout_s=60, what=f"{other} has forgotten the job")
    cluster.admin("oarnodesetting", "-h", gone, "-s", "Alive")
    again = cluster.oarsub("-p", f"host = '{gone}'", "true")
    assert cluster.wait_until_final(again, timeout_s=60).state == "Terminated"
    wait_until(lambda: cluster.entries(gone) == [], timeout_s=60, what=f"{gone} has nothing of the job")


def test_a_host_that_was_said_to_be_gone_and_is_not_kills_what_it_has(cluster: Cluster) -> None:
    job_id = a_running_job(cluster)

    cluster.box.do("cut", "c2")
    try:
        cluster.admin("oarnodesetting", "-h", "c2", "-s", "Dead", "--jobs-are-gone")
        assert cluster.wait_until_final(job_id, timeout_s=60).end_cause == "admin"
    finally:
        cluster.box.do("mend", "c2")

    cluster.admin("oarnodesetting", "-h", "c2", "-s", "Alive")
    again = cluster.oarsub("-p", "host = 'c2'", "true")
    assert cluster.wait_until_final(again, timeout_s=60).state == "Terminated"
    wait_until(lambda: cluster.entries("c2") == [], timeout_s=60, what="c2 has nothing of the job")
    states = cluster.database.execute("SELECT DISTINCT state FROM resources WHERE host = 'c2'")
    assert states == [("Alive",)]


def test_what_a_job_used_is_that_of_all_its_hosts(cluster: Cluster) -> None:
    (cluster.work / "burn").write_text("import time\nwhile time.process_time() < 2: pass\n")
    burn = shlex.quote(f"cd {cluster.work}; python3 burn")

    # c3 has control groups of version 2, c2 of version 1.
    job_id = cluster.oarsub("-l", "/host=3/core=1", f"python3 burn; oarsh c2 {burn}; oarsh c3 {burn}")
    job = cluster.wait_until_final(job_id, timeout_s=120)

    assert (job.exit_code, cluster.read(f"OAR.{job_id}.stderr")) == (0, "")
    found = efficiency(cluster, job_id)
    assert (found["hosts"], found["measured"]) == (3, 1)
    assert 6.0 <= float(str(found["cpu_time"])) < 10.0
    assert found["cpu_held"] == pytest.approx(3 * float(str(found["elapsed"])))


def test_the_peak_of_a_job_is_that_of_the_host_where_it_was_highest(cluster: Cluster) -> None:
    cluster.database.execute(
        "INSERT INTO resources (type, network_address, host, quantity)"
        " SELECT 'mem_mib', 'c' || h, 'c' || h, 100 FROM generate_series(1, 2) AS h, generate_series(1, 2)"
    )
    fill = "head -c {}M /dev/zero | tail >/dev/null"
    job_id = cluster.oarsub(
        *("-l", "/host=2/{type = 'default'}/core=1+{type = 'mem_mib'}/host=2/resource_id=2"),
        f"{fill.format(20)}; oarsh c2 {shlex.quote(fill.format(60))}",
    )
    cluster.wait_until_final(job_id, timeout_s=120)

    found = efficiency(cluster, job_id)
    assert found["asked_memory_mib"] == 200
    assert 60 <= int(str(found["peak_memory_mib"])) < 100


def test_the_time_of_a_job_is_unknown_when_a_host_does_not_tell(cluster: Cluster) -> None:
    job_id = a_running_job(cluster)

    cluster.box.do("kill", "c2")
    cluster.box.do("boot", "c2")

    assert cluster.wait_until_final(job_id, timeout_s=60).end_cause == "node_rebooted"
    found = efficiency(cluster, job_id)
    assert (found["hosts"], found["measured"], found["cpu_time"]) == (2, 0, None)
    assert ("PART_LOST", ["c2"]) in cluster.events(job_id)
