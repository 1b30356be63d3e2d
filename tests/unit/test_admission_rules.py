"""Rules of admission: those of a site, and those that come with oarpy."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from oarpy.actions import rules
from oarpy.actions.admission import Refuse, Submission, WantedAlternative, WantedGroup
from oarpy.actions.rules import RuleBook, Source
from oarpy.instance import shared
from oarpy.model.filter_grammar import parse_filter, render_filter
from oarpy.model.request import Level
from oarpy.settings import Jobs


def wish(
    *,
    only: str | None = None,
    level: str = "core",
    walltime: timedelta | None = None,
    queue: str | None = None,
    types: tuple[str, ...] = (),
    user: str = "alice",
) -> Submission:
    group = WantedGroup([Level(level, 1)], None if only is None else parse_filter(only))
    return Submission(
        user=user,
        site=Jobs(),
        command="true",
        directory="/tmp",
        alternatives=[WantedAlternative([group], walltime)],
        queue=queue,
        types=list(types),
    )


def admitted(submission: Submission) -> Submission:
    """The submission after the rules that come with oarpy."""
    rules.admit(RuleBook(shared("conf", "admission_rules.d")).rules(), submission)
    return submission


def filters_of(submission: Submission) -> list[str]:
    return [render_filter(group.filter) if group.filter else "" for group in submission.groups]


def write_rule(directory: Path, name: str, body: str) -> None:
    (directory / name).write_text(f"from oarpy.actions.admission import Refuse\ndef admit(submission):\n    {body}\n")


def test_a_job_without_a_queue_goes_to_the_default_queue() -> None:
    submission = admitted(wish())

    assert submission.queue == "default"


@pytest.mark.parametrize("user", ["root", "oar"])
def test_accounts_of_the_system_have_no_jobs(user: str) -> None:
    with pytest.raises(Refuse, match=user):
        admitted(wish(user=user))


def test_the_queue_admin_is_closed_to_those_outside_its_group() -> None:
    with pytest.raises(Refuse, match="members of the group admin"):
        admitted(wish(queue="admin", user="nobody"))


def test_a_system_property_is_no_level_of_a_request() -> None:
    with pytest.raises(Refuse, match="drain"):
        admitted(wish(level="drain"))


def test_the_type_besteffort_brings_the_queue_and_the_resources() -> None:
    submission = admitted(wish(types=("besteffort",)))

    assert submission.queue == "besteffort"
    assert filters_of(submission) == ["besteffort = 'YES' AND type = 'default'"]


def test_the_queue_besteffort_brings_the_type_and_the_resources() -> None:
    submission = admitted(wish(queue="besteffort", only="mem > 4"))

    assert submission.types == ["besteffort"]
    assert filters_of(submission) == ["mem > 4 AND besteffort = 'YES' AND type = 'default'"]


def test_the_user_is_told_when_the_type_besteffort_overrides_the_queue() -> None:
    submission = admitted(wish(queue="admin2", types=("besteffort",)))

    assert submission.warnings == ["a job of type besteffort goes to the queue besteffort, not admin2"]


def test_a_walltime_that_was_not_named_is_the_site_s() -> None:
    submission = admitted(wish())

    assert submission.walltime_longest == timedelta(hours=2)


def test_a_walltime_that_was_named_is_kept() -> None:
    submission = admitted(wish(walltime=timedelta(minutes=5)))

    assert submission.walltime_longest == timedelta(minutes=5)


def test_a_group_that_speaks_of_the_type_keeps_its_own_words() -> None:
    submission = admitted(wish(only="type = 'licence'"))

    assert filters_of(submission) == ["type = 'licence'"]


def test_any_job_type_is_accepted() -> None:
    submission = admitted(wish(types=("origin=execo", "devel")))

    assert submission.types == ["origin=execo", "devel"]


def test_rules_are_called_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_rule(tmp_path, "100_last.py", "submission.warn('100')")
    write_rule(tmp_path, "20_first.py", "submission.warn('20')")
    row = Source(30, "of the table", "def admit(submission): submission.warn('30')")
    submission = wish()

    rules.admit(RuleBook(str(tmp_path)).rules([row]), submission)

    assert submission.warnings == ["20", "30", "100"]


def test_a_rule_refuses_with_its_own_sentence(tmp_path: Path) -> None:
    write_rule(tmp_path, "1_no.py", "raise Refuse('not on Sundays')")

    with pytest.raises(Refuse, match=r"^not on Sundays$") as caught:
        rules.admit(RuleBook(str(tmp_path)).rules(), wish())

    assert caught.value.exit_status == 254


@pytest.mark.parametrize("body", ["1 / 0", "raise SystemExit(3)"])
def test_a_rule_that_crashes_refuses_and_names_itself(
    tmp_path: Path, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_rule(tmp_path, "7_broken.py", body)

    with pytest.raises(Refuse, match=r"7_broken\.py failed"):
        rules.admit(RuleBook(str(tmp_path)).rules(), wish())

    assert "Traceback" in caplog.text


@pytest.mark.parametrize("text", ["def admit(", "admit = 3", "raise SystemExit", "x = 1", "while True: pass"])
def test_a_rule_that_cannot_be_loaded_refuses_everything(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "LOAD_S", 0.1)
    (tmp_path / "5_bad.py").write_text(text)
    caplog.set_level(logging.CRITICAL)

    with pytest.raises(Refuse, match=r"5_bad\.py cannot be loaded"):
        rules.admit(RuleBook(str(tmp_path)).rules(), wish())


def test_a_directory_that_is_gone_refuses_everything(tmp_path: Path) -> None:
    with pytest.raises(Refuse, match="cannot be loaded"):
        rules.admit(RuleBook(str(tmp_path / "gone")).rules(), wish())


def test_a_rule_that_was_edited_is_loaded_again(tmp_path: Path) -> None:
    book = RuleBook(str(tmp_path))
    write_rule(tmp_path, "1_rule.py", "submission.warn('a')")
    book.rules()
    write_rule(tmp_path, "1_rule.py", "submission.warn('b')")
    submission = wish()

    rules.admit(book.rules(), submission)

    assert submission.warnings == ["b"]


def test_a_rule_that_did_not_change_is_loaded_once(tmp_path: Path) -> None:
    book = RuleBook(str(tmp_path))
    write_rule(tmp_path, "1_rule.py", "pass")

    first, again = book.rules(), book.rules()

    assert first[0] is again[0]


def test_a_rule_that_was_removed_is_called_no_more(tmp_path: Path) -> None:
    book = RuleBook(str(tmp_path))
    write_rule(tmp_path, "1_rule.py", "raise Refuse('no')")
    book.rules()
    (tmp_path / "1_rule.py").unlink()

    assert book.rules() == ()
