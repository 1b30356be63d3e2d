"""Notebook servers of JupyterHub as jobs: what batchspawner must know to speak with oarsub, oarstat and oardel."""

import re
import sys
from pathlib import Path

from batchspawner import BatchSpawnerRegexStates
from traitlets import Unicode

_SUBMIT = Path(__file__).with_name("submit.py").resolve()


class OarSpawner(BatchSpawnerRegexStates):
    """Starts each notebook server by oarsub, as its user."""

    # runuser is everywhere and needs no rule, as long as the hub runs as root.
    exec_prefix = Unicode("runuser -u {username} --").tag(config=True)
    req_runtime = Unicode("8:0:0").tag(config=True)
    req_nprocs = Unicode("1").tag(config=True)
    batch_script = Unicode(
        """#!/bin/sh
#OAR -n jupyterhub
#OAR -l /nodes=1/core={nprocs},walltime={runtime}
#OAR -d {homedir}
#OAR -O {homedir}/.jupyterhub.%jobid%.log
#OAR -E {homedir}/.jupyterhub.%jobid%.log
{prologue}
{cmd}
{epilogue}
"""
    ).tag(config=True)
    batch_submit_cmd = Unicode(f"{sys.executable} {_SUBMIT} {{keepvars}}").tag(config=True)
    batch_query_cmd = Unicode("oarstat -fj {job_id}").tag(config=True)
    batch_cancel_cmd = Unicode("oardel {job_id}").tag(config=True)
    state_pending_re = Unicode(r"(?m)^    state = (Waiting|Hold|toLaunch|Launching|toAckReservation)$").tag(config=True)
    state_running_re = Unicode(r"(?m)^    state = (Running|Suspended|Resuming)$").tag(config=True)
    # No answer from the database is no answer about the job: the hub asks again.
    state_unknown_re = Unicode(r"^oarstat: ").tag(config=True)
    state_exechost_re = Unicode(r"(?m)^    assigned_hostnames = ([^+\s]+)").tag(config=True)

    def parse_job_id(self, output):
        return re.search(r"^OAR_JOB_ID=(\d+)$", output, re.MULTILINE)[1]
