"""Jobs on other hosts, which have sshd and python3 and nothing of ours.

A session is an ssh whose remote end becomes oarexec.  What it becomes first is a few
lines on its command line: they look whether the host has this version of oarexec
already, ask for it where it has not, and execute it.  Links are ssh's own business:
keys, checks of host keys, proxies and multiplexing stand in the site's ssh_config.
"""

from __future__ import annotations

import asyncio
import hashlib
import shlex
from collections.abc import Sequence
from functools import cache
from uuid import UUID

from oarpy import node
from oarpy.drivers.oarexec_link import MAX_LINE, OarexecSession, opening, session_arguments
from oarpy.errors import NodeUnreachable
from oarpy.ports.executor import SessionNumber

#: What shells and banners may say before the host's own first word.
_PREAMBLE_LINES = 200
_KEPT_ERRORS = 1000
# Python 3.6 or later.  Executed it is the same process, so that the link's end ends it.
_BOOTSTRAP = """
import hashlib, os, sys
spool, digest, size = sys.argv[1:4]
place = os.path.join(spool, "program")
os.makedirs(place, 0o755, exist_ok=True)
for one in (spool, place):
    if os.geteuid() == 0 and ({os.stat(one).st_uid, os.lstat(one).st_uid} != {0} or os.stat(one).st_mode & 0o22):
        sys.exit("the spool %s cannot be used: it must be root's, and nobody else may write to it" % spool)
path = os.path.join(place, digest)
def right(data):
    return hashlib.sha256(data).hexdigest() == digest
try:
    with open(path + ".py", "rb") as file:
        known = right(file.read())
except FileNotFoundError:
    known = False
os.write(1, b"oarexec: known\\n" if known else b"oarexec: send\\n")
if not known:
    data = b""
    while len(data) < int(size):
        part = os.read(0, int(size) - len(data))
        if not part:
            sys.exit("the link ended")
        data += part
    if not right(data):
        sys.exit("oarexec arrived damaged")
    mine = "%s.%d" % (path, os.getpid())
    with open(mine, "wb") as file:
        file.write(data)
    os.rename(mine, path + ".py")
compiled = "%s.%x.pyc" % (path, sys.hexversion)
if not os.path.exists(compiled):
    import py_compile
    py_compile.compile(path + ".py", cfile=compiled, doraise=True)
os.execv(sys.executable, [sys.executable, "-I", "-S", compiled] + sys.argv[4:])
"""


class SshExecutor:
    """Sessions with the oarexec of other hosts, their spools below ``spool``.

    ``ssh`` is the command in front of a host's name, ``python`` the interpreter there.
    """

    def __init__(
        self,
        spool: str,
        *,
        ssh: Sequence[str] = ("ssh",),
        python: str = "python3",
        min_uid: int | None = None,
        oarsh_ports: tuple[int, int] | None = None,
        greeting_timeout_s: float = 30.0,
    ) -> None:
        self._spool = spool
        self._ssh = tuple(ssh)
        self._python = python
        self._min_uid = min_uid
        self._oarsh_ports = oarsh_ports
        self._greeting_timeout_s = greeting_timeout_s

    async def open(self, host: str, instance: UUID, number: SessionNumber, *, oarsh: bool = False) -> OarexecSession:
        try:
            process = await asyncio.create_subprocess_exec(
                *(*self._ssh, host, self._remote(instance)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=2 * MAX_LINE,
                start_new_session=True,
            )
        except OSError as error:
            raise NodeUnreachable(f"host {host}: {self._ssh[0]} cannot be started: {error}") from error
        errors = _Errors(process)
        session = OarexecSession(host, process)
        try:
            async with opening(host, session, self._greeting_timeout_s):
                await _send_program(process)
                await session.greet(instance, number, oarsh=oarsh, oarsh_ports=self._oarsh_ports)
        except NodeUnreachable as error:
            raise NodeUnreachable(f"{error}{await errors.said()}") from error
        return session

    def _remote(self, instance: UUID) -> str:
        """The command line that the shell of the other host reads."""
        program = node.text("oarexec")
        words = [self._python, "-I", "-S", "-c", _BOOTSTRAP, self._spool, _digest(), str(len(program))]
        words += session_arguments(self._spool, instance, self._min_uid)
        return "exec " + shlex.join(words)


class _Errors:
    """What ssh and the other host say on stderr, read so that they never wait; the end of it is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._text = b""
        self._task = asyncio.create_task(self._read(process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while part := await process.stderr.read(4096):
            self._text = (self._text + part)[-_KEPT_ERRORS:]

    async def said(self) -> str:
        """The last line, to be put behind a sentence."""
        await asyncio.wait([self._task], timeout=1)
        lines = self._text.decode(errors="replace").strip().splitlines()
        return f" ({lines[-1].strip()})" if lines else ""


async def _send_program(process: asyncio.subprocess.Process) -> None:
    """Give the host oarexec, unless it says that it has it."""
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(_PREAMBLE_LINES):
        line = await process.stdout.readline()
        if line == b"oarexec: known\n":
            return
        if line == b"oarexec: send\n":
            process.stdin.write(node.text("oarexec"))
            await process.stdin.drain()
            return
        if not line:
            raise ConnectionResetError
    raise ValueError("the host said too much")


@cache
def _digest() -> str:
    return hashlib.sha256(node.text("oarexec")).hexdigest()
