"""``--sql`` of the listings: a filter as a condition with bound values.

The text of the user has been parsed to a tree; what reaches the statement are the
expressions of ``columns``, fixed operators, and values bound by the driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from oarpy.errors import RequestRefused
from oarpy.model.columns import LARGE, SMALL, Column, Kind, fitting, is_whole
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
from oarpy.model.wording import did_you_mean, excerpt


def condition(tree: Filter, columns: Mapping[str, Column], parameters: list[str]) -> str:
    """SQL for ``tree``, whose values are appended to ``parameters``.

    Values are bound as text, which PostgreSQL reads as the column's own type.

    Raises:
        RequestRefused: a property is none of ``columns``, or a value none that it can have.
    """
    now = datetime.now().astimezone()

    def bound(name: str, *values: Value) -> str:
        texts = [fitting(name, columns[name], value, now) for value in values]
        parameters.extend(texts)
        return ", ".join(_placeholder(columns[name], text) for text in texts)

    def column(name: str) -> str:
        if name not in columns:
            meant = did_you_mean(name, columns) or f"; these are: {', '.join(sorted(columns))}"
            raise RequestRefused(f"there is no column {excerpt(name)}{meant}")
        return columns[name].sql

    def equal_to(name: str, values: Sequence[Value]) -> str:
        usual = column(name)
        indexed = columns[name].indexed
        if indexed and all(float(fitting(name, columns[name], value, now)) for value in values):
            return indexed
        return usual

    match tree:
        case Comparison(name, "=", value):
            return f"{equal_to(name, [value])} = {bound(name, value)}"
        case Comparison(name, operator, value):
            return f"{column(name)} {operator} {bound(name, value)}"
        case Membership(name, values, False):
            return f"{equal_to(name, values)} IN ({bound(name, *values)})"
        case Membership(name, values, negated):
            return f"{column(name)} {'NOT ' if negated else ''}IN ({bound(name, *values)})"
        case Like(name, pattern, negated):
            text = f"{column(name)}::text"
            parameters.append(pattern)
            return f"{text} {'NOT ' if negated else ''}LIKE %s"
        case Between(name, low, high, negated):
            return f"{column(name)} {'NOT ' if negated else ''}BETWEEN {bound(name, low)} AND {bound(name, high)}"
        case IsNull(name, negated):
            return f"{column(name)} IS {'NOT ' if negated else ''}NULL"
        case Constant(value):
            return "true" if value else "false"
        case Not(operand):
            return f"NOT ({condition(operand, columns, parameters)})"
        case And(operands):
            return " AND ".join(f"({condition(operand, columns, parameters)})" for operand in operands)
        case Or(operands):
            return " OR ".join(f"({condition(operand, columns, parameters)})" for operand in operands)


def _placeholder(column: Column, text: str) -> str:
    # Any number may be compared with an integer, which keeps its index where it may.
    if column.kind is Kind.INTEGER and not is_whole(text, column.highest):
        return "%s::bigint" if column.highest == SMALL and is_whole(text, LARGE) else "%s::numeric"
    return "%s"
