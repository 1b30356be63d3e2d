"""Property filters as trees.

A filter looks like SQL (``-p "mem > 16 AND host LIKE 'c%'"``) and is not: the
parser yields the nodes below, and only they reach the scheduler's predicate or,
as bound parameters, a statement.  No text of a user becomes SQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Value: TypeAlias = "int | float | str"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``property operator value`` with operator one of = != < <= > >=."""

    property: str
    operator: str
    value: Value


@dataclass(frozen=True, slots=True)
class Membership:
    """``property [NOT] IN (values)``."""

    property: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Like:
    """``property [NOT] LIKE pattern``; ``%`` any text, ``_`` any character."""

    property: str
    pattern: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Between:
    """``property [NOT] BETWEEN low AND high``, both included."""

    property: str
    low: Value
    high: Value
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull:
    """``property IS [NOT] NULL``."""

    property: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    operand: Filter


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """TRUE or FALSE."""

    value: bool


Filter: TypeAlias = Comparison | Membership | Like | Between | IsNull | Not | And | Or | Constant
