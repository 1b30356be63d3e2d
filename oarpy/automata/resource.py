"""The life cycle of a resource.

A state change of a resource frees nothing by itself: a job on a lost host keeps
its allocation until its end is proved.
"""

from __future__ import annotations

from enum import Enum

from oarpy.automata.machine import Automaton, Edge
from oarpy.model.states import ResourceState as S


class ResourceEvent(Enum):
    """What can happen to a resource."""

    SUSPECTED = "suspected"
    RECOVERED = "recovered"
    LEFT = "left"
    RETURNED = "returned"
    DIED = "died"
    REVIVED = "revived"


E = ResourceEvent

RESOURCE: Automaton[S, E] = Automaton(
    "resource",
    initial=[S.ALIVE, S.ABSENT, S.SUSPECTED, S.DEAD],
    edges=[
        Edge(S.ALIVE, E.SUSPECTED, S.SUSPECTED),
        Edge(S.SUSPECTED, E.RECOVERED, S.ALIVE),
        Edge(S.ALIVE, E.LEFT, S.ABSENT),
        Edge(S.SUSPECTED, E.LEFT, S.ABSENT),
        Edge(S.ABSENT, E.RETURNED, S.ALIVE),
        # A host that was woken and did not come back.
        Edge(S.ABSENT, E.SUSPECTED, S.SUSPECTED),
        Edge(S.ALIVE, E.DIED, S.DEAD),
        Edge(S.SUSPECTED, E.DIED, S.DEAD),
        Edge(S.ABSENT, E.DIED, S.DEAD),
        Edge(S.DEAD, E.REVIVED, S.ALIVE),
        # Dead, repaired, and not yet switched on.
        Edge(S.DEAD, E.LEFT, S.ABSENT),
    ],
)
