"""Asks hosts what they are made of, over ssh, some of them at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from oarpy import node
from oarpy.errors import OarError, SyntaxRefused
from oarpy.instance import names_of_this_machine
from oarpy.model.host_rows import HostSeen, host_told

#: Hosts that are asked at the same time.
WINDOW = 32
_KEPT = 200


def discover(
    hosts: Sequence[str], ssh: Sequence[str], python: str, timeout: timedelta
) -> Iterator[tuple[str, HostSeen | str]]:
    """Each host with what it told, or with the reason why it did not, in the order of ``hosts``."""
    program = node.text("discovery")
    mine = names_of_this_machine()

    def ask(host: str) -> HostSeen | str:
        command = [sys.executable, "-I", "-S", "-"] if host in mine else [*ssh, host, f"exec {python} -I -S -"]
        try:
            said = subprocess.run(
                command, input=program, capture_output=True, timeout=timeout.total_seconds(), check=False
            )
            if said.returncode:
                return _last_line(said.stderr) or f"{command[0]} ended with status {said.returncode}"
            # Shells and banners may have spoken before.
            return host_told(host, json.loads(said.stdout.strip().rpartition(b"\n")[2]))
        except subprocess.TimeoutExpired:
            return f"no answer in {timeout.total_seconds():g} s"
        except OSError as error:
            return f"{command[0]} cannot be run: {error.strerror}"
        except (ValueError, OarError) as error:
            return str(error) if isinstance(error, SyntaxRefused) else "what it says cannot be understood"

    with ThreadPoolExecutor(min(WINDOW, max(1, len(hosts)))) as threads:
        yield from zip(hosts, threads.map(ask, hosts), strict=True)


def _last_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return " ".join(lines[-1].split())[:_KEPT] if lines else ""
