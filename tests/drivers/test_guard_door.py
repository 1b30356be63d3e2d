"""How a guard leaves: nobody who came to it is left standing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oarpy.node.oarexec.links import Links
from oarpy.node.oarexec.loop import Loop


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Links]:
    """A guard's, whose door is in the current directory."""
    monkeypatch.chdir(tmp_path)
    nobody: Any = None
    links = Links(nobody, nobody, Loop(), nobody, nobody, nobody, nobody)
    yield links
    for link in links._links.values():
        link.socket.close()
    links._listener.close()


def come() -> socket.socket:
    session = socket.socket(socket.AF_UNIX)
    session.connect("guard.sock")
    return session


def test_who_came_just_before_is_let_in_and_the_door_stays(links: Links) -> None:
    with come(), come():
        assert not links.leave()

        assert len(links) == 2
        come().close()


def test_who_comes_later_finds_that_nobody_is_there(links: Links) -> None:
    assert links.leave()

    with pytest.raises(FileNotFoundError):
        come()


def test_a_guard_leaves_though_its_spool_is_gone(links: Links) -> None:
    Path("guard.sock").unlink()

    assert links.leave()
