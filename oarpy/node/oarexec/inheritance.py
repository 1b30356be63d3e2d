"""The entries that another guard left."""

import os
from contextlib import suppress

from .endings import Endings
from .entries import ENTRY, Entry, Progress
from .files import parsed, read_text
from .leases import Leases
from .loop import Loop
from .running import Running
from .site import Site
from .spool import Spool

WATCH_S = 1.0


class Inheritance:
    """Finds out what became of what another guard had begun, and watches those that are no children of this one."""

    def __init__(
        self, site: Site, spool: Spool, loop: Loop, leases: Leases, endings: Endings, running: Running
    ) -> None:
        self._site = site
        self._spool = spool
        self._loop = loop
        self._leases = leases
        self._endings = endings
        self._running = running

    def take_over(self) -> None:
        for name in os.listdir("jobs"):
            match = ENTRY.match(name)
            if match is None:
                continue
            entry = Entry(int(match.group(1)), int(match.group(2)), self._spool.number)
            self._spool.entries[entry.key] = entry
            self._find_out(entry)
        self._endings.settle()

    def _find_out(self, entry: Entry) -> None:
        """What became of an entry, from what stands in its directory and in /proc."""
        progress = Progress(read_text(entry.path("progress")) or "")
        record = parsed(progress.launch)
        if record is not None and (record.get("job"), record.get("attempt")) != entry.key:
            # Left from the entry that this directory was before.
            record, progress = None, Progress("")
        if record is not None:
            entry.recall(record)
        if progress.walltime_s is not None:
            entry.walltime_s = progress.walltime_s
        if progress.proof is not None:
            entry.proof = progress.proof
        entry.began_at = None if progress.began_at is None else progress.began_at - self._site.offset
        entry.cause = progress.cause
        entry.suspended_s = progress.suspended_s
        entry.suspended_at = None if progress.suspended_at is None else progress.suspended_at - self._site.offset
        if read_text(entry.path("refused")) is not None:
            entry.state = Entry.REFUSED
        elif progress.end is not None and not self._lives(entry):
            entry.state = Entry.ENDED
            entry.end = progress.end
        elif record is None and self._spool.rebooted:
            # A power cut loses what was written last: that the command began, perhaps.
            self._spool.begin_progress(entry)
            self._endings.record_outcome(entry, progress, "node_rebooted")
            self._endings.conclude(entry)
        elif record is None:
            # Never let through its gate, which closed with the guard that held it.
            self._endings.give_up(entry)
        elif entry.boot_id != self._site.boot_id:
            entry.cgroup = False
            self._endings.record_outcome(entry, progress, "node_rebooted")
            self._endings.conclude(entry)
        elif entry.wrapper_lives():
            entry.inherited = True
            if entry.began_at is not None:
                self._running.begun(entry, entry.began_at)
            if entry.cause is not None:
                # The other guard's patience ended with it.
                self._loop.after(entry.kill_after_s, self._running.kill_hard, entry, 0.05)
            self._watch(entry)
            if self._leases.begin(entry):
                self._running.fence()
        else:
            entry.inherited = True
            self._endings.wrapper_gone(entry, None)

    def _lives(self, entry: Entry) -> bool:
        """Whether anything of an entry still runs, whatever its lines say of an end."""
        if entry.boot_id != self._site.boot_id:
            return False
        return entry.wrapper_lives() or bool(self._site.containment.members(entry))

    def _watch(self, entry: Entry) -> None:
        if hasattr(os, "pidfd_open") and entry.pid is not None:
            # Gone this instant, or a kernel before 5.3: looked at by the timer.
            with suppress(OSError):
                entry.pidfd = os.pidfd_open(entry.pid)
        if entry.pidfd is not None:
            self._loop.listen(entry.pidfd, self._ended, entry)
        self._look_at(entry)

    def _look_at(self, entry: Entry) -> None:
        """Besides the pidfd: it tells of the end, nothing tells of the beginning."""
        if entry.state not in (Entry.STARTING, Entry.BEGUN):
            return
        if not entry.wrapper_lives():
            self._ended(entry)
            return
        if entry.state == Entry.STARTING:
            progress = Progress(read_text(entry.path("progress")) or "")
            if progress.began_at is not None:
                self._running.begun(entry, progress.began_at - self._site.offset)
        if entry.pidfd is None or entry.state == Entry.STARTING:
            self._loop.after(WATCH_S, self._look_at, entry)

    def _ended(self, entry: Entry) -> None:
        if entry.pidfd is not None:
            self._loop.leave(entry.pidfd)
            os.close(entry.pidfd)
            entry.pidfd = None
        if entry.state in (Entry.STARTING, Entry.BEGUN):
            self._endings.wrapper_gone(entry, None)
