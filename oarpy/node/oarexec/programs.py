"""Programs that the guard runs beside jobs: the administrator's, and its own sweep.

A **prologue** runs when the containment is made, before the wrapper, an **epilogue** when the
containment is empty and gone, before the end is reported; both as oarexec's own account, outside of
the containment.  A guard that died lets the next one begin the epilogue anew; a prologue that had
not ended belongs to a launch that never began.
"""

import os
from typing import Callable, List, Optional

from .children import Children
from .entries import Entry
from .loop import Loop
from .processes import kill_group
from .site import Site
from .spawning import spawn

ADMIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Programs:
    """Runs one program for an entry at a time, outside of its containment, for so long as it may."""

    def __init__(self, site: Site, loop: Loop, children: Children) -> None:
        self._site = site
        self._loop = loop
        self._children = children

    def run(self, entry: Entry, words: List[str], ended: Callable[[Optional[str]], None]) -> None:
        """Start a program; ``ended`` is told what it did wrong, None when nothing.  Raises ``OSError``."""
        nodes = self._site.path(entry, "nodes")
        environment = {"PATH": ADMIN_PATH, "OAR_JOB_ID": str(entry.job), "OAR_NODEFILE": nodes}
        late: List[str] = []
        over: List[int] = []

        def reaped(status: int, used_s: float) -> None:
            entry.program_pid = None
            over.append(status)
            if late:
                ended("took more than %g s" % entry.program_s)
            elif status == 0:
                ended(None)
            elif os.WIFSIGNALED(status):
                ended("was killed by signal %d" % os.WTERMSIG(status))
            else:
                ended("ended with %d" % os.WEXITSTATUS(status))

        def stop() -> None:
            if not over:
                late.append("late")
                kill_group(pid)

        pid = spawn(words, environment, {})
        entry.program_pid = pid
        self._children.expect(pid, reaped)
        self._loop.after(entry.program_s, stop)
