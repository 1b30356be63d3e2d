"""How listings show dates, durations and hosts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import excerpt

#: That one option may name; each is written out.
MOST_HOSTS = 100_000


def shown_date(epoch_s: int) -> str:
    """A date in the time zone of the caller."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch_s))


def shown_property(value: object) -> str:
    """The value of a property of a resource, as OAR writes it: nothing where it is unknown."""
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return "" if value is None else str(value)


def printable(text: str, *, but: str = "") -> str:
    """``text`` with what would control a terminal, or break a line, escaped, except the characters of ``but``."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in but else character.encode("unicode_escape").decode()
        for character in text
    )


def shown_hosts(hosts: Iterable[str]) -> str:
    """``c[1-16]``; the hosts as a node set."""
    names = list(dict.fromkeys(hosts))
    if len(names) == 1:
        return names[0]
    # Loaded late: it costs 15 ms, and most jobs have one host.
    from ClusterShell.NodeSet import NodeSet, NodeSetException

    try:
        return str(NodeSet.fromlist(names))
    except NodeSetException:
        return ",".join(names)


def unfolded(hosts: Iterable[str]) -> list[str]:
    """``c[1-16]`` as sixteen names; raises ``SyntaxRefused``."""
    names = list(hosts)
    if not any(mark in name for name in names for mark in "[,@"):
        return names
    if any(_count_at_most(name) > MOST_HOSTS for name in names):
        raise SyntaxRefused(
            f"{excerpt(','.join(names))} names more than {MOST_HOSTS} hosts", exit_status=ExitStatus.REFUSED
        )
    from ClusterShell.NodeSet import NodeSet, NodeSetException

    try:
        return [str(host) for name in names for host in NodeSet(name)]
    except NodeSetException as error:
        raise SyntaxRefused(f"{excerpt(','.join(names))} is no set of hosts", exit_status=ExitStatus.REFUSED) from error


def _count_at_most(host_set: str) -> int:
    """No fewer hosts than ``host_set`` names, told without naming them, which would take all memory."""
    count = 1
    for bracket in re.findall(r"\[([^]]*)\]", host_set):
        ranges = re.findall(r"(\d+)(?:-(\d+))?", bracket)
        count *= max(1, sum(int(last or first) - int(first) + 1 for first, last in ranges))
    return count
