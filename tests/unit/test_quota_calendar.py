"""When which set of quotas holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.quota_calendar import Period, instant, parse_period, unrolled

PARIS = ZoneInfo("Europe/Paris")


def at(text: str) -> int:
    return instant(datetime.fromisoformat(text), PARIS)


def steps(begin: str, end: str, *periods: Period) -> list[tuple[str, str]]:
    """Local dates from which on each set holds."""
    found = unrolled(periods, at(begin), at(end), PARIS)
    return [(datetime.fromtimestamp(at_s, PARIS).strftime("%a %d %b %H:%M"), name) for at_s, name in found]


def test_nights_begin_on_their_weekday_and_end_on_the_next() -> None:
    night = parse_period("night", "19:00-08:00", "fri")

    # 2026-07-03 is a Friday.
    assert steps("2026-07-03", "2026-07-06", night) == [
        ("Fri 03 Jul 00:00", "default"),
        ("Fri 03 Jul 19:00", "night"),
        ("Sat 04 Jul 08:00", "default"),
    ]


def test_a_night_that_began_before_holds_still() -> None:
    night = parse_period("night", "19:00-08:00", "thu")

    assert steps("2026-07-03T02:00", "2026-07-04", night) == [
        ("Fri 03 Jul 02:00", "night"),
        ("Fri 03 Jul 08:00", "default"),
    ]


def test_the_example_of_oar_covers_the_week_without_a_gap() -> None:
    rows = [
        ("work", "08:00-19:00", "mon-fri"),
        ("night", "19:00-00:00", "mon-thu"),
        ("night", "00:00-08:00", "tue-fri"),
        ("weekend", "19:00-00:00", "fri"),
        ("weekend", "*", "sat-sun"),
        ("weekend", "00:00-08:00", "mon"),
    ]

    week = steps("2026-06-29", "2026-07-06", *(parse_period(*row) for row in rows))

    assert [name for _, name in week] == ["weekend", *["work", "night"] * 4, "work", "weekend"]
    assert week[-1] == ("Fri 03 Jul 19:00", "weekend")


def test_days_of_the_month_months_and_weekdays_must_all_fit() -> None:
    first = parse_period("first", "*", "*", "1", "jul-sep")
    friday = parse_period("friday", "*", "fri", "13", "*")

    assert steps("2026-06-01", "2026-08-02", first) == [
        ("Mon 01 Jun 00:00", "default"),
        ("Wed 01 Jul 00:00", "first"),
        ("Thu 02 Jul 00:00", "default"),
        ("Sat 01 Aug 00:00", "first"),
    ]
    assert [when for when, name in steps("2026-01-01", "2026-12-31", friday) if name == "friday"] == [
        "Fri 13 Feb 00:00",
        "Fri 13 Mar 00:00",
        "Fri 13 Nov 00:00",
    ]


def test_dates_come_before_hours_and_the_first_period_before_those_behind_it() -> None:
    holiday = Period("holiday", begin_s=at("2026-07-03T12:00"), end_s=at("2026-07-04T12:00"))
    day, all_day = parse_period("day", "08:00-19:00"), parse_period("rest")

    assert steps("2026-07-03", "2026-07-05", day, all_day, holiday) == [
        ("Fri 03 Jul 00:00", "rest"),
        ("Fri 03 Jul 08:00", "day"),
        ("Fri 03 Jul 12:00", "holiday"),
        ("Sat 04 Jul 12:00", "day"),
        ("Sat 04 Jul 19:00", "rest"),
    ]
    assert steps("2026-07-05", "2026-07-06", all_day, day) == [("Sun 05 Jul 00:00", "rest")]


def test_hours_are_those_that_clocks_show_when_summer_time_begins_and_ends() -> None:
    night = parse_period("night", "19:00-08:00")

    def length(evening: str) -> timedelta:
        begun = at(f"{evening}T19:00")
        ended = next(at_s for at_s, name in unrolled([night], begun, begun + 86_000, PARIS) if name == "default")
        assert unrolled([night], begun - 60, begun + 60, PARIS)[1] == (begun, "night")
        return timedelta(seconds=ended - begun)

    assert [length(day).total_seconds() / 3600 for day in ("2026-03-27", "2026-03-28", "2026-10-24")] == [13, 12, 14]


def test_every_instant_gets_the_set_that_its_own_clock_says() -> None:
    lunch = parse_period("lunch", "11:30-13:00,15:00-15:30", "mon-wed,sat", "5-20,31-2", "*")
    begin = at("2026-09-25")

    calendar = unrolled([lunch], begin, begin + 60 * 86_400, PARIS)

    for moment in range(begin, begin + 60 * 86_400, 900):
        local = datetime.fromtimestamp(moment, PARIS)
        clock = local.strftime("%H:%M")
        expected = (
            local.weekday() in (0, 1, 2, 5)
            and (5 <= local.day <= 20 or local.day in (31, 1, 2))
            and ("11:30" <= clock < "13:00" or "15:00" <= clock < "15:30")
        )
        assert [name for at_s, name in calendar if at_s <= moment][-1] == ("lunch" if expected else "default"), local


def test_without_a_zone_it_is_the_machines_own() -> None:
    local = datetime(2026, 7, 3, 8, 0)  # noqa: DTZ001  # what clocks on the wall show

    assert instant(local, None) == int(local.astimezone(UTC).timestamp())


@pytest.mark.parametrize(
    "parts",
    [
        ("8-19",),
        ("25:00-26:00",),
        ("24:30-25:00",),
        ("08:00",),
        ("", "*"),
        ("*", "monday"),
        ("*", "1"),
        ("*", "mon-"),
        ("*", "*", "0"),
        ("*", "*", "32"),
        ("*", "*", "mon"),
        ("*", "*", "*", "13"),
        ("*", "*", "*", "july"),
        ("*", "*", "*", "1,"),
        ("*", "*", "٣"),
    ],
)
def test_what_is_no_period_is_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(SyntaxRefused, match=r" is no (range of hours|weekday|day of the month|month)"):
        parse_period("set", *parts)
