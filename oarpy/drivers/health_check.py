"""The programs that tell whether a host is well: ssh, ping, or the site's own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta

from oarpy.drivers.command import output_of
from oarpy.errors import ProgramFailed
from oarpy.settings import Health, Nodes

_KEPT = 400


def command_of(host: str, health: Health, nodes: Nodes) -> Sequence[str]:
    """What is run on the server to check ``host``; nothing when hosts are not checked."""
    match health.check:
        case "ssh" if nodes.ssh_words:
            return [*nodes.ssh_words, host, health.command or "true"]
        case "ping":
            wait_s = max(1, int(health.timeout.total_seconds()))
            return ["ping", "-n", "-q", "-c", "1", "-w", str(wait_s), host]
        case "command":
            return [*shlex.split(health.command or ""), host]
        case _:
            return []


def check(command: Sequence[str], timeout: timedelta) -> str:
    """What is wrong with a host, empty when it is well: the command ends with 0, and in time."""
    try:
        output_of(command, timeout, complaints=True)
    except ProgramFailed as failure:
        return f"{command[0]} {failure}"[:_KEPT]
    return ""
