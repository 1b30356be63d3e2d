"""Dates as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.human_dates import parse_date

#: A Friday, 12:30 in Paris.
NOW = datetime(2026, 3, 27, 11, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("now", "2026-03-27T11:30"),
        ("2030-05-04", "2030-05-03T22:00"),
        ("2030-05-04 09:00", "2030-05-04T07:00"),
        ("2030-05-04T09:00:30", "2030-05-04T07:00:30"),
        ("2030-5-4 9:00:5", "2030-05-04T07:00:05"),
        ("2030-05-04 09:00 UTC", "2030-05-04T09:00"),
        ("2030-05-04T09:00:00Z", "2030-05-04T09:00"),
        ("2030-05-04T09:00+05:00", "2030-05-04T04:00"),
        ("today 18:00", "2026-03-27T17:00"),
        ("today 8:00", "2026-03-27T07:00"),
        ("tomorrow", "2026-03-27T23:00"),
        ("Tomorrow  8:00", "2026-03-28T07:00"),
        ("tomorrow at 8h30", "2026-03-28T07:30"),
        ("tomorrow noon", "2026-03-28T11:00"),
        ("18:00", "2026-03-27T17:00"),
        ("8h", "2026-03-28T07:00"),
        ("at 12:30", "2026-03-28T11:30"),
        ("midnight", "2026-03-27T23:00"),
        ("friday 14:00", "2026-03-27T13:00"),
        ("fri 9:00", "2026-04-03T07:00"),
        # The clocks have changed by then.
        ("sunday 8:00", "2026-03-29T06:00"),
        ("monday", "2026-03-29T22:00"),
        ("+2h30", "2026-03-27T14:00"),
        ("in 1d", "2026-03-28T11:30"),
    ],
)
def test_a_date_is_understood(text: str, instant: str) -> None:
    assert parse_date(text, NOW).astimezone(UTC) == datetime.fromisoformat(f"{instant}+00:00")


@pytest.mark.parametrize("text", ["2026-03-29 02:30", "sunday 2:30", "2026-03-29T02:30:00"])
def test_a_time_that_spring_leaves_out_is_not_before_it(text: str) -> None:
    assert parse_date(text, NOW) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_a_time_that_autumn_has_twice_is_the_first_unless_the_offset_says_otherwise() -> None:
    assert parse_date("2026-10-25 02:30", NOW) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert parse_date("2026-10-25 02:30+01:00", NOW) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_a_time_alone_comes_after_another_date() -> None:
    begins = parse_date("tomorrow 22:00", NOW)

    assert parse_date("6:00", NOW, after=begins).astimezone(UTC) == datetime(2026, 3, 29, 4, tzinfo=UTC)
    assert parse_date("+1h", NOW, after=begins).astimezone(UTC) == datetime(2026, 3, 28, 22, tzinfo=UTC)
    assert parse_date("tomorrow 23:00", NOW, after=begins).astimezone(UTC) == datetime(2026, 3, 28, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "soon",
            "25:00",
            "8",
            "8:",
            ":30",
            "8:0:0:0",
            "tomorrow tomorrow",
            "mo 8:00",
            "2030-13-01",
            "in",
        ),
        *(
            "2030-05-04 25:00",
            "04-05-2030",
            "8h61",
            "1e9",
            "²:00",
            "-1h",
            "x" * 100,
            "9999-12-31 23:59:59",
        ),
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(SyntaxRefused, match="is not a date; write YYYY"):
        parse_date(text, NOW)


@pytest.mark.parametrize("text", ["+0", "+", "+9000000d", "in ages"])
def test_a_duration_that_is_none_is_refused_as_one(text: str) -> None:
    with pytest.raises(SyntaxRefused, match="duration"):
        parse_date(text, NOW)
