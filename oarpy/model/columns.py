"""What a column can hold, and the values that people write for it.

A value that does not fit is refused here, in words; PostgreSQL would name a type.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.filters import Value
from oarpy.model.wording import did_you_mean, excerpt

SMALL, LARGE = 2**31 - 1, 2**63 - 1
_TRUTH = dict.fromkeys(("yes", "true", "on", "y", "t", "1"), "true") | dict.fromkeys(
    ("no", "false", "off", "n", "f", "0"), "false"
)


class Kind(Enum):
    """How the values of a column are written; dates and durations are seconds in SQL."""

    TEXT = auto()
    INTEGER = auto()
    REAL = auto()
    BOOLEAN = auto()
    DATE = auto()
    DURATION = auto()
    #: One of a few words.
    WORD = auto()


class Column(NamedTuple):
    """``sql`` is the expression that stands for it; ``highest`` the largest integer that it holds.

    ``indexed`` is another expression that is equal to it wherever it is not 0, and has an index.
    """

    sql: str
    kind: Kind = Kind.TEXT
    words: Sequence[str] = ()
    highest: int = LARGE
    indexed: str | None = None


def fitting(name: str, column: Column, value: Value, now: datetime) -> str:
    """``value`` as the database reads it; dates and durations as seconds.

    ``now`` is the clock of the one who types.

    Raises:
        SyntaxRefused: the column ``name`` can never hold it.
    """
    text = str(value)
    match column.kind:
        case Kind.TEXT:
            return text
        case Kind.WORD:
            if text in column.words:
                return text
            meant = did_you_mean(text, column.words)
            raise _refused(f"{name} is one of {', '.join(column.words)}, and never {excerpt(text)}{meant}")
        case Kind.BOOLEAN:
            if text.lower() in _TRUTH:
                return _TRUTH[text.lower()]
            raise _refused(f"{name} is YES or NO, and never {excerpt(text)}")
        case Kind.INTEGER | Kind.REAL:
            if _is_number(value):
                return text
            raise _refused(f"{name} is a number, and never {excerpt(text)}")
        case Kind.DATE | Kind.DURATION:
            return text if _is_number(value) else str(_seconds(name, column.kind, text, now))


def settable(name: str, column: Column, text: str, now: datetime) -> str:
    """The same for a column that is to be given the value: a whole number that it has room for, no other."""
    found = fitting(name, column, text, now)
    if column.kind is Kind.INTEGER:
        # Not int() alone, which reads 1_000 and digits of any script.
        digits = found.strip().removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise _refused(f"{name} is a whole number, and never {excerpt(text)}")
        if len(digits) > len(str(LARGE)) or not -column.highest - 1 <= int(found) <= column.highest:
            raise _refused(f"{name} is a number from {-column.highest - 1} to {column.highest}, and never {text}")
    return found


def is_whole(text: str, highest: int) -> bool:
    """Whether a number is an integer no larger than ``highest``."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 20 and int(digits) <= highest


def _is_number(value: Value) -> bool:
    if isinstance(value, bool):
        return False
    if not isinstance(value, str):
        return True
    try:
        float(value)
    except ValueError:
        return False
    return value.isascii() and "_" not in value


def _seconds(name: str, kind: Kind, text: str, now: datetime) -> int:
    from oarpy.model.durations import parse_duration
    from oarpy.model.human_dates import parse_date

    try:
        return parse_duration(text) if kind is Kind.DURATION else int(parse_date(text, now).timestamp())
    except (SyntaxRefused, ValueError, OverflowError, OSError):
        forms = "seconds, or h:m:s" if kind is Kind.DURATION else "seconds since 1970, or YYYY-MM-DD HH:MM:SS"
        raise _refused(f"{name} is {forms}, and never {excerpt(text)}") from None


def _refused(sentence: str) -> SyntaxRefused:
    return SyntaxRefused(sentence, exit_status=ExitStatus.DENIED)
