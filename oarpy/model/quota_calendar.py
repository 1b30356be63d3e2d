"""When which set of quotas holds, in a place's local time."""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from oarpy.errors import SyntaxRefused
from oarpy.model.quotas import DEFAULT_SET
from oarpy.model.wording import excerpt

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAY_MINUTES = 24 * 60
ANY = "*"

# The same stands in the constraints of the table ``quota_periods``.
_HOURS = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])-([01]?[0-9]|2[0-3]|24(?=:00)):([0-5][0-9])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """Days, and hours of these, at which the set ``rules`` holds.

    ``hours`` are minutes of the day and may last into the next one.  A period has days
    and hours, or an instant at which it begins and one at which it ends.
    """

    rules: str
    hours: tuple[tuple[int, int], ...] = ((0, DAY_MINUTES),)
    weekdays: frozenset[int] = frozenset(range(7))
    days: frozenset[int] = frozenset(range(1, 32))
    months: frozenset[int] = frozenset(range(1, 13))
    begin_s: int | None = None
    end_s: int | None = None

    @property
    def always(self) -> bool:
        """Whether no hour is left out between its dates."""
        return (self.hours, len(self.weekdays), len(self.days), len(self.months)) == (((0, DAY_MINUTES),), 7, 31, 12)

    def on(self, day: date) -> bool:
        return day.weekday() in self.weekdays and day.day in self.days and day.month in self.months


def parse_period(
    rules: str,
    hours: str = ANY,
    weekdays: str = ANY,
    days: str = ANY,
    months: str = ANY,
    begin_s: int | None = None,
    end_s: int | None = None,
) -> Period:
    """``parse_period("night", "19:00-08:00", "mon-thu,sun")``.

    Raises:
        SyntaxRefused: a part of it is not understood.
    """
    return Period(
        rules,
        _hours(hours),
        _members(weekdays, "weekday", WEEKDAYS, 0),
        _members(days, "day of the month", (), 31),
        _members(months, "month", MONTHS, 12),
        begin_s,
        end_s,
    )


def _hours(text: str) -> tuple[tuple[int, int], ...]:
    if text == ANY:
        return ((0, DAY_MINUTES),)
    found = []
    for part in text.split(","):
        match = _HOURS.fullmatch(part)
        if match is None:
            raise SyntaxRefused(f"{excerpt(part)} is no range of hours; write it as 08:00-19:00")
        begin = 60 * int(match[1]) + int(match[2])
        end = 60 * int(match[3]) + int(match[4])
        found.append((begin, end if end > begin else end + DAY_MINUTES))
    return tuple(found)


def _members(text: str, what: str, names: Sequence[str], last: int) -> frozenset[int]:
    """The numbers of a list of names or numbers and ranges of them, which may go past the end."""
    first = 1 if last else 0
    count = last or len(names)
    everything = range(first, first + count)
    if text == ANY:
        return frozenset(everything)
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        begin, end = _member(low, what, names, everything), _member(high if dash else low, what, names, everything)
        found.update(first + (begin - first + step) % count for step in range((end - begin) % count + 1))
    return frozenset(found)


def _member(text: str, what: str, names: Sequence[str], everything: range) -> int:
    if text in names:
        return everything[names.index(text)]
    if everything.start and re.fullmatch("[0-9]{1,2}", text, re.ASCII) and int(text) in everything:
        return int(text)
    raise SyntaxRefused(f"{excerpt(text)} is no {what}")


def instant(local: datetime, zone: tzinfo | None) -> int:
    """The instant at which clocks of the zone show ``local``; without a zone, those of this machine do."""
    return int(local.replace(tzinfo=zone).timestamp())


def unrolled(periods: Sequence[Period], begin_s: int, end_s: int, zone: tzinfo | None) -> tuple[tuple[int, str], ...]:
    """From when on which set holds, from ``begin_s`` to ``end_s``.

    Where several periods meet, one with dates comes before one without, and the first of
    the list before those behind it; where there is none, the default set holds.
    """
    stretches: list[tuple[int, int, int, str]] = []
    for rank, period in enumerate(sorted(periods, key=lambda period: period.begin_s is None)):
        for low_s, high_s in _stretches(period, begin_s, end_s, zone):
            if low_s < high_s:
                stretches.append((low_s, high_s, rank, period.rules))
    stretches.sort()
    edges = sorted({begin_s, *(edge for low_s, high_s, *_ in stretches for edge in (low_s, high_s) if edge < end_s)})
    steps: list[tuple[int, str]] = []
    open_ones: list[tuple[int, int, str]] = []
    at = 0
    for edge in edges:
        while at < len(stretches) and stretches[at][0] <= edge:
            _, high_s, rank, rules = stretches[at]
            insort(open_ones, (rank, high_s, rules))
            at += 1
        open_ones = [one for one in open_ones if one[1] > edge]
        rules = open_ones[0][2] if open_ones else DEFAULT_SET
        if not steps or steps[-1][1] != rules:
            steps.append((edge, rules))
    return tuple(steps)


def _stretches(period: Period, begin_s: int, end_s: int, zone: tzinfo | None) -> Iterator[tuple[int, int]]:
    """The times of a period within these bounds; empty ones may be among them."""
    first_s = max(begin_s, period.begin_s) if period.begin_s is not None else begin_s
    last_s = min(end_s, period.end_s) if period.end_s is not None else end_s
    if first_s >= last_s:
        return
    if period.always:
        yield first_s, last_s
        return
    # The hours of a day may last into the next one, and days are not the same everywhere.
    day = datetime.fromtimestamp(first_s, UTC).date() - timedelta(days=2)
    last_day = datetime.fromtimestamp(last_s, UTC).date() + timedelta(days=1)
    while day <= last_day:
        if period.on(day):
            for begin, end in period.hours:
                low_s = instant(_minute(day, begin), zone)
                high_s = instant(_minute(day, end), zone)
                yield max(low_s, first_s), min(high_s, last_s)
        day += timedelta(days=1)


def _minute(day: date, minute: int) -> datetime:
    return datetime.combine(day, time()) + timedelta(minutes=minute)
