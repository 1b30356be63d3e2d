"""How launches end."""

import os
import signal
from typing import List, Optional, Set

from .access import drop_access
from .children import Children
from .entries import Entry, Progress, wait_status
from .files import complain, read_text
from .host import clock
from .leases import Leases
from .loop import Loop
from .processes import send_signal, signal_all
from .programs import Programs
from .protocol import MAX_TEXT, Json, Key, Refusal
from .reasons import explain
from .site import Site
from .spawning import myself
from .spool import RETRY_S, Spool
from .sweeps import IPC, ipc_of


class Endings:
    """Leads what is over to its end: its containment emptied, its user's left-overs removed, its epilogue run.

    Owns those on their way there.  Whoever finds that a launch failed, or that a wrapper is gone, says so here.
    """

    def __init__(
        self, site: Site, spool: Spool, loop: Loop, children: Children, programs: Programs, leases: Leases
    ) -> None:
        self._site = site
        self._spool = spool
        self._loop = loop
        self._children = children
        self._programs = programs
        self._leases = leases
        # Those whose wrapper is gone, to be looked at in this turn.
        self._gone: List[Entry] = []
        # The users of whom something is being removed.
        self._sweeping: Set[int] = set()

    @property
    def waiting(self) -> bool:
        return bool(self._gone)

    def sweeps(self, uid: int) -> bool:
        """Whether something of a user is being removed: what began now would be taken for what is left."""
        return uid in self._sweeping

    def fail(self, entry: Entry, refusal: Refusal) -> None:
        """The launch failed before its command began, for a reason that ends the job."""
        entry.outcome = {
            "ran": False,
            "status": None,
            "cause": "prologue" if refusal.event == "PROLOGUE_ERROR" else "launch_error",
            "event": refusal.event,
            "text": refusal.text[:MAX_TEXT],
        }
        entry.state = Entry.FINISHING
        if entry.pid is None:
            self._gone.append(entry)
        # Else its wrapper stands before a closed gate and will be reaped.

    def give_up(self, entry: Entry) -> None:
        """Make the entry a tombstone."""
        drop_access(entry)
        self._leases.end(entry)
        entry.state = Entry.REFUSED
        self._spool.make_tombstone(entry)
        self._release(entry)
        self._spool.tell(entry)

    def wrapper_gone(self, entry: Entry, cpu_s: Optional[float], status: Optional[int] = None) -> None:
        if not entry.outcome:
            progress = Progress(read_text(entry.path("progress")) or "")
            if status is not None and progress.status is None and progress.error is None and os.WIFEXITED(status):
                # It came to its end and could not write so.
                progress.status, progress.ended_at = os.WEXITSTATUS(status), clock() + self._site.offset
            if progress.began_at is None:
                # Whatever its gate was, it did not act on it: the command never ran.
                entry.outcome = {"ran": False}
            else:
                entry.began_at = progress.began_at - self._site.offset
                self.record_outcome(entry, progress, "vanished")
                entry.outcome["cpu_s"] = cpu_s
        entry.state = Entry.FINISHING
        self._gone.append(entry)

    def record_outcome(self, entry: Entry, progress: Progress, otherwise: str) -> None:
        """Why and how the command ended; ``otherwise`` is the cause when it left no status."""
        outcome: Json = {"ran": progress.began_at is not None, "status": None, "cause": otherwise}
        outcome["began_at"] = progress.began_at
        outcome["ended_at"] = progress.ended_at if progress.status is not None else clock() + self._site.offset
        outcome["boot_id"] = entry.boot_id
        if progress.error is not None:
            outcome["ran"] = False
            outcome["cause"] = "launch_error"
            outcome["event"], outcome["text"] = progress.error[0], explain(entry, *progress.error)
        elif progress.status is not None:
            outcome["status"] = wait_status(progress.status)
            outcome["cause"] = "signal" if 0 < outcome["status"] < 128 else "exit"
        killed = outcome["cause"] == "vanished" or outcome["status"] == signal.SIGKILL
        ended_at = outcome["ended_at"] - self._site.offset
        late = entry.boot_id == self._site.boot_id and self._leases.outlives(entry, ended_at)
        if killed and late and entry.cause is None:
            # By the watch, perhaps.
            entry.cause = "fenced"
        if entry.cause is not None and progress.error is None:
            outcome["cause"] = entry.cause
        entry.outcome = outcome

    def settle(self) -> None:
        """Conclude what is empty of those whose wrapper is gone; kill what is left of the others."""
        if not self._gone:
            return
        gone = self._gone.copy()
        # Emptied, not replaced: timers hold it.
        self._gone.clear()
        # Looking into a user's process may take as long as that likes; whose containment names them needs no look.
        own = None if all(entry.cgroup or entry.pid is None for entry in gone) else self._children.owners()
        for entry in gone:
            if entry.note_pid is not None:
                # Writing it may hang with the user's file system.
                if clock() > entry.note_until:
                    send_signal(entry.note_pid, signal.SIGKILL)
                    entry.note_pid = None
                self._loop.after(0.005, self._gone.append, entry)
                continue
            left = self._left_behind(entry, own)
            if left:
                self._children.claim(entry, left)
                self._site.containment.kill(entry)
                signal_all(self._children.still_there(entry), signal.SIGKILL)
                self._loop.after(0.02, self._gone.append, entry)
                continue
            self._take_facts(entry)
            if not self._site.containment.release(entry):
                self._loop.after(0.005, self._gone.append, entry)
            elif self._is_swept_after(entry):
                self._begin_sweep(entry)
            elif entry.epilogue is not None:
                self._begin_epilogue(entry)
            elif entry.outcome.get("ran") is False and "event" not in entry.outcome:
                self.give_up(entry)
            else:
                self.conclude(entry)

    def _begin_epilogue(self, entry: Entry) -> None:
        """Run what follows the job; it is concluded afterwards."""

        def ended(said: Optional[str]) -> None:
            entry.epilogue = None
            if said is not None:
                complain("job %s: the epilogue %s" % (entry.name, said))
                # Of what failed before, or never began, there is something else to tell.
                if entry.outcome.get("ran") is not False and "event" not in entry.outcome:
                    entry.outcome["event"], entry.outcome["text"] = "EPILOGUE_ERROR", "the epilogue " + said
            self._gone.append(entry)

        try:
            words = [entry.epilogue or "", str(entry.job), entry.user, self._site.path(entry, "nodes")]
            self._programs.run(entry, words, ended)
        except (OSError, ValueError) as error:
            ended("cannot be run: %s" % error)

    def _is_swept_after(self, entry: Entry) -> bool:
        """Whether something of the entry's user is to be removed now: it is his last, and there may be something."""
        if not entry.sweep or entry.boot_id != self._site.boot_id or entry.uid <= 0:
            return False
        entries = self._spool.entries.values()
        if any(other is not entry and other.uid == entry.uid and not other.over for other in entries):
            return False
        return entry.sweep != ["ipc"] or any(ipc_of(kind, entry.uid) for kind in IPC)

    def _begin_sweep(self, entry: Entry) -> None:
        """Remove what is left of a user; the job goes on to its end afterwards."""
        uid, gid, sweep = entry.uid, entry.groups.partition(",")[0], entry.sweep
        words = [name for name in ("processes", "ipc") if name in sweep]
        directories = [path for path in sweep if os.path.isabs(path)]

        def ended(said: Optional[str]) -> None:
            self._sweeping.discard(uid)
            entry.sweep = []
            if said is not None:
                complain("job %s: the sweep %s" % (entry.name, said))
            self._gone.append(entry)

        arguments = myself("sweep", str(uid), gid, ",".join(words))
        self._sweeping.add(uid)
        try:
            self._programs.run(entry, [*arguments, *directories], ended)
        except (OSError, ValueError) as error:
            ended("cannot be run: %s" % error)

    def _take_facts(self, entry: Entry) -> None:
        """Add to an outcome what the containment tells: what it used, and whether that was too much memory."""
        # All of it is dead, and perhaps not waited for.
        self._children.reap()
        self._children.disclaim(entry)
        found = self._site.containment.facts(entry)
        if entry.outcome.get("cpu_s") is not None:
            entry.outcome["cpu_s"] = round(entry.outcome["cpu_s"] + entry.used_s, 3)
            entry.used_s = 0.0
        entry.outcome.update(found)
        # A command that outlived what was killed, and succeeded, has had enough.
        failed = entry.outcome.get("status") != 0 and entry.outcome.get("cause") in ("exit", "signal", "vanished")
        if failed and "short_of_memory" in found:
            entry.outcome["cause"] = "out_of_memory"

    def _left_behind(self, entry: Entry, own: Optional[Set[Key]]) -> Set[int]:
        if entry.boot_id != self._site.boot_id or (entry.pid is None and not entry.cgroup):
            return set()
        if not entry.cgroup and not entry.inherited and own is not None and entry.key not in own:
            return set()
        return self._site.containment.members(entry) | self._children.still_there(entry)

    def conclude(self, entry: Entry) -> None:
        """The containment is empty: the job is over."""
        drop_access(entry)
        self._leases.end(entry)
        entry.state = Entry.ENDED
        entry.end = entry.outcome
        self._write_end(entry)
        self._spool.tell(entry)

    def _write_end(self, entry: Entry) -> None:
        if not self._spool.write_end(entry):
            self._loop.after(RETRY_S, self._write_end, entry)

    def _release(self, entry: Entry) -> None:
        if not self._site.containment.release(entry):
            self._loop.after(0.05, self._release, entry)
