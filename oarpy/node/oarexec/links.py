"""Speaking with sessions, by lines of the protocol."""

import json
import os
import select
import socket
import struct
from contextlib import suppress
from typing import Any, Dict, Iterable, List, Optional

from .access import take_programs
from .entries import Entry
from .files import complain_of
from .host import clock, memory_mib
from .launches import Launches
from .leases import Leases
from .loop import Loop
from .oarsh import Oarsh
from .orders import Orders
from .protocol import ITEMS_PER_LINE, MAX_LINE, MAX_TEXT, PROTOCOL, Garbled, Json, Number, expect, number_of, span_of
from .site import Site
from .spool import Spool


class Link:
    """One connection of a session to the guard."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.fd = sock.fileno()
        self.number: Optional[Number] = None
        self.received = bytearray()
        self.to_send = bytearray()

    def lines(self) -> Iterable[bytes]:
        while True:
            end = self.received.find(b"\n")
            if end < 0:
                if len(self.received) > MAX_LINE:
                    raise Garbled("a line is longer than %d bytes" % MAX_LINE)
                return
            line = bytes(self.received[:end])
            del self.received[: end + 1]
            yield line

    def say(self, message: Json) -> None:
        self.to_send += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def say_parts(self, word: str, items: List[Json]) -> None:
        """One line for each ``ITEMS_PER_LINE`` of ``items``."""
        for first in range(0, len(items), ITEMS_PER_LINE):
            self.say({word: items[first : first + ITEMS_PER_LINE]})

    def say_inventory(self, items: List[Json]) -> None:
        for first in range(0, max(1, len(items)), ITEMS_PER_LINE):
            rest = first + ITEMS_PER_LINE
            self.say({"inventory": items[first:rest], "more": rest < len(items)})


class Links:
    """Owns the socket and the links on it, one of which is the current session's; the others were or will be.

    Hands on what is asked, and tells the current one what has changed and what is answered.
    """

    def __init__(
        self,
        site: Site,
        spool: Spool,
        loop: Loop,
        leases: Leases,
        launches: Launches,
        orders: Orders,
        oarsh: Oarsh,
    ) -> None:
        self._site = site
        self._spool = spool
        self._loop = loop
        self._leases = leases
        self._launches = launches
        self._orders = orders
        self._oarsh = oarsh
        self._links: Dict[int, Link] = {}
        self._current: Optional[Link] = None
        # When a link ended last.
        self.left_at = 0.0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with suppress(FileNotFoundError):
            os.unlink("guard.sock")
        # A relative name: the spool's own path may be longer than a socket's may be.
        self._listener.bind("guard.sock")
        os.chmod("guard.sock", 0o600)
        self._listener.listen(16)
        self._listener.setblocking(False)
        loop.listen(self._listener.fileno(), self._accept)

    def __len__(self) -> int:
        return len(self._links)

    def leave(self) -> bool:
        """Take the door away, for good unless somebody has just come in."""
        try:
            os.rename("guard.sock", "guard.sock.old")
        except OSError:
            # The whole spool is gone, or closed to writing.
            return True
        # Who comes from now on finds nobody and starts another guard.
        while self._accept():
            pass
        if self._links:
            os.rename("guard.sock.old", "guard.sock")
            return False
        os.unlink("guard.sock.old")
        return True

    def _accept(self) -> bool:
        """Let a session in; False when none is there."""
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return False
        peer = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        if peer[1] not in (0, os.geteuid()):
            sock.close()
            return True
        sock.setblocking(False)
        link = Link(sock)
        self._links[link.fd] = link
        self._loop.listen(link.fd, self._receive, link)
        return True

    def _receive(self, link: Link) -> None:
        try:
            data = link.socket.recv(1 << 18)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"":
            self._drop(link)
            return
        if data:
            link.received += data
        try:
            for line in link.lines():
                if self._links.get(link.fd) is not link:
                    return
                self._obey(link, json.loads(line.decode()))
        except (Garbled, ValueError, OSError, RecursionError) as error:
            self._refuse(link, str(error))
        except Exception as error:  # whatever one session says, the others' jobs are to be watched
            complain_of(error)
            self._refuse(link, "%s: %s" % (type(error).__name__, error))

    def _refuse(self, link: Link, text: str) -> None:
        link.say({"refused": text[:MAX_TEXT]})
        self._drop(link)

    def _obey(self, link: Link, message: Any) -> None:
        if not isinstance(message, dict):
            raise Garbled("a line is not an object")
        if "hello" in message:
            self._greet(link, expect(message, "hello", dict))
        elif link is not self._current:
            raise Garbled("hello comes first")
        elif "launches" in message:
            self._launches.take(expect(message, "launches", list), link.number or self._spool.number)
        elif "orders" in message:
            for order in expect(message, "orders", list):
                self._orders.take(order, link.number or self._spool.number)
        elif "renew" in message:
            number = number_of(message["renew"])
            if number <= self._spool.number:
                raise Garbled("%r is not a higher number" % (number,))
            self._spool.store_number(number)
            link.number = number
            link.say({"renewed": number})
        elif "ping" in message:
            since = expect(message, "since", float, None)
            if since is not None:
                self._leases.renew(since)
            link.say({"pong": message["ping"], "clock": clock()})
        else:
            raise Garbled("unknown message: %s" % ", ".join(sorted(message)))

    def _greet(self, link: Link, hello: Json) -> None:
        if link is self._current:
            raise Garbled("hello comes once")
        if hello.get("protocol") != PROTOCOL:
            raise Garbled("this guard speaks protocol %d" % PROTOCOL)
        if hello.get("instance") != self._site.instance:
            raise Garbled("this guard serves instance %s" % self._site.instance)
        number = number_of(hello)
        if number <= self._spool.number:
            link.say({"fenced": {"by": self._spool.number}})
            self._drop(link)
            return
        self._spool.store_number(number)
        take_programs(expect(hello, "programs", dict, {}))
        if hello.get("oarsh") or self._oarsh.is_known_to_jobs():
            self._oarsh.open(span_of(hello))
        if self._current is not None:
            self._current.say({"fenced": {"by": number}})
            self._drop(self._current)
        self._launches.drop_waiting()
        link.number = number
        self._current = link
        greeting = {
            "protocol": PROTOCOL,
            "session": number,
            "boot_id": self._site.boot_id,
            "spool_id": self._spool.id,
            "host": socket.gethostname(),
            "containment": {"by": self._site.containment.name, "enforces": self._site.containment.enforces},
            "memory_mib": memory_mib(),
            "clock": clock(),
            "oarsh_port": self._oarsh.port,
        }
        link.say({"hello": greeting})
        link.say_inventory([self._report(entry) for entry in self._spool.entries.values()])
        self._spool.changed.clear()
        self._orders.answers.clear()

    def _report(self, entry: Entry) -> Json:
        report: Json = {"job": entry.job, "attempt": entry.attempt, "is": entry.state}
        if entry.state == Entry.BEGUN and entry.began_at is not None:
            report["age_s"] = round(clock() - entry.began_at, 2)
            report["suspended"] = entry.suspended_at is not None
        elif entry.state == Entry.FINISHING:
            # Until its containment is empty a job that began still runs.
            ran = entry.began_at is not None
            report["is"] = Entry.BEGUN if ran else Entry.STARTING
            if entry.began_at is not None:
                report["age_s"] = round(clock() - entry.began_at, 2)
                report["suspended"] = False
        elif entry.state == Entry.REFUSED:
            report["text"] = entry.trouble
        elif entry.state == Entry.ENDED:
            for name in ("ran", "status", "cause", "event", "text", "cpu_s", "peak_mib", "short_of_memory"):
                report[name] = entry.end.get(name)
            same_boot = entry.end.get("boot_id") == self._site.boot_id
            for name, instant in (("age_s", "began_at"), ("ended_age_s", "ended_at")):
                at = entry.end.get(instant)
                report[name] = round(clock() + self._site.offset - at, 2) if same_boot and at is not None else None
        return report

    def flush(self) -> None:
        if self._current is not None:
            self._current.say_parts("answers", self._orders.answers)
            self._current.say_parts("reports", [self._report(entry) for entry in self._spool.changed.values()])
        self._spool.changed.clear()
        self._orders.answers.clear()
        for link in list(self._links.values()):
            self._send(link)

    def _send(self, link: Link) -> None:
        try:
            while link.to_send:
                del link.to_send[: link.socket.send(link.to_send)]
        except BlockingIOError:
            self._loop.change(link.fd, select.EPOLLIN | select.EPOLLOUT)
            return
        except OSError:
            self._drop(link)
            return
        if link.fd in self._links:
            self._loop.change(link.fd, select.EPOLLIN)

    def _drop(self, link: Link) -> None:
        """End a link; what was said last is sent if that needs no waiting."""
        # Its number may be another's by now.
        if self._links.get(link.fd) is not link:
            return
        del self._links[link.fd]
        self.left_at = clock()
        if self._current is link:
            self._current = None
        with suppress(OSError):
            link.socket.send(link.to_send)
        self._loop.leave(link.fd)
        link.socket.close()
