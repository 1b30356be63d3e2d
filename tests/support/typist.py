"""Somebody at a terminal: a command on a pty of its own, typed to and read from."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support import accounts

#: Makes its stdin the controlling terminal of what it becomes.
_LEAD = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"


class Typist:
    """``command`` runs as ``user`` in a window of ``size``, rows and columns; root puts it ``inside`` another."""

    def __init__(
        self,
        command: Sequence[str],
        user: pwd.struct_passwd,
        *,
        cwd: Path,
        environment: Mapping[str, str],
        size: tuple[int, int] = (24, 80),
        inside: Sequence[str] = (),
    ) -> None:
        self._master, slave = os.openpty()
        self.resize(*size)
        os.fchown(slave, user.pw_uid, user.pw_gid)
        self.process = subprocess.Popen(
            [*inside, *accounts.switched(user, [sys.executable, "-c", _LEAD, *command])],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=accounts.environment_of(user, {**environment, "TERM": "xterm"}),
            start_new_session=True,
        )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def paste(self, text: str, timeout_s: float = 60) -> None:
        """Type much, as fast as it is taken, and read meanwhile."""
        data = text.encode()
        deadline = time.monotonic() + timeout_s
        while data:
            left = max(0.0, deadline - time.monotonic())
            readable, writable, _ = select.select([self._master], [self._master], [], left)
            if not readable and not writable:
                raise AssertionError(f"{len(data)} bytes were not taken")
            if readable:
                self._read(deadline)
            if writable:
                with suppress(BlockingIOError):
                    data = data[os.write(self._master, data[:4096]) :]

    def has_keys_for_itself(self) -> bool:
        """Whether ^C is a signal to what runs in the window, and not a key like others."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ISIG)

    def make_usual(self) -> None:
        """Give the window the modes that a shell gives it."""
        modes = termios.tcgetattr(self._master)
        modes[3] |= termios.ICANON | termios.ECHO | termios.ISIG
        termios.tcsetattr(self._master, termios.TCSANOW, modes)

    def wait_for(self, pattern: str, timeout_s: float = 60) -> re.Match[str]:
        """Read until what is shown holds ``pattern``; what comes before its end is not looked at again."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.shown)) is None:
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} was not shown, but\n{self.shown}")
        self.shown = self.shown[found.end() :]
        return found

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._master)
        self._master = -1
        self.process.wait(timeout=60)

    def vanish(self) -> None:
        """The command is killed in a way that it cannot answer."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=60)

    def end(self, timeout_s: float = 60) -> int:
        """The exit status of the command, which ends by itself; all that it has said is in ``shown``."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self.process.wait(timeout=max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _read(self, deadline: float) -> bool:
        """Whether there may be more: something came before the deadline."""
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            # All who had the terminal are gone.
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)
