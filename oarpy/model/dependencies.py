"""``-a``: which job a job waits for, for what, and how long after."""

from __future__ import annotations

from typing import NamedTuple

from oarpy.errors import SyntaxRefused
from oarpy.model.durations import parse_seconds
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.states import DependencyKind, JobId
from oarpy.model.wording import excerpt

MAX_JOB_ID = 2**63 - 1


class Dependency(NamedTuple):
    """``window_s``: earliest and latest start, counted from the required job's start (after) or end (the others)."""

    job_id: JobId
    kind: DependencyKind = DependencyKind.AFTERANY
    window_s: tuple[int | None, int | None] = (None, None)


def parse_dependency(text: str) -> Dependency:
    """``[kind:]ID[,min[,max]]``; the kind is after, afterok, afternotok or afterany.

    The bounds are seconds, or such as ``10m``.

    Raises:
        SyntaxRefused: it is not of that form.
    """
    names_kind = text.strip()[:1].isalpha() and ":" in text
    kind_text, colon, rest = text.strip().partition(":") if names_kind else ("", "", text)
    try:
        kind = DependencyKind(kind_text.lower()) if colon else DependencyKind.AFTERANY
    except ValueError:
        kinds = ", ".join(known.value for known in DependencyKind)
        raise SyntaxRefused(f"{excerpt(kind_text)} is no kind of dependency; these are: {kinds}") from None
    job, *bounds = rest.split(",")
    if len(bounds) > 2:
        raise SyntaxRefused(f"{excerpt(text)} is not a dependency; write ID, ID,min or ID,min,max")
    lowest, highest = [_bound(bound) for bound in bounds] + [None] * (2 - len(bounds))
    if lowest is not None and highest is not None and lowest > highest:
        raise SyntaxRefused(f"the dependency {excerpt(text)} ends before it begins")
    return Dependency(parse_job_id(job), kind, (lowest, highest))


def parse_job_id(text: str) -> JobId:
    """The positive number in ``text``; raises ``SyntaxRefused`` with status 4."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 19 and 0 < int(digits) <= MAX_JOB_ID:
        return JobId(int(digits))
    sentence = f"{excerpt(text)} is not the id of a job, which is a number; oarstat shows those of the live ones"
    raise SyntaxRefused(sentence, exit_status=ExitStatus.BAD_ID)


def _bound(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    digits = text.removeprefix("-").removeprefix("+")
    try:
        seconds = 0 if digits.isdigit() and not digits.strip("0") else parse_seconds(digits)
    except SyntaxRefused:
        raise SyntaxRefused(f"{excerpt(text)} is not a number of seconds, nor such as 10m") from None
    return -seconds if text.startswith("-") else seconds
