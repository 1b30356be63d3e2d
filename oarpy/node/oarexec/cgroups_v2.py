"""Control groups of version 2."""

import errno
import os
import re
import signal
from contextlib import suppress
from typing import List, Optional, Sequence

from .cgroups import Cgroups, make_group, memory_facts, remove_group, write_control
from .devices import deny_devices, device_numbers
from .entries import Entry
from .files import read_text
from .processes import signal_all
from .protocol import Json


class CgroupsV2(Cgroups):
    name = "cgroups v2"

    def __init__(self, instance: str, mount: str) -> None:
        super().__init__(instance)
        path = mount
        for part in ("oarpy", instance):
            self._enable(path)
            path = os.path.join(path, part)
            make_group(path)
        self._enable(path)
        self.root = path
        if not self._can_be_entered():
            remove_group(path)
            raise PermissionError(errno.EACCES, "belongs to this account, but nothing may move there from here", path)
        enabled = (read_text(os.path.join(path, "cgroup.subtree_control")) or "").split()
        limits = [what for what, by in (("cpus", "cpuset"), ("memory", "memory")) if by in enabled]
        if self._can_deny_devices():
            limits.append("devices")
        self.enforces = ("kill", *limits)

    def _can_be_entered(self) -> bool:
        """Whether a job would get in: where groups are delegated, only from within what is."""
        path = os.path.join(self.root, "probe")
        make_group(path)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                write_control(os.path.join(path, "cgroup.procs"), "0")
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        remove_group(path)
        return status == 0

    def _can_deny_devices(self) -> bool:
        """Whether the kernel takes a program of ours that watches over a group's devices."""
        if os.geteuid() != 0:
            return False
        path = os.path.join(self.root, "probe")
        try:
            make_group(path)
            deny_devices(path, [("c", 1, 3)])
        except OSError:
            return False
        finally:
            remove_group(path)
        return True

    def _enable(self, path: str) -> None:
        present = (read_text(os.path.join(path, "cgroup.controllers")) or "").split()
        for controller in ("cpuset", "memory"):
            if controller in present:
                # Not delegated to us: that limit is not enforced, and doctor says so.
                with suppress(OSError):
                    write_control(os.path.join(path, "cgroup.subtree_control"), "+" + controller)

    def _path(self, entry: Entry, name: str = "") -> str:
        return os.path.join(self.root, entry.name, name)

    def procs(self, entry: Entry) -> str:
        return self._path(entry, "cgroup.procs")

    def prepare(
        self, entry: Entry, cpus: Optional[str], memory_mib: Optional[int], denied: Sequence[str] = ()
    ) -> List[str]:
        os.mkdir(self._path(entry), 0o755)
        if "devices" in self.enforces:
            numbers = device_numbers(denied)
            if numbers:
                deny_devices(self._path(entry), numbers)
        if cpus is not None and "cpus" in self.enforces:
            write_control(self._path(entry, "cpuset.cpus"), cpus)
        if memory_mib is not None and "memory" in self.enforces:
            write_control(self._path(entry, "memory.max"), str(memory_mib << 20))
        entry.cgroup = True
        return [self.procs(entry)]

    def kill(self, entry: Entry) -> None:
        if not entry.cgroup:
            super().kill(entry)
            return
        # Before Linux 5.14, or released already.
        with suppress(OSError):
            write_control(self._path(entry, "cgroup.kill"), "1")
        signal_all(self.members(entry), signal.SIGKILL)

    def freeze(self, entry: Entry) -> bool:
        if not entry.cgroup:
            return super().freeze(entry)
        self._freeze(entry, "1")
        return "frozen 1" in (read_text(self._path(entry, "cgroup.events")) or "")

    def thaw(self, entry: Entry) -> None:
        if not entry.cgroup:
            super().thaw(entry)
            return
        self._freeze(entry, "0")

    def _freeze(self, entry: Entry, wanted: str) -> None:
        # Released already.
        with suppress(OSError):
            write_control(self._path(entry, "cgroup.freeze"), wanted)

    def facts(self, entry: Entry) -> Json:
        if not entry.cgroup:
            return {}
        names = ("memory.peak", "memory.max", "memory.events")
        found = memory_facts(*(read_text(self._path(entry, name)) for name in names))
        # Without any controller, too.
        used = re.search(r"^usage_usec (\d+)", read_text(self._path(entry, "cpu.stat")) or "", re.M)
        if used is not None:
            found["cpu_s"] = round(int(used.group(1)) / 1e6, 3)
        return found

    def release(self, entry: Entry) -> bool:
        return remove_group(self._path(entry))

    def close(self) -> None:
        remove_group(self.root)
