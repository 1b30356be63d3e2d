"""What anybody may see of resources, read from the views of ``oar_user``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from oarpy.client.connection import Connection
from oarpy.model.ranges import written_ranges

if TYPE_CHECKING:
    from oarpy.model.filters import Filter

#: Columns that are the server's own notes, no properties of the resource.
_HIDDEN = frozenset({"finaud_decision", "state_since"})


def resources(
    conn: Connection,
    *,
    ids: Sequence[int] = (),
    hosts: Sequence[str] = (),
    ranges: Iterable[tuple[int, int]] | None = None,
    where: Filter | None = None,
) -> list[dict[str, Any]]:
    """Resources by ascending id, one value per property; all that are given must hold.

    ``available_upto`` is seconds since the epoch; ``jobs`` the ids of those that
    hold the resource.
    """
    from psycopg2 import sql

    names = [name for name in _columns(conn) if name not in _HIDDEN]
    conditions = ["true"]
    parameters: list[object] = []
    if ids:
        conditions.append("resource_id = ANY(%s)")
        parameters.append(list(ids))
    if hosts:
        conditions.append("network_address = ANY(%s)")
        parameters.append(list(hosts))
    if ranges is not None:
        conditions.append("resource_id <@ %s::int4multirange")
        parameters.append(written_ranges(ranges))
    if where is not None:
        from oarpy.client.conditions import condition

        texts: list[str] = []
        columns = {name: f'"{name}"' for name in names}
        conditions.append(f"({condition(where, columns, texts)})")
        parameters += texts
    selected = [
        sql.SQL("extract(epoch FROM available_upto)::bigint") if name == "available_upto" else sql.Identifier(name)
        for name in names
    ]
    statement = sql.SQL("SELECT {} FROM oar.visible_resources WHERE {} ORDER BY resource_id").format(
        sql.SQL(", ").join(selected), sql.SQL(" AND ".join(conditions))
    )
    return [dict(zip(names, row, strict=True)) for row in conn.rows(statement, parameters)]


def energy(conn: Connection) -> dict[str, dict[str, Any]]:
    """What the plan says of hosts that may sleep or must wake, by host; instants in seconds since the epoch."""
    names = ("wish", "needed_at", "job_id", "sleep_from")
    found = conn.rows(
        "SELECT network_address, wish, extract(epoch FROM needed_at)::bigint, job_id,"
        " extract(epoch FROM sleep_from)::bigint FROM oar.visible_energy_plan"
    )
    return {host: dict(zip(names, said, strict=True)) for host, *said in found}


def _columns(conn: Connection) -> list[str]:
    return [
        name
        for (name,) in conn.rows(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'oar.visible_resources'::regclass"
            " AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
    ]
