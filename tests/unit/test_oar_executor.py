"""``OarExecutor`` where its threads meet; the rest is tested on a running instance."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

from oarpy.client import api
from oarpy.client.executor import JobFuture, OarExecutor
from oarpy.client.waiting import Watched
from oarpy.errors import OarError


class Over(OarError):
    """What every job of this test comes to."""


def over(job_id: int) -> Watched:
    return Watched(job_id, job_id, "Terminated", 0, "exit")


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
            future.result(timeout=60)


def test_a_result_that_is_seen_late_keeps_no_other_waiting(tmp_path):
    executor = OarExecutor(directory=str(tmp_path))
    place = tmp_path / "late"
    place.mkdir()
    future: JobFuture[int] = JobFuture(1)
    executor._calls[1] = (future, str(place))

    executor._tell(over(1))
    told_at_once = future.done()
    (place / "result").write_bytes(pickle.dumps((True, 42)))
    executor._tell(over(1))

    assert not told_at_once
    assert future.result(timeout=0) == 42


def test_an_executor_is_not_another_process_s(monkeypatch, tmp_path):
    executor = OarExecutor(directory=str(tmp_path))
    monkeypatch.setattr(os, "getpid", lambda: executor._process + 1)

    with pytest.raises(RuntimeError, match="make one after the fork"):
        executor.submit(abs, 1)
    executor.shutdown()

    assert os.listdir(executor._directory) == ["run_call.py"]


def test_what_cannot_be_pickled_leaves_nothing(tmp_path):
    executor = OarExecutor(directory=str(tmp_path))

    with pytest.raises(TypeError):
        executor.submit(abs, executor._lock)

    assert os.listdir(executor._directory) == ["run_call.py"]


def test_calls_that_are_given_up_together_are_deleted_by_one_request(monkeypatch, tmp_path):
    executor = OarExecutor(directory=str(tmp_path))
    futures = [JobFuture[int](job_id) for job_id in (1, 2, 3, 4)]
    futures[0].set_running_or_notify_cancel()
    executor._calls = {future.job_id: (future, str(tmp_path / "none")) for future in futures}
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(api, "cancel", lambda *job_ids: asked.append(job_ids))

    cancelled = futures[1].cancel(), futures[1].cancel(), futures[0].cancel()
    executor.shutdown(wait=False, cancel_futures=True)

    assert cancelled == (True, True, False)
    assert asked == [(2,), (3, 4)]
    assert [future.cancelled() for future in futures] == [False, True, True, True]
