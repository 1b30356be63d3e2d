"""Commands and files on the hosts of a job, by execo's Remote, Put and Get over oarsh and oarcp."""

import os
import subprocess
import time
from pathlib import Path

os.environ["TZ"] = "Europe/Paris"
time.tzset()

from execo import Get, Put, Remote
from execo_g5k import OarSubmission, default_oarsh_oarcp_params, get_oar_job_nodes, oardel, oarsub, wait_oar_job_start
from execo_g5k.config import g5k_configuration

# A key of one's own for all jobs: execo adds `-k -i FILE` to each submission.
subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key"], check=True)
g5k_configuration["oar_job_key_file"] = os.path.abspath("key")
g5k_configuration["polling_interval"] = 1

((job_id, _),) = oarsub([(OarSubmission("/host=1/core=1", walltime="0:10:00", command="sleep 300"), None)])
assert job_id is not None
assert wait_oar_job_start(job_id, timeout=60)
hosts = get_oar_job_nodes(job_id)

# oarsh and oarcp go into this job.
os.environ["OAR_JOB_ID"] = str(job_id)
# By default execo asks for a terminal (-tt), which hosts do not give whose /dev/pts is mounted without gid=5.
connection = {**default_oarsh_oarcp_params, "ssh_options": ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20")}

ran = Remote("echo in $OAR_JOB_ID", hosts, connection_params=connection).run()
assert ran.ok
print({process.host.address: process.stdout for process in ran.processes})
assert all(process.stdout.split() == ["in", str(job_id)] for process in ran.processes)

Path("here").write_text("hello\n")
there = f"/tmp/execo-{job_id}"
assert Remote(f"mkdir {there}", hosts, connection_params=connection).run().ok
assert Put(hosts, ["here"], there, connection_params=connection).run().ok
assert Get(hosts, [f"{there}/here"], "back", connection_params=connection).run().ok
assert Path("back").read_text() == "hello\n"
assert Remote(f"rm -r {there}", hosts, connection_params=connection).run().ok

oardel([(job_id, None)])
print("all went well")
