"""Waits for jobs to end, and knows meanwhile what they do.

The states are read once, by a session that is closed again; what follows comes
through the feed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from oarpy.client.connection import Connection
from oarpy.client.feed import Feed
from oarpy.errors import RequestRefused
from oarpy.model.feed import STATE, FeedEvent, Wanted
from oarpy.model.job_status import exit_status

FINAL = frozenset({"Terminated", "Error"})
#: How often the tables are asked while the feed is held up by somebody's open transaction.
HELD_LOOK_S = 15.0
_STATES = """
    SELECT job_id, array_id, state, exit_code, end_cause, message FROM oar.visible_jobs
    WHERE job_id = ANY(%s::bigint[]) OR array_id = ANY(%s::bigint[]) ORDER BY job_id
"""


class Watched(NamedTuple):
    """A job as far as it is known; ``exit_code`` is the raw wait status.

    ``message`` is the one at the last look into the tables.
    """

    job_id: int
    array_id: int
    state: str
    exit_code: int | None = None
    end_cause: str | None = None
    message: str = ""

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def exit_status(self) -> int:
        """Of a job that is over: its own, as a shell would have it, or one of those that say why it has none."""
        return exit_status(self.exit_code, self.end_cause)

    @property
    def succeeded(self) -> bool:
        return self.is_final and self.exit_status == 0


class Wait:
    """A wait for these jobs, and all jobs of these arrays; a context manager.

    With an ``output`` it ends by ``BrokenPipeError`` when nobody reads that any more.

    Raises:
        RequestRefused: there is no such job.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        path: str,
        job_ids: Sequence[int] = (),
        array_ids: Sequence[int] = (),
        *,
        output: int | None = None,
    ) -> None:
        self.jobs: dict[int, Watched] = {}
        self._connect = connect
        self._ids = (list(job_ids), list(array_ids))
        self._looked_s = 0.0
        self._feed = Feed(connect, path, Wanted(frozenset(job_ids), frozenset(array_ids)), output=output)
        self._unfinished: set[int] = set()
        try:
            # Before the look, so that nothing happens between the two.
            self._feed.begin()
            self._look()
            self._check()
        except BaseException:
            self._feed.close()
            raise

    def __enter__(self) -> Wait:
        return self

    def __exit__(self, *error: object) -> None:
        self._feed.close()

    @property
    def unfinished(self) -> int:
        """How many jobs are not over."""
        return len(self._unfinished)

    def counts(self) -> Counter[str]:
        """How many jobs are in which state."""
        return Counter(job.state for job in self.jobs.values())

    def step(self, timeout_s: float) -> list[FeedEvent]:
        """What has happened, at most ``timeout_s`` later; ``jobs`` know it already."""
        found = self._feed.read(timeout_s) if self._unfinished else []
        for event in found:
            if event.type == STATE and event.job_id is not None and event.state is not None:
                self._note(event.job_id, event)
        if self._feed.held and self._unfinished and time.monotonic() > self._looked_s + HELD_LOOK_S:
            self._look()
        return found

    def _note(self, job_id: int, event: FeedEvent) -> None:
        known = self.jobs.get(job_id)
        if known is not None and known.is_final:
            return
        message = "" if known is None else known.message
        job = Watched(job_id, event.array_id or job_id, event.state or "", event.exit_code, event.end_cause, message)
        self.jobs[job_id] = job
        if job.is_final:
            self._unfinished.discard(job_id)
        else:
            self._unfinished.add(job_id)

    def _check(self) -> None:
        job_ids, array_ids = self._ids
        arrays = {job.array_id for job in self.jobs.values()}
        for kind, missing in (("job", set(job_ids) - self.jobs.keys()), ("array", set(array_ids) - arrays)):
            if missing:
                raise RequestRefused(f"there is no {kind} {min(missing)}; oarstat -u lists your jobs")

    def _look(self) -> None:
        self._looked_s = time.monotonic()
        conn = self._connect()
        try:
            rows = conn.rows(_STATES, self._ids)
        finally:
            conn.close()
        self.jobs = {row[0]: Watched(*row) for row in rows}
        self._unfinished = {job.job_id for job in self.jobs.values() if not job.is_final}
