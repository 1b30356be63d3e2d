"""``-t postpone=…``, ``-t deadline=…`` and ``-t expire=…``: when a job may run.

A value is a date, or a duration that counts from the submission.  A date without
an offset from UTC is local time; the client adds its own offset, for the server's
clock may be another country's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from oarpy.errors import SyntaxRefused
from oarpy.model.durations import parse_duration
from oarpy.model.wording import excerpt

#: The job does not start before; it must end by; it is given up if it has not started by then.
POSTPONE, DEADLINE, EXPIRE = "postpone", "deadline", "expire"
_DATED = frozenset({POSTPONE, DEADLINE, EXPIRE})
#: Other years are mistakes in typing, and some are beyond what a clock can show.
YEARS = 1971, 2200
#: How long after the submission, or when; a date may be without an offset.
Moment: TypeAlias = timedelta | datetime


class Dates(NamedTuple):
    """What the types of a job say; None where they say nothing."""

    not_before: Moment | None = None
    deadline: Moment | None = None
    expires: Moment | None = None


NO_DATES = Dates()


def parse_moment(text: str) -> Moment:
    """``2026-01-31``, ``2026-01-31 08:00[:00][+01:00]``, or a duration from the submission on.

    Raises:
        SyntaxRefused: it is none of these.
    """
    try:
        if "-" in text:
            return _near(datetime.fromisoformat(text))
        return timedelta(seconds=parse_duration(text))
    except (ValueError, SyntaxRefused) as error:
        raise SyntaxRefused(
            f"{excerpt(text)} is neither a date such as '2026-01-31 08:00:00' "
            "nor a duration from the submission on, hours[:minutes[:seconds]] or such as 90m"
        ) from error


def _near(date: datetime) -> datetime:
    if not YEARS[0] <= date.year <= YEARS[1]:
        raise ValueError("another year was meant")
    return date


def dates_of(types: Iterable[str]) -> Dates:
    """The dates among ``types``; raises ``SyntaxRefused`` where one is malformed or said twice."""
    found: dict[str, Moment] = {}
    for each in types:
        name, _, value = each.partition("=")
        if name in _DATED:
            if name in found:
                raise SyntaxRefused(f"the job type {name} is given more than once")
            found[name] = parse_moment(value)
    return Dates(found.get(POSTPONE), found.get(DEADLINE), found.get(EXPIRE))


def local(moment: Moment) -> Moment:
    """The same, a date with the offset that this machine has at that time where it had none."""
    if not isinstance(moment, datetime) or moment.tzinfo is not None:
        return moment
    from oarpy.model.human_dates import of_this_zone

    return of_this_zone(moment)


def with_offset(each: str, now: datetime) -> str:
    """The type as the server is to read it: its date, if it has one, with this machine's offset from UTC.

    ``now`` is the clock of the one who typed ``tomorrow``.
    """
    name, _, value = each.partition("=")
    if name not in _DATED:
        return each
    try:
        moment = local(parse_moment(value))
    except SyntaxRefused:
        from oarpy.model.human_dates import parse_date

        try:
            moment = _near(parse_date(value, now))
        except (SyntaxRefused, ValueError):
            return each
    return f"{name}={moment.isoformat(sep=' ')}" if isinstance(moment, datetime) else each
