"""What an administrator changes of properties: columns of ``resources``.

As `oarpy.client.resources`: each function is to be called inside a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from psycopg2 import sql

from oarpy.client.connection import Connection, wake_almighty
from oarpy.errors import RequestRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.identifiers import is_property_name
from oarpy.model.wording import did_you_mean, excerpt

#: Those of ``resources`` that are the system's, whoever sets them.
SYSTEM_PROPERTIES = frozenset(
    {"resource_id", "state", "state_since", "finaud_decision", "drain", "network_address", "type", "available_upto"}
)
#: What every instance begins with.
COME_WITH = frozenset({"host", "cpu", "core"})
#: A column of the view that shows resources; what -l takes for something other than a property.
RESERVED = frozenset({"jobs", "walltime", "nodes"})
#: Column types of the kinds of properties.
KINDS = {"integer": "bigint", "text": "text", "real": "double precision", "boolean": "boolean"}
# An ALTER TABLE waits behind running statements, and everything else behind it: rather try again.
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '500ms'"


def properties(conn: Connection) -> list[tuple[str, str]]:
    """Name and kind of every property that administrators defined."""
    return [(name, kind) for name, kind in conn.rows("SELECT name, kind FROM oar.visible_properties ORDER BY name")]


def columns(conn: Connection) -> frozenset[str]:
    """The names of the columns of ``resources``."""
    found = conn.rows(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = 'oar.resources'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    return frozenset(name for (name,) in found)


def check_defined(conn: Connection, name: str) -> None:
    """Let the name of a property pass that administrators defined; raises ``RequestRefused``."""
    known = dict(properties(conn))
    if name in SYSTEM_PROPERTIES:
        raise RequestRefused(f"{name} is a property of the system, which stays as it is")
    if name not in known:
        meant = did_you_mean(name, known)
        raise RequestRefused(f"there is no property {excerpt(name)} that could be changed{meant}")


def check_known(conn: Connection, name: str) -> None:
    if name not in columns(conn):
        raise RequestRefused(f"there is no property {excerpt(name)}; oarproperty lists them")


def valued(conn: Connection, name: str) -> int:
    """How many resources have a value of this property."""
    statement = sql.SQL("SELECT count({}) FROM oar.resources").format(sql.Identifier(name))
    return int(conn.rows(statement)[0][0])


def jobs_naming(conn: Connection, name: str) -> list[tuple[int, str]]:
    """Id and state of the jobs that have not ended and whose requests name the property."""
    from oarpy.model.resource_grammar import properties_of, request_from_json

    rows = conn.rows(
        """
        SELECT any_value(r.request), array_agg(j.job_id ORDER BY j.job_id),
            array_agg(j.state::text ORDER BY j.job_id)
        FROM oar.jobs j JOIN oar.job_requests r USING (job_request_id) WHERE j.stopped_at IS NULL
        GROUP BY job_request_id
        """
    )
    return [
        job
        for request, job_ids, job_states in rows
        if name in properties_of(request_from_json(request))
        for job in zip(job_ids, job_states, strict=True)
    ]


def add_property(conn: Connection, name: str, kind: str) -> None:
    """Add a column to ``resources``, unknown everywhere.

    Raises:
        RequestRefused: it cannot have this name, or there is one already.
    """
    _check_name(conn, name)
    conn.rows(_LOCK_TIMEOUT)
    conn.rows(sql.SQL("ALTER TABLE oar.resources ADD COLUMN {} {}").format(sql.Identifier(name), sql.SQL(KINDS[kind])))
    conn.rows("INSERT INTO oar.properties (name, kind, added_by) VALUES (%s, %s, SYSTEM_USER)", (name, kind))
    _refresh(conn)


class Removal(NamedTuple):
    """What goes with a property: so many resources lose a value, so many waiting jobs are held."""

    resources: int
    jobs: int


def remove_property(conn: Connection, name: str, *, force: bool) -> Removal:
    """Drop a column of ``resources``; with ``force`` waiting jobs whose request names it are held.

    Raises:
        RequestRefused: there is none; or, without ``force``, live requests name it, or oarpy came with it.
    """
    check_defined(conn, name)
    users = jobs_naming(conn, name)
    if users and not force:
        listed = ", ".join(str(job_id) for job_id, _ in users[:5]) + (", …" if len(users) > 5 else "")
        named = f"job {listed}" if len(users) == 1 else f"{len(users)} jobs ({listed})"
        raise RequestRefused(f"{name} is named in the request of {named}; --force holds what of these waits")
    losing = valued(conn, name)
    if name in COME_WITH and losing and not force:
        raise RequestRefused(
            f"{losing} resources have a value of {name}, by which requests ask for them (-l /host=1/core=2);"
            " --force removes it all the same"
        )
    waiting = [job_id for job_id, state in users if state == "Waiting"]
    held = _hold(conn, waiting, f"the property {name}, which its request names, was removed") if waiting else 0
    conn.rows(_LOCK_TIMEOUT)
    conn.rows("DROP VIEW oar.visible_resources")
    conn.rows(sql.SQL("ALTER TABLE oar.resources DROP COLUMN {}").format(sql.Identifier(name)))
    conn.rows("DELETE FROM oar.properties WHERE name = %s", (name,))
    _refresh(conn)
    return Removal(losing, held)


def rename_property(conn: Connection, old: str, new: str) -> None:
    """Rename a column of ``resources``; refused while live requests name it."""
    check_defined(conn, old)
    _check_name(conn, new)
    users = jobs_naming(conn, old)
    if users:
        raise RequestRefused(f"the request of job {users[0][0]} names {old}, the first of {len(users)} that do")
    conn.rows(_LOCK_TIMEOUT)
    conn.rows("DROP VIEW oar.visible_resources")
    conn.rows(
        sql.SQL("ALTER TABLE oar.resources RENAME COLUMN {} TO {}").format(sql.Identifier(old), sql.Identifier(new))
    )
    conn.rows("UPDATE oar.properties SET name = %s WHERE name = %s", (new, old))
    _refresh(conn)


def _check_name(conn: Connection, name: str) -> None:
    if name in RESERVED:
        raise RequestRefused(f"{name} means something else in requests or listings", exit_status=ExitStatus.DENIED)
    if not is_property_name(name):
        raise RequestRefused(
            f"{excerpt(name)} cannot be the name of a property; small letters, digits and _ make one",
            exit_status=ExitStatus.SYNTAX,
        )
    if name in columns(conn):
        raise RequestRefused(f"resources have a column {name} already", exit_status=ExitStatus.DENIED)


def _hold(conn: Connection, job_ids: Sequence[int], reason: str) -> int:
    """Hold those of the jobs that wait still, each with an event that tells why; how many they are."""
    return conn.change(
        """
        WITH locked AS (
            SELECT job_id FROM oar.jobs WHERE state = 'Waiting' AND job_id = ANY(%s)
            ORDER BY job_id FOR NO KEY UPDATE
        ), held AS (
            UPDATE oar.jobs SET state = 'Hold' WHERE job_id IN (SELECT job_id FROM locked) RETURNING job_id
        )
        INSERT INTO oar.events (type, job_id, description) SELECT 'HOLD_WAITING_JOB', job_id, %s FROM held
        """,
        (list(job_ids), reason),
    )


def _refresh(conn: Connection) -> None:
    conn.rows("SELECT oar.refresh_visible_resources()")
    conn.change("UPDATE oar.topology SET version = version + 1")
    wake_almighty(conn)
