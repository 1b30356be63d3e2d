"""Dates that listings are asked for."""

import re
from datetime import datetime

import pytest

from oarpy.commands import dates
from oarpy.errors import SyntaxRefused

NOW = datetime(2026, 3, 5, 10, 0).astimezone()


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return NOW

    monkeypatch.setattr(dates, "datetime", Clock)


def local(*parts: int) -> int:
    return int(datetime(*parts).astimezone().timestamp())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02 03:04:05", (2026, 1, 2, 3, 4, 5)),
        ("2026-01-02 03:04", (2026, 1, 2, 3, 4)),
        (" 2026-01-02 ", (2026, 1, 2)),
        ("yesterday", (2026, 3, 4)),
        ("Yesterday  8:00", (2026, 3, 4, 8)),
        ("today 9:30", (2026, 3, 5, 9, 30)),
        ("8:00", (2026, 3, 5, 8)),
        ("18:00", (2026, 3, 4, 18)),
        ("2h ago", (2026, 3, 5, 8)),
        ("-1:30", (2026, 3, 5, 8, 30)),
        ("now", (2026, 3, 5, 10)),
    ],
)
def test_what_was_has_many_names(text, expected):
    assert dates.past_s(text) == local(*expected)


@pytest.mark.parametrize("text", ["tomorrow", "2100-01-01", "+2h", "then", "", "-", "ago", "0001-01-01", "-99999999h"])
def test_what_is_no_date_of_the_past_is_refused(text):
    with pytest.raises(SyntaxRefused) as refusal:
        dates.past_s(text)

    assert refusal.value.exit_status == 1
    assert re.fullmatch(r"[^\n]+", str(refusal.value))


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026-01-02, 2026-01-03 12:00:00", (2026, 1, 2), (2026, 1, 3, 12)),
        ("yesterday 8:00, +2h", (2026, 3, 4, 8), (2026, 3, 4, 10)),
        ("8:00, 18:00", (2026, 3, 5, 8), (2026, 3, 5, 18)),
        ("today, tomorrow", (2026, 3, 5), (2026, 3, 6)),
        ("2h ago, 1h ago", (2026, 3, 5, 8), (2026, 3, 5, 9)),
        ("+1h, +2h", (2026, 3, 5, 11), (2026, 3, 5, 13)),
        ("in 1h, tomorrow", (2026, 3, 5, 11), (2026, 3, 6)),
    ],
)
def test_a_period_has_two_dates(text, begin, end):
    assert dates.period_s(text) == (local(*begin), local(*end))


@pytest.mark.parametrize("text", ["2026-01-02", "2026-01-02, 2026-01-01", ",", "today, today", "a, b"])
def test_what_is_no_period_is_refused(text):
    with pytest.raises(SyntaxRefused):
        dates.period_s(text)
