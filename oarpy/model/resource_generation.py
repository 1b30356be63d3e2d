"""Resources that are generated: text to one row of properties for each smallest thing.

::

    expression := level+
    level      := '/' property '=' pattern        the first one names the host
    pattern    := text with at most one group in braces
    group      := '{' count '}'  |  '{' range (',' range)* '}'
    range      := number | number '-' number      leading zeros are kept

``/host=node-{01-16}.grid/cpu={2}/core={8}`` means sixteen hosts with two processors
of eight cores each: 256 resources.  A group that is all of a pattern, and a count,
numbers what it makes across all hosts, since ``/core=1`` means one value of ``core``
wherever it is; any other makes the same values below each.  In a name, ``{4}`` is
``{1-4}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.identifiers import property_name
from oarpy.model.wording import excerpt

#: Rows that one expression may make.
MOST_ROWS = 200_000
#: What the first level may be called: all of them are the host.
HOST = ("host", "nodes", "node", "network_address")

_LEVEL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*) *= *([^/]+)")
_GROUP = re.compile(r"([^{}]*)(?:\{([^{}]*)\}([^{}]*))?")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


class Level(NamedTuple):
    """``counted``: its values are ``number`` fresh numbers below each of the level above; else ``values``."""

    name: str
    values: tuple[str, ...]
    number: int
    counted: bool


def parse_generation(text: str) -> tuple[Level, ...]:
    """The levels of an expression, the host first.

    Raises:
        SyntaxRefused: it does not follow the grammar, or would make too many rows.
    """
    parts = text.strip().split("/")
    if len(parts) < 2 or parts[0]:
        raise SyntaxRefused(f"{excerpt(text)} does not begin with a slash, as in /host=node-{{1-4}}/core={{8}}")
    levels = [_level(part, first=place == 0) for place, part in enumerate(parts[1:])]
    names = [level.name for level in levels]
    if len(set(names)) < len(names):
        raise SyntaxRefused(f"{excerpt(text)} has a property twice")
    if size(levels) > MOST_ROWS:
        raise SyntaxRefused(f"{excerpt(text)} makes {size(levels)} resources; {MOST_ROWS} are the most")
    return tuple(levels)


def size(levels: Sequence[Level]) -> int:
    """How many rows the levels make."""
    rows = 1
    for level in levels:
        rows *= level.number
    return rows


def generated(levels: Sequence[Level], first: Mapping[str, int] | None = None) -> Iterator[dict[str, str]]:
    """The rows; what is numbered begins at ``first``, by default at 0."""
    begins = first or {}
    for path in product(*(range(level.number) for level in levels)):
        row = {}
        # Which of all things of its level it is.
        ordinal = 0
        for level, place in zip(levels, path, strict=True):
            ordinal = ordinal * level.number + place
            row[level.name] = str(begins.get(level.name, 0) + ordinal) if level.counted else level.values[place]
        yield row


def _level(text: str, *, first: bool) -> Level:
    found = _LEVEL.fullmatch(text.strip())
    if found is None:
        raise SyntaxRefused(f"{excerpt(text)} is not PROPERTY=VALUE")
    name, pattern = property_name(found[1]), found[2].strip()
    if first:
        if name not in HOST:
            raise SyntaxRefused(f"the first level must be host, not {excerpt(name)}")
        name = "host"
    elif name in HOST:
        raise SyntaxRefused("only the first level names the host")
    parts = _GROUP.fullmatch(pattern)
    if parts is None:
        raise SyntaxRefused(f"{excerpt(pattern)} has more than one group in braces, or one that is not closed")
    before, group, after = parts.groups()
    if group is None:
        return Level(name, (pattern,), 1, counted=False)
    values = _values(group)
    if "-" not in group and "," not in group:
        count = int(values[0])
        if count < 1:
            raise SyntaxRefused(f"{excerpt(pattern)} makes nothing")
        if not before and not after and not first:
            return Level(name, (), count, counted=True)
        if count > MOST_ROWS:
            raise SyntaxRefused(f"{excerpt(pattern)} makes {count} values; {MOST_ROWS} are the most")
        values = [str(number) for number in range(1, count + 1)]
    return Level(name, tuple(f"{before}{value}{after}" for value in values), len(values), counted=False)


def _values(group: str) -> list[str]:
    values: list[str] = []
    for part in group.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise SyntaxRefused(f"{{{excerpt(group)}}} is neither a count nor numbers as in {{1-4,7}}")
        low, high = found[1], found[2] or found[1]
        if int(high) < int(low):
            raise SyntaxRefused(f"{excerpt(part)} ends before it begins")
        if int(high) - int(low) + 1 + len(values) > MOST_ROWS:
            raise SyntaxRefused(f"{{{excerpt(group)}}} makes more than {MOST_ROWS} values")
        values += [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    if len(set(values)) < len(values):
        raise SyntaxRefused(f"{{{excerpt(group)}}} has a value twice")
    return values
