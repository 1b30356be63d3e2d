"""What is kept of each host between two sessions with it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.engine import Connection

#: A session may count on from its number so far without asking again.
STRIDE = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """Which boot and which spool of a host were met last; None when it was never met."""

    boot_id: str | None
    spool_id: str | None


_INSTANCE = text("SELECT uuid FROM instance")
_NEXT = text(
    """
    INSERT INTO node_sessions (host, epoch, sequence) VALUES (:host, :epoch, :stride)
    ON CONFLICT (host) DO UPDATE SET epoch = EXCLUDED.epoch, sequence = node_sessions.sequence + :stride
    RETURNING sequence, boot_id, spool_id
    """
)
_MET = text(
    """
    UPDATE node_sessions SET boot_id = :boot_id, spool_id = :spool_id, connected_at = now(), lost_at = NULL,
        unreachable_since = NULL, entries = :entries, facts = CAST(:facts AS jsonb)
    WHERE host = :host
    """
)
_UNREACHABLE = text(
    "UPDATE node_sessions SET unreachable_since = now() WHERE host = :host AND unreachable_since IS NULL"
)
_UNSETTLED = text(
    """
    SELECT host FROM node_sessions s WHERE (unreachable_since IS NOT NULL OR entries)
      AND (host = ANY(:mine) OR EXISTS (SELECT FROM resources r WHERE r.network_address = s.host))
    ORDER BY host
    """
)
_TAKE_IN = text("UPDATE node_sessions SET entries = true WHERE host = ANY(:hosts) AND NOT entries")
_SETTLE = text(
    """
    UPDATE node_sessions SET entries = false WHERE host = ANY(:hosts) AND entries AND host <> ALL (
        SELECT unnest(array_prepend(head, other_hosts)) FROM jobs
        WHERE stopped_at IS NULL AND state IN ('Launching', 'Running', 'Suspended', 'Resuming', 'Finishing')
          AND head IS NOT NULL)
    RETURNING host
    """
)
_LOST = text("UPDATE node_sessions SET lost_at = now() WHERE host = :host AND lost_at IS NULL")


def instance(conn: Connection) -> UUID:
    """The identity under which this instance's jobs are known on hosts."""
    found: UUID = conn.execute(_INSTANCE).scalar_one()
    return found


def next_number(conn: Connection, host: str, epoch: int) -> tuple[int, Identity]:
    """A sequence number that no session with ``host`` has had, and who it was last.  The commit must be durable."""
    sequence, boot_id, spool_id = conn.execute(_NEXT, {"host": host, "epoch": epoch, "stride": STRIDE}).one()
    return sequence, Identity(boot_id, spool_id)


def met(conn: Connection, host: str, identity: Identity, facts: Mapping[str, Any], *, entries: bool) -> None:
    """Keep who ``host`` is, and whether anything of jobs is in its spool.

    Durably before any launch: it will tell whether a reboot ended that launch.
    """
    values = {"host": host, "boot_id": identity.boot_id, "spool_id": identity.spool_id}
    conn.execute(_MET, {**values, "entries": entries, "facts": json.dumps(facts)})


def lost(conn: Connection, host: str) -> None:
    """The link to ``host`` is broken."""
    conn.execute(_LOST, {"host": host})


def unreachable(conn: Connection, host: str) -> None:
    """No link to ``host`` can be had, until ``met`` says otherwise."""
    conn.execute(_UNREACHABLE, {"host": host})


def take_in(conn: Connection, hosts: Collection[str]) -> None:
    """Write that launches on ``hosts`` begin, which have to be forgotten there one day."""
    conn.execute(_TAKE_IN, {"hosts": sorted(hosts)})


def settle(conn: Connection, hosts: Collection[str]) -> list[str]:
    """Write that ``hosts``, which have forgotten all that was over, keep nothing; those of them that no job is on."""
    return list(conn.execute(_SETTLE, {"hosts": sorted(hosts)}).scalars())


def unsettled(conn: Connection, mine: Collection[str]) -> list[str]:
    """The hosts that a new runner has to meet, though it has no job for them.

    No link to them could be had when it was tried last, or their spools may keep what is over.  Those
    that are no resources any more are left alone, unless they are this machine, whose names are ``mine``.
    """
    return list(conn.execute(_UNSETTLED, {"mine": sorted(mine)}).scalars())
