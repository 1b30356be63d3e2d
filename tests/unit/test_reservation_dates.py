"""What ``-r`` may say, on both sides of the wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.payloads import Submission
from oarpy.model.reservation_dates import ReservationDates, parse_reservation

NOW = datetime(2030, 5, 1, 10, tzinfo=UTC)
NOON_S = int(datetime(2030, 5, 4, 12, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("now", ReservationDates(None)),
        ("2030-05-04 12:00:00 UTC", ReservationDates(NOON_S)),
        ("2030-05-04 12:00 UTC", ReservationDates(NOON_S)),
        ("2030-05-04 12:00:00 UTC, 2030-05-04 13:00:00 UTC", ReservationDates(NOON_S, NOON_S + 3600)),
        ("now, 2030-05-04 12:00:00UTC", ReservationDates(None, NOON_S)),
        ("now, +2h", ReservationDates(None, int(NOW.timestamp()) + 7200)),
        ("2030-05-04 12:00 UTC, +1:30", ReservationDates(NOON_S, NOON_S + 5400)),
        ("2030-05-04 12:00:00", ReservationDates(int(datetime(2030, 5, 4, 12).astimezone().timestamp()))),
    ],
)
def test_dates_are_local_unless_they_say_otherwise(text: str, dates: ReservationDates) -> None:
    assert parse_reservation(text, NOW) == dates


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31 23:59:59",
        "now, 2300-01-01 00:00:00",
        "1950-01-01 00:00:00",
        "",
        "yesterday",
        "2030-13-01 10:00:00",
        "now, now",
        "2030-05-04 12:00:00,",
        "9999999-01-01 00:00:00",
    ],
)
def test_what_is_no_date_is_refused_with_its_own_status(text: str) -> None:
    with pytest.raises(SyntaxRefused) as refusal:
        parse_reservation(text, NOW)

    assert refusal.value.exit_status == 7


def test_a_reservation_needs_no_command_and_comes_through() -> None:
    asked = Submission("", "/home", reservation=ReservationDates(None, NOON_S))

    assert Submission.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.mark.parametrize(
    "dates", [[], [1], ["now", None], [NOON_S, NOON_S], [-5, None], [None, 10**12], {"start": 1}, [1.5, None]]
)
def test_dates_that_are_none_are_refused_on_the_server_too(dates: object) -> None:
    document = Submission("true", "/home").to_json() | {"reservation": dates}

    with pytest.raises(SyntaxRefused, match="are not the dates of a reservation"):
        Submission.from_json(document)
