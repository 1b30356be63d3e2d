"""What the user of a job learns of what it was kept to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until
from tests.system.test_parallel_jobs import Cluster, a_cluster

#: 30 MiB of memory on the first host.
MEMORY = """
INSERT INTO resources (type, network_address, host, quantity) VALUES ('mem_mib', 'c1', 'c1', 30)
"""


@pytest.fixture
def cluster(database: TestDatabase) -> Iterator[Cluster]:
    for cluster in a_cluster(database):
        database.execute(MEMORY)
        yield cluster


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
    wait_until(lambda: cluster.read("heard"), what="the program is run")
    assert cluster.read("heard").startswith(f"ERROR: {said}")
