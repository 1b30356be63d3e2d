"""The watch.

While something leased lives, a **watch** stands beside the guard, which tells it each lease.  When the guard
has died, it becomes another one, so that a host that nobody can reach is not left without.  A guard may also
stand still: stopped, or waiting for a disk that does not answer.  Then the watch, which touches no disk, kills
what has outlived its lease by itself, and soon the guard, too.  A machine that stood still as a whole is no
exception: both look at the clock before they do anything else.
"""

import fcntl
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Dict, List

from .cgroups import write_control
from .containment import find_containment
from .entries import Entry
from .host import boot_id, clock
from .protocol import Json, Key
from .spawning import myself

MCL_CURRENT, MCL_FUTURE = 1, 2
LEASE_LOOK_S = 1.0
# So much later than the guard the watch kills; and so often it looks in vain before it kills the guard.
WATCH_LATER_S = 0.5
WATCH_PATIENCE = 10
LOCK_S = 5.0


class Watch:
    """Stands beside a guard while something has a lease: kills what outlives it, and says when the guard has died.

    It hears of the leases on its stdin, whose end is the guard's.  It reads and writes nothing that lies on a disk.
    """

    def __init__(self, instance: str) -> None:
        self.guard = os.getppid()
        self.boot_id = boot_id()
        self.containment, _ = find_containment(instance)
        self.received = bytearray()
        self.since = 0.0
        self.leased: Dict[Key, Entry] = {}
        # How many looks, a second apart, found that the guard had said nothing of what had outlived its lease.
        self.in_vain = 0
        self.counted_at = 0.0

    def run(self) -> None:
        """Return when there is no guard any more."""
        poll = select.poll()
        poll.register(0, select.POLLIN)
        patience_s = LEASE_LOOK_S
        while True:
            # What the guard has said is heard before anything is judged: it may be that a lease was prolonged.
            while poll.poll(1000 * patience_s):
                data = os.read(0, 1 << 16)
                if not data:
                    return
                self.received += data
                patience_s = 0
            self._hear()
            patience_s = self._look()

    def _hear(self) -> None:
        *lines, rest = bytes(self.received).split(b"\n")
        self.received = bytearray(rest)
        for line in lines:
            self._take(json.loads(line.decode()))

    def _take(self, message: Json) -> None:
        if "since" in message:
            self.since = message["since"]
        elif "lease" in message:
            record = message["lease"]
            entry = Entry(record["job"], record["attempt"], (0, 0))
            entry.recall(record)
            self.leased[entry.key] = entry
        elif "fenced" in message and tuple(message["fenced"]) in self.leased:
            self.leased[tuple(message["fenced"])].fenced = True
        elif "over" in message:
            self.leased.pop(tuple(message["over"]), None)

    def _look(self) -> float:
        """Kill what there is to kill; how long to wait before the next look, in seconds."""
        now = clock()
        ends = {key: entry.lease_ends_at(self.since) + WATCH_LATER_S for key, entry in self.leased.items()}
        late = [self.leased[key] for key, end in ends.items() if now >= end]
        for entry in late:
            if entry.boot_id == self.boot_id:
                self.containment.kill(entry)
        if all(entry.fenced for entry in late):
            self.in_vain = 0
        elif now >= self.counted_at + LEASE_LOOK_S:
            self.in_vain += 1
            self.counted_at = now
        if self.in_vain > WATCH_PATIENCE and os.getppid() == self.guard:
            # It does not do what it is there for, and answers no session either.
            os.kill(self.guard, signal.SIGKILL)
        return max(0.01, min([LEASE_LOOK_S, *(end - now for end in ends.values() if end > now)]))


def take_precedence() -> None:
    """Go on where a machine is short of memory or time, or its disk does not answer; becoming a guard undoes it."""
    import ctypes

    # A container may not grant any of them.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with suppress(OSError):
        write_control("/proc/self/oom_score_adj", "-1000")
    ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT | MCL_FUTURE)


def watch(spool: str, instance: str, options: List[str]) -> int:
    """Stand beside the guard, and become one when it has died, unless there is another."""
    lock = os.open(os.path.join(spool, instance, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        take_precedence()
    Watch(instance).run()
    until = clock() + LOCK_S
    while True:
        try:
            # Executing another program gives it up, and whoever is first then is the guard.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # What the guard was starting when it died may still hold it.
            if clock() > until:
                return 0
            time.sleep(0.02)
    log = os.open(os.path.join(spool, instance, "guard.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.execv(sys.executable, myself("guard", "--spool", spool, "--instance", instance, *options))
    return 1
