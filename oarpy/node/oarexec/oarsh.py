"""What oarsh needs of a host.

Asked to in ``hello``, the guard listens on a port, one of those that are named (the same one as the guard
before it, if it can; one that jobs here know is kept, whatever is named later).
Whoever connects says ``oarsh JOB.ATTEMPT PROOF`` in one line; with the proof of a job that runs here
it is answered ``go``, and an sshd goes on with the connection: one for each, as the job's user, in
the job's containment, with the job's key as host key and as the key that it lets in.  So nothing of
it needs root, and what comes in is killed with the job.
"""

import errno
import os
import socket
from contextlib import suppress
from typing import Dict, Iterable, List, Optional, Tuple

from .children import Children
from .entries import ENTRY, Entry
from .files import complain, read_text, trouble, write_file
from .host import find_program
from .loop import Loop
from .processes import MARK
from .protocol import Key
from .site import Site
from .spawning import spawn
from .wrappers import ENTERING

# A connection that says nothing, and how much one may say; and how many wait at a time.
CALL_S, CALL_LENGTH, MOST_CALLS = 10.0, 200, 64


class Oarsh:
    """Where oarsh comes in: owns the port and the connections that have not said yet to which job they want."""

    def __init__(self, site: Site, loop: Loop, children: Children, entries: Dict[Key, Entry]) -> None:
        self._site = site
        self._loop = loop
        self._children = children
        self._entries = entries
        self.port: Optional[int] = None
        self._listener: Optional[socket.socket] = None
        # With what they have said.
        self._calls: Dict[int, Tuple[socket.socket, bytearray]] = {}

    def open(self, span: Optional[Tuple[int, int]]) -> None:
        """Listen for oarsh, where the guard before this one did if that can be."""
        before = (read_text("port") or "").strip()
        wanted = int(before) if before.isdigit() else 0
        if span is not None and not span[0] <= wanted <= span[1] and not self.is_known_to_jobs():
            wanted = span[0]
            self._close()
        if self._listener is not None:
            return
        try:
            listener = listen_anywhere([wanted, *([0] if span is None else range(span[0], span[1] + 1))])
        except OSError as error:
            complain("oarsh: no port can be opened: %s" % error)
            return
        listener.setblocking(False)
        self._listener, self.port = listener, listener.getsockname()[1]
        self._loop.listen(listener.fileno(), self._take)
        try:
            write_file("port", "%d\n" % self.port)
        except OSError as error:
            complain("oarsh: %s" % trouble(error))

    def is_known_to_jobs(self) -> bool:
        """Whether jobs have been told where oarsh is taken in."""
        return any(entry.proof is not None and not entry.over for entry in self._entries.values())

    def _close(self) -> None:
        if self._listener is not None:
            self._loop.leave(self._listener.fileno())
            self._listener.close()
            self._listener = self.port = None

    def _take(self) -> None:
        try:
            assert self._listener is not None
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        if len(self._calls) >= MOST_CALLS:
            # Whoever means it says so at once: those who have waited longest say nothing.
            oldest = next(iter(self._calls))
            self._end(oldest, self._calls[oldest][0])
        self._calls[sock.fileno()] = (sock, bytearray())
        self._loop.listen(sock.fileno(), self._hear, sock.fileno())
        self._loop.after(CALL_S, self._end, sock.fileno(), sock)

    def _end(self, fd: int, sock: socket.socket) -> None:
        if fd in self._calls and self._calls[fd][0] is sock:
            del self._calls[fd]
            self._loop.leave(fd)
            sock.close()

    def _hear(self, fd: int) -> None:
        sock, said = self._calls[fd]
        try:
            part = sock.recv(CALL_LENGTH)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        said += part
        if part and not said.endswith(b"\n") and len(said) < CALL_LENGTH:
            return
        # Taken out before it is closed: its number may be another's at once.
        del self._calls[fd]
        self._loop.leave(fd)
        with sock:
            if part:
                refusal = self._admit(sock, said.decode("ascii", "replace").split())
                if refusal is not None:
                    with suppress(OSError):
                        sock.send((refusal + "\n").encode())

    def _admit(self, sock: socket.socket, words: List[str]) -> Optional[str]:
        """Let an sshd of the job go on with a connection; why not, where not."""
        match = ENTRY.match(words[1]) if len(words) == 3 and words[0] == "oarsh" else None
        entry = None if match is None else self._entries.get((int(match.group(1)), int(match.group(2))))
        if entry is None or entry.proof is None or entry.proof != words[2]:
            return "no job of yours that oarsh can come to is here"
        if entry.state != Entry.BEGUN:
            return "the job does not run"
        if entry.suspended_at is not None:
            # What enters stands still before it is the user's, whose limits are not root's.
            return "the job is suspended"
        sshd = find_program("sshd")
        if sshd is None:
            return "this host has no sshd"
        arguments = ["/bin/sh", "-c", ENTERING, "oarexec", " ".join(entry.joins)]
        if self._site.root:
            arguments += self._site.changing_to(entry)
        arguments += [sshd, "-i", "-f", self._site.path(entry, "oarsh/sshd_config")]
        environment = {"PATH": "/usr/bin:/bin", MARK: self._site.containment.mark(entry)}
        try:
            sock.setblocking(True)
            sock.sendall(b"go\n")
            pid = spawn(arguments, environment, {0: sock.fileno(), 1: sock.fileno()})
            self._site.containment.pin_like_wrapper(pid, entry)
            self._children.visit(pid, entry)
        except OSError as error:
            return "sshd cannot be started: %s" % error
        return None


def listen_anywhere(ports: Iterable[int]) -> socket.socket:
    """A socket that listens on all addresses, on the first of ``ports`` that nobody has; 0 is any."""
    for wanted in ports:
        for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
            sock = None
            try:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                sock.bind((address, wanted))
                sock.listen(64)
                return sock
            except OSError:
                if sock is not None:
                    sock.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
