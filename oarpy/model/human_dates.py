"""Dates as people write them: ``2030-05-04 09:00``, ``tomorrow 8:00``, ``monday 8h30``, ``18:00``, ``+2h``.

The clock of the one who types is an argument; what is sent to the server is an instant.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta

from oarpy.errors import SyntaxRefused
from oarpy.model.durations import parse_duration
from oarpy.model.wording import excerpt

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIMES = {"midnight": time(0), "noon": time(12)}
FORMS = "YYYY-MM-DD HH:MM:SS, or such as 'tomorrow 8:00', 'monday 8:00', '18:00', '+2h'"
_LONGEST = 60


def parse_date(text: str, now: datetime, *, after: datetime | None = None) -> datetime:
    """The instant that ``text`` means to somebody whose clock says ``now``.

    A time alone is the next one after ``after``, a ``+`` counts from there; without it,
    both from ``now``.  A day alone begins at midnight, and the name of a weekday is its
    next one.  What has no offset from UTC, nor ends with ``UTC``, is local time.

    Raises:
        SyntaxRefused: it is no date.
    """
    words = " ".join(text.lower().split())
    after = now if after is None else after
    found = None
    if len(words) <= _LONGEST and text.isprintable():
        with suppress(ValueError, OverflowError, OSError):
            found = _said(words, now) or _relative(words, now.astimezone(), after.astimezone())
    if found is None:
        raise SyntaxRefused(f"{excerpt(text)} is not a date; write {FORMS}")
    return found


def of_this_zone(local: datetime) -> datetime:
    """What the clock on the wall says, with the offset which the zone has then.

    In spring 2:30 may be left out: the clock would have shown 3:30, not 1:30.
    """
    moment = local.astimezone()
    return moment if moment.replace(tzinfo=None) == local else local.replace(fold=1).astimezone()


def _said(words: str, now: datetime) -> datetime | None:
    """The date when it names year, month and day."""
    if words == "now":
        return now
    if not words[:4].isdigit() or words[4:5] != "-":
        return None
    zoned = words.removesuffix("utc").rstrip()
    two_digits = re.sub(r"(?<![\d.,])\d(?!\d)", r"0\g<0>", zoned)
    moment = datetime.fromisoformat(two_digits.upper())
    if zoned != words:
        return moment.replace(tzinfo=UTC)
    return of_this_zone(moment) if moment.tzinfo is None else moment


def _relative(words: str, now: datetime, after: datetime) -> datetime | None:
    if words.startswith(("+", "in ")):
        return after + timedelta(seconds=parse_duration(words.removeprefix("+").removeprefix("in ").strip()))
    day, _, rest = words.partition(" ")
    rest = rest.removeprefix("at ")
    if day in ("today", "tomorrow"):
        return _at(now + timedelta(days=day == "tomorrow"), _time(rest) if rest else time(0))
    if len(day) >= 3 and any(name.startswith(day) for name in _DAYS):
        number = next(number for number, name in enumerate(_DAYS) if name.startswith(day))
        moment = _at(now + timedelta(days=(number - now.weekday()) % 7), _time(rest) if rest else time(0))
        return moment if moment > now else _at(moment + timedelta(days=7), moment.time())
    moment = _at(after, _time(words.removeprefix("at ")))
    return moment if moment > after else _at(after + timedelta(days=1), moment.time())


def _time(words: str) -> time:
    """``8:00``, ``8:00:30``, ``8h``, ``8h30``, ``noon``; raises ``ValueError``."""
    if words in _TIMES:
        return _TIMES[words]
    hour, mark, rest = words.partition("h") if "h" in words else words.partition(":")
    parts = [hour, *(rest.split(":") if rest else [])]
    if not mark or (mark == ":" and not rest) or len(parts) > 3:
        raise ValueError("no time of the day")
    if not all(part.isascii() and part.isdigit() and len(part) <= 2 for part in parts):
        raise ValueError("no time of the day")
    hours, minutes, seconds = [*map(int, parts), 0, 0][:3]
    return time(hours, minutes, seconds)


def _at(day: datetime, moment: time) -> datetime:
    """That time of the local day, with the offset which the zone has then."""
    return of_this_zone(datetime.combine(day.date(), moment))
