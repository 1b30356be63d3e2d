"""Hosts as resources: the machine on which an instance is made, and numbers that several hosts share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

# Of two that begin an instance at once, one finds the other's rows.
_ALONE = text("LOCK TABLE resources IN SHARE ROW EXCLUSIVE MODE")
_ADD = text(
    """
    INSERT INTO resources (network_address, host, cpu, core, cpuset)
    SELECT CAST(:host AS text), CAST(:host AS text), c.cpu, c.core, c.cpuset
    FROM unnest(CAST(:cpus AS int[]), CAST(:cores AS int[]), CAST(:cpusets AS text[])) AS c(cpu, core, cpuset)
    WHERE NOT EXISTS (SELECT FROM resource_logs)
    """
)

_REPEATED = text("SELECT property, number, hosts FROM repeated_numbers()")


class Repeated(NamedTuple):
    """A number of a processor or core that several hosts have."""

    property: str
    number: str
    hosts: int


def add_first(conn: Connection, host: str, cores: Sequence[tuple[int, int, str]]) -> int:
    """Make each of the ``cores`` of ``host``, given as (cpu, core, cpuset), a resource; return how many were made.

    An instance that ever had a resource is left as its admin wants it.
    """
    conn.execute(_ALONE)
    cpus, numbers, cpusets = map(list, zip(*cores, strict=True))
    return conn.execute(_ADD, {"host": host, "cpus": cpus, "cores": numbers, "cpusets": cpusets}).rowcount


def repeated_numbers(conn: Connection) -> list[Repeated]:
    """The numbers by which a request cannot tell things of several hosts apart, those of cores last."""
    return [Repeated(*row) for row in conn.execute(_REPEATED)]
