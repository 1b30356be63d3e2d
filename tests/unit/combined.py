"""Snapshots in which several policies meet, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from oarpy.model.states import JobId
from oarpy.scheduling.snapshot import HeldJob, Snapshot, WaitingJob
from tests.unit.clusters import (
    random_snapshot,
    with_orderings,
    with_quotas,
    with_reservations,
    with_spaces,
    with_tokens,
)
from tests.unit.told import some_time_later

#: In the order in which they are put on: a later one may leave out jobs of an earlier one.
PARTS: dict[str, Callable[[Snapshot, int], Snapshot]] = {
    "orderings": with_orderings,
    "spaces": with_spaces,
    "quotas": with_quotas,
    "tokens": with_tokens,
    "reservations": with_reservations,
    "promises": some_time_later,
}
J = TypeVar("J", WaitingJob, HeldJob)


def combined(seed: int, *names: str, jobs: int = 16) -> Snapshot:
    """A snapshot with these parts, in their order."""
    snapshot = random_snapshot(seed, jobs)
    for name in names:
        if name == "promises":
            snapshot = _with_owners(snapshot, seed)
        snapshot = _together(PARTS[name](snapshot, seed), snapshot)
    return _with_owners(snapshot, seed)


def _with_owners(of: Snapshot, seed: int) -> Snapshot:
    """Reservations of users that others are of, and of types that mean something to others."""
    if any(one.user for one in of.reserved):
        return of
    rng = random.Random(f"owners {seed}")
    types = (
        rng.choice(("container", "container=c")),
        "timesharing=user,*",
        "placeholder=p",
        "allowed=p",
        "no_quotas",
        "token:a=2",
    )
    reserved = tuple(
        replace(
            one,
            user=rng.choice(("u", "v", "w")),
            project=rng.choice("pq"),
            name="x",
            types=tuple(rng.sample(types, rng.choice((0, 1, 1, 2)))),
        )
        for one in of.reserved
    )
    # Those inside containers have tests of their own.
    requested = tuple(
        replace(one, types=tuple(each for each in one.types if not each.startswith("inner"))) for one in of.requested
    )
    pending = {one.job_id for one in requested if any(each.startswith("container") for each in one.types)}
    return replace(of, reserved=reserved, requested=requested, put_off=of.put_off | pending)


def _together(after: Snapshot, before: Snapshot) -> Snapshot:
    """What a part says of a job's types comes beside what others said; who it is of stays as it was."""
    known: dict[JobId, WaitingJob | HeldJob] = {job.job_id: job for job in (*before.waiting, *before.held)}

    def own(job: J) -> J:
        earlier = known.get(job.job_id, job)
        types = {each.partition("=")[0]: each for each in (*job.types, *earlier.types)}
        return replace(
            job,
            types=tuple(types.values()),
            user=earlier.user or job.user,
            project=earlier.project or job.project,
            name=earlier.name or job.name,
        )

    return replace(
        after,
        waiting=tuple(map(own, after.waiting)),
        held=tuple(map(own, after.held)),
        requested=tuple(map(own, after.requested)),
    )
