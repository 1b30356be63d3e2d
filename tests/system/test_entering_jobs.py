"""``oarsub -C`` into jobs that were launched without a way in: it is made when it is asked for."""

from __future__ import annotations

import os
import pwd
import subprocess

import pytest

from tests.support import accounts
from tests.support.instance import System
from tests.support.waiting import wait_until


def entered(
    system: System, job_id: int, commands: str, user: pwd.struct_passwd | None = None
) -> subprocess.CompletedProcess[str]:
    """What ``oarsub -C`` says whose shell is given these commands."""
    return system.run("oarsub", "-C", str(job_id), user=user, check=False, stdin=commands)


def a_job(system: System, *options: str, command: str = "sleep 1000") -> int:
    """A job whose command runs."""
    job_id = system.oarsub(*options, f"touch began.$OAR_JOB_ID; {command}")
    wait_until(lambda: (system.work / f"began.{job_id}").exists(), what="the command runs")
    system.wait_until_state(job_id, "Running")
    return job_id


def test_a_shell_joins_a_job_on_this_machine(system: System) -> None:
    job_id = a_job(system, "-n", "named", command="cat /proc/self/cgroup > group; sleep 1000")

    done = entered(
        system, job_id, "echo in-$OAR_JOB_ID-$OAR_JOB_NAME; cat $OAR_NODEFILE; id -un; cat /proc/self/cgroup\n"
    )

    print(done.stdout, done.stderr)
    assert done.returncode == 0
