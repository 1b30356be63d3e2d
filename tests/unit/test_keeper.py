"""One keeper for an instance, whatever another one does in that instant."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from oarpy.almighty import keeper
from oarpy.instance import Instance


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    (tmp_path / "run").mkdir()
    return Instance(str(tmp_path))


def test_there_is_one_keeper(instance: Instance) -> None:
    first = keeper._only_one(instance)
    second = keeper._only_one(instance)

    assert first is not None
    assert second is None
    assert Path(instance.run_dir, "keeper.pid").read_text() == f"{os.getpid()}\n"
    os.close(first)


def test_a_keeper_does_not_lock_a_file_that_the_one_before_removes(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(instance.run_dir, "keeper.pid")
    flock = fcntl.flock

    def lock_after_the_other_ended(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_other_ended)

    first = keeper._only_one(instance)

    assert first is not None
    assert path.read_text() == f"{os.getpid()}\n"
    assert keeper._only_one(instance) is None
    os.close(first)
