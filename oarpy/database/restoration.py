"""A database that was read back from a backup becomes an instance of its own.

What happened after the backup is known to nodes and to people, not to the tables.  A
new identity keeps nodes from taking the new orders for old ones, and a gap in the
numbers keeps what was given away since from being given a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.errors import RequestRefused
from oarpy.model.states import ON_NODES

#: More numbers than a busy site gives away between a backup and the loss of what came after it.
GAP = 10_000_000

_LEADING = text(
    """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name ~ '^oarpy/[0-9]+/'
    """
)
_IDENTIFY = text("UPDATE instance SET uuid = gen_random_uuid() RETURNING uuid")
_SKIP_EPOCHS = text("UPDATE leadership SET epoch = epoch + :gap")
# Numbers of resources are an administrator's, and small enough to stay so.
_SKIP_NUMBERS = text(
    """
    SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, COALESCE(last_value, start_value) + :gap)
    FROM pg_sequences WHERE schemaname = 'oar' AND data_type = 'bigint'::regtype
    """
)
# In a new cluster transactions are numbered from the beginning; to readers of the feed, what came with
# the backup lies before all of them.
_AGE = text(
    """
    WITH old AS (UPDATE events SET xid = '3' WHERE xid >= pg_current_xact_id())
    UPDATE job_state_logs SET xid = '3' WHERE xid >= pg_current_xact_id()
    """
)
_LAST_JOB = text("SELECT last_value FROM job_ids")
_BEGUN = text(
    """
    SELECT count(*), COALESCE(array_agg(DISTINCT head ORDER BY head), '{}') FROM jobs
    WHERE stopped_at IS NULL AND state = ANY(CAST(:states AS job_state[]))
    """
)
_NOT_BEGUN = text("SELECT count(*) FROM jobs WHERE stopped_at IS NULL AND state IN ('Waiting', 'Hold', 'toLaunch')")


@dataclass(frozen=True, slots=True)
class Restored:
    """``begun`` counts the jobs that were on ``hosts`` when the backup was made, ``not_begun`` those on none yet."""

    identity: UUID
    last_job: int
    begun: int
    hosts: tuple[str, ...]
    not_begun: int


def check_nobody_leads(conn: Connection) -> None:
    """Raises ``RequestRefused`` while processes of an almighty are connected."""
    if conn.execute(_LEADING).scalar_one():
        raise RequestRefused("almighty runs on this database; stop it first, and every other one that stands by")


def restore(conn: Connection) -> Restored:
    """Give the instance a new identity and go on far beyond its numbers.  The commit must be durable.

    Raises:
        RequestRefused: processes of an almighty are connected.
    """
    check_nobody_leads(conn)
    identity: UUID = conn.execute(_IDENTIFY).scalar_one()
    conn.execute(_SKIP_EPOCHS, {"gap": GAP})
    conn.execute(_SKIP_NUMBERS, {"gap": GAP})
    conn.execute(_AGE)
    begun, hosts = conn.execute(_BEGUN, {"states": [state.value for state in ON_NODES]}).one()
    return Restored(
        identity=identity,
        last_job=conn.execute(_LAST_JOB).scalar_one(),
        begun=begun,
        hosts=tuple(hosts),
        not_begun=conn.execute(_NOT_BEGUN).scalar_one(),
    )
