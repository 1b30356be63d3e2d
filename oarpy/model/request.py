"""What a job asks for: moldable alternatives of groups of hierarchy levels.

``/switch=1/host=2/core=4,walltime=1:0:0`` is one alternative with one group of
three levels: one switch, in it two hosts, in each of these four cores.  In
``/host=2[gpu=1,mem_mib=8192]/core=4`` each of the hosts also gives one gpu and
8 GiB of memory, which are resources of their own, beside its cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The nine classes cost a command 4 ms, and few submissions have a filter.
    from oarpy.model.filters import Filter


class Count(IntEnum):
    """Counts that depend on what exists; spelled as OAR stores them."""

    ALL = -1
    BEST = -2
    BESTHALF = -3


@dataclass(frozen=True, slots=True)
class Beside:
    """``[type=amount]`` after a level: what each block that is chosen there gives besides.

    It is made up of resources of this type that have the block's values of the
    level's property and of all above it; each stands for its ``quantity``.
    """

    type: str
    amount: int


@dataclass(frozen=True, slots=True)
class Level:
    """``property=count`` of a hierarchy; ``count`` is positive or a ``Count``."""

    property: str
    count: int
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """One ``{filter}/a=1/b=2`` of a request, outermost level first.

    ``filter`` is everything that a resource must satisfy to be used: the braces
    of all levels, the ``-p`` of the job and what admission rules added.
    """

    levels: tuple[Level, ...]
    filter: Filter | None = None


@dataclass(frozen=True, slots=True)
class Alternative:
    """One ``-l``: its groups are disjoint and allocated together."""

    groups: tuple[Group, ...]
    walltime_s: int


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """All ``-l`` of a submission, in the order in which they were given."""

    alternatives: tuple[Alternative, ...]
