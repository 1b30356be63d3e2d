"""The tables of ``oarstat``, to OAR's columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from oarpy.client.job_view import Line
from oarpy.commands.listing import shown_date
from oarpy.commands.terminal import coloured, fitted, state_letter, width
from oarpy.model.durations import render_elapsed

LETTERS = {
    "Waiting": "W",
    "Hold": "H",
    "toLaunch": "L",
    "toError": "E",
    "toAckReservation": "W",
    "Launching": "L",
    "Running": "R",
    "Suspended": "S",
    "Resuming": "R",
    "Finishing": "F",
    "Terminated": "T",
    "Error": "E",
    # Of several jobs.
    "-": "-",
}


def table(found: Sequence[Line], *, arrays: bool, layout: str, now_s: int) -> list[str]:
    """The lines of the table; for a person at a terminal they are cut where it ends, and states have colours."""
    if not found:
        return []
    title, shown = _dated(arrays) if layout == "1" else _timed(arrays, now_s)
    dashes = " ".join("-" * len(column) for column in title)
    columns = width()
    lines = [fitted(line, columns) for line in (" ".join(title).rstrip(), dashes, *map(shown, found))]
    if columns is None or not coloured():
        return lines
    # The letter stands below the S of the title.
    at = sum(len(column) + 1 for column in title[: title.index("S")])
    return lines[:2] + [f"{line[:at]}{state_letter(line[at : at + 1])}{line[at + 1 :]}" for line in lines[2:]]


def compacted(found: Sequence[Line]) -> list[Line]:
    """The same with one line for the jobs of an array, at the first of them, its id ``N@ID`` and its state "-"."""
    sizes = Counter(job.array_id for job in found)
    first = {job.array_id: job for job in reversed(found)}
    return [
        job if sizes[array_id] == 1 else job._replace(job_id=f"{sizes[array_id]}@{array_id}", state="-")
        for array_id, job in sorted(first.items(), key=lambda item: item[1].job_id)
    ]


def _dated(arrays: bool) -> tuple[list[str], Callable[[Line], str]]:
    """Layout 1: the date of submission, and no message."""
    wide = ["Job id".ljust(9), "A. id".ljust(9), "A. index ".ljust(9), "Name".ljust(10), "User".ljust(8)]
    narrow = ["Job id".ljust(10), "Name".ljust(14), "User".ljust(14)]
    title = [*(wide if arrays else narrow), "Submission Date".ljust(19), "S", "Queue".ljust(8 if arrays else 10)]

    def shown(job: Line) -> str:
        date = shown_date(job.submitted_s)
        if arrays:
            return (
                f"{job.job_id:<9} {job.array_id:<9} {job.array_index:<9} {job.name or '':<10.10} {job.user:<8.8} "
                f"{date} {LETTERS[job.state]} {job.queue:<8.8}"
            ).rstrip()
        return (
            f"{job.job_id:<10} {job.name or '':<14.14} {job.user:<14.14} {date} {LETTERS[job.state]} {job.queue:<10.10}"
        ).rstrip()

    return title, shown


def _timed(arrays: bool, now_s: int) -> tuple[list[str], Callable[[Line], str]]:
    """Layout 2: how long the job has run, and the message."""
    ids = ["Job id".ljust(9), *(["A. id".ljust(9), "index"] if arrays else [])]
    title = [*ids, "S", "User".ljust(8), "Duration".ljust(10), "System message".ljust(32 if arrays else 48)]

    def shown(job: Line) -> str:
        array = f"{job.array_id:<9} {job.array_index:<5} " if arrays else ""
        end_s = now_s if job.stopped_s is None else job.stopped_s
        elapsed = render_elapsed(max(0, end_s - job.started_s) if job.started_s is not None else 0)
        why = f" ({job.why})" if job.why else ""
        message = " ".join(f"{job.message}{why}".split())
        return f"{job.job_id:<9} {array}{LETTERS[job.state]} {job.user:<8.8} {elapsed:>10} {message}"

    return title, shown
