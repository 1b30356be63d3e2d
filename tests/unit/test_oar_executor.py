"""``OarExecutor`` where its threads meet; the rest is tested on a running instance."""

from __future__ import annotations

from typing import Any

import pytest

from oarpy.client import api
from oarpy.client.executor import OarExecutor
from oarpy.errors import OarError


class Over(OarError):
    """What every job of this test comes to."""


def test_a_call_that_is_being_submitted_at_the_shutdown_is_watched_all_the_same(monkeypatch, tmp_path):
    executor = OarExecutor(directory=str(tmp_path))
    submitted = iter([1, 2])

    def submit(*words: Any, **options: Any) -> Any:
        job_id = next(submitted)
        if job_id == 2:
            executor.shutdown()
        return api.Submitted((job_id,), None)

    monkeypatch.setattr(api, "submit", submit)
    monkeypatch.setattr(executor, "_watch_these", lambda job_ids: executor._fail(job_ids, Over()))

    first, second = executor.submit(abs, 1), executor.submit(abs, 2)

    for future in (first, second):
        with pytest.raises(Over):
            future.result(timeout=20)
