"""Sets in integers."""

from __future__ import annotations

import itertools
import random

import pytest

from oarpy.scheduling import bits


@pytest.mark.parametrize("few", [0, 3, 10**6])
def test_runs_are_those_of_the_members(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(bits, "_FEW_RUNS", few)
    rng = random.Random(1)
    for size in (1, 7, 64, 1000):
        members = {one for one in range(size) if rng.random() < 0.6} | {size - 1}

        found = list(bits.runs(bits.from_positions(members, size)))

        assert {one for begin, end in found for one in range(begin, end)} == members
        assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(found))
    assert list(bits.runs(0)) == []
