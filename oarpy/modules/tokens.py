"""The site's programs that count tokens, run for the scheduler and never waited for.

Each runs in a thread of its own, for as long as some job waits for its tokens, and
writes what it says into ``token_counts``, from where every reader of a snapshot has
it.  One that hangs is killed when its time is over; only the jobs that need its tokens
wait meanwhile.  A scheduler that dies takes its programs along; a count that is old is
not believed.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection
from datetime import timedelta
from logging import getLogger
from threading import Lock, Thread

from sqlalchemy.exc import DBAPIError

from oarpy.database import events, tokens
from oarpy.database.events import Event
from oarpy.database.wake import Reader, wake
from oarpy.drivers.command import output_of
from oarpy.errors import NotLeader, ProgramFailed
from oarpy.modules.context import Context

logger = getLogger(__name__)

#: A program that has not ended when it should run again is looked after so often.
LOOK_S = 1.0


class TokenCounters:
    """The programs of one scheduler."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._running: dict[str, Thread] = {}
        #: By the monotonic clock.
        self._due: dict[str, float] = {}
        #: One connection serves them all.
        self._writing = Lock()

    def count(self, wanted: Collection[str]) -> float | None:
        """Let those of ``wanted`` be counted again that are due; in how many seconds another one will be."""
        settings = self._ctx.settings.tokens
        now = time.monotonic()
        soonest: float | None = None
        for name in wanted:
            command = settings.scripts.get(name)
            thread = self._running.get(name)
            if command is None:
                continue
            if thread is not None and thread.is_alive():
                # What it says may be nothing new, of which nobody is told.
                self._due[name] = max(self._due[name], now + LOOK_S)
            elif self._due.get(name, now) <= now:
                self._due[name] = now + settings.period.total_seconds()
                # Not waited for when the scheduler ends.
                self._running[name] = Thread(target=self._run, args=(name, command), name=name, daemon=True)
                self._running[name].start()
            soonest = min(self._due[name], self._due[name] if soonest is None else soonest)
        return None if soonest is None else max(soonest - now, 0.0)

    def wait(self) -> None:
        """Return when none of them runs."""
        for thread in self._running.values():
            thread.join()

    def _run(self, name: str, command: str) -> None:
        begun = time.monotonic()
        free, problem = _counted(command, self._ctx.settings.tokens.timeout)
        age = timedelta(seconds=time.monotonic() - begun)
        try:
            with self._writing, self._ctx.transaction() as conn:
                changed, failed = tokens.write(conn, name, free, problem, age)
                if failed:
                    events.append(conn, [Event("TOKEN_SCRIPT_FAILED", description=f"{name}: {problem}")])
                if changed:
                    wake(conn, Reader.ALMIGHTY)
        except (DBAPIError, NotLeader) as error:
            # The next count is another try.
            logger.debug("token %s: not written (%s)", name, str(error).split("\n")[0])
            return
        if failed:
            logger.warning("token %s: its jobs wait, for %s", name, problem)


def _counted(command: str, timeout: timedelta) -> tuple[int | None, str | None]:
    """(how many are free, what is wrong), one of them None."""
    try:
        said = output_of(shlex.split(command), timeout)
    except (ProgramFailed, ValueError) as error:
        return None, f"the script {error}"
    number = said.strip()
    if not (number.isascii() and number.isdigit() and len(number) <= 9):
        return None, f"the script printed {number[:40]!r}, which is not a number"
    return int(number), None
