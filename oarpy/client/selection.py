"""Which jobs a command speaks of, and that as a condition on the view of jobs.

Ids, ranges, arrays and a filter mean the same wherever jobs are chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from oarpy.model.filters import Filter


def filter_of(sql: str | None) -> Filter | None:
    """The tree of a condition; raises ``SyntaxRefused``."""
    if sql is None:
        return None
    from oarpy.model.filter_grammar import parse_filter

    return parse_filter(sql)


class Selection(NamedTuple):
    """Which jobs: those that one of ids, ranges and arrays names, ended or not, and that satisfy the rest.

    Without any of these, and without a filter, the jobs that are not over.
    """

    job_ids: tuple[int, ...] = ()
    array_ids: tuple[int, ...] = ()
    #: Of job ids, both ends included.
    ranges: tuple[tuple[int, int], ...] = ()
    user: str | None = None
    #: Those of the one who asks, whom the database knows.
    mine: bool = False
    filter: Filter | None = None
    #: Those alone that are not over.
    live: bool = False
    #: Of all these, those with higher ids.
    after: int | None = None

    @property
    def names_jobs(self) -> bool:
        return bool(self.job_ids or self.array_ids or self.ranges)


def condition(selection: Selection) -> tuple[str, list[object]]:
    """SQL over the columns of ``visible_jobs``, and its bound values."""
    parameters: list[object] = []
    named = []
    if selection.job_ids:
        named.append("job_id = ANY(%s::bigint[])")
        parameters.append(list(selection.job_ids))
    if selection.array_ids:
        named.append("array_id = ANY(%s::bigint[])")
        parameters.append(list(selection.array_ids))
    for first, last in selection.ranges:
        named.append("job_id BETWEEN %s AND %s")
        parameters += [first, last]
    parts = [f"({' OR '.join(named)})"] if named else []
    if selection.filter is not None:
        from oarpy.client.conditions import condition as as_sql
        from oarpy.client.job_columns import COLUMNS

        texts: list[str] = []
        parts.append(f"({as_sql(selection.filter, COLUMNS, texts)})")
        parameters += texts
    if selection.live or not parts:
        parts.append("stopped_at IS NULL")
    if selection.mine:
        parts.append("job_user = oar.me()")
    elif selection.user is not None:
        parts.append("job_user = %s")
        parameters.append(selection.user)
    if selection.after is not None:
        parts.append("job_id > %s")
        parameters.append(selection.after)
    return " AND ".join(parts), parameters
