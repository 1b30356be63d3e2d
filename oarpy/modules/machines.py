"""The resources, as far as launches need them: hosts, processors, memory, devices."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy.engine import Connection

from oarpy.database import resources
from oarpy.scheduling.snapshot import Topology

#: Resources of this type stand for so many MiB of their host's memory as their quantity says.
MEMORY = "mem_mib"
#: A property of hosts that kill what the server does not prolong.
FENCE = "fence"
#: The property that names a resource's device on its host: a path, or the number that ``nodes.gpu_device`` is given.
DEVICE = "gpudevice"


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


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return str(value)


def _first_number(cpus: str) -> int:
    first = cpus.partition("-")[0]
    return int(first) if first.isdigit() else 0
