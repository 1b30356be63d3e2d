"""Containment without control groups."""

import os
import signal
from contextlib import suppress
from typing import Dict, List, Optional, Sequence, Set, Tuple

from .entries import Entry
from .processes import MARK, marked, process, processes, signal_all
from .protocol import Json


class Loose:
    """Containment without cgroups.

    Members of a job are the descendants of its wrapper, its session, and
    whatever carries its mark in its environment.  The guard being their
    subreaper, orphans become its children.  A process that leaves session and
    parents and clears its environment escapes.
    """

    name = "processes"
    enforces: Tuple[str, ...] = ()

    def __init__(self, instance: str) -> None:
        self.instance = instance

    def mark(self, entry: Entry) -> str:
        return "%s:%s" % (self.instance, entry.name)

    def prepare(
        self, entry: Entry, cpus: Optional[str], memory_mib: Optional[int], denied: Sequence[str] = ()
    ) -> List[str]:
        """Make room for a job; returns the files by which a process joins, writing 0."""
        return []

    def pin(self, pid: int, cpus: Optional[str]) -> None:
        """Bind a wrapper to processors; here its user can undo it."""
        if cpus is not None:
            # The machine lacks one of them; the job may run on what there is.
            with suppress(OSError):
                os.sched_setaffinity(pid, parse_cpus(cpus))

    def members(self, entry: Entry) -> Set[int]:
        """The living processes of a job, its wrapper excepted."""
        table = processes()
        leader = table.get(entry.pid or 0)
        if leader is not None and leader.start != entry.start:
            leader = None
            session = None
        else:
            session = entry.pid
        mark = ("%s=%s" % (MARK, self.mark(entry))).encode()
        mine = set()
        for pid, one in table.items():
            if one.start < entry.start or pid == entry.pid:
                continue
            # An sshd shows its environment to nobody.
            came = one.session == session or pid in entry.visitors
            if came or (self._may_read(pid, entry.uid) and marked(pid, mark)):
                mine.add(pid)
        roots = mine | ({entry.pid} if leader is not None and entry.pid is not None else set())
        offspring: Dict[int, List[int]] = {}
        for pid, one in table.items():
            offspring.setdefault(one.parent, []).append(pid)
        waiting = list(roots)
        while waiting:
            for pid in offspring.get(waiting.pop(), ()):
                if pid not in mine and pid != entry.pid:
                    mine.add(pid)
                    waiting.append(pid)
        return mine

    def _may_read(self, pid: int, uid: int) -> bool:
        try:
            return os.stat("/proc/%d" % pid).st_uid == uid
        except OSError:
            return False

    def kill(self, entry: Entry) -> None:
        signal_all(self.members(entry), signal.SIGKILL)

    def freeze(self, entry: Entry) -> bool:
        """Stop everything; False while something still runs."""
        stopped: Set[int] = set()
        # What was forked meanwhile is found by looking again.
        while True:
            new = self.members(entry) - stopped
            if not new:
                break
            signal_all(new, signal.SIGSTOP)
            stopped |= new
        # The signal is heeded only when each gets to it.
        return not any(one.running for one in map(process, stopped) if one is not None)

    def thaw(self, entry: Entry) -> None:
        signal_all(self.members(entry), signal.SIGCONT)

    def pin_like_wrapper(self, pid: int, entry: Entry) -> None:
        """Bind what comes into a job to the job's processors, where nothing else keeps it to them."""
        if entry.pid is not None and "cpus" not in self.enforces:
            # Either may be gone this instant.
            with suppress(OSError):
                os.sched_setaffinity(pid, os.sched_getaffinity(entry.pid))

    def facts(self, entry: Entry) -> Json:
        """What is known of a job at its end: cpu_s, peak_mib, short_of_memory."""
        return {}

    def release(self, entry: Entry) -> bool:
        """Undo ``prepare``; False when that must be tried again."""
        return True

    def close(self) -> None:
        """The guard ends: nothing of this instance lives here any more."""


def parse_cpus(cpus: str) -> Set[int]:
    found: Set[int] = set()
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
