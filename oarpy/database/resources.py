"""Resources with the columns that admins gave them.

Their names are known only when the rows are read: no statement here names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import ResourceState
from oarpy.scheduling.snapshot import Topology

#: Columns of the server's own, which no request may name.
INTERNAL = frozenset({"finaud_decision", "state_since"})

_VERSION = text("SELECT version FROM topology")
# Of resources that are equally dear to the site those with adjacent ids come together:
# they make short multiranges.
_ALL = text("SELECT * FROM resources ORDER BY scheduler_priority, resource_id")
_KINDS = text(
    """
    SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a
    WHERE a.attrelid = 'resources'::regclass AND a.attnum > 0 AND NOT a.attisdropped
    """
)
_KIND_OF_TYPE: Mapping[str, str] = {
    "boolean": "boolean",
    "smallint": "integer",
    "integer": "integer",
    "bigint": "integer",
    "real": "real",
    "double precision": "real",
    "numeric": "real",
    "timestamp with time zone": "integer",
}


def topology_version(conn: Connection) -> int:
    """Changes whenever a resource or a property does."""
    version: int = conn.execute(_VERSION).scalar_one()
    return version


def topology(conn: Connection) -> Topology:
    """All resources, in the site's order of preference.

    The caller's transaction is a snapshot, else version and rows could disagree.
    Dates are given as seconds since the epoch, as OAR's filters compare them.
    """
    version = topology_version(conn)
    found = conn.execute(_ALL)
    names = list(found.keys())
    rows = found.all()
    columns: dict[str, list[Any]] = {name: [_plain(row[at]) for row in rows] for at, name in enumerate(names)}
    # A resource without a host (a licence) must not share one with the others like it.
    columns["network_address"] = [address or None for address in columns["network_address"]]
    return Topology(
        version=version,
        ids=tuple(columns["resource_id"]),
        states=tuple(map(ResourceState, columns["state"])),
        available_upto_s=tuple(columns["available_upto"]),
        drain=tuple(columns["drain"]),
        properties={name: tuple(column) for name, column in columns.items() if name not in INTERNAL},
    )


def property_kinds(conn: Connection) -> dict[str, str]:
    """Every property that a request may name, with its kind: integer, real, boolean or text."""
    return {name: _KIND_OF_TYPE.get(kind, "text") for name, kind in conn.execute(_KINDS) if name not in INTERNAL}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, Decimal):
        return float(value)
    return value
