"""What oarsub understood of durations and dates, as lines to be told."""

from __future__ import annotations

import time
from collections.abc import Iterator

from oarpy.commands.listing import shown_date
from oarpy.model.durations import render_duration
from oarpy.model.payloads import Submission


def understood(submission: Submission) -> Iterator[str]:
    """One line for each walltime, and one for a reservation's dates.

    No braces: programs look for the first one of them in what oarsub prints.
    """
    now_s = int(time.time())
    walltimes = list(dict.fromkeys(wish.walltime_s for wish in submission.wishes if wish.walltime_s is not None))
    if submission.reservation is not None:
        start_s, end_s = submission.reservation
        begins_s = now_s if start_s is None else start_s
        if end_s is None and len(walltimes) == 1:
            end_s = begins_s + walltimes[0]
        ends = "" if end_s is None else f", to {shown_date(end_s)}"
        yield f"reserved from {'now' if start_s is None else shown_date(start_s)}{ends}"
        return
    for walltime_s in walltimes:
        yield f"walltime {render_duration(walltime_s)}: started now, it ends by {shown_date(now_s + walltime_s)}"
