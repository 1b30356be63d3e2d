"""What quotas are: rules, the amounts that they allow, and when they hold.

A rule speaks of the jobs of a queue, a project, a job type and a user.  Each of the
four is a name, ``*`` (all of them together) or, but for the type, ``/`` (each of them
by itself).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction

from oarpy.errors import SyntaxRefused
from oarpy.model.wording import excerpt

#: The set of rules that hold where the calendar names no other.
DEFAULT_SET = "default"
TOGETHER = "*"
EACH = "/"


class Measure(IntEnum):
    """What a rule limits: how much of it the jobs may have at once; in the order of OAR's lists of limits."""

    RESOURCES = 0
    JOBS = 1
    HOURS = 2

    @property
    def words(self) -> str:
        return ("resources", "running jobs", "resource-hours")[self]


@dataclass(frozen=True, slots=True)
class Amount:
    """A number, or a share of all resources that are counted."""

    number: Fraction
    of_all: bool = False

    def of(self, everything: int) -> Fraction:
        return self.number * everything if self.of_all else self.number


@dataclass(frozen=True, slots=True)
class Rule:
    """``limits`` has what is limited; what is missing is not."""

    queue: str
    project: str
    job_type: str
    user: str
    limits: Mapping[Measure, Amount]

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.queue, self.project, self.job_type, self.user


# The same stands in the constraints of the table ``quotas``.
_AMOUNT = re.compile(r"(?P<number>[0-9]{1,9})|((?P<share>[0-9]{1,9}(\.[0-9]{1,6})?)\*)?ALL", re.ASCII)
_HOURS = re.compile(rf"(?P<hours>[0-9]{{1,9}}(\.[0-9]{{1,6}})?)|{_AMOUNT.pattern}", re.ASCII)


def parse_amount(text: str, measure: Measure) -> Amount:
    """``10``, ``ALL`` or ``0.5*ALL``; hours may have decimals.

    Raises:
        SyntaxRefused: it is none of these.
    """
    match = (_HOURS if measure is Measure.HOURS else _AMOUNT).fullmatch(text)
    if match is None:
        wanted = "10.5, ALL or 0.5*ALL" if measure is Measure.HOURS else "10, ALL or 0.5*ALL"
        raise SyntaxRefused(f"{excerpt(text)} is no number of {measure.words}; write it as {wanted}")
    found = match.groupdict()
    number = found["number"] or found.get("hours")
    return Amount(Fraction(number)) if number else Amount(Fraction(found["share"] or 1), of_all=True)
