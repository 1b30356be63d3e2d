"""What both versions of control groups have in common."""

import errno
import os
import re
from contextlib import suppress
from typing import Dict, Optional, Set

from .entries import Entry
from .loose import Loose
from .processes import children
from .protocol import Json


def write_control(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_pids(path: str) -> Set[int]:
    try:
        with open(path) as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:
        return set()


class Cgroups(Loose):
    """What both versions of cgroups have in common: one group for each job, below ``oarpy/INSTANCE``."""

    def members(self, entry: Entry) -> Set[int]:
        if not entry.cgroup:
            return super().members(entry)
        found = read_pids(self.procs(entry))
        if entry.pid is not None and entry.wrapper_lives():
            # A child of the wrapper that has not joined yet.
            found.update(children(entry.pid) or ())
        return found

    def pin(self, pid: int, cpus: Optional[str]) -> None:
        if "cpus" not in self.enforces:
            super().pin(pid, cpus)

    def procs(self, entry: Entry) -> str:
        raise NotImplementedError


def memory_facts(peak: Optional[str], limit: Optional[str], events: Optional[str]) -> Json:
    """What a control group's files tell of a job's memory; none of them need be there."""
    found: Json = {}
    if peak is not None:
        found["peak_mib"] = int(peak) >> 20
    kills = re.search(r"^oom_kill (\d+)", events or "", re.M)
    if kills is not None and int(kills.group(1)) > 0:
        # Before Linux 5.19 nobody knows the peak in version 2.
        used = "" if peak is None else ", %d MiB at its peak" % (int(peak) >> 20)
        # Without a limit of its own it was the host that had no more.
        known = limit is not None and limit.strip().isdigit() and int(limit) < 1 << 60
        may = "the %d MiB that it may" % (int(limit or 0) >> 20) if known else "its host has"
        found["short_of_memory"] = "it used more memory than %s%s (processes killed: %s)" % (may, used, kills.group(1))
    return found


def make_group(path: str) -> None:
    """Make a control group that we may write to, or find it; guards of several instances may begin at once."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o755)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "belongs to another account", path)


def remove_group(path: str) -> bool:
    """Remove a control group; False while something is still in it."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def cgroup_mounts(mountinfo: str) -> Dict[str, str]:
    """Where controllers are mounted, from /proc/self/mountinfo; version 2 under the name ``v2``."""
    found: Dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            found.setdefault("v2", fields[4])
        elif kinds[0] == "cgroup":
            for option in kinds[2].split(","):
                found.setdefault(option, fields[4])
    return found


def leave_service_cgroup(mounts: Dict[str, str]) -> None:
    """Move this process out of the group by which a service manager would end it."""
    for hierarchy in ("v2", "name=systemd"):
        if hierarchy in mounts:
            path = os.path.join(mounts[hierarchy], "oarpy", "guards")
            try:
                os.makedirs(path, 0o755, exist_ok=True)
                write_control(os.path.join(path, "cgroup.procs"), "0")
            except OSError:
                # Not ours to decide; a service manager may then end the jobs with its service.
                continue


def leave_service_priority() -> None:
    """Give up what a service manager granted the server: jobs inherit it, and are to go before the server goes."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        write_control("/proc/self/oom_score_adj", "0")
