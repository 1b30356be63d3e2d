"""The guard's children: whose they are, and what they used."""

import os
import signal
from contextlib import suppress
from typing import Callable, Dict, Optional, Set

from .entries import Entry
from .loop import Loop
from .loose import Loose
from .processes import MARK, children, marked, process
from .protocol import Key
from .spawning import become_subreaper


class Children:
    """Waits for the processes that were started here, and for the jobs' orphans.

    Owns what is to be told of the end of each, and the account of what orphans used.
    Calls nobody but those whom it tells.
    """

    def __init__(self, loop: Loop, containment: Loose, entries: Dict[Key, Entry]) -> None:
        self._containment = containment
        self._entries = entries
        # By pid: who is told of its end, its status as of wait(2) and the CPU time that it used in seconds.
        self._told: Dict[int, Callable[[int, float], None]] = {}
        # What came into jobs by oarsh, until it is gone.
        self._visitors: Dict[int, Entry] = {}
        # Orphans, and to which jobs they belong.
        self._strays: Dict[int, Optional[Key]] = {}
        self._wakeup, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(alarm)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._subreaper = become_subreaper()
        loop.listen(self._wakeup, self.reap)

    def expect(self, pid: int, told: Callable[[int, float], None]) -> None:
        self._told[pid] = told

    def visit(self, pid: int, entry: Entry) -> None:
        """What was started is one of a job's processes."""
        self._visitors[pid] = entry
        entry.visitors.add(pid)

    def reap(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wakeup, 4096)
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None:
                    return
                pid, status, usage = os.wait4(found.si_pid, 0)
            except ChildProcessError:
                return
            used_s = usage.ru_utime + usage.ru_stime
            self._count(pid, found.si_uid, used_s)
            told = self._told.pop(pid, None)
            if told is not None:
                told(status, used_s)

    def _count(self, pid: int, uid: int, used_s: float) -> None:
        """Add what a child of ours used to its job, unless it was started for something else."""
        owner = self._strays.pop(pid, None)
        visited = self._visitors.pop(pid, None)
        if visited is not None:
            visited.visitors.discard(pid)
        entry = visited or (None if owner is None else self._entries.get(owner))
        if entry is None and pid not in self._told:
            # An orphan that nobody has asked whose it is.
            lives = (Entry.BEGUN, Entry.FINISHING)
            mine = [one for one in self._entries.values() if one.uid == uid and one.state in lives]
            entry = mine[0] if len(mine) == 1 else None
        if entry is not None:
            entry.used_s += used_s

    def claim(self, entry: Entry, pids: Set[int]) -> None:
        """Count what these have used when they are reaped here, their parents being killed with them."""
        self._strays.update(dict.fromkeys(pids, entry.key))
        if not entry.cgroup:
            found = ((pid, process(pid)) for pid in pids)
            entry.seen.update((pid, one.start) for pid, one in found if one is not None)

    def still_there(self, entry: Entry) -> Set[int]:
        """What was claimed for an entry and lives: an sshd whose parent died before it bears no mark any more."""
        found = ((pid, start, process(pid)) for pid, start in entry.seen.items())
        return {pid for pid, start, one in found if one is not None and not one.zombie and one.start == start}

    def disclaim(self, entry: Entry) -> None:
        """Nothing of an entry lives any more."""
        for pid in [pid for pid, owner in self._strays.items() if owner == entry.key]:
            del self._strays[pid]

    def owners(self) -> Optional[Set[Key]]:
        """The jobs to which processes belong that became the guard's children; None when that cannot be known."""
        mine = children(os.getpid()) if self._subreaper else None
        if mine is None:
            return None
        owners = set()
        for pid in mine:
            if pid in self._told:
                continue
            if pid in self._visitors:
                owners.add(self._visitors[pid].key)
                continue
            if pid not in self._strays:
                self._strays[pid] = self._owner(pid)
            owner = self._strays[pid]
            if owner is not None:
                owners.add(owner)
        return owners

    def _owner(self, pid: int) -> Optional[Key]:
        one = process(pid)
        if one is None or one.zombie:
            return None
        for entry in self._entries.values():
            if not entry.over and entry.pid == one.session:
                return entry.key
        for entry in self._entries.values():
            if not entry.over and marked(pid, ("%s=%s" % (MARK, self._containment.mark(entry))).encode()):
                return entry.key
        return None
