"""The strongest containment that works on this host."""

from typing import Optional, Tuple

from .cgroups import cgroup_mounts
from .cgroups_v1 import CgroupsV1
from .cgroups_v2 import CgroupsV2
from .files import read_text
from .loose import Loose


def find_containment(instance: str) -> Tuple[Loose, Optional[str]]:
    """The strongest containment that works here, and why it is not a stronger one."""
    mounts = cgroup_mounts(read_text("/proc/self/mountinfo") or "")
    try:
        if "freezer" in mounts:
            return CgroupsV1(instance, mounts), None
        if "v2" in mounts:
            return CgroupsV2(instance, mounts["v2"]), None
    except OSError as error:
        return Loose(instance), "control groups cannot be made here (%s: %s)" % (error.filename, error.strerror)
    return Loose(instance), "no control groups are mounted"
