"""Messages that are not quite what they should be."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

#: What may stand where something else was expected.
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 10**40, 0.5, -0.5, 3456000.0, 1e10, 1e300),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "\0", "\n", "x", "..", "/", "\ud800", "\udcff", "é" * 300, "1" * 5000, "-1", "nan", "began", "kill"),
    *([], [None], [[]], [0, 0], ["x", 1], {}, {"": {}}, {"deflated": "x"}, {"deflated": 1}, {"job": []}),
]


def mutated(message: Any, random: Random) -> Any:
    """``message`` with one or two things that are odd, missing or too much."""
    found = copy.deepcopy(message)
    for _ in range(random.choice((1, 1, 1, 2))):
        found = _changed(found, random)
    return found


def mutated_line(message: Any, random: Random) -> bytes:
    """The same as a line; seldom one that is not even that."""
    line = json.dumps(mutated(message, random)).encode()
    match random.randrange(20):
        case 0:
            line = line[: random.randrange(len(line))]
        case 1:
            at = random.randrange(len(line))
            line = line[:at] + bytes([random.choice([b for b in range(256) if b != 10])]) + line[at + 1 :]
        case 2:
            line = b"[" * random.choice((900, 5000, 100_000)) + line
        case 3:
            name, depth = random.choice((b"hello", b"launches", b"orders", b"reports", b"ping")), 50_000
            line = b'{"' + name + b'": ' + b'{"a": [' * depth + b"]}" * depth + b"}"
    return line + b"\n"


def _changed(message: Any, random: Random) -> Any:
    """``message``, changed in one place, whatever its depth."""
    places = list(_places(message))
    if not places or random.random() < 0.03:
        return copy.deepcopy(random.choice(ODD))
    holder, name = random.choice(places)
    match random.randrange(8):
        case 0:
            del holder[name]
        case 1 if isinstance(holder, list):
            holder += holder
        case 1:
            holder[name] = copy.deepcopy(message)
        case 2:
            other, known = random.choice(places)
            holder[name] = copy.deepcopy(other[known])
        case _:
            holder[name] = copy.deepcopy(random.choice(ODD))
    return message


def _places(message: Any) -> Any:
    """Where something stands in it: what holds it, and by which name or number."""
    names = message.items() if isinstance(message, dict) else enumerate(message) if isinstance(message, list) else ()
    for name, value in names:
        yield message, name
        yield from _places(value)
