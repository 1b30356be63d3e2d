"""Jobs: their changes of state, and what is asked about them.

``transition`` is the only way Python changes a job's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Text, Update, bindparam, case, cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection
from sqlalchemy.sql import ClauseElement

from oarpy.automata.job import JOB, JobEvent
from oarpy.database import notifications
from oarpy.database.tables import JOB_STATE, jobs
from oarpy.model.states import JobId


def transition(
    conn: Connection,
    job_ids: Sequence[JobId],
    happening: JobEvent,
    *,
    values: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    only: ColumnElement[bool] | None = None,
) -> list[JobId]:
    """Let ``happening`` happen to jobs; return those to which it did, ascending.

    A job that is no longer in a state which knows the event is left alone: of
    two processes that saw the same job only one gets it back from here.  The
    caller acts on what is returned, never on what it asked for.  ``values`` are
    further columns of ``jobs``, constants or expressions (`of_each`); ``parameters``
    are what the expressions bind.  A job is left alone, too, of which ``only`` is not
    true.  Expressions that are constants of a module are compiled once.

    A job that becomes final gets its stop date, one whose launch never began its
    next attempt.  The rows are locked in the order of their ids and stay locked
    until the caller's transaction ends; the log line is a trigger's, in the same
    transaction, and so is what the job's owner asked to be told.
    """
    if not job_ids:
        return []
    expressions: dict[str, Any] = {}
    bound: dict[str, Any] = {"jobs": list(job_ids)}
    for name, value in (values or {}).items():
        if isinstance(value, ClauseElement):
            expressions[name] = value
        else:
            expressions[name] = None
            bound[f"new_{name}"] = value
    statement = _transition(happening, tuple(expressions.items()), only)
    changed = sorted(conn.execute(statement, bound | dict(parameters or {})).scalars())
    notifications.enqueue(conn, changed, happening)
    return [JobId(job_id) for job_id in changed]


def of_each(name: str) -> Any:
    """The text of the value that the document bound as ``name``, made by `by_job`, has for the job of a row."""
    document = cast(bindparam(name, type_=JSONB), JSONB)
    return func.jsonb_extract_path_text(document, cast(jobs.c.job_id, Text))


def by_job(values: Mapping[JobId, object]) -> dict[str, object]:
    """What `of_each` looks into: JSON's keys are text."""
    return {str(job_id): value for job_id, value in values.items()}


@lru_cache(100)
def _transition(happening: JobEvent, values: tuple[tuple[str, Any], ...], only: ColumnElement[bool] | None) -> Update:
    """The statement of ``transition``; what has no expression among ``values`` is bound, as ``new_`` and its name."""
    moves = JOB.moves(happening)
    locked = (
        select(jobs.c.job_id)
        .where(
            jobs.c.job_id == func.any(bindparam("jobs", type_=ARRAY(BigInteger))),
            jobs.c.state.in_(list(moves)),
            *([] if only is None else [only]),
        )
        .order_by(jobs.c.job_id)
        .with_for_update(key_share=True)
        .cte("locked")
    )
    changes = {
        name: bindparam(f"new_{name}", type_=jobs.c[name].type) if expression is None else expression
        for name, expression in values
    }
    changes["state"] = case(
        *((jobs.c.state == before, bindparam(None, then, JOB_STATE)) for before, then in moves.items()),
        else_=jobs.c.state,
    )
    if set(moves.values()) <= JOB.final:
        changes.setdefault("stopped_at", func.now())
    if happening is JobEvent.NEVER_BEGAN:
        changes.setdefault("attempt", jobs.c.attempt + 1)
    return update(jobs).where(jobs.c.job_id == locked.c.job_id).values(changes).returning(jobs.c.job_id)
