"""How jobs are named, the same in every command: ids, ranges such as 12-20, --array, --sql, -u."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from oarpy.client.selection import Selection, filter_of
from oarpy.errors import SyntaxRefused
from oarpy.model.dependencies import parse_job_id
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.wording import excerpt

F = TypeVar("F", bound=Callable[..., Any])

#: Stands for an option whose value was left out; no id or name looks like it.
LEFT_OUT = " "


def with_array(help_text: str) -> Callable[[F], F]:
    """Adds ``--array``, whose value may be left out where that means something."""
    return click.option(
        "--array", "arrays", multiple=True, is_flag=False, flag_value=LEFT_OUT, metavar="ID", help=help_text
    )


def with_filters(function: F) -> F:
    """Adds ``-u`` and ``--sql``."""
    for option in (
        click.option("--sql", metavar="CONDITION", help="Jobs that satisfy it, such as \"project = 'p'\"."),
        click.option(
            "-u", "--user", is_flag=False, flag_value=LEFT_OUT, metavar="USER", help="Jobs of USER, or yours."
        ),
    ):
        function = option(function)
    return function


def selection_of(
    ids: Iterable[str], arrays: Iterable[str], user: str | None = None, sql: str | None = None, *, live: bool = False
) -> Selection:
    """The jobs that these words name.

    Raises:
        SyntaxRefused: a word is no id, no range, or no condition.
    """
    single: list[int] = []
    ranges: list[tuple[int, int]] = []
    for text in _each(ids):
        first, dash, last = text.partition("-")
        if not dash or not first:
            single.append(parse_job_id(text))
            continue
        begin, end = parse_job_id(first), parse_job_id(last)
        if end < begin:
            raise SyntaxRefused(f"the range {excerpt(text)} ends before it begins", exit_status=ExitStatus.BAD_ID)
        ranges.append((begin, end))
    return Selection(
        job_ids=tuple(single),
        array_ids=tuple(map(parse_job_id, _each(text for text in arrays if text != LEFT_OUT))),
        ranges=tuple(ranges),
        user=None if user == LEFT_OUT else user,
        mine=user == LEFT_OUT,
        filter=filter_of(sql),
        live=live,
    )


def resource_numbers(texts: Iterable[str]) -> list[int]:
    """The ids of resources in ``texts``, each of which may be several: ``5,6``.

    Raises:
        SyntaxRefused: one is no id.
    """
    numbers = []
    for text in _each(texts):
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            sentence = f"{excerpt(text)} is not the id of a resource, which is a number; oarnodes shows them"
            raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
        numbers.append(int(text))
    return numbers


def _each(texts: Iterable[str]) -> list[str]:
    """Each of ``5,6``."""
    return [part for text in texts for part in text.split(",")]


def ids_or_own(options: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """The ids after ``-j``; a bare ``-j`` means the job in which the command runs."""
    if not options:
        return ()
    # `oarstat -j 1 2`: OAR takes the words that follow as ids too; other words it ignores.
    texts = [text for text in options if text != LEFT_OUT] + [
        word for word in words if word.strip("0123456789-,") == ""
    ]
    if not texts:
        texts = [os.environ.get("OAR_JOB_ID", "")]
        if not texts[0]:
            sentence = "-j wants the id of a job; only inside of a job, which has OAR_JOB_ID, it may be left out"
            raise SyntaxRefused(sentence, exit_status=ExitStatus.REFUSED)
    return tuple(texts)
