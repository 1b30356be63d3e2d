"""What the runner knows of jobs on several hosts when a turn is not written."""

from __future__ import annotations

from contextlib import suppress

from oarpy.model.states import JobId
from oarpy.modules.parts import Parts
from oarpy.ports.executor import Attempt

ATTEMPT = Attempt(JobId(7), 1)


class NotWritten(Exception):
    """The commit failed."""


def test_what_a_turn_changes_that_is_not_written_is_put_back():
    parts = Parts(60)
    job = parts.of(ATTEMPT, "c1", ["c2", "c3"], 0)
    job.told.add("c2")

    with suppress(NotWritten), parts.as_written():
        job = parts.of(ATTEMPT, "c1", ["c2", "c3"], 0)
        job.told.add("c3")
        job.head_told = True
        parts.of(Attempt(JobId(8), 1), "c1", ["c2"], 0)
        raise NotWritten

    found = parts.get(ATTEMPT.job_id)
    assert found is not None
    assert (found.told, found.head_told) == ({"c2"}, False)
    assert parts.get(JobId(8)) is None


def test_a_session_that_ends_while_a_turn_is_not_written_has_been_told_nothing():
    parts = Parts(60)
    job = parts.of(ATTEMPT, "c1", ["c2", "c3"], 0)
    job.told.update({"c2", "c3"})
    job.head_told = True

    with suppress(NotWritten), parts.as_written():
        parts.of(ATTEMPT, "c1", ["c2", "c3"], 0)
        parts.session_ended("c1")
        parts.session_ended("c2")
        raise NotWritten

    found = parts.get(ATTEMPT.job_id)
    assert found is not None
    assert (found.told, found.head_told) == ({"c3"}, False)
