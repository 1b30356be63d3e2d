"""A ^C that comes when a job has its id already."""

from __future__ import annotations

import fcntl
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oarpy.model.payloads import Submitted
from oarpy.model.states import JobId
from tests.support.commands import Commands, answering
from tests.support.postgres import TestDatabase
from tests.support.waiting import wait_until

#: More of them than a pipe takes: who tells them stands still until somebody reads.
WARNINGS = tuple(f"{number} {'x' * 4000}" for number in range(100))


@contextmanager
def telling_warnings(database: TestDatabase, tmp_path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """An oarsub that has its answer and is about to tell the id."""
    answer = Submitted((JobId(42),), None, WARNINGS).to_json()
    with answering(database, answer):
        command = Commands(database, str(tmp_path)).start("oarsub", *options, "true")
        try:
            wait_until(lambda: unread(command) >= 4096, what="the first warning is told")
            yield command
        finally:
            command.kill()
            command.communicate()


def unread(command: subprocess.Popen[str]) -> int:
    assert command.stderr is not None
    (count,) = struct.unpack("i", fcntl.ioctl(command.stderr.fileno(), termios.FIONREAD, bytes(4)))
    return int(count)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_id_of_a_job_is_told_though_an_interrupt_comes_before_it(
    database: TestDatabase, tmp_path: Path, number: signal.Signals
) -> None:
    with telling_warnings(database, tmp_path) as command:
        command.send_signal(number)
        said, complaint = command.communicate(timeout=60)

    assert (command.returncode, said) == (0, "OAR_JOB_ID=42\n")
    assert len(complaint.splitlines()) == len(WARNINGS)


def test_who_waits_for_the_job_is_told_the_id_and_then_interrupted(database: TestDatabase, tmp_path: Path) -> None:
    with telling_warnings(database, tmp_path, "--wait") as command:
        command.send_signal(signal.SIGINT)
        said, complaint = command.communicate(timeout=60)

    assert (command.returncode, said) == (130, "OAR_JOB_ID=42\n")
    assert complaint.splitlines()[-1] == "oarsub: interrupted"


def test_whoever_insists_is_heard_though_nobody_reads(database: TestDatabase, tmp_path: Path) -> None:
    with telling_warnings(database, tmp_path) as command:
        command.send_signal(signal.SIGINT)
        # Two that come before the first is heeded are one.
        wait_until(lambda: _stands_still(command.pid, signal.SIGINT), what="the first is heeded")
        command.send_signal(signal.SIGINT)
        _, complaint = command.communicate(timeout=60)

    assert command.returncode == 130
    assert complaint.splitlines()[-1] == "oarsub: interrupted"


def _stands_still(pid: int, heeded: signal.Signals) -> bool:
    """Whether it waits again, and the signal does not wait for it."""
    found = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    pending = int(found["SigPnd"], 16) | int(found["ShdPnd"], 16)
    return not pending & 1 << (heeded - 1) and found["State"].split()[0] == "S"
