"""The guard: its loop, and who does what in it."""

import fcntl
import os
import signal
from typing import List, Optional

from .accounts import Accounts
from .cgroups import cgroup_mounts, leave_service_cgroup, leave_service_priority
from .children import Children
from .endings import Endings
from .files import complain, read_text, renew, trouble
from .host import clock
from .inheritance import Inheritance
from .launches import Launches
from .leases import Leases
from .links import Links
from .loop import Loop
from .oarsh import Oarsh
from .orders import Orders
from .programs import Programs
from .running import Running
from .site import Site
from .spool import Spool
from .wrappers import BASHRC

IDLE_S = 5.0
# The loop comes round so often whatever it waits for: epoll refuses to wait for 25 days, which walltimes may be.
LOOP_S = 60.0


class Guard:
    """Starts jobs, waits for them, and makes sure that nothing of them is left.

    One thread, one loop; nothing in it waits for a user's file or process.  Who does what, and may call whom, is
    told by the order in which they are made: each is given those before it.
    """

    def __init__(self, spool: str, instance: str, min_uid: Optional[int]) -> None:
        # Descriptors below 10 are a wrapper's own; these keep them from being given to anything else.
        while os.dup(2) < 9:
            pass
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        options: List[str] = [] if min_uid is None else ["--min-uid", str(min_uid)]
        site = Site(spool, instance, options)
        try:
            renew("bashrc", BASHRC, 0o644)
        except OSError as error:
            complain("what bash reads before jobs: %s" % trouble(error))
        self._containment = site.containment
        self._spool = Spool(site.boot_id, root=site.root)
        self._loop = loop = Loop()
        children = Children(loop, site.containment, self._spool.entries)
        programs = Programs(site, loop, children)
        self._leases = Leases(site, loop, children)
        self._endings = Endings(site, self._spool, loop, children, programs, self._leases)
        self._running = Running(site, self._spool, loop, children, self._leases, self._endings)
        self._inheritance = Inheritance(site, self._spool, loop, self._leases, self._endings, self._running)
        accounts = Accounts(min_uid)
        self._launches = Launches(
            site,
            self._spool,
            loop,
            children,
            programs,
            self._leases,
            self._endings,
            self._running,
            accounts,
        )
        orders = Orders(site, self._spool, self._endings, self._running, accounts)
        oarsh = Oarsh(site, loop, children, self._spool.entries)
        self._links = Links(site, self._spool, loop, self._leases, self._launches, orders, oarsh)
        self._idle_since = clock()

    def run(self) -> None:
        """Serve until there is neither a link nor a live entry."""
        self._inheritance.take_over()
        print("ready", flush=True)
        # The session that started us waits for the end of this pipe.
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 1)
        os.close(null)
        while not (self._idle() and self._links.leave()):
            ready = self._loop.wait(self._patience_s())
            # Before all else: this process, or the machine, may have stood still for hours.
            self._running.fence()
            self._loop.serve(ready)
            self._loop.fire()
            self._launches.start_some()
            self._endings.settle()
            self._links.flush()
        self._leases.close()
        self._containment.close()

    def _idle(self) -> bool:
        if self._links or not all(entry.over for entry in self._spool.entries.values()):
            self._idle_since = clock()
        # The loop may have waited for long before the last link ended.
        return clock() - max(self._idle_since, self._links.left_at) > IDLE_S

    def _patience_s(self) -> float:
        if self._launches.waiting or self._endings.waiting:
            return 0.0
        until = self._loop.next_at
        patience_s = LOOP_S if until is None else min(until - clock(), LOOP_S)
        if not self._links:
            patience_s = min(patience_s, IDLE_S)
        leased_s = self._leases.patience_s()
        if leased_s is not None:
            patience_s = min(patience_s, leased_s)
        return max(0.0, patience_s)


def guard(spool: str, instance: str, min_uid: Optional[int]) -> int:
    """Be the guard, unless there is one already."""
    os.umask(0o022)
    lock = os.open(os.path.join(spool, instance, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    leave_service_cgroup(cgroup_mounts(read_text("/proc/self/mountinfo") or ""))
    leave_service_priority()
    Guard(spool, instance, min_uid).run()
    return 0
