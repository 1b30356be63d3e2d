"""What anybody may see of resources, read from the views of ``oar_user``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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
    at_s: int | None = None,
) -> list[dict[str, Any]]:
    """Resources by ascending id, one value per property; all that are given must hold; as they were at ``at_s``.

    ``available_upto`` is seconds since the epoch; ``jobs`` the ids of those that
    hold the resource.
    """
    from psycopg2 import sql

    names = [name for name in _columns(conn) if name not in _HIDDEN]
    conditions = ["true"]
    parameters: list[object] = []
    relation = "oar.visible_resources"
    if at_s is not None:
        from oarpy.client.history import resources_at

        relation, parameters = resources_at(at_s)
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
        from oarpy.client.resource_columns import columns

        texts: list[str] = []
        conditions.append(f"({condition(where, columns(conn), texts)})")
        parameters += texts
    selected = [
        sql.SQL("extract(epoch FROM available_upto)::bigint") if name == "available_upto" else sql.Identifier(name)
        for name in names
    ]
    statement = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY resource_id").format(
        sql.SQL(", ").join(selected), sql.SQL(relation), sql.SQL(" AND ".join(conditions))
    )
    return [dict(zip(names, row, strict=True)) for row in conn.rows(statement, parameters)]


class NodeEvent(NamedTuple):
    """Something that happened to hosts, maybe to a job on them."""

    event_id: int
    type: str
    job_id: int
    date_s: int
    hosts: list[str]
    description: str


def events(
    conn: Connection, hosts: Sequence[str], *, since_s: int | None = None, until_s: int | None = None, most: int = 30
) -> list[NodeEvent]:
    """Events of ``hosts``, of all if none is named, oldest first: those since a date, else the last ``most``."""
    found = conn.rows(
        "SELECT event_id, type, coalesce(job_id, 0), extract(epoch FROM date)::bigint, hosts, description"
        " FROM oar.visible_events WHERE hosts <> '{}' AND (%(hosts)s::text[] = '{}' OR hosts && %(hosts)s::text[])"
        " AND date >= coalesce(to_timestamp(%(since)s), '-infinity')"
        " AND date <= coalesce(to_timestamp(%(until)s), 'infinity') ORDER BY date DESC, event_id DESC LIMIT %(most)s",
        {"hosts": list(hosts), "since": since_s, "until": until_s, "most": None if since_s is not None else most},
    )
    return [NodeEvent(*row) for row in reversed(found)]


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
