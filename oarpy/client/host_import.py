"""Writes the resources of new hosts, all of them or none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from psycopg2 import sql

from oarpy.client import properties
from oarpy.client.connection import Connection
from oarpy.errors import RequestRefused
from oarpy.model.host_rows import HostSeen, Numbers, rows_of

#: Rows that one statement adds.
BATCH = 1000
#: Properties that an import may need, and makes then.
MADE = {"numa": "integer", "gpudevice": "integer"}


def known_hosts(conn: Connection, names: Collection[str]) -> dict[str, int]:
    """How many resources those of the hosts have that have any."""
    rows = conn.rows(
        "SELECT network_address, count(*) FROM oar.resources WHERE network_address = ANY(%s) GROUP BY 1", (list(names),)
    )
    return dict(rows)


def add_hosts(conn: Connection, hosts: Sequence[HostSeen], memory_row_mib: int | None) -> int:
    """Make the resources of ``hosts``; how many they are.  To be called inside a transaction.

    Raises:
        RequestRefused: a host has resources already, or a property is not defined.
    """
    # Of two imports the second begins to count where the first ended.
    conn.rows("LOCK TABLE oar.resources IN SHARE ROW EXCLUSIVE MODE")
    for name in known_hosts(conn, [host.name for host in hosts]):
        raise RequestRefused(f"host {name} has resources already")
    columns = properties.columns(conn)
    for host in hosts:
        for name in host.properties:
            if name not in columns:
                raise RequestRefused(f"host {host.name}: there is no property {name}; oarproperty -a {name} makes it")
    rows = rows_of(hosts, _free_numbers(conn, columns), memory_row_mib=memory_row_mib)
    if all(host.numas == 1 for host in hosts) and "numa" not in columns:
        rows = [{name: value for name, value in row.items() if name != "numa"} for row in rows]
    for name, kind in MADE.items():
        if name not in columns and any(name in row for row in rows):
            properties.add_property(conn, name, kind)
            columns |= {name}
    # An administrator may have removed those that come with the schema.
    names = sorted({name for row in rows for name in row} & columns)
    for at in range(0, len(rows), BATCH):
        _insert(conn, names, rows[at : at + BATCH])
    return len(rows)


def _free_numbers(conn: Connection, columns: Collection[str]) -> Numbers:
    numbered = [name for name in ("cpu", "core", "numa") if name in columns]
    if not numbered:
        return Numbers()
    highest = sql.SQL(", ").join(sql.SQL("COALESCE(max({}) + 1, 0)").format(sql.Identifier(name)) for name in numbered)
    (row,) = conn.rows(sql.SQL("SELECT {} FROM oar.resources").format(highest))
    return Numbers(**dict(zip(numbered, map(int, row), strict=True)))


def _insert(conn: Connection, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    values = [[row.get(name, 1 if name == "quantity" else None) for name in names] for row in rows]
    one = sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder() * len(names)))
    statement = sql.SQL("INSERT INTO oar.resources ({}) VALUES {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join([one] * len(values))
    )
    conn.change(statement, [value for row in values for value in row])
