"""Tokens: what a job needs beside its resources, counted by a program of the site.

The program tells how many are free, and nobody knows of later.  So a job that needs
more is not planned at all.  One for which there are enough is placed as any other and
takes its tokens when it starts; jobs that have started since the program counted have
theirs taken off, too.  An advance reservation starts at its time however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from oarpy.model.token_types import PREFIX, tokens_of
from oarpy.scheduling.explain import TOKENS_NOT_COUNTED, TOKENS_TAKEN
from oarpy.scheduling.plan import Postpone, Why
from oarpy.scheduling.snapshot import Reservation, Snapshot, WaitingJob


@lru_cache(10_000)
def _needed(types: tuple[str, ...]) -> Mapping[str, int]:
    return tokens_of(types)


class Tokens:
    """What is left of each kind while a pass goes on."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._left = {name: count.free for name, count in snapshot.tokens.items() if count.free is not None}
        if not self._left:
            return
        for job in snapshot.held:
            for name, number in _needed(job.types).items() if job.types else ():
                if name in self._left and (job.started_s is None or job.started_s >= snapshot.tokens[name].seen_s):
                    self._left[name] -= number

    def lacking(self, job: WaitingJob) -> Postpone | None:
        """Why the job cannot start now, if it is for want of tokens."""
        for name, number in _needed(job.types).items():
            left = self._left.get(name)
            if left is None:
                return Postpone(job.job_id, Why(TOKENS_NOT_COUNTED, {"token": name, "wanted": number}))
            if left < number:
                return Postpone(job.job_id, Why(TOKENS_TAKEN, {"token": name, "wanted": number, "left": max(left, 0)}))
        return None

    def take(self, job: WaitingJob | Reservation) -> None:
        """The job starts."""
        for name, number in _needed(job.types).items():
            if name in self._left:
                self._left[name] -= number


def needs_tokens(job: WaitingJob) -> bool:
    """Whether it is worth while to ask; nearly always not."""
    return any(each.startswith(PREFIX) for each in job.types)
