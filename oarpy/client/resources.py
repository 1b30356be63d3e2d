"""What an administrator changes of resources, and looks at for that.

The statements are those an administrator could type into psql: constraints and
triggers check them, write history, and wake the server.  They stand here and not in
``database``, whose SQLAlchemy takes longer to import than these commands to run; so do
those of `oarpy.client.properties` and `oarpy.client.queues`.
Each function is to be called inside a transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from psycopg2 import sql

from oarpy.client import resource_columns
from oarpy.client.connection import Connection
from oarpy.client.properties import check_known, columns, properties
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import ResourceState
from oarpy.model.wording import did_you_mean, excerpt

if TYPE_CHECKING:
    from oarpy.model.columns import Column
    from oarpy.model.filters import Filter

#: Set by other options, or by the server alone.
SYSTEM_COLUMNS = frozenset({"resource_id", "state", "state_since", "finaud_decision", "drain"})
#: What counts things of a host, and is one thing to a request.
NUMBERED = frozenset({"cpu", "core"})
_HOW = {"state": "; -s sets the state", "drain": "; -d drains a resource"}
#: Of resources that one statement inserts.
ROWS_AT_ONCE = 1000
_NOTHING_FOUND = "no resource satisfies the condition; oarnodes shows the values that they have"
#: What node_change_state takes as a person's word that a host's processes are gone.
JOBS_ARE_GONE = "JOBS_ARE_GONE"


def add_resource(conn: Connection, host: str | None, values: Mapping[str, str | None]) -> int:
    """Insert a resource; returns its id."""
    known = _check_settable(conn, values)
    columns = resource_columns.values(known, values)
    if host is not None:
        columns["network_address"] = host
        if "host" in known:
            columns.setdefault("host", host)
    names = list(columns)
    if not names:
        return int(conn.value("INSERT INTO oar.resources DEFAULT VALUES RETURNING resource_id"))
    statement = sql.SQL("INSERT INTO oar.resources ({}) VALUES ({}) RETURNING resource_id").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(sql.Placeholder() * len(names))
    )
    return int(conn.value(statement, [columns[name] for name in names]))


def add_resources(conn: Connection, rows: Sequence[Mapping[str, str]]) -> int:
    """Insert resources, all with the same columns; how many they are."""
    if not rows:
        return 0
    names = list(rows[0])
    known = _check_settable(conn, names)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[begin : begin + ROWS_AT_ONCE]
        one = sql.SQL("({})").format(sql.SQL(", ").join(sql.Placeholder() * len(names)))
        statement = sql.SQL("INSERT INTO oar.resources ({}) VALUES {}").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join([one] * len(part))
        )
        fitting = (resource_columns.values(known, row) for row in part)
        conn.change(statement, [row[name] for row in fitting for name in names])
    return len(rows)


def drained_hosts(conn: Connection, hosts: Collection[str]) -> list[str]:
    """Those of the hosts that have resources, all of which are drained."""
    rows = conn.rows(
        "SELECT network_address FROM oar.resources WHERE network_address = ANY(%s)"
        " GROUP BY 1 HAVING bool_and(drain) ORDER BY 1",
        (list(hosts),),
    )
    return [host for (host,) in rows]


def drain_hosts(conn: Connection, hosts: Collection[str]) -> None:
    """Let no resource of these hosts take new jobs."""
    if hosts:
        drained = "UPDATE oar.resources SET drain = true WHERE NOT drain AND network_address = ANY(%s)"
        conn.change(drained, (list(hosts),))


def highest(conn: Connection, names: Iterable[str]) -> dict[str, int]:
    """The highest number that resources have in each of these columns, of those that exist and hold numbers."""
    kinds = {**dict(properties(conn)), "cpu": "integer", "core": "integer"}
    known = columns(conn)
    found = {}
    for name in names:
        if name in known and kinds.get(name) == "integer":
            statement = sql.SQL("SELECT max({}) FROM oar.visible_resources").format(sql.Identifier(name))
            number = conn.value(statement)
            if number is not None:
                found[name] = int(number)
    return found


def hosts_named(conn: Connection, prefix: str, suffix: str) -> list[str]:
    """What stands between ``prefix`` and ``suffix`` in the names of hosts that have both."""
    rows = conn.rows(
        "SELECT DISTINCT substr(network_address, length(%s) + 1,"
        " length(network_address) - length(%s) - length(%s)) FROM oar.visible_resources"
        " WHERE starts_with(network_address, %s) AND right(network_address, length(%s)) = %s"
        " AND length(network_address) > length(%s) + length(%s)",
        (prefix, prefix, suffix, prefix, suffix, suffix, prefix, suffix),
    )
    return [between for (between,) in rows]


def selected(conn: Connection, ids: Collection[int], hosts: Collection[str]) -> list[int]:
    """The ids of the resources that are named, by id or by host, locked in order.

    Raises:
        RequestRefused: one does not exist.
    """
    rows = conn.rows(
        "SELECT resource_id, network_address FROM oar.resources"
        " WHERE resource_id = ANY(%s) OR network_address = ANY(%s) ORDER BY resource_id FOR UPDATE",
        (list(ids), list(hosts)),
    )
    known_ids, known_hosts = {row[0] for row in rows}, {row[1] for row in rows}
    for resource_id in ids:
        if resource_id not in known_ids:
            raise RequestRefused(f"there is no resource {resource_id}; oarnodes shows those that are")
    for host in hosts:
        if host not in known_hosts:
            raise RequestRefused(f"there is no host {excerpt(host)}{_meant(conn, host)}")
    return [row[0] for row in rows]


def _meant(conn: Connection, host: str) -> str:
    known = [name for (name,) in conn.rows("SELECT DISTINCT network_address FROM oar.resources")]
    return did_you_mean(host, filter(None, known)) or "; oarnodes -l lists them"


def satisfying(conn: Connection, where: Filter) -> list[int]:
    """The ids of the resources that satisfy ``where``; raises ``RequestRefused`` with status 12 when none does."""
    from oarpy.client.conditions import condition

    parameters: list[str] = []
    where_sql = condition(where, resource_columns.columns(conn), parameters)
    statement = f"SELECT resource_id FROM oar.resources WHERE {where_sql} ORDER BY 1"
    ids = [resource_id for (resource_id,) in conn.rows(statement, parameters)]
    if not ids:
        raise RequestRefused(_NOTHING_FOUND, exit_status=ExitStatus.SCRIPT_OR_NOTHING_CHOSEN)
    return ids


def last_value(conn: Connection, name: str) -> object:
    """The highest value of a property; None where no resource has one.  Raises ``RequestRefused``."""
    check_known(conn, name)
    column = sql.Identifier(name)
    statement = "SELECT {0} FROM oar.visible_resources WHERE {0} IS NOT NULL ORDER BY {0} DESC LIMIT 1"
    rows = conn.rows(sql.SQL(statement).format(column))
    return rows[0][0] if rows else None


def begin_maintenance(conn: Connection, ids: Sequence[int]) -> None:
    """Make resources Absent, and not to be woken; what they were before is kept."""
    conn.change(
        """
        INSERT INTO oar.maintenance AS m (resource_id, available_upto)
        SELECT resource_id, available_upto FROM oar.resources r WHERE resource_id = ANY(%s)
          AND NOT (state = 'Absent' AND EXISTS (SELECT FROM oar.maintenance k WHERE k.resource_id = r.resource_id))
        ON CONFLICT (resource_id) DO UPDATE SET available_upto = EXCLUDED.available_upto, since = now()
        """,
        (list(ids),),
    )
    conn.change(
        "UPDATE oar.resources SET state = 'Absent', finaud_decision = false, available_upto = NULL"
        " WHERE resource_id = ANY(%s)",
        (list(ids),),
    )
    _log_hosts(conn, "MAINTENANCE_ON", ids)


def end_maintenance(conn: Connection, ids: Sequence[int]) -> list[int]:
    """Make those that are in maintenance Alive, to be woken again as before; their ids."""
    ended = [
        resource_id
        for (resource_id,) in conn.rows(
            """
            WITH ended AS (
                DELETE FROM oar.maintenance WHERE resource_id = ANY(%s) RETURNING resource_id, available_upto
            )
            UPDATE oar.resources r SET state = 'Alive', finaud_decision = false, available_upto = ended.available_upto
            FROM ended WHERE r.resource_id = ended.resource_id AND r.state <> 'Dead' RETURNING r.resource_id
            """,
            (list(ids),),
        )
    ]
    _log_hosts(conn, "MAINTENANCE_OFF", ended)
    return sorted(ended)


def set_state(conn: Connection, ids: Sequence[int], state: ResourceState) -> None:
    """Change the state of resources; the trigger checks and logs it."""
    conn.change(
        "UPDATE oar.resources SET state = %s, finaud_decision = false WHERE resource_id = ANY(%s)",
        (state.value, list(ids)),
    )


def set_drain(conn: Connection, ids: Sequence[int], drain: bool) -> None:
    """Let resources take no new jobs, or let them again."""
    conn.change("UPDATE oar.resources SET drain = %s WHERE resource_id = ANY(%s)", (drain, list(ids)))


def set_properties(conn: Connection, ids: Sequence[int], values: Mapping[str, str | None]) -> None:
    """Give every resource these values; None unsets.

    Raises:
        RequestRefused: a property does not exist, or is the server's own.
    """
    fitting = resource_columns.values(_check_settable(conn, values), values)
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder()) for name in values]
    statement = sql.SQL("UPDATE oar.resources SET {} WHERE resource_id = ANY({})").format(
        sql.SQL(", ").join(assignments), sql.Placeholder()
    )
    conn.change(statement, [*fitting.values(), list(ids)])


def repeated_numbers(conn: Connection, values: Mapping[str, str | None]) -> list[tuple[str, str, int]]:
    """(property, number, hosts) of the numbers of processors and cores in ``values`` that several hosts have."""
    numbered = {name: value for name, value in values.items() if name in NUMBERED and value is not None}
    if not numbered:
        return []
    return [
        (name, number, hosts)
        for name, number, hosts in conn.rows("SELECT property, number, hosts FROM oar.repeated_numbers()")
        if numbered.get(name) == number
    ]


def jobs_on(conn: Connection, ids: Sequence[int]) -> list[int]:
    """Jobs that were launched, hold one of these resources, and are killed when it goes away, or over soon."""
    rows = conn.rows(
        """
        SELECT j.job_id FROM oar.jobs j JOIN oar.allocations a USING (job_id)
        WHERE j.stopped_at IS NULL AND upper_inf(a.held)
          AND a.resources && (SELECT range_agg(int4range(n, n + 1)) FROM unnest(%s::integer[]) AS n)
          AND j.state IN ('Launching', 'Running', 'Suspended', 'Resuming', 'Finishing')
          -- As node_change_state has it.
          AND NOT EXISTS (SELECT FROM unnest(j.types) AS t
            WHERE split_part(t, '=', 1) IN ('noop', 'cosystem') OR t IN ('state=permissive', 'deploy=standby'))
        ORDER BY j.job_id
        """,
        (list(ids),),
    )
    return [job_id for (job_id,) in rows]


def unfinished(conn: Connection, job_ids: Sequence[int]) -> list[int]:
    """Those of the jobs that are not over."""
    rows = conn.rows(
        "SELECT job_id FROM oar.jobs WHERE stopped_at IS NULL AND job_id = ANY(%s) ORDER BY 1", (list(job_ids),)
    )
    return [job_id for (job_id,) in rows]


def remove_resource(conn: Connection, resource_id: int) -> None:
    """Remove a Dead resource; its history, and that of its jobs, stays.

    Raises:
        RequestRefused: with status 2 unless it is Dead; there is none; a job holds it.
    """
    found = conn.rows("SELECT state FROM oar.resources WHERE resource_id = %s FOR UPDATE", (resource_id,))
    if not found:
        raise RequestRefused(f"there is no resource {resource_id}; oarnodes shows those that are")
    if found[0][0] != ResourceState.DEAD.value:
        raise RequestRefused(
            f"resource {resource_id} is {found[0][0]}; only a Dead one can be removed (oarnodesetting -s Dead)",
            exit_status=ExitStatus.NOT_DEAD_OR_NO_COMMAND,
        )
    conn.change("DELETE FROM oar.resources WHERE resource_id = %s", (resource_id,))


def declare_jobs_gone(conn: Connection, ids: Sequence[int]) -> list[str]:
    """Log a person's word that nothing runs any more on the hosts of ``ids``; returns these."""
    return [
        str(host)
        for (host,) in conn.rows(
            """
            WITH gone AS (
                SELECT array_agg(DISTINCT network_address) AS hosts FROM oar.resources
                WHERE resource_id = ANY(%s) AND network_address <> ''
            ), logged AS (
                INSERT INTO oar.events (type, hosts, description)
                SELECT %s, hosts, 'said by ' || SYSTEM_USER FROM gone WHERE hosts IS NOT NULL
                RETURNING event_id, type, job_id, hosts, date, description
            ), pending AS (
                INSERT INTO oar.pending_events (event_id, type, job_id, hosts, date, description)
                SELECT * FROM logged
            ), woken AS (
                SELECT pg_notify('oar_almighty', '') FROM logged WHERE pg_notification_queue_usage() < 0.5
            )
            SELECT unnest(hosts) FROM logged LEFT JOIN woken ON true
            """,
            (list(ids), JOBS_ARE_GONE),
        )
    ]


def check_hosts(conn: Connection) -> None:
    """Let every host be checked at finaud's next turn."""
    conn.change("UPDATE oar.node_checks SET ended_at = ended_at - interval '10 years' WHERE ended_at IS NOT NULL")


def _log_hosts(conn: Connection, type_: str, ids: Sequence[int]) -> None:
    """An event that only tells, about the hosts of resources."""
    conn.change(
        """
        INSERT INTO oar.events (type, hosts, description)
        SELECT %s, array_agg(DISTINCT network_address), 'said by ' || SYSTEM_USER FROM oar.resources
        WHERE resource_id = ANY(%s) AND network_address <> '' HAVING count(*) > 0
        """,
        (type_, list(ids)),
    )


def _check_settable(conn: Connection, names: Iterable[str]) -> dict[str, Column]:
    """The columns of ``resources``, among which all ``names`` are, and none of the server's own."""
    known = resource_columns.columns(conn)
    for name in names:
        if name in SYSTEM_COLUMNS:
            raise RequestRefused(f"{name} is no property to be set{_HOW.get(name, '')}")
        if name not in known:
            hint = did_you_mean(name, known) or f"; oarproperty -a {name} makes it"
            raise RequestRefused(f"there is no property {excerpt(name)}{hint}")
    return known
