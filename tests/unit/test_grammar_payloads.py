"""What clients ask and what the server answers."""

import json

import pytest

from oarpy.errors import SyntaxRefused
from oarpy.model.dependencies import Dependency
from oarpy.model.filter_grammar import parse_filter
from oarpy.model.notifications import Notification
from oarpy.model.payloads import (
    Estimate,
    JobOutcome,
    JobsAnswer,
    JobSelection,
    Refusal,
    Submission,
    Submitted,
    refusal_in,
)
from oarpy.model.resource_grammar import parse_wishes
from oarpy.model.states import DependencyKind


def through_json(document):
    return json.loads(json.dumps(document))


def test_a_submission_arrives_as_it_was_sent():
    submission = Submission(
        command="cd x\necho 'ü'",
        directory="/home/alice",
        wishes=parse_wishes(["host=1,walltime=1", "walltime=2"]),
        resources=("host=1,walltime=1", "walltime=2"),
        properties="mem > 3",
        filter=parse_filter("mem > 3"),
        queue="default",
        name="a name",
        project="p",
        types=("besteffort", "x=1"),
        stdout="out.%jobid%",
        stderr="/tmp/err",
        notify=Notification("mail", "a@b", ("END",)),
        checkpoint_s=60,
        signal=10,
        hold=True,
        dependencies=(Dependency(3, DependencyKind.AFTEROK, (None, 60)),),
        array_count=5,
        initial_request="oarsub -l host=1",
        umask=0o077,
        dry_run=True,
    )

    assert Submission.from_json(through_json(submission.to_json())) == submission


def test_what_was_not_said_arrives_as_not_said():
    submission = Submission(command="true", directory="/")

    assert Submission.from_json(through_json(submission.to_json())) == submission


@pytest.mark.parametrize(
    "change",
    [
        {"command": None},
        {"command": ""},
        {"command": " \n"},
        {"command": 5},
        {"command": "a\0b"},
        {"command": "\ud800"},
        {"command": "x" * 1_048_577},
        {"directory": None},
        {"directory": "relative"},
        {"directory": "/a\nb"},
        {"directory": "/" + "x" * 5000},
        {"wishes": "core=1"},
        {"wishes": [[[[[["core", 0]], None]], None]]},
        {"filter": "a = 1"},
        {"filter": ["=", "a; DROP TABLE jobs", 1]},
        {"queue": ""},
        {"queue": "a\nb"},
        {"name": "x" * 256},
        {"name": "a\x1b[2Jb"},
        {"project": ["p"]},
        {"types": "besteffort"},
        {"types": ["a b"]},
        {"types": [1]},
        {"notify": "mail:a"},
        {"notify": {"method": "exec", "target": "/bin/x;y", "tags": []}},
        {"notify": {"method": "mail", "target": "a", "tags": ["X"]}},
        {"notify": {"method": "mail", "target": "a", "tags": [], "extra": 1}},
        {"checkpoint_s": 0},
        {"checkpoint_s": 1.5},
        {"checkpoint_s": True},
        {"signal": 65},
        {"hold": 1},
        {"dependencies": [[0, "after", None, None]]},
        {"dependencies": [[1, "before", None, None]]},
        {"dependencies": [[1, "after", "x", None]]},
        {"dependencies": [[1, "after"]]},
        {"array_count": 0},
        {"array_count": 10**9},
        {"array_count": 2, "parameters": ["a"]},
        {"parameters": [1]},
        {"umask": 0o1000},
        {"umask": -1},
        {"job_user": "root"},
    ],
)
def test_a_submission_that_no_command_writes_is_refused(change):
    document = Submission(command="true", directory="/").to_json() | change

    with pytest.raises(SyntaxRefused) as refusal:
        Submission.from_json(document)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("document", [None, [], "x", 1])
def test_only_an_object_is_a_payload(document):
    with pytest.raises(SyntaxRefused):
        Submission.from_json(document)
    with pytest.raises(SyntaxRefused):
        JobSelection.from_json(document)


def test_a_selection_arrives_as_it_was_sent():
    selection = JobSelection(job_ids=(1, 2), array_ids=(3,), signal=15)

    assert JobSelection.from_json(through_json(selection.to_json())) == selection


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"job_ids": []},
        {"job_ids": [0]},
        {"job_ids": [-1]},
        {"job_ids": ["1"]},
        {"job_ids": [True]},
        {"job_ids": [2**63]},
        {"job_ids": list(range(1, 100_002))},
        {"job_ids": [1], "signal": 0},
        {"job_ids": [1], "sql": "true"},
    ],
)
def test_a_selection_that_no_command_writes_is_refused(document):
    with pytest.raises(SyntaxRefused):
        JobSelection.from_json(document)


def test_an_array_of_ten_thousand_is_answered_with_one_pair():
    answer = Submitted(tuple(range(5, 10_005)), 5, ("a warning",), (Estimate("-l x", None, 60, ("h",), "why"),))

    document = through_json(answer.to_json())

    assert document["job_ids"] == [[5, 10_005]]
    assert Submitted.from_json(document) == answer


def test_ids_with_a_gap_are_answered_one_by_one():
    answer = Submitted((1, 2, 9))

    assert Submitted.from_json(through_json(answer.to_json())) == answer


def test_outcomes_arrive_as_they_were_sent():
    answer = JobsAnswer((JobOutcome(1, "REGISTERED"), JobOutcome(2, "REFUSED", 1, "job 2 belongs to bob")))

    assert JobsAnswer.from_json(through_json(answer.to_json())) == answer


def test_a_refusal_is_told_from_an_answer():
    assert refusal_in(Refusal(8, "no").to_json()) == Refusal(8, "no")
    assert refusal_in(JobsAnswer(()).to_json()) is None
