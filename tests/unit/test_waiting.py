"""The parts of waiting and watching that need no server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oarpy.client.following import Follower
from oarpy.client.waiting import Watched
from oarpy.errors import SyntaxRefused
from oarpy.model.feed import FeedEvent, Position, Wanted, parse_event_id, parse_position
from oarpy.model.job_status import exit_status, worst
from oarpy.model.states import EndCause


@pytest.mark.parametrize(
    ("exit_code", "cause", "status"),
    [
        (0, "exit", 0),
        (768, "exit", 3),
        (65280, "exit", 255),
        (9, "signal", 137),
        (139, "signal", 139),  # memory was dumped
        (9, "walltime", 124),
        (0, "walltime", 124),
        (9, "killed", 123),
        (None, "besteffort", 123),
        (9, "out_of_memory", 123),
        (None, "launch_error", 125),
        (0, "node_rebooted", 125),
        (None, "exit", 125),
        (None, None, 125),
    ],
)
def test_the_end_of_a_job_is_an_exit_status(exit_code, cause, status):
    assert exit_status(exit_code, cause) == status


@pytest.mark.parametrize("cause", list(EndCause))
def test_every_end_has_a_status_and_only_that_of_its_own_may_be_0(cause):
    assert (exit_status(0, cause.value) == 0) == (cause in (EndCause.EXIT, EndCause.SIGNAL))


@pytest.mark.parametrize(
    ("statuses", "status"),
    [([], 0), ([0, 0], 0), ([1, 3, 2], 3), ([255, 124], 124), ([124, 123], 123), ([123, 125, 255], 125)],
)
def test_of_many_statuses_what_went_wrong_around_the_jobs_counts_first(statuses, status):
    assert worst(statuses) == status


def test_a_job_that_is_not_over_has_not_succeeded():
    assert not Watched(1, 1, "Running", 0, "exit").succeeded
    assert Watched(1, 1, "Terminated", 0, "exit").succeeded


def test_a_position_is_written_as_it_is_read():
    assert parse_position(str(Position(12, 34))) == Position(12, 34)


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:1", "1:-1", "1:2:3", "9" * 19 + ":1", "²:1", None, 7])
def test_what_is_no_position_is_refused(text):
    with pytest.raises(SyntaxRefused):
        parse_position(text)


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", "²", "9" * 19])
def test_what_is_no_number_of_an_event_is_refused(text):
    with pytest.raises(SyntaxRefused):
        parse_event_id(text)


def test_what_is_wanted_is_written_as_it_is_read():
    wanted = Wanted(frozenset({1, 2}), frozenset({3}), "alice")

    assert Wanted.from_json(wanted.to_json()) == wanted


def test_a_watcher_without_a_wish_wants_everything():
    assert Wanted().covers(None, None, None)
    assert not Wanted(frozenset({1})).covers(2, 1, "alice")
    assert Wanted(array_ids=frozenset({1})).covers(2, 1, "alice")
    assert Wanted(user="alice").covers(2, 1, "alice")


def test_programs_read_no_transactions():
    event = FeedEvent(9, 5, "STATE", 1, 1.5, "Running", ["c1"], "", 1, 1, "alice", None, None, None)

    assert event.to_json() == {
        "event_id": 5,
        "type": "STATE",
        "job_id": 1,
        "date": 1.5,
        "state": "Running",
        "hostnames": ["c1"],
        "description": "",
        "array_id": 1,
        "array_index": 1,
        "user": "alice",
        "name": None,
        "exit_code": None,
        "end_cause": None,
    }


def test_a_file_is_followed_from_its_beginning(tmp_path: Path):
    path, shown = tmp_path / "out", bytearray()
    follower = Follower(str(path), shown.extend)

    follower.step()
    assert follower.problem == "no such file or directory"
    path.write_bytes(b"one")
    follower.step()
    follower.step()
    with path.open("ab") as file:
        file.write(b" two")
    follower.step()

    assert (bytes(shown), follower.problem) == (b"one two", None)


def test_a_file_that_is_replaced_is_followed_anew(tmp_path: Path):
    path, shown = tmp_path / "out", bytearray()
    path.write_bytes(b"another job's")
    follower = Follower(str(path), shown.extend)
    follower.step()

    (tmp_path / "new").write_bytes(b"own, and longer than the other")
    os.replace(tmp_path / "new", path)
    follower.step()

    assert bytes(shown) == b"another job's" + b"own, and longer than the other"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make):
    path, shown = tmp_path / "out", bytearray()
    make(path)
    follower = Follower(str(path), shown.extend)

    follower.step()

    assert bytes(shown) == b""
    assert follower.problem


def test_a_fault_of_the_reader_is_not_taken_for_one_of_the_file(tmp_path: Path):
    def leaves(data: bytes) -> None:
        raise BrokenPipeError

    path = tmp_path / "out"
    path.write_bytes(b"one")
    follower = Follower(str(path), leaves)

    with pytest.raises(BrokenPipeError):
        follower.step()
    assert follower.problem is None
