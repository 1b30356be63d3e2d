"""How the runner goes on with hosts that fail."""

from __future__ import annotations

from oarpy.modules.runner import OUTAGE_RETRY_MAX_S
from oarpy.modules.sessions import RETRY_MAX_S, RETRY_S, retry_after_s


def test_a_host_is_left_alone_twice_as_long_after_each_failure() -> None:
    assert [retry_after_s(failures) for failures in (0, 1, 2)] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S]


def test_a_host_that_fails_for_days_is_tried_again() -> None:
    assert retry_after_s(100_000) == RETRY_MAX_S


def test_a_database_that_is_away_is_tried_soon_and_then_every_second() -> None:
    waits = [retry_after_s(absences, OUTAGE_RETRY_MAX_S) for absences in range(6)]

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
