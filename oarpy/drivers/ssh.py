"""Jobs on other hosts, which have sshd and python3 and nothing of ours.

A session is an ssh whose remote end becomes oarexec.  Links are ssh's own business:
keys, checks of host keys, proxies and multiplexing stand in the site's ssh_config.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from uuid import UUID

from oarpy.drivers.oarexec_link import MAX_LINE, OarexecSession, opening, session_arguments
from oarpy.drivers.oarexec_program import command, send_program
from oarpy.errors import NodeUnreachable
from oarpy.ports.executor import SessionNumber

_KEPT_ERRORS = 1000


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
                await send_program(process)
                await session.greet(instance, number, oarsh=oarsh, oarsh_ports=self._oarsh_ports)
        except NodeUnreachable as error:
            raise NodeUnreachable(f"{error}{await errors.said()}") from error
        return session

    def _remote(self, instance: UUID) -> str:
        """The command line that the shell of the other host reads."""
        arguments = session_arguments(self._spool, instance, self._min_uid)
        return "exec " + shlex.join(command(self._python, self._spool, arguments))


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
