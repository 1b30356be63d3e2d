"""``-t nice=20`` and ``-t qos=1.5``: what a job itself brings to its priority.

Anybody may be nice.  A quality of service is given by the site's rules of admission.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from oarpy.errors import SyntaxRefused
from oarpy.model.job_types import split_job_type
from oarpy.model.wording import excerpt

NICE = "nice"
QOS = "qos"
MAX_NICE = 100


def number_of(types: Iterable[str], name: str) -> float:
    """The number that the type ``name`` gives, 0 where it is not there or no number."""
    for each in types:
        # Most types of most jobs are others.
        if each.startswith(name):
            found, value = split_job_type(each)
            if found == name:
                return _number(value) or 0.0
    return 0.0


def check_given_by_user(types: Iterable[str]) -> None:
    """Refuse what users may not say of their own jobs: a quality of service, a niceness that gains something."""
    for each in types:
        name, value = split_job_type(each)
        if name == QOS:
            raise SyntaxRefused(f"the type {excerpt(each)} is given by the site's rules, not by users")
        if name == NICE and not 0 <= _number_or_nan(value) <= MAX_NICE:
            raise SyntaxRefused(f"{excerpt(each)} is not a job type; write nice=N with N from 0 to {MAX_NICE}")


def check_given(types: Iterable[str]) -> None:
    """Refuse those that are no number or are there twice, whoever gave them."""
    seen = set()
    for each in types:
        name, value = split_job_type(each)
        if name not in (NICE, QOS):
            continue
        if _number(value) is None:
            raise SyntaxRefused(f"{excerpt(each)} is not a job type; write {name}=NUMBER")
        if name in seen:
            raise SyntaxRefused(f"a job has one type {name} at most")
        seen.add(name)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _number_or_nan(text: str | None) -> float:
    number = _number(text)
    return math.nan if number is None else number
