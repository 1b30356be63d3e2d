"""Leases as the guard sees to them, with a watch beside it that does so, too."""

import json
import os
import select
import signal
from contextlib import suppress
from typing import Dict, List, Optional

from .children import Children
from .entries import Entry, duration
from .files import complain, read_text, trouble, write_line
from .host import clock
from .loop import Loop
from .processes import send_signal
from .protocol import Json, Key
from .site import Site
from .spawning import myself, spawn
from .spool import RETRY_S
from .watch import LEASE_LOOK_S, WATCH_LATER_S


class Leases:
    """Knows what is leased and until when; owns the watch and what it is told.

    It kills nothing: whoever asks for what is late does.
    """

    def __init__(self, site: Site, loop: Loop, children: Children) -> None:
        self._site = site
        self._loop = loop
        self._children = children
        self._leased: Dict[Key, Entry] = {}
        # The last clock of ours that the server told back.
        self._since = 0.0
        told = (read_text("lease") or "").split()
        if told[:1] == [site.boot_id] and len(told) == 2:
            with suppress(ValueError):
                self._since = min(clock(), duration(told[1]))
        self._watch: Optional[int] = None
        self._to_watch: Optional[int] = None
        self._unsaid = bytearray()

    def begin(self, entry: Entry) -> bool:
        """From now on an entry is late when its lease is over, which may be at once; False when it has none."""
        if entry.lease_s is None or entry.state not in (Entry.STARTING, Entry.BEGUN):
            return False
        self._leased[entry.key] = entry
        if self._watch is None:
            self._start_watch()
        elif entry.pid is not None:
            self.tell(entry)
        return True

    def tell(self, entry: Entry) -> None:
        """Let the watch know what it would have to kill."""
        self._say({"lease": entry.lease()})

    def end(self, entry: Entry) -> None:
        """Nothing of an entry is left."""
        if self._leased.pop(entry.key, None) is not None:
            self._say({"over": entry.key})

    def late(self) -> List[Entry]:
        """What the server has not been heard of for too long, and is not being killed for that."""
        if not self._leased:
            return []
        return [entry for entry in self._leased.values() if not entry.fenced and self.outlives(entry, clock())]

    def fence(self, entry: Entry) -> None:
        """It is being killed."""
        entry.fenced = True
        self._say({"fenced": entry.key})

    def outlives(self, entry: Entry, at: float) -> bool:
        """Whether the lease of an entry is over at that time; without one it never is."""
        return entry.lease_s is not None and at >= self.ends_at(entry)

    def ends_at(self, entry: Entry) -> float:
        return entry.lease_ends_at(self._since)

    def patience_s(self) -> Optional[float]:
        """How long nothing need be looked at; None while nothing is leased."""
        if not self._leased:
            return None
        # The kernel's timers stand still while a machine sleeps, leases do not.
        ends = [self.ends_at(entry) for entry in self._leased.values() if not entry.fenced]
        return min([LEASE_LOOK_S, *(end - clock() for end in ends)])

    def renew(self, since: float) -> None:
        """The server has told back that clock."""
        if not self._since < since <= clock():
            return
        self._since = since
        self._say({"since": since})
        try:
            fd = os.open("lease", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # Over the one before, which is as long: a full disk has room for it.
                write_line(fd, "%s %016.3f" % (self._site.boot_id, since))
            finally:
                os.close(fd)
        except OSError as error:
            complain("lease: %s" % trouble(error))

    def close(self) -> None:
        if self._watch is not None:
            send_signal(self._watch, signal.SIGKILL)

    def _start_watch(self) -> None:
        """Let another process see to the leases, too."""
        site = self._site
        arguments = myself("watch", "--spool", site.spool, "--instance", site.instance, *site.options)
        heard, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._to_watch = said
        self._unsaid.clear()
        self._loop.listen(said, self._send, events=0)
        # Said before there is anybody to hear it: from its first moment on it knows what to see to.
        self._say({"since": self._since})
        for entry in self._leased.values():
            if entry.pid is not None:
                self.tell(entry)
            if entry.fenced:
                self._say({"fenced": entry.key})
        try:
            os.set_blocking(heard, True)
            self._watch = spawn(arguments, {"PATH": "/usr/bin:/bin"}, {0: heard})
            self._children.expect(self._watch, self._watch_ended)
        except OSError as error:
            complain("no watch can be started: %s" % error)
            self._leave_watch()
            self._loop.after(RETRY_S, self._miss_watch)
        finally:
            os.close(heard)

    def _miss_watch(self) -> None:
        if self._watch is None and self._leased:
            self._start_watch()

    def _watch_ended(self, status: int, used_s: float) -> None:
        self._watch = None
        self._leave_watch()
        self._loop.after(WATCH_LATER_S, self._miss_watch)

    def _leave_watch(self) -> None:
        """Nobody hears any more what is said to it."""
        if self._to_watch is not None:
            self._loop.leave(self._to_watch)
            os.close(self._to_watch)
            self._to_watch = None

    def _say(self, message: Json) -> None:
        if self._to_watch is not None:
            self._unsaid += json.dumps(message, separators=(",", ":")).encode() + b"\n"
            self._send()

    def _send(self) -> None:
        """Tell the watch what it has room for; what dies before it has read is reaped."""
        assert self._to_watch is not None
        try:
            while self._unsaid:
                del self._unsaid[: os.write(self._to_watch, self._unsaid)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsaid.clear()
        self._loop.change(self._to_watch, select.EPOLLOUT if self._unsaid else 0)
