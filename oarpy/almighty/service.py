"""What the service manager that started almighty is told, where one did: systemd's protocol of ``Type=notify``.

Almighty is ready when it has found its place: it leads, stands by, or waits for a
database that is another service's.  So ``systemctl start`` returns when commands work,
and does not hang where it is somebody else who is late.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class ServiceManager:
    """Who started this process; ``address`` is where it listens, None where there is nobody."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def of_this_process(cls) -> ServiceManager:
        """The one that the environment names; no process that is started later finds out."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    def ready(self, status: str) -> None:
        """Almighty has found its place, or another one; ``status`` says which, for ``systemctl status``."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Almighty ends because it was asked to."""
        self._tell("STOPPING=1\nSTATUS=stops")

    def _tell(self, what: str) -> None:
        if self._address is None:
            return
        # A name that begins with @ stands for one that is in no file system.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(what.encode(), address)


NOBODY = ServiceManager(None)
