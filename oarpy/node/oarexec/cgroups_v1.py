"""Control groups of version 1."""

import os
import signal
from contextlib import suppress
from typing import Dict, List, Optional, Sequence

from .cgroups import Cgroups, make_group, memory_facts, remove_group, write_control
from .devices import device_numbers
from .entries import Entry
from .files import read_text
from .processes import signal_all
from .protocol import Json


class CgroupsV1(Cgroups):
    name = "cgroups v1"

    def __init__(self, instance: str, mounts: Dict[str, str]) -> None:
        super().__init__(instance)
        self.roots: Dict[str, str] = {}
        # Only root may deny devices.
        devices = ("devices",) if os.geteuid() == 0 else ()
        for controller in ("freezer", "cpuset", "memory", *devices, "cpuacct"):
            if controller in mounts:
                try:
                    self.roots[controller] = self._base(mounts[controller])
                except OSError:
                    if controller == "freezer":
                        raise
        self.enforces = tuple(
            what
            for what, by in (("kill", "freezer"), ("cpus", "cpuset"), ("memory", "memory"), ("devices", "devices"))
            if by in self.roots
        )

    def _base(self, mount: str) -> str:
        path = mount
        for part in ("oarpy", self.instance):
            parent, path = path, os.path.join(path, part)
            make_group(path)
            if os.path.exists(os.path.join(path, "cpuset.cpus")):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    write_control(os.path.join(path, name), read_text(os.path.join(parent, name)) or "")
                # A job's group begins with the memory nodes and processors of this one.
                write_control(os.path.join(path, "cgroup.clone_children"), "1")
        return path

    def _path(self, controller: str, entry: Entry, name: str = "") -> str:
        return os.path.join(self.roots[controller], entry.name, name)

    def procs(self, entry: Entry) -> str:
        return self._path("freezer", entry, "cgroup.procs")

    def prepare(
        self, entry: Entry, cpus: Optional[str], memory_mib: Optional[int], denied: Sequence[str] = ()
    ) -> List[str]:
        joins = []
        unused = {
            "cpuset": cpus is None,
            "memory": memory_mib is None,
            "devices": not denied,
            # The kernel tells the guard as much of its own children.
            "cpuacct": not entry.counted,
        }
        for controller in self.roots:
            if unused.get(controller, False):
                continue
            os.mkdir(self._path(controller, entry), 0o755)
            if controller == "devices":
                for kind, major, minor in device_numbers(denied):
                    rule = "%s %d:%d rwm" % (kind, major, minor)
                    write_control(self._path(controller, entry, "devices.deny"), rule)
            if controller == "cpuset" and cpus is not None:
                write_control(self._path(controller, entry, "cpuset.cpus"), cpus)
            if controller == "memory" and memory_mib is not None:
                limit = str(memory_mib << 20)
                write_control(self._path(controller, entry, "memory.limit_in_bytes"), limit)
                # Without swap accounting memory alone is limited.
                with suppress(OSError):
                    write_control(self._path(controller, entry, "memory.memsw.limit_in_bytes"), limit)
            # A process that moves itself through "tasks" spares the lock over all forks
            # that "cgroup.procs" takes, which costs a grace period of RCU (3 ms).
            joins.append(self._path(controller, entry, "tasks"))
        entry.cgroup = True
        return joins

    def kill(self, entry: Entry) -> None:
        if not entry.cgroup:
            super().kill(entry)
            return
        # Frozen processes cannot fork while the list is read.
        self._freezer(entry, "FROZEN")
        signal_all(self.members(entry), signal.SIGKILL)
        self._freezer(entry, "THAWED")

    def _freezer(self, entry: Entry, state: str) -> None:
        # Released already.
        with suppress(OSError):
            write_control(self._path("freezer", entry, "freezer.state"), state)

    def freeze(self, entry: Entry) -> bool:
        if not entry.cgroup:
            return super().freeze(entry)
        self._freezer(entry, "FROZEN")
        return (read_text(self._path("freezer", entry, "freezer.state")) or "").strip() == "FROZEN"

    def thaw(self, entry: Entry) -> None:
        if entry.cgroup:
            self._freezer(entry, "THAWED")
        else:
            super().thaw(entry)

    def facts(self, entry: Entry) -> Json:
        if not entry.cgroup:
            return {}
        found = {}
        if "cpuacct" in self.roots:
            used = (read_text(self._path("cpuacct", entry, "cpuacct.usage")) or "").strip()
            if used.isdigit():
                found["cpu_s"] = round(int(used) / 1e9, 3)
        if "memory" not in self.roots:
            return found
        peak = read_text(self._path("memory", entry, "memory.max_usage_in_bytes"))
        limit = read_text(self._path("memory", entry, "memory.limit_in_bytes"))
        return dict(found, **memory_facts(peak, limit, read_text(self._path("memory", entry, "memory.oom_control"))))

    def release(self, entry: Entry) -> bool:
        left = [controller for controller in self.roots if not remove_group(self._path(controller, entry))]
        return not left

    def close(self) -> None:
        for path in self.roots.values():
            remove_group(path)
