"""Numbers of processors and cores, which a request takes for one thing wherever they are.

``/core=1`` asks for one value of ``core`` with everything that bears it.  Where each
host counts from 0, that is a core of every host.
"""

from __future__ import annotations


def sentence(name: str, number: str, hosts: int, *, others: int = 0) -> str:
    """What a request gets where ``number`` of the property ``name`` is on several hosts, and ``others`` are too."""
    likewise = f", {others} more likewise" if others else ""
    taken = "both" if hosts == 2 else f"all {hosts}"
    return (
        f"{name} {number} is on {hosts} hosts{likewise}: /{name}=1 takes {taken}; "
        f"number {name}s uniquely, or ask for /host=1/{name}=1"
    )
