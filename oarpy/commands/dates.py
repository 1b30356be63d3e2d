"""Dates that listings are asked for: those of ``human_dates``, and the past as people say it."""

from __future__ import annotations

from datetime import datetime, timedelta

from oarpy.errors import SyntaxRefused
from oarpy.model.durations import parse_duration
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.human_dates import FORMS, parse_date
from oarpy.model.wording import excerpt

_FORMS = "YYYY-MM-DD HH:MM:SS, or such as 'yesterday 8:00', 'today', '18:00' (the last one), '2h ago'"


def past_s(text: str) -> int:
    """The date in ``text``, which is over, in seconds since the epoch; raises ``SyntaxRefused``."""
    now = datetime.now().astimezone()
    moment = _instant(text, now)
    if moment > now:
        raise _refused(f"{excerpt(text)} is yet to come; what was is shown, and what is")
    return _seconds(moment, text)


def instant_s(text: str) -> int:
    """The date in ``text``, over or not; a time alone is the last one."""
    return _seconds(_instant(text, datetime.now().astimezone()), text)


def period_s(text: str) -> tuple[int, int]:
    """Both dates of ``START, END``; an END without a day, or with a ``+``, is after START."""
    start, comma, end = text.partition(",")
    if not comma:
        raise _refused(f'{excerpt(text)} is not a period; write "YYYY-MM-DD HH:MM:SS, YYYY-MM-DD HH:MM:SS"')
    now = datetime.now().astimezone()
    begins = _instant(start, now)
    begin_s, end_s = _seconds(begins, start), _seconds(_instant(end, now, after=begins), end)
    if end_s <= begin_s:
        raise _refused(f"the period {excerpt(text)} does not end after it begins")
    return begin_s, end_s


def _instant(text: str, now: datetime, after: datetime | None = None) -> datetime:
    """``yesterday 8:00``, ``2h ago``, ``-2h``; all else as a job's dates are written."""
    words = " ".join(text.lower().split())
    try:
        if words.endswith(" ago") or words.startswith("-"):
            return now - timedelta(seconds=parse_duration(words.removesuffix(" ago").removeprefix("-").strip()))
        if words.split(" ")[0] == "yesterday":
            return parse_date(words.replace("yesterday", "today", 1), now - timedelta(days=1))
        if words.startswith(("+", "in ")) and after is None:
            return parse_date(text, now)
        return parse_date(text, now, after=now - timedelta(days=1) if after is None else after)
    except (ValueError, OverflowError, OSError):
        raise _refused(f"{excerpt(text)} is not a date on any clock") from None
    except SyntaxRefused as error:
        raise _refused(str(error).replace(FORMS, _FORMS)) from error


def _seconds(moment: datetime, text: str) -> int:
    try:
        return int(moment.timestamp())
    except (ValueError, OverflowError, OSError):
        raise _refused(f"{excerpt(text)} is not a date on any clock") from None


def _refused(sentence: str) -> SyntaxRefused:
    return SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
