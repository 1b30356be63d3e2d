"""What hosts were asked to do with jobs: the rows of ``orders``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection

from oarpy.model.states import EndCause, JobId, JobState, OrderKind

_OPEN = text(
    """
    SELECT o.order_id, o.kind, o.job_id, o.attempt, o.host, o.signal, o.walltime, o.exterminate,
        o.begun_at IS NOT NULL AS begun, o.deadline <= now() AS late, j.state, j.attempt AS current_attempt, j.head,
        j.other_hosts, j.types, COALESCE(f.cause, 'killed') AS cause
    FROM orders o LEFT JOIN jobs j USING (job_id) LEFT JOIN frag_jobs f USING (job_id)
    WHERE o.done_at IS NULL ORDER BY o.order_id
    """
)
_BEGIN = text("UPDATE orders SET begun_at = now() WHERE begun_at IS NULL AND order_id = ANY(CAST(:orders AS bigint[]))")
_PROLONG = text(
    "UPDATE orders SET deadline = now() + CAST(:within AS interval) WHERE order_id = ANY(CAST(:orders AS bigint[]))"
)
_FINISH = text(
    """
    UPDATE orders o SET begun_at = COALESCE(begun_at, now()), done_at = now(), succeeded = d.succeeded,
        result = d.result
    FROM unnest(CAST(:orders AS bigint[]), CAST(:succeeded AS boolean[]), CAST(:results AS text[]))
        AS d(order_id, succeeded, result)
    WHERE o.order_id = d.order_id AND o.done_at IS NULL
        -- The answer is to an earlier sending when another walltime is to be sent meanwhile.
        AND (o.kind <> 'walltime' OR o.begun_at IS NOT NULL OR NOT d.succeeded)
    RETURNING o.order_id, o.kind, o.job_id
    """
)


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order that is not done.  ``state`` and what follows are the job's, None where the order is for a host."""

    order_id: int
    kind: OrderKind
    job_id: JobId | None
    attempt: int | None
    host: str | None
    signal: int | None
    walltime: timedelta | None
    exterminate: bool
    begun: bool
    late: bool
    state: JobState | None
    current_attempt: int | None
    head: str | None
    others: tuple[str, ...]
    types: tuple[str, ...]
    cause: EndCause


def still_open(conn: Connection) -> list[OpenOrder]:
    """The orders that are not done, in the order in which they were asked."""
    return [_open_order(row) for row in conn.execute(_OPEN)]


def begin(conn: Connection, order_ids: Sequence[int]) -> None:
    """Write that hosts are about to be told."""
    if order_ids:
        conn.execute(_BEGIN, {"orders": list(order_ids)})


def prolong(conn: Connection, order_ids: Sequence[int], *, within: timedelta) -> None:
    """Give hosts that could not be told until now as long as if they were asked now."""
    if order_ids:
        conn.execute(_PROLONG, {"orders": list(order_ids), "within": within})


class Done(NamedTuple):
    """What became of an order."""

    order_id: int
    succeeded: bool
    result: str


def finish(conn: Connection, done: Iterable[Done]) -> list[tuple[int, OrderKind, JobId | None]]:
    """Write what became of orders; (id, kind, job) of those that were open."""
    found = list(done)
    if not found:
        return []
    rows = conn.execute(
        _FINISH,
        {
            "orders": [one.order_id for one in found],
            "succeeded": [one.succeeded for one in found],
            "results": [one.result for one in found],
        },
    )
    return [(order_id, OrderKind(kind), job_id) for order_id, kind, job_id in rows]


def _open_order(row: Any) -> OpenOrder:
    return OpenOrder(
        order_id=row.order_id,
        kind=OrderKind(row.kind),
        job_id=row.job_id,
        attempt=row.attempt,
        host=row.host,
        signal=row.signal,
        walltime=row.walltime,
        exterminate=row.exterminate,
        begun=row.begun,
        late=row.late,
        state=None if row.state is None else JobState(row.state),
        current_attempt=row.current_attempt,
        head=row.head,
        others=tuple(row.other_hosts or ()),
        types=tuple(row.types or ()),
        cause=EndCause(row.cause),
    )
