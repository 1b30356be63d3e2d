"""The process table, and signals."""

import os
import signal
from contextlib import suppress
from typing import Dict, Iterable, List, Optional

from .files import read_text

MARK = "OARPY_JOB"


class Process:
    """One line of the process table."""

    __slots__ = ("parent", "running", "session", "start", "zombie")

    def __init__(self, stat_line: str) -> None:
        # The command stands in parentheses and may hold anything.
        fields = stat_line[stat_line.rindex(")") + 2 :].split()
        self.zombie = fields[0] in "ZX"
        # Or about to run: a stopped one does neither.
        self.running = fields[0] in "RS"
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.start = int(fields[19])


def process(pid: int) -> Optional[Process]:
    try:
        line = read_text("/proc/%d/stat" % pid)
        return None if line is None else Process(line)
    except (OSError, ValueError):
        return None


def processes() -> Dict[int, Process]:
    """The living processes of the machine; costs some 10 µs for each."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            one = process(int(name))
            if one is not None and not one.zombie:
                found[int(name)] = one
    return found


def children(pid: int) -> Optional[List[int]]:
    """The children of a single-threaded process, None where the kernel does not tell."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        # Either the process is gone or the kernel lacks CONFIG_PROC_CHILDREN.
        return [] if os.path.exists("/proc/self/task/%d/children" % os.getpid()) else None
    except OSError:
        return []


def marked(pid: int, mark: bytes) -> bool:
    """Whether a process was started with this mark in its environment."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:
        return False


def send_signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(pid: int) -> None:
    """Kill the process group of a program that was started in a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def signal_all(pids: Iterable[int], number: int) -> None:
    """Signal parents before their children: a shell that sees its command die first goes on to the next one."""
    found = ((process(pid), pid) for pid in pids)
    for _, pid in sorted((one.start, pid) for one, pid in found if one is not None):
        send_signal(pid, number)
