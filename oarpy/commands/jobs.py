"""What oardel, oarhold and oarresume have in common: a verb for jobs named by id or by array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from oarpy.commands.session import ask, complain
from oarpy.errors import RequestRefused
from oarpy.model.dependencies import parse_job_id
from oarpy.model.exit_statuses import ExitStatus
from oarpy.model.payloads import JobOutcome, JobsAnswer, JobSelection

F = TypeVar("F", bound=Callable[..., Any])


def names_jobs(function: F) -> F:
    """Adds the ids of jobs, and ``--array``."""
    function = click.option("--array", "arrays", multiple=True, metavar="ID", help="All jobs of this array.")(function)
    return click.argument("ids", metavar="ID...", nargs=-1)(function)


def order(
    verb: str,
    ids: Sequence[str],
    arrays: Sequence[str],
    *,
    signal: int | None = None,
    show: Callable[[JobOutcome], object],
) -> int:
    """Ask ``verb`` for all jobs, ``show`` what became of each; returns the worst status."""
    if not ids and not arrays:
        raise RequestRefused("no job was named", exit_status=ExitStatus.BAD_ID)
    selection = JobSelection(
        job_ids=tuple(map(parse_job_id, ids)), array_ids=tuple(map(parse_job_id, arrays)), signal=signal
    )
    document: dict[str, Any] = selection.to_json()
    JobSelection.from_json(document)
    answer = JobsAnswer.from_json(ask(verb, document))
    for job in answer.jobs:
        show(job)
        if job.status:
            complain(job.message or f"job {job.job_id}: {job.outcome}")
    return max((job.status for job in answer.jobs), default=ExitStatus.REFUSED)
