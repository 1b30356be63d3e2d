"""Messages that fail again and again."""

from __future__ import annotations

from datetime import timedelta

from oarpy.database import outbox
from tests.support.postgres import TestDatabase


def test_the_delay_before_the_next_try_does_not_grow_for_ever(database: TestDatabase) -> None:
    database.execute(
        "INSERT INTO notifications (tag, method, target, login, attempts) VALUES ('END', 'mail', 'a', 'alice', 32000)"
    )
    failed = outbox.Result(1, False, True, "refused")

    with database.engine.begin() as conn:
        closed = outbox.record(conn, [failed], attempts=32767, retry_delay=timedelta(minutes=1))

    assert closed == []
    assert database.execute("SELECT next_try_at - created_at < interval '1 d' FROM notifications") == [(True,)]
