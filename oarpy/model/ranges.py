"""Sets of resource ids as PostgreSQL writes and reads an ``int4multirange``: ``{[1,5),[7,8)}``."""

from __future__ import annotations

from collections.abc import Iterable


def parsed_ranges(multirange: str) -> tuple[tuple[int, int], ...]:
    """The half-open ranges in ``multirange``."""
    if multirange == "{}":
        return ()
    pairs = (part.strip("{}[)").split(",") for part in multirange.split("),"))
    return tuple((int(begin), int(end)) for begin, end in pairs)


def written_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    """The multirange of ``ranges``."""
    return "{" + ",".join(f"[{begin},{end})" for begin, end in ranges) + "}"
