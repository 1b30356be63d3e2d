"""``-r``: ``START[, END]``, START a date or ``now``.

A date is ``YYYY-MM-DD HH:MM:SS`` in the zone of the one who typed it, or in UTC when it
ends with that word; the seconds may be left out.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import excerpt

#: The year 2200: more is a mistake in typing.
LAST_S = 7_258_118_400
_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")


class ReservationDates(NamedTuple):
    """In seconds since the epoch; ``start_s`` is None for now, ``end_s`` when the walltime tells it."""

    start_s: int | None
    end_s: int | None = None


def parse_reservation(text: str) -> ReservationDates:
    """The dates in ``text``.

    Raises:
        SyntaxRefused: with status 7.
    """
    start, comma, end = (part.strip() for part in text.partition(","))
    start_s = None if start == "now" else _instant(start)
    end_s = _instant(end) if comma else None
    for date, date_s in ((start, start_s), (end, end_s)):
        if date_s is not None and not 0 < date_s <= LAST_S:
            raise _refused(f"the date {excerpt(date)} is not between 1970 and 2200")
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise _refused(f"the reservation {excerpt(text)} ends before it starts")
    return ReservationDates(start_s, end_s)


def _instant(text: str) -> int:
    words = text[:-3].rstrip() if text.endswith("UTC") else text
    for layout in _FORMATS:
        with suppress(ValueError, OverflowError, OSError):
            moment = datetime.strptime(f"{words} +0000", f"{layout} %z")
            if words == text:
                # A naive date is one of the local zone.
                moment = moment.replace(tzinfo=None).astimezone()
            return int(moment.timestamp())
    raise _refused(f"{excerpt(text)} is not a date; write YYYY-MM-DD HH:MM:SS")


def _refused(sentence: str) -> SyntaxRefused:
    return SyntaxRefused(sentence, exit_status=ExitStatus.RESERVATION_DATE)
