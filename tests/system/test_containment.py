"""What the user of a job learns of what it was kept to."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster, running_cluster
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: 30 MiB of memory on the first host.
MEMORY = """
INSERT INTO resources (type, network_address, host, quantity) VALUES ('mem_mib', 'c1', 'c1', 30)
"""


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    with running_cluster(database) as cluster:
        database.execute(MEMORY)
        yield cluster


def text(cluster: Cluster, job_id: int, stream: str) -> str:
    path = cluster.work / f"OAR.{job_id}.{stream}"
    return path.read_text() if path.exists() else ""


def test_a_job_is_kept_from_the_devices_that_it_does_not_hold(cluster: Cluster) -> None:
    for n, minor in ((0, 5), (1, 7)):
        os.mknod(cluster.work / f"gpu{n}", 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        (cluster.work / f"gpu{n}").chmod(0o666)
    root = pwd.getpwuid(os.geteuid())
    cluster.run("oarproperty", "-c", "-a", "gpudevice", user=root)
    cluster.database.execute(
        "INSERT INTO resources (type, network_address, host, gpudevice) SELECT 'gpu', 'c1', 'c1', %s || n FROM "
        "generate_series(0, 1) AS n",
        (f"{cluster.work}/gpu",),
    )
    looks = "for gpu in gpu0 gpu1; do head -c 1 $gpu >/dev/null && echo $gpu; done; sleep 1000"
    keeps = "-l", "/host=1[gpu=1]/core=1", "-p", "host = 'c1'"

    first = cluster.oarsub(*keeps, looks)
    second = cluster.oarsub(*keeps, looks)
    none = cluster.oarsub("-p", "host = 'c1'", "-l", "/core=1,walltime=1", "echo begins; " + looks)

    wait_until(lambda: all(text(cluster, job, "stdout") for job in (first, second)), timeout_s=30, what="both looked")
    assert sorted(text(cluster, job, "stdout") for job in (first, second)) == ["gpu0\n", "gpu1\n"]
    cluster.run("oardel", str(first), str(second))
    wait_until(lambda: "gpu1" in text(cluster, none, "stderr"), timeout_s=30, what="the third has looked")
    assert text(cluster, none, "stdout") == "begins\n"
    cluster.run("oardel", str(none))
    cluster.wait_until_all_final([first, second, none])


def test_a_user_is_told_that_the_job_used_more_memory_than_it_may(cluster: Cluster) -> None:
    program = cluster.work / "told"
    program.write_text(f'#!/bin/sh\necho "$3: $4" >> {cluster.work}/heard\n')
    program.chmod(0o755)

    job_id = cluster.oarsub(
        "-l", "/host=1[mem_mib=30]/core=1", "--notify", f"[ERROR]exec:{program}", "head -c 200M /dev/zero | tail"
    )
    cluster.wait_until_final(job_id)

    job = cluster.job(job_id)
    assert (job.state, job.end_cause) == ("Error", "out_of_memory")
    peaks = cluster.database.execute("SELECT peak_memory_mib FROM jobs WHERE job_id = %s", (job_id,))
    assert peaks in ([(29,)], [(30,)])
    said = "it used more memory than the 30 MiB that it may, "
    assert said in cluster.run("oarstat", "-f", "-j", str(job_id)).stdout
    assert f"] OUT_OF_MEMORY: {said}" in cluster.run("oarstat", "-e", "-j", str(job_id)).stdout
    wait_until(lambda: (cluster.work / "heard").exists() and cluster.read("heard"), what="the program is run")
    assert cluster.read("heard").startswith(f"ERROR: {said}")
