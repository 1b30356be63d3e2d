"""Which hosts are suspected, judged by checks and by how jobs fare on them.

**Checks.**  A host is Suspected when several checks in a row have failed.

**Jobs.**  A host that ends every job at once is always free, and would eat the whole
queue.  It shows in what its jobs do elsewhere, so jobs are counted by their *kind*,
the user and the command; the elements of an array and the copies of a job are of one
kind.  A kind speaks against a host where it dies fast and has never lived.  A host is
quarantined when

* enough jobs died fast there of kinds that live on other hosts, on as many as they die on and seldom dying there, or
* enough jobs died fast there that belong to several users, while most jobs live elsewhere.

A job on several hosts tells where it could not begin, or which host it lost.  When its
command dies otherwise, one of the hosts is the reason, or the job itself is: it counts
against those on which its kind has never lived, and against all if it has on each.

What fails wherever it runs, or now and then, is the job's own fault.  Each host that
was quarantined on the word of a kind makes its next word count a quarter of the one
before, so that no job makes one host after the other Suspected.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: By how much less a kind is believed each time.
RESERVE = 4
#: Of a kind where it lives: more of them, and it is the kind that is faulty.
STRAY_DEATHS = 0.1


class Kind(NamedTuple):
    """Jobs that are the same to their user: one command.  ``command`` stands for its text."""

    user: str
    command: str


@dataclass(frozen=True, slots=True)
class Fate:
    """How many jobs of a kind died fast on a host lately, and how many lived."""

    host: str
    kind: Kind
    died: int
    lived: int


@dataclass(frozen=True, slots=True)
class Met:
    """The same, of jobs that were on all of ``hosts``; where these are several, one of them may be the reason."""

    hosts: tuple[str, ...]
    kind: Kind
    died: int
    lived: int


def charged(found: Iterable[Met]) -> list[Fate]:
    """What is told of each host, the deaths of jobs on several hosts among it."""
    met = list(found)
    lives = {(host, one.kind) for one in met if one.lived for host in one.hosts}
    died: Counter[tuple[str, Kind]] = Counter()
    lived: Counter[tuple[str, Kind]] = Counter()
    for one in met:
        strange = [host for host in one.hosts if (host, one.kind) not in lives]
        for host in one.hosts:
            lived[host, one.kind] += one.lived
            if len(one.hosts) == 1 or not strange or host in strange:
                died[host, one.kind] += one.died
    return [Fate(host, kind, died[host, kind], lived[host, kind]) for host, kind in lived]


@dataclass(frozen=True, slots=True)
class Patience:
    """``deaths``: fast ones that a host is allowed at most.  ``users``: who must agree where nothing can be compared.

    ``share``: of all jobs that ended on the host, that must have died fast.
    """

    deaths: int
    users: int = 3
    share: float = 0.8


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A host that is to be left alone, why, and the kinds that were believed."""

    host: str
    reason: str
    kinds: tuple[Kind, ...]


def to_quarantine(
    fates: Iterable[Fate], patience: Patience, *, believed: Mapping[Kind, int] | None = None, most: int = 1
) -> list[Quarantine]:
    """The hosts to quarantine, at most ``most``, the worst first; how often kinds were ``believed`` before."""
    on: dict[str, list[Fate]] = defaultdict(list)
    of: dict[Kind, list[Fate]] = defaultdict(list)
    for fate in fates:
        on[fate.host].append(fate)
        of[fate.kind].append(fate)
    worst = sorted(on, key=lambda host: (-sum(fate.died for fate in on[host]), host))
    found: list[Quarantine] = []
    counts = Counter(believed)
    for host in worst:
        if len(found) < most and (case := _case(host, on, of, patience, counts)) is not None:
            found.append(case)
            counts.update(case.kinds)
    return found


def _case(
    host: str,
    on: dict[str, list[Fate]],
    of: dict[Kind, list[Fate]],
    patience: Patience,
    believed: Mapping[Kind, int],
) -> Quarantine | None:
    here = on[host]
    died, lived = _sums(here)
    if died < patience.deaths or died < patience.share * (died + lived):
        return None

    def weight(fates: Iterable[Fate]) -> float:
        return sum(fate.died / float(RESERVE) ** believed.get(fate.kind, 0) for fate in fates)

    accusers = [fate for fate in here if fate.died and not fate.lived]
    compared = [fate for fate in accusers if _lives_elsewhere(of[fate.kind])]
    if weight(compared) >= patience.deaths:
        deaths = sum(fate.died for fate in compared)
        lives = sum(other.lived for fate in compared for other in of[fate.kind])
        reason = f"{deaths} jobs died at once here, {lives} with the same commands lived on other hosts"
        return Quarantine(host, reason, tuple(fate.kind for fate in compared))
    users = {fate.kind.user for fate in accusers}
    others_died, others_lived = _sums(fate for name, fates in on.items() if name != host for fate in fates)
    if len(users) >= patience.users and weight(accusers) >= patience.deaths and others_lived > others_died:
        deaths = sum(fate.died for fate in accusers)
        reason = f"{deaths} jobs of {len(users)} users died at once here, {others_lived} jobs lived on other hosts"
        return Quarantine(host, reason, tuple(fate.kind for fate in accusers))
    return None


def _lives_elsewhere(of_kind: Sequence[Fate]) -> bool:
    """Whether a kind lives on as many hosts as it dies on, and hardly ever dies where it lives."""
    lives = [fate for fate in of_kind if fate.lived]
    died, lived = _sums(lives)
    return len(of_kind) - len(lives) <= len(lives) and died <= STRAY_DEATHS * lived


def _sums(fates: Iterable[Fate]) -> tuple[int, int]:
    died = lived = 0
    for fate in fates:
        died, lived = died + fate.died, lived + fate.lived
    return died, lived


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of a host came to.  ``failures``: how many have failed in a row before it."""

    host: str
    passed: bool
    said: str
    failures: int = 0


def to_suspect(checks: Iterable[Checked], tries: int) -> list[Checked]:
    """Those whose hosts have failed ``tries`` checks in a row, this one the last."""
    return [check for check in checks if not check.passed and check.failures + 1 >= tries]
