"""What a job finds when it starts: its environment and files, as OAR's jobs do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from sqlalchemy.engine import Connection

from oarpy.database import resources
from oarpy.database.launches import ToRun
from oarpy.model.durations import render_duration
from oarpy.model.job_types import has_type
from oarpy.model.payloads import OWN_KEY
from oarpy.model.terminals import python_words, terminal_name
from oarpy.node import text
from oarpy.node.terminal import VARIABLE as TERMINAL
from oarpy.ports.executor import Access, Attempt, Launch
from oarpy.scheduling.snapshot import Topology
from oarpy.settings import Nodes, Settings

#: Resources of this type stand for so many MiB of their host's memory as their quantity says.
MEMORY = "mem_mib"
#: A property of hosts that kill what the server does not prolong.
FENCE = "fence"
#: The property that names a resource's device on its host: a path, or the number that ``nodes.gpu_device`` is given.
DEVICE = "gpudevice"
#: Types of jobs whose command runs on the server's machine, outside of what they hold.
ON_SERVER = ("deploy", "cosystem")


class Machines:
    """The resources, as far as launches need them; read again when they change."""

    def __init__(self) -> None:
        self._topology: Topology | None = None
        self._rows: dict[int, int] = {}
        self._lines: dict[int, str] = {}
        self._sizes: dict[str, int] = {}
        self._devices: dict[str, list[str]] = {}
        self._addresses: frozenset[str] | None = None

    def refresh(self, conn: Connection) -> None:
        """Make sure that what is known is not older than the transaction of ``conn``."""
        version = resources.topology_version(conn)
        if self._topology is None or self._topology.version != version:
            self._topology = resources.topology(conn)
            self._rows = {resource_id: row for row, resource_id in enumerate(self._topology.ids)}
            self._lines = {}
            self._sizes = {}
            self._devices = {}
            self._addresses = None

    def hosts(self, resource_ids: Sequence[int]) -> list[str]:
        """The host of each resource that has one, sorted: the lines of the node file."""
        kinds, addresses = self._column("type"), self._column("network_address")
        rows = self._found(resource_ids)
        return sorted(str(addresses[row]) for row in rows if kinds[row] == "default" and addresses[row])

    def called(self, names: Collection[str]) -> str | None:
        """Which of ``names`` is that of a host; the first where resources disagree, None where none is."""
        if self._topology is None:
            return None
        if self._addresses is None:
            self._addresses = frozenset(map(str, self._column("network_address")))
        return min(self._addresses.intersection(names), default=None)

    def cpus(self, resource_ids: Sequence[int], host: str) -> str | None:
        """The processors of ``host`` among the resources; None unless each ordinary resource there names its own."""
        cpusets = self._column("cpuset")
        found = [cpusets[row] for row in self._of(resource_ids, host)]
        if not found or not all(found):
            return None
        return ",".join(sorted({cpu for cpuset in found for cpu in str(cpuset).split(",")}, key=_first_number))

    def share(self, resource_ids: Sequence[int], host: str) -> float:
        """The part of the ordinary resources of ``host`` that these are."""
        if host not in self._sizes:
            kinds, addresses = self._column("type"), self._column("network_address")
            rows = zip(kinds, addresses, strict=True)
            self._sizes[host] = sum(kind == "default" and address == host for kind, address in rows)
        return len(self._of(resource_ids, host)) / max(1, self._sizes[host])

    def memory_mib(self, resource_ids: Sequence[int], host: str) -> int:
        """The memory of ``host`` that is among the resources."""
        quantities = self._column("quantity")
        return sum(int(str(quantities[row])) for row in self._of(resource_ids, host, MEMORY))

    def are_fenced(self, resource_ids: Sequence[int], host: str) -> bool:
        """Whether the administrator has given resources of ``host`` that are among these the property ``fence``."""
        if self._topology is None or FENCE not in self._topology.properties:
            return False
        fenced = self._column(FENCE)
        return any(fenced[row] for row in self._of(resource_ids, host))

    def devices(self, resource_ids: Sequence[int], host: str) -> tuple[set[str], list[str]]:
        """What ``gpudevice`` is of the resources on ``host``, and of all there, ascending."""
        assert self._topology is not None
        values = self._topology.properties.get(DEVICE)
        if values is None:
            return set(), []
        addresses = self._column("network_address")
        if host not in self._devices:
            found = {str(values[row]) for row, at in enumerate(addresses) if at == host and values[row] is not None}
            self._devices[host] = sorted(found - {""}, key=lambda name: (len(name), name))
        if not self._devices[host]:
            return set(), []
        return {str(values[row]) for row in self._found(resource_ids) if addresses[row] == host}, self._devices[host]

    def properties(self, resource_ids: Sequence[int]) -> str:
        """The lines of the file that oarprint reads."""
        return "".join(self._line(row) for row in self._found(resource_ids))

    def _found(self, resource_ids: Sequence[int]) -> list[int]:
        # One that was removed meanwhile is the business of node_change_state.
        return [self._rows[resource_id] for resource_id in resource_ids if resource_id in self._rows]

    def _of(self, resource_ids: Sequence[int], host: str, kind: str = "default") -> list[int]:
        kinds, addresses = self._column("type"), self._column("network_address")
        return [row for row in self._found(resource_ids) if addresses[row] == host and kinds[row] == kind]

    def _column(self, name: str) -> Sequence[object]:
        assert self._topology is not None
        return self._topology.properties[name]

    def _line(self, row: int) -> str:
        line = self._lines.get(row)
        if line is None:
            assert self._topology is not None
            properties = self._topology.properties
            line = " , ".join(f"{name} = '{_written(properties[name][row])}'" for name in sorted(properties)) + "\n"
            self._lines[row] = line
        return line


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


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return str(value)


def _first_number(cpus: str) -> int:
    first = cpus.partition("-")[0]
    return int(first) if first.isdigit() else 0
