"""Asking hosts over ssh what they have."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from oarpy.errors import NodeUnreachable

#: Hosts asked at once, and how long one may take.
AT_ONCE = 16
PATIENCE_S = 60
_MARK = "oar_resources_init "


@dataclass(frozen=True, slots=True)
class Machine:
    """``cores``: for each its processor, and the kernel's numbers of its threads."""

    host: str
    cores: tuple[tuple[int, tuple[int, ...]], ...]
    memory_mib: int


def survey(
    hosts: Iterable[str], ssh: Sequence[str], python: str = "python3"
) -> list[tuple[str, Machine | NodeUnreachable]]:
    """What each host has, or why it is not known, in their order; this machine is not asked over ssh."""
    names = list(dict.fromkeys(hosts))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(zip(names, pool.map(partial(_asked, ssh=ssh, python=python), names), strict=True))


def _asked(host: str, *, ssh: Sequence[str], python: str) -> Machine | NodeUnreachable:
    spec = find_spec("oarpy.node.survey")
    assert spec is not None
    assert spec.origin is not None
    command = [python, "-I", "-S", "-"] if host == os.uname().nodename else [*ssh, host, python, "-I", "-S", "-"]
    try:
        done = subprocess.run(
            command,
            input=Path(spec.origin).read_text(encoding="utf-8"),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return NodeUnreachable(f"host {host} does not answer")
    except OSError as error:
        return NodeUnreachable(f"{command[0]} cannot be started: {error.strerror}")
    # Shells may greet before it, and say goodbye after it.
    lines = [line[len(_MARK) :] for line in done.stdout.splitlines() if line.startswith(_MARK)]
    try:
        said = json.loads(lines[-1])
        cores = tuple((int(cpu), tuple(int(each) for each in threads)) for cpu, threads in said["cores"])
        return Machine(host, cores, int(said["mem"]))
    except (IndexError, KeyError, TypeError, ValueError):
        why = next(iter(reversed(done.stderr.strip().splitlines())), f"it ended with {done.returncode}")
        return NodeUnreachable(f"host {host} cannot be asked ({why})")
