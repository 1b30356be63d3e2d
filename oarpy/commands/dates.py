"""Dates that listings are asked for."""

from __future__ import annotations

from datetime import datetime

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.human_dates import parse_date
from oarpy.model.wording import excerpt


def instant_s(text: str) -> int:
    """The date, or the first second of the day, in ``text``, in seconds since the epoch."""
    try:
        return int(parse_date(text, datetime.now().astimezone()).timestamp())
    except SyntaxRefused as error:
        raise SyntaxRefused(str(error), exit_status=ExitStatus.REFUSED) from error
    except (ValueError, OverflowError, OSError):
        raise SyntaxRefused(f"{excerpt(text)} is not a date on any clock", exit_status=ExitStatus.REFUSED) from None


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
