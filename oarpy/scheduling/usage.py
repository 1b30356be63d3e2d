"""Who has used what, and what the site makes of it when it orders jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias


class Account(NamedTuple):
    """Who pays for a job."""

    queue: str
    project: str
    user: str


class Consumption(NamedTuple):
    """Resource-seconds: those held, and those of the walltimes asked for."""

    used: int = 0
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What each account consumed in the sliding window up to ``at_s``, running jobs included.

    One object serves all passes of a while, so that the order does not change with
    every second that a job runs.
    """

    at_s: int
    consumed: Mapping[Account, Consumption]


NOTHING_USED = Usage(0, {})


@dataclass(frozen=True, slots=True)
class Shares:
    """What a karma is made of.

    Targets are percents of all that is used, by name; those not named get that of
    the name ``default``, without which it is 0.  The sliding window is of whole
    windows of accounting, ``whole_s`` long, the one of today among them.  A `Usage` is
    kept for ``refresh_s``.
    """

    project: float = 0.0
    user: float = 2.0
    asked: float = 1.0
    project_targets: Mapping[str, float] = field(default_factory=dict)
    user_targets: Mapping[str, float] = field(default_factory=dict)
    window_s: int = 30 * 86_400
    whole_s: int = 86_400
    refresh_s: int = 60


Favoured: TypeAlias = Literal["small", "large"]


@dataclass(frozen=True, slots=True)
class Factors:
    """The weights of a priority of many factors.

    A job has the whole factor of its age after ``age_limit_s``.  ``queues`` are the
    factors of queues by name, those not named have that of ``default``, without
    which it is 0.
    """

    age: float = 1.0
    queue: float = 1.0
    work: float = 0.0
    size: float = 0.0
    karma: float = 1.0
    qos: float = 1.0
    nice: float = 1.0
    age_limit_s: int = 7 * 86_400
    queues: Mapping[str, float] = field(default_factory=dict)
    work_favours: Favoured = "small"
    size_favours: Favoured = "small"


USUAL_SHARES = Shares()
USUAL_FACTORS = Factors()
