"""The job types that let a job have resources which are not Alive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from oarpy.errors import SyntaxRefused
from oarpy.model.job_types import has_type
from oarpy.model.wording import excerpt

PERMISSIVE = "state=permissive"
STANDBY = "standby"
#: Jobs of these types have nothing to do on the nodes that they hold.
NOT_ON_NODES = ("noop", "cosystem")
MAY_STAND_BY = (*NOT_ON_NODES, "deploy")


class Reach(Enum):
    """On what a job may start."""

    ALIVE = "Alive"
    #: And what is Absent and can be woken.
    STANDBY = "standby"
    #: Whatever is not Dead.
    PERMISSIVE = "permissive"


def reach(types: Iterable[str]) -> Reach:
    """What a job of these types may start on.  One that needs its nodes needs them Alive."""
    if PERMISSIVE in types and any(has_type(types, name) for name in NOT_ON_NODES):
        return Reach.PERMISSIVE
    if any(f"{name}={STANDBY}" in types for name in MAY_STAND_BY):
        return Reach.STANDBY
    return Reach.ALIVE


def check_reach(types: Sequence[str]) -> None:
    """Raises ``SyntaxRefused`` for types that do not say what they should."""
    for each in types:
        name, equals, value = each.partition("=")
        if name in MAY_STAND_BY and equals and value != STANDBY:
            raise SyntaxRefused(f"{excerpt(each)} is not a job type; write {name} or {name}={STANDBY}")
        if name == "state" and each != PERMISSIVE:
            raise SyntaxRefused(f"{excerpt(each)} is not a job type; write {PERMISSIVE}")
    if PERMISSIVE in types and not any(has_type(types, name) for name in NOT_ON_NODES):
        raise SyntaxRefused(
            f"the type {PERMISSIVE} is for jobs that need nothing of their nodes, of type {' or '.join(NOT_ON_NODES)}"
        )
