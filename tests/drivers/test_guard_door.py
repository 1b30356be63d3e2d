"""How a guard leaves: nobody who came to it is left standing."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from oarpy.node.oarexec.guard import Guard


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """As much of one as has to do with its door, which is in the current directory."""
    monkeypatch.chdir(tmp_path)
    guard = object.__new__(Guard)
    guard.links = {}
    with socket.socket(socket.AF_UNIX) as guard.listener, select.epoll() as guard.poll:
        guard.listener.bind("guard.sock")
        guard.listener.listen(16)
        guard.listener.setblocking(False)
        yield guard
        for link in guard.links.values():
            link.socket.close()


def come() -> socket.socket:
    session = socket.socket(socket.AF_UNIX)
    session.connect("guard.sock")
    return session


def test_who_came_just_before_is_let_in_and_the_door_stays(guard: Guard) -> None:
    with come(), come():
        assert not guard._leaves()

        assert len(guard.links) == 2
        come().close()


def test_who_comes_later_finds_that_nobody_is_there(guard: Guard) -> None:
    assert guard._leaves()

    with pytest.raises(FileNotFoundError):
        come()


def test_a_guard_leaves_though_its_spool_is_gone(guard: Guard) -> None:
    Path("guard.sock").unlink()

    assert guard._leaves()
