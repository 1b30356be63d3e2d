"""A terminal inside a job, and the way to it.

One file, standard library only, Python 3.6 or later: its text is on the command line
of interactive jobs, so that a node needs nothing installed.  It has two lives::

    terminal serve [COMMAND]
    terminal attach

The **server** is what an interactive job runs.  It listens on the abstract socket that its environment
names and starts the user's shell (or COMMAND in it) on a pty when the first client is there; it ends
with it.  Its exit status is the shell's, 128 + N where a signal ended that, and 75 when no
client came.  A client that comes later takes over from the one that is there.  When the link of
a client is lost, the shell is hung up on, unless the client wished it to be kept; then what
it writes is kept for the next one, as far as 64 KiB hold it.

**attach** carries its stdin and stdout to that socket, for clients on other hosts; what comes first is a line
with its name, then the client's hello.  The display is that of attach, which ssh forwards.

Both ends are of one user, and each makes sure of that (SO_PEERCRED).  On a command line everybody would
read the name, and could have the socket before the server.

The protocol
============

Frames: a letter, the length of the content in four bytes, big-endian, the content.
The client sends ``h`` first: an object with ``rows``, ``columns``, ``keep`` and ``environment`` (of
which the names in ``ENVIRONMENT`` are taken), then ``d`` (data) and ``w`` (``[rows, columns]``); the server
sends ``d``, and at the end ``x`` (the exit status as text) or ``r`` (why the client has to go).
"""

import errno
import fcntl
import json
import os
import pty
import pwd
import select
import signal
import socket
import struct
import sys
import termios
import time
from contextlib import suppress
from typing import Any, Iterator, List, Optional, Tuple

VARIABLE = "OAR_TERMINAL"
DISPLAY = ("DISPLAY", "XAUTHORITY")
ENVIRONMENT = ("TERM", "COLORTERM", *DISPLAY)
HEAD = struct.Struct("!cI")
LONGEST = 1 << 20
READ = 1 << 16
LONGEST_NAME = 100
KEPT_BYTES = 1 << 16
#: How long the first client may take.
FIRST_S = 60.0
#: How long attach looks for a server that is only just starting.
ATTACH_S = 15.0
#: How long a shell may take that was hung up on.
HANGUP_S = 5.0
NOBODY_CAME = 75


def frame(kind: bytes, content: bytes) -> bytes:
    return HEAD.pack(kind, len(content)) + content


class Frames:
    """What arrives on one link, cut into frames."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[Tuple[bytes, bytes]]:
        """The frames that these bytes complete; Raises ``ValueError`` for one that is too long."""
        self._data += data
        while len(self._data) >= HEAD.size:
            kind, length = HEAD.unpack_from(self._data)
            if length > LONGEST:
                raise ValueError("a frame of %d bytes" % length)
            if len(self._data) < HEAD.size + length:
                return
            content = self._data[HEAD.size : HEAD.size + length]
            self._data = self._data[HEAD.size + length :]
            yield kind, content


def is_own(link: socket.socket) -> bool:
    """Whether the other end is of the same user, or of root."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (0, os.getuid())


def connected(name: str, patience_s: float = ATTACH_S) -> socket.socket:
    """A link to the terminal ``name`` of this host; Raises ``OSError`` when there is none, or a stranger's."""
    deadline = time.monotonic() + patience_s
    while True:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect("\0" + name)
        except OSError:
            link.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        if is_own(link):
            return link
        link.close()
        raise OSError(errno.EPERM, "the terminal is somebody else's")


