"""The cluster in a box that the tests of a run share."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "cluster"
HOSTS = 3
#: The host that has control groups of version 2 only.
V2_HOST = "c3"


class Box:
    """Hosts c1, c2, … of this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def ssh(self) -> Sequence[str]:
        """It gives up soon, as a test wants of a host that is cut off."""
        return self._ssh(("ConnectTimeout=3", "ServerAliveInterval=1", "ServerAliveCountMax=2"))

    @property
    def patient_ssh(self) -> Sequence[str]:
        """It takes a busy machine for nothing worse."""
        return self._ssh(("ConnectTimeout=60", "ServerAliveInterval=60"))

    def _ssh(self, options: Sequence[str]) -> Sequence[str]:
        return ("ssh", "-F", str(self.directory / "ssh_config"), *(word for one in options for word in ("-o", one)))

    def do(self, what: str, *words: str) -> str:
        """One command of tools/cluster."""
        command = [sys.executable, str(TOOL), what, *words, "--directory", str(self.directory)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@cache
def a_box() -> Box:
    """Up from its first use to the end of the run."""
    box = _new_box(HOSTS)
    atexit.register(_end, box)
    return box


@contextmanager
def box_of(hosts: int, *options: str) -> Iterator[Box]:
    """Another one, of ``hosts`` hosts, whose faults hurt no other test."""
    box = _new_box(hosts, *options)
    try:
        yield box
    finally:
        _end(box)


def _new_box(hosts: int, *options: str) -> Box:
    """Skips where a machine allows nobody namespaces."""
    if os.geteuid() != 0:
        pytest.skip("a cluster in a box needs root")
    may = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"], check=False)
    if may.returncode:
        pytest.skip("this machine allows no namespaces")
    directory = Path(tempfile.mkdtemp(prefix="oarpy-box-", dir="/var/tmp"))
    box = Box(directory)
    try:
        box.do("up", str(hosts), "--cgroup2", V2_HOST, *options)
    except BaseException:
        _end(box)
        raise
    return box


def _end(box: Box) -> None:
    box.do("down")
    shutil.rmtree(box.directory, ignore_errors=True)
