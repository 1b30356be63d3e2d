"""``-r``: ``START[, END]``, both dates of ``human_dates``; an END without a day, or with a ``+``, is after START."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.human_dates import parse_date
from oarpy.model.wording import excerpt

#: The year 2200: more is a mistake in typing.
LAST_S = 7_258_118_400


class ReservationDates(NamedTuple):
    """In seconds since the epoch; ``start_s`` is None for now, ``end_s`` when the walltime tells it."""

    start_s: int | None
    end_s: int | None = None


def parse_reservation(text: str, now: datetime) -> ReservationDates:
    """The dates in ``text``, to somebody whose clock says ``now``.

    Raises:
        SyntaxRefused: with status 7.
    """
    start, comma, end = (part.strip() for part in text.partition(","))
    try:
        begins = parse_date(start, now)
        ends = parse_date(end, now, after=begins) if comma else None
    except SyntaxRefused as refusal:
        raise _refused(str(refusal)) from refusal
    start_s = None if start == "now" else _seconds(begins)
    end_s = None if ends is None else _seconds(ends)
    for date, date_s in ((start, start_s), (end, end_s)):
        if date_s is not None and not 0 < date_s <= LAST_S:
            raise _refused(f"the date {excerpt(date)} is not between 1970 and 2200")
    if end_s is not None and end_s <= _seconds(begins):
        raise _refused(f"the reservation {excerpt(text)} ends before it starts")
    return ReservationDates(start_s, end_s)


def _seconds(moment: datetime) -> int:
    try:
        return int(moment.timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


def _refused(sentence: str) -> SyntaxRefused:
    return SyntaxRefused(sentence, exit_status=ExitStatus.RESERVATION_DATE)
