"""Until when ^C deletes the job of an oarsub that waits."""

from __future__ import annotations

from typing import cast

import pytest

from oarpy.client.abandoning import DeletedIfInterrupted
from oarpy.client.api import Client
from oarpy.errors import RequestRefused


class Deletions:
    """Stands in the place of a client, and keeps what it was to delete."""

    def __init__(self) -> None:
        self.job_ids: list[int] = []

    def cancel(self, job_id: int) -> None:
        self.job_ids.append(job_id)


def test_an_interrupt_deletes_the_job_and_says_so() -> None:
    deletions = Deletions()

    with (
        pytest.raises(RequestRefused, match="interrupted; job 7 was deleted"),
        DeletedIfInterrupted(cast(Client, deletions), 7),
    ):
        raise KeyboardInterrupt

    assert deletions.job_ids == [7]


def test_a_job_that_was_let_go_is_not_deleted() -> None:
    deletions = Deletions()

    def interrupted() -> None:
        with DeletedIfInterrupted(cast(Client, deletions), 7) as let_go:
            let_go()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert deletions.job_ids == []


def test_what_went_wrong_is_no_interrupt() -> None:
    deletions = Deletions()

    with pytest.raises(ValueError, match="wrong"), DeletedIfInterrupted(cast(Client, deletions), 7):
        raise ValueError("wrong")

    assert deletions.job_ids == []
