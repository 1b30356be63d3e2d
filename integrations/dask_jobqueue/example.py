"""A dask cluster whose workers are jobs: work, more workers, fewer workers, a worker that dies."""

import subprocess
import time

from dask.distributed import Client
from dask_jobqueue import OARCluster

with (
    OARCluster(
        cores=1,
        memory="500MB",
        walltime="0:10:00",
        # oarpy knows no property for memory by default; "mem_core" or so where the site has one.
        memory_per_core_property_name="not_applicable",
        job_extra_directives=["-t besteffort"],
        # Where workers write what they keep on disk; a local disk of the nodes is best.
        local_directory="/tmp",
    ) as cluster,
    Client(cluster) as client,
):
    print(cluster.job_script())
    cluster.scale(jobs=2)
    client.wait_for_workers(2, timeout=60)
    assert sum(client.gather(client.map(lambda n: n * n, range(100)))) == 328350

    jobs = [worker.job_id for worker in cluster.workers.values()]
    print("workers are the jobs", *jobs)

    # A worker that is lost (its job was killed) is replaced by the next scale.
    subprocess.run(["oardel", jobs[0]], check=True)
    client.wait_for_workers(2, timeout=60)
    assert client.submit(sum, [1, 2, 3]).result(timeout=60) == 6

    cluster.scale(jobs=0)
    while client.scheduler_info()["workers"]:
        time.sleep(0.2)

# Closing the cluster deletes the jobs that are left.
deadline = time.monotonic() + 30
for job in jobs:
    while not subprocess.check_output(["oarstat", "-sj", job], text=True).endswith((": Error\n", ": Terminated\n")):
        assert time.monotonic() < deadline, f"job {job} is still there"
        time.sleep(0.2)
print("all went well")
