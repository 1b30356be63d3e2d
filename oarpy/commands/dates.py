"""Dates that listings are asked for."""

from __future__ import annotations

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.reservation_dates import parse_reservation
from oarpy.model.wording import excerpt


def instant_s(text: str) -> int:
    """The date, or the first second of the day, in ``text``, in seconds since the epoch."""
    words = text.strip()
    if len(words) == 10 and words.count("-") == 2:
        words += " 00:00:00"
    try:
        start_s = None if "," in words else parse_reservation(words).start_s
    except SyntaxRefused as error:
        raise SyntaxRefused(str(error), exit_status=ExitStatus.REFUSED) from error
    if start_s is None:
        raise SyntaxRefused(f"{excerpt(text)} is not a date; write YYYY-MM-DD HH:MM:SS", exit_status=ExitStatus.REFUSED)
    return start_s


def period_s(text: str) -> tuple[int, int]:
    """Both dates of ``START, END``."""
    start, comma, end = text.partition(",")
    if not comma:
        raise SyntaxRefused(
            f'{excerpt(text)} is not a period; write "YYYY-MM-DD HH:MM:SS, YYYY-MM-DD HH:MM:SS"',
            exit_status=ExitStatus.REFUSED,
        )
    begin_s, end_s = instant_s(start), instant_s(end)
    if end_s <= begin_s:
        raise SyntaxRefused(f"the period {excerpt(text)} ends before it begins", exit_status=ExitStatus.REFUSED)
    return begin_s, end_s
