"""The host: its clock, its memory, its programs."""

import os
import re
import time
from typing import Optional

from .files import read_text

# time.CLOCK_BOOTTIME exists since Python 3.7.
CLOCK_BOOTTIME = 7


def clock() -> float:
    """Seconds since the boot, sleep included."""
    return time.clock_gettime(CLOCK_BOOTTIME)


def uptime_offset() -> float:
    """What to add to ``clock()`` for what wrappers read in /proc/uptime (a container may have its own)."""
    with open("/proc/uptime") as file:
        return float(file.read().split()[0]) - clock()


def memory_mib() -> Optional[int]:
    """What this host has for all its processes."""
    found = re.search(r"^MemTotal: +(\d+) kB", read_text("/proc/meminfo") or "", re.M)
    return None if found is None else int(found.group(1)) >> 10


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def find_program(name: str) -> Optional[str]:
    """The path of a system's program; the environment has no say in it."""
    for directory in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK):
            return path
    return None
