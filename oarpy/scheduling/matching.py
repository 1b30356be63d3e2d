"""Which resources a property filter matches, by SQL's three-valued logic.

A comparison with an unknown value is neither true nor false, and neither is its
negation; only what is true matches.  Unlike SQL, a filter forgives the spelling
of values: ``'16'`` equals 16, and ``'YES'`` equals true.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

from oarpy.model.filters import (
    And,
    Between,
    Comparison,
    Constant,
    Filter,
    IsNull,
    Like,
    Membership,
    Not,
    Or,
    Value,
)
from oarpy.scheduling.bits import Bits, packed

Test: TypeAlias = Callable[[Any], bool]

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TRUTH: Mapping[str, bool] = {
    "yes": True,
    "true": True,
    "t": True,
    "1": True,
    "no": False,
    "false": False,
    "f": False,
    "0": False,
}


class PropertyUnknown(LookupError):
    """No resource has a property of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Verdict(NamedTuple):
    """Where a filter holds and where its negation does; elsewhere it is unknown."""

    true: Bits
    false: Bits


def evaluate(condition: Filter, properties: Mapping[str, Sequence[object]], everything: Bits) -> Verdict:
    """What ``condition`` says of each resource; bit i speaks of ``properties[name][i]``.

    Raises:
        PropertyUnknown: it names a property that is not among ``properties``.
    """
    match condition:
        case Not(operand):
            verdict = evaluate(operand, properties, everything)
            return Verdict(true=verdict.false, false=verdict.true)
        case And(operands):
            verdicts = [evaluate(operand, properties, everything) for operand in operands]
            return Verdict(
                true=reduce(operator.and_, (v.true for v in verdicts), everything),
                false=reduce(operator.or_, (v.false for v in verdicts), 0),
            )
        case Or(operands):
            verdicts = [evaluate(operand, properties, everything) for operand in operands]
            return Verdict(
                true=reduce(operator.or_, (v.true for v in verdicts), 0),
                false=reduce(operator.and_, (v.false for v in verdicts), everything),
            )
        case Constant(value):
            return Verdict(everything, 0) if value else Verdict(0, everything)
        case IsNull(name, negated):
            unknown = packed(value is None for value in _column(name, properties))
            return _signed(Verdict(unknown, everything ^ unknown), negated)
        case Comparison(name, symbol, literal):
            compare = _OPERATORS[symbol]
            return _where(_column(name, properties), lambda value: compare(*_comparable(value, literal)))
        case Membership(name, values, negated):
            found = _where(_column(name, properties), lambda value: any(_equal(value, one) for one in values))
            return _signed(found, negated)
        case Between(name, low, high, negated):
            inside = _where(_column(name, properties), lambda value: _between(value, low, high))
            return _signed(inside, negated)
        case Like(name, pattern, negated):
            expression = _expression(pattern)
            alike = _where(_column(name, properties), lambda value: bool(expression.fullmatch(_text(value))))
            return _signed(alike, negated)


def _column(name: str, properties: Mapping[str, Sequence[object]]) -> Sequence[object]:
    try:
        return properties[name]
    except KeyError:
        raise PropertyUnknown(name) from None


def _where(column: Sequence[object], test: Test) -> Verdict:
    # A column has far fewer different values than resources.  Its type is part of
    # the key because True, 1 and 1.0 are one key of a dict but not one spelling.
    answers: dict[tuple[type, object], bool] = {}
    for value in column:
        if value is not None and (type(value), value) not in answers:
            answers[type(value), value] = test(value)
    true = packed(value is not None and answers[type(value), value] for value in column)
    known = packed(value is not None for value in column)
    return Verdict(true, known ^ true)


def _signed(verdict: Verdict, negated: bool) -> Verdict:
    return Verdict(verdict.false, verdict.true) if negated else verdict


def _comparable(value: object, literal: Value) -> tuple[Any, Any]:
    """Both sides as what can be compared: truth values, else numbers, else texts."""
    if isinstance(value, bool):
        truth = _TRUTH.get(str(literal).lower())
        if truth is not None:
            return value, truth
    else:
        left, right = _number(value), _number(literal)
        if left is not None and right is not None:
            return left, right
    return _text(value), _text(literal)


def _equal(value: object, literal: Value) -> bool:
    left, right = _comparable(value, literal)
    return bool(left == right)


def _between(value: object, low: Value, high: Value) -> bool:
    left, floor = _comparable(value, low)
    right, ceiling = _comparable(value, high)
    return bool(left >= floor and right <= ceiling)


def _number(value: object) -> int | float | None:
    if isinstance(value, (int, float)):
        return value
    try:
        return float(str(value))
    except ValueError:
        return None


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "YES" if value else "NO"
    return str(value)


def _expression(pattern: str) -> re.Pattern[str]:
    wildcards = {"%": ".*", "_": "."}
    return re.compile("".join(wildcards.get(sign, re.escape(sign)) for sign in pattern), re.DOTALL)
