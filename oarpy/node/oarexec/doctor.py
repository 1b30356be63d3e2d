"""What a host can and cannot do for its jobs."""

import json
import os
import re
import socket
import sys
from typing import Optional

from .containment import find_containment
from .files import reachable, read_text
from .host import boot_id, find_program
from .loose import Loose
from .protocol import PROTOCOL, Json

# File systems that lose the spool at a reboot, or do not keep it on this node's disk.
UNFIT = re.compile(r"(tmpfs|ramfs|devtmpfs|nfs\d*|cifs|smb3|9p|ceph|lustre|gpfs|fuse\..*)\Z")


def file_system(path: str, mountinfo: str) -> str:
    """The type of the file system that ``path`` lies on."""
    best, kind = "", "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def diagnosis(spool: str, containment: Loose, weakness: Optional[str]) -> Json:
    """What this host can and cannot do for its jobs."""
    existing = os.path.realpath(spool)
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    kind = file_system(existing, read_text("/proc/self/mountinfo") or "")
    room = os.statvfs(existing)
    root = os.geteuid() == 0
    findings = []
    if UNFIT.match(kind):
        findings.append("the spool %s lies on %s; it must be on a disk of this node" % (spool, kind))
    if room.f_flag & os.ST_NOEXEC:
        findings.append("nothing can be executed in the spool %s (noexec); jobs have no oarsh there" % spool)
    if room.f_bavail * room.f_frsize < 64 << 20:
        findings.append("less than 64 MiB are free for the spool %s" % spool)
    if weakness is not None:
        findings.append("%s; a determined user can leave processes behind" % weakness)
    if root and find_program("setpriv") is None:
        findings.append("setpriv (util-linux) is missing; no job can be started")
    if root and (room.f_flag & os.ST_NOEXEC or find_program("chroot") is None):
        findings.append("a determined user can falsify what is told of jobs: chroot is missing, or the spool is noexec")
    if root and not reachable(existing):
        findings.append("users cannot reach their node files: a directory above %s is closed to them" % spool)
    for what in ("cpus", "memory", "devices"):
        if what not in containment.enforces:
            findings.append("jobs are not kept to their %s" % what)
    return {
        "protocol": PROTOCOL,
        "host": socket.gethostname(),
        "boot_id": boot_id(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "root": root,
        "containment": {"by": containment.name, "enforces": list(containment.enforces)},
        "spool": {"path": spool, "file_system": kind, "free_mib": (room.f_bavail * room.f_frsize) >> 20},
        "findings": findings,
    }


def doctor(spool: str) -> int:
    containment, weakness = find_containment("doctor-%d" % os.getpid())
    print(json.dumps(diagnosis(spool, containment, weakness), indent=2))
    containment.close()
    return 0
