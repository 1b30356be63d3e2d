"""What a program gives to ``oarpy.client`` is looked at before the server is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oarpy.client import api
from oarpy.errors import SyntaxRefused
from oarpy.model.payloads import Submission, Submitted


class Recorded(api.Client):
    """Sends nothing, and remembers what it would have sent."""

    sent: Submission | None = None

    def send(self, submission: Submission, key: str | None = None) -> Submitted:
        self.sent = submission
        return Submitted((), None)


@pytest.mark.parametrize(
    "options",
    [{"resources": "/core=1"}, {"types": "noop"}, {"after": "12"}, {"after": 12}, {"parameters": "abc"}],
    ids=repr,
)
def test_one_text_is_not_taken_for_a_list_of_letters(options: dict[str, Any]) -> None:
    mine = Recorded()

    with pytest.raises(TypeError, match=f"^{next(iter(options))} is a list, such as "):
        mine.submit("true", **options)

    assert mine.sent is None


def test_the_words_of_a_command_may_be_paths() -> None:
    mine = Recorded()

    mine.submit([Path("/opt/my solver"), "-n", "2"])

    assert mine.sent is not None
    assert mine.sent.command == "'/opt/my solver' -n 2"


@pytest.mark.parametrize("call", [api.Client.wait, api.Client.jobs, api.Client.feed])
def test_jobs_are_named_in_a_list_by_numbers(call: Any) -> None:
    def said(ids: object) -> str:
        with pytest.raises((TypeError, SyntaxRefused)) as refusal:
            call(Recorded(), job_ids=ids)
        return str(refusal.value)

    assert said(5) == "job_ids is a list, such as [5], not 5 alone"
    assert said("5") == "job_ids is a list, such as ['5'], not '5' alone"
    assert "is not the id of a job" in said(["5"])
    assert "is not the id of a job" in said([10**30])
