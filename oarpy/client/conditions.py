"""``--sql`` of the listings: a filter as a condition with bound values.

The text of the user has been parsed to a tree; what reaches the statement are the
expressions of ``columns``, fixed operators, and values bound by the driver.
"""

from __future__ import annotations

from collections.abc import Mapping

from oarpy.errors import RequestRefused
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
from oarpy.model.wording import excerpt


def condition(tree: Filter, columns: Mapping[str, str], parameters: list[str]) -> str:
    """SQL for ``tree``, whose values are appended to ``parameters``.

    Values are bound as text, which PostgreSQL reads as the column's own type.

    Raises:
        RequestRefused: a property is none of ``columns``.
    """

    def bound(*values: Value) -> str:
        parameters.extend(str(value) for value in values)
        return ", ".join(["%s"] * len(values))

    def column(name: str) -> str:
        if name not in columns:
            raise RequestRefused(f"there is no column {excerpt(name)}; these are: {', '.join(sorted(columns))}")
        return columns[name]

    match tree:
        case Comparison(name, operator, value):
            return f"{column(name)} {operator} {bound(value)}"
        case Membership(name, values, negated):
            return f"{column(name)} {'NOT ' if negated else ''}IN ({bound(*values)})"
        case Like(name, pattern, negated):
            return f"{column(name)}::text {'NOT ' if negated else ''}LIKE {bound(pattern)}"
        case Between(name, low, high, negated):
            return f"{column(name)} {'NOT ' if negated else ''}BETWEEN {bound(low)} AND {bound(high)}"
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
