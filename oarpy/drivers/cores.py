"""The cores of this machine that this process may use, as Linux describes them."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Core:
    """One physical core; ``cpu`` is its socket, ``threads`` the kernel's numbers of its processors."""

    cpu: int
    core: int
    threads: tuple[int, ...]

    @property
    def cpuset(self) -> str:
        return ",".join(map(str, self.threads))


def usable_cores(allowed: set[int] | None = None, cpus: Path = CPUS) -> tuple[Core, ...]:
    """One entry for each core of which at least one processor is allowed, numbered by its first.

    The kernel counts cores anew in each socket; the numbers given here are those of
    processors, so that each is unique on its host.
    """
    threads: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number in sorted(os.sched_getaffinity(0) if allowed is None else allowed):
        topology = cpus / f"cpu{number}" / "topology"
        # Without it (some containers hide it) every processor counts as a core.
        socket, core = _number(topology / "physical_package_id", 0), _number(topology / "core_id", number)
        threads[socket, core].append(number)
    return tuple(Core(socket, numbers[0], tuple(numbers)) for (socket, _), numbers in threads.items())


def _number(path: Path, otherwise: int) -> int:
    try:
        # The kernel says -1 where the firmware does not tell.
        return max(0, int(path.read_text()))
    except (OSError, ValueError):
        return otherwise
