"""What a job finds when it starts: its environment and files, as OAR's jobs do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from oarpy.database.launches import ToRun
from oarpy.model.durations import render_duration
from oarpy.model.job_types import has_type
from oarpy.model.payloads import OWN_KEY
from oarpy.model.terminals import python_words, terminal_name
from oarpy.modules.machines import Machines
from oarpy.node import text
from oarpy.node.terminal import VARIABLE as TERMINAL
from oarpy.ports.executor import Access, Attempt, Launch
from oarpy.settings import Nodes, Settings

#: Types of jobs whose command runs on the server's machine, outside of what they hold.
ON_SERVER = ("deploy", "cosystem")


def launch_of(job: ToRun, head: str, machines: Machines, settings: Settings, memory_mib: int | None = None) -> Launch:
    """The launch of ``job`` on ``head``.

    It may use the memory that it asked for; else of ``memory_mib``, if given, its share.
    """
    elsewhere = runs_on_server(job.types)
    limits, programs = settings.kill, settings.prologue
    mine, devices = (set[str](), list[str]()) if elsewhere else machines.devices(job.resources, head)
    return Launch(
        attempt=Attempt(job.job_id, job.attempt),
        user=job.user,
        command=_command(job, settings.nodes.python),
        directory=job.directory,
        stdout=job.stdout,
        stderr=job.stderr,
        environment=environment(job),
        nodes="".join(f"{host}\n" for host in machines.hosts(job.resources)),
        resources=machines.properties(job.resources),
        walltime=job.walltime,
        grace=limits.grace,
        kill_after=limits.soft,
        cpus=None if elsewhere else machines.cpus(job.resources, head),
        memory_mib=None if elsewhere else _memory_mib(job, head, machines, memory_mib),
        denied_devices=tuple(device_path(name, settings.nodes.gpu_device) for name in devices if name not in mine),
        visible_devices=",".join(str(n) for n, name in enumerate(devices) if name in mine) if devices else None,
        umask=job.umask,
        prologue=programs.node_prologue,
        epilogue=programs.node_epilogue,
        program_timeout=programs.timeout,
    )


def sweep_of(nodes: Nodes) -> tuple[str, ...]:
    """What hosts remove of a user whose last job there is over."""
    words = (("processes", nodes.clean_processes), ("ipc", nodes.clean_ipc))
    return (*(word for word, wanted in words if wanted), *nodes.clean_directories)


def device_path(name: str, pattern: str) -> str:
    """Where the device is that a resource names; ``pattern`` holds a # for the number."""
    return name if name.startswith("/") else pattern.replace("#", name)


def part_of(job: ToRun, host: str, machines: Machines, settings: Settings, memory_mib: int | None = None) -> Launch:
    """What ``host``, which is not the head of ``job``, has to do for it."""
    launch = launch_of(job, host, machines, settings, memory_mib)
    return replace(launch, part=True, command="", directory="/", stdout="/dev/null", stderr="/dev/null")


def access_of(job: ToRun, pair: tuple[str, str] | None, ports: Mapping[str, int]) -> Access | None:
    """How oarsh comes to ``job`` on hosts with these ports; None when it cannot."""
    if pair is None or not ports:
        return None
    return Access(*pair, authorized=() if job.key in (None, OWN_KEY) else (job.key,), hosts=dict(ports))


def _memory_mib(job: ToRun, host: str, machines: Machines, memory_mib: int | None) -> int | None:
    asked_mib = machines.memory_mib(job.resources, host)
    if asked_mib or memory_mib is None:
        return asked_mib or None
    return max(1, int(memory_mib * machines.share(job.resources, host)))


def environment(job: ToRun) -> dict[str, str]:
    """OAR's variables; those that name files are added where the files are made."""
    walltime_s = int(job.walltime.total_seconds())
    terminal = {} if job.terminal is None else {TERMINAL: terminal_name(job.terminal)}
    return terminal | {
        "OAR_JOB_ID": str(job.job_id),
        "OAR_JOBID": str(job.job_id),
        "OAR_ARRAY_ID": str(job.array_id),
        "OAR_ARRAYID": str(job.array_id),
        "OAR_ARRAY_INDEX": str(job.array_index),
        "OAR_ARRAYINDEX": str(job.array_index),
        "OAR_USER": job.user,
        "OAR_JOB_NAME": job.name or "",
        "OAR_PROJECT_NAME": job.project,
        "OAR_JOB_WALLTIME": render_duration(walltime_s),
        "OAR_JOB_WALLTIME_SECONDS": str(walltime_s),
        "OAR_JOB_TYPES": ";".join(job.types),
        "OAR_WORKDIR": job.directory,
        "OAR_WORKING_DIRECTORY": job.directory,
        "OAR_O_WORKDIR": job.directory,
        "OAR_STDOUT": os.path.join(job.directory, job.stdout),
        "OAR_STDERR": os.path.join(job.directory, job.stderr),
        "OAR_KEY": "1",
        "OAR_CPUSET": f"/oar/{job.user}_{job.job_id}",
        "SUDO_COMMAND": "OAR",
        "SHLVL": "0",
        "TERM": "unknown",
    }


def _command(job: ToRun, python: str) -> str:
    """The job's own command, or what serves its terminal: the whole program, as nodes have nothing of ours."""
    if job.terminal is None:
        return job.command
    words = [*python_words(python, text("terminal")), "serve"]
    return "exec " + shlex.join([*words, job.command] if job.command.strip() else words)


def runs_on_server(types: Sequence[str]) -> bool:
    """Whether the command of a job of these types runs on the server's machine."""
    return any(has_type(types, kind) for kind in ON_SERVER)
