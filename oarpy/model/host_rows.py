"""Hosts as an administrator or the host itself describes them, and the resources that they become.

A host becomes one row for each core, with the kernel's numbers of its threads; one
for each GPU, of the type ``gpu``; and for its memory rows of the type ``mem_mib``,
by default as many as it has cores.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oarpy.errors import SyntaxRefused
from oarpy.model.identifiers import is_property_name
from oarpy.model.wording import excerpt

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")
_COUNT = re.compile(r"[0-9]{1,9}")
#: What a line may count; what it leaves out is one, or none for those that come last.
COUNTED = ("sockets", "cores", "threads", "numa", "gpus", "memory")
MOST_CORES = 65_536
#: Set by the import itself, or by other commands.
OWN = frozenset(
    {"resource_id", "type", "network_address", "host", "cpu", "core", "cpuset", "quantity", "gpudevice"}
    | {"state", "state_since", "finaud_decision", "drain"}
)


@dataclass(frozen=True, slots=True)
class CoreSeen:
    """One core of a host; the numbers are the host's own."""

    socket: int
    numa: int
    threads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GpuSeen:
    """One GPU of a host, by the number of its device."""

    device: int
    numa: int | None = None


@dataclass(frozen=True, slots=True)
class HostSeen:
    """What there is of a host.  ``memory_mib`` is None where nobody knows; ``properties`` go to all of its rows."""

    name: str
    cores: tuple[CoreSeen, ...]
    memory_mib: int | None = None
    gpus: tuple[GpuSeen, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def sockets(self) -> int:
        return len({core.socket for core in self.cores})

    @property
    def numas(self) -> int:
        return len({core.numa for core in self.cores})


@dataclass(frozen=True, slots=True)
class HostFile:
    """What a file says; where there are ``mistakes``, each names its line, and nothing of it counts."""

    hosts: tuple[HostSeen, ...]
    mistakes: tuple[str, ...]


def read_hosts(text: str, unfold: Callable[[Sequence[str]], Sequence[str]]) -> HostFile:
    """The hosts that the lines of ``text`` describe; ``unfold`` names those of a set such as c[1-16]."""
    hosts: list[HostSeen] = []
    mistakes: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            described = _described(words, unfold)
            for host in described:
                if host.name in seen:
                    raise SyntaxRefused(f"{host.name} stands in line {seen[host.name]} already")
                seen[host.name] = number
            hosts += described
        except SyntaxRefused as mistake:
            mistakes.append(f"line {number}: {mistake}")
    return HostFile(tuple(hosts), tuple(mistakes))


def _described(words: Sequence[str], unfold: Callable[[Sequence[str]], Sequence[str]]) -> list[HostSeen]:
    counts: dict[str, int] = {}
    properties: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals:
            raise SyntaxRefused(f"{excerpt(word)} is not NAME=VALUE")
        if name in counts or name in properties:
            raise SyntaxRefused(f"{name} is said twice")
        if name in COUNTED:
            if not _COUNT.fullmatch(value):
                raise SyntaxRefused(f"{name}={excerpt(value)} is not a whole number")
            counts[name] = int(value)
        elif name in OWN or not is_property_name(name):
            raise SyntaxRefused(f"{excerpt(name)} is no property; besides them there are {', '.join(COUNTED)}")
        else:
            properties[name] = value
    cores = _counted_cores(counts)
    gpus = tuple(GpuSeen(device) for device in range(counts.get("gpus", 0)))
    memory = counts.get("memory")
    names = unfold(words[:1])
    for name in names:
        if not is_host_name(name):
            raise SyntaxRefused(f"{excerpt(name)} cannot be the name of a host")
    return [HostSeen(name, cores, memory, gpus, properties) for name in names]


def is_host_name(text: str) -> bool:
    """Whether a host may be called so; what begins with a dash would be an option to ssh."""
    return _NAME.fullmatch(text) is not None


def _counted_cores(counts: Mapping[str, int]) -> tuple[CoreSeen, ...]:
    """Cores numbered as Linux does on most machines: first one thread of each core, socket by socket, then the next."""
    if "cores" not in counts:
        raise SyntaxRefused("cores=N is missing: how many cores the host has")
    cores, sockets, threads = counts["cores"], counts.get("sockets", 1), counts.get("threads", 1)
    numas = counts.get("numa", sockets)
    if not (0 < sockets <= cores <= MOST_CORES and 0 < threads <= 16 and 0 < numas <= cores):
        raise SyntaxRefused("a host has a socket at least, and a core for each, a NUMA node and a thread")
    if cores % sockets or cores % numas:
        raise SyntaxRefused(f"{cores} cores cannot be divided evenly; they are counted for the whole host")
    return tuple(
        CoreSeen(n * sockets // cores, n * numas // cores, tuple(n + cores * thread for thread in range(threads)))
        for n in range(cores)
    )


def host_told(name: str, said: Any) -> HostSeen:
    """The host that ``node/discovery.py`` describes; raises ``SyntaxRefused`` when that makes no sense."""
    try:
        cores = tuple(CoreSeen(int(socket), int(numa), tuple(map(int, cpus))) for socket, numa, cpus in said["cores"])
        gpus = tuple(GpuSeen(int(device), None if numa is None else int(numa)) for device, numa in said["gpus"])
        memory = said["memory_mib"]
        host = HostSeen(name, cores, None if memory is None else int(memory), gpus)
    except (KeyError, TypeError, ValueError) as error:
        raise SyntaxRefused(f"host {name}: what it says of itself cannot be understood") from error
    if not 0 < len(cores) <= MOST_CORES or not all(core.threads for core in cores):
        raise SyntaxRefused(f"host {name}: it tells of no cores that could be used")
    return host


def line_of(host: HostSeen) -> str:
    """The host in the form of a line of a file."""
    counts = {
        "sockets": host.sockets,
        "cores": len(host.cores),
        "threads": max(len(core.threads) for core in host.cores),
        "numa": host.numas,
        "gpus": len(host.gpus),
        "memory": host.memory_mib or 0,
    }
    shown = [f"{name}={count}" for name, count in counts.items() if count != (0 if name in ("gpus", "memory") else 1)]
    if counts["cores"] == 1:
        shown.insert(0, "cores=1")
    return " ".join([host.name, *shown, *(f"{name}={value}" for name, value in host.properties.items())])


@dataclass(frozen=True, slots=True)
class Numbers:
    """The first number that no processor, core and NUMA node of the cluster bears."""

    cpu: int = 0
    core: int = 0
    numa: int = 0


def rows_of(hosts: Iterable[HostSeen], first: Numbers, *, memory_row_mib: int | None = None) -> list[dict[str, Any]]:
    """The resources that ``hosts`` become, their numbers unique from ``first`` on.

    ``memory_row_mib`` is how much one row of memory stands for; 0 makes none, None a core's share.
    """
    rows: list[dict[str, Any]] = []
    cpu, core, numa = first.cpu, first.core, first.numa
    for host in hosts:
        cpus = {socket: cpu + n for n, socket in enumerate(sorted({each.socket for each in host.cores}))}
        numas = {node: numa + n for n, node in enumerate(sorted({each.numa for each in host.cores}))}
        place = {"network_address": host.name, "host": host.name}
        for n, each in enumerate(host.cores):
            cpuset = ",".join(map(str, each.threads))
            numbers = {"cpu": cpus[each.socket], "core": core + n, "numa": numas[each.numa], "cpuset": cpuset}
            rows.append({"type": "default", **place, **numbers, **host.properties})
        for gpu in host.gpus:
            node = None if gpu.numa is None else numas.get(gpu.numa)
            rows.append({"type": "gpu", **place, "gpudevice": gpu.device, "numa": node, **host.properties})
        memory = {"type": "mem_mib", **place, **host.properties}
        rows += [{**memory, "quantity": size} for size in _memory_rows(host, memory_row_mib)]
        cpu, core, numa = cpu + len(cpus), core + len(host.cores), numa + len(numas)
    return rows


def _memory_rows(host: HostSeen, row_mib: int | None) -> Iterator[int]:
    if not host.memory_mib or row_mib == 0:
        return
    size = row_mib or host.memory_mib // len(host.cores)
    if size:
        # What is left over is too little for a row, and the system needs some.
        yield from [size] * (host.memory_mib // size)


def summary(hosts: Sequence[HostSeen]) -> list[str]:
    """One line for each kind of host: how many there are."""
    kinds = Counter(line_of(host).partition(" ")[2] for host in hosts)
    return [f"{count} x {kind}" for kind, count in kinds.items()]
