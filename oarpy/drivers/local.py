"""Jobs on the machine that the server runs on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from uuid import UUID

from oarpy.drivers.oarexec_link import MAX_LINE, OarexecSession, opening, session_arguments
from oarpy.drivers.oarexec_program import command, send_program
from oarpy.errors import NodeUnreachable
from oarpy.ports.executor import SessionNumber


class LocalExecutor:
    """Sessions with the oarexec of this machine, its spool below ``spool``.

    ``carrier`` is a command in front of it that changes how it runs (setpriv, nice).
    """

    def __init__(
        self,
        spool: str,
        *,
        min_uid: int | None = None,
        carrier: Sequence[str] = (),
        oarsh_ports: tuple[int, int] | None = None,
        greeting_timeout_s: float = 30.0,
    ) -> None:
        self._spool = spool
        self._carrier = tuple(carrier)
        self._min_uid = min_uid
        self._oarsh_ports = oarsh_ports
        self._greeting_timeout_s = greeting_timeout_s

    async def open(self, host: str, instance: UUID, number: SessionNumber, *, oarsh: bool = False) -> OarexecSession:
        arguments = session_arguments(self._spool, instance, self._min_uid)
        try:
            process = await asyncio.create_subprocess_exec(
                *(*self._carrier, *command(sys.executable, self._spool, arguments)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2 * MAX_LINE,
                start_new_session=True,
            )
        except OSError as error:
            raise NodeUnreachable(f"host {host}: oarexec cannot be started: {error}") from error
        session = OarexecSession(host, process)
        async with opening(host, session, self._greeting_timeout_s):
            await send_program(process)
            await session.greet(instance, number, oarsh=oarsh, oarsh_ports=self._oarsh_ports)
        return session
