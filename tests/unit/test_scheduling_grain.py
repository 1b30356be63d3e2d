"""Rows of whole blocks."""

from __future__ import annotations

import random

import pytest

from oarpy.scheduling.bits import span
from oarpy.scheduling.grain import Grain
from oarpy.scheduling.partition import Blocks, partition


@pytest.mark.parametrize("seed", range(30))
def test_rows_told_from_their_differences_are_those_of_each_row_alone(seed: int) -> None:
    rng = random.Random(seed)
    labels = [number for number in range(20) for _ in range(rng.randint(1, 9))]
    blocks = partition([None if rng.random() < 0.1 else label for label in labels])
    assert isinstance(blocks, Blocks)
    grain = Grain(blocks)
    rows = [rng.getrandbits(len(labels)) | rng.getrandbits(len(labels)) | rng.getrandbits(len(labels))]
    for _ in range(40):
        low = rng.randrange(len(labels))
        change = span(low, min(low + rng.choice((0, 1, 5, 30)), len(labels)))
        rows.append(rows[-1] | change if rng.random() < 0.6 else rows[-1] & ~change)

    found = grain.whole_in_each(rows)

    assert found == [grain.whole(row) for row in rows]
    assert len(set(found)) > 3
