"""The last lines of the feed, for those who come back and those who read slowly."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from oarpy.model.feed import Position

#: Lines kept at least; twice as many at most.
BACKLOG = 5000


class Line(NamedTuple):
    """What is sent, and whom it may concern."""

    job_id: int | None
    array_id: int | None
    user: str | None
    text: bytes


class Backlog:
    """The lines after the position ``begin``, in the order of the feed."""

    def __init__(self) -> None:
        self.begin = Position(0, 0)
        self._positions: list[Position] = []
        self._lines: list[Line] = []

    def start(self, begin: Position) -> None:
        """Forget all; what comes is after ``begin``."""
        self.begin = begin
        self._positions.clear()
        self._lines.clear()

    def add(self, position: Position, line: Line) -> None:
        if len(self._lines) >= 2 * BACKLOG:
            self.begin = self._positions[BACKLOG - 1]
            del self._positions[:BACKLOG], self._lines[:BACKLOG]
        self._positions.append(position)
        self._lines.append(line)

    def after(self, position: Position) -> Iterator[tuple[Position, Line]]:
        """The lines after ``position``, which must not be before ``begin``."""
        for index in range(bisect_right(self._positions, position), len(self._lines)):
            yield self._positions[index], self._lines[index]