class Server:
    """The terminal and, while there is one, its client."""

    def __init__(self, name: str, command: Optional[str]) -> None:
        self.command = command
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind("\0" + name)
        self.listener.listen(8)
        self.listener.setblocking(False)
        self.client: Optional[socket.socket] = None
        self.frames = Frames()
        self.keep = False
        self.pid = 0
        self.master = -1
        #: For the shell; for the client, and of that what is on its way.
        self.typed = b""
        self.shown = b""
        self.sending = b""
        self.frame = b""
        self.hung_up_at: Optional[float] = None
        self.wakeup, wake = os.pipe()
        for fd in (self.wakeup, wake):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *told: None)
        for number in FORWARDED:
            signal.signal(number, self._forward)

    def run(self) -> int:
        """Serve until the shell has ended; the exit status."""
        nobody_at = time.monotonic() + FIRST_S
        while True:
            if self.pid and not self._shell_lives():
                return self._say_end()
            now = time.monotonic()
            if not self.pid and now > nobody_at:
                return NOBODY_CAME
            if self.hung_up_at is not None and now > self.hung_up_at + HANGUP_S:
                return 128 + signal.SIGHUP
            for fd, events in self._poll().poll(1000):
                self._serve(fd, events)

    def _poll(self) -> Any:
        poll = select.poll()
        poll.register(self.wakeup, select.POLLIN)
        poll.register(self.listener, select.POLLIN)
        if self.client is not None:
            # Who types faster than the shell reads waits, and so does a shell that writes faster than its client reads.
            reads = select.POLLIN if len(self.typed) < READ else 0
            poll.register(self.client, reads | (select.POLLOUT if self.shown or self.frame else 0))
        if self.master >= 0:
            reads = select.POLLIN if self.client is None or len(self.shown) < READ else 0
            poll.register(self.master, reads | (select.POLLOUT if self.typed else 0))
        return poll

    def _serve(self, fd: int, events: int) -> None:
        if fd == self.wakeup:
            self._heed(os.read(self.wakeup, 4096))
        elif fd == self.listener.fileno():
            self._accept()
        elif self.client is not None and fd == self.client.fileno():
            self._serve_client(self.client, events)
        elif fd == self.master:
            self._serve_shell(events)

    def _heed(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self._hang_up()

    def _accept(self) -> None:
        try:
            link, _ = self.listener.accept()
        except OSError:
            return
        if not is_own(link):
            link.close()
            return
        if self.client is not None:
            with suppress(OSError):
                self.client.send(frame(b"r", b"another client took over"))
            self._part()
        link.setblocking(False)
        self.client, self.frames = link, Frames()

    def _serve_client(self, client: socket.socket, events: int) -> None:
        try:
            if events & select.POLLOUT:
                if not self.frame:
                    self.sending, self.shown = self.shown[:READ], self.shown[READ:]
                    self.frame = frame(b"d", self.sending)
                self.frame = self.frame[client.send(self.frame) :]
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                data = client.recv(READ)
                if not data:
                    raise ConnectionError("the link ended")
                for kind, content in self.frames.feed(data):
                    self._obey(kind, content)
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._lost()

    def _obey(self, kind: bytes, content: bytes) -> None:
        """Raises ``ValueError`` when it cannot be understood."""
        if kind == b"d":
            self.typed += content
        elif kind == b"w":
            size = json.loads(content.decode())
            if not isinstance(size, list) or len(size) != 2:
                raise ValueError("no size")
            self._resize(*size)
        elif kind == b"h":
            hello = json.loads(content.decode())
            if not isinstance(hello, dict):
                raise ValueError("no hello")
            # Whoever kept it once may come back without saying so again.
            self.keep = self.keep or hello.get("keep") is True
            if not self.pid:
                self._start(hello.get("environment"))
            self._resize(hello.get("rows"), hello.get("columns"))

    def _serve_shell(self, events: int) -> None:
        try:
            if events & select.POLLOUT:
                self.typed = self.typed[os.write(self.master, self.typed) :]
            if events & (select.POLLIN | select.POLLHUP):
                self._show(os.read(self.master, READ))
        except BlockingIOError:
            pass
        except OSError:
            # Nobody has the terminal any more; the end of the shell is heard of otherwise.
            self._close_master()

    def _show(self, data: bytes) -> None:
        self.shown += data
        if self.client is None:
            self.shown = self.shown[-KEPT_BYTES:]

    def _start(self, given: Any) -> None:
        """Start the shell as a login does; it may not end before somebody can be told."""
        shell = pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
        arguments = ["-" + os.path.basename(shell)]
        if self.command is not None:
            arguments = [shell, "-c", self.command]
        environment = dict(os.environ)
        for name in ENVIRONMENT:
            value = given.get(name) if isinstance(given, dict) else None
            if isinstance(value, str) and "\0" not in value:
                environment[name] = value
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            try:
                for number in (signal.SIGPIPE, signal.SIGXFSZ):
                    signal.signal(number, signal.SIG_DFL)
                os.execve(shell, arguments, environment)
            except OSError as error:
                os.write(2, ("%s: %s\r\n" % (shell, error.strerror)).encode())
            finally:
                os._exit(127)
        os.set_inheritable(self.master, False)
        os.set_blocking(self.master, False)

    def _resize(self, rows: Any, columns: Any) -> None:
        if type(rows) is not int or type(columns) is not int or not (0 < rows < 10000 and 0 < columns < 10000):
            return
        if self.master >= 0:
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
            # A client that comes back sees nothing until what runs there draws anew.
            self._signal_foreground(signal.SIGWINCH)

    def _signal_foreground(self, number: int) -> None:
        with suppress(OSError):
            os.killpg(os.tcgetpgrp(self.master), number)

    def _forward(self, number: int, _: Any) -> None:
        if self.master >= 0:
            self._signal_foreground(number)

    def _part(self) -> None:
        """The client is gone.  What was on its way is shown again: better twice than not at all."""
        assert self.client is not None
        self.client.close()
        self.client = None
        if self.frame:
            self.shown, self.frame = self.sending + self.shown, b""

    def _lost(self) -> None:
        self._part()
        if not self.keep and self.pid:
            self._hang_up()

    def _hang_up(self) -> None:
        if self.hung_up_at is None:
            self.hung_up_at = time.monotonic()
            if self.pid:
                with suppress(OSError):
                    os.kill(self.pid, signal.SIGHUP)
                    os.kill(self.pid, signal.SIGCONT)
            self._close_master()

    def _close_master(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def _shell_lives(self) -> bool:
        if self.pid > 0:
            pid, self.status = os.waitpid(self.pid, os.WNOHANG)
            return pid == 0
        return False

    def _say_end(self) -> int:
        """Give the client the last words and the status, as far as it takes them in time."""
        while self.master >= 0:
            try:
                data = os.read(self.master, READ)
            except OSError:
                break
            if not data:
                break
            self._show(data)
        with suppress(BlockingIOError):
            self._heed(os.read(self.wakeup, 4096))
        status = os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else 128 + os.WTERMSIG(self.status)
        # Of a job that is killed the client is told the reason by the server.
        end = frame(b"x", str(status).encode()) if self.hung_up_at is None else b""
        if self.client is not None:
            with suppress(OSError):
                self.client.settimeout(HANGUP_S)
                self.client.sendall(self.frame + frame(b"d", self.shown) + end)
        return status


# Signals for the job are for what runs in the foreground.  Its end is wished with TERM.
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGURG,
)


def carry(link: socket.socket, first: bytes) -> None:
    """Carry ``first`` and stdin to the server, and what it says to stdout, until one of them ends.

    One way never waits for the other: a shell that nobody hears does not listen either.
    """
    to_server, to_client = bytearray(first), bytearray()
    for fd in (0, 1, link.fileno()):
        os.set_blocking(fd, False)
    while True:
        poll = select.poll()
        if len(to_server) < READ:
            poll.register(0, select.POLLIN)
        if to_client:
            poll.register(1, select.POLLOUT)
        wanted = (select.POLLOUT if to_server else 0) | (select.POLLIN if len(to_client) < READ else 0)
        if wanted:
            poll.register(link, wanted)
        ready = dict(poll.poll())
        if 1 in ready and not _give(1, to_client):
            return
        if ready.get(link.fileno(), 0) & select.POLLOUT and not _give(link.fileno(), to_server):
            # Its last words are still to be heard.
            to_server.clear()
        if 0 in ready and not _take(0, to_server):
            return
        said = ready.get(link.fileno(), 0) & ~select.POLLOUT and wanted & select.POLLIN
        if said and not _take(link.fileno(), to_client):
            os.set_blocking(1, True)
            while to_client and _give(1, to_client):
                pass
            return


def _give(fd: int, waiting: bytearray) -> bool:
    """Write what can be written; False when nobody is there to read it."""
    try:
        del waiting[: os.write(fd, waiting)]
    except BlockingIOError:
        pass
    except OSError:
        return False
    return True


def _take(fd: int, waiting: bytearray) -> bool:
    """Read what can be read; False when there will be no more."""
    try:
        data = os.read(fd, READ)
    except BlockingIOError:
        return True
    except OSError:
        return False
    waiting += data
    return bool(data)


def exactly(count: int) -> bytes:
    """So many bytes of stdin; Raises ``OSError`` when it ends before."""
    found = b""
    while len(found) < count:
        data = os.read(0, count - len(found))
        if not data:
            raise OSError("the link ended")
        found += data
    return found


def attach() -> None:
    """Raises ``OSError``."""
    name = b""
    while not name.endswith(b"\n") and len(name) < LONGEST_NAME:
        name += exactly(1)
    head = exactly(HEAD.size)
    kind, length = HEAD.unpack(head)
    content = exactly(length if kind == b"h" and length <= LONGEST else 0)
    try:
        hello = json.loads(content.decode())
        known = {key: value for key, value in hello["environment"].items() if key not in DISPLAY}
        hello["environment"] = dict(known, **{key: os.environ[key] for key in DISPLAY if key in os.environ})
    except (ValueError, LookupError, TypeError, AttributeError):
        raise OSError("no hello") from None
    carry(connected(name.decode(errors="replace").rstrip("\n")), frame(b"h", json.dumps(hello).encode()))


def main(arguments: List[str]) -> int:
    if len(arguments) in (1, 2) and arguments[0] == "serve" and VARIABLE in os.environ:
        return Server(os.environ.pop(VARIABLE), arguments[1] if len(arguments) == 2 else None).run()
    if arguments == ["attach"]:
        try:
            attach()
        except OSError as error:
            raise SystemExit("terminal: %s" % (error.strerror or error)) from None
        return 0
    raise SystemExit("usage: %s=NAME terminal serve [COMMAND] | terminal attach" % VARIABLE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
