"""What is done to launches before they are over."""

import signal
import time
from typing import Callable, Optional

from .children import Children
from .endings import Endings
from .entries import Entry
from .files import complain
from .host import clock
from .leases import Leases
from .loop import Loop
from .processes import children, kill_group, processes, send_signal, signal_all
from .site import Site
from .spawning import spawn
from .spool import Spool
from .wrappers import NOTE, STAYING

NOTE_S = 2.0
FREEZE_S = 10.0
# What a wrapper may take from its word that the command begins to executing it.
FORK_S = 1.0
# Whether it is done, why not, and whether the job is over.
Answer = Callable[[bool, str, bool], None]


class Running:
    """Sees to what runs: its walltime, its lease, its suspension, and its being killed.

    All that it knows stands in the entries.  Of what it kills it hears nothing: the end comes by ``Endings``.
    """

    def __init__(
        self, site: Site, spool: Spool, loop: Loop, children: Children, leases: Leases, endings: Endings
    ) -> None:
        self._site = site
        self._spool = spool
        self._loop = loop
        self._children = children
        self._leases = leases
        self._endings = endings

    def begun(self, entry: Entry, began_at: float) -> None:
        entry.state = Entry.BEGUN
        entry.began_at = began_at
        self.set_deadline(entry)
        self._spool.tell(entry)

    def set_deadline(self, entry: Entry) -> None:
        if entry.walltime_s is None or entry.began_at is None:
            return
        entry.deadline = entry.began_at + entry.walltime_s + entry.grace_s + entry.suspended_s
        self._loop.at(entry.deadline, self._check_deadline, entry)

    def _check_deadline(self, entry: Entry) -> None:
        if entry.state != Entry.BEGUN or entry.suspended_at is not None or entry.deadline is None:
            return
        # A later deadline has a timer of its own.
        if clock() >= entry.deadline:
            self.kill(entry, entry.kill_after_s, "walltime")

    def fence(self) -> None:
        """Kill what the server has not been heard of for too long."""
        late = self._leases.late()
        # All of them first: what is written then may take its time.
        for entry in late:
            if entry.pid is not None:
                self._site.containment.kill(entry)
        for entry in late:
            self._leases.fence(entry)
            if entry.state in (Entry.STARTING, Entry.BEGUN):
                self.kill(entry, 0.0, "fenced")

    def kill(self, entry: Entry, kill_after_s: float, cause: str) -> None:
        if entry.state == Entry.STARTING:
            # Before its gate, or just behind it: whether it began is read once the wrapper is gone.
            if entry.program_pid is not None:
                entry.cause = cause
                kill_group(entry.program_pid)
            elif entry.pid is None:
                self._endings.give_up(entry)
            else:
                entry.cause = cause
                send_signal(entry.pid, signal.SIGKILL)
        elif entry.state == Entry.BEGUN:
            first = entry.cause is None
            if first:
                entry.cause = cause
                self._spool.append(entry, "cause " + cause)
            if first and kill_after_s > 0:
                self._note_kill(entry)
            if kill_after_s > 0:
                self._tell_to_end(entry)
            self.thaw(entry)
            when = clock() + kill_after_s
            if entry.kill_at is None or when < entry.kill_at:
                entry.kill_at = when
                self.kill_hard(entry, 0.05) if kill_after_s <= 0 else self._loop.at(when, self.kill_hard, entry, 0.05)

    def _tell_to_end(self, entry: Entry) -> None:
        members = self._site.containment.members(entry)
        self._children.claim(entry, members)
        signal_all(members, signal.SIGTERM)
        if entry.state == Entry.BEGUN and entry.began_at is not None and clock() < entry.began_at + FORK_S:
            # What has just begun is not there yet, or as a copy of its wrapper, which is deaf.
            self._loop.at(entry.began_at + FORK_S, self._tell_to_end, entry)

    def kill_hard(self, entry: Entry, again_s: float) -> None:
        if entry.state != Entry.BEGUN or entry.pid is None:
            return
        self._children.claim(entry, self._site.containment.members(entry))
        self._site.containment.kill(entry)
        # The wrapper may have been stopped together with its process group.
        send_signal(entry.pid, signal.SIGCONT)
        if again_s > 2.0 and not self._site.containment.members(entry):
            # Nothing is left but a wrapper that cannot end.
            send_signal(entry.pid, signal.SIGKILL)
        self._loop.after(again_s, self.kill_hard, entry, min(2 * again_s, 5.0))

    def _note_kill(self, entry: Entry) -> None:
        """Tell the user, where the job's errors go, that it was killed."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        line = "## OAR [%s] Job %d KILLED ##" % (now, entry.job)
        # In the containment: its user may make it wait, and make it something else meanwhile.
        arguments = ["/bin/sh", "-c", STAYING, "oarexec", " ".join(entry.joins)]
        if self._site.root:
            arguments += self._site.changing_to(entry)
        arguments += ["/bin/sh", "-c", NOTE, "oarexec", entry.directory, entry.stderr, line]

        def noted(status: int, used_s: float) -> None:
            entry.note_pid = None

        try:
            entry.note_pid = spawn(arguments, {"PATH": "/usr/bin:/bin"}, {})
        except OSError as error:
            complain("job %d: cannot note its kill: %s" % (entry.job, error))
        else:
            self._children.expect(entry.note_pid, noted)
            entry.note_until = clock() + NOTE_S

    def suspend(self, entry: Entry, answer: Answer) -> None:
        self._suspend(entry, answer, clock() + FREEZE_S)

    def _suspend(self, entry: Entry, answer: Answer, deadline: float, since: Optional[float] = None) -> None:
        """Freeze a job; ``since`` is when that was begun, where it takes longer."""
        if entry.state != Entry.BEGUN:
            answer(False, "the job is over", True)
            return
        if entry.cause is not None:
            # What it does at its end is not for later.
            answer(False, "the job is being killed", True)
            return
        if since is not None and entry.suspended_at != since:
            answer(False, "it was resumed meanwhile", True)
            return
        if entry.suspended_at is None:
            entry.suspended_at = clock()
            self._spool.append(entry, "suspended %.2f" % (entry.suspended_at + self._site.offset))
        if self._site.containment.freeze(entry):
            self._spool.tell(entry)
            answer(True, "", False)
        elif clock() > deadline:
            self.thaw(entry)
            answer(False, "some processes of the job cannot be frozen", False)
        else:
            self._loop.after(0.02, self._suspend, entry, answer, deadline, entry.suspended_at)

    def thaw(self, entry: Entry) -> None:
        self._site.containment.thaw(entry)
        if entry.suspended_at is not None:
            entry.suspended_s += clock() - entry.suspended_at
            entry.suspended_at = None
            self._spool.append(entry, "resumed %.2f" % (clock() + self._site.offset))
            self.set_deadline(entry)
            self._spool.tell(entry)

    def signal(self, entry: Entry, number: int, answer: Answer) -> None:
        """Send a signal to the first process of a job."""
        self._signal(entry, number, answer, clock() + FORK_S)

    def _signal(self, entry: Entry, number: int, answer: Answer, deadline: float) -> None:
        if not 0 < number < signal.NSIG:
            answer(False, "%d is not a signal" % number, False)
            return
        if entry.state != Entry.BEGUN:
            answer(False, "the job is over", True)
            return
        first = [] if entry.pid is None else children(entry.pid)
        if first is None:
            first = [pid for pid, one in processes().items() if one.parent == entry.pid]
        if not first and clock() < deadline:
            # Just begun, or just ended.
            self._loop.after(0.02, self._signal, entry, number, answer, deadline)
            return
        for pid in first:
            send_signal(pid, number)
        answer(bool(first), "" if first else "the job has no process", False)
