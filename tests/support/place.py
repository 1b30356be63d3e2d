"""A directory for a test that starts processes, of which nothing stays when the test is over."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from oarpy.node.oarexec.cgroups import remove_group
from tests.support.waiting import wait_until

CONTROL_GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def a_place() -> Iterator[Path]:
    """A new directory that every account may enter.

    Not pytest's: that one is closed to other accounts.  Afterwards what names it on its
    command line or in its environment is killed, jobs and guards too, and their control
    groups are removed.  A PostgreSQL must have been stopped by then: killed, it would
    leave its shared memory.
    """
    root = Path(tempfile.mkdtemp(prefix="oarpy-test-"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        wait_until(lambda: not _killed(str(root)), what=f"nothing of {root} is left")
        # A spool bears the name of its instance, as do its control groups.
        for spool_id in root.rglob("spool_id"):
            _remove_groups(spool_id.parent.name)
        shutil.rmtree(root, ignore_errors=True)


def _killed(directory: str) -> list[int]:
    """Kill what names ``directory``, and say what that was."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if directory.encode() in said:
                    os.kill(int(entry.name), signal.SIGKILL)
                    found.append(int(entry.name))
    return found


def _remove_groups(instance: str) -> None:
    for base in [*CONTROL_GROUPS.glob(f"oarpy/{instance}"), *CONTROL_GROUPS.glob(f"*/oarpy/{instance}")]:
        for group in [*base.glob("*/"), base]:
            # The kernel may take a moment to forget the last of the dead.
            wait_until(partial(remove_group, str(group)), what=f"{group} is removed")
